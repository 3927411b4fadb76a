"""All routes of the OpenAI-compatible API: `app.include_router(router)`."""

from __future__ import annotations

from fastapi import APIRouter

from chatwright.serve.openai import catalog, chat, completions, responses

router = APIRouter()
for part in (chat, completions, responses, catalog):
    router.include_router(part.router)
