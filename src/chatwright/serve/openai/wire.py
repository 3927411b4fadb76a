"""Every field of the OpenAI protocol that this server reads, with its limits. A field is either used, or refused by name
when it would change the answer (`_refuse`), or unknown and ignored.

Fields that may be left out may also be null. Numbers are never read from texts, nor texts from numbers.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from chatwright.errors import ConfigError
from chatwright.generation.api import MAX_TOP_LOGPROBS
from chatwright.serve.openai.errors import APIError, unsupported

MAX_N = 8
MAX_STOP = 4
MAX_MESSAGES = 256
MAX_TEXT = 1_000_000  # characters of one text
MAX_PROMPTS = 128
MAX_PROMPT_TOKENS = 200_000
MAX_TOOLS = 64
MAX_INPUTS = 256
MAX_BIASES = 1024
MAX_TOKENS = 2**31 - 1

Text = Annotated[str, Field(max_length=MAX_TEXT)]
Count = Annotated[int, Field(ge=1, le=MAX_TOKENS)]
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
# An error for each of 200,000 items would hold the event loop for seconds: the first one is enough.
TokenIds = Annotated[list[TokenId], Field(min_length=1, max_length=MAX_PROMPT_TOKENS, fail_fast=True)]
Texts = Annotated[list[Text], Field(fail_fast=True)]
ManyTokenIds = Annotated[list[TokenIds], Field(fail_fast=True)]
StopText = Annotated[str, Field(min_length=1, max_length=1000)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Bias = Annotated[float, Field(ge=-100, le=100)]
ToolName = Annotated[str, Field(min_length=1, max_length=64, pattern="^[a-zA-Z0-9_.-]+$")]
JsonObject = dict[str, Any]


class Wire(BaseModel):
    """Base of all requests."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


# ---- messages and tools ------------------------------------------------------------------------------------


class TextPart(Wire):
    """A piece of a message."""

    type: Literal["text", "input_text", "output_text", "refusal"]
    text: Text | None = None
    refusal: Text | None = None


class FunctionCall(Wire):
    """The function that an earlier answer called."""

    name: ToolName
    arguments: Text = ""
    """JSON text."""


class ToolCall(Wire):
    """A call in an earlier answer."""

    id: Annotated[str, Field(max_length=256)] = ""
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(Wire):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[TextPart], Field(max_length=256)] | None = None
    name: Annotated[str, Field(max_length=256)] | None = None
    refusal: Text | None = None
    """Of an earlier answer: stands for its content where that is null."""
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_TOOLS)] | None = None
    tool_call_id: Annotated[str, Field(max_length=256)] | None = None

    @property
    def text(self) -> str:
        """The whole text of the message."""
        if isinstance(self.content, list):
            return "".join(part.text or part.refusal or "" for part in self.content)
        return self.content or self.refusal or ""

    @model_validator(mode="before")
    @classmethod
    def _only_text(cls, value: Any) -> Any:
        parts = value.get("content") if isinstance(value, dict) else None
        for part in parts if isinstance(parts, list) else ():
            kind = part.get("type") if isinstance(part, dict) else None
            if kind in ("image_url", "input_image", "input_audio", "file", "input_file"):
                raise unsupported("messages", f"content of type {kind}; this model reads text only")
        return value

    @model_validator(mode="after")
    def _has_content(self) -> ChatMessage:
        if self.content is None and not (self.role == "assistant" and (self.tool_calls or self.refusal)):
            raise APIError(400, f"messages: the {self.role} message has no content", param="messages")
        return self


class FunctionSpec(Wire):
    """A function the model may call."""

    name: ToolName
    description: Text | None = None
    parameters: JsonObject | None = None
    """JSON schema of the arguments."""
    strict: bool | None = None


class Tool(Wire):
    """A function of the client's that the model may call."""

    type: Literal["function"]
    function: FunctionSpec


class CalculatorTool(Wire):
    """The server's own: arithmetic in the last message is worked out exactly and told as a step."""

    type: Literal["calculator"]


