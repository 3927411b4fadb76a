"""Signing in through an OpenID Connect provider: the authorization code flow with PKCE, state and nonce.

An account belongs to the provider's `sub`, never to a name or an e-mail address that somebody could take over. Sources:
OpenID Connect Core 1.0 (sections 3.1.2, 3.1.3), RFC 7636 (PKCE), RFC 9700 (current practice for OAuth 2.0).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import quote, urlencode, urlsplit

import httpx
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from chatwright.config.secrets import secret
from chatwright.errors import ConfigError
from chatwright.serve import audit
from chatwright.serve.auth import digest, new_secret, public
from chatwright.serve.auth_tables import Identity, User
from chatwright.serve.openai.errors import APIError, responses
from chatwright.serve.services import Services, services
from chatwright.serve.settings import ServeConfig
from chatwright.serve.users import clean_name, origin_of, sign_in

log = logging.getLogger(__name__)
PENDING_S = 600.0
MAX_PENDING = 1000
METADATA_S = 3600.0
COOKIE = "chatwright_oidc"
ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA"]  # never "none", never a shared secret
_LEEWAY_S = 60
_TIMEOUT_S = 10.0

router = APIRouter(prefix="/api/oidc", tags=["users"], responses=responses(400, 403, 404, 429, 502))


class ProviderInfo(BaseModel):
    """Whether people may sign in through a provider, and its host's name."""

    enabled: bool
    name: str = ""


class ProviderError(Exception):
    """The provider's answer is missing or wrong; the text goes to the log only."""


@dataclass(frozen=True, kw_only=True)
class Pending:
    """A sign-in that has left for the provider."""

    browser: str
    """Hash of the cookie of the browser that left."""
    nonce: str
    verifier: str
    """Of PKCE."""
    redirect_uri: str
    next: str
    ends_at: float


