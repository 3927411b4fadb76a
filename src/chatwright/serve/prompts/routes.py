"""The linter for the web app's prompt library."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from chatwright.serve.auth import Principal, require_user
from chatwright.serve.openai.errors import responses
from chatwright.serve.prompts.lint import lint

router = APIRouter()


class LintRequest(BaseModel):
    """A prompt to look through."""

    model_config = ConfigDict(extra="forbid")
    text: Annotated[str, Field(max_length=50_000)]
    language: Literal["en", "zh"] = "en"
    """Of the explanations."""


class LintFinding(BaseModel):
    """One thing that is likely to go wrong."""

    rule: str
    severity: Literal["error", "warning", "hint"]
    line: int
    quote: str
    explanation: str
    suggestion: str


class LintReply(BaseModel):
    """In the order of the lines."""

    findings: list[LintFinding]


@router.post("/api/prompt-lint", responses=responses(401, 403, 413), tags=["prompts"])
async def prompt_lint(body: LintRequest, principal: Annotated[Principal, Depends(require_user())]) -> LintReply:
    """What in a prompt is likely to go wrong, and why."""
    found = await run_in_threadpool(lint, body.text)
    return LintReply(findings=[LintFinding(**finding.to_dict(body.language)) for finding in found])
