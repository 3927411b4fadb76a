"""What `--judge` names: a rubric, or a reward model in a run folder. Part of evaluate and overopt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from chatwright.evals.harness import Answer, Judge
from chatwright.evals.rewards import LearnedReward, check_learned, open_learned
from chatwright.labellers.general import GeneralRubric
from chatwright.labellers.rubric import gold_judge, keywords_of, rubric_for
from chatwright.records import Prompt

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


def open_judge(name: str, device: torch.device, dtype: torch.dtype) -> tuple[Judge, str]:
    """(judge, language) of --judge. ConfigError or DataError when it names neither."""
    if name == GENERAL:
        return gold_judge(GeneralRubric()), "en"
    if name.startswith(_MUSEUM):
        language = name.removeprefix(_MUSEUM)
        return gold_judge(rubric_for(language)), language
    learned: LearnedReward = open_learned(name, dtype=dtype, device=device)

    def judge(prompt: Prompt, answer: Answer) -> _RewardVerdict:
        score = float(learned.score_texts([(prompt.messages, answer.text, answer.ended)])[0])
        return _RewardVerdict(total=score, parts={"reward": score})

    return judge, "en"
