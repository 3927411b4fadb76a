"""The labelling desk over HTTP; runs without torch."""
