"""Where rewards come from: learned models, a Python function, an HTTP endpoint, or a weighted mix of them.

A learned reward reads token ids when it shares the policy's tokenizer and text when it does not.
Shapes: B answers.
"""

from __future__ import annotations

import http.client
import importlib
import json
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from chatwright.data.passages import prompt_tokens
from chatwright.data.responses import response_batches
from chatwright.engine.record import Source
from chatwright.errors import ConfigError, DataError, GateError
from chatwright.generation.api import Completion
from chatwright.generation.lm import check_manifest
from chatwright.hub import model_folder
from chatwright.hub.run_folders import FINAL
from chatwright.model.formats.huggingface import read_config
from chatwright.model.formats.reward import load_scalar_model
from chatwright.model.heads import ScalarModel
from chatwright.progress import console
from chatwright.records import Prompt
from chatwright.retries import TransientError, may_pass, retry_after_s, with_retries
from chatwright.text.chat import answer_ids
from chatwright.text.tokenizer import Tokenizer

_HTTP_TIMEOUT_S = 60.0
_RETRIES = 6
_RETRY_WAIT_S = 2.0  # doubles: two minutes in all before a run is saved and stopped


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One prompt with one answer, as text and as the policy's token ids (with the stop token when `ended`)."""

    prompt: Prompt
    text: str
    ended: bool
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]


def answered(prompt: Prompt, completion: Completion) -> Answered:
    """A prompt with a sampled completion."""
    return Answered(
        prompt=prompt,
        text=completion.text,
        ended=completion.finish_reason == "stop",
        prompt_ids=completion.prompt_ids,
        response_ids=completion.ids,
    )


class Reward(Protocol):
    """Anything that scores answers."""

    def score(self, answers: Sequence[Answered]) -> torch.Tensor:
        """[B] fp32 on the CPU."""


