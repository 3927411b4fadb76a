"""Files into the store: rankings and demonstrations as labels, samples and prompts as tasks that wait for people.

Every row is an event named by its content, so that a row taken in again is the same row. What a row says of its labeller is
kept; nobody's kind is guessed.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sqlalchemy.orm import Session

from chatwright.errors import ChatwrightError, ConfigError, DataError
from chatwright.feedback import consent, queue, store
from chatwright.feedback.labels import Submission
from chatwright.feedback.projects import Project
from chatwright.feedback.tables import LabelRow
from chatwright.feedback.tasks import Answer, NewTask
from chatwright.feedback.values import FLAGS
from chatwright.jsonl import Where
from chatwright.records import Conversation, Demonstration, Prompt, Ranking, conversation_id
from chatwright.workspace.database import Workspace

SHOWN_BAD = 50
_AT_ONCE = 100  # rows in a transaction: others write in between
_OURS = (
    "task", "source", "language", "split", "user", "finish_reason", "finish_reasons", "completion_meta", "model", "models",
    "model_version", "model_versions",
)  # fmt: skip


Numbered = tuple[int, Mapping[str, Any] | DataError]


@dataclass(frozen=True, kw_only=True)
class ImportSettings:
    """How rows are read."""

    language: str = "en"
    """Language of rows that name none."""
    labeller_kind: str = ""
    """human, simulated or ai: of labels that say nothing; empty: such rows are refused."""
    held_out: float = 0.1
    """Share of users, or of prompts where a row names no `user`, that goes into the held-out part."""

    def __post_init__(self) -> None:
        if self.labeller_kind not in ("", "human", "simulated", "ai"):
            raise ConfigError(f"labeller_kind {self.labeller_kind!r}: must be human, simulated or ai")
        if not 0 <= self.held_out < 1:
            raise ConfigError(f"held_out {self.held_out}: must be at least 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class _Given:
    """Settings of all rows of an import."""

    settings: ImportSettings
    actor: str
    key: bytes
    """The workspace's key of digests: users of imported rows are known by it only."""


@dataclass(kw_only=True)
class Imported:
    """What became of the rows."""

    tasks: int = 0
    labels: int = 0
    surplus: int = 0
    """Of these, labels that do not count: their task had all it asked for."""
    known: int = 0
    """Rows that were taken in before."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Usable rows: rankings, samples, demonstrations, prompts."""
    given: int = 0
    """Rows that were read, usable or not: the sum of `kinds` and `num_bad`."""
    bad: list[DataError] = field(default_factory=list)
    """Why others were not, one each; not those of `without_kind`."""
    without_kind: list[int] = field(default_factory=list)
    """Lines of labels that do not say who made them, and for which the settings say nothing either."""

    @property
    def num_bad(self) -> int:
        """Rows that could not be used."""
        return len(self.bad) + len(self.without_kind)

    def reasons(self, name: str, remedy: str) -> list[str]:
        """Why rows could not be used; a missing `labeller_kind` is said once, with `remedy`."""
        said = [str(error) for error in self.bad]
        if self.without_kind:
            num = len(self.without_kind)
            rows = "1 row" if num == 1 else f"{num} rows, this one first"
            said.insert(0, str(Where(name, self.without_kind[0]).error("labeller_kind", f"is missing ({rows}); {remedy}")))
        return said


def import_rows(
    workspace: Workspace, project: Project, read: Callable[[], Iterable[Numbered]], name: str, settings: ImportSettings, *,
    actor: str,
) -> Imported:  # fmt: skip
    """Take in what `read` gives, which is called twice: (line, row or what is wrong with it), like `jsonl.read_lines`.
    `name`: of the file."""
    overlaps = Counter(_task_name(project, row) for _, row in read() if isinstance(row, Mapping) and _is_ranking(row))
    done, given = Imported(), _Given(settings=settings, actor=actor, key=consent.subject_key(workspace.folder))
    rest = iter(read())
    while batch := list(islice(rest, _AT_ONCE)):
        with workspace.session() as session:
            for line, row in batch:
                done.given += 1
                try:
                    if isinstance(row, DataError):
                        raise row
                    with session.begin_nested():  # a bad row leaves nothing behind
                        _take(session, project, row, Where(name, line), given, overlaps, done)
                except _WithoutKind:
                    done.without_kind.append(line)
                except ChatwrightError as error:
                    prefix = "" if str(error).startswith(name) else f"{name}:{line}: "
                    done.bad.append(DataError(f"{prefix}{error}"))
    if sum(done.kinds.values()) + done.num_bad != done.given:
        raise RuntimeError(f"{name}: {done.given} rows were read, but {dict(done.kinds)} and {done.num_bad} were counted")
    return done


