"""Prompts that keep a conversation on track: a linter, and tests that show which wording wins."""
