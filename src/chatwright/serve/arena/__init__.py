"""Blind comparisons of two models, their votes and the board."""
