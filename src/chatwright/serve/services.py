"""What the routes of one server share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastapi import Request

from chatwright.serve.audit_bounds import Reads, Refusals
from chatwright.serve.engine import EngineRegistry
from chatwright.serve.limits import Limits, Throttle
from chatwright.serve.metrics import Metrics
from chatwright.serve.settings import ServeConfig
from chatwright.workspace.database import Workspace


@dataclass(frozen=True, kw_only=True)
class Services:
    """The shared objects of one server."""

    settings: ServeConfig
    registry: EngineRegistry
    workspace: Workspace
    limits: Limits
    throttle: Throttle
    metrics: Metrics
    refusals: Refusals = field(default_factory=Refusals)
    reads: Reads = field(default_factory=Reads)
    parts: dict[str, Any] = field(default_factory=dict)
    """What packages of the server keep for themselves, by their name: `chat`, `moderation`, ..."""


def services(request: Request) -> Services:
    """Dependency: the services of the server that got the request."""
    shared: Services = request.app.state.services
    return shared
