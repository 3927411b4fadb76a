"""`chatwright retrain`: the labels of a workspace -> a better model, compared with the one that serves, in the registry.

    1 export       frozen, hashed, split by user
    2 sft          when there are demonstrations
    3 reward       with its report card, which may forbid the next step
    4 ptx text     replay text of the base model
    5 ppo          on the export's prompts
    6 comparison   blind, on held-out prompts, against the model that serves

At the end the open tasks are put into the order in which the workspace's reward models disagree about them.
The same command, and the same job after its worker died, goes on where it stopped: what it works on is fixed at its start.
Promotion is a decision of its own (`serve/desk/models.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from chatwright.config import config_hash
from chatwright.errors import ConfigError, DataError
from chatwright.feedback import export as exporting
from chatwright.feedback import jobs, lineage
from chatwright.feedback.commands import LabellerKind, opened
from chatwright.feedback.export import Export, ExportFilter
from chatwright.feedback.export_rows import UNMERGED
from chatwright.feedback.jobs import Lease
from chatwright.feedback.jobs_tables import JobEffect, ModelRow
from chatwright.feedback.lineage import CONFIGURED
from chatwright.labellers.ai_judge import AIJudgeConfig
from chatwright.pipeline import Chain, train_ppo, train_reward, train_sft, write_replay
from chatwright.pipeline.closed_gate import closed_gate
from chatwright.pipeline.comparison import Comparison, compare
from chatwright.pipeline.judging import JUDGE_FOLDER, judge_share
from chatwright.pipeline.priorities import prioritise
from chatwright.pipeline.settings import DEFAULT_MODEL, StageSettings, TeachConfig
from chatwright.progress import console
from chatwright.workspace.database import Workspace, located_path, relative_path

LEAST_RANKINGS = 8
_LEAST_HELD_OUT = 20  # rankings; with fewer the report card is made of a share of the training rankings
_STAGES = 6


@dataclass(frozen=True, kw_only=True)
class RetrainConfig:
    """Train on the labels of a workspace and compare the result with the model that serves."""

    workspace: str = "workspace"
    """Folder of the workspace; models and exports are kept in it. The server may be running."""
    database: str = ""
    """Database URL; empty: CHATWRIGHT_DATABASE_URL, else SQLite in the workspace."""
    project: str = ""
    """Name or id of the project; empty: all."""
    labeller_kinds: tuple[LabellerKind, ...] = ("human", "simulated", "ai")
    """Whose labels."""
    rankings: Literal["labels", "merged"] = "labels"
    """A ranking per label, or per task with the merged order, which holds less of each labeller's mistakes. Tasks that are
    complete and not merged yet are left out: `chatwright feedback merge`, or the button on the dashboard, first."""
    base: str = ""
    """Model to start from: a name, a folder, or the id of a model of this workspace. Empty: `configured`, so that every
    retraining learns from all labels anew."""
    serving_name: str = ""
    """Name under which the model serves that the new one is compared with, as in /v1/models; empty: `configured`."""
    configured: str = ""
    """The model that the server was started with under that name; empty: the default model."""
    judge: Literal["", "general-en"] = ""
    """A rubric that judges the comparison besides the reward model. It is a simulation, and is named as one."""
    ai: AIJudgeConfig | None = None
    """An AI judge of the comparison. Its key: --ai.api-key, JUDGE_API_KEY, or a file named by JUDGE_API_KEY_FILE."""
    compare_tasks: int = 0
    """Pairs of answers, old and new model, that are put into the queue for people to compare blindly."""
    corpus: tuple[str, ...] = ()
    """Text for ptx; empty: replay text sampled from the base model."""
    fresh: bool = False
    """Train the stages whose inputs have changed, and those after them, anew; without it they are refused."""
    seed: int = 0
    """Fixes everything that is drawn."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Compute format."""
    ignore_gate: bool = False
    """Go on to PPO even when the report card forbids it."""
    stages: StageSettings = StageSettings()
    """Size dials; those of sampling and labelling have no effect."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a retraining works on, fixed at its start."""

    export: Export
    base: str
    """Name or folder."""
    parent: str | None
    """The base's id where it is a model of the workspace."""
    against: str
    """Name or folder of the model that serves."""
    against_id: str
    """Its id, or "configured"."""


def retrain(cfg: RetrainConfig) -> dict[str, Any]:
    """Run or go on with the chain; returns the registry's row as a dict. DataError when there are too few labels."""
    lease = Lease.from_environment()
    with opened(cfg.workspace, cfg.database) as workspace:
        _report(workspace, lease, 1, "export")
        plan = _plan(workspace, cfg, lease)
        chain = _chain(workspace, cfg, plan)
        comparison = _train(workspace, cfg, plan, chain, lease)
        result = _register(workspace, cfg, plan, chain, comparison, lease)
        newest, actor = Path(chain.path("4-reward")), lease.job if lease else "cli"
        ordered = prioritise(workspace, newest, device=cfg.device, precision=cfg.precision, actor=actor)
        console().print(f"retrain: {ordered} open tasks ordered by how much the reward models disagree about them")
        return result