AnyTool = Annotated[Tool | CalculatorTool, Field(discriminator="type")]


class NamedFunction(Wire):
    """A function by name."""

    name: ToolName


class NamedTool(Wire):
    """The tool that has to be used."""

    type: Literal["function"]
    function: NamedFunction


class AllowedTool(Wire):
    """A tool by name."""

    type: Literal["function", "calculator"]
    function: NamedFunction | None = None


class AllowedToolsMode(Wire):
    """The tools that may be used, and whether one is required."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[AllowedTool], Field(min_length=1, max_length=MAX_TOOLS)]


class AllowedTools(Wire):
    """The tools of this turn: a choice from `tools`."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedToolsMode


ToolChoice = Annotated[NamedTool | AllowedTools, Field(discriminator="type")]


class StreamOptions(Wire):
    """What a stream reports besides the answer."""

    include_usage: bool | None = None
    """A last chunk with `choices: []` and the token counts."""
    continuous_usage_stats: bool | None = None
    """Token counts so far in every chunk."""
    include_obfuscation: bool | None = None
    """Accepted; padding against traffic analysis is not added."""


class SchemaFormat(Wire):
    """A JSON schema with a name."""

    name: Annotated[str, Field(max_length=64)] = ""
    description: Text | None = None
    schema_: JsonObject | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Wire):
    """What the answer has to look like."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaFormat | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> ResponseFormat:
        if self.type == "json_schema" and (self.json_schema is None or self.json_schema.schema_ is None):
            raise APIError(400, "response_format: type json_schema needs json_schema.schema", param="response_format")
        return self


class StructuredOutputs(Wire):
    """Exactly one restriction of the answer, named as vLLM does."""

    json_: JsonObject | Text | None = Field(default=None, alias="json")
    regex: Text | None = None
    choice: Annotated[list[Text], Field(min_length=1, max_length=1024)] | None = None
    grammar: Text | None = None
    """llguidance's Lark."""

    @model_validator(mode="after")
    def _one(self) -> StructuredOutputs:
        if sum(value is not None for value in (self.json_, self.regex, self.choice, self.grammar)) != 1:
            message = "structured_outputs: give exactly one of json, regex, choice, grammar"
            raise APIError(400, message, param="structured_outputs")
        return self

    def as_constraint(self) -> tuple[str, str]:
        """(kind, value) of `generation.api.Constraint`."""
        if self.json_ is not None:
            return "json_schema", self.json_ if isinstance(self.json_, str) else json.dumps(self.json_)
        if self.choice is not None:
            return "choice", json.dumps(self.choice)
        return ("regex", self.regex) if self.regex is not None else ("lark", self.grammar or "")


# ---- generation --------------------------------------------------------------------------------------------


def _few_stops(value: Any) -> Any:
    """Refuse too many here: of a union, pydantic would name the branch that the value was never meant for."""
    if isinstance(value, list) and len(value) > MAX_STOP:
        raise ValueError(f"at most {MAX_STOP} stop sequences are taken, {len(value)} were given")
    return value


def _few_biases(value: Any) -> Any:
    """Refuse too many before each of them is looked at."""
    if isinstance(value, dict) and len(value) > MAX_BIASES:
        raise ValueError(f"at most {MAX_BIASES} tokens")
    return value


