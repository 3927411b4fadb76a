"""What merging reads; it answers `feedback.merging.MergeCounts`, the dashboard is `feedback.figures.Dashboard`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from chatwright.feedback.merge import Method
from chatwright.serve.chat.wire import Wire


class MergeRequest(Wire):
    """Merge every complete ranking task of a project that is not merged yet."""

    project: Annotated[str, Field(min_length=1, max_length=128)]
    method: Method | None = None
    """None: the project's."""
    adjudicate_below: Annotated[float | None, Field(ge=0, le=1)] = None
    """Agreement under which a task goes to adjudication; None: the project's."""
