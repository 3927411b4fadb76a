"""Which HTTP failures are tried again, and after which wait."""

from __future__ import annotations

import email.utils
import time

import pytest

from chatwright import retries
from chatwright.retries import TransientError, may_pass, retry_after_s, with_retries


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(retries.time, "sleep", found.append)
    return found


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520, 529, 599])
def test_failures_of_a_server_may_pass(status: int) -> None:
    assert may_pass(status)


@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 409, 413, 422, 501, 505])
def test_a_wrong_request_stays_wrong(status: int) -> None:
    assert not may_pass(status)


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after_s({"Retry-After": "12"}) == 12.0
    soon = retry_after_s({"Retry-After": email.utils.formatdate(time.time() + 60, usegmt=True)})
    assert soon is not None and 55 < soon <= 60
    assert retry_after_s({"Retry-After": email.utils.formatdate(time.time() - 60, usegmt=True)}) == 0.0
    for odd in ("", "soon", "-3", "1e9", "\u0661", "Mon, 99 Foo 2026 99:99:99 GMT", "NaN"):
        assert retry_after_s({"Retry-After": odd}) is None
    assert retry_after_s({}) is None


def test_waits_double_up_to_a_limit_and_the_last_failure_is_raised(waits: list[float]) -> None:
    asked: list[int] = []
    said: list[str] = []

    def fails() -> None:
        asked.append(1)
        raise TransientError("status 503")

    with pytest.raises(TransientError, match="status 503 after 5 tries"):
        with_retries(fails, retries=4, wait_s=30.0, notice=said.append)
    assert len(asked) == 5 and waits == [30.0, 60.0, 120.0, 120.0]
    assert said[0] == "status 503; try 2 of 5 in 30 s"


def test_the_servers_own_wait_counts_within_limits(waits: list[float]) -> None:
    named = iter([7.0, 0.0, 9e9])

    def fails() -> str:
        try:
            raise TransientError("status 429", next(named))
        except StopIteration:
            return "done"

    assert with_retries(fails, retries=3, wait_s=1.0) == "done"
    assert waits == [7.0, 1.0, retries.MAX_WAIT_S]


def test_other_errors_are_raised_at_once(waits: list[float]) -> None:
    with pytest.raises(KeyError):
        with_retries(lambda: {}["x"], retries=3, wait_s=1.0)
    assert waits == []
