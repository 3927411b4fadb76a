"""One shape for every error of the server: `{"error": {"message", "type", "param", "code"}}`.

What a client did wrong is told to it; what went wrong on our side goes to the log, never to the client.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from math import ceil
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from chatwright.errors import (
    ChatwrightError,
    ConfigError,
    ConflictError,
    DataError,
    MissingError,
    TemplateError,
    UsageError,
)
from chatwright.serve import storage
from chatwright.serve.engine import EngineBusy, EngineGone, PromptTooLong

log = logging.getLogger(__name__)
INVALID = "invalid_request_error"
_FIELDS = frozenset(
    "temperature top_p top_k n stop logit_bias presence_penalty frequency_penalty ignore_eos top_logprobs dimensions "
    "script".split()
)
_BOUNDS = frozenset(
    "greater_than greater_than_equal less_than less_than_equal too_long too_short string_too_long string_too_short".split()
)
_TYPES = {  # as OpenAI names them: a bad key (401) and an unknown model (404) are invalid requests, told apart by `code`
    403: "permission_error",
    409: "conflict_error",
    429: "rate_limit_error",
}


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    """What, where, and what to do."""
    type: str
    """Kind of error: invalid_request_error, permission_error, rate_limit_error, server_error ..."""
    param: str | None = None
    """The field of the request that is meant."""
    code: str | None = None
    """For programs: context_length_exceeded, model_not_found, rate_limit_exceeded ..."""


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail


class APIError(ChatwrightError):
    """An error with its HTTP status, for any route."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`retry_after_s`: when trying again makes sense; becomes the header, in whole seconds."""
        super().__init__(message, code=code)
        self.status, self.message, self.param = status, message, param
        self.type = _type_of(status)
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["retry-after"] = str(max(1, ceil(retry_after_s)))

    def body(self) -> dict[str, Any]:
        """The JSON body."""
        return error_body(self.status, self.message, self.param, self.code)

    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.body(), status_code=self.status, headers=self.headers)


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The JSON body of an error, for code that answers without an exception (ASGI middleware)."""
    detail = {"message": message, "type": _type_of(status), "param": param, "code": code}
    # Half a surrogate pair, quoted from a request, cannot be written as UTF-8.
    return {"error": {k: v if v is None else v.encode("utf-8", "replace").decode() for k, v in detail.items()}}


def unsupported(param: str, why: str = "") -> APIError:
    """A field that exists in the protocol but has no effect here: refused rather than ignored."""
    reason = f": {why}" if why else "; leave it out"
    return APIError(400, f"{param} is not supported by this server{reason}", param=param, code="unsupported_parameter")


def api_error(error: BaseException, *, prompt_param: str = "messages") -> APIError:
    """What a client is told about an error; unexpected ones are logged and stay unnamed."""
    if isinstance(error, APIError):
        return error
    if isinstance(error, EngineBusy):
        return APIError(429, str(error), code="rate_limit_exceeded", retry_after_s=error.retry_after_s)
    if isinstance(error, EngineGone):
        return APIError(503, str(error), code="engine_unavailable", retry_after_s=5)
    if isinstance(error, PromptTooLong):
        return APIError(400, str(error), param=prompt_param, code="context_length_exceeded")
    if isinstance(error, (MissingError, ConflictError)):
        return APIError(404 if isinstance(error, MissingError) else 409, str(error), code=error.code)
    if isinstance(error, (ConfigError, DataError, TemplateError, UsageError)):
        return APIError(400, str(error), param=_named_field(str(error)), code=error.code)
    if kind := storage.trouble(error):
        log.error("the storage failed", extra={"fields": {"code": kind, "error": type(error).__name__}})
        return APIError(storage.STATUS[kind], storage.WORDS[kind], code=kind, retry_after_s=storage.RETRY_S[kind])
    log.error("unexpected error", exc_info=error)
    return APIError(500, "the server failed to answer; its log says why", code="internal_error")


def install(app: FastAPI) -> None:
    """Let every error of `app` answer in this shape: ours, refused bodies, unknown paths and methods, crashes."""
    app.add_exception_handler(ChatwrightError, lambda _, error: api_error(error).response())
    app.add_exception_handler(RequestValidationError, _refused_body)
    app.add_exception_handler(HTTPException, _http_error)
    for kind in (SQLAlchemyError, OSError):  # without the traceback that comes with the handler of all exceptions
        app.add_exception_handler(kind, lambda _, error: api_error(error).response())
    app.add_exception_handler(Exception, lambda _, error: api_error(error).response())
    described = app.openapi
    app.openapi = lambda: _with_errors(app, described())  # type: ignore[method-assign]


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: the error statuses it may answer with, 400 and 500 always."""
    return {status: {"model": ErrorBody, "description": _phrase(status)} for status in sorted({400, 500, *statuses})}


def generation_responses() -> dict[int | str, dict[str, Any]]:
    """The error statuses of routes that ask a model by an API key."""
    return responses(401, 403, 404, 413, 429, 503)


