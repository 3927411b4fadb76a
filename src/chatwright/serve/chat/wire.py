"""What the chat API reads and writes, with its limits."""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from chatwright.generation.api import Constraint, SamplingParams
from chatwright.serve.settings import MAX_SHARE_DAYS
from chatwright.text.scripts import script_regex

MAX_TEXT = 200_000  # characters of a message
MAX_SYSTEM = 20_000
MAX_TITLE = 200
MAX_CONVERSATIONS = 5_000  # of one user
MAX_MESSAGES = 2_000  # of one conversation
MAX_PROMPTS = 500  # of one user's library
MAX_SIDE_BY_SIDE = 4
TOP = 5  # alternatives kept per token

Status = Literal["streaming", "complete", "stopped", "error"]
Role = Literal["user", "assistant"]
Language = Literal["en", "zh-CN"]
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
Title = Annotated[str, Field(max_length=MAX_TITLE)]
System = Annotated[str, Field(max_length=MAX_SYSTEM)]
ModelName = Annotated[str, Field(max_length=256)]
Reason = Literal[
    "incorrect", "unhelpful", "off_topic", "wrong_language", "too_long", "too_short", "unsafe", "style",
    "correct", "helpful", "creative", "clear", "other",
]  # fmt: skip


def whole_characters(value: str) -> str:
    """Half a surrogate pair is no character and cannot be stored."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half a surrogate pair, which is no character") from None
    if "\x00" in value:
        raise ValueError("holds a NUL character, which cannot be stored")
    return value


class Wire(BaseModel):
    """Base of everything sent to the chat API; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="after")
    @classmethod
    def _storable(cls, value: Any) -> Any:
        _check_within(value)
        return value


def _check_within(value: Any) -> None:
    if isinstance(value, str):
        whole_characters(value)
    elif isinstance(value, list | tuple):
        for one in value:
            _check_within(one)
    elif isinstance(value, dict):
        for name, one in value.items():
            _check_within(name)
            _check_within(one)


class Settings(Wire):
    """How answers are drawn."""

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    top_k: Annotated[int, Field(ge=0, le=1000)] = 0
    max_tokens: Annotated[int, Field(ge=1, le=32_768)] = 1024
    seed: Annotated[int, Field(ge=0, lt=2**48)] | None = None
    """None: another answer every time."""
    script: Annotated[str, Field(max_length=100)] = ""
    """Unicode scripts the answer is kept to, such as "Han" or "Latin|emoji"; empty: any."""

    @field_validator("script")
    @classmethod
    def _known_script(cls, value: str) -> str:
        if value:
            script_regex(value)  # ConfigError is a ValueError
        return value

    def params(self) -> SamplingParams:
        """As engines read them, with alternatives kept for the token view."""
        return SamplingParams(
            max_new_tokens=self.max_tokens, temperature=self.temperature, top_p=self.top_p, top_k=self.top_k,
            seed=secrets.randbits(48) if self.seed is None else self.seed, top_logprobs=TOP,
            constraint=Constraint(kind="script", value=self.script) if self.script else None,
        )  # fmt: skip


class ModelInfo(BaseModel):
    """A model that can be chosen."""

    name: str
    context_length: int
    ready: bool
    unreachable: str = ""
    """Why the server elsewhere that runs it cannot be reached; empty: it can."""
    default: bool
    version: str = ""
    """Content hash of the model; empty: unknown, as of a server elsewhere, which names it with each answer."""
    upstream: str = ""
    """Host of the server elsewhere that messages are passed on to; empty: this server answers."""
    starters: list[str] = []
    """Questions that suit the model, to begin with; empty: none are known."""


class Preferences(Wire):
    """What a user allows."""

    training_consent: bool = False
    """Whether own conversations may be used as training data; off unless switched on."""


class NewConversation(Wire):
    """A conversation to begin."""

    title: Title = ""
    system: System = ""
    model: ModelName = ""
    """Empty: the server's default."""
    settings: Settings = Settings()


class ConversationChange(Wire):
    """What to change; fields left out stay."""

    title: Annotated[str, Field(min_length=1, max_length=MAX_TITLE)] | None = None
    system: System | None = None
    model: ModelName | None = None
    settings: Settings | None = None
    active_leaf: Annotated[str, Field(max_length=64)] | None = None
    """A message; the conversation is shown from its first message to this one."""


class Feedback(BaseModel):
    """A thumb as it stands."""

    vote: Literal["up", "down", "none"]
    reasons: list[str]
    comment: str