@dataclass(eq=False)
class Provider:
    """One provider: its metadata and keys, fetched when they are needed, and the sign-ins under way."""

    issuer: str
    client_id: str
    client_secret: str
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=_TIMEOUT_S, follow_redirects=False))
    _pending: dict[str, Pending] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _metadata: tuple[float, dict[str, Any]] = (0.0, {})
    _keys: tuple[float, dict[str, Any]] = (0.0, {"keys": []})

    def begin(self, redirect_uri: str, next_path: str) -> tuple[str, str]:
        """(address at the provider, secret of this browser's cookie). APIError 429 when too many are under way."""
        state, browser, nonce, verifier = (new_secret() for _ in range(4))
        now = time.monotonic()
        pending = Pending(
            browser=digest(browser), nonce=nonce, verifier=verifier, redirect_uri=redirect_uri, next=next_path,
            ends_at=now + PENDING_S,
        )  # fmt: skip
        endpoint = self.metadata()["authorization_endpoint"]
        with self._lock:
            self._pending = {key: one for key, one in self._pending.items() if one.ends_at > now}
            if len(self._pending) >= MAX_PENDING:
                raise APIError(429, "too many sign-ins are under way; try again in some minutes", code="too_many")
            self._pending[digest(state)] = pending
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code", "client_id": self.client_id, "redirect_uri": redirect_uri, "scope": "openid profile",
            "state": state, "nonce": nonce, "code_challenge": challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}", browser

    def take(self, state: str, browser: str) -> Pending | None:
        """The sign-in that `state` belongs to, once, and only for the browser that began it."""
        with self._lock:
            pending = self._pending.pop(digest(state), None)
        if pending is None or pending.ends_at < time.monotonic():
            return None
        return pending if hmac.compare_digest(pending.browser, digest(browser)) else None

    def claims(self, code: str, pending: Pending) -> dict[str, Any]:
        """What the provider says about who signed in. ProviderError when anything about it is not right."""
        body = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": pending.redirect_uri,
            "code_verifier": pending.verifier, "client_id": self.client_id,
        }  # fmt: skip
        # RFC 6749, 2.3.1: both are form-encoded before they become a Basic header.
        auth = (quote(self.client_id, safe=""), quote(self.client_secret, safe="")) if self.client_secret else None
        answer = self._json("POST", self.metadata()["token_endpoint"], data=body, auth=auth)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise ProviderError("the token endpoint gave no id_token")
        return self._verified(token, pending.nonce)

    def _verified(self, token: str, nonce: str) -> dict[str, Any]:
        """OpenID Connect Core 1.0, section 3.1.3.7."""
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        def decoded(fresh: bool) -> Any:
            keys: Any = self.keys(fresh=fresh)
            return jwt.decode(token, KeySet.import_key_set(keys), algorithms=ALGORITHMS)

        try:
            try:
                claims = decoded(fresh=False).claims
            except (JoseError, ValueError):
                claims = decoded(fresh=True).claims  # the provider may have new keys
            jwt.JWTClaimsRegistry(
                leeway=_LEEWAY_S, exp={"essential": True}, iat={"essential": True}, sub={"essential": True},
                iss={"essential": True, "value": self.issuer}, aud={"essential": True, "value": self.client_id},
                nonce={"essential": True, "value": nonce},
            ).validate(claims)  # fmt: skip
        except (JoseError, ValueError) as error:
            raise ProviderError(f"id_token: {type(error).__name__}: {error}") from error
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", self.client_id) != self.client_id or (several and "azp" not in claims):
            raise ProviderError("id_token: azp names another client")
        if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= 255:
            raise ProviderError("id_token: sub is no text of 1 to 255 characters")
        return dict(claims)

    def metadata(self) -> dict[str, Any]:
        """The provider's own description; asked for once an hour."""
        fetched_at, known = self._metadata
        if known and time.monotonic() < fetched_at + METADATA_S:
            return known
        found = self._json("GET", f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != self.issuer:
            raise ProviderError(f"the provider calls itself {found.get('issuer')!r}, not {self.issuer!r}")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not isinstance(found.get(name), str) or not safe_address(found[name]):
                raise ProviderError(f"{name} of the provider is no https address")
        self._metadata = (time.monotonic(), found)
        return found

    def keys(self, *, fresh: bool = False) -> dict[str, Any]:
        """The provider's public keys (JWKS); anew at most once a minute."""
        fetched_at, known = self._keys
        age = time.monotonic() - fetched_at
        if known["keys"] and age < (60.0 if fresh else METADATA_S):
            return known
        self._keys = (time.monotonic(), self._json("GET", self.metadata()["jwks_uri"]))
        return self._keys[1]

    def _json(self, method: str, address: str, **options: Any) -> dict[str, Any]:
        try:
            answer = self.http.request(method, address, headers={"accept": "application/json"}, **options)
            answer.raise_for_status()
            found = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ProviderError(f"{urlsplit(address).path}: {type(error).__name__}: {error}") from error
        if not isinstance(found, dict):
            raise ProviderError(f"{urlsplit(address).path}: no JSON object")
        return found


def safe_address(address: str) -> bool:
    """Whether it is https, or http on this machine."""
    parts = urlsplit(address)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost"))


def open_provider(settings: ServeConfig) -> Provider | None:
    """The provider of the settings; None when there is none. ConfigError when they are not whole."""
    if not settings.oidc_issuer:
        return None
    if not safe_address(settings.oidc_issuer):
        raise ConfigError(f"oidc_issuer {settings.oidc_issuer!r}: must begin with https://")
    if not settings.oidc_client_id:
        raise ConfigError("oidc_issuer needs oidc_client_id, the name under which the provider knows this server")
    try:
        import joserfc  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError("oidc_issuer: install what it needs with: pip install 'chatwright[oidc]'") from error
    return Provider(
        issuer=settings.oidc_issuer, client_id=settings.oidc_client_id, client_secret=secret("CHATWRIGHT_OIDC_CLIENT_SECRET")
    )


def _provider(shared: Services) -> Provider:
    provider: Provider | None = shared.parts.get("oidc")
    if provider is None:
        raise APIError(404, "this server has no provider to sign in with", code="not_found")
    return provider


def own_path(path: str) -> str:
    """An address of this app: links from elsewhere must not send people away after they signed in."""
    return path if path.startswith("/") and path[1:2] not in ("/", "\\") and path.isprintable() else "/"


@router.get("", dependencies=[Depends(public)])
def provider_info(request: Request) -> ProviderInfo:
    """Whether people may sign in through a provider."""
    provider: Provider | None = services(request).parts.get("oidc")
    return ProviderInfo(enabled=False) if provider is None else ProviderInfo(
        enabled=True, name=urlsplit(provider.issuer).hostname or ""
    )  # fmt: skip


@router.get("/login", dependencies=[Depends(public)], response_class=RedirectResponse, status_code=302)
def leave_for_provider(request: Request, next: Annotated[str, Query(max_length=2000)] = "/") -> RedirectResponse:
    """Go to the provider; it sends the browser back to /api/oidc/callback."""
    shared = services(request)
    try:
        address, browser = _provider(shared).begin(f"{origin_of(request, shared)}/api/oidc/callback", own_path(next))
    except ProviderError as error:
        log.error("oidc: %s", error)
        raise APIError(502, "the provider does not answer; try again later", code="provider_failed") from error
    answer = RedirectResponse(address, status_code=302)
    answer.set_cookie(
        COOKIE, browser, max_age=int(PENDING_S), path="/api/oidc", httponly=True, samesite="lax",
        secure=shared.settings.secure,
    )  # fmt: skip
    return answer


@router.get("/callback", dependencies=[Depends(public)], response_class=RedirectResponse, status_code=303)
def come_back(
    request: Request, state: Annotated[str, Query(max_length=512)] = "", code: Annotated[str, Query(max_length=4096)] = ""
) -> RedirectResponse:
    """Where the provider sends the browser back to. Whatever went wrong, people see the sign-in page again."""
    shared = services(request)
    provider = _provider(shared)
    pending = provider.take(state, request.cookies.get(COOKIE, ""))
    refused = RedirectResponse("/login?failed=provider", status_code=303)
    refused.delete_cookie(COOKIE, path="/api/oidc")
    if pending is None or not code:
        return refused
    try:
        claims = provider.claims(code, pending)
    except ProviderError as error:
        log.error("oidc: %s", error)
        return refused
    answer = RedirectResponse(pending.next, status_code=303)
    answer.delete_cookie(COOKIE, path="/api/oidc")
    with shared.workspace.session() as session:
        user = account_of(session, provider.issuer, claims, shared.settings)
        if user is None or user.disabled_at is not None:
            audit.record(session, request, user.id if user else "", "login.refused", issuer=provider.issuer)
            return refused
        audit.record(session, request, user.id, "login", issuer=provider.issuer)
        sign_in(session, shared, answer, request, user)
    return answer


def account_of(session: Session, issuer: str, claims: Mapping[str, Any], settings: ServeConfig) -> User | None:
    """The account of the provider's `sub`, made now when there is none and the settings allow it; else None.

    An account with the same name that has a password is somebody else's as far as we know: the new one gets a number.
    """
    subject = claims["sub"]
    known = session.get(Identity, (issuer, subject))
    if known is not None:
        return session.get_one(User, known.user_id)
    if not settings.oidc_sign_up:
        return None
    user = User(name=_free_name(session, claims), role=settings.oidc_role, password_hash=None)
    session.add(user)
    session.flush()
    session.add(Identity(issuer=issuer, subject=subject, user_id=user.id))
    session.flush()
    return user


def _free_name(session: Session, claims: Mapping[str, Any]) -> str:
    for wish in (claims.get("preferred_username"), claims.get("name"), claims["sub"], "user"):
        try:
            base = clean_name(str(wish or "")[:56])
            break
        except APIError:
            continue
    taken = set(session.scalars(select(User.name).where(User.name.startswith(base, autoescape=True))))
    return next(name for n in range(1, len(taken) + 2) if (name := base if n == 1 else f"{base}-{n}") not in taken)