class _WithoutKind(DataError):
    """A label that does not say whether a person, a simulation or a model made it."""


def _take(
    session: Session, project: Project, row: Mapping[str, Any], where: Where, given: _Given, overlaps: Mapping[str, int],
    done: Imported,
) -> None:  # fmt: skip
    kind = kind_of(row)
    if kind == "rankings":
        new = _ranking(session, project, row, where, given, overlaps[_task_name(project, row)])
    elif kind == "samples":
        new = _sample(session, project, row, where, given)
    elif kind == "demonstrations":
        new = _demonstration(session, project, row, where, given)
    else:
        prompt = Prompt.from_dict(row, where)
        new = _task(session, project, "demonstrate", prompt.messages, (), row, given, overlap=0)[1], ""
    made, state = new
    done.kinds[kind] += 1
    done.tasks += made
    done.labels += bool(state)
    done.surplus += state == "surplus"
    done.known += not made and not state


def _is_ranking(row: Mapping[str, Any]) -> bool:
    return kind_of(row) == "rankings"


def _task_name(project: Project, row: Mapping[str, Any]) -> str:
    """Equal for rows that rank the same answers: their task takes as many labels as there are."""
    texts = [row.get("messages"), row.get("prompt"), row.get("system"), row.get("completions")]
    return name_of("rows", {"project": project.id, "texts": texts})


def kind_of(row: Mapping[str, Any]) -> str:
    """rankings, samples, demonstrations or prompts."""
    if row.get("completions") is not None:
        return "rankings" if row.get("ranking") is not None else "samples"
    messages = row.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    answered = isinstance(last, dict) and last.get("role") == "assistant"
    return "demonstrations" if answered or row.get("completion") is not None else "prompts"


def _ranking(
    session: Session, project: Project, row: Mapping[str, Any], where: Where, given: _Given, overlap: int
) -> tuple[bool, str]:
    ranking = Ranking.from_dict(row, where)
    if ranking.equal_apart:
        raise where.error("ranking", "puts one of two equal answers above the other; nothing can be learned from it")
    kind = ranking.labeller_kind or given.settings.labeller_kind
    if not kind:
        raise _WithoutKind
    flags = None if ranking.flags is None else [[name for name in names if name in FLAGS] for names in ranking.flags]
    value: dict[str, Any] = {
        "ranking": str(ranking.order), "unranked": list(ranking.order.unranked), "flags": flags,
        "likert": None if ranking.likert is None else list(ranking.likert),
        "none_acceptable": bool(ranking.meta.get("none_acceptable")),
    }  # fmt: skip
    answers = _answers(row, ranking.completions, where)
    task, made = _task(session, project, "rank", ranking.messages, answers, row, given, overlap=min(100, overlap))
    label = Submission(
        uuid=name_of("label", row), task=task, labeller=ranking.labeller or f"imported:{kind}", labeller_kind=kind,
        value=value, seconds=_seconds(ranking.seconds), shown_order=ranking.shown_order,
    )  # fmt: skip
    return made, _label(session, label)


def _sample(
    session: Session, project: Project, row: Mapping[str, Any], where: Where, given: _Given
) -> tuple[bool, str]:
    messages = Prompt.from_dict(row, where).messages
    texts = [where.text(c, f"completions[{i}]") for i, c in enumerate(where.list(row.get("completions"), "completions"))]
    answers = _answers(row, texts, where)
    return _task(session, project, "rank", messages, answers, row, given, overlap=0)[1], ""


