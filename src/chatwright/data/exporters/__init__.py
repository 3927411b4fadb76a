"""Prompts, demonstrations and rankings -> rows of other projects' files."""
