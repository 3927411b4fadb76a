"""The OpenID Connect provider: its metadata and keys, the state of a sign-in, and the check of an id_token.

No request waits for the provider in the threads that other requests share. A thread fetches the metadata; four others
exchange codes. The state of a sign-in is in a signed cookie: the server keeps no table that strangers could fill.

Sources: OpenID Connect Core 1.0 (sections 3.1.2, 3.1.3, 5.3), RFC 7636 (PKCE), RFC 9700 (current practice for OAuth 2.0).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import secrets
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx

from chatwright.serve.auth import digest, new_secret
from chatwright.serve.limits import Buckets

log = logging.getLogger(__name__)
PENDING_S = 600.0
METADATA_S = 3600.0
RETRY_S = 5.0  # between attempts to fetch metadata from a provider that fails
TOTAL_S = 15.0  # of one answer, however slowly its bytes come
MAX_ANSWER_BYTES = 1_000_000
ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA"]  # never "none", never a shared secret
_LEEWAY_S = 60
_TIMEOUT_S = 10.0


class ProviderError(Exception):
    """The provider's answer is missing or wrong; the text goes to the log only."""


@dataclass(frozen=True, kw_only=True)
class Pending:
    """A sign-in that has left for the provider. The browser's cookie holds it."""

    state: str
    nonce: str
    verifier: str
    """Of PKCE."""
    redirect_uri: str
    next: str
    ends_at: float
    """Seconds since 1970."""


