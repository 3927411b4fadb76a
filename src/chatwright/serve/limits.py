"""Limits of API keys and accounts: requests and tokens per minute, budgets of tokens, and the count of usage.

Tokens are paid afterwards: a request is admitted while the bucket is not empty and may overdraw it; the next one waits
until it is full enough again. Buckets live in memory (one process serves a workspace); budgets are counted in the database.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fastapi import Request
from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from chatwright.serve.address import network_of
from chatwright.serve.auth_tables import ApiKey, BlindUsage, Usage, User
from chatwright.serve.openai.errors import APIError
from chatwright.workspace.database import Workspace, now

if TYPE_CHECKING:
    from chatwright.serve.auth import Principal
    from chatwright.serve.services import Services
    from chatwright.serve.settings import ServeConfig

MAX_BUCKETS = 10_000
BLIND_S = 7 * 86_400.0
"""Seconds after which the usage of a blind answer is counted by model without a vote; then none is taken any more."""


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


@dataclass(frozen=True, kw_only=True)
class Blind:
    """An answer whose model its reader must not know yet."""

    id: str
    """Of the request."""
    about: str
    """Id of the battle or the task."""
    estimate: int
    """Tokens that limits count for it."""


def blind_answer(request_id: str, about: str, *texts: str) -> Blind:
    """A blind answer with these texts: a token for every 4 bytes, whatever the model."""
    return Blind(id=request_id, about=about, estimate=1 + sum(len(text.encode("utf-8", "replace")) for text in texts) // 4)


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


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """Limits that hold for the requests of one owner; 0 sets no limit."""

    holder: Literal["API key", "account"]
    owner: str
    """Id of the key or the account."""
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    tokens_per_day: int = 0
    tokens_total: int = 0

    @property
    def has_budget(self) -> bool:
        """True when tokens are limited beyond a minute."""
        return bool(self.tokens_per_day or self.tokens_total)


def allowance_of_account(settings: ServeConfig, user: User) -> Allowance:
    """An account's limits: its own where an administrator set one, else the server's."""
    return Allowance(
        holder="account", owner=user.id,
        requests_per_minute=user.requests_per_minute or settings.requests_per_minute,
        tokens_per_minute=user.tokens_per_minute or settings.tokens_per_minute,
        tokens_per_day=user.tokens_per_day or settings.tokens_per_day, tokens_total=user.tokens_total,
    )  # fmt: skip


def allowance_of_key(settings: ServeConfig, key: ApiKey, user: User | None) -> Allowance:
    """A key's own limits. Those of its account hold as well; a key without an account has the server's in their place."""
    server = settings if user is None else None
    return Allowance(
        holder="API key", owner=key.id,
        requests_per_minute=key.requests_per_minute or (server.requests_per_minute if server else 0),
        tokens_per_minute=key.tokens_per_minute or (server.tokens_per_minute if server else 0),
        tokens_per_day=key.tokens_per_day or (server.tokens_per_day if server else 0), tokens_total=key.tokens_total,
    )  # fmt: skip


class Limits:
    """The limits of all keys and accounts."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._buckets = Buckets(clock)

    def admit(self, shared: Services, request: Request, principal: Principal) -> None:
        """Count a request; APIError 429 when a limit or a budget is used up. A refused request uses nothing up."""
        headers: dict[str, str] = {}
        request.state.extra_headers = headers
        taken: list[Allowance] = []
        try:
            for allowance in principal.allowances:
                self._look_at_tokens(allowance, headers)
                self._take_request(allowance, headers)
                taken.append(allowance)
            for allowance in principal.allowances:
                if allowance.has_budget:
                    _check_budget(shared.workspace, allowance, headers)
        except APIError:
            for allowance in taken:
                self._give_back(allowance)
            raise

    def _look_at_tokens(self, allowance: Allowance, headers: dict[str, str]) -> None:
        """Tokens are paid when they are known: a request is admitted while one is left."""
        if not (per_minute := allowance.tokens_per_minute):
            return
        name, per_s = _bucket("tokens", allowance), per_minute / 60
        left, wait_s = self._buckets.take(name, 1, capacity=per_minute, per_s=per_s)
        if not wait_s:
            left, _ = self._buckets.take(name, -1, capacity=per_minute, per_s=per_s)
        _tell(headers, "tokens", per_minute, left, wait_s, allowance)

    def _take_request(self, allowance: Allowance, headers: dict[str, str]) -> None:
        if not (per_minute := allowance.requests_per_minute):
            return
        name = _bucket("requests", allowance)
        left, wait_s = self._buckets.take(name, 1, capacity=per_minute, per_s=per_minute / 60)
        _tell(headers, "requests", per_minute, left, wait_s, allowance)

    def _give_back(self, allowance: Allowance) -> None:
        if per_minute := allowance.requests_per_minute:
            name = _bucket("requests", allowance)
            self._buckets.take(name, -1, capacity=per_minute, per_s=per_minute / 60, overdraw=True)

    def record(
        self, workspace: Workspace, principal: Principal, model: str, *, prompt_tokens: int, completion_tokens: int,
        version: str = "", blind: Blind | None = None,
    ) -> None:  # fmt: skip
        """Count what a request used. `version`: of the model. Blocks on the database: call it in a thread. With `blind`
        nothing that the account can see depends on the model, until `reveal`."""
        used = blind.estimate if blind else prompt_tokens + completion_tokens
        for allowance in principal.allowances:
            if per_minute := allowance.tokens_per_minute:
                self._buckets.take(
                    _bucket("tokens", allowance), used, capacity=per_minute, per_s=per_minute / 60, overdraw=True
                )
        counts = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
        owner = {
            "owner": principal.key_id or principal.id, "model": model[:256], "model_version": version[:128],
            "user_id": principal.user_id,
        }  # fmt: skip
        with workspace.session() as session:
            if blind is None:
                _add(session, {"day": day_of(now()), **owner}, {"requests": 1, **counts})
                return
            old = select(BlindUsage).where(BlindUsage.user_id == principal.user_id, BlindUsage.at < now() - BLIND_S)
            _move(session, list(session.scalars(old)))
            about = {"id": blind.id, "about": blind.about, "estimate": blind.estimate, "at": now()}
            session.merge(BlindUsage(**about, day=day_of(now()), **owner, **counts))


