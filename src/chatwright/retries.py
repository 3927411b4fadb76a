"""Retries of HTTP requests: which failures may pass, and how long to wait before the next try.

Waits double up to a limit; where the server names one in Retry-After, that one counts.
"""

from __future__ import annotations

import email.message
import email.utils
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")
MAX_WAIT_S = 120.0
"""Longest wait before a try, also where the server asks for a longer one."""


class TransientError(Exception):
    """A failure that may pass. `retry_after_s`: the wait that the server asks for, in seconds."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def may_pass(status: int) -> bool:
    """Whether the same request can succeed later: time-outs, too many requests, and errors of the server. Other 4xx, 501
    and 505 say that the request itself is wrong."""
    return status in (408, 425, 429) or (status >= 500 and status not in (501, 505))


def retry_after_s(headers: Mapping[str, str] | email.message.Message) -> float | None:
    """Seconds that Retry-After asks for (a number or an HTTP date); None when it is absent or unreadable."""
    value = str(headers.get("Retry-After") or "").strip()
    if value.isascii() and value.isdecimal():
        return float(value[:9])
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def with_retries(
    attempt: Callable[[], T], *, retries: int, wait_s: float, notice: Callable[[str], None] | None = None
) -> T:
    """The result of `attempt`, called again up to `retries` times while it raises TransientError; the last one is raised.

    Args:
        wait_s: wait before the second try, in seconds; it doubles each time.
        notice: called with a sentence before each wait.
    """
    for number in range(retries + 1):
        try:
            return attempt()
        except TransientError as error:
            if number == retries:
                raise TransientError(f"{error} after {number + 1} tries") from error
            named = error.retry_after_s
            wait = min(wait_s * 2**number if named is None else max(named, wait_s), MAX_WAIT_S)
            if notice is not None:
                notice(f"{error}; try {number + 2} of {retries + 1} in {wait:.0f} s")
            time.sleep(wait)
    raise AssertionError("unreachable: the last try returns or raises")
