"""HTTP for the hub: a token that never leaves its host, downloads that go on where they stopped, checked content."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from chatwright.errors import HubError
from chatwright.hub.store import disk_errors

DEFAULT_ENDPOINT = "https://huggingface.co"
RETRY_WAITS_S = (1.0, 2.0, 4.0)
_TIMEOUT_S = 30.0
_CHUNK = 1 << 18
_MAX_JSON_BYTES = 20_000_000
_TRANSIENT = (TimeoutError, ConnectionError, http.client.HTTPException, urllib.error.URLError)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a file must be, as far as the hub says."""

    size: int | None
    """Bytes."""
    sha256: str | None
    """Of large files (git LFS)."""
    git_sha1: str | None
    """Blob id of files that lie in git itself."""


def endpoint() -> str:
    """HF_ENDPOINT, or the Hugging Face hub; without a slash at the end. Raises HubError when it is no http address."""
    address = (os.environ.get("HF_ENDPOINT", "").strip() or DEFAULT_ENDPOINT).rstrip("/")
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise HubError(f"HF_ENDPOINT {address!r} is not an http or https address")
    return address


def token() -> str | None:
    """HF_TOKEN, or the content of the file that HF_TOKEN_FILE names."""
    value = os.environ.get("HF_TOKEN", "")
    file = os.environ.get("HF_TOKEN_FILE", "")
    if not value and file:
        try:
            value = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise HubError(f"HF_TOKEN_FILE {file}: cannot be read: {error}") from error
    value = value.strip()
    if not value.isprintable() or not value.isascii():
        raise HubError("HF_TOKEN holds characters that no token has; set it again")
    return value or None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to http and https only, and takes the token along only to the endpoint's own scheme, host and port."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urllib.parse.urlsplit(newurl).scheme not in ("http", "https"):
            raise HubError(f"{req.full_url}: redirects to {newurl}, which is not http")
        follow = super().redirect_request(req, fp, code, msg, headers, newurl)
        if follow is not None:
            follow.remove_header("Authorization")
            _authorise(follow)
        return follow


def _authorise(request: urllib.request.Request) -> None:
    secret = token()
    if secret and _origin(request.full_url) == _origin(endpoint()):
        request.add_unredirected_header("Authorization", f"Bearer {secret}")


def _origin(address: str) -> tuple[str, str | None, int | None]:
    parts = urllib.parse.urlsplit(address)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _open(address: str, start: int = 0) -> http.client.HTTPResponse:
    request = urllib.request.Request(address, headers={"User-Agent": "chatwright", "Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    _authorise(request)
    response: http.client.HTTPResponse = urllib.request.build_opener(_Redirects).open(request, timeout=_TIMEOUT_S)
    return response


def _with_retries(address: str, attempt: Callable[[], Any]) -> Any:
    """Call `attempt`; on a network error or a busy server wait and call it again, then give up with a HubError."""
    for wait_s in (*RETRY_WAITS_S, None):
        try:
            return attempt()
        except urllib.error.HTTPError as error:
            error.close()
            if wait_s is None or (error.code < 500 and error.code != 429):
                raise _refusal(address, error) from error
        except _TRANSIENT as error:
            if wait_s is None:
                reason = getattr(error, "reason", None) or error
                raise HubError(
                    f"{address}: cannot be reached: {reason}. Check network and proxy, or set HF_ENDPOINT to a mirror, "
                    "or give --model a folder."
                ) from error
        time.sleep(wait_s)
    raise AssertionError("unreachable")


def _refusal(address: str, error: urllib.error.HTTPError) -> HubError:
    if error.code in (401, 403):
        return HubError(
            f"{address}: access refused ({error.code}). The model does not exist, is private, or its terms must be "
            "accepted on its page; then set HF_TOKEN to a token that may read it."
        )
    if error.code == 404:
        return HubError(f"{address}: not found (404). Check owner, name and revision.")
    return HubError(f"{address}: the server answered {error.code} {error.reason}. Try again later.")


def get_json(address: str) -> Any:
    """The JSON at an address. Raises HubError."""

    def attempt() -> bytes:
        with _open(address) as response:
            return response.read(_MAX_JSON_BYTES + 1)

    content = _with_retries(address, attempt)
    try:
        if len(content) > _MAX_JSON_BYTES:
            raise ValueError(f"more than {_MAX_JSON_BYTES} bytes")
        return json.loads(content)
    except ValueError as error:
        raise HubError(f"{address}: the answer is no JSON ({error}); is HF_ENDPOINT a hub?") from error


def download(address: str, target: Path, expected: Expected, progress: Callable[[int], None]) -> None:
    """Fetch a file, going on with `target`.part if that is there; `progress` gets the bytes it has so far.

    Size and hash are checked before it gets its name; content that does not match is deleted. Raises HubError.
    """
    part = target.with_name(target.name + ".part")
    resumed = part.is_file()
    _with_retries(address, lambda: _append(address, part, expected, progress))
    wrong = mismatch(part, expected)
    if wrong and resumed:  # the beginning may stem from something else: once more, from the start
        part.unlink()
        _with_retries(address, lambda: _append(address, part, expected, progress))
        wrong = mismatch(part, expected)
    if wrong:
        part.unlink()
        raise HubError(f"{address}: {wrong}. Nothing was kept; try again, or another HF_ENDPOINT.")
    os.replace(part, target)


def _append(address: str, part: Path, expected: Expected, progress: Callable[[int], None]) -> None:
    start = part.stat().st_size if part.is_file() else 0
    if expected.size is not None and start >= expected.size:
        if start == expected.size:
            return
        start = 0
    try:
        response = _open(address, start)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:
            raise
        error.close()
        response, start = _open(address), 0
    with response, open(part, "ab") as out:
        if start == 0 or response.status != 206 or not _continues(response, start):
            if response.status == 206 and start:
                raise http.client.HTTPException("the server went on at another place than asked")
            out.truncate(0)
            start = 0
        left = response.length
        _copy(response, out, start, expected.size, progress)
        if left is not None and response.length:
            raise http.client.IncompleteRead(b"", response.length)


def _continues(response: http.client.HTTPResponse, start: int) -> bool:
    return (response.headers.get("Content-Range") or "").startswith(f"bytes {start}-")


def _copy(
    response: http.client.HTTPResponse, out: IO[bytes], done: int, limit: int | None, progress: Callable[[int], None]
) -> None:
    while chunk := response.read(_CHUNK):
        done += len(chunk)
        if limit is not None and done > limit:
            raise http.client.HTTPException(f"the server sends more than the {limit} bytes it announced")
        with disk_errors(Path(out.name).parent):
            _write(out, chunk)
        progress(done)


def _write(out: IO[bytes], chunk: bytes) -> None:
    out.write(chunk)


def mismatch(file: Path, expected: Expected) -> str | None:
    """What is wrong with a file, or None."""
    size = file.stat().st_size
    if expected.size is not None and size != expected.size:
        return f"has {size} bytes, the hub says {expected.size}"
    with open(file, "rb") as content:
        if expected.sha256 is not None:
            found = hashlib.file_digest(content, "sha256").hexdigest()
            return None if found == expected.sha256 else f"has sha256 {found}, the hub says {expected.sha256}"
        if expected.git_sha1 is not None:
            digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
            while chunk := content.read(_CHUNK):
                digest.update(chunk)
            if digest.hexdigest() != expected.git_sha1:
                return f"has git hash {digest.hexdigest()}, the hub says {expected.git_sha1}"
    return None
