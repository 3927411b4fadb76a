"""What the leads' pages of import, export, jobs and models read and write."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from chatwright.feedback.worker import Lane
from chatwright.serve.chat.wire import Wire

LabellerKind = Literal["human", "simulated", "ai"]
JobState = Literal["queued", "running", "done", "failed", "cancelled"]
Name = Annotated[str, Field(max_length=256)]
Split = Literal["train", "held_out"]
ExportFile = Literal["rankings", "demonstrations", "prompts", "ratings"]


class Import(Wire):
    """A file to take in: rankings, samples to be ranked, demonstrations, prompts, in any format that `data import` reads."""

    project: Name = ""
    """Id or name; empty: the default project."""
    file: Name = "rows"
    """Name of the file. Its ending tells a table (.csv, .tsv, .xlsx) from JSON; without one it is JSON lines."""
    rows: Annotated[str, Field(max_length=1_900_000)] = ""
    """The file's text. Send a large file of JSON lines in parts; a row that was taken in before is not taken in again."""
    content: Annotated[str, Field(max_length=1_900_000)] = ""
    """Instead of `rows`: the file's bytes in base64, for a workbook, or for text that may not be UTF-8."""
    encoding: Annotated[str, Field(max_length=40)] = ""
    """Encoding of `content` that is not UTF-8; empty: UTF-8, or what is beyond doubt."""
    labeller_kind: Literal["", "human", "simulated", "ai"] = ""
    """Who made labels of rows that do not say it; empty: such rows are refused."""


class Imported(BaseModel):
    """What was made of them."""

    tasks: int
    """New tasks."""
    labels: int
    """New labels."""
    surplus: int
    """Of these, labels that do not count: their task had all it asked for."""
    known: int
    """Rows that were taken in before."""
    kinds: dict[str, int]
    """Records that the workspace took, by kind: rankings, samples, demonstrations, prompts."""
    bad: list[str]
    """Why rows could not be used, at most 50 of them."""
    num_bad: int
    """Rows that could not be used: damaged ones, and those that the workspace refused."""
    format: str
    """Format that was recognised, or several joined by `and`."""
    rows: int
    """Rows of the file: the sum of `used`, `left_out` and the damaged ones."""
    used: int
    """Rows that became records."""
    left_out: dict[str, int]
    """Sound rows, and parts of used ones, that became no record, by reason."""
    lost_fields: dict[str, int]
    """Fields of used rows that are not kept, and the number of their rows."""
    unused_marks: dict[str, int]
    """Fields that look like a preference, a label or a weight and are kept without an effect."""


class NewExport(Wire):
    """Which labels to freeze."""

    project: Name = ""
    """Id or name; empty: all."""
    labeller_kinds: Annotated[list[LabellerKind], Field(min_length=1, max_length=3)] = ["human", "simulated", "ai"]
    languages: Annotated[list[Annotated[str, Field(min_length=1, max_length=16)]], Field(max_length=32)] = []
    """Empty: all."""
    rankings: Literal["labels", "merged"] = "labels"
    """A row per label, or per task with the merged order."""


class ExportCopy(BaseModel):
    """A copy of an export that left the workspace."""

    kind: Literal["download", "folder"]
    place: str
    """The file that was downloaded, or the folder of `--out`."""
    actor: str
    """Id of the account; cli."""
    at: float


class Export(BaseModel):
    """A frozen folder."""

    id: str
    """sha256 of its manifest."""
    path: str
    filters: dict[str, Any]
    counts: dict[str, dict[str, int]]
    """Split -> file -> rows."""
    left_out: dict[str, int]
    """Reason -> rows."""
    withdrawn: int
    """Texts in it that were withdrawn since: above 0 its folder is deleted, and copies are to be deleted by hand."""
    undone: int
    """Labels in it that were taken back since. The next export leaves them out."""
    copies: list[ExportCopy]
    """Known copies outside the workspace, the oldest first."""
    models: list[str]
    """Ids of models trained on it."""
    created_by: str
    created_at: float


