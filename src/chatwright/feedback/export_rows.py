"""Rows of an export, out of the projections: every label as the record that the recipes read."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from chatwright.errors import DataError
from chatwright.feedback.tables import GuidelineRow, LabelRow, MergedRow, Payload, TaskRow
from chatwright.feedback.values import ORDERED, order_of
from chatwright.jsonl import write_jsonl
from chatwright.records import LETTERS, Conversation, Demonstration, Prompt, Ranking, WeakOrder, conversation_id

FILES = ("rankings", "demonstrations", "prompts", "ratings")
SPLITS = ("train", "held_out")
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
        tasks = select(TaskRow).order_by(TaskRow.seq)
        labels = select(LabelRow).order_by(LabelRow.seq)
        if project:
            tasks, labels = tasks.where(TaskRow.project_id == project), labels.where(LabelRow.project_id == project)
        if languages:
            tasks = tasks.where(TaskRow.language.in_(languages))
        self.tasks = {task.id: task for task in session.scalars(tasks)}
        self.labels = [label for label in session.scalars(labels) if label.task_id in self.tasks]
        self.merged = {row.task_id: row for row in session.scalars(select(MergedRow)) if row.task_id in self.tasks}
        self.payloads = {row.id: row.content for row in session.scalars(select(Payload))}
        self.guidelines = {
            row.id: f"{row.project_id}:{row.language}:{row.version}" for row in session.scalars(select(GuidelineRow))
        }
        self.labeller_kinds = labeller_kinds
        self.counts: Counter[tuple[str, str]] = Counter()
        self.left_out: Counter[str] = Counter()
        self.by_labeller_kind: Counter[str] = Counter()
        self.by_source: Counter[str] = Counter()
        self.items: set[Item] = set()

    def write(self, folder: Path, *, merged: bool) -> set[Item]:
        """Write every file below `folder`; returns which texts are in them."""
        found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        held_out = {self._prompt_id(task) for task in self.tasks.values() if task.split == "held_out"} - {""}
        for label in self.labels:
            self._add(found, held_out, self.tasks[label.task_id], label, merged)
        if merged:
            for task_id, row in self.merged.items():
                self._add_merged(found, held_out, self.tasks[task_id], row)
            ready = [task for task in self.tasks.values() if task.kind in ORDERED and task.state == "complete"]
            if waiting := sum(task.gold is None and not task.everybody for task in ready):
                self.left_out[UNMERGED] = waiting
        self._add_prompts(found, held_out)
        for split in SPLITS:
            for name in FILES:
                self.counts[split, name] = write_jsonl(folder / split / f"{name}.jsonl", found[split, name])
        return self.items

    def _add(
        self, found: dict[tuple[str, str], list[dict[str, Any]]], held_out: set[str], task: TaskRow, label: LabelRow,
        merged: bool,
    ) -> None:  # fmt: skip
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
        found[task.split, name].append(row)
        self.by_labeller_kind[label.labeller_kind] += 1
        payloads = [task.prompt_payload, *(str(answer["payload_id"]) for answer in task.answers), label.payload_id]
        self.items |= {Item(task.id, label.uuid, payload) for payload in payloads if payload}

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

    def _add_merged(
        self, found: dict[tuple[str, str], list[dict[str, Any]]], held_out: set[str], task: TaskRow, merged: MergedRow
    ) -> None:
        try:
            self._check_split(task, held_out)
            if task.everybody or task.gold is not None:
                raise Left("test task (gold or screening)")
            order = _order(merged.order, len(task.answers))
            labels = [label for label in self.labels if label.task_id == task.id and label.state == "current"]
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
        found[task.split, "rankings"].append(row)
        payloads = [task.prompt_payload, *(str(answer["payload_id"]) for answer in task.answers)]
        self.items |= {Item(task.id, label.uuid, payload) for label in labels for payload in payloads}

    def _add_prompts(self, found: dict[tuple[str, str], list[dict[str, Any]]], held_out: set[str]) -> None:
        """Every prompt once, in the order in which they came."""
        seen: set[str] = set()
        for task in self.tasks.values():
            for messages, meta, payload, label in self._prompts_of(task):
                identity = conversation_id(messages)
                if identity in seen or (task.split == "train" and identity in held_out):
                    continue
                seen.add(identity)
                found[task.split, "prompts"].append(Prompt(messages=messages, meta=meta).to_dict())
                self.by_source[task.source] += 1
                self.items.add(Item(task.id, label, payload))

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
        for label in self.labels:
            wanted = label.task_id == task.id and label.state == "current" and label.labeller_kind in self.labeller_kinds
            content = self.payloads.get(label.payload_id) if wanted else None
            if content and content.get("messages"):
                prompt = Prompt.from_dict({"messages": content["messages"]})
                meta = {**self._meta(task), "labeller_kind": label.labeller_kind}
                written.append((prompt.messages, meta, label.payload_id, label.uuid))
        return written

    def _check_split(self, task: TaskRow, held_out: set[str]) -> None:
        if task.split == "train" and self._prompt_id(task) in held_out:
            raise Left("its prompt is in the held-out part")

    def _prompt_id(self, task: TaskRow) -> str:
        try:
            return conversation_id(self._messages(task))
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
        notes["models"] = [answer.get("model", "") for answer in task.answers]
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
        said = {"likert": value.get("likert"), "flags": value.get("flags")}
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
        try:
            return Demonstration.from_dict({"messages": turns, **meta}).to_dict()
        except DataError as error:
            raise Left("the demonstration is not one") from error


def _order(text: str, k: int) -> WeakOrder:
    """An order of K answers; letters that are missing are unranked."""
    named = set(text) & set(LETTERS)
    return WeakOrder.parse(text, k, [letter for letter in LETTERS[:k] if letter not in named])


def _per_answer(value: Sequence[int | None] | None) -> tuple[int | None, ...] | None:
    return None if value is None else tuple(value)


def _flags(value: Sequence[Sequence[str]] | None) -> tuple[tuple[str, ...], ...] | None:
    return None if value is None else tuple(tuple(names) for names in value)
