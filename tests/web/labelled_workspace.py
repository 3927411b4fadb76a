"""A workspace in which much has been labelled, for tests of the leads' pages and for their screenshots:
`python tests/web/labelled_workspace.py FOLDER` before a server opens the folder.

Labellers are drawn: each sees the true order of a task through noise of its own. One is careless, one is a program, one
is a model.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

from chatwright.feedback import funnel, jobs, lineage, queue
from chatwright.feedback.events import new_uuid
from chatwright.feedback.export import ExportFilter, export
from chatwright.feedback.labels import Submission, submit
from chatwright.feedback.merging import merge_project
from chatwright.feedback.projects import ProjectSettings, create_project, publish_guideline
from chatwright.feedback.tasks import Answer, NewTask, add_task
from chatwright.feedback.worker import LOG_FILE, job_folder
from chatwright.records import Message, WeakOrder
from chatwright.serve.tables import metadata
from chatwright.workspace.database import Workspace, now
from chatwright.workspace.migrations import prepare

ACTOR = "ann"
LEARNED = "the reward model it was trained on"  # as pipeline/comparison.py names it
QUESTIONS = (
    "Why is the sky blue?", "How do I boil an egg so that it peels well?", "Explain compound interest to a child.",
    "Write a short apology for a late delivery.", "What is the difference between a virus and a bacterium?",
    "Give me three names for a bakery by the sea.", "How can I fall asleep more easily?",
    "What does a transformer in power lines do?",
    "为什么叶子在秋天变黄？", "请用两句话介绍杭州。", "怎样快速背单词？", "写一句生日祝福。",
)  # fmt: skip
ANSWERS = (
    "Here is the short answer, then the reason, and one example that you can try at home with things from your kitchen.",
    "The reason is simple once you see it, although many books make it look hard.",
    "It depends.",
    "As a language model I think that this question is very interesting, and there are many things to say.",
)
LABELLERS = (
    ("ann", "human", 0.08, 41.0), ("bo", "human", 0.14, 33.0), ("chen", "human", 0.1, 52.0), ("dora", "human", 0.48, 1.2),
    ("simulated:general-en:1", "simulated", 0.2, 0.0), ("ai:judge-7b", "ai", 0.16, 0.0),
)  # fmt: skip
GUIDELINE = """# Which answer is better?

1. **Does it do what was asked?** Length, language and form count.
2. **Is it true?** A wrong answer that reads well is worse than a right one that reads badly.
3. **Could it hurt somebody?** Then it is the worst, whatever else it does.

