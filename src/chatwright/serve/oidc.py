"""Sign-in through an OpenID Connect provider: routes, and the rules for accounts of people who come from there.

An account belongs to the provider's `sub`, never to a name or an e-mail address that another person could take over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from chatwright.config.secrets import secret
from chatwright.errors import ConfigError
from chatwright.serve import audit
from chatwright.serve.address import client_address, network_of
from chatwright.serve.audit_bounds import record_refusal
from chatwright.serve.auth import public
from chatwright.serve.auth_tables import Identity, User
from chatwright.serve.oidc_provider import PENDING_S, Pending, Provider, ProviderError, safe_address
from chatwright.serve.openai.errors import APIError, responses
from chatwright.serve.services import Services, services
from chatwright.serve.settings import ServeConfig
from chatwright.serve.users import clean_name, origin_of, sign_in

log = logging.getLogger(__name__)
METADATA_WAIT_S = 5.0  # for the first description of a provider; a sign-in that waits longer is told to try again
EXCHANGE_WAIT_S = 30.0
FAILURES, FAILURES_PER_S = 30.0, 1 / 10  # exchanges that fail, of one network
MAX_NEXT_BYTES = 1500  # the whole cookie has 4096 at most
_COOKIE = "chatwright_oidc"

router = APIRouter(prefix="/api/oidc", tags=["users"], responses=responses(400, 403, 404, 429, 502))


class ProviderInfo(BaseModel):
    """Whether people may sign in through a provider, and its host's name."""

    enabled: bool
    name: str = ""


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
        issuer=settings.oidc_issuer, client_id=settings.oidc_client_id,
        client_secret=secret("CHATWRIGHT_OIDC_CLIENT_SECRET"),
        extra_scopes=(*(("email",) if settings.oidc_domain else ()), *(("groups",) if settings.oidc_group else ())),
    )  # fmt: skip


def cookie_name(settings: ServeConfig) -> str:
    """Name of the cookie of a sign-in under way. `__Host-` keeps other hosts of the domain from setting it."""
    return "__Host-chatwright-oidc" if settings.secure else _COOKIE


def _provider(shared: Services) -> Provider:
    provider: Provider | None = shared.parts.get("oidc")
    if provider is None:
        raise APIError(404, "this server has no provider to sign in with", code="not_found")
    return provider


def own_path(path: str) -> str:
    """An address of this app: links from elsewhere must not send people away after they signed in."""
    if not path.isprintable() or len(path.encode()) > MAX_NEXT_BYTES:
        return "/"
    return path if path.startswith("/") and path[1:2] not in ("/", "\\") else "/"


@router.get("", dependencies=[Depends(public)])
def provider_info(request: Request) -> ProviderInfo:
    """Whether people may sign in through a provider."""
    provider: Provider | None = services(request).parts.get("oidc")
    return ProviderInfo(enabled=False) if provider is None else ProviderInfo(
        enabled=True, name=urlsplit(provider.issuer).hostname or ""
    )  # fmt: skip


@router.get("/login", dependencies=[Depends(public)], response_class=RedirectResponse, status_code=302)
async def leave_for_provider(request: Request, next: Annotated[str, Query(max_length=2000)] = "/") -> RedirectResponse:
    """Go to the provider; it sends the browser back to /api/oidc/callback."""
    shared = services(request)
    provider = _provider(shared)
    try:
        metadata = provider.known_metadata()
        if isinstance(metadata, Future):
            metadata = await asyncio.wait_for(asyncio.wrap_future(metadata), METADATA_WAIT_S)
    except (ProviderError, TimeoutError) as error:
        raise APIError(502, "the provider does not answer; try again later", code="provider_failed") from error
    address, cookie = provider.begin(metadata, f"{origin_of(request, shared)}/api/oidc/callback", own_path(next))
    answer = RedirectResponse(address, status_code=302)
    answer.set_cookie(
        cookie_name(shared.settings), cookie, max_age=int(PENDING_S), path="/", httponly=True, samesite="lax",
        secure=shared.settings.secure,
    )  # fmt: skip
    return answer


