"""Rows of an export, out of the projections: every label as the record that the recipes read.

Labels and tasks are streamed, some hundreds at a time with their texts, so memory does not grow with the store.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TextIO

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from chatwright.errors import DataError
from chatwright.feedback.tables import GuidelineRow, LabelRow, MergedRow, Payload, TaskRow
from chatwright.feedback.values import ORDERED, order_of
from chatwright.jsonl import dumps
from chatwright.records import LETTERS, Conversation, Demonstration, Prompt, Ranking, WeakOrder, conversation_id
from chatwright.records.sameness import prompt_key

FILES = ("rankings", "demonstrations", "prompts", "ratings")
SPLITS = ("train", "held_out")
_AT_ONCE = 500
UNMERGED = "complete, not merged yet"
"""Why a task is not in an export of merged orders."""


class Item(NamedTuple):
    """A text that is in an export, and the label by which it came ("" for a prompt)."""

    task: str
    label: str
    payload: str


class Left(Exception):
    """Why a row is not exported."""


class Rows:
    """Everything a snapshot holds of a project, filtered. Counts are there after `write`."""

    def __init__(
        self, session: Session, project: str, labeller_kinds: Sequence[str], languages: Sequence[str]
    ) -> None:
        """`project` is an id; empty: all projects. `languages` empty: all."""
        self.session, self.project, self.languages = session, project, languages
        self.guidelines = {
            row.id: f"{row.project_id}:{row.language}:{row.version}" for row in session.scalars(select(GuidelineRow))
        }
        self.labeller_kinds = labeller_kinds
        self.counts: Counter[tuple[str, str]] = Counter()
        self.left_out: Counter[str] = Counter()
        self.by_labeller_kind: Counter[str] = Counter()
        self.by_source: Counter[str] = Counter()
        # Of the tasks that are worked on now.
        self.labels: Mapping[str, Sequence[LabelRow]] = {}
        self.payloads: Mapping[str, dict[str, Any] | None] = {}

    def write(self, folder: Path, items: TextIO, *, merged: bool) -> None:
        """Write every file below `folder`, and a line for each text in them to `items` (`read_items`)."""
        self.folder, self.items = folder, items
        with ExitStack() as stack:
            names = [(split, name) for split in SPLITS for name in FILES]
            for split in SPLITS:
                (folder / split).mkdir(parents=True, exist_ok=True)
            self.files: dict[tuple[str, str], BinaryIO] = {
                (split, name): stack.enter_context((folder / split / f"{name}.jsonl").open("wb")) for split, name in names
            }
            self.counts.update(dict.fromkeys(names, 0))
            held_out = self._held_out()
            self._write_labels(held_out, merged)
            if merged:
                self._write_merged(held_out)
            self._write_prompts(held_out)

    def _of_filter(self, query: Select[Any]) -> Select[Any]:
        """Only what belongs to tasks of the filter."""
        if self.project:
            query = query.where(TaskRow.project_id == self.project)
        return query.where(TaskRow.language.in_(self.languages)) if self.languages else query

    def _stream(self, query: Select[Any]) -> Iterator[Sequence[Any]]:
        """Rows of a query, some hundreds at a time."""
        yield from self.session.scalars(query.execution_options(yield_per=_AT_ONCE)).partitions()

    def _load(self, tasks: Iterable[TaskRow], labels: Sequence[LabelRow] = ()) -> None:
        """Texts of these tasks and labels."""
        wanted = {label.payload_id for label in labels}
        for task in tasks:
            wanted |= {task.prompt_payload, *(str(answer["payload_id"]) for answer in task.answers)}
        self.payloads = dict(_where_in(self.session, select(Payload.id, Payload.content), Payload.id, wanted))

    def _held_out(self) -> set[str]:
        """Ids of the prompts that are kept aside."""
        found: set[str] = set()
        for tasks in self._stream(self._of_filter(select(TaskRow).where(TaskRow.split == "held_out"))):
            self._load(tasks)
            found |= {self._prompt_key(task) for task in tasks}
        return found - {""}

    def _write_labels(self, held_out: set[str], merged: bool) -> None:
        query = self._of_filter(select(LabelRow).join(TaskRow, TaskRow.id == LabelRow.task_id)).order_by(LabelRow.seq)
        for labels in self._stream(query):
            found = _where_in(self.session, select(TaskRow), TaskRow.id, {label.task_id for label in labels})
            tasks = {task.id: task for (task,) in found}
            self._load(tasks.values(), labels)
            for label in labels:
                self._add(held_out, tasks[label.task_id], label, merged)

    def _write_merged(self, held_out: set[str]) -> None:
        query = select(TaskRow).join(MergedRow, MergedRow.task_id == TaskRow.id).order_by(TaskRow.seq)
        for tasks in self._stream(self._of_filter(query)):
            names = [task.id for task in tasks]
            found = _where_in(self.session, select(MergedRow), MergedRow.task_id, names)
            orders = {row.task_id: row for (row,) in found}
            self._load(tasks)
            self._load_labels(names)
            for task in tasks:
                self._add_merged(held_out, task, orders[task.id])
        ready = self._of_filter(select(func.count(TaskRow.id)).where(TaskRow.kind.in_(ORDERED), TaskRow.state == "complete"))
        waiting = self.session.scalar(ready.where(TaskRow.gold.is_(None), TaskRow.everybody.is_(False)))
        if waiting:
            self.left_out[UNMERGED] = waiting

    def _load_labels(self, tasks: Iterable[str]) -> None:
        """Labels of these tasks, in the order they came."""
        by_task: dict[str, list[LabelRow]] = defaultdict(list)
        for (label,) in _where_in(self.session, select(LabelRow), LabelRow.task_id, tasks):
            by_task[label.task_id].append(label)
        self.labels = {task: sorted(labels, key=lambda label: label.seq) for task, labels in by_task.items()}

    def _put(self, split: str, name: str, row: Mapping[str, Any]) -> None:
        self.counts[split, name] += 1
        where = f"{self.folder / split / name}.jsonl: row {self.counts[split, name]}"
        self.files[split, name].write(dumps(row, where=where))

    def _put_items(self, items: Iterable[Item]) -> None:
        self.items.writelines("\t".join(item) + "\n" for item in sorted(set(items)))

    def _add(self, held_out: set[str], task: TaskRow, label: LabelRow, merged: bool) -> None:
        try:
            name = self._file_of(task, label)
            if name == "rankings" and merged:
                return
            self._check_split(task, held_out)
            makers = {"rankings": self._ranking, "ratings": self._rating, "demonstrations": self._demonstration}
            row = makers[name](task, label)
        except Left as left:
            self.left_out[str(left)] += 1
            return
        self._put(task.split, name, row)
        self.by_labeller_kind[label.labeller_kind] += 1
        payloads = [task.prompt_payload, *(str(answer["payload_id"]) for answer in task.answers), label.payload_id]
        self._put_items(Item(task.id, label.uuid, payload) for payload in payloads if payload)

    def _file_of(self, task: TaskRow, label: LabelRow) -> str:
        """The file a label belongs to. Raises Left."""
        if label.state != "current":
            raise Left("taken back by the labeller" if label.state == "undone" else "surplus: the task had all its labels")
        if label.labeller_kind not in self.labeller_kinds:
            raise Left(f"labeller kind {label.labeller_kind}")
        if task.everybody or task.gold is not None:
            raise Left("test task (gold or screening)")
        if label.value.get("cannot_judge"):
            raise Left("the labeller could not judge")
        if label.kind in ORDERED:
            return "rankings"
        if label.kind == "rate":
            return "ratings"
        if label.kind == "demonstrate":
            return "demonstrations"
        raise Left("prompt written by a labeller (in prompts)")

    def _add_merged(self, held_out: set[str], task: TaskRow, merged: MergedRow) -> None:
        try:
            self._check_split(task, held_out)
            if task.everybody or task.gold is not None:
                raise Left("test task (gold or screening)")
            order = _order(merged.order, len(task.answers))
            labels = [label for label in self.labels.get(task.id, ()) if label.state == "current"]
            kinds = {label.labeller_kind for label in labels}
            row = Ranking(
                messages=self._messages(task), completions=self._answers(task), order=order,
                labeller=f"merged:{merged.method}",
                labeller_kind=kinds.pop() if len(kinds) == 1 else None,  # type: ignore[arg-type]
                uuid=f"merged:{task.id}", meta={**self._meta(task), "labellers": len(labels)},
            ).to_dict()  # fmt: skip
        except Left as left:
            self.left_out[str(left)] += 1
            return
        self._put(task.split, "rankings", row)
        payloads = [task.prompt_payload, *(str(answer["payload_id"]) for answer in task.answers)]
        self._put_items(Item(task.id, label.uuid, payload) for label in labels for payload in payloads)

    def _write_prompts(self, held_out: set[str]) -> None:
        """Every prompt once, in the order in which they came."""
        seen: set[str] = set()
        for tasks in self._stream(self._of_filter(select(TaskRow).order_by(TaskRow.seq))):
            self._load_labels([task.id for task in tasks if task.kind == "prompt"])
            self._load(tasks, [label for labels in self.labels.values() for label in labels])
            for task in tasks:
                for messages, meta, payload, label in self._prompts_of(task):
                    identity = conversation_id(messages)
                    if identity in seen or (task.split == "train" and prompt_key(messages) in held_out):
                        continue
                    seen.add(identity)
                    self._put(task.split, "prompts", Prompt(messages=messages, meta=meta).to_dict())
                    self.by_source[task.source] += 1
                    self._put_items([Item(task.id, label, payload)])

    def _prompts_of(self, task: TaskRow) -> list[tuple[Conversation, dict[str, Any], str, str]]:
        """(messages, meta, payload, label) of the prompts that a task holds or brought about."""
        if task.everybody:
            return []
        if task.kind != "prompt":
            try:
                return [(self._messages(task), self._meta(task), task.prompt_payload, "")]
            except Left:
                return []
        written = []
        for label in self.labels.get(task.id, ()):
            wanted = label.state == "current" and label.labeller_kind in self.labeller_kinds
            content = self.payloads.get(label.payload_id) if wanted else None
            if content and content.get("messages"):
                prompt = Prompt.from_dict({"messages": content["messages"]})
                meta = {**self._meta(task), "labeller_kind": label.labeller_kind}
                written.append((prompt.messages, meta, label.payload_id, label.uuid))
        return written

    def _check_split(self, task: TaskRow, held_out: set[str]) -> None:
        if task.split == "train" and self._prompt_key(task) in held_out:
            raise Left("its prompt is in the held-out part")

    def _prompt_key(self, task: TaskRow) -> str:
        try:
            return prompt_key(self._messages(task))
        except Left:
            return ""

    def _messages(self, task: TaskRow) -> Conversation:
        content = self.payloads.get(task.prompt_payload)
        if content is None:
            raise Left("withdrawn")
        try:
            return Prompt.from_dict({"messages": content.get("messages", [])}).messages
        except DataError as error:
            raise Left("the prompt is not one") from error

    def _answers(self, task: TaskRow) -> tuple[str, ...]:
        contents = [self.payloads.get(str(answer["payload_id"])) for answer in task.answers]
        if any(content is None for content in contents):
            raise Left("withdrawn")
        return tuple(str(content["text"]) for content in contents if content is not None)

    def _meta(self, task: TaskRow) -> dict[str, Any]:
        """Fields of the row that are not the record's own; what the prompt brought along stands first."""
        content = self.payloads.get(task.prompt_payload) or {}
        meta = dict(content.get("meta") or {})
        return {**meta, "task": task.id, "language": task.language, "source": task.source}

    def _common(self, label: LabelRow) -> dict[str, Any]:
        seconds = {phase: value for phase, value in label.seconds.items() if value}
        guideline = self.guidelines.get(label.guideline_id)
        said: dict[str, Any] = {"labeller": label.labeller, "labeller_kind": label.labeller_kind, "uuid": label.uuid}
        return said | ({"guideline": guideline} if guideline else {}) | ({"seconds": seconds} if seconds else {})

    def _ranking(self, task: TaskRow, label: LabelRow) -> dict[str, Any]:
        value = label.value
        order = order_of(label.kind, value, len(task.answers))
        if order is None:
            raise Left("no order was given: none of the answers is acceptable")
        notes: dict[str, Any] = {"finish_reason": [answer.get("finish_reason", "stop") for answer in task.answers]}
        notes |= _writers(task)
        if value.get("none_acceptable") or value.get("verdict") == "both_bad":
            notes["none_acceptable"] = True
        return Ranking(
            messages=self._messages(task), completions=self._answers(task), order=order,
            likert=_per_answer(value.get("likert")), flags=_flags(value.get("flags")),
            shown_order=tuple(label.shown_order) if label.shown_order else None,
            **self._common(label), meta={**self._meta(task), **notes, "kind": label.kind},
        ).to_dict()  # fmt: skip

    def _rating(self, task: TaskRow, label: LabelRow) -> dict[str, Any]:
        value = label.value
        said = {"likert": value.get("likert"), "flags": value.get("flags"), **_writers(task)}
        return {
            "messages": [message.to_dict() for message in self._messages(task)], "completions": list(self._answers(task)),
            **{name: given for name, given in said.items() if given is not None}, **self._common(label), **self._meta(task),
        }  # fmt: skip

    def _demonstration(self, task: TaskRow, label: LabelRow) -> dict[str, Any]:
        content = self.payloads.get(label.payload_id)
        if content is None:
            raise Left("withdrawn")
        turns = [message.to_dict() for message in self._messages(task)] + list(content.get("messages", []))
        meta = {**self._meta(task), **self._common(label)}
        if label.draft_model:
            meta["draft_model"] = label.draft_model
        if label.draft_version:
            meta["draft_version"] = label.draft_version
        try:
            return Demonstration.from_dict({"messages": turns, **meta}).to_dict()
        except DataError as error:
            raise Left("the demonstration is not one") from error