def _plan(workspace: Workspace, cfg: RetrainConfig, lease: Lease | None) -> Plan:
    """Export, base and opponent; of a job that was begun before, those of its first attempt."""
    kept = _kept(workspace, lease)
    if kept is None:
        chosen = ExportFilter(project=cfg.project, labeller_kinds=cfg.labeller_kinds, rankings=cfg.rankings)
        frozen = exporting.export(workspace, chosen, actor=lease.job if lease else "cli")
        configured = cfg.configured or DEFAULT_MODEL
        with workspace.session() as session:
            serving = lineage.serving(session, cfg.serving_name or configured)
            base = session.get(ModelRow, cfg.base) if cfg.base.startswith("model_") else None
            if base is None and cfg.base.startswith("model_"):
                raise ConfigError(f"--base {cfg.base}: there is no such model in {cfg.workspace}")
            kept = {
                "export": relative_path(session, frozen.path), "base": base.path if base else cfg.base or configured,
                "parent": base.id if base else None, "against": serving.path if serving else configured,
                "against_id": serving.id if serving else CONFIGURED,
            }  # fmt: skip
            if lease is not None:
                jobs.effect(session, lease, "planned", **kept)
    plan = _located(workspace, kept)
    counts = plan.export.counts["train"]
    console().print(f"retrain: export {plan.export.id[:16]}: " + ", ".join(f"{n} {name}" for name, n in counts.items()))
    waiting = plan.export.left_out.get(UNMERGED, 0)
    if waiting:
        console().print(f"retrain: {waiting} complete tasks are left out, not merged yet (chatwright feedback merge)")
    if counts["rankings"] < LEAST_RANKINGS:
        raise DataError(
            f"{plan.export.path}: {counts['rankings']} rankings to train on; {'merge or ' if waiting else ''}label more "
            f"(at least {LEAST_RANKINGS}, and some hundreds for a reward model that is worth anything)"
        )
    if not plan.export.counts["held_out"]["prompts"]:
        raise DataError(f"{plan.export.path}: no prompt is held out, so nothing could be compared; add some of more users")
    return plan


def _located(workspace: Workspace, kept: Mapping[str, Any]) -> Plan:
    """The plan with absolute folders: those of models and exports are kept relative to the workspace."""
    with workspace.reading() as session:
        base = str(located_path(session, kept["base"])) if kept["parent"] else kept["base"]
        ours = kept["against_id"] != CONFIGURED
        against = str(located_path(session, kept["against"])) if ours else kept["against"]
        export = exporting.read(located_path(session, kept["export"]))
    return Plan(export=export, base=base, parent=kept["parent"], against=against, against_id=kept["against_id"])


def _kept(workspace: Workspace, lease: Lease | None) -> dict[str, Any] | None:
    if lease is None:
        return None
    with workspace.reading() as session:
        effect = session.get(JobEffect, (lease.job, "planned"))
        return dict(effect.data) if effect is not None else None


def _chain(workspace: Workspace, cfg: RetrainConfig, plan: Plan) -> Chain:
    """A folder of stages; the same export and settings lead to the same folder."""
    frozen = plan.export
    given = replace(cfg, workspace="", database="", ai=None, compare_tasks=0, ignore_gate=False, fresh=False)
    name = f"{frozen.id[:8]}-{config_hash(given)[:8]}"
    teach = TeachConfig(
        model=plan.base, demonstrations=_files(frozen, "demonstrations"), prompts=_files(frozen, "prompts"),
        rankings=_files(frozen, "rankings"), corpus=cfg.corpus, out=str(workspace.folder.absolute() / "models" / name),
        seed=cfg.seed, device=cfg.device, precision=cfg.precision, ignore_gate=cfg.ignore_gate, fresh=cfg.fresh,
        stages=cfg.stages,
    )  # fmt: skip
    chain = Chain(teach)
    chain.num_stages = _STAGES
    if not teach.demonstrations:
        chain.start = plan.base
    if frozen.counts["held_out"]["rankings"] >= _LEAST_HELD_OUT:
        chain.held_out = (str(frozen.file("held_out", "rankings")),)
    return chain


def _files(frozen: Export, name: str) -> tuple[str, ...]:
    return (str(frozen.file("train", name)),) if frozen.counts["train"][name] else ()


