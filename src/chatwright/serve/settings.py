"""Settings of the server. Secrets come from the environment: config/secrets.py."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from chatwright.errors import ConfigError

FilterAction = Literal["off", "flag", "refuse", "block"]
MAX_SHARE_DAYS = 365


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """A server with its models."""

    model: tuple[str, ...] = ("smollm2-135m-instruct",)
    """Models to serve, the default first: names, folders or files, also as `name=folder`."""
    upstream: tuple[str, ...] = ()
    """OpenAI-compatible servers that get requests for a model, as `name=http://host:port/v1` or, where the other server has
    another name for it, `name=model@http://host:port/v1`. Keys: CHATWRIGHT_UPSTREAM_API_KEY_NAME for each;
    CHATWRIGHT_UPSTREAM_API_KEY counts for an upstream that is the only one."""
    host: str = "127.0.0.1"
    """Address to listen on. Others than this machine's own are reached under `public_url`."""
    port: int = 8000
    """Port to listen on; 0 takes a free one."""
    public_url: str = ""
    """Where browsers find the server when it is behind a proxy, such as https://chat.example.org."""
    trusted_proxy: tuple[str, ...] = ()
    """Addresses or networks (10.0.0.0/8) of proxies whose X-Forwarded-For and X-Forwarded-Proto count. Without this all
    people behind a proxy share one address: one limit on wrong passwords, one address in the audit log."""
    cors_origin: tuple[str, ...] = ()
    """Origins such as https://app.example.org whose pages may call /v1 from the browser with an API key; `*`: all.
    Such a page shows its key to everybody who opens it."""
    workspace: str = "workspace"
    """Folder of users, keys, conversations and secrets."""
    database: str = ""
    """Database URL; empty: CHATWRIGHT_DATABASE_URL, else SQLite in the workspace."""
    template: str = ""
    """Chat template instead of the models' own: a Jinja file, a layout (chatml, llama3, gemma, mistral, plain), or settings
    of it: thinking=on, thinking=off, date=YYYY-MM-DD. Several are joined by commas."""
    precision: str = "auto"
    """Arithmetic of local models: auto, fp32 or bf16."""
    max_batch: int = 32
    """Answers generated at the same time by each local model."""
    prefix_mb: int = 512
    """Memory of each local model for what it computed of conversations, so that their next turns begin sooner; 0: none."""
    deadline_s: float = 300.0
    """Seconds that an answer may take from its request on. What is written then is given back as cut off; a request that
    still waits for its first token is refused (503, or 429 with retry-after)."""
    drain_s: float = 30.0
    """Seconds that running answers may take after SIGTERM."""
    requests_per_minute: int = 0
    """Limit of each account over its keys, the chat and the arena; administrators may set another per account; 0: none."""
    tokens_per_minute: int = 0
    """The same for prompt and answer tokens; 0: none."""
    tokens_per_day: int = 0
    """Tokens of each account per day (UTC); 0: no limit."""
    session_idle_hours: float = 72.0
    """A browser's session ends after this long without a request, and 14 days after signing in at the latest; 0: only
    then."""
    audit_days: float = 365.0
    """Entries of the audit log that are older are deleted; 0: none are."""
    oidc_issuer: str = ""
    """OpenID Connect provider that people may sign in with, such as https://login.example.org; needs `chatwright[oidc]`."""
    oidc_client_id: str = ""
    """Name of this server at the provider; its secret is CHATWRIGHT_OIDC_CLIENT_SECRET."""
    oidc_domain: tuple[str, ...] = ()
    """Domains such as example.org: only people with a verified e-mail address there may sign in through the provider."""
    oidc_group: tuple[str, ...] = ()
    """Groups at the provider whose people may sign in through it, also beside `oidc_domain`."""
    oidc_group_claim: str = "groups"
    """Claim in which the provider lists a person's groups."""
    oidc_sign_up: Literal["auto", "on", "off"] = "auto"
    """Accounts for people who sign in through the provider for the first time. auto: only with `oidc_domain` or
    `oidc_group`; on: also without them, for all whom the provider knows (a public one knows the whole world); off: never."""
    oidc_role: Literal["member", "labeller", "lead"] = "member"
    """Role of such accounts."""
    moderation: str = ""
    """Folder of `chatwright moderation train`: /v1/moderations and the filters need it."""
    moderation_input: FilterAction = "off"
    """With flagged input: off, flag (log only), refuse (answer with a refusal), block (an error)."""
    moderation_output: FilterAction = "off"
    """With flagged answers: off, flag (log only), refuse (end with a refusal), block (end with nothing more)."""
    moderation_keep_text: bool = False
    """Log flagged texts themselves, not only their hashes."""
    refusal: str = "brief"
    """How refusals are worded: brief, explain, support, or a text of your own ({category} is filled in)."""
    share_links: bool = True
    """True when chats can be shared by link. Off: no link is made, and those that exist show nothing."""
    share_days: int = 30
    """Days after which a link to a chat expires, unless its owner chooses otherwise (1 to 365)."""
    jobs: bool = True
    """Run the desk's jobs (retraining, AI labellers) on this machine; otherwise `chatwright jobs run` does. On another
    machine that needs PostgreSQL and the same folder."""
    judge: tuple[str, ...] = ()
    """AI judges that leads may choose for labelling jobs, as `name=model@http://host:port/v1`. The key of each is
    JUDGE_API_KEY_NAME, or a file named by JUDGE_API_KEY_NAME_FILE; JUDGE_API_KEY counts for the only judge."""
    job_threads: int = 0
    """Threads of arithmetic a training job gets; 0: all cores but one. A labelling job, which runs beside it, gets one."""
    allow_network_sqlite: bool = False
    """Start with SQLite on a network file system (NFS, SMB). Only where no other machine opens the workspace."""
    json_logs: bool = False
    """Write logs as JSON lines; a terminal gets plain ones otherwise."""
    otel: bool = False
    """Send traces by OpenTelemetry (OTEL_EXPORTER_OTLP_ENDPOINT says where to); needs `chatwright[otel]`."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port {self.port}: must be between 0 and 65535")
        if self.public_url and urlsplit(self.public_url).scheme not in ("http", "https"):
            raise ConfigError(f"public_url {self.public_url!r}: must begin with http:// or https://")
        for network in self.trusted_proxy:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ConfigError(f"trusted_proxy {network!r}: is not an address or a network ({error})") from None
        for origin in self.cors_origin:
            parts = urlsplit(origin)
            known = parts.scheme in ("http", "https") and parts.netloc
            if origin != "*" and (not known or origin != f"{parts.scheme}://{parts.netloc}"):
                raise ConfigError(f"cors_origin {origin!r}: must be like https://app.example.org, without a path, or *")
        for name in ("max_batch", "deadline_s", "drain_s"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} {getattr(self, name)}: must be above 0")
        if min(self.requests_per_minute, self.tokens_per_minute, self.tokens_per_day) < 0:
            names = "requests_per_minute, tokens_per_minute, tokens_per_day"
            raise ConfigError(f"{names}: must not be negative; 0 sets no limit")
        if not 1 <= self.share_days <= MAX_SHARE_DAYS:
            raise ConfigError(f"share_days {self.share_days}: must be between 1 and {MAX_SHARE_DAYS}")
        for name in ("job_threads", "prefix_mb", "session_idle_hours", "audit_days"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} {getattr(self, name)}: must not be negative")

    @property
    def oidc_makes_accounts(self) -> bool:
        """True when people whom the provider lets in get an account at their first sign-in."""
        return self.oidc_sign_up == "on" or (self.oidc_sign_up == "auto" and bool(self.oidc_domain or self.oidc_group))

    @property
    def secure(self) -> bool:
        """Whether browsers reach the server by TLS."""
        return self.public_url.startswith("https://")

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches the server."""
        if self.public_url or self.trusted_proxy:
            return False
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def cookie(self) -> str:
        """Name of the session cookie. Browsers bind `__Host-` ones to this host and to TLS."""
        return "__Host-chatwright" if self.secure else "chatwright_session"

    def knows_host(self, host: str) -> bool:
        """Whether a Host header is one of ours: a foreign name that resolves to this machine is an attack."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
            _ = urlsplit(f"//{host}").port
        except ValueError:
            return False
        if any(c in host for c in "/@?#\\ \t,") or not name:
            return False
        if name in ("localhost", "127.0.0.1", "::1"):
            return True
        if self.public_url and name == urlsplit(self.public_url).hostname:
            return True
        if self.loopback:
            return name == self.host.lower()
        try:
            ipaddress.ip_address(name)  # no DNS involved
        except ValueError:
            return name == self.host.lower()
        return True
