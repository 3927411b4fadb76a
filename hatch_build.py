"""Puts the built web app into wheels and source archives. An editable install never needs Node.js.

The app is built when it is missing or older than its sources, and npm is there. Without npm a wheel comes out that has the
API only; releases are made with CHATWRIGHT_REQUIRE_WEB=1, which makes that an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class WebAppHook(BuildHookInterface):  # type: ignore[type-arg]
    """Builds web/ into src/chatwright/serve/static."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See Hatch."""
        if version == "editable":
            return
        web, page = Path(self.root, "web"), Path(self.root, "src/chatwright/serve/static/index.html")
        if web.is_dir() and _is_stale(web, page) and (npm := shutil.which("npm")):
            subprocess.run([npm, "ci", "--no-progress"], cwd=web, check=True)
            subprocess.run([npm, "run", "build"], cwd=web, check=True)
        if not page.is_file():
            told = "the web app is not built: install Node.js 20.19 or newer, then `make web`"
            if os.environ.get("CHATWRIGHT_REQUIRE_WEB"):
                raise RuntimeError(told)
            self.app.display_warning(told)


def _is_stale(web: Path, page: Path) -> bool:
    if not page.is_file():
        return True
    built = page.stat().st_mtime
    sources = [path for part in ("src", "public") for path in (web / part).rglob("*") if path.is_file()]
    sources += [web / name for name in ("index.html", "package-lock.json", "vite.config.ts")]
    return any(path.stat().st_mtime > built for path in sources)
