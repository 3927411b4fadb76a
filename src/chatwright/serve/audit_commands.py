"""`chatwright audit export`: the audit log as a file. The server may be running."""

from __future__ import annotations

import os
import sys
import time
from calendar import timegm
from dataclasses import dataclass
from pathlib import Path

from chatwright.errors import UsageError
from chatwright.serve.account_commands import opened
from chatwright.serve.audit_export import Format, lines


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """Write the audit log as JSON lines or CSV."""

    workspace: str = "workspace"
    """Folder of the workspace."""
    database: str = ""
    """Database URL; empty: CHATWRIGHT_DATABASE_URL, else SQLite in the workspace."""
    out: str = ""
    """File to write, which must not exist; empty: the terminal."""
    format: Format = "jsonl"
    """jsonl: a JSON object per line; csv: for spreadsheets."""
    since: str = ""
    """First day (UTC), as 2026-11-30; empty: from the first entry on."""
    until: str = ""
    """Last day (UTC), included; empty: to the last entry."""


def export(cfg: AuditConfig) -> None:
    """Write the entries. UsageError for a wrong day, a file that exists or cannot be written, no workspace."""
    since = _day("since", cfg.since) if cfg.since else 0.0
    until = _day("until", cfg.until) + 86_400 if cfg.until else float("inf")
    with opened(cfg.workspace, cfg.database) as workspace:
        pieces = lines(workspace, cfg.format, since=since, until=until)
        if not cfg.out:
            for piece in pieces:
                sys.stdout.write(piece)
            return
        path, part = Path(cfg.out), Path(f"{cfg.out}.part")
        if path.exists():
            raise UsageError(f"--out {path}: exists already; choose another name")
        try:
            # Names and addresses of people are in it.
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                file.writelines(pieces)
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise UsageError(f"--out {path}: cannot be written ({error.strerror})") from error
    print(f"{path}: written")


def _day(name: str, text: str) -> float:
    try:
        return float(timegm(time.strptime(text, "%Y-%m-%d")))
    except ValueError:
        raise UsageError(f"--{name} {text!r}: must be a day such as 2026-11-30") from None
