"""What labellers' screens read and write. Never in it: model names, labels of others, or whether a task is gold.

Letters here are those on the screen: A is the answer shown first. The server translates to and from the letters of the
stored ranking (letter i is answer i), so that no position tells where an answer came from.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from chatwright.serve.chat.wire import MAX_TEXT, Wire

MAX_DRAFT_JSON = 400_000
Kind = Literal["prompt", "demonstrate", "rate", "rank", "compare", "adjudicate"]
Language = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
Id = Annotated[str, Field(min_length=1, max_length=64)]
Uuid = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Letter = Annotated[str, Field(pattern=r"^[A-Ia-i]$")]
Flag = Literal[
    "fails_instruction", "inappropriate_for_assistant", "hallucination", "satisfies_constraint", "sexual_content",
    "violent_content", "encourages_harm", "denigrates_protected_class", "harmful_advice", "expresses_opinion",
    "moral_judgement",
]  # fmt: skip
SkipReason = Literal[
    "unclear", "wrong_language", "too_difficult", "unsafe", "personal_data", "duplicate", "broken", "other"
]  # fmt: skip


class Turn(Wire):
    """A message."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Text


class TaskAnswer(BaseModel):
    """An answer at its place on the screen."""

    letter: str
    """A for the first one shown, and so on."""
    text: str
    finish_reason: str
    """stop, length, ...; "length": it was cut off."""


class Guideline(BaseModel):
    """A version of a guideline."""

    id: str
    project: str
    language: str
    version: int
    text: str
    created_at: float


class OtherLabel(BaseModel):
    """For an adjudicator: what a labeller said, in letters of this screen."""

    labeller_kind: str
    ranking: str
    unranked: list[str]
    comment: str


class Draft(BaseModel):
    """Unfinished work as the server has it."""

    revision: int
    """0: nothing is kept yet."""
    content: dict[str, Any]


class Value(Wire):
    """What is said about a task; which fields are for which kind: `docs/howto/label.md`."""

    ranking: Annotated[str, Field(max_length=64)] = ""
    """rank, adjudicate: `D>C>A=B`, best first, in letters of the screen."""
    unranked: Annotated[list[Letter], Field(max_length=9)] = []
    """Letters left out on purpose, where the project allows it."""
    none_acceptable: bool = False
    """No answer is good enough to be given to anybody."""
    cannot_judge: bool = False
    """The labeller lacks what is needed to judge; then there may be no ranking."""
    likert: Annotated[list[Annotated[int, Field(ge=1, le=7)] | None], Field(max_length=9)] | None = None
    """rate, and rank where ratings come first: 1-7 per answer, in the order of the screen."""
    flags: Annotated[list[Annotated[list[Flag], Field(max_length=11)]], Field(max_length=9)] | None = None
    """Flags per answer, in the order of the screen."""
    verdict: Literal["a", "b", "tie", "both_bad"] | None = None
    """compare: a is the one shown first."""


class Written(Wire):
    """What was written. demonstrate: the turns that follow the task's messages, the first and the last by the assistant;
    prompt: a conversation that ends with the user's message."""

    messages: Annotated[list[Turn], Field(max_length=64)] = []
    comment: Annotated[str, Field(max_length=4_000)] = ""
    """To the lead."""


class Seconds(Wire):
    """Active seconds per phase: focus time, idle time after 60 s left out."""

    read: Annotated[float, Field(ge=0, le=1e6)] = 0
    rate: Annotated[float, Field(ge=0, le=1e6)] = 0
    rank: Annotated[float, Field(ge=0, le=1e6)] = 0
    edit: Annotated[float, Field(ge=0, le=1e6)] = 0


class Task(BaseModel):
    """A task as its labeller sees it."""

    id: str
    project: str
    project_name: str
    kind: Kind
    language: str
    messages: list[Turn]
    answers: list[TaskAnswer]
    """In the order of the screen, which is drawn for every labeller."""
    guideline: str
    """Id of the version to follow; "" when there is none. Its text: GET /api/desk/guidelines/{project}."""
    rate_first: bool
    """rank: ratings are asked for before the order."""
    allow_unranked: bool
    model_draft: bool
    """demonstrate: a model's draft may be asked for."""
    style: str
    """prompt: plain, few_shot or user_based."""
    too_fast_s: float
    """Labels made in fewer seconds get a warning."""
    expires_at: float
    """When the place at the task ends unless it is renewed."""
    draft: Draft | None
    others: list[OtherLabel]
    """adjudicate only."""


class Screening(BaseModel):
    """The test before the first task."""

    required: bool
    done: int
    total: int
    passed: bool | None
    """None: not finished yet."""


class Counts(BaseModel):
    """How a labeller stands."""

    today: int
    """Labels since midnight UTC."""
    total: int
    left: int
    """Tasks that wait for this labeller, up to 1000."""
    screening: Screening


class Next(BaseModel):
    """The next task, or why there is none."""

    task: Task | None
    why: Literal["", "nothing_left", "screening_failed"]
    counts: Counts


class Renewed(BaseModel):
    """A place at a task, kept."""

    expires_at: float


