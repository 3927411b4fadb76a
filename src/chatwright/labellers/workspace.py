"""`chatwright feedback label`: labellers that are no people work off a workspace's queue, like people do.

They claim a place at a task and submit a label with their kind; overlap, screening and gold hold for them as for everybody.
One protocol (`Labeller`): whoever ranks answers can sit here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy.orm import Session

from chatwright.errors import ConfigError, DataError
from chatwright.feedback import jobs, queue
from chatwright.feedback.commands import opened, project_named
from chatwright.feedback.events import new_uuid
from chatwright.feedback.labels import Submission
from chatwright.feedback.payloads import contents
from chatwright.feedback.tables import TaskRow
from chatwright.labellers.ai_judge import AIJudge, AIJudgeConfig
from chatwright.labellers.commands import with_key
from chatwright.labellers.general import GeneralRubric
from chatwright.labellers.protocol import Labeller, LabelTask
from chatwright.labellers.rubric import Rubric, rubric_for
from chatwright.labellers.simulated import DEFAULT_TIE_WIDTH, SimulatedLabeller
from chatwright.progress import console
from chatwright.records import IN_MEMORY, Prompt, Ranking
from chatwright.workspace.database import Workspace

KINDS = ("rank", "compare")


@dataclass(frozen=True, kw_only=True)
class RubricConfig:
    """A rubric as a labeller that errs as people do. Its labels are marked as simulated wherever they go."""

    rubric: Literal["general-en", "museum-en", "museum-zh"] = "general-en"
    """What it judges by; the museum's need key words in the prompts."""
    noise: float = 0.15
    """Expected share of strict pairs that are turned round, 0 to 0.5."""
    tie_width: float = DEFAULT_TIE_WIDTH
    """Answers whose scores differ by at most this are tied."""
    seed: int = 0
    """Whose mistakes: labellers of different seeds err in different places, and have names of their own."""


@dataclass(frozen=True, kw_only=True)
class DeskLabelConfig:
    """Let a labeller that is no person work off the queue of a workspace."""

    workspace: str = "workspace"
    """Folder of the workspace."""
    database: str = ""
    """Database URL; empty: CHATWRIGHT_DATABASE_URL, else SQLite in the workspace."""
    project: str = ""
    """Name or id of the project; empty: the first one."""
    labeller: Literal["simulated", "ai"] = "simulated"
    """A rubric, or a model behind an OpenAI-compatible endpoint."""
    simulated: RubricConfig = RubricConfig()
    """Settings of the simulated labeller."""
    ai: AIJudgeConfig | None = None
    """The judge's address and model. The key: --ai.api-key, JUDGE_API_KEY, or a file named by JUDGE_API_KEY_FILE."""
    limit: int = 0
    """Most tasks; 0: all that wait."""

    def __post_init__(self) -> None:
        if self.labeller == "ai" and self.ai is None:
            raise ConfigError("--labeller ai needs --ai.base-url and --ai.model, the judge's address and name")
        if self.labeller == "simulated" and self.ai is not None:
            raise ConfigError("--ai.* has no effect with --labeller simulated; use --labeller ai")
        if self.limit < 0:
            raise ConfigError(f"--limit {self.limit}: must not be negative")


@dataclass(frozen=True, kw_only=True)
class Worked:
    """What a labeller did."""

    labels: int
    """Labels that count."""
    surplus: int
    """Labels that came after the task had all it needed."""
    skipped: int
    """Tasks it could not judge: no key words, withdrawn texts, replies of an AI judge that hold no verdict."""


def label_desk(cfg: DeskLabelConfig) -> dict[str, Any]:
    """Work off the queue; returns counts. Running it again goes on with what is left."""
    labeller: Labeller
    if cfg.ai is not None:
        labeller = AIJudge(with_key(cfg.ai))
    else:
        labeller = simulated(cfg.simulated)
    with opened(cfg.workspace, cfg.database) as workspace:
        with workspace.session() as session:
            project = project_named(session, cfg.project)
        done = work_off(workspace, labeller, project=project.id, limit=cfg.limit)
    said = f"{done.labels} labels ({done.surplus} surplus, {done.skipped} tasks skipped)"
    replies = f"; {labeller.counts.text()}" if isinstance(labeller, AIJudge) else ""
    console().print(f"feedback label: {labeller.name} ({labeller.kind}): {said}{replies}")
    return {"labels": done.labels, "surplus": done.surplus, "skipped": done.skipped, **reply_counts(labeller)}