Ties are information: use them when you would not mind which one you got.
"""
FIRST_GUIDELINE = GUIDELINE.replace("Ties are", "Ties may be used; they are")


def order_seen(rng: random.Random, truth: list[float], noise: float) -> str:
    """The order that somebody sees: values with noise, those that lie close are tied."""
    seen = [value + rng.gauss(0, noise * 4) for value in truth]
    return str(WeakOrder.from_scores(seen, tie_width=0.25))


def rankings(session: Any, rng: random.Random, project: str) -> list[str]:
    """Tasks of four answers, most with two or three labels; two are gold, one was flagged, one skipped."""
    made = []
    for number in range(36):
        question = QUESTIONS[number % len(QUESTIONS)]
        truth = [3.0, 2.0, 1.9, 0.5]
        shuffled = rng.sample(range(4), 4)
        task = add_task(
            session,
            NewTask(
                project=project, kind="rank", messages=(Message(role="user", content=f"{question} ({number + 1})"),),
                answers=tuple(Answer(text=ANSWERS[i], model="smollm2-135m-instruct") for i in shuffled),
                language="zh-CN" if number % len(QUESTIONS) >= 8 else "en", split="held_out" if number % 6 == 5 else "train",
                source=("import", "chat", "api", "demo")[number % 4], overlap=6 if number in (0, 1) else 3,
                gold=WeakOrder.from_scores([truth[i] for i in shuffled], tie_width=0.25) if number in (0, 1) else None,
            ),
            actor=ACTOR,
        )  # fmt: skip
        made.append(task)
        crowd = LABELLERS if number in (0, 1) else rng.sample(LABELLERS, 0 if number > 32 else 2 if number > 28 else 3)
        for name, kind, noise, pace in crowd:
            value = {"ranking": order_seen(rng, [truth[i] for i in shuffled], noise)}
            seconds = {"read": pace * 0.6 * rng.uniform(0.6, 1.5), "rank": pace * 0.4 * rng.uniform(0.6, 1.5)}
            by = {"labeller": name, "labeller_kind": kind}
            submit(session, Submission(uuid=new_uuid(), task=task, value=value, seconds=seconds, **by))  # type: ignore[arg-type]
    for how, task in ((queue.flag, made[34]), (queue.skip, made[35])):
        held = queue.claim(session, "bo", kinds=["rank"], project=project, exclude=[one for one in made if one != task])
        assert held is not None
        how(session, held.task, "bo", "unclear", "What is meant by that?")
    return made


def others(session: Any, rng: random.Random, project: str) -> None:
    """Demonstrations with their times, ratings with flags, comparisons, and prompts that somebody wrote."""
    for number, question in enumerate(QUESTIONS):
        ask = (Message(role="user", content=question),)
        common = {"project": project, "language": "zh-CN" if number >= 8 else "en"}
        task = add_task(session, NewTask(kind="demonstrate", messages=ask, source="chat", **common), actor=ACTOR)  # type: ignore[arg-type]
        if number < 8:
            name = ("ann", "bo", "chen")[number % 3]
            said = {"messages": [{"role": "assistant", "content": f"{ANSWERS[0]} {ANSWERS[1]}"}], "comment": ""}
            seconds = {"read": rng.uniform(10, 30), "edit": rng.uniform(150, 420)}
            draft = "smollm2-135m-instruct" if number == 2 else ""
            given = Submission(uuid=new_uuid(), task=task, labeller=name, payload=said, seconds=seconds, draft_model=draft)
            submit(session, given)
        both = tuple(Answer(text=text, model=model) for text, model in zip(ANSWERS[:2], ("old", "new"), strict=True))
        task = add_task(session, NewTask(kind="rate", messages=ask, answers=both, **common), actor=ACTOR)  # type: ignore[arg-type]
        if number < 6:
            value = {"likert": [rng.randint(5, 7), rng.randint(1, 4)], "flags": [[], ["hallucination"][: number % 2]]}
            submit(session, Submission(uuid=new_uuid(), task=task, labeller="ann", value=value, seconds={"rate": 22.0}))
        task = add_task(session, NewTask(kind="compare", messages=ask, answers=both, **common), actor=ACTOR)  # type: ignore[arg-type]
        if number < 9:
            verdict = {"verdict": ("a", "a", "tie", "b")[number % 4]}
            submit(session, Submission(uuid=new_uuid(), task=task, labeller="chen", value=verdict, seconds={"read": 14.0}))
    for _ in range(3):
        add_task(session, NewTask(project=project, kind="prompt", source="written"), actor=ACTOR)


def traffic(session: Any, rng: random.Random) -> None:
    """A month of the intake's counts."""
    for day in range(30):
        count = rng.randint(20, 60)
        kept = {
            ("received", ""): count, ("consent", "not_given"): count // 3, ("background", "title"): count // 8,
            ("scrub", "EMAIL"): count // 12, ("scrub", "PHONE"): count // 15, ("repeated", "same"): count // 9,
            ("cap", "per_person"): count // 20, ("taken", "prompt"): count // 3, ("candidates", "rank"): count // 10,
        }  # fmt: skip
        counts = {funnel.Counted("chat", step, reason): number for (step, reason), number in kept.items()}
        funnel.add(session, counts, at=now() - 86_400 * day)


def verdict(judge: str, kind: str, rate: float, low: float, high: float, n: int) -> dict[str, Any]:
    """What a judge says of a model against the one that serves."""
    rates = {"rate": rate, "low": low, "high": high, "n": n, "questions": n, "ties": 0.12, "p": 0.001 if low > 0.5 else 0.2}
    return {"judge": judge, "judge_kind": kind, **rates}


def card(value: float, low: float, high: float) -> dict[str, Any]:
    """A reward model's report card."""
    return {"accuracy": {"value": value, "low": low, "high": high}, "length_baseline": 0.55, "gate": None}