def nothing_here(request: Request) -> APIError:
    """For a route that answers every address: 405 when another method has a route there, 404 otherwise."""
    if allowed := _allowed(request):
        headers = {"allow": ", ".join(allowed)}
        return APIError(405, "this path does not take this method", code="method_not_allowed", headers=headers)
    return APIError(404, "there is no such path here", code="unknown_url")


def _allowed(request: Request) -> list[str]:
    """The methods that a path has routes for, those that answer every path left out."""
    from chatwright.serve.auth import routes_of  # that module raises our errors

    asked = request.scope["path"]
    found = [(path, route) for path, route in routes_of(request.app.routes) if not path.startswith("/{")]
    named = [route for path, route in found if path == asked]
    matching = named or [route for path, route in found if _pattern(path).match(asked)]
    return sorted({method for route in matching for method in route.methods or ()})


@lru_cache(maxsize=1024)
def _pattern(path: str) -> re.Pattern[str]:
    return compile_path(path)[0]


def _with_errors(app: FastAPI, schema: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI document with what holds for all routes: the shape of every error, and which need an API key."""
    from chatwright.serve.auth import routes_of, rule_of  # that module raises our errors

    if "x-errors" in schema:
        return schema
    schema["x-errors"] = "every error has the shape ErrorBody"
    parts = schema.setdefault("components", {})
    parts.setdefault("schemas", {}).update(_schemas())
    parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, route in routes_of(app.routes):
        operations = schema.get("paths", {}).get(path.replace(":path}", "}"), {})
        for operation in [operations[m.lower()] for m in route.methods or () if m.lower() in operations]:
            answers = operation["responses"]
            answers.pop("422", None)  # FastAPI's own body for refused requests, which ours replaces
            answers.setdefault("default", {"description": "An error", "content": _ERROR_CONTENT})
            if rule_of(route).startswith("key:") and path != "/metrics":  # which is open on a machine of one's own
                operation["security"] = [{"key": []}]
    return schema


_ERROR_CONTENT = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}


def _schemas() -> dict[str, Any]:
    body = ErrorBody.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**body.pop("$defs"), "ErrorBody": body}


def _type_of(status: int) -> str:
    return _TYPES.get(status, INVALID if status < 500 else "server_error")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"status {status}"


def _named_field(message: str) -> str | None:
    """Our settings' errors begin with the field's name: `top_p 2: must be ...`, `stop: an empty text ...`."""
    first = message.split(maxsplit=1)[0].rstrip(":") if message else ""
    return first if first in _FIELDS else None


def _refused_body(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    given = request.headers.get("content-type", "")
    whole = any(list(one.get("loc", ())) == ["body"] and one.get("type") == "model_attributes_type" for one in errors)
    if whole and "json" not in given.lower():
        reason = f"the body was sent as {given[:100]!r}" if given else "the body has no content type"
        reason += "; send JSON with `content-type: application/json`"
        return APIError(400, reason, code="invalid_content_type").response()
    if whole:
        return APIError(400, "the body must be a JSON object", code="invalid_json").response()
    return validation_error(errors).response()


def validation_error(errors: Sequence[Mapping[str, Any]]) -> APIError:
    """The first of pydantic's errors; of a union, the one that got furthest into the value."""
    if not errors:
        return APIError(400, "the request is not valid")
    # Of two that got equally far, a limit says more than the type of a branch that was not meant.
    chosen = max(errors, key=lambda one: (len(one.get("loc", ())), not str(one.get("type")).endswith("_type")))
    field = tuple(chosen.get("loc", ()))[:2]
    bounds = [one for one in errors if one.get("type") in _BOUNDS and tuple(one.get("loc", ()))[:2] == field]
    if bounds and str(chosen.get("type")).endswith("_type"):  # the branch that was meant: its types are right
        chosen = max(bounds, key=lambda one: len(one.get("loc", ())))
    if any(one.get("type") == "json_invalid" for one in errors):
        return APIError(400, "the body is not valid JSON", code="invalid_json")
    place, *path = chosen.get("loc") or ("body",)
    param = _dotted(path)
    cause = (chosen.get("ctx") or {}).get("error")
    if isinstance(cause, APIError):  # raised by a validator of ours, with its own words
        return cause
    # What a validator of ours says needs no word of pydantic's before it, and of the whole body no name.
    said = str(chosen.get("msg", "is not valid"))
    ours = said.startswith("Value error, ")
    where = f"{param}: " if param else "" if ours else f"{place}: "
    return APIError(400, f"{where}{said.removeprefix('Value error, ')}", param=param or None, code=str(chosen.get("type")))


def _dotted(path: Sequence[Any]) -> str:
    """`messages[0].content`; the names of a union's branches, which are not fields, are left out."""
    out = ""
    for part in path:
        if isinstance(part, int):
            out += f"[{part}]"
        elif part.isidentifier() and not part[0].isupper() and part not in ("str", "int", "float", "bool"):
            out += f".{part}" if out else part
    return out


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    detail = error.detail if isinstance(error.detail, str) else _phrase(error.status_code)
    if error.status_code in (404, 405) and detail == _phrase(error.status_code):
        return nothing_here(request).response()
    return APIError(error.status_code, detail, headers=error.headers).response()
