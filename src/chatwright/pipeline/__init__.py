"""Chains of stages: `teach` (your model, demonstrations, prompts and rankings in; an aligned model and its report out),
`quickstart` (teach on the bundled museum), `run` (the stages a TOML file lists). The only place where recipes meet.

    1 sft          demonstrations -> a model that answers in the house's way
    2 sample       K answers of it to every prompt
    3 rankings     a labeller orders them, ties included (or: your own file)
    4 reward       a model of those preferences, with its report card
    5 ptx text     your corpus, or replay text sampled from the base model
    6 ppo          PPO-ptx against the learned reward
    7 evaluation   base, SFT and PPO on held-out questions; report.json, report.html

Every stage is a run of its own below the output folder; a stage that is complete is not run again. One whose inputs or
settings have changed is refused, or with --fresh made anew, and so are those that read what it makes.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from chatwright import __version__
from chatwright import config as configs
from chatwright.errors import ConfigError, DataError, RunChangedError
from chatwright.pipeline.closed_gate import closed_gate, report_without_ppo
from chatwright.pipeline.inputs import divide
from chatwright.pipeline.judging import JUDGE_FOLDER, evaluate_models, judge_share, preferred, said_recommendation
from chatwright.pipeline.run_file import run
from chatwright.pipeline.settings import (
    CHINESE_MODEL,
    DEFAULT_MODEL,
    QuickstartConfig,
    RunConfig,
    StageSettings,
    TeachConfig,
)
from chatwright.pipeline.times import StageTimes, said_anew
from chatwright.progress import console

_AUTO_RANK = 16  # of adapters, where the model is too large for four copies with Adam's moments on a small machine
_FULL_MAX_PARAMETERS = 300_000_000


def quickstart(cfg: QuickstartConfig) -> dict[str, Any]:
    """Teach the museum's ways; results in cfg.out."""
    if cfg.language == "zh" and cfg.model in ("", DEFAULT_MODEL):
        raise ConfigError(
            f"--language zh: the default model {DEFAULT_MODEL} speaks no Chinese. Name a multilingual one, "
            f"e.g. --model {CHINESE_MODEL} (opt-in) or a Hugging Face name"
        )
    museum = files("chatwright") / "bundled" / "museum" / cfg.language
    return teach(
        TeachConfig(
            model=cfg.model or DEFAULT_MODEL,
            demonstrations=(str(museum / "demonstrations.jsonl"),),
            prompts=(str(museum / "prompts.jsonl"),),
            questions=(str(museum / "heldout.jsonl"),),
            labeller="simulated",
            language=cfg.language,
            out=cfg.out,
            seed=cfg.seed,
            device=cfg.device,
            precision=cfg.precision,
            ignore_gate=cfg.ignore_gate,
            fresh=cfg.fresh,
            stages=cfg.stages,
        )
    )


