"""Conversations of people with models: trees of messages, live answers, feedback, shares, the prompt library."""
