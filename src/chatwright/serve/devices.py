"""Device cookies: a browser that has signed in to an account before gets a throttle bucket of its own for it.

Wrong passwords from other browsers then do not lock its owner out (OWASP, "Slow down online guessing attacks with device
cookies"). The cookie holds a nonce and its HMAC under the account's password hash, so a new password ends all of them.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from fastapi import Request, Response

from chatwright.serve.auth_tables import User
from chatwright.serve.settings import ServeConfig

LIFETIME_S = 180 * 86_400
_NAME = "chatwright_device"


def _cookie(settings: ServeConfig) -> str:
    return "__Host-chatwright-device" if settings.secure else _NAME


def _signature(user: User, nonce: str) -> str:
    key = (user.password_hash or "").encode()
    return hmac.new(key, f"device {user.id} {nonce}".encode(), hashlib.sha256).hexdigest()


def remember(settings: ServeConfig, response: Response, user: User) -> None:
    """Give the browser a device cookie for `user`; accounts without a password need none."""
    if not user.password_hash:
        return
    nonce = secrets.token_urlsafe(16)
    response.set_cookie(
        _cookie(settings), f"{nonce}.{_signature(user, nonce)}", max_age=LIFETIME_S, path="/", httponly=True,
        samesite="strict", secure=settings.secure,
    )  # fmt: skip


def device_of(settings: ServeConfig, request: Request, user: User | None) -> str:
    """The nonce of a browser that has signed in as `user` before; "" for any other browser."""
    nonce, _, given = request.cookies.get(_cookie(settings), "").partition(".")
    if user is None or not user.password_hash or not nonce or len(nonce) > 64:
        return ""
    return nonce if hmac.compare_digest(given.encode(), _signature(user, nonce).encode()) else ""