class Chain:
    """Where the chain's files are, and how long each stage took (kept over restarts)."""

    num_stages = 7

    def __init__(self, cfg: TeachConfig) -> None:
        self.cfg = cfg
        self.folder = Path(cfg.out)
        self.start = self.path("1-sft")
        """The model that reward model and PPO begin with."""
        self.held_out: tuple[str, ...] = ()
        """Rankings for the report card; none: a share of the rankings."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.anew = False
        """True when the stage that runs replaces what it left before."""
        self._note_config()
        self.times = StageTimes(self.folder / "chain.json")

    def _note_config(self) -> None:
        """Keep the settings for --config. Every stage compares its own, so those of later stages may change."""
        from chatwright.engine.checkpoint import write_text

        path, header = self.folder / "config.toml", "chatwright teach"
        if path.is_file() and not path.read_text(encoding="utf-8").startswith(f"# {header}\n"):
            raise ConfigError(f"--out {self.folder}: holds another run; use another --out")
        write_text(path, configs.dump_toml(replace(self.cfg, ignore_gate=False, fresh=False), header=header))

    def stage(self, number: int, name: str, work: Callable[[], Any]) -> Any:
        """Run one stage, timing it; None when it waits for people. RunChangedError when it was made from other inputs or
        settings; with --fresh it is then made anew."""
        console().print(f"{number}/{self.num_stages} {name}", style="bold")
        try:
            return self.times.stage(name, work, may_wait=True)
        except RunChangedError as error:
            if not self.cfg.fresh:
                raise
            console().print(said_anew(error))
        self.times.forget(name)
        self.anew = True
        try:
            return self.times.stage(name, work, may_wait=True)
        finally:
            self.anew = False

    def machine(self) -> str:
        """What the chain was computed on."""
        return self.times.machine(self.cfg.precision, self.cfg.device)

    def path(self, name: str) -> str:
        """A file or folder of the chain."""
        return str(self.folder / name)


def teach(cfg: TeachConfig) -> dict[str, Any]:
    """The whole chain. Returns report.json's contents, or the state of waiting for people's rankings."""
    _check_inputs(cfg)
    chain = Chain(cfg)
    _fetch(cfg)
    inputs = divide(cfg, chain.folder)
    chain.stage(1, "sft", lambda: train_sft(chain, inputs.demonstrations))
    rankings = inputs.rankings
    if not rankings:
        samples = chain.stage(2, "sample", lambda: _sample(chain, inputs.to_rank))
        made = chain.stage(3, "rankings", lambda: _label(chain, samples))
        if made is None:
            return {"waiting_for": chain.path("3-labels")}
        rankings = (made,)
    else:
        console().print(f"2-3/{chain.num_stages} sample, rankings: left out, the rankings are given", style="bold")
    reserved = judge_share(chain, rankings)
    chain.stage(4, "reward", lambda: train_reward(chain, rankings, inputs.demonstrations, reserved))
    if reserved:
        chain.stage(4, "judge", lambda: train_reward(chain, rankings, inputs.demonstrations, reserved, judge=True))
    if (closed := closed_gate(chain)) is not None:
        report_without_ppo(chain, inputs.questions)
        raise closed
    corpus = cfg.corpus or ((chain.stage(5, "ptx text", lambda: write_replay(chain)),) if cfg.stages.ptx_gamma else ())
    chain.stage(6, "ppo", lambda: train_ppo(chain, inputs.prompts, corpus))
    evaluation = chain.stage(7, "evaluation", lambda: _evaluate(chain, inputs.questions, bool(reserved)))
    return _report(chain, evaluation)


def _check_inputs(cfg: TeachConfig) -> None:
    from chatwright.data.shards import is_built

    named = [*cfg.demonstrations, *cfg.prompts, *cfg.rankings, *cfg.questions, *cfg.corpus]
    for path in named:
        if not Path(path).is_file() and not (path in cfg.corpus and is_built(path)):
            raise DataError(f"{path}: there is no such file")
    if cfg.labeller == "ai" and not (cfg.ai_base_url and cfg.ai_model) and not cfg.rankings:
        raise ConfigError("--labeller ai needs --ai-base-url and --ai-model, the judge's address and name")


def _fetch(cfg: TeachConfig) -> None:
    """Fetch and convert the model before the clock starts."""
    from chatwright.engine.memory import trim

    _model_folder(cfg.model)
    gc.collect()
    trim()


def _lora(cfg: TeachConfig) -> Any:
    """The adapters of every stage; None: all weights are trained."""
    from chatwright.model.formats.huggingface import read_config
    from chatwright.model.lora import LoraConfig

    rank = cfg.stages.lora_rank
    if rank is None:
        rank = _AUTO_RANK if read_config(_model_folder(cfg.model)).num_parameters() > _FULL_MAX_PARAMETERS else 0
    return LoraConfig(rank=rank, alpha=2.0 * rank) if rank else None


def _rate(cfg: TeachConfig, rate: float) -> Any:
    """The optimiser of a stage, at the rate that suits what is trained."""
    from chatwright.engine.optim import OptimConfig

    return OptimConfig(lr=rate * cfg.stages.lora_rate_scale if _lora(cfg) else rate)


def _model_folder(model: str) -> Path:
    """The Hugging Face folder of what --model names: a hub name, a file, a folder, or a run of ours."""
    from chatwright import hub
    from chatwright.generation.lm import ADAPTER_CONFIG
    from chatwright.model.formats.convert import ensure_hf_folder

    path = hub.model_folder(model)
    folder = path if path.is_dir() else ensure_hf_folder(hub.resolve(model))
    if (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file():
        raise ConfigError(
            f"--model {model}: an adapter without its base model; merge the two first: "
            f"chatwright export --model {model} --to hf --out FOLDER, then --model FOLDER"
        )
    return folder


def _has_default_system(model: str) -> bool:
    """Whether the model's template has a place for a default system message."""
    from chatwright.text.tokenizer import Tokenizer

    return Tokenizer.from_folder(_model_folder(model)).template.name in ("chatml", "native")


