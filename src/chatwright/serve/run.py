"""`chatwright serve`: one process with models, API, chat and database."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never

import uvicorn
from fastapi import FastAPI

from chatwright import hub
from chatwright.config.secrets import secret, secrets_of_services
from chatwright.errors import ChatwrightError, ModelError, UsageError
from chatwright.feedback.judges import configured_judges
from chatwright.feedback.worker import Limits, Worker
from chatwright.serve import logs
from chatwright.serve.app import create_app
from chatwright.serve.auth import KEY_PREFIX, new_secret
from chatwright.serve.chat.answers import hub_of
from chatwright.serve.desk import withdrawal
from chatwright.serve.desk.hooks import intake_of
from chatwright.serve.desk.models import entry_to_serve
from chatwright.serve.engine import Engine, EngineRegistry
from chatwright.serve.http import DeadlineProtocol
from chatwright.serve.keys import keep_bootstrap_key
from chatwright.serve.moderation.filters import Moderator
from chatwright.serve.moderation.service import guarded, open_moderator
from chatwright.serve.retention import Housekeeper
from chatwright.serve.settings import ServeConfig
from chatwright.serve.tables import metadata
from chatwright.serve.tracing import open_tracing
from chatwright.serve.users import first_admin_link
from chatwright.serve.web import NOT_BUILT_TEXT, is_built
from chatwright.workspace.database import Workspace
from chatwright.workspace.filesystem import refuse_network_sqlite
from chatwright.workspace.migrations import prepare

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = logging.getLogger("chatwright.serve")
KEY_FILE = "api-key"
SWITCH_S = 0.001  # how long the model's thread may keep the interpreter while the event loop waits for it
RETRY_S = 30.0  # at most between two tries to reach an upstream
WATCH_S = 1.0  # between looks for crashed models
SAVE_S = 5.0  # for answers that have ended to be written down


def serve(cfg: ServeConfig) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises UsageError (port or workspace in use), ConfigError, HubError, ModelError."""
    names = [entry.partition("=")[0] for entry in (*cfg.model, *cfg.upstream)]
    if len(set(names)) != len(names) or not names:
        raise UsageError(f"models must have different names and there must be one at least; given: {', '.join(names)}")
    configured_judges(cfg.judge)  # refuses bad ones now
    logs.configure(as_json=cfg.json_logs)
    sys.setswitchinterval(SWITCH_S)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _leave)
    tracing = open_tracing() if cfg.otel else None
    metadata()
    database = cfg.database or secret("CHATWRIGHT_DATABASE_URL")
    refuse_network_sqlite(cfg.workspace, database, allow=cfg.allow_network_sqlite)
    with Workspace.open(cfg.workspace, database) as workspace:
        workspace.lock()
        listener = listen(cfg)
        with contextlib.closing(listener):
            prepare(workspace)
            if erased := withdrawal.apply_again(workspace):
                log.warning("texts withdrawn before are erased again", extra={"fields": {"texts": erased}})
            _find_models(cfg, workspace)
            _greet(cfg, workspace, listener.getsockname()[1])
            _run(cfg, workspace, listener, open_moderator(cfg, workspace), tracing)


def _find_models(cfg: ServeConfig, workspace: Workspace) -> None:
    """HubError for a model that does not exist, before addresses and secrets are printed; nothing is fetched."""
    for entry in cfg.model:
        found = entry
        with contextlib.suppress(ChatwrightError):  # a promoted model that is gone: `entry` answers, and that is said
            found = entry_to_serve(workspace, entry)
        name, _, where = found.partition("=")
        if not hub.is_name(where or name):
            hub.resolve(where or name)


def _leave(*_: object) -> Never:
    """On SIGTERM before uvicorn takes signals over, and when it gives them back: an orderly end, not a sudden one."""
    raise SystemExit(0)