@dataclass(eq=False)
class Provider:
    """One provider: its metadata and keys, and what signs the cookies of sign-ins under way."""

    issuer: str
    client_id: str
    client_secret: str
    extra_scopes: tuple[str, ...] = ()
    """Scopes beside openid and profile that are requested where the provider offers them."""
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=_TIMEOUT_S, follow_redirects=False))
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4, thread_name_prefix="oidc"))
    """They exchange codes; a provider that does not answer holds these only."""
    attempts: Buckets = field(default_factory=Buckets)
    """Exchanges that failed, by the client's network."""
    _secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _fetch: Future[dict[str, Any]] | None = None
    _fetched_at: float = 0.0
    _failed_at: float = -RETRY_S
    _metadata: dict[str, Any] = field(default_factory=dict)
    _keys: tuple[float, dict[str, Any]] = (0.0, {"keys": []})

    def close(self) -> None:
        """End the connections to the provider."""
        self.threads.shutdown(wait=False, cancel_futures=True)
        self.http.close()

    def known_metadata(self) -> dict[str, Any] | Future[dict[str, Any]]:
        """The provider's description, or the fetch of it that is under way. Never blocks; a description that is older than
        an hour is used while a new one is fetched. ProviderError within some seconds of a fetch that failed."""
        with self._lock:
            now = time.monotonic()
            if self._metadata and now < self._fetched_at + METADATA_S:
                return self._metadata
            may_fetch = self._fetch is None and now >= self._failed_at + RETRY_S
            if may_fetch:
                self._fetch = Future()
                self._fetch.set_running_or_notify_cancel()  # a request that gives up must not cancel it for the others
                threading.Thread(target=self._run_fetch, args=(self._fetch,), name="oidc-metadata", daemon=True).start()
            if self._metadata:
                return self._metadata
            if self._fetch is None:
                raise ProviderError("the provider did not answer some seconds ago")
            return self._fetch

    def _run_fetch(self, fetch: Future[dict[str, Any]]) -> None:
        try:
            found = self._fetch_metadata()
        except Exception as error:  # whatever it was, those who wait get it
            log.error("oidc: %s", error)
            with self._lock:
                self._fetch, self._failed_at = None, time.monotonic()
            fetch.set_exception(error if isinstance(error, ProviderError) else ProviderError(str(error)))
            return
        with self._lock:
            self._fetch, self._metadata, self._fetched_at = None, found, time.monotonic()
        fetch.set_result(found)

    def _fetch_metadata(self) -> dict[str, Any]:
        found = self._json("GET", f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != self.issuer:
            raise ProviderError(f"the provider calls itself {found.get('issuer')!r}, not {self.issuer!r}")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not isinstance(found.get(name), str) or not safe_address(found[name]):
                raise ProviderError(f"{name} of the provider is no https address")
        return found

    def begin(self, metadata: dict[str, Any], redirect_uri: str, next_path: str) -> tuple[str, str]:
        """(address at the provider, value of this browser's cookie)."""
        pending = Pending(
            state=new_secret(), nonce=new_secret(), verifier=new_secret(), redirect_uri=redirect_uri, next=next_path,
            ends_at=time.time() + PENDING_S,
        )  # fmt: skip
        offered = metadata.get("scopes_supported")
        extra = [one for one in self.extra_scopes if not isinstance(offered, list) or one in offered]
        challenge = base64.urlsafe_b64encode(hashlib.sha256(pending.verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code", "client_id": self.client_id, "redirect_uri": redirect_uri,
            "scope": " ".join(("openid", "profile", *extra)), "state": pending.state, "nonce": pending.nonce,
            "code_challenge": challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        endpoint = metadata["authorization_endpoint"]
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}", self._seal(pending)

    def _seal(self, pending: Pending) -> str:
        data = base64.urlsafe_b64encode(json.dumps(asdict(pending), ensure_ascii=False).encode()).decode()
        return f"{data}.{self._signature(data)}"

    def _signature(self, data: str) -> str:
        return hmac.new(self._secret, data.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()

    def take(self, state: str, cookie: str) -> Pending | None:
        """The sign-in of this browser's cookie; None unless this server signed it, `state` is its own, and it is not over.

        A code works once at the provider (RFC 6749, 4.1.2), so a cookie that is kept is of no use a second time."""
        data, _, given = cookie.rpartition(".")
        if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._signature(data).encode()):
            return None
        pending = Pending(**json.loads(base64.urlsafe_b64decode(data)))
        if pending.ends_at < time.time() or not hmac.compare_digest(digest(pending.state), digest(state)):
            return None
        return pending

    def claims(self, code: str, pending: Pending, needed: tuple[str, ...] = ()) -> dict[str, Any]:
        """The provider's claims about the person who signed in; those of `needed` that the id_token lacks come from the
        userinfo endpoint. ProviderError when anything about them is not right. Blocks: call it in `threads`."""
        metadata = self._waited_metadata()
        body = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": pending.redirect_uri,
            "code_verifier": pending.verifier, "client_id": self.client_id,
        }  # fmt: skip
        # RFC 6749, 2.3.1: both are form-encoded before they become a Basic header.
        auth = (quote(self.client_id, safe=""), quote(self.client_secret, safe="")) if self.client_secret else None
        answer = self._json("POST", metadata["token_endpoint"], data=body, auth=auth)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise ProviderError("the token endpoint gave no id_token")
        claims = self._verified(token, pending.nonce)
        if any(name not in claims for name in needed):
            claims = self._userinfo(metadata, answer.get("access_token"), claims["sub"]) | claims
        return claims

    def _waited_metadata(self) -> dict[str, Any]:
        found = self.known_metadata()
        return found.result(TOTAL_S + 1) if isinstance(found, Future) else found

    def _userinfo(self, metadata: dict[str, Any], access_token: object, subject: str) -> dict[str, Any]:
        """OpenID Connect Core 1.0, section 5.3; {} where the provider has none."""
        address = metadata.get("userinfo_endpoint")
        if not isinstance(address, str) or not safe_address(address) or not isinstance(access_token, str):
            return {}
        found = self._json("GET", address, authorization=f"Bearer {access_token}")
        if found.get("sub") != subject:
            raise ProviderError("userinfo: sub is not that of the id_token")
        return found

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

    def keys(self, *, fresh: bool = False) -> dict[str, Any]:
        """The provider's public keys (JWKS); anew at most once a minute."""
        fetched_at, known = self._keys
        age = time.monotonic() - fetched_at
        if known["keys"] and age < (60.0 if fresh else METADATA_S):
            return known
        self._keys = (time.monotonic(), self._json("GET", self._waited_metadata()["jwks_uri"]))
        return self._keys[1]

    def _json(self, method: str, address: str, *, authorization: str = "", **options: Any) -> dict[str, Any]:
        headers = {"accept": "application/json"} | ({"authorization": authorization} if authorization else {})
        where, ends_at, body = urlsplit(address).path, time.monotonic() + TOTAL_S, b""
        try:
            with self.http.stream(method, address, headers=headers, **options) as answer:
                answer.raise_for_status()
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES or time.monotonic() > ends_at:
                        raise ProviderError(f"{where}: the answer is too long or too slow")
            found = json.loads(body)
        except (httpx.HTTPError, ValueError) as error:
            raise ProviderError(f"{where}: {type(error).__name__}: {error}") from error
        if not isinstance(found, dict):
            raise ProviderError(f"{where}: no JSON object")
        return found


def safe_address(address: str) -> bool:
    """True when it is https, or http on this machine."""
    parts = urlsplit(address)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost"))
