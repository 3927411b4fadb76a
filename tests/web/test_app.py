"""The web app: types equal to the server's, a small first load, tests of its parts (web/src) and in a browser (web/e2e)."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from web_schema import as_text

ROOT = Path(__file__).parents[2]
WEB, STATIC = ROOT / "web", ROOT / "src/chatwright/serve/static"
CHROMIUM = shutil.which(os.environ.get("CHROMIUM", "chromium"))
INITIAL_BYTES = 250_000
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (.ci/run installs it)")


def run(*command: str, seconds: float = 300, **environment: str) -> str:
    """Output of a command in web/; fails with what it said."""
    done = subprocess.run(
        command, cwd=WEB, capture_output=True, text=True, timeout=seconds, env={**os.environ, "NO_COLOR": "1", **environment}
    )
    if done.returncode:
        pytest.fail(f"{' '.join(command)}:\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}")
    return done.stdout


@pytest.fixture(scope="session")
def app() -> Iterator[Path]:
    """The installed packages and the built app, made once, whichever of pytest's processes comes first."""
    if shutil.which("npm") is None:
        pytest.skip("Node.js is not installed (.ci/run installs it)")
    with (WEB / ".build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = WEB / "node_modules/.installed"
        if not stamp.is_file() or stamp.stat().st_mtime < (WEB / "package-lock.json").stat().st_mtime:
            run("npm", "ci", "--no-progress", seconds=560)
            stamp.touch()
        sources = [path for part in ("src", "public") for path in (WEB / part).rglob("*") if path.is_file()]
        sources += [WEB / name for name in ("index.html", "vite.config.ts", "package-lock.json")]
        page = STATIC / "index.html"
        if not page.is_file() or page.stat().st_mtime < max(path.stat().st_mtime for path in sources):
            run("npm", "run", "build", seconds=560)
    yield STATIC


@pytest.mark.timeout(1200)
def test_types_are_the_servers(app: Path) -> None:
    assert as_text() == (WEB / "openapi.json").read_text(encoding="utf-8"), "stale: run `make web-types`"
    run("npm", "run", "types", "--", "--check")


def _static_imports(manifest: dict[str, dict[str, list[str]]], name: str) -> set[str]:
    found = {name}
    for other in manifest[name].get("imports", []):
        if other not in found:
            found |= _static_imports(manifest, other)
    return found


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "page",
    [
        "src/auth/login.tsx",
        "src/chat/page.tsx",
        "src/arena/page.tsx",
        "src/settings/page.tsx",
        "src/label/page.tsx",
        "src/label/next.tsx",
        "src/lead/page.tsx",
        "src/lead/dashboard.tsx",
    ],
)
def test_first_load_is_small(app: Path, page: str) -> None:
    """What a page needs before it can be used: the entry, the page's own part, and all that these import."""
    manifest = json.loads((app / ".vite/manifest.json").read_text())
    parts = _static_imports(manifest, "index.html") | _static_imports(manifest, page)
    size = sum(len(gzip.compress((app / manifest[part]["file"]).read_bytes())) for part in parts)
    assert 20_000 < size <= INITIAL_BYTES


@pytest.mark.timeout(1200)
def test_page_obeys_its_policy(app: Path) -> None:
    """No inline script or style, and nothing from another server."""
    page = (app / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\son\w+=|\sstyle=", page)
    assert all(url.startswith("/") for url in re.findall(r'(?:src|href)="([^"]+)"', page))
    for style in (app / "assets").glob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//|@import", style.read_text(encoding="utf-8"))


def test_lock_file_names_no_registry() -> None:
    lock = json.loads((WEB / "package-lock.json").read_text())
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]
    assert all("integrity" in package for name, package in lock["packages"].items() if name)


@pytest.mark.timeout(1200)
def test_parts(app: Path) -> None:
    run("npx", "vitest", "run")


# Every feature once. One run per file, so that they spread over pytest's processes. CI runs the files in `IN_CI`, and of
# those in `SMOKE` the tests tagged @smoke: each page once.
FEATURES = ("chat", "label", "lead", "loop", "offline", "pages")
IN_CI = ("pages",)
SMOKE = ("chat", "label")


@needs_chromium
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("spec", [pytest.param(one, marks=[] if one in IN_CI else [pytest.mark.slow]) for one in FEATURES])
def test_in_a_browser(app: Path, spec: str) -> None:
    _browse("en", spec)


@needs_chromium
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("spec", SMOKE)
def test_its_pages_work_in_a_browser(app: Path, spec: str) -> None:
    _browse("en", spec, "--grep", "@smoke")


@needs_chromium
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("spec", ["safety", pytest.param("performance", marks=pytest.mark.clock), "language"])
def test_the_rest_in_a_browser(app: Path, spec: str) -> None:
    _browse("en", spec)


@needs_chromium
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("spec", FEATURES)
def test_in_a_browser_in_chinese(app: Path, spec: str) -> None:
    _browse("zh-CN", spec)


def _browse(language: str, spec: str, *more: str) -> None:
    """One file of web/e2e, one test after the other. The second try is for waits in wall-clock time on a busy machine."""
    output = f"test-results/{'-'.join((spec, language, *(one.strip('-@') for one in more)))}"  # each run empties its own
    options = ("--workers", "1", "--retries", "1", "--output", output, *more)
    command = ("npx", "playwright", "test", f"e2e/{spec}.spec.ts", *options)
    told = run(*command, seconds=1100, WEB_LANGUAGES=language, CHROMIUM=str(CHROMIUM))
    print(told)  # `pytest -rA` shows which test took how long, and which needed its second try ("flaky")
    assert "passed" in told and "skipped" not in told
