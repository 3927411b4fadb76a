"""Models, embeddings, tokens, and whether the server lives."""

from __future__ import annotations

import base64
import struct
import time
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from chatwright.serve.auth import Principal, public, require_scope
from chatwright.serve.engine import Engine
from chatwright.serve.openai.errors import APIError, generation_responses, responses
from chatwright.serve.openai.generate import Call, Tally, raw_ids, record_usage, vocabulary
from chatwright.serve.openai.replies import (
    Detokenized,
    EmbeddingReply,
    Health,
    Model,
    ModelList,
    Readiness,
    TokenizerInfo,
    Tokens,
)
from chatwright.serve.openai.stream import unless_gone
from chatwright.serve.openai.tokens import token_text
from chatwright.serve.openai.wire import DetokenizeRequest, EmbeddingRequest, TokenizeRequest
from chatwright.serve.services import services

router = APIRouter()
ModelsKey = Annotated[Principal, Depends(require_scope("models"))]
_STARTED = int(time.time())
EMBED_AT_ONCE = 32


@router.post("/v1/embeddings", responses={200: {"model": EmbeddingReply}, **generation_responses()}, tags=["embeddings"])
async def embeddings(
    body: EmbeddingRequest, request: Request, principal: Annotated[Principal, Depends(require_scope("embeddings"))]
) -> Response:
    """Unit vectors of texts, at full width or cut to `dimensions`: by the model's embedding head where it has one, else
    the mean of its last hidden states."""
    call = Call.of(request, principal, body.model)
    vectors, num_tokens = await unless_gone(request, _embedded(call, body))
    as_text = body.encoding_format == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _base64(vector) if as_text else vector}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    return JSONResponse({"object": "list", "data": data, "model": call.engine.name, "usage": usage})


async def _embedded(call: Call, body: EmbeddingRequest) -> tuple[list[list[float]], int]:
    """(vectors, tokens), counted for the key in pieces: a client that leaves pays for what was computed."""
    texts, vectors = body.inputs(), list[list[float]]()
    tally = Tally(version=call.engine.version)
    try:
        for at in range(0, len(texts), EMBED_AT_ONCE):
            found, num_tokens = await call.engine.embed(texts[at : at + EMBED_AT_ONCE], body.dimensions)
            vectors += found
            tally.prompt_tokens += num_tokens
    finally:
        record = record_usage(call, tally)
    await record
    return vectors, tally.prompt_tokens


def _base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _model(engine: Engine) -> Model:
    context = engine.context_length
    return Model(
        id=engine.name, created=_STARTED, name=engine.name, context_length=context, max_model_len=context,
        version=engine.version or None,
    )  # fmt: skip


@router.get("/v1/models", responses=responses(401, 403, 429), tags=["models"])
async def models(request: Request, principal: ModelsKey) -> ModelList:
    """The models served here, the default first."""
    return ModelList(data=[_model(engine) for engine in services(request).registry.all()])


@router.get("/v1/models/{model:path}", responses=responses(401, 403, 404, 429), tags=["models"])
async def model_by_name(model: str, request: Request, principal: ModelsKey) -> Model:
    """One model."""
    return _model(Call.of(request, principal, model).engine)


@router.post("/tokenize", responses=responses(401, 403, 404, 413, 429), tags=["tokens"])
async def tokenize(body: TokenizeRequest, request: Request, principal: ModelsKey) -> Tokens:
    """Token ids of a text. Control tokens are never recognised in it."""
    engine = Call.of(request, principal, body.model).engine
    ids = await run_in_threadpool(raw_ids, engine, body.prompt, special=body.add_special_tokens is not False)
    names = [token_text(engine, token) for token in ids] if body.return_token_strs else None
    return Tokens(count=len(ids), max_model_len=engine.context_length, tokens=ids, token_strs=names)


@router.post("/detokenize", responses=responses(401, 403, 404, 413, 429), tags=["tokens"])
async def detokenize(body: DetokenizeRequest, request: Request, principal: ModelsKey) -> Detokenized:
    """The text of token ids; control tokens have none."""
    engine = Call.of(request, principal, body.model).engine
    size = vocabulary(engine)
    if size is not None and any(token >= size for token in body.tokens):
        raise APIError(400, f"tokens: ids go from 0 to {size - 1}", param="tokens")
    return Detokenized(prompt=await run_in_threadpool(engine.decode, body.tokens))


@router.get("/tokenizer_info", responses=responses(401, 403, 404, 413, 429), tags=["tokens"])
async def tokenizer_info(
    request: Request, principal: ModelsKey, model: Annotated[str, Query(max_length=256)] = ""
) -> TokenizerInfo:
    """Special tokens and chat template of a model."""
    return TokenizerInfo(**Call.of(request, principal, model).engine.tokenizer_info())


@router.get("/health", responses=responses(), dependencies=[Depends(public)], tags=["operation"])
async def health() -> Health:
    """The process lives."""
    return Health()


@router.get("/ready", responses=responses(503), dependencies=[Depends(public)], tags=["operation"])
async def ready(request: Request) -> Readiness:
    """True when every model takes requests and is the one that was promoted; 503 otherwise. Models whose server elsewhere
    cannot be reached are named in `unreachable`; they count only where no other model is there."""
    registry = services(request).registry
    states = dict.fromkeys(registry.loading, False) | {engine.name: engine.ready for engine in registry.all()}
    unreachable = list(registry.unreachable())
    if not any(states.values()) or not all(state for name, state in states.items() if name not in unreachable):
        late = ", ".join(name for name, state in states.items() if not state) or "no model is loaded yet"
        raise APIError(503, f"not ready: {late}", code="not_ready", retry_after_s=1)
    if instead := registry.not_promoted:
        raise APIError(503, f"not the promoted model: {', '.join(instead)}", code="not_promoted", retry_after_s=60)
    return Readiness(ready=True, models=states, unreachable=unreachable)