def _writers(task: TaskRow) -> dict[str, list[str]]:
    """Models of the answers and, where one is known, their versions ("" for an unknown one)."""
    versions = [answer.get("model_version", "") for answer in task.answers]
    models = [answer.get("model", "") for answer in task.answers]
    return {"models": models} | ({"model_versions": versions} if any(versions) else {})


def read_items(items: TextIO) -> Iterator[list[Item]]:
    """The notes of `write`, some hundreds at a time."""
    items.seek(0)
    while lines := list(islice(items, _AT_ONCE)):
        yield [Item(*line.removesuffix("\n").split("\t")) for line in lines]


def _where_in(session: Session, query: Select[Any], column: Any, values: Iterable[str]) -> Iterator[Any]:
    names = sorted(set(values))
    for start in range(0, len(names), _AT_ONCE):
        yield from session.execute(query.where(column.in_(names[start : start + _AT_ONCE])))


def _order(text: str, k: int) -> WeakOrder:
    """An order of K answers; letters that are missing are unranked."""
    named = set(text) & set(LETTERS)
    return WeakOrder.parse(text, k, [letter for letter in LETTERS[:k] if letter not in named])


def _per_answer(value: Sequence[int | None] | None) -> tuple[int | None, ...] | None:
    return None if value is None else tuple(value)


def _flags(value: Sequence[Sequence[str]] | None) -> tuple[tuple[str, ...], ...] | None:
    return None if value is None else tuple(tuple(names) for names in value)