def reveal(session: Session, about: str, user_id: str) -> None:
    """Count the usage of blind answers by their models: their reader has voted, or labelled."""
    mine = select(BlindUsage).where(BlindUsage.about == about, BlindUsage.user_id == user_id)
    _move(session, list(session.scalars(mine)))


def _move(session: Session, rows: list[BlindUsage]) -> None:
    for row in rows:
        counts = {"requests": 1, "prompt_tokens": row.prompt_tokens, "completion_tokens": row.completion_tokens}
        key = {name: getattr(row, name) for name in ("day", "owner", "model", "model_version", "user_id")}
        _add(session, key, counts)
        session.delete(row)


def _add(session: Session, key: Mapping[str, str], counts: Mapping[str, int]) -> None:
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    statement = insert(Usage).values(**key, **counts).on_conflict_do_update(
        index_elements=["day", "owner", "model", "model_version"],
        set_={name: getattr(Usage, name) + more for name, more in counts.items()},
    )  # fmt: skip
    session.execute(statement)


def _bucket(kind: str, allowance: Allowance) -> str:
    return f"{kind} {allowance.owner}"


def _tell(
    headers: dict[str, str], kind: str, per_minute: int, left: float, wait_s: float, allowance: Allowance
) -> None:  # fmt: skip
    """Headers of the limit that is the nearest to its end; APIError 429 when it is reached."""
    remaining = max(0, math.floor(left + 1e-6))
    if remaining <= int(headers.get(f"x-ratelimit-remaining-{kind}", remaining)):
        headers[f"x-ratelimit-limit-{kind}"] = str(per_minute)
        headers[f"x-ratelimit-remaining-{kind}"] = str(remaining)
        headers[f"x-ratelimit-reset-{kind}"] = f"{max(0.0, (per_minute - left) / (per_minute / 60)):.3f}s"
    if wait_s:
        message = f"this {allowance.holder} is limited to {per_minute} {kind} per minute"
        raise APIError(429, message, code="rate_limit_exceeded", retry_after_s=wait_s)


def _check_budget(workspace: Workspace, allowance: Allowance, headers: dict[str, str]) -> None:
    with workspace.reading() as session:
        total = _used(session, allowance) if allowance.tokens_total else 0
        today = _used(session, allowance, day_of(now())) if allowance.tokens_per_day else 0
    if allowance.tokens_total and total >= allowance.tokens_total:
        headers["x-should-retry"] = "false"
        message = f"this {allowance.holder}'s {allowance.tokens_total} tokens are used up"
        raise APIError(429, message, code="insufficient_quota")
    if allowance.tokens_per_day and today >= allowance.tokens_per_day:
        until_midnight = 86_400 - now() % 86_400
        message = f"this {allowance.holder}'s {allowance.tokens_per_day} tokens for today (UTC) are used up"
        raise APIError(429, message, code="insufficient_quota", retry_after_s=until_midnight)


def _used(session: Session, allowance: Allowance, day: str = "") -> int:
    """Tokens that count for a budget, with the estimates of blind answers; on one day, or in all."""
    total = 0
    for table, tokens in ((Usage, Usage.prompt_tokens + Usage.completion_tokens), (BlindUsage, BlindUsage.estimate)):
        owner = table.user_id if allowance.holder == "account" else table.owner
        query = select(func.coalesce(func.sum(tokens), 0)).where(owner == allowance.owner)
        total += int(session.scalar(query.where(table.day == day) if day else query) or 0)
    return total


def day_of(seconds: float) -> str:
    """The UTC day of a time."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
