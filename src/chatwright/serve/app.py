"""The application: every router, behind the gate, each route with its rule of access."""

from __future__ import annotations

import importlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from chatwright import __version__
from chatwright.serve import account, audit, deletion, keys, links, oidc, users
from chatwright.serve.auth import check_rules, metrics_reader, public
from chatwright.serve.engine import EngineRegistry
from chatwright.serve.http import ApiCors, HeadRequests
from chatwright.serve.limits import Limits, Throttle
from chatwright.serve.metrics import Metrics
from chatwright.serve.openai import errors
from chatwright.serve.reference import reference_page
from chatwright.serve.security import Context, Gate
from chatwright.serve.services import Services, services
from chatwright.serve.settings import ServeConfig
from chatwright.serve.tables import metadata
from chatwright.serve.tracing import Tracing
from chatwright.workspace.database import Workspace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

# The web app's fallback answers every other address, so it comes last.
ROUTERS = (
    "chatwright.serve.openai.routes",
    "chatwright.serve.moderation.routes",
    "chatwright.serve.prompts.routes",
    "chatwright.serve.chat.routes",
    "chatwright.serve.arena.routes",
    "chatwright.serve.desk.routes",
    "chatwright.serve.web",
)
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def _nothing(app: FastAPI) -> AsyncIterator[None]:
    yield


def create_app(
    settings: ServeConfig, registry: EngineRegistry, workspace: Workspace, *, lifespan: Lifespan = _nothing,
    tracing: TracerProvider | None = None,
) -> FastAPI:  # fmt: skip
    """The server's application; `workspace` is migrated. Raises ConfigError for a route without a rule of access."""
    metadata()  # relations between tables of different modules are resolved by name
    metrics = Metrics(registry)
    app = FastAPI(
        title="Chatwright", version=__version__, docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan,
        redirect_slashes=False,
    )  # fmt: skip
    app.state.services = Services(
        settings=settings, registry=registry, workspace=workspace, limits=Limits(), throttle=Throttle(), metrics=metrics
    )
    app.state.services.parts["oidc"] = oidc.open_provider(settings)
    app.state.registry, app.state.started_at = registry, time.time()
    errors.install(app)
    _operation_routes(app)
    for router in (users.router, account.router, links.router, deletion.router, oidc.router, keys.router, audit.router):
        app.include_router(router)
    for module in ROUTERS:
        app.include_router(importlib.import_module(module).router)
    check_rules(app)
    app.add_middleware(Gate, settings=settings)
    if settings.cors_origin:
        app.add_middleware(ApiCors, origins=settings.cors_origin)
    if tracing is not None:
        app.add_middleware(Tracing, provider=tracing)
    app.add_middleware(Context, settings=settings, metrics=metrics)
    app.add_middleware(HeadRequests)
    if settings.trusted_proxy:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(settings.trusted_proxy))
    return app


def _operation_routes(app: FastAPI) -> None:
    @app.get("/metrics", tags=["operation"], response_class=Response)
    def prometheus(_: Annotated[None, Depends(metrics_reader)]) -> Response:
        """Figures for Prometheus."""
        return Response(app.state.services.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/openapi.json", include_in_schema=False, dependencies=[Depends(public)])
    def schema(request: Request) -> JSONResponse:
        """The OpenAPI description."""
        return JSONResponse(app.openapi())

    @app.get("/docs", include_in_schema=False, dependencies=[Depends(public)])
    def docs(request: Request) -> HTMLResponse:
        """The OpenAPI description as a page, without scripts."""
        shared = services(request)
        model = next(iter(shared.registry.names()), "MODEL")
        return HTMLResponse(reference_page(app.openapi(), users.origin_of(request, shared), model))