class LearnedReward:
    """A reward model, read at the last token of the answer (never at a pad)."""

    def __init__(self, model: ScalarModel, tokenizer: Tokenizer, *, micro_tokens: int = 2048) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.micro_tokens = micro_tokens

    def score(self, answers: Sequence[Answered]) -> torch.Tensor:
        """Score by token ids; the caller vouches that they are this tokenizer's."""
        return self.score_ids([a.prompt_ids for a in answers], [self._ending(a) for a in answers])

    def _ending(self, answer: Answered) -> tuple[int, ...]:
        """The response with the stop token that the model was trained on. A policy may stop by another one
        (`<|endoftext|>`), whose score nobody taught."""
        ids = answer.response_ids
        if answer.ended and ids and ids[-1] in self.tokenizer.stop_ids:
            return (*ids[:-1], self.tokenizer.end_of_turn_id)
        return ids

    @torch.no_grad()
    def score_ids(self, prompt_ids: Sequence[Sequence[int]], response_ids: Sequence[Sequence[int]]) -> torch.Tensor:
        """[B] scores of prompt + response."""
        device = self.model.head.weight.device
        response_ids = self._within_context(prompt_ids, response_ids)
        out_B = torch.zeros(len(prompt_ids))
        pad_id = self.tokenizer.pad_id
        for batch in response_batches(
            prompt_ids, response_ids, range(len(prompt_ids)), self.micro_tokens, pad_id, device
        ):
            hidden_BTD = self.model.trunk(batch.tokens_BT)
            rows = torch.arange(len(batch.rows), device=device)
            out_B[list(batch.rows)] = self.model.head(hidden_BTD[rows, batch.last_B]).cpu()
        return out_B

    @property
    def context(self) -> int:
        """Longest prompt and answer together, in tokens."""
        return self.model.trunk.config.max_positions

    def prompt_ids(self, prompt: Prompt) -> tuple[int, ...]:
        """The prompt with its passages in this model's own tokens. Passages are cut as in training, to leave room."""
        return prompt_tokens(prompt, self.tokenizer, self.context * 3 // 4)[0]

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """DataError when a prompt leaves no room for an answer in the context."""
        lengths = [len(self.prompt_ids(prompt)) for prompt in prompts]
        self._within_context([range(length) for length in lengths], [()] * len(lengths))

    def _within_context(
        self, prompt_ids: Sequence[Sequence[int]], response_ids: Sequence[Sequence[int]]
    ) -> list[Sequence[int]]:
        """Responses cut to the room that the context leaves. DataError when a prompt leaves none."""
        rooms = [self.context - len(ids) for ids in prompt_ids]
        if rooms and min(rooms) < 1:
            raise DataError(
                f"reward model: a prompt of {self.context - min(rooms)} tokens leaves no room for an answer in its "
                f"context of {self.context} tokens; shorten the prompt or take a reward model with a longer context"
            )
        cut = sum(len(ids) > room for ids, room in zip(response_ids, rooms, strict=True))
        if cut:
            words = f"{cut} of {len(rooms)} answers cut at its context of {self.context} tokens"
            print(f"reward model: {words}", file=sys.stderr)
        return [ids[:room] for ids, room in zip(response_ids, rooms, strict=True)]

    def score_texts(self, answers: Sequence[tuple[Prompt, str, bool]]) -> torch.Tensor:
        """[B] scores of (prompt, answer, ended) in this model's own tokens."""
        prompt_ids = [self.prompt_ids(prompt) for prompt, _, _ in answers]
        return self.score_ids(prompt_ids, [answer_ids(text, self.tokenizer, ended=ended) for _, text, ended in answers])


class ForeignReward:
    """A learned reward whose tokenizer is not the policy's: it scores the text."""

    def __init__(self, inner: LearnedReward) -> None:
        self.inner = inner

    def score(self, answers: Sequence[Answered]) -> torch.Tensor:
        """[B] from text."""
        return self.inner.score_texts([(a.prompt, a.text, a.ended) for a in answers])


class PythonReward:
    """`python:module:function`; called with a list of {"messages", "completion", "ended", "meta"}, returns one number each.
    `meta` holds the other fields of the prompt's row, such as a reference answer."""

    def __init__(self, source: str) -> None:
        if not {"", os.getcwd()} & set(sys.path):  # `python -m` looks into the working folder, a console script does not
            sys.path.append(os.getcwd())
        try:
            module, function = source.removeprefix("python:").split(":")
            self.function: Callable[[list[dict[str, object]]], Sequence[float]] = getattr(
                importlib.import_module(module), function
            )
        except (ValueError, ImportError, AttributeError) as error:
            raise ConfigError(f"--reward {source}: cannot be imported ({error}); write python:module:function") from None
        self.source = source

    def score(self, answers: Sequence[Answered]) -> torch.Tensor:
        """[B] from the function."""
        try:
            values = self.function(_rows(answers))
        except Exception as error:  # the user's own code
            raise DataError(f"reward {self.source}: raised {type(error).__name__}: {error}") from error
        return _as_scores(values, len(answers), self.source)


class HttpReward:
    """POST {"items": [...]} to an endpoint that answers {"scores": [...]}; items as for `PythonReward`.

    A time-out, a broken connection, 429 and 5xx are tried again with growing waits; what the endpoint refuses is not.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def score(self, answers: Sequence[Answered]) -> torch.Tensor:
        """[B] from the endpoint. DataError when it refuses, does not answer, or answers something else."""
        body = json.dumps({"items": _rows(answers)}).encode()

        def notice(words: str) -> None:
            console().print(f"reward endpoint {self.url}: {words}")

        try:
            raw = with_retries(lambda: self._post(body), retries=_RETRIES, wait_s=_RETRY_WAIT_S, notice=notice)
            scores = json.loads(raw)["scores"]
        except TransientError as error:
            raise DataError(f"reward endpoint {self.url}: {error}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"reward endpoint {self.url}: {error}; it must answer {{'scores': [...]}}") from None
        return _as_scores(scores, len(answers), self.url)

    def _post(self, body: bytes) -> bytes:
        request = urllib.request.Request(self.url, data=body, headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=_HTTP_TIMEOUT_S) as response:
                reply: bytes = response.read()
                return reply
        except urllib.error.HTTPError as error:
            if may_pass(error.code):
                raise TransientError(f"status {error.code}", retry_after_s(error.headers)) from error
            detail = error.read(300).decode("utf-8", "replace")
            raise DataError(f"reward endpoint {self.url}: it refused with status {error.code}: {detail}") from None
        except (OSError, http.client.HTTPException) as error:
            raise TransientError(f"no answer ({error or type(error).__name__})") from error


@dataclass(frozen=True, kw_only=True)
class RewardMix:
    """Weighted sum of rewards. `first_folder` is the first learned one (the critic starts from it), or empty."""

    parts: tuple[tuple[float, Reward], ...]
    first_folder: str

    def score(self, answers: Sequence[Answered]) -> torch.Tensor:
        """[B]."""
        return torch.stack([weight * part.score(answers) for weight, part in self.parts]).sum(0)

    def networks(self) -> list[ScalarModel]:
        """The learned ones' networks."""
        return [part.model if isinstance(part, LearnedReward) else part.inner.model
                for _, part in self.parts if isinstance(part, LearnedReward | ForeignReward)]  # fmt: skip

    def contexts(self) -> dict[str, int]:
        """Context in tokens of every learned reward that reads the policy's own tokens."""
        learned = [part for _, part in self.parts if isinstance(part, LearnedReward)]
        return {f"reward model {number}": part.context for number, part in enumerate(learned, start=1)}

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """DataError when a prompt leaves no room for an answer in the context of a learned reward."""
        learned = [part if isinstance(part, LearnedReward) else part.inner
                   for _, part in self.parts if isinstance(part, LearnedReward | ForeignReward)]  # fmt: skip
        for part in learned:
            part.check_prompts(prompts)

    def fitting(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[bool]:
        """Whether each prompt and an answer of so many tokens fit into every reward model with a tokenizer of its own."""
        foreign = [part.inner for _, part in self.parts if isinstance(part, ForeignReward)]
        fits = [all(len(m.prompt_ids(p)) + max_new_tokens <= m.context for m in foreign) for p in prompts]
        if not all(fits):
            shortest = min(model.context for model in foreign)
            print(
                f"{sum(fits)} of {len(prompts)} prompts used; with an answer of {max_new_tokens} tokens the others are over "
                f"the reward model's context of {shortest} tokens",
                file=sys.stderr,
            )
        return fits


def _rows(answers: Sequence[Answered]) -> list[dict[str, object]]:
    return [
        {
            "messages": [m.to_dict() for m in a.prompt.messages],
            "completion": a.text,
            "ended": a.ended,
            "meta": dict(a.prompt.meta),
        }
        for a in answers
    ]


def _as_scores(values: Sequence[float], num: int, source: str) -> torch.Tensor:
    try:
        scores_B = torch.tensor([float(v) for v in values])
    except (TypeError, ValueError):
        raise DataError(f"reward {source}: must give a list of one number per answer") from None
    if scores_B.numel() != num or not bool(torch.isfinite(scores_B).all()):
        raise DataError(f"reward {source}: gave {scores_B.numel()} scores for {num} answers, or one is not finite")
    return scores_B


def split_weight(source: str) -> tuple[float, str]:
    """`0.5*runs/reward` -> (0.5, "runs/reward"); no weight is 1."""
    match = re.fullmatch(r"(-?[0-9]*\.?[0-9]+)\*(.+)", source)
    return (float(match[1]), match[2]) if match else (1.0, source)


def reward_sources(sources: Sequence[str]) -> list[Source]:
    """Reward sources as inputs of a run: the content of a model or of a function's file; a weight is a setting."""
    found = []
    for source in sources:
        place = split_weight(source)[1]
        found.append(Source(place=place, kind="reward", prefix=source.removesuffix(place)))
    return found


def _is_folder(source: str) -> bool:
    return not source.startswith(("python:", "http://", "https://"))


def open_scalar(folder: str, *, dtype: torch.dtype, device: torch.device | str) -> ScalarModel:
    """Load the network of a reward run, checked against its manifest. Raises ModelError, CheckpointError."""
    check_manifest(model_folder(folder, "reward"))
    model, _ = load_scalar_model(folder, dtype=dtype, device=device)
    return model


def open_learned(
    folder: str, *, dtype: torch.dtype, device: torch.device | str, micro_tokens: int = 2048
) -> LearnedReward:
    """Load a reward run (or its final folder) with its own tokenizer."""
    model = open_scalar(folder, dtype=dtype, device=device)
    model.requires_grad_(False)
    return LearnedReward(model, Tokenizer.from_folder(model_folder(folder, "reward")), micro_tokens=micro_tokens)


def check_learned(folder: str, prompts: Sequence[Prompt], where: str) -> None:
    """Without loading its weights: DataError when a prompt leaves no room for an answer in a reward model's context."""
    final = model_folder(folder, "reward")
    context, tokenizer = read_config(final).max_positions, Tokenizer.from_folder(final)
    lengths = [len(prompt_tokens(p, tokenizer, context * 3 // 4)[0]) for p in prompts]
    if max(lengths, default=0) >= context:
        raise DataError(
            f"{where}: {sum(length >= context for length in lengths)} of {len(prompts)} prompts fill the context of "
            f"{context} tokens of the reward model {folder}, so answers to them have no score; shorten or remove them"
        )


def open_reward(
    sources: Sequence[str],
    policy_tokenizer: Tokenizer,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    micro_tokens: int = 2048,
) -> RewardMix:
    """Open every reward source of a run."""
    if not sources:
        raise ConfigError("--reward: name at least one reward run folder, python:module:function, or http endpoint")
    parts: list[tuple[float, Reward]] = []
    first = ""
    for source in sources:
        weight, place = split_weight(source)
        if place.startswith("python:"):
            parts.append((weight, PythonReward(place)))
        elif place.startswith(("http://", "https://")):
            parts.append((weight, HttpReward(place)))
        else:
            learned = open_learned(place, dtype=dtype, device=device, micro_tokens=micro_tokens)
            same = learned.tokenizer.fingerprint == policy_tokenizer.fingerprint
            parts.append((weight, learned if same else ForeignReward(learned)))
            first = first or place
    return RewardMix(parts=tuple(parts), first_folder=first)


def check_gate(sources: Sequence[str]) -> None:
    """GateError when the report card of a learned reward says it is no better than length."""
    for source in sources:
        _, place = split_weight(source)
        if not _is_folder(place):
            continue
        folder = model_folder(place, "reward")
        card_file = (folder.parent if folder.name == FINAL else folder) / "report_card.json"
        if not card_file.is_file():
            why = _no_card_reason(card_file.with_name("result.json")) or "nothing is known of this reward model"
            raise GateError(
                f"{card_file}: missing: {why}. Train it with --eval.share above 0 on more rankings, or pass --ignore-gate"
            )
        reason = json.loads(card_file.read_text(encoding="utf-8")).get("gate")
        if reason:
            why = str(reason).rstrip(".")
            raise GateError(f"{place}: {why}. Collect more rankings, or pass --ignore-gate to go on all the same")


def _no_card_reason(result: Path) -> str:
    """Why a reward run has no report card, as its result says; empty when it does not."""
    try:
        reason = json.loads(result.read_text(encoding="utf-8")).get("gate")
    except (OSError, ValueError, AttributeError):
        return ""
    return str(reason or "").rstrip(".")
