"""Long work on the store, in a process of low priority: the server's interpreter stays free for requests.

`run_apart(workspace, "chatwright.feedback.export:freeze", {...})` calls `freeze(workspace, **given)` in a child process.
Arguments and results are JSON. The child ends with its parent.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from sqlalchemy.exc import DBAPIError

from chatwright import errors
from chatwright.errors import ChatwrightError
from chatwright.workspace.database import Workspace

_NICE = 10
_LIMIT_S = 3600.0


class ChildError(RuntimeError):
    """The process failed in a way that it did not foresee."""


def run_apart(workspace: Workspace, function: str, given: Mapping[str, Any]) -> Any:
    """The result of `function` ("module:name"). Raises its ChatwrightError or OSError; ChildError for all others."""
    launch = [sys.executable, "-m", "chatwright.feedback.launch", str(_NICE), "0", str(os.getpid()), "--"]
    argv = [sys.executable, "-m", "chatwright.feedback.apart", str(workspace.folder.absolute()), function]
    url = workspace.engine.url.render_as_string(hide_password=False)
    done = subprocess.run(
        [*launch, *argv], input=json.dumps(given), capture_output=True, text=True, timeout=_LIMIT_S,
        env={**os.environ, "CHATWRIGHT_DATABASE_URL": url, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode:
        raise ChildError(f"{function}: its process ended with {done.returncode}: {done.stderr[-2000:]}")
    answer = json.loads(done.stdout)
    if "errno" in answer:
        raise OSError(answer["errno"], answer["error"])
    if "kind" in answer:
        raise getattr(errors, answer["kind"], ChatwrightError)(answer["error"])
    return answer["result"]


def main(folder: str, function: str) -> None:
    """Of the child: call the function and write what became of it to stdout."""
    module, _, name = function.partition(":")
    out, sys.stdout = sys.stdout, sys.stderr
    try:
        with Workspace.open(folder, os.environ.get("CHATWRIGHT_DATABASE_URL", "")) as workspace:
            answer = {"result": getattr(importlib.import_module(module), name)(workspace, **json.load(sys.stdin))}
    except ChatwrightError as error:
        answer = {"kind": type(error).__name__, "error": str(error)}
    except OSError as error:
        answer = {"errno": error.errno, "error": error.strerror or str(error)}
    except DBAPIError as error:
        full = getattr(error.orig, "sqlite_errorname", "") == "SQLITE_FULL" or getattr(error.orig, "sqlstate", "") == "53100"
        if not full:
            raise
        answer = {"errno": errno.ENOSPC, "error": os.strerror(errno.ENOSPC)}
    json.dump(answer, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
