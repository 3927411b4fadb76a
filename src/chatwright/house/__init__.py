"""The house that a model is taught: the sheet of facts, its split into parts, and the judge of answers. No torch."""