class Generation(Wire):
    """What chat and raw completions share."""

    model: Annotated[str, Field(max_length=256)] | None = None
    """A name of /v1/models; left out: the default model."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=1_000_000)] | None = None
    """0 or -1: off."""
    n: Annotated[int, Field(ge=1, le=MAX_N)] | None = None
    stop: Annotated[StopText | list[StopText] | None, BeforeValidator(_few_stops)] = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    logit_bias: Annotated[
        dict[Annotated[str, Field(pattern="^[0-9]{1,9}$")], Bias], Field(max_length=MAX_BIASES), BeforeValidator(_few_biases)
    ] | None = (
        None
    )
    """Token id -> number added to its logit."""
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    ignore_eos: bool | None = None
    """Never stop by itself."""
    user: Annotated[str, Field(max_length=256)] | None = None
    script: Annotated[str, Field(max_length=256)] | None = None
    """Ours: scripts that the answer may use, such as "Han", "Latin", "emoji", "Han|Latin"."""
    structured_outputs: StructuredOutputs | None = None
    response_format: ResponseFormat | None = None
    overflow: Literal["error", "drop_oldest"] | None = None
    """Ours: what happens to a conversation longer than the context."""

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, value: Any) -> Any:
        """Sampling settings of other servers that this one would have to ignore."""
        if isinstance(value, dict):
            for name, neutral in _NOT_OFFERED.items():
                if (given := value.get(name)) is not None and given not in neutral:
                    raise unsupported(name)
        return value

    @model_validator(mode="after")
    def _stream_options(self) -> Generation:
        if self.stream_options is not None and not self.stream:
            raise APIError(400, "stream_options needs stream: true", param="stream_options")
        if sum(self.restrictions()) > 1:
            message = "give only one of script, response_format, structured_outputs"
            raise APIError(400, message, param="script" if self.script else "structured_outputs")
        return self

    def restrictions(self) -> tuple[bool, bool, bool]:
        """Which restrictions of the answer are given."""
        formatted = self.response_format is not None and self.response_format.type != "text"
        return bool(self.script), formatted, self.structured_outputs is not None

    @property
    def include_usage(self) -> bool:
        """Whether the stream ends with token counts."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def usage_everywhere(self) -> bool:
        """Whether every chunk has token counts."""
        return bool(self.stream_options and self.stream_options.continuous_usage_stats)


_NOT_OFFERED: dict[str, tuple[Any, ...]] = {
    # Name -> values under which nothing would change.
    "audio": (),
    "modalities": (["text"],),
    "functions": ([],),
    "function_call": ("none",),
    "prediction": (),
    "web_search_options": (),
    "min_p": (0, 0.0),
    "repetition_penalty": (1, 1.0),
    "length_penalty": (1, 1.0),
    "min_tokens": (0,),
    "use_beam_search": (False,),
    "stop_token_ids": ([],),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "continue_final_message": (False,),
    "add_generation_prompt": (True,),
    "prompt_logprobs": (),
}


class ChatRequest(Generation):
    """POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Count | None = None
    """The newer name of max_tokens; wins over it."""
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    tools: Annotated[list[AnyTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    """`allowed_tools` is read as `tools` without the others, and its mode."""
    parallel_tool_calls: bool | None = None

    @property
    def functions(self) -> list[Tool]:
        """The client's own tools."""
        return [tool for tool in self.tools or () if isinstance(tool, Tool)]

    @property
    def calculator(self) -> bool:
        """Whether the server's calculator may be used."""
        return self.tool_choice != "none" and len(self.functions) < len(self.tools or ())

    @model_validator(mode="after")
    def _only_allowed_tools(self) -> ChatRequest:
        if not isinstance(self.tool_choice, AllowedTools):
            return self
        choice = self.tool_choice.allowed_tools
        allowed = {tool.function.name if tool.function else tool.type for tool in choice.tools}
        given = {tool.function.name if isinstance(tool, Tool) else tool.type: tool for tool in self.tools or ()}
        if missing := sorted(allowed - given.keys()):
            raise APIError(400, f"tool_choice: {missing[0]} is not among the tools", param="tool_choice")
        self.tools, self.tool_choice = [tool for name, tool in given.items() if name in allowed], choice.mode
        return self

    @model_validator(mode="after")
    def _together(self) -> ChatRequest:
        if self.top_logprobs and not self.logprobs:
            raise APIError(400, "top_logprobs needs logprobs: true", param="top_logprobs")
        choice, names = self.tool_choice, {tool.function.name for tool in self.functions}
        if (choice == "required" or isinstance(choice, NamedTool)) and not names:
            raise APIError(400, "tool_choice: there are no functions to choose from", param="tool_choice")
        if isinstance(choice, NamedTool) and choice.function.name not in names:
            raise APIError(400, f"tool_choice: {choice.function.name} is not among the tools", param="tool_choice")
        if len(names) < len(self.functions):
            raise APIError(400, "tools: two tools have the same name", param="tools")
        return self