def reply_counts(labeller: Labeller) -> dict[str, int]:
    """Replies of an AI judge and how many were unreadable; nothing for other labellers."""
    return labeller.counts.to_dict() if isinstance(labeller, AIJudge) else {}


def rubric_named(name: str) -> Rubric:
    """general-en or a museum's."""
    return GeneralRubric() if name == "general-en" else rubric_for(name.removeprefix("museum-"))


def simulated(cfg: RubricConfig) -> SimulatedLabeller:
    """The labeller of these settings; the seed is part of its name, so that five of them are five labellers."""
    rubric, name = rubric_named(cfg.rubric), cfg.rubric if not cfg.seed else f"{cfg.rubric}-{cfg.seed}"
    return SimulatedLabeller(rubric, noise=cfg.noise, tie_width=cfg.tie_width, seed=cfg.seed, name=name)


def work_off(
    workspace: Workspace, labeller: Labeller, *, project: str = "", languages: Sequence[str] = (), limit: int = 0
) -> Worked:
    """Claim, rank, submit, until nothing is left for this labeller (or `limit` tasks are done)."""
    labels = surplus = skipped = 0
    lease = jobs.Lease.from_environment()
    while not limit or labels + surplus + skipped < limit:
        with workspace.session() as session:
            if lease is not None:
                jobs.report(session, lease, stage=labeller.name, number=labels + surplus)
            place = queue.claim(session, labeller.name, kinds=KINDS, languages=languages, project=project)
            task, kind = task_of(session, place.task) if place is not None else (None, "")
        if place is None:
            break
        ranking = _rank(labeller, task) if task is not None else None
        with workspace.session() as session:
            if ranking is None:
                queue.skip(session, place.task, labeller.name, "other", kind=labeller.kind)
                skipped += 1
                continue
            given = submission(place.task, kind, labeller, ranking)
            state = queue.submit(session, replace(given, shown_order=place.shown_order)).state
            if lease is not None and (counts := reply_counts(labeller)):
                jobs.note(session, lease, replies=counts["replies"], unreadable=counts["unreadable"])
        labels, surplus = labels + (state == "current"), surplus + (state == "surplus")
    return Worked(labels=labels, surplus=surplus, skipped=skipped)


def task_of(session: Session, task_id: str) -> tuple[LabelTask | None, str]:
    """(what a labeller is given, kind) of a task; None when its texts were withdrawn."""
    row = session.get_one(TaskRow, task_id)
    ids = [str(answer["payload_id"]) for answer in row.answers]
    texts = contents(session, [row.prompt_payload, *ids])
    if row.prompt_payload not in texts or any(one not in texts for one in ids):
        return None, row.kind
    content = texts[row.prompt_payload]
    prompt = Prompt.from_dict({**dict(content.get("meta") or {}), "messages": content["messages"]}, IN_MEMORY)
    return LabelTask(
        prompt=prompt,
        completions=tuple(str(texts[one]["text"]) for one in ids),
        ended=tuple(answer.get("finish_reason", "stop") != "length" for answer in row.answers),
    ), row.kind


def _rank(labeller: Labeller, task: LabelTask) -> Ranking | None:
    """The labeller's ranking; None when it cannot judge this task."""
    try:
        labeller.submit(task)
    except DataError:
        return None
    (ranking,) = labeller.collect()
    return ranking


def submission(task_id: str, kind: str, labeller: Labeller, ranking: Ranking) -> Submission:
    """A ranking as the label of a task."""
    value: dict[str, Any] = {"ranking": str(ranking.order), "unranked": list(ranking.order.unranked)}
    if kind == "compare":
        ((_, _, relation),) = ranking.order.pairs()
        value = {"verdict": {1: "a", -1: "b", 0: "tie"}[relation]}
    return Submission(uuid=new_uuid(), task=task_id, labeller=labeller.name, labeller_kind=labeller.kind, value=value)
