"""Who is asking, and may they: dependencies of routes. A route without one of these rules stops the server at its start.

Decisions rest on the route that was matched, never on the text of a path. Things of others answer 404 in their routes.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from sqlalchemy import select

from chatwright.errors import ConfigError
from chatwright.serve.audit_bounds import record_refusal
from chatwright.serve.auth_tables import ApiKey, LoginSession, User
from chatwright.serve.limits import Allowance, allowance_of_account, allowance_of_key
from chatwright.serve.openai.errors import APIError
from chatwright.serve.services import Services, services
from chatwright.serve.sessions import is_open, note_use
from chatwright.workspace.database import now

ROLES = ("member", "labeller", "lead", "admin")  # each may do what those before it may
SCOPES = ("chat", "completions", "embeddings", "models", "moderations", "metrics", "inference", "admin")
INFERENCE = ("chat", "completions", "embeddings", "models", "moderations")
KEY_PREFIX = "cw-"


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Who a request comes from."""

    kind: Literal["key", "user"]
    id: str
    """Owner of what the request makes: the user, or the key when it belongs to none."""
    name: str
    role: str
    scopes: frozenset[str] = frozenset()
    key_id: str = ""
    user_id: str = ""
    csrf: str = ""
    """CSRF token of the browser's session."""
    allowances: tuple[Allowance, ...] = ()
    """Limits that hold for the request, all of them: the key's and the account's."""
    training_consent: bool = False
    """Of a key: whether what comes with it may be kept as training data."""


def new_secret() -> str:
    """256 random bits as text."""
    return secrets.token_urlsafe(32)


def digest(value: str) -> str:
    """How secrets of 256 random bits are kept: such ones need no slow hash."""
    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()


def public() -> None:
    """Everybody may call this route."""


public.rule = "public"  # type: ignore[attr-defined]


def require_scope(scope: str) -> Callable[[Request], Principal]:
    """A dependency: the request carries an API key that allows `scope` and is within its limits."""
    assert scope in SCOPES, scope

    def check(request: Request) -> Principal:
        shared = services(request)
        principal = _key_principal(shared, request, log_refusal=True)
        allowed = {scope, "admin"} | ({"inference"} if scope in INFERENCE else set())
        if not principal.scopes & allowed:
            record_refusal(shared, request, principal.id, "key.refused", principal.key_id, reason="scope", scope=scope)
            raise APIError(403, f"this API key does not allow {scope!r}", code="insufficient_scope")
        shared.limits.admit(shared, request, principal)
        return principal

    check.rule = f"key:{scope}"  # type: ignore[attr-defined]
    return check


def require_user(role: str = "member", *, generates: bool = False) -> Callable[[Request], Principal]:
    """A dependency: the request comes from a signed-in browser, of an account with `role` or a higher one.

    Requests that change something carry the session's token in X-CSRF-Token. Routes at which models answer set
    `generates`: the account's limits hold there as they do for its keys."""
    assert role in ROLES, role

    def check(request: Request) -> Principal:
        principal = session_principal(request)
        if principal is None:
            raise APIError(401, "sign in first", code="not_signed_in")
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            same_origin(request)
            given = request.headers.get("x-csrf-token", "")
            if not hmac.compare_digest(given.encode(), principal.csrf.encode()):
                raise APIError(403, "X-CSRF-Token: missing or wrong; reload the page", code="csrf")
        if ROLES.index(principal.role) < ROLES.index(role):
            raise APIError(403, f"this needs the role {role!r}", code="insufficient_role")
        request.state.principal_id = principal.id
        if generates:
            services(request).limits.admit(services(request), request, principal)
        return principal

    check.rule, check.generates = f"user:{role}", generates  # type: ignore[attr-defined]
    return check


def metrics_reader(request: Request) -> None:
    """On a server that only this machine reaches: everybody; elsewhere a key with the scope `metrics`."""
    if not services(request).settings.loopback:
        require_scope("metrics")(request)


metrics_reader.rule = "key:metrics"  # type: ignore[attr-defined]


