"""What can happen, as a value. `store.append` writes it down; `projections` says what it amounts to."""

from __future__ import annotations

import re
import uuid as uuids
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from chatwright.errors import DataError

ActorKind = Literal["human", "simulated", "ai"]
_KIND = re.compile(r"[a-z_]+\.[a-z_]+")
_UUID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_:.-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class NewEvent:
    """Something to write down."""

    kind: str
    """`thing.happened`; those of `projections.HANDLERS` have an effect on projections, others are kept as they are."""
    uuid: str
    """Names the event: writing it twice is writing it once. At most 64 letters, digits, `_:.-`."""
    actor: str
    """Who did it: user id, "simulated:general-en", "ai:MODEL", or "server"."""
    actor_kind: str = "human"
    """human, simulated or ai."""
    project: str = ""
    """Id of the project."""
    task: str = ""
    """Id of the task."""
    guideline: str = ""
    """Id of the guideline version that was followed."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Ids, orders and numbers as JSON; no free text."""
    payload: Mapping[str, Any] | None = None
    """Free text as JSON; kept where it can be erased."""
    subject: str = ""
    """Hash of the person whose text the payload is, or is about."""

    def __post_init__(self) -> None:
        if not _KIND.fullmatch(self.kind) or len(self.kind) > 32:
            raise DataError(f"kind {self.kind!r}: an event is named thing.happened")
        if not _UUID.fullmatch(self.uuid):
            raise DataError(f"uuid {self.uuid!r}: must be 1 to 64 letters, digits or _:.-, beginning with one of the former")
        if self.actor_kind not in ("human", "simulated", "ai"):
            raise DataError(f"actor_kind {self.actor_kind!r}: must be human, simulated or ai")


def new_uuid() -> str:
    """A name for an event that is reported once."""
    return str(uuids.uuid4())
