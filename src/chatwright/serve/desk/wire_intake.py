"""What the routes of consent, withdrawal and intake read and write."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Id = Annotated[str, Field(max_length=64)]
Language = Literal["en", "zh-CN"]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid")


class KeyConsent(BaseModel):
    """An API key and whether what comes with it may be kept."""

    id: str
    name: str
    prefix: str
    training_consent: bool
    of_server: bool
    """Whether it is the server's own key, for administrators to decide about."""


class Remaining(BaseModel):
    """Something that a withdrawal does not erase."""

    kind: Literal["model", "copy", "backups", "chats", "links"]
    """model: it learned from the texts. copy: a download or copy of an export that held them. backups: copies of the
    database in the workspace. chats, links: the person's own, which only they delete."""
    name: str = ""
    """Of the model; of an export, the beginning of its id; of backups, for administrators."""
    version: str = ""
    """The beginning of the hash of the model's files. Of a copy, for administrators: which file, or which folder."""
    by: str = ""
    """Holder of a copy, for administrators: the id of an account, or cli."""
    at: float = 0.0
    """When it was made, in seconds since 1970; 0: not known."""
    count: int = 1


class ConsentInfo(BaseModel):
    """What somebody has agreed to."""

    training_consent: bool
    """Whether the chats and arena battles of the account may be kept."""
    since: float | None
    """When that was changed last."""
    keys: list[KeyConsent]
    notice: str
    """What to tell people before they agree, in the language asked for."""
    notice_version: int
    kept_texts: int
    """Texts of, or made from those of, this person that are kept now."""
    withdrawn_at: float | None = None
    """When the person withdrew last."""
    remains: list[Remaining] = []
    """After a withdrawal: what it could not erase."""


class ConsentChange(_Wire):
    """What to agree to, or no more."""

    training_consent: bool
    key: Id = ""
    """Id of an API key; empty: the account's chats and battles."""


class NewWithdrawal(_Wire):
    """Whose texts to erase. Empty: one's own; others only by administrators."""

    user: Id = ""
    key: Id = ""
    """An API key that belongs to nobody, such as the server's own."""
    imported_user: Annotated[str, Field(max_length=1024)] = ""
    """A person without an account, as the `user` field of imported rows names them."""


class Withdrawal(BaseModel):
    """What a withdrawal did."""

    erased: int
    """Texts that were erased now."""
    exports: int
    """Exports that held texts of this person; their folders are deleted."""
    models: int
    """Models that have learned from such exports; `remains` names them."""
    remains: list[Remaining]
    """Things that could not be erased."""
    wiped: bool
    """Whether the database's files hold none of it any more. False: a reader was in the way; it is done within a minute."""


class FunnelLine(BaseModel):
    """One count."""

    day: str
    source: str
    """api, chat or arena."""
    step: str
    reason: str
    count: int


class FunnelStep(BaseModel):
    """A step of the intake over all days and sources."""

    step: str
    keeps_out: bool
    """Whether its counts are of what was kept out."""
    count: int
    reasons: dict[str, int]


class IntakeInfo(BaseModel):
    """The funnel and what feeds it."""

    steps: list[FunnelStep]
    """In the order in which they are passed."""
    lines: list[FunnelLine]
    """The same by day, the newest first."""
    days: int
    waiting: int
    """Requests that wait for the intake right now."""
    accounts_agreed: int
    keys_agreed: int
    prompts: int
    """Prompts kept now."""
    per_person: int
    """Prompts of one person at most."""
    held_out_share: float


class Collected(BaseModel):
    """What was made of the chat's answers and the arena's votes."""

    tasks: int