class StageDials(Wire):
    """Size dials of a retraining; those left out keep the command's own values."""

    sft_epochs: Annotated[int, Field(ge=1, le=50)] | None = None
    max_new_tokens: Annotated[int, Field(ge=8, le=1024)] | None = None
    reward_epochs: Annotated[int, Field(ge=1, le=50)] | None = None
    reward_lr: Annotated[float, Field(gt=0, le=1)] | None = None
    reward_held_out: Annotated[float, Field(ge=0, lt=1)] | None = None
    ppo_steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    ppo_batch: Annotated[int, Field(ge=4, le=512)] | None = None
    beta: Annotated[float, Field(ge=0, le=10)] | None = None
    ptx_gamma: Annotated[float, Field(ge=0, le=100)] | None = None
    eval_questions: Annotated[int, Field(ge=0, le=5000)] | None = None
    eval_max_new_tokens: Annotated[int, Field(ge=8, le=1024)] | None = None
    eval_samples: Annotated[int, Field(ge=1, le=16)] | None = None
    frozen_layers: Annotated[int, Field(ge=0, le=100)] | None = None


class Retrain(Wire):
    """Settings of `chatwright retrain`."""

    project: Name = ""
    """Empty: the labels of all projects."""
    serving_name: Name = ""
    """Whose place the new model is to take: a name of /v1/models; empty: the default model's."""
    labeller_kinds: Annotated[list[LabellerKind], Field(min_length=1, max_length=3)] = ["human", "simulated", "ai"]
    rankings: Literal["labels", "merged"] = "labels"
    """A ranking per label, or per merged task."""
    judge: Literal["", "general-en"] = ""
    """A rubric that judges the comparison besides the reward model. It stands for nobody: what it says is shown as such."""
    ignore_gate: bool = False
    """Go on to PPO even when the report card forbids it."""
    compare_tasks: Annotated[int, Field(ge=0, le=1000)] = 0
    """Pairs of answers, old and new model, that are put into the queue for people to compare blindly."""
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0
    stages: StageDials = StageDials()


class LabelRun(Wire):
    """Let a labeller that is no person work off the queue."""

    labeller: Literal["simulated", "ai"]
    project: Name = ""
    limit: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Most tasks; 0: all."""
    judge: Name = ""
    """ai: a judge that the operator has configured (`GET /api/desk/judges`)."""
    noise: Annotated[float, Field(ge=0, lt=0.5)] = 0.15
    """simulated: share of strict pairs that are turned round."""
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0
    """simulated: whose mistakes."""


class JudgeRow(BaseModel):
    """An AI judge that the operator has configured (`--judge`). Its address stays on the server."""

    name: str
    model: str


class NewJob(Wire):
    """A job: `retrain` or `label`, with the settings of that kind."""

    kind: Literal["retrain", "label"]
    retrain: Retrain | None = None
    label: LabelRun | None = None


class Progress(BaseModel):
    """How far a job is."""

    stage: str = ""
    number: int = 0
    """Of the stage, from 1."""
    of: int = 0
    line: str = ""
    """The newest line of the log."""


class Job(BaseModel):
    """A job."""

    id: str
    kind: str
    lane: Lane
    """Jobs of one lane run one after another; the lanes run beside one another."""
    state: JobState
    settings: dict[str, Any]
    progress: Progress
    result: dict[str, Any]
    message: str
    """Why it failed."""
    attempts: int
    cancel: bool
    """Somebody wants it to end; it saves itself first."""
    created_by: str
    created_at: float
    started_at: float | None
    ended_at: float | None


class JobLog(BaseModel):
    """A piece of a log."""

    text: str
    start: int
    """Its place in the log, in bytes."""
    end: int
    """Ask for `after=end` to read on."""


class Verdict(BaseModel):
    """One judge's win rate of a model over the one that served; ties count one half."""

    judge: str
    judge_kind: Literal["human", "ai", "held_out", "simulated", "learned"]
    """held_out: a reward model trained on rankings that the training reward never saw. learned: the reward model that the
    model was trained on, an upper bound, which never decides."""
    rate: float
    low: float
    high: float
    """Interval: 95 % bootstrap over questions; of people a confidence sequence, which holds after every vote."""
    p: float | None = None
    """One-sided p-value of "not preferred"; None for people, whose interval decides."""
    n: int
    questions: int
    ties: float
    replies: int = 0
    """Of an AI judge; 0 for other judges."""
    unreadable: int = 0
    """Replies of an AI judge that hold no verdict; their questions are left out."""
    judge_gate: str = ""
    """Why the report card of a judging reward model is not good enough; such a verdict does not decide."""