class DraftChange(Wire):
    """Unfinished work to keep."""

    revision: Annotated[int, Field(ge=0, lt=2**31)]
    """The revision this work began from; another one in store is a conflict (409, `code` "draft_conflict": read it)."""
    content: dict[str, Any]


class NewLabel(Wire):
    """A label. Sending the same one again is harmless; the same `uuid` with other content is refused."""

    uuid: Uuid
    task: Id
    value: Value = Value()
    payload: Written | None = None
    seconds: Seconds = Seconds()
    guideline: Annotated[str, Field(max_length=64)] = ""
    """Id of the version that was followed."""


class Labelled(BaseModel):
    """A label, kept."""

    uuid: str
    task: str
    state: Literal["current", "surplus", "undone"]
    """surplus: the task had all its labels when this one came; it is kept but does not count."""
    too_fast: bool
    contradictions: int
    """Pairs of answers that ratings and ranking order differently."""


class MyLabel(BaseModel):
    """A label of one's own, in letters of the screen it was made on."""

    uuid: str
    task: str
    project: str
    project_name: str
    kind: Kind
    language: str
    at: float
    state: Literal["current", "surplus", "undone"]
    value: Value
    payload: Written | None
    start: str
    """Beginning of the last message; empty when it was erased."""
    can_undo: bool


class MyLabels(BaseModel):
    """A page, the newest first."""

    labels: list[MyLabel]
    more: bool


class Undone(BaseModel):
    """A label taken back: its task with what was said, to be changed and sent again under a new uuid."""

    task: Task
    value: Value
    payload: Written | None


class Skip(Wire):
    """Why a task is skipped or flagged. A flagged task waits until a lead has looked at it."""

    reason: SkipReason = "other"
    comment: Annotated[str, Field(max_length=2_000)] = ""


class DraftRequest(Wire):
    """Let a model write the next turn of a demonstration."""

    messages: Annotated[list[Turn], Field(max_length=64)] = []
    """Turns written so far, after the task's messages."""


class Profile(Wire):
    """What a labeller chose."""

    languages: Annotated[list[Language], Field(max_length=32)] = []
    """Languages of tasks; empty: any."""


class ProjectInfo(BaseModel):
    """A project as labellers see it."""

    id: str
    name: str
    kinds: list[Kind]
    languages: list[str]
    rate_first: bool
    allow_unranked: bool
    model_draft: bool
    left: dict[str, int]
    """Kind -> tasks that wait for this labeller, up to 1000."""


class ScreeningSettings(Wire):
    """The test before the first task."""

    required: bool = False
    pass_score: Annotated[float, Field(ge=-1, le=1)] = 0.6
    """Mean Kendall tau-b over the screening tasks."""


class ProjectSettings(Wire):
    """A project's settings; those left out stay, or get their defaults in a new project."""

    kinds: Annotated[list[Kind], Field(min_length=1, max_length=6)] | None = None
    languages: Annotated[list[Language], Field(min_length=1, max_length=32)] | None = None
    overlap: dict[Kind, Annotated[int, Field(ge=1, le=100)]] | None = None
    """Labels per task, by kind; holds for tasks added from then on."""
    allow_unranked: bool | None = None
    rate_first: bool | None = None
    k: Annotated[int, Field(ge=2, le=9)] | None = None
    """Answers per ranking task that the server samples."""
    lease_hours: Annotated[float, Field(gt=0, le=24 * 60)] | None = None
    screening: ScreeningSettings | None = None
    gold_share: Annotated[float, Field(ge=0, le=0.5)] | None = None
    too_fast_s: Annotated[float, Field(ge=0, le=3600)] | None = None
    merge_method: Literal["ranked_pairs", "borda", "bradley_terry", "plackett_luce"] | None = None
    adjudicate_below: Annotated[float, Field(ge=0, le=1)] | None = None
    """Agreement under which a task goes to a lead."""
    wage_per_hour: Annotated[float, Field(ge=0, le=1e6)] | None = None
    model_draft: bool | None = None


class NewProject(Wire):
    """A project to begin."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    settings: ProjectSettings = ProjectSettings()


class ProjectChange(Wire):
    """What to change."""

    name: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    settings: ProjectSettings = ProjectSettings()
    archived: bool | None = None


class Project(BaseModel):
    """A project as leads see it."""

    id: str
    name: str
    settings: ProjectSettings
    created_at: float
    archived_at: float | None


class NewGuideline(Wire):
    """A new version of a guideline."""

    language: Language
    text: Annotated[str, Field(min_length=1, max_length=100_000)]


class NewTask(Wire):
    """A task that a lead adds by hand."""

    project: Id
    kind: Kind
    language: Language = "en"
    messages: Annotated[list[Turn], Field(max_length=256)] = []
    answers: Annotated[list[Text], Field(max_length=9)] = []
    gold: Annotated[str, Field(max_length=64)] = ""
    """The right order, in letters of `answers`; every labeller then gets the task once."""
    screening: bool = False
    style: Literal["", "plain", "few_shot", "user_based"] = ""


class Added(BaseModel):
    """The id of something new."""

    id: str


class Resolution(Wire):
    """What a lead decides about a flagged task: it goes back to the queue, or is closed."""

    action: Literal["clear", "close"]