def same_origin(request: Request) -> None:
    """Refuse what another site's page sends."""
    origin = request.headers.get("origin")
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none") or (
        origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower()
    ):
        raise APIError(403, "requests from other sites are refused", code="csrf")


def session_principal(request: Request) -> Principal | None:
    """Whose browser this is, None when nobody is signed in."""
    shared = services(request)
    token = request.cookies.get(shared.settings.cookie, "")
    if not token or len(token) > 128:
        return None
    with shared.workspace.reading() as session:
        row = session.execute(
            select(LoginSession, User)
            .join(User, User.id == LoginSession.user_id)
            .where(LoginSession.token_hash == digest(token))
        ).one_or_none()
    if row is None or row.User.disabled_at is not None or not is_open(shared.settings, row.LoginSession):
        return None
    note_use(shared.settings, shared.workspace, row.LoginSession)
    user = row.User
    return Principal(
        kind="user", id=user.id, name=user.name, role=user.role, user_id=user.id, csrf=row.LoginSession.csrf,
        allowances=(allowance_of_account(shared.settings, user),),
    )  # fmt: skip


def is_known(request: Request) -> bool:
    """True when the request carries a valid API key or the cookie of somebody who is signed in. One look-up by a hash."""
    if session_principal(request) is not None:
        return True
    try:
        _key_principal(services(request), request)
    except APIError:
        return False
    return True


def _key_principal(shared: Services, request: Request, *, log_refusal: bool = False) -> Principal:
    """The owner of a request's key. APIError 401; `log_refusal` counts it in the audit log."""
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    value = value.strip()
    if kind.lower() != "bearer" or not value:
        raise APIError(401, "give an API key: Authorization: Bearer KEY", code="missing_api_key")
    key, user = _find_key(shared, value)
    reason = _refusal(key, user)
    if key is None or reason:
        if log_refusal:
            target = key.id if key else ""
            record_refusal(shared, request, (key.user_id or "") if key else "", "key.refused", target, reason=reason)
        raise APIError(401, "this API key is not valid", code="invalid_api_key")
    request.state.principal_id = key.id
    of_account = allowance_of_account(shared.settings, user) if user else None
    return Principal(
        kind="key", id=key.user_id or key.id, name=key.name, role=user.role if user else "member",
        scopes=frozenset(key.scopes), key_id=key.id, user_id=key.user_id or "",
        allowances=(allowance_of_key(shared.settings, key, user), *([of_account] if of_account else [])),
        training_consent=key.training_consent,
    )  # fmt: skip


def _refusal(key: ApiKey | None, user: User | None) -> str:
    """The reason to refuse a key; "" for a valid one."""
    if key is None:
        return "unknown"
    if key.revoked_at is not None:
        return "revoked"
    if (key.expires_at or now() + 1) < now():
        return "expired"
    return "account disabled" if user and user.disabled_at else ""


def _find_key(shared: Services, value: str) -> tuple[ApiKey | None, User | None]:
    with shared.workspace.reading() as session:
        row = session.execute(
            select(ApiKey, User).outerjoin(User, User.id == ApiKey.user_id).where(ApiKey.key_hash == digest(value))
        ).one_or_none()
    return (row[0], row[1]) if row else (None, None)


def routes_of(routes: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path, route) of everything that can be called. Newer FastAPIs keep included routers whole."""
    for route in routes:
        if (inner := getattr(route, "original_router", None)) is not None:
            yield from routes_of(inner.routes, prefix + route.include_context.prefix)
        else:
            yield prefix + getattr(route, "path", repr(route)), route


def rule_of(route: APIRoute) -> str:
    """The rule of a route; "" when it has none."""
    open_dependants = [route.dependant]
    while open_dependants:
        dependant: Any = open_dependants.pop()
        if rule := getattr(dependant.call, "rule", ""):
            return str(rule)
        open_dependants += dependant.dependencies
    return ""


def check_rules(app: FastAPI) -> None:
    """Raises ConfigError that names the routes without a rule."""
    bare = [path for path, route in routes_of(app.routes) if not isinstance(route, APIRoute) or not rule_of(route)]
    if bare:
        raise ConfigError(f"routes without a rule of access (serve/auth.py): {', '.join(bare)}")
