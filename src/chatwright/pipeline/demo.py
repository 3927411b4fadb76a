"""`chatwright demo-desk`: a workspace in which a newcomer labels within a minute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from chatwright.errors import ConfigError
from chatwright.feedback import queue
from chatwright.feedback.commands import opened, project_named
from chatwright.feedback.importing import name_of, split_of
from chatwright.feedback.projects import create_project, guidelines, projects, publish_guideline
from chatwright.feedback.store import find
from chatwright.feedback.tasks import Answer, NewTask
from chatwright.records import Prompt, load_prompts, read_jsonl, write_jsonl
from chatwright.workspace.database import Workspace

_LANGUAGES = ("en", "zh-CN")
_HELD_OUT = 0.2
_ACTOR = "demo"
_ANSWER_FIELDS = ("completions", "finish_reason", "model", "temperature", "seed")


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Fill a workspace with prompts and answers to label; then: chatwright serve --workspace FOLDER. The server may run."""

    workspace: str = "workspace"
    """Folder of the workspace; it is begun when there is none."""
    database: str = ""
    """Database URL; empty: CHATWRIGHT_DATABASE_URL, else SQLite in the workspace."""
    project: str = "Demo"
    """Name of the project; it is made when there is none."""
    model: str = ""
    """Sample answers of this model; empty: bundled answers of smollm2-135m-instruct, so that nothing has to be fetched."""
    prompts: tuple[str, ...] = ()
    """With --model: files of prompts; empty: the bundled ones, and the museum's."""
    answers: int = 4
    """With --model: answers per prompt, 2 to 9."""
    max_new_tokens: int = 96
    """With --model: longest answer in tokens."""
    seed: int = 0
    """With --model: fixes the answers."""

    def __post_init__(self) -> None:
        if self.prompts and not self.model:
            raise ConfigError("--prompts needs --model, whose answers are to be labelled")
        if not 2 <= self.answers <= 9:
            raise ConfigError(f"--answers {self.answers}: a ranking has 2 to 9")


def demo_desk(cfg: DemoConfig) -> dict[str, int]:
    """Fill the workspace; returns the number of tasks by kind. Running it again adds nothing twice."""
    with opened(cfg.workspace, cfg.database, begin=True) as workspace:
        rows = _sampled(cfg, workspace) if cfg.model else list(_bundled())
        with workspace.session() as session:
            made = fill(session, cfg.project, rows)
    listed = ", ".join(f"{number} {kind}" for kind, number in sorted(made.items())) or "nothing new"
    print(f"{cfg.workspace}: project {cfg.project}: {listed}")
    print(f"label in the browser: chatwright serve --workspace {cfg.workspace}")
    return dict(made)


def fill(session: Session, project: str, rows: Sequence[dict[str, Any]]) -> Counter[str]:
    """Tasks of `rows` of `chatwright sample`: of each a ranking, of some a comparison, a rating, a demonstration too."""
    home = _project(session, project)
    made: Counter[str] = Counter()
    for place, row in enumerate(rows):
        prompt = Prompt.from_dict({key: value for key, value in row.items() if key not in _ANSWER_FIELDS})
        models = row.get("model", "")
        answers = tuple(
            Answer(text=text, model=str(models), finish_reason=reason)
            for text, reason in zip(row["completions"], row["finish_reason"], strict=True)
        )
        wanted: list[tuple[str, tuple[Answer, ...]]] = [("rank", answers)]
        wanted += [("compare", answers[:2])] if place % 3 == 1 else []
        wanted += [("rate", answers[:2])] if place % 6 == 2 else []
        wanted += [("demonstrate", ())] if place % 3 == 0 else []
        for kind, chosen in wanted:
            made[kind] += _add(session, home, kind, prompt, chosen)
    for language in sorted({str(row.get("language", "en")) for row in rows}):
        made["prompt"] += _add(session, home, "prompt", language, ())
    return +made


def _project(session: Session, name: str) -> str:
    """The project's id, with a guideline in every language."""
    known = {one.name: one.id for one in projects(session, archived=True)}
    home = known.get(name) or create_project(session, name, actor=_ACTOR).id
    there = {row.language for row in guidelines(session, home)}
    for language in _LANGUAGES:
        if language not in there:
            text = (files("chatwright") / "bundled" / "desk" / f"guideline-{language}.md").read_text(encoding="utf-8")
            publish_guideline(session, home, language, text, actor=_ACTOR)
    return project_named(session, home).id


def _add(session: Session, project: str, kind: str, prompt: Prompt | str, answers: tuple[Answer, ...]) -> bool:
    """Whether the task is new. `prompt`: what is answered, or the language in which one is to be written."""
    messages = prompt.messages if isinstance(prompt, Prompt) else ()
    meta = dict(prompt.meta) if isinstance(prompt, Prompt) else {}
    language = str(meta.pop("language", "en")) if isinstance(prompt, Prompt) else prompt
    texts = {"messages": [message.to_dict() for message in messages], "answers": [answer.text for answer in answers]}
    uuid = name_of("demo", {"project": project, "kind": kind, "language": language, **texts})
    if find(session, uuid) is not None:
        return False
    split = split_of(str(texts["messages"]), _HELD_OUT) if messages else "train"
    task = NewTask(
        project=project, kind=kind, messages=messages, answers=answers, language=language, split=split, source="demo",
        meta=meta,
    )  # fmt: skip
    queue.add_task(session, task, actor=_ACTOR, uuid=uuid)
    return True


def _bundled() -> Iterator[dict[str, Any]]:
    for language in _LANGUAGES:
        yield from (row for _, row in read_jsonl(str(files("chatwright") / "bundled" / "desk" / f"{language}.jsonl")))


def _sampled(cfg: DemoConfig, workspace: Workspace) -> list[dict[str, Any]]:
    """Answers of a model; they stay in the workspace, so that a second run samples nothing again."""
    from chatwright.recipes import sample

    museum = files("chatwright") / "bundled" / "museum" / "en" / "prompts.jsonl"
    if cfg.prompts:
        prompts = load_prompts(cfg.prompts)
    else:
        desk = [Prompt.from_dict({"prompt": row["prompt"]}) for row in _bundled() if row["language"] == "en"]
        prompts = desk + load_prompts(str(museum))[: len(desk)]
    folder = workspace.folder / "demo"
    folder.mkdir(exist_ok=True)
    name = name_of("samples", {"model": cfg.model, "seed": cfg.seed, "k": cfg.answers, "length": cfg.max_new_tokens,
                               "prompts": [prompt.id for prompt in prompts]}).rpartition(":")[2][:16]  # fmt: skip
    write_jsonl(folder / f"prompts-{name}.jsonl", [prompt.to_dict() for prompt in prompts])
    out: Path = folder / f"samples-{name}.jsonl"
    sample.main(
        sample.SampleConfig(
            model=cfg.model, data=(str(folder / f"prompts-{name}.jsonl"),), out=str(out), n=cfg.answers,
            max_new_tokens=cfg.max_new_tokens, seed=cfg.seed,
        )  # fmt: skip
    )
    return [row for _, row in read_jsonl(out)]
