"""How much a key may use: buckets of requests and tokens per minute, budgets of tokens, and the count of what was used.

Tokens are paid afterwards: a request is admitted while the bucket is not empty and may overdraw it; the next one waits
until it is full enough again. Buckets live in memory (one process serves a workspace); budgets are counted in the database.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import Request
from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

from chatwright.serve.address import network_of
from chatwright.serve.auth_tables import Usage
from chatwright.serve.openai.errors import APIError
from chatwright.workspace.database import Workspace, now

if TYPE_CHECKING:
    from chatwright.serve.auth import Principal
    from chatwright.serve.services import Services

MAX_BUCKETS = 10_000


@dataclass
class _Bucket:
    """Level of one bucket at a moment."""

    level: float
    at: float


class Buckets:
    """Token buckets by name, bounded in number: the one not used for longest is forgotten."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._buckets, self._lock = clock, OrderedDict[str, _Bucket](), threading.Lock()

    def take(
        self, name: str, amount: float, *, capacity: float, per_s: float, overdraw: bool = False
    ) -> tuple[float, float]:
        """(what is left, seconds until it would have sufficed: 0 when it did). Nothing is taken when it did not."""
        with self._lock:
            at = self._clock()
            bucket = self._buckets.setdefault(name, _Bucket(capacity, at))
            bucket.level = min(capacity, bucket.level + (at - bucket.at) * per_s)
            bucket.at = at
            self._buckets.move_to_end(name)
            if len(self._buckets) > MAX_BUCKETS:
                self._buckets.popitem(last=False)
            if bucket.level < amount and not overdraw:
                return bucket.level, (amount - bucket.level) / per_s
            bucket.level = min(capacity, bucket.level - amount)
            return bucket.level, 0.0


Limit = tuple[str, float, float]
"""(name, capacity, refill per second) of a bucket."""


class Throttle:
    """Slows guessing of passwords: per name at an address, per address, per name.

    A browser that has signed in to the account before has one bucket of its own instead, so that others cannot lock its
    owner out. Only failures count in the end: `succeeded` gives an attempt back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._buckets = Buckets(clock)

    def attempt(self, name: str, address: str, device: str = "") -> None:
        """Count an attempt; APIError 429 when there were too many."""
        for bucket, capacity, per_s in self._limits(name, address, device):
            _, wait_s = self._buckets.take(bucket, 1, capacity=capacity, per_s=per_s)
            if wait_s:
                raise APIError(429, "too many attempts; wait a little", code="throttled", retry_after_s=wait_s)

    def succeeded(self, name: str, address: str, device: str = "") -> None:
        """Give the attempt back."""
        for bucket, capacity, per_s in self._limits(name, address, device):
            self._buckets.take(bucket, -1, capacity=capacity, per_s=per_s, overdraw=True)

    def _limits(self, name: str, address: str, device: str) -> tuple[Limit, ...]:
        if device:
            return ((f"device {device} {name}", 10, 1 / 30),)
        group = network_of(address)
        return (f"both {group} {name}", 5, 1 / 30), (f"address {group}", 30, 1 / 10), (f"name {name}", 50, 1 / 10)


class Limits:
    """The limits of all keys."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._buckets = Buckets(clock)

    def admit(self, shared: Services, request: Request, principal: Principal) -> None:
        """Count a request; APIError 429 when a limit or a budget is used up."""
        headers: dict[str, str] = {}
        request.state.extra_headers = headers
        owner = principal.key_id or principal.id
        for kind, per_minute, amount in (
            ("tokens", principal.tokens_per_minute, 1), ("requests", principal.requests_per_minute, 1),
        ):  # fmt: skip
            if not per_minute:
                continue
            per_s = per_minute / 60
            name = f"{kind} {owner}"
            # Tokens are only looked at here: they are paid when they are known.
            left, wait_s = self._buckets.take(name, amount, capacity=per_minute, per_s=per_s)
            if kind == "tokens" and not wait_s:
                left, _ = self._buckets.take(name, -amount, capacity=per_minute, per_s=per_s)
            headers[f"x-ratelimit-limit-{kind}"] = str(per_minute)
            headers[f"x-ratelimit-remaining-{kind}"] = str(max(0, math.floor(left + 1e-6)))
            headers[f"x-ratelimit-reset-{kind}"] = f"{max(0.0, (per_minute - left) / per_s):.3f}s"
            if wait_s:
                message = f"this API key is limited to {per_minute} {kind} per minute"
                raise APIError(429, message, code="rate_limit_exceeded", retry_after_s=wait_s)
        if principal.tokens_per_day or principal.tokens_total:
            self._check_budget(shared.workspace, principal, headers)

    def _check_budget(self, workspace: Workspace, principal: Principal, headers: dict[str, str]) -> None:
        used = func.coalesce(func.sum(Usage.prompt_tokens + Usage.completion_tokens), 0)
        query = select(used).where(Usage.owner == principal.key_id)
        with workspace.reading() as session:
            total = session.execute(query).scalar_one()
            today = session.execute(query.where(Usage.day == day_of(now()))).scalar_one()
        if principal.tokens_total and total >= principal.tokens_total:
            headers["x-should-retry"] = "false"
            raise APIError(429, f"this API key's {principal.tokens_total} tokens are used up", code="insufficient_quota")
        if principal.tokens_per_day and today >= principal.tokens_per_day:
            until_midnight = 86_400 - now() % 86_400
            message = f"this API key's {principal.tokens_per_day} tokens for today (UTC) are used up"
            raise APIError(429, message, code="insufficient_quota", retry_after_s=until_midnight)

    def record(
        self, workspace: Workspace, principal: Principal, model: str, *, prompt_tokens: int, completion_tokens: int
    ) -> None:
        """Count what a request used. Blocks on the database: call it in a thread."""
        owner = principal.key_id or principal.id
        if principal.tokens_per_minute:
            self._buckets.take(
                f"tokens {owner}", prompt_tokens + completion_tokens, capacity=principal.tokens_per_minute,
                per_s=principal.tokens_per_minute / 60, overdraw=True,
            )  # fmt: skip
        values = {"requests": 1, "prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
        insert = sqlite.insert if workspace.is_sqlite else postgresql.insert
        statement = insert(Usage).values(
            day=day_of(now()), owner=owner, model=model[:256], user_id=principal.user_id, **values
        )
        statement = statement.on_conflict_do_update(
            index_elements=["day", "owner", "model"],
            set_={name: getattr(Usage, name) + value for name, value in values.items()},
        )
        with workspace.session() as session:
            session.execute(statement)


def day_of(seconds: float) -> str:
    """The UTC day of a time."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
