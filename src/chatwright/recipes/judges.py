"""What `--judge` names: a rubric, or a reward model in a run folder. Part of evaluate and overopt."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from chatwright.evals.harness import Answer, Judge
from chatwright.evals.rewards import LearnedReward, check_learned, open_learned
from chatwright.labellers.general import GeneralRubric
from chatwright.labellers.rubric import gold_judge, keywords_of, rubric_for
from chatwright.records import Prompt
from chatwright.text.languages import language_of

_MUSEUM = "museum-"
GENERAL = "general-en"


@dataclass(frozen=True, kw_only=True)
class _RewardVerdict:
    total: float
    parts: Mapping[str, float]


def check_prompts(judge: str, prompts: Sequence[Prompt], where: str) -> None:
    """Before anything is generated: DataError when the judge is a rubric and a prompt lacks its key words, or a reward model
    whose context a prompt fills."""
    if judge.startswith(_MUSEUM):
        for prompt in prompts:
            keywords_of(prompt.meta, f"{where}: question {prompt.messages[-1].content!r}")
    elif judge != GENERAL:
        check_learned(judge, prompts, where)


def kind_of(judge: str, models: Sequence[str]) -> str:
    """The kind of a judge for these models: "simulated" (a rubric), "learned" (a reward model that one of them was trained
    against: an upper bound) or "held_out" (a reward model that none was trained against)."""
    if judge == GENERAL or judge.startswith(_MUSEUM):
        return "simulated"
    used = {folder for model in models for folder in training_rewards(model)}
    return "learned" if _run_folder(judge) in used else "held_out"


def training_rewards(model: str) -> set[Path]:
    """Run folders of the reward models that a model, or one that it was made from, was trained or selected by."""
    found: set[Path] = set()
    seen: set[Path] = set()
    while (folder := _run_folder(model)) not in seen and (folder / "result.json").is_file():
        seen.add(folder)
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        found |= {_run_folder(str(one).rpartition("*")[2]) for one in result.get("reward", [])}
        model = str(result.get("model", ""))
    return found


def gate_of(judge: str) -> str:
    """Why the report card of a reward model is not good enough, "" when it is."""
    result = _run_folder(judge) / "result.json"
    if not result.is_file():
        return "it has no report card"
    return str(json.loads(result.read_text(encoding="utf-8")).get("gate") or "")


def _run_folder(name: str) -> Path:
    path = Path(name).expanduser().resolve()
    return path.parent if path.name == "final" else path


def open_judge(name: str, device: torch.device, dtype: torch.dtype, prompts: Sequence[Prompt] = ()) -> tuple[Judge, str]:
    """(judge, language) of --judge: a museum rubric has a language of its own, others that of most prompts.
    ConfigError or DataError when it names neither."""
    spoken = Counter(language_of(prompt.messages[-1].content) for prompt in prompts)
    language = spoken.most_common(1)[0][0] if spoken else "en"
    if name == GENERAL:
        return gold_judge(GeneralRubric()), language
    if name.startswith(_MUSEUM):
        language = name.removeprefix(_MUSEUM)
        return gold_judge(rubric_for(language)), language
    learned: LearnedReward = open_learned(name, dtype=dtype, device=device)

    def judge(prompt: Prompt, answer: Answer) -> _RewardVerdict:
        score = float(learned.score_texts([(prompt, answer.text, answer.ended)])[0])
        return _RewardVerdict(total=score, parts={"reward": score})

    return judge, language