class ServedName(BaseModel):
    """A name that clients use, and who answers under it."""

    name: str
    model_id: str
    """"configured": the model that the server was started with."""
    not_promoted: str
    """Why the configured model answers instead of `model_id`; "" where `model_id` answers."""
    can_roll_back: bool
    before: str
    """What a roll-back brings back: an id or "configured"."""


class ServingStep(BaseModel):
    """A promotion or roll-back."""

    name: str
    model_id: str
    action: Literal["promoted", "rolled_back"]
    reason: str
    forced: bool
    actor: str
    at: float


class Model(BaseModel):
    """A trained model."""

    id: str
    name: str
    path: str
    base: str
    parent_id: str | None
    job_id: str
    manifest: str
    """sha256 of its folder's manifest."""
    report_card: dict[str, Any]
    """Of its reward model: accuracy, interval, calibration, gate."""
    has_report: bool
    """True when the run that made it left figures for a page (`/api/desk/models/{model_id}/report`)."""
    verdicts: list[Verdict]
    gate: Verdict | None
    """The verdict that decides about promotion."""
    against: str
    """The model it was compared with."""
    labeller_kinds: dict[str, int]
    """Labels that shaped it, by kind of labeller."""
    withdrawn: int
    """Texts it learned from that were withdrawn since."""
    refusals: dict[str, str]
    """Served name -> why it may not be promoted to it without force; "" when it may."""
    refusal_codes: dict[str, Literal["", "never_compared", "upper_bound", "other_serves", "not_above"]]
    """The same as a code."""
    attempt: int
    """The number of models compared with the same serving model, this one included."""
    alpha: float
    """Chance of error that this attempt may spend; `p` of the deciding verdict must not be above it."""
    serves: list[str]
    """Names it serves under now."""
    created_by: str
    created_at: float


class Models(BaseModel):
    """All models, the newest first, and what serves."""

    models: list[Model]
    serving: list[ServedName]
    history: list[ServingStep]


class Promotion(Wire):
    """Let a model serve."""

    name: Name = ""
    """The served name it takes over; empty: the default one."""
    force: bool = False
    """Even though its win rate is not above one half; needs `reason`, which is kept."""
    reason: Annotated[str, Field(max_length=2000)] = ""


class RollBack(Wire):
    """Let the model before the present one serve again."""

    name: Name = ""
    reason: Annotated[str, Field(max_length=2000)] = ""


class LabelShare(BaseModel):
    """Labels of one labeller."""

    labeller: str
    labeller_kind: LabellerKind
    kind: str
    labels: int


class LineageLabel(BaseModel):
    """One label that shaped a model."""

    uuid: str
    task: str
    labeller: str
    labeller_kind: LabellerKind
    kind: str
    at: float


class Lineage(BaseModel):
    """Where a model comes from."""

    model: Model
    ancestors: list[str]
    """Ids of models it was trained from, the nearest first."""
    exports: list[Export]
    shares: list[LabelShare]
    num_labels: int
    labels: list[LineageLabel]
    """A page of them."""
