"""The built web app: its files, and its page for every other address, since the app draws its own routes.

Files under assets/ carry the hash of their content in their names, so browsers may keep them for ever; the page itself is
asked for again each time. The app is built from web/ by `make web`; wheels contain it.
"""

from __future__ import annotations

import mimetypes
import os
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
NOT_BUILT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Chatwright</title>
<h1>Chatwright is running</h1><p>The web app has not been built in this checkout: run <code>make web</code> (it needs
Node.js), then reload this page. The API works without it: see <a href="/docs">/docs</a>.</p></html>"""

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


@router.get("/{path:path}", include_in_schema=False)
def web(path: str, request: Request, _: Annotated[None, Depends(public)]) -> Response:
    """A file of the app, or its page."""
    if path.partition("/")[0] in RESERVED:
        raise nothing_here(request)
    if path != "index.html" and (found := file_of(STATIC, path)) is not None:
        kept = FOR_EVER if path.startswith("assets/") else "no-cache"
        return FileResponse(found, headers={"cache-control": kept})
    if path.startswith("assets/"):  # of an older build: a page in its place would be run as a script
        raise APIError(404, f"there is nothing at /{path}", code="not_found")
    page = STATIC / "index.html"
    if not page.is_file():
        return HTMLResponse(NOT_BUILT, status_code=200 if path == "" else 404, headers={"cache-control": "no-cache"})
    return FileResponse(page, headers={"cache-control": "no-cache"}, media_type="text/html; charset=utf-8")