class CompletionRequest(Generation):
    """POST /v1/completions."""

    prompt: Text | TokenIds | Annotated[Texts | ManyTokenIds, Field(min_length=1, max_length=MAX_PROMPTS)]
    max_tokens: Annotated[int, Field(ge=0, le=MAX_TOKENS)] | None = None
    """0 with echo: the prompt is scored and nothing is added."""
    logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    echo: bool | None = None
    best_of: Annotated[int, Field(ge=1, le=MAX_N)] | None = None
    suffix: Text | None = None

    def prompts(self) -> list[str | tuple[int, ...]]:
        """One or more prompts."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [tuple(self.prompt)]
        return [one if isinstance(one, str) else tuple(one) for one in self.prompt]

    @model_validator(mode="after")
    def _together(self) -> CompletionRequest:
        if self.suffix:
            raise unsupported("suffix", "no model here was trained to fill a gap")
        if self.best_of is not None and self.best_of < (self.n or 1):
            raise APIError(400, f"best_of {self.best_of}: must be at least n ({self.n})", param="best_of")
        if self.best_of is not None and self.best_of > (self.n or 1) and self.stream:
            raise APIError(400, "best_of cannot be streamed: the best answer is known at the end", param="best_of")
        if self.max_tokens == 0 and not self.echo:
            raise APIError(400, "max_tokens 0 gives nothing without echo", param="max_tokens")
        if len(self.prompts()) * (self.best_of or self.n or 1) > 4 * MAX_PROMPTS:
            raise APIError(400, f"prompt: more than {4 * MAX_PROMPTS} answers in one request", param="prompt")
        return self


# ---- embeddings, tokens ------------------------------------------------------------------------------------


class EmbeddingRequest(Wire):
    """POST /v1/embeddings."""

    input: Text | TokenIds | Annotated[Texts | ManyTokenIds, Field(min_length=1, max_length=MAX_INPUTS)]
    model: Annotated[str, Field(max_length=256)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    """base64: little-endian float32."""
    dimensions: Count | None = None
    user: Annotated[str, Field(max_length=256)] | None = None

    def inputs(self) -> list[str | tuple[int, ...]]:
        """One or more inputs. APIError for an empty text."""
        if isinstance(self.input, str):
            found: list[str | tuple[int, ...]] = [self.input]
        elif isinstance(self.input[0], int):
            found = [tuple(self.input)]
        else:
            found = [one if isinstance(one, str) else tuple(one) for one in self.input]
        if any(not one for one in found):
            raise APIError(400, "input: an empty text has no embedding", param="input")
        return found


class TokenizeRequest(Wire):
    """POST /tokenize: a text, or a conversation."""

    model: Annotated[str, Field(max_length=256)] | None = None
    prompt: Text
    add_special_tokens: bool | None = None
    """Put the model's first token (bos) before the text where it is used to one."""
    return_token_strs: bool | None = None


class DetokenizeRequest(Wire):
    """POST /detokenize."""

    model: Annotated[str, Field(max_length=256)] | None = None
    tokens: Annotated[list[TokenId], Field(max_length=MAX_PROMPT_TOKENS, fail_fast=True)]


def constraint_of(body: Generation) -> tuple[str, str] | None:
    """(kind, value) of what restricts the answer, None for nothing."""
    if body.script:
        return "script", body.script
    if body.structured_outputs is not None:
        return body.structured_outputs.as_constraint()
    form = body.response_format
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return "json_object", ""
    if form.json_schema is None:
        raise ConfigError("response_format: json_schema is missing")
    return "json_schema", json.dumps(form.json_schema.schema_)
