"""Measures of models and of reward models, from plain texts, scores and rankings; no torch."""