def listen(cfg: ServeConfig) -> socket.socket:
    """A listening socket; UsageError that says what is wrong."""
    family = socket.AF_INET6 if ":" in cfg.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((cfg.host, cfg.port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise UsageError(
            f"{cfg.host}:{cfg.port}: cannot listen there ({error.strerror}); choose another with --port"
        ) from error
    return listener


def _greet(cfg: ServeConfig, workspace: Workspace, port: int) -> None:
    """Print the address and, where they are new, the secrets."""
    shown = f"[{cfg.host}]" if ":" in cfg.host else cfg.host
    origin = cfg.public_url.rstrip("/") or f"http://{shown}:{port}"
    print(f"chat {origin}   API {origin}/v1   reference {origin}/docs", flush=True)
    if not is_built():
        print(f"no pages yet: {NOT_BUILT_TEXT}; the API works without it", flush=True)
    if token := first_admin_link(workspace):
        print(f"first administrator: open {origin}/join#{token} (works once)", flush=True)
    if (key := bootstrap_key(workspace)) is not None:
        print(f"API key: {key} (shown once; kept in {workspace.folder / KEY_FILE})", flush=True)


def bootstrap_key(workspace: Workspace) -> str | None:
    """See that the server has its own key. Returns it when it was made now, None when it came from outside or was there."""
    given = secret("CHATWRIGHT_API_KEY")
    path = workspace.folder / KEY_FILE
    if given and len(given) < 16:
        raise UsageError("CHATWRIGHT_API_KEY: must have 16 characters at least")
    if given or path.is_file():
        keep_bootstrap_key(workspace, given or path.read_text(encoding="utf-8").strip())
        return None
    value = KEY_PREFIX + new_secret()
    _write_secret(path, value)
    keep_bootstrap_key(workspace, value)
    return value


def _write_secret(path: Path, value: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(f"{value}\n")
        file.flush()
        os.fsync(file.fileno())


class _Server(uvicorn.Server):
    """Remembers until when running answers may take."""

    drain_until = 0.0

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        self.drain_until = time.monotonic() + (self.config.timeout_graceful_shutdown or 0)
        await super().shutdown(sockets)

    async def drain(self, registry: EngineRegistry) -> None:
        """Let answers end whose pages have gone; uvicorn has waited for the others. A second Ctrl-C ends them at once."""
        left = max(0.0, self.drain_until - time.monotonic())
        ended = asyncio.gather(*(engine.drain(left) for engine in registry.all()), return_exceptions=True)
        while not ended.done() and not self.force_exit:
            await asyncio.wait({ended}, timeout=0.1)
        await asyncio.gather(*(engine.drain(0.0) for engine in registry.all()), return_exceptions=True)


def _run(
    cfg: ServeConfig, workspace: Workspace, listener: socket.socket, moderator: Moderator | None,
    tracing: TracerProvider | None,
) -> None:  # fmt: skip
    """The event loop: models load in the background while /health answers already."""
    registry = EngineRegistry(guard=lambda engine: guarded(engine, moderator))
    registry.loading += [entry.partition("=")[0] for entry in (*cfg.model, *cfg.upstream)]
    failed: list[ChatwrightError] = []
    retries: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.services.parts["moderation"] = moderator
        tasks = [asyncio.create_task(load()), asyncio.create_task(watch())]
        limits = Limits(threads=cfg.job_threads) if cfg.job_threads else Limits()
        worker = Worker(workspace, limits=limits, judges=configured_judges(cfg.judge))
        if cfg.jobs:
            worker.start()
        intake = intake_of(app.state.services)
        intake.start()
        housekeeper = Housekeeper(app.state.services)
        housekeeper.start()
        provider = app.state.services.parts.get("oidc")
        if provider is not None:
            provider.known_metadata()  # fetched now, so that the first sign-in does not wait for it
        yield
        if provider is not None:
            provider.close()
        for task in (*tasks, *retries):
            task.cancel()
        await asyncio.to_thread(worker.stop)
        await server.drain(registry)
        await hub_of(app.state.services).finish(SAVE_S)
        await asyncio.to_thread(intake.close, SAVE_S)
        await asyncio.to_thread(housekeeper.stop)

    async def load() -> None:
        try:
            for entry in (*cfg.model, *cfg.upstream):
                engine = await asyncio.to_thread(_open_promoted, cfg, workspace, registry, entry)
                registry.add(engine)
                if getattr(engine, "trouble", ""):
                    retries.append(asyncio.create_task(_reconnect(engine)))
                    continue
                log.info("ready", extra={"fields": {"model": engine.name}})
            _settle()
        except ChatwrightError as error:
            failed.append(error)
            server.should_exit = True

    async def watch() -> None:
        while not (dead := registry.dead()):
            await asyncio.sleep(WATCH_S)
        failed.append(ModelError(f"model {dead[0]!r} crashes again and again; the log says why. The server ends"))
        server.should_exit = True

    server = _Server(
        uvicorn.Config(
            create_app(cfg, registry, workspace, lifespan=lifespan, tracing=tracing), http=DeadlineProtocol, ws="none",
            log_config=None, access_log=False, server_header=False, proxy_headers=False, lifespan="on", timeout_keep_alive=5,
            h11_max_incomplete_event_size=32_768, limit_concurrency=_max_connections(),
            timeout_graceful_shutdown=max(1, round(cfg.drain_s)),
        )  # fmt: skip
    )
    try:
        server.run(sockets=[listener])
    finally:
        if tracing is not None:
            tracing.shutdown()  # sends what is left
    if failed:
        raise failed[0]


async def _reconnect(engine: Any) -> None:
    """Try to reach an upstream that was down at the start, until it answers."""
    pause_s = 1.0
    while not await asyncio.to_thread(engine.reconnect):
        await asyncio.sleep(pause_s)
        pause_s = min(RETRY_S, 2 * pause_s)
    log.info("ready", extra={"fields": {"model": engine.name}})


def _max_connections() -> int:
    """Open connections above which others get 503: a quarter of the file descriptors is left for files and databases."""
    most = 4096
    if sys.platform != "win32":
        import resource

        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        most = most if soft == resource.RLIM_INFINITY else min(most, soft * 3 // 4)
    return max(64, most)


def _open_promoted(cfg: ServeConfig, workspace: Workspace, registry: EngineRegistry, entry: str) -> Engine:
    """The engine of what was promoted to the name of `entry`; of `entry` itself where nothing was. Where the promoted model
    cannot be served, `entry` answers, /ready is 503 and the models page says so: leads can promote another one."""
    if entry in cfg.upstream:
        return open_engine(cfg, entry, upstream=True)
    try:
        promoted = entry_to_serve(workspace, entry)
        if promoted != entry:
            return open_engine(cfg, promoted, upstream=False)
    except ChatwrightError as error:
        registry.not_promoted[entry.partition("=")[0]] = str(error)
        log.error("the promoted model cannot be served", extra={"fields": {"model": entry, "error": str(error)}})
    return open_engine(cfg, entry, upstream=False)


def _settle() -> None:
    """What is here now stays: collections of garbage need not look at it again, which would hold everybody up."""
    gc.collect()
    gc.freeze()


def open_engine(cfg: ServeConfig, entry: str, upstream: bool) -> Engine:
    """The engine for `name`, `folder` or `name=where`."""
    name, _, where = entry.partition("=")
    if upstream:
        from chatwright.serve.upstream import UPSTREAM_KEY, UpstreamEngine

        names = [each.partition("=")[0] for each in cfg.upstream]
        key = secrets_of_services(UPSTREAM_KEY, names)[name]
        return UpstreamEngine.open_or_wait(name, where, key=key, deadline_s=cfg.deadline_s)
    # torch only here: a server with nothing but upstream models does without
    from chatwright.serve.local_engine import LocalEngine

    sizes = {"max_batch": cfg.max_batch, "prefix_mb": cfg.prefix_mb}
    return LocalEngine.open(
        where or name, name=name, precision=cfg.precision, template=cfg.template, deadline_s=cfg.deadline_s, **sizes
    )