@router.get("/callback", dependencies=[Depends(public)], response_class=RedirectResponse, status_code=303)
async def come_back(
    request: Request, state: Annotated[str, Query(max_length=512)] = "", code: Annotated[str, Query(max_length=4096)] = ""
) -> RedirectResponse:
    """The address that the provider sends the browser back to. After any failure people see the sign-in page again."""
    shared = services(request)
    provider = _provider(shared)
    pending = provider.take(state, request.cookies.get(cookie_name(shared.settings), ""))
    claims = None
    if pending is not None and code:
        claims = await _exchange(shared, request, code, pending)
    if pending is None or claims is None:
        return _refused(shared, "provider")
    answer = RedirectResponse(pending.next, status_code=303)
    answer.delete_cookie(cookie_name(shared.settings), path="/")
    signed_in = await run_in_threadpool(_sign_in, request, shared, claims, answer)
    return answer if signed_in else _refused(shared, "account")


async def _exchange(shared: Services, request: Request, code: str, pending: Pending) -> dict[str, Any] | None:
    """The claims that belong to a code, None when there are none. APIError 429 for a network whose codes keep failing."""
    provider, bucket = _provider(shared), network_of(client_address(request))
    _, wait_s = provider.attempts.take(bucket, 1, capacity=FAILURES, per_s=FAILURES_PER_S)
    if wait_s:
        raise APIError(429, "too many attempts; wait a little", code="throttled", retry_after_s=wait_s)
    needed = _needed_claims(shared.settings)
    call = asyncio.get_running_loop().run_in_executor(provider.threads, provider.claims, code, pending, needed)
    try:
        claims = await asyncio.wait_for(call, EXCHANGE_WAIT_S)
    except (ProviderError, TimeoutError) as error:
        log.error("oidc: %s", error or "the provider did not answer in time")
        return None
    provider.attempts.take(bucket, -1, capacity=FAILURES, per_s=FAILURES_PER_S, overdraw=True)
    return claims


def _refused(shared: Services, why: str) -> RedirectResponse:
    refused = RedirectResponse(f"/login?failed={why}", status_code=303)
    refused.delete_cookie(cookie_name(shared.settings), path="/")
    return refused


def _sign_in(request: Request, shared: Services, claims: Mapping[str, Any], answer: RedirectResponse) -> bool:
    issuer = _provider(shared).issuer
    with shared.workspace.session() as session:
        user = account_of(session, issuer, claims, shared.settings)
        if user is not None and user.disabled_at is None:
            audit.record(session, request, user.id, "login", issuer=issuer)
            sign_in(session, shared, answer, request, user)
            return True
    record_refusal(shared, request, user.id if user else "", "login.refused", issuer=issuer)
    return False


def _needed_claims(settings: ServeConfig) -> tuple[str, ...]:
    email = ("email", "email_verified") if settings.oidc_domain else ()
    return (*email, *((settings.oidc_group_claim,) if settings.oidc_group else ()))


def is_allowed(claims: Mapping[str, Any], settings: ServeConfig) -> bool:
    """True when the settings let these claims in: a verified address in one of the domains, or one of the groups. True where
    the settings name neither."""
    if not settings.oidc_domain and not settings.oidc_group:
        return True
    groups = claims.get(settings.oidc_group_claim)
    named = {groups} if isinstance(groups, str) else {one for one in groups if isinstance(one, str)} if isinstance(
        groups, list
    ) else set()  # fmt: skip
    if named & set(settings.oidc_group):
        return True
    email = claims.get("email")
    verified = claims.get("email_verified") in (True, "true")
    if not verified or not isinstance(email, str) or "@" not in email:
        return False
    return _domain(email.rpartition("@")[2]) in {_domain(one) for one in settings.oidc_domain}


def _domain(name: str) -> str:
    """A domain in the form of DNS."""
    try:
        return name.strip().encode("idna").decode().casefold()
    except UnicodeError:
        return name.strip().casefold()


def account_of(session: Session, issuer: str, claims: Mapping[str, Any], settings: ServeConfig) -> User | None:
    """The account of the provider's `sub`, made now when there is none and the settings allow it; else None.

    Domains and groups hold at every sign-in. An account with the same name that has a password may be another person's: the
    new one gets a number.
    """
    if not is_allowed(claims, settings):
        return None
    subject = claims["sub"]
    known = session.get(Identity, (issuer, subject))
    if known is not None:
        return session.get_one(User, known.user_id)
    if not settings.oidc_makes_accounts:
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