class NewFeedback(Wire):
    """A thumb; `none` takes the last one back."""

    vote: Literal["up", "down", "none"]
    reasons: Annotated[list[Reason], Field(max_length=16)] = []
    comment: Annotated[str, Field(max_length=4_000)] = ""


class Message(BaseModel):
    """A message of the tree."""

    id: str
    parent_id: str | None
    role: Role
    content: str
    status: Status
    origin: Literal["new", "edit", "regenerate", "branch", "import"]
    model: str
    model_version: str
    """Content hash of the model that wrote it; empty: unknown."""
    settings: dict[str, Any]
    steps: list[dict[str, Any]]
    error: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    dropped_messages: int
    """Oldest messages that did not fit into the model's context."""
    has_tokens: bool
    feedback: Feedback | None
    created_at: float


class ConversationHead(BaseModel):
    """A line of the list."""

    id: str
    title: str
    model: str
    created_at: float
    updated_at: float
    excerpt: str = ""
    """In a search: the found place."""


class Conversation(ConversationHead):
    """A whole conversation."""

    system: str
    settings: Settings
    active_leaf: str | None
    share: ShareInfo | None
    """The link to it, while it works."""
    messages: list[Message]
    """Parents before their children."""


class ConversationList(BaseModel):
    """A page of the list, the latest first."""

    conversations: list[ConversationHead]
    more: bool


class Answering(Wire):
    """Who answers, and how."""

    models: Annotated[list[ModelName], Field(max_length=MAX_SIDE_BY_SIDE)] = []
    """Each gives an answer, side by side; empty: the conversation's model. A name may stand twice."""
    settings: Settings | None = None
    """None: the conversation's."""


class NewMessage(Answering):
    """A user's message."""

    content: Text
    parent_id: Annotated[str, Field(max_length=64)] | None = None
    """The answer it follows; None: the active leaf."""


class Edit(Answering):
    """Another wording of a user's message."""

    content: Text


class Branch(Wire):
    """Another token at one place of an answer."""

    token: Annotated[int, Field(ge=0)]
    """Place of the token in the answer."""
    alternative: Annotated[int, Field(ge=0)]
    """Id of the token to put there: one of the alternatives of `/tokens`."""
    settings: Settings | None = None
    """How it goes on; None: as the answer was drawn."""


class Alternative(BaseModel):
    """A token that could have stood there."""

    id: int
    text: str
    logprob: float
    hex: str = ""
    """Its bytes in hexadecimal, where they are a part of a character; empty elsewhere."""
    outside_script: bool = False
    """True when it would break the promise that the answer is kept to a script; such a token cannot be chosen."""


class Token(Alternative):
    """A token of an answer."""

    top: list[Alternative]


class TokenView(BaseModel):
    """An answer by its tokens."""

    message_id: str
    tokens: list[Token]


class NewShare(Wire):
    """A link to make."""

    expires_in_days: Annotated[int, Field(ge=1, le=MAX_SHARE_DAYS)] | None = None
    """None: the server's `--share-days`."""


class ShareInfo(BaseModel):
    """A link without its secret."""

    conversation_id: str
    title: str
    """Of the copy that the link shows."""
    created_at: float
    expires_at: float
    owner: str
    """The account's name."""


class MadeShare(ShareInfo):
    """A new link; `token` is shown this once."""

    token: str


class SharesEnded(BaseModel):
    """Number of links that were switched off."""

    ended: int


class SharedMessage(BaseModel):
    """A message as strangers see it."""

    role: Role
    content: str
    model: str
    model_version: str = ""
    """Content hash of the model that wrote it; empty: unknown."""


class SharedConversation(BaseModel):
    """A conversation as it was when its link was made."""

    title: str
    created_at: float
    messages: list[SharedMessage]


class PromptInfo(BaseModel):
    """A prompt of the library."""

    id: str
    kind: Literal["builtin", "own", "shared"]
    language: Language
    title: str
    text: str
    variables: dict[str, str | None]
    """Names with their defaults."""
    shared: bool


class NewPrompt(Wire):
    """A prompt to keep."""

    language: Language
    title: Annotated[str, Field(min_length=1, max_length=MAX_TITLE)]
    text: Annotated[str, Field(min_length=1, max_length=MAX_SYSTEM)]
    shared: bool = False
    """Whether everybody on this server sees it."""


class PromptValues(Wire):
    """What to fill in."""

    values: dict[str, Annotated[str, Field(max_length=MAX_TEXT)]] = {}


class Rendered(BaseModel):
    """A prompt with its values."""

    text: str
