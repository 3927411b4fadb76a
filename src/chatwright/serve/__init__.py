"""The assistant, served: engines, scheduler, the OpenAI-compatible API."""