def _train(workspace: Workspace, cfg: RetrainConfig, plan: Plan, chain: Chain, lease: Lease | None) -> Comparison:
    teach = chain.cfg

    def stage(number: int, name: str, work: Callable[[], Any]) -> Any:
        _report(workspace, lease, number, name)
        return chain.stage(number, name, work)

    if teach.demonstrations:
        stage(2, "sft", lambda: train_sft(chain, teach.demonstrations))
    reserved = 0.0 if cfg.ai else judge_share(chain, teach.rankings)
    stage(3, "reward", lambda: train_reward(chain, teach.rankings, teach.demonstrations, reserved))
    if reserved:
        stage(3, "judge", lambda: train_reward(chain, teach.rankings, teach.demonstrations, reserved, judge=True))
    if (closed := closed_gate(chain)) is not None:
        if teach.demonstrations:
            console().print(f"retrain: the SFT model is there all the same: chatwright chat --model {chain.path('1-sft')}")
        raise closed
    corpus = cfg.corpus
    if not corpus and cfg.stages.ptx_gamma:
        corpus = (stage(4, "ptx text", lambda: write_replay(chain)),)
    (prompts,) = teach.prompts
    stage(5, "ppo", lambda: train_ppo(chain, prompts, corpus))
    judges = ((cfg.judge,) if cfg.judge else ()) + ((chain.path(JUDGE_FOLDER),) if reserved else ())
    judges += (chain.path("4-reward"),)
    done: Comparison = stage(6, "comparison", lambda: compare(chain, plan.against, plan.export, judges, cfg.ai))
    return done


def _report(workspace: Workspace, lease: Lease | None, number: int, stage: str) -> None:
    """Tell who watches the job. Raises FencedOff when it has gone to another worker."""
    if lease is not None:
        with workspace.session() as session:
            jobs.report(session, lease, number=number, of=_STAGES, stage=stage)


def _register(
    workspace: Workspace, cfg: RetrainConfig, plan: Plan, chain: Chain, comparison: Comparison, lease: Lease | None
) -> dict[str, Any]:
    """Enter the model, once; put pairs into the queue, once."""
    path = Path(chain.path("6-ppo")) / "final"
    figures: dict[str, Any] = {
        "report_card": _card(chain), "seconds": chain.times.state["seconds"], "machine": chain.machine(),
        "comparison": {"against": plan.against, "against_id": plan.against_id, "verdicts": comparison.verdicts},
        "settings": asdict(cfg.stages) | {"seed": cfg.seed, "labeller_kinds": list(cfg.labeller_kinds)},
    }  # fmt: skip
    actor = lease.job if lease is not None else "cli"
    with workspace.session() as session:
        row = lineage.at(session, path)
        if lease is None or jobs.effect(session, lease, "registered"):
            tasks = list(row.figures["comparison"].get("tasks", [])) if row else []
            if cfg.compare_tasks and not tasks:
                tasks = comparison.add_tasks(session, cfg.project, cfg.compare_tasks, actor=actor)
            figures["comparison"]["tasks"] = tasks
            row = lineage.register(
                session, name=f"retrained-{Path(chain.cfg.out).name}", path=path, base=plan.base, parent=plan.parent,
                exports=[plan.export.id], figures=figures, actor=actor, job=lease.job if lease else "",
            )  # fmt: skip
            if lease is not None:
                jobs.note(session, lease, model=row.id)
        assert row is not None  # it was registered before
        refusal = lineage.blocker(session, row, cfg.serving_name or cfg.configured or DEFAULT_MODEL).text
        result = {"model": row.id, "name": row.name, "path": str(path), "export": plan.export.id, "refusal": refusal}
    _say(result, comparison)
    return {**result, "verdicts": comparison.verdicts}


def _card(chain: Chain) -> dict[str, Any]:
    """What the report card says, in the figures that a page shows."""
    result = json.loads((Path(chain.path("4-reward")) / "result.json").read_text(encoding="utf-8"))
    names = ("accuracy", "length_baseline", "gate", "rankings", "simulated_share", "ties")
    return {name: result.get(name) for name in names}


def _say(result: Mapping[str, Any], comparison: Comparison) -> None:
    for verdict in comparison.verdicts:
        interval = f"{verdict['rate']:.3f} [{verdict['low']:.3f}, {verdict['high']:.3f}]"
        judge = f"{verdict['judge']} ({verdict['judge_kind']})"
        if "unreadable" in verdict:
            judge += f", {verdict['unreadable']} of {verdict['replies']} replies unreadable"
        console().print(f"retrain: win rate over the serving model {interval}, judge: {judge}")
    print(f"model {result['model']}: {result['path']}")
    print(f"not to be promoted: {result['refusal']}" if result["refusal"] else "may be promoted")
    console().print(
        "retrain: a promoted model answers under the name of the one it replaces; start the server with "
        "--model assistant=FOLDER to choose that name"
    )
