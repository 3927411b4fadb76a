"""Evaluation suites: what alignment cost, and whether a model is truthful, fair and safe. Data are the user's own files."""