def _demonstration(
    session: Session, project: Project, row: Mapping[str, Any], where: Where, given: _Given
) -> tuple[bool, str]:
    demonstration = Demonstration.from_dict(row, where)
    kind = where.optional_text(row, "labeller_kind") or given.settings.labeller_kind
    if not kind:
        raise _WithoutKind
    if kind not in ("human", "simulated", "ai"):
        raise where.error("labeller_kind", f"is {kind!r}; use human, simulated or ai")
    before = demonstration.messages[:-1]
    task, made = _task(session, project, "demonstrate", before, (), row, given, overlap=1)
    label = Submission(
        uuid=name_of("label", row), task=task, labeller=where.optional_text(row, "labeller") or f"imported:{kind}",
        labeller_kind=kind, value={}, payload={"messages": [demonstration.messages[-1].to_dict()]},
        seconds=_seconds(row.get("seconds")), draft_model=where.optional_text(row, "draft_model") or "",
        draft_version=(where.optional_text(row, "draft_version") or "")[:128],
    )  # fmt: skip
    return made, _label(session, label)


def _label(session: Session, label: Submission) -> str:
    """Keep a label; its state, or "" when it was there."""
    return "" if session.get(LabelRow, label.uuid) is not None else queue.submit(session, label).state


def _task(
    session: Session, project: Project, kind: str, messages: Conversation, answers: Sequence[Answer],
    row: Mapping[str, Any], given: _Given, *, overlap: int,
) -> tuple[str, bool]:  # fmt: skip
    """(id, whether it is new) of the task with these texts."""
    texts = {"messages": [message.to_dict() for message in messages], "answers": [answer.text for answer in answers]}
    uuid = name_of("task", {"project": project.id, "kind": kind, **texts})
    if (stored := store.find(session, uuid)) is not None:
        return stored.task_id, False
    user = str(row.get("user") or "")
    subject, place = consent.imported_subjects(given.key, user) if user else ("", conversation_id(messages))
    split = str(row.get("split") or split_of(place, given.settings.held_out))
    language = str(row.get("language") or given.settings.language)
    own = {*_OURS, "messages", "prompt", "system", "completion", "completions", "ranking", *_LABEL_FIELDS}
    meta = {key: value for key, value in row.items() if key not in own}
    task = NewTask(
        project=project.id, kind=kind, messages=messages, answers=tuple(answers), language=language, split=split,
        subject=subject, source="import", overlap=overlap, meta=meta,
    )  # fmt: skip
    return queue.add_task(session, task, actor=given.actor, uuid=uuid), True


_LABEL_FIELDS = (
    "unranked", "context", "likert", "flags", "labeller", "labeller_kind", "shown_order", "guideline", "seconds", "uuid",
    "kind", "none_acceptable", "draft_model", "draft_version",
)  # fmt: skip


def split_of(key: str, held_out: float) -> str:
    """held_out for a share of keys, by their hash, else train; the same on every machine."""
    place = int.from_bytes(hashlib.sha256(f"split:{key}".encode()).digest()[:8], "big") / 2**64
    return "held_out" if place < held_out else "train"


def name_of(what: str, content: Mapping[str, Any]) -> str:
    """The uuid of an event that stands for `content`."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return f"import:{what}:{hashlib.sha256(text.encode()).hexdigest()[:40]}"


def _answers(row: Mapping[str, Any], texts: Sequence[str], where: Where) -> list[Answer]:
    """Answers with what the row says of each: `finish_reason` and `model` or `models` of `chatwright sample` and exports."""

    def each(names: tuple[str, ...], default: str) -> list[str]:
        given = next((row[name] for name in names if row.get(name) is not None), default)
        found = list(given) if isinstance(given, list) else [given] * len(texts)
        if len(found) != len(texts):
            raise where.error(names[0], f"must be a list of {len(texts)}, one for each completion")
        return ["" if one is None else str(one) for one in found]

    models, versions = each(("models", "model"), ""), each(("model_versions", "model_version"), "")
    reasons = each(("finish_reason", "finish_reasons"), "stop")
    return [
        Answer(text=text, model=model, model_version=version[:128], finish_reason=reason)
        for text, model, version, reason in zip(texts, models, versions, reasons, strict=True)
    ]


def _seconds(given: Any) -> dict[str, float]:
    """Seconds per phase; a single number counts as reading and ordering together."""
    if isinstance(given, Mapping):
        return {phase: float(given[phase]) for phase in ("read", "rate", "rank", "edit") if given.get(phase)}
    return {"rank": float(given)} if given else {}