def train_sft(chain: Chain, demonstrations: tuple[str, ...]) -> dict[str, Any]:
    """Stage sft."""
    from chatwright.recipes import sft

    cfg, stages = chain.cfg, chain.cfg.stages
    return sft.main(
        sft.SFTConfig(
            model=cfg.model,
            data=demonstrations,
            out=chain.path("1-sft"),
            fresh=chain.anew,
            system=cfg.system if _has_default_system(cfg.model) else None,
            seed=cfg.seed,
            device=cfg.device,
            precision=cfg.precision,
            train=sft.SFTTrainConfig(
                epochs=stages.sft_epochs, save_every_steps=25, frozen_layers=stages.frozen_layers
            ),
            optim=_rate(cfg, stages.sft_lr),
            lora=_lora(cfg),
        )
    )


def _sample(chain: Chain, prompts: str) -> str:
    from chatwright.recipes import sample

    cfg, stages = chain.cfg, chain.cfg.stages
    sample.main(
        sample.SampleConfig(
            model=chain.path("1-sft"),
            data=(prompts,),
            out=chain.path("2-samples.jsonl"),
            fresh=chain.anew,
            n=stages.answers,
            max_new_tokens=stages.max_new_tokens,
            seed=cfg.seed,
            device=cfg.device,
            precision=cfg.precision,
        )
    )
    return chain.path("2-samples.jsonl")


def _label_settings(chain: Chain, samples: str) -> Any:
    """Settings of stage rankings."""
    from chatwright.labellers import commands as labels
    from chatwright.labellers.ai_judge import AIJudgeConfig

    cfg = chain.cfg
    out = chain.path("3-rankings.jsonl")
    common: dict[str, Any] = {"data": (samples,), "out": out, "labeller": cfg.labeller, "fresh": chain.anew}
    if cfg.labeller == "simulated":
        simulated = labels.SimulatedConfig(language=cfg.language, noise=cfg.stages.noise, seed=cfg.seed)
        return labels.LabelConfig(**common, simulated=simulated)
    if cfg.labeller == "ai":
        return labels.LabelConfig(**common, ai=AIJudgeConfig(base_url=cfg.ai_base_url, model=cfg.ai_model))
    return labels.LabelConfig(**common, human=labels.HumanConfig(folder=chain.path("3-labels")))


def _label(chain: Chain, samples: str) -> str | None:
    """Rank the samples; None when people still have to."""
    from chatwright.engine.checkpoint import write_text
    from chatwright.labellers import commands as labels

    settings, done = _label_settings(chain, samples), Path(chain.path("3-labels.json"))
    labels.open_rankings(settings)
    if chain.cfg.labeller != "human" and done.is_file() and Path(settings.out).is_file():  # written when all are ranked
        return str(settings.out)
    result = labels.label(replace(settings, fresh=False))
    if chain.cfg.labeller == "human" and result["rankings"] < result["tasks"]:
        console().print(
            f"Rank the answers in {chain.path('3-labels')} (rankings.jsonl there), then run the same command again. Or rank "
            f"them on the labelling desk: `chatwright feedback import {samples} --workspace workspace`, `chatwright serve "
            "--workspace workspace`, then `chatwright feedback export --out labels` and the same command with --rankings "
            "labels/train/rankings.jsonl"
        )
        return None
    write_text(done, json.dumps(result, indent=1) + "\n")
    return str(settings.out)


def train_reward(
    chain: Chain, rankings: tuple[str, ...], demonstrations: tuple[str, ...], reserved: float = 0.0, *, judge: bool = False
) -> dict[str, Any]:
    """Stage reward, without a `reserved` share of the prompts; `judge`: the second reward model, which learns from these."""
    from chatwright.data.ranking_splits import ReservedConfig
    from chatwright.recipes import reward

    cfg, stages = chain.cfg, chain.cfg.stages
    return reward.main(
        reward.RewardConfig(
            model=chain.start,
            data=rankings,
            demonstrations=demonstrations,
            out=chain.path(JUDGE_FOLDER if judge else "4-reward"),
            fresh=chain.anew,
            seed=cfg.seed,
            device=cfg.device,
            precision=cfg.precision,
            train=reward.RewardTrainConfig(
                epochs=stages.reward_epochs,
                batch_size=stages.reward_batch,
                save_every_steps=60,
                frozen_layers=stages.frozen_layers,
                head_init="zeros",
                head_lr=1e-3,
            ),
            eval=reward.RewardEvalConfig(data=() if judge else chain.held_out, share=stages.reward_held_out),
            reserved=ReservedConfig(share=reserved, learn=judge),
            optim=_rate(cfg, stages.reward_lr),
            lora=_lora(cfg),
        )
    )


