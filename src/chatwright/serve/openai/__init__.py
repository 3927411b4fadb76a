"""The OpenAI-compatible API: fields in wire.py, routes in routes.py, streams in stream.py."""