def models(session: Any, folder: Path, frozen: str, other: str, job: str) -> None:
    """One model that may be promoted and one that may not; their folders hold a manifest and nothing else."""
    figures: dict[str, dict[str, Any]] = {
        "helper-1": {
            "report_card": card(0.58, 0.52, 0.64),
            "comparison": {
                "against": "alpha", "against_id": lineage.CONFIGURED,
                "verdicts": [verdict(LEARNED, "learned", 0.55, 0.47, 0.63, 120)],
            },
        },
        "helper-2": {
            "report_card": card(0.69, 0.64, 0.74),
            "comparison": {
                "against": "alpha", "against_id": lineage.CONFIGURED,
                "verdicts": [
                    verdict("judge-7b", "ai", 0.64, 0.57, 0.71, 120),
                    verdict("general-en", "simulated", 0.7, 0.63, 0.77, 120),
                    verdict(LEARNED, "learned", 0.81, 0.75, 0.87, 120),
                ],
            },
        },
    }  # fmt: skip
    parent = None
    for name, exports in (("helper-1", [frozen]), ("helper-2", [other])):
        place = folder / "models" / name
        place.mkdir(parents=True)
        (place / "MANIFEST.json").write_text(f'{{"files": {{}}, "model": "{name}"}}\n', encoding="utf-8")
        row = lineage.register(
            session, name=name, path=place, base="smollm2-135m-instruct" if parent is None else "helper-1", exports=exports,
            figures=figures[name], actor=ACTOR, parent=parent, job=job,
        )  # fmt: skip
        parent = row.id


def past_jobs(workspace: Workspace) -> str:
    """A job that is done, one that failed, and one that runs for longer than any test."""
    settings = {"project": "", "serving_name": "alpha", "labeller_kinds": ["human", "simulated", "ai"], "seed": 0}
    ends = (("done", ""), ("failed", "reward model: 12 rankings are too few; at least 20 are needed"), ("", ""))
    done = ""
    for state, message in ends:
        with workspace.session() as session:
            jobs.enqueue(session, "retrain", settings, ACTOR)
        with workspace.session() as session:
            lease = jobs.take(session, "worker-1", ["retrain"], lease_s=86_400)
            assert lease is not None
            jobs.report(session, lease, stage="ppo", number=5, of=6, line="step 12/40  reward 0.412  kl 3.1 nats")
            if state:
                jobs.finish(session, lease, state, message=message, **({"model": "helper-2"} if state == "done" else {}))
                done = done or lease.job
        place = job_folder(workspace, lease.job)
        place.mkdir(parents=True, exist_ok=True)
        steps = "".join(f"step {n}/40  reward {0.2 + n / 60:.3f}  kl {n / 4:.1f} nats\n" for n in range(1, 13))
        (place / LOG_FILE).write_text(f"stage 5 of 6: ppo\n{steps}", encoding="utf-8")
    return done


def fill(workspace: Workspace) -> None:
    """Everything above."""
    rng = random.Random(7)
    settings = {"wage_per_hour": 18.0, "languages": ["en", "zh-CN"], "gold_share": 0.05, "adjudicate_below": 0.55}
    with workspace.session() as session:
        project = create_project(session, "General helper", ProjectSettings().changed(settings), actor=ACTOR)
        session.flush()
        publish_guideline(session, project.id, "en", FIRST_GUIDELINE, actor=ACTOR)
        publish_guideline(session, project.id, "en", GUIDELINE, actor=ACTOR)
        rankings(session, rng, project.id)
        others(session, rng, project.id)
        traffic(session, rng)
        create_project(session, "Empty project", actor=ACTOR)
    merge_project(workspace, project.id, actor=ACTOR)
    people = export(workspace, ExportFilter(labeller_kinds=("human",)), actor=ACTOR)
    everything = export(workspace, ExportFilter(), actor=ACTOR)
    job = past_jobs(workspace)
    with workspace.session() as session:
        models(session, workspace.folder, people.id, everything.id, job)


if __name__ == "__main__":
    metadata()
    with Workspace.open(sys.argv[1]) as opened:
        prepare(opened)
        fill(opened)