def write_replay(chain: Chain) -> str:
    """Text of the base model's own, since its pre-training corpus is not at hand."""
    from chatwright.recipes import replay

    cfg = chain.cfg
    return replay.main(
        replay.ReplayConfig(
            model=cfg.model,
            out=chain.path("5-replay.jsonl"),
            fresh=chain.anew,
            num_texts=cfg.stages.replay_texts,
            seed=cfg.seed,
            device=cfg.device,
            precision=cfg.precision,
        )
    )["out"]


def train_ppo(chain: Chain, prompts: str, corpus: tuple[str, ...]) -> dict[str, Any]:
    """Stage ppo."""
    from chatwright.recipes import ppo, ppo_config

    cfg, stages = chain.cfg, chain.cfg.stages
    return ppo.main(
        ppo_config.PPOConfig(
            model=chain.start,
            reward=(chain.path("4-reward"),),
            data=(prompts,),
            out=chain.path("6-ppo"),
            fresh=chain.anew,
            seed=cfg.seed,
            device=cfg.device,
            precision=cfg.precision,
            ignore_gate=cfg.ignore_gate,
            train=ppo_config.PPOTrainConfig(
                steps=stages.ppo_steps,
                save_every_steps=max(1, (stages.ppo_steps + 1) // 2),
                keep_checkpoints=1,
                frozen_layers=stages.frozen_layers,
            ),
            rollout=ppo_config.RolloutConfig(batch_size=stages.ppo_batch, max_new_tokens=stages.max_new_tokens),
            ppo=ppo_config.PPOAlgorithmConfig(beta=stages.beta, lam=1.0),
            ptx=ppo_config.PtxConfig(
                data=corpus, gamma=stages.ptx_gamma, per_episode=stages.ptx_per_episode, held_out=16
            )
            if corpus
            else ppo_config.PtxConfig(),
            optim=_rate(cfg, stages.ppo_lr),
            critic_optim=_rate(cfg, stages.critic_lr),
            lora=_lora(cfg),
        )
    )


def _evaluate(chain: Chain, questions: str, judged: bool) -> dict[str, Any]:
    judge = chain.path(JUDGE_FOLDER if judged else "4-reward")
    result = evaluate_models(chain, ("sft=1-sft", "ppo=6-ppo"), questions, "7-evaluation", judge)
    return preferred(result, Path(chain.path("7-evaluation")), chain.cfg)


def _report(chain: Chain, evaluation: dict[str, Any]) -> dict[str, Any]:
    """report.json, report.html, the table, and what to do next."""
    from chatwright.engine.checkpoint import write_text
    from chatwright.evals import teach_report
    from chatwright.evals.terminal import print_table
    from chatwright.labellers.rubric import gold_judge, rubric_for

    cfg = chain.cfg
    simulated = evaluation["judge"].startswith("museum-")
    labels_file = Path(chain.path("3-labels.json"))
    paths = {"base": cfg.model, "sft": chain.path("1-sft/final"), "ppo": chain.path("6-ppo/final")}
    about = {
        "model": cfg.model,
        "language": cfg.language,
        "seed": cfg.seed,
        "folder": str(chain.folder),
        "command": f"chatwright teach --config {chain.path('config.toml')}",
        "chat_command": f"chatwright chat --model {paths[evaluation['recommended']]}",
        "machine": chain.machine(),
        "chatwright": __version__,
    }
    files = teach_report.ChainFiles(
        sft=Path(chain.path("1-sft")),
        reward=Path(chain.path("4-reward")),
        ppo=Path(chain.path("6-ppo")),
        evaluation=Path(chain.path("7-evaluation")),
        labels=json.loads(labels_file.read_text(encoding="utf-8")) if labels_file.is_file() and simulated else {},
        replay=not cfg.corpus,
    )
    report, page = teach_report.build(
        files,
        evaluation,
        seconds=chain.times.state["seconds"],
        peak_rss_bytes=chain.times.state["peak_rss_bytes"],
        paths=paths,
        about=about,
        judge=gold_judge(rubric_for(cfg.language)) if simulated else None,
    )
    teach_report.write(chain.folder, report, page, write_text)
    print_table(report)
    print(f"\nreport:    {chain.path('report.html')}\n{said_recommendation(report, paths)}")
    print(f"chat with: {about['chat_command']}")
    return report


__all__ = ["QuickstartConfig", "RunConfig", "StageSettings", "TeachConfig", "quickstart", "run", "teach"]
