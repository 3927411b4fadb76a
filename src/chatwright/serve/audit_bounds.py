"""Entries of the audit log that many requests make: refusals are counted per network, and reading is noted now and then.

Otherwise strangers with invented keys could fill the log, and a page that reloads would hide what matters.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import Request
from sqlalchemy.exc import DBAPIError

from chatwright.serve.address import client_address, network_of
from chatwright.serve.auth_tables import AuditEvent
from chatwright.workspace.database import Workspace

if TYPE_CHECKING:
    from chatwright.serve.services import Services

WINDOW_S = 3600.0
MAX_GROUPS = 100
"""Groups of refusals per window and action; the others are counted together."""
READ_S = 600.0
MAX_READS = 10_000
log = logging.getLogger(__name__)


@dataclass
class _Group:
    """Refusals of one origin since its first entry."""

    ends_at: float
    fields: dict[str, Any]
    more: int = 0


class Refusals:
    """Refused attempts: the first of a network is an entry at once, the others of that hour are one entry with their
    number. At most 2 * (MAX_GROUPS + 1) entries an hour and action, wherever the attempts come from."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._groups: dict[tuple[str, str, str, str], _Group] = {}

    def take(self, action: str, actor: str, target: str, address: str, detail: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Count an attempt. Gives the entries to write now."""
        fields = {"actor": actor, "action": action, "target": target, "detail": dict(detail), "address": address}
        name = (action, actor, target, network_of(address) or "unknown address")
        with self._lock:
            entries = self._ended(self._clock())
            if name not in self._groups and sum(one[0] == action for one in self._groups) >= MAX_GROUPS:
                name = (action, "", "", "")
                fields |= {"actor": "", "target": "", "address": "", "detail": {"several": True}}
            group = self._groups.get(name)
            if group is None:
                self._groups[name] = _Group(self._clock() + WINDOW_S, fields)
                return [*entries, fields]
            group.more += 1
            return entries

    def due(self, *, everything: bool = False) -> list[dict[str, Any]]:
        """Entries of the hours that are over, of all at a server's end."""
        with self._lock:
            return self._ended(float("inf") if everything else self._clock())

    def _ended(self, now: float) -> list[dict[str, Any]]:
        over = [name for name, group in self._groups.items() if group.ends_at <= now]
        groups = [self._groups.pop(name) for name in over]
        return [
            one.fields | {"detail": {**one.fields["detail"], "more_attempts": one.more}} for one in groups if one.more
        ]  # fmt: skip


class Reads:
    """Readers and what they read in the last minutes; bounded, the oldest is forgotten."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock, self._seen = clock, threading.Lock(), OrderedDict[tuple[str, ...], float]()

    def is_new(self, *name: str) -> bool:
        """True when this was not read in the last minutes."""
        with self._lock:
            now = self._clock()
            if (last := self._seen.get(name)) is not None and now < last + READ_S:
                return False
            self._seen[name] = now
            self._seen.move_to_end(name)
            if len(self._seen) > MAX_READS:
                self._seen.popitem(last=False)
            return True


def record_refusal(
    shared: Services, request: Request, actor: str, action: str, target: str = "", **detail: Any
) -> None:  # fmt: skip
    """Count a refused attempt. A database that fails loses the entry; the attempt is refused all the same."""
    write(shared.workspace, shared.refusals.take(action, actor, target, client_address(request), detail))


def record_reading(
    shared: Services, request: Request, actor: str, action: str, target: str = "", **detail: Any
) -> None:  # fmt: skip
    """Note that an account read texts of others: at most once in ten minutes for the same target. The entry is written
    before the texts are given."""
    if shared.reads.is_new(actor, action, target, str(detail)):
        entry = {"actor": actor, "action": action, "target": target, "detail": detail, "address": client_address(request)}
        with shared.workspace.session() as session:
            session.add(AuditEvent(**entry))


def write(workspace: Workspace, entries: list[dict[str, Any]]) -> None:
    """Add counted entries to the log."""
    if not entries:
        return
    try:
        with workspace.session() as session:
            session.add_all(AuditEvent(**entry) for entry in entries)
    except DBAPIError as error:
        fields = {"error": type(error).__name__, "entries": len(entries)}
        log.warning("refusals were not written down", extra={"fields": fields})
