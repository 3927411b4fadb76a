"""Helpers of the thread in which a served model computes."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

NICE = 5  # how far the model's thread steps back behind the event loop


def step_back() -> None:
    """Let the event loop go first where both want a processor: it needs little, and refusals and cancelling wait for it.
    Threads that torch starts from here inherit this."""
    if sys.platform == "linux":  # elsewhere priorities belong to whole processes
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + NICE)


def run_into(function: Callable[[], Any], future: Future[Any]) -> None:
    """Call `function` and put its result or its error into `future`."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except Exception as error:
        future.set_exception(error)
