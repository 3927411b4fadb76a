"""What the API answers: the shapes of its bodies, for the OpenAPI document and for whoever reads it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class PromptDetails(BaseModel):
    """Where the prompt's tokens came from."""

    cached_tokens: int = 0
    """Found in the prefix cache."""
    audio_tokens: int = 0


class CompletionDetails(BaseModel):
    """What kind of tokens were generated."""

    reasoning_tokens: int = 0
    """Of an upstream's reasoning, as it counts them; 0 where it does not."""
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class Usage(BaseModel):
    """Token counts of a request."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: PromptDetails = PromptDetails()
    completion_tokens_details: CompletionDetails = CompletionDetails()

    @classmethod
    def of(cls, prompt: int, completion: int, cached: int = 0, reasoning: int = 0) -> Usage:
        """From the counts."""
        details = PromptDetails(cached_tokens=cached)
        return cls(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=prompt + completion,
            prompt_tokens_details=details,
            completion_tokens_details=CompletionDetails(reasoning_tokens=reasoning),
        )


class TopToken(BaseModel):
    """A token that could have stood in this place."""

    token: str
    """`bytes:\\xe4` for a part of a character."""
    logprob: float
    """Nats; -9999 stands for minus infinity."""
    bytes: list[int]


class TokenEntry(TopToken):
    """A token of the answer."""

    top_logprobs: list[TopToken]


class ChatLogprobs(BaseModel):
    """Log-probabilities of an answer's tokens."""

    content: list[TokenEntry]
    refusal: None = None


class CalledFunction(BaseModel):
    """A function and its arguments."""

    name: str
    arguments: str
    """JSON text."""


class CalledTool(BaseModel):
    """A call the model asks for."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class ToolStep(BaseModel):
    """Something a tool of the server's did before the answer."""

    tool: Literal["calculator"] = "calculator"
    expression: str
    """As people write it: `3457 × 43216`."""
    exact: bool
    """False: the result is rounded."""
    result: str | None = None
    """Digits."""
    error: str | None = None
    """Why there is no result."""


class AnswerMessage(BaseModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: str | None = None
    reasoning_content: str | None = None
    """Reasoning of a model elsewhere before its answer; missing where its server gives none."""
    tool_calls: list[CalledTool] | None = None
    steps: list[ToolStep] | None = None
    """Ours: what the calculator did, where the tools of the request name it."""


class ChatChoice(BaseModel):
    """One of the n answers."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason


class ChatReply(BaseModel):
    """chat.completion."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str | None = None
    service_tier: str | None = None
    dropped_messages: int = Field(default=0)
    """Ours: oldest messages that were left out because the conversation was longer than the context."""


class CompletionLogprobs(BaseModel):
    """Log-probabilities of a completion's tokens, the echoed prompt's first."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    """The token itself is always among them."""
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """A continuation; index = prompt number * n + sample number."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: FinishReason


class CompletionReply(BaseModel):
    """text_completion."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    system_fingerprint: str | None = None


class Embedding(BaseModel):
    """The vector of one input."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str
    """Numbers, or base64 of little-endian float32."""


class EmbeddingUsage(BaseModel):
    """Tokens read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingReply(BaseModel):
    """Vectors in the order of the inputs."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class Model(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    """When the server started, in seconds since 1970."""
    owned_by: str = "chatwright"
    name: str
    context_length: int
    """Tokens of prompt and answer together."""
    max_model_len: int
    version: str | None = None
    """Content hash of the model's files; null: unknown, as of a server elsewhere, which names it with each answer."""


class ModelList(BaseModel):
    """The models that are served, the default first."""

    object: Literal["list"] = "list"
    data: list[Model]


class Tokens(BaseModel):
    """Tokens of a text."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class Detokenized(BaseModel):
    """The text of tokens."""

    prompt: str


class TokenizerInfo(BaseModel):
    """What a client needs to tokenise and render by itself."""

    eos_token: str | None = None
    bos_token: str | None = None
    pad_token: str | None = None
    chat_template: str | None = None
    """Jinja."""
    vocab_size: int | None = None
    context_length: int | None = None


class Health(BaseModel):
    """The process lives."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether requests are taken, and by which models."""

    ready: bool
    models: dict[str, bool]
    unreachable: list[str] = []
    """Models whose server elsewhere cannot be reached; requests for them get 503, all others are served."""


def stream_or(model: type[BaseModel], chunk: str) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that answers with `model`, or as a stream of `chunk` objects."""
    described = f"The answer; with `stream`, server-sent events that hold {chunk} objects, ending with `data: [DONE]`."
    events = {"text/event-stream": {"schema": {"type": "string"}}}
    return {200: {"model": model, "description": described, "content": events}}
