"""Evaluate models on held-out prompts: sampled at temperature 1 as the paper does, greedy beside it.

Every model's answers are kept (JSON lines, one file per model and decoding), so an interrupted evaluation goes on
where it stopped, and people can read what was measured.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from chatwright.config import check_least
from chatwright.data.responses import response_batches
from chatwright.engine.checkpoint import write_text
from chatwright.engine.record import (
    INPUTS,
    Record,
    Source,
    changed_settings,
    files,
    open_output,
    refuse,
    settings_of_toml,
)
from chatwright.errors import ConfigError, DataError
from chatwright.evals.harness import Answer, Evaluation, Judge, common_budget, evaluate, figures
from chatwright.evals.held_out import bits_per_byte, held_out_text
from chatwright.evals.metrics import duplicate_pairs
from chatwright.evals.report_words import score_judge
from chatwright.evals.winrate import length_controlled_win_rate, win_rate
from chatwright.generation.answers import check_room, sample_answers
from chatwright.generation.api import SamplingParams
from chatwright.generation.lm import load_model
from chatwright.generation.local import LocalGenerator
from chatwright.kernels.cross_entropy import token_logprobs
from chatwright.model.precision import DeviceName, Precision, pick_device, pick_dtype
from chatwright.model.transformer import Transformer
from chatwright.progress import console
from chatwright.recipes.judges import check_prompts, gate_of, kind_of, open_judge
from chatwright.records import Prompt, load_prompts, read_jsonl, write_jsonl
from chatwright.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Compare models on held-out prompts."""

    models: tuple[str, ...]
    """NAME=MODEL of each, in the order to be shown; the first is the baseline: base=smollm2-135m-instruct ppo=runs/ppo."""
    data: tuple[str, ...]
    """Held-out prompts, JSON lines."""
    out: str = "runs/evaluation"
    """Folder for answers and evaluation.json."""
    fresh: bool = False
    """Delete what is there and start anew; without it, an output of other inputs or settings is refused."""
    template: str = ""
    """Chat template of all models instead of their own: a Jinja file, a layout (chatml, llama3, gemma, mistral, plain), or
    settings of it: thinking=on, thinking=off, date=YYYY-MM-DD. Several are joined by commas."""
    judge: str = "museum-en"
    """museum-en or museum-zh (the noise-free rubric; prompts carry key words), general-en, or a reward run folder."""
    samples: int = 4
    """Answers per prompt at `temperature`."""
    temperature: float = 1.0
    """Of the sampled answers; a greedy one is always written beside them."""
    max_new_tokens: int = 96
    """Longest answer in tokens."""
    reference: str = ""
    """NAME of the model that KL is measured to; empty: no KL. A model with another tokenizer has none."""
    corpus: str = ""
    """Folder of `chatwright corpus build`: bits per byte of its held-out part, for every model (the alignment tax on the
    text that they grew from); empty: not measured."""
    seed: int = 0
    """Fixes samples and bootstrap."""
    batch_size: int = 128
    """Answers written at once."""
    device: DeviceName = "auto"
    """Where to compute."""
    precision: Precision = "auto"
    """Compute format."""

    def __post_init__(self) -> None:
        check_least(self, "", 1, "samples", "max_new_tokens", "batch_size")
        check_least(self, "", 0, "temperature")


Decoding = Literal["sampled", "greedy"]
KL = dict[str, float] | None


def named_models(models: Sequence[str]) -> dict[str, str]:
    """NAME=MODEL items as a mapping; ConfigError when one has no name or a name comes twice."""
    named: dict[str, str] = {}
    for item in models:
        name, sign, model = item.partition("=")
        if not sign or not name or not model or name in named:
            raise ConfigError(f"--models {item}: write NAME=MODEL, each name once, e.g. base=smollm2-135m-instruct")
        named[name] = model
    return named


def main(cfg: EvaluateConfig) -> dict[str, Any]:
    """Answer, judge, compare; returns evaluation.json's contents."""
    device = pick_device(cfg.device)
    dtype = pick_dtype(cfg.precision, device)
    models = named_models(cfg.models)
    if cfg.reference and cfg.reference not in models:
        raise ConfigError(f"--reference {cfg.reference}: not one of the names in --models ({', '.join(models)})")
    prompts = load_prompts(cfg.data)
    check_prompts(cfg.judge, prompts, ", ".join(cfg.data))
    if cfg.corpus:
        held_out_text(cfg.corpus)  # says so before anything is generated
    folder = Path(cfg.out)
    folder.mkdir(parents=True, exist_ok=True)
    _open(cfg, models, folder)
    kls = _answer_all(cfg, models, prompts, folder, device, dtype)
    judge, language = open_judge(cfg.judge, device, dtype, prompts)
    kind = kind_of(cfg.judge, list(models.values()))
    result: dict[str, Any] = {"judge": cfg.judge, "judge_kind": kind, "questions": len(prompts)}
    if kind == "held_out":
        result["judge_gate"] = gate_of(cfg.judge)
    sampled = _judge_all(cfg, models, prompts, folder, "sampled", judge, language)
    greedy = _judge_all(cfg, models, prompts, folder, "greedy", judge, language)
    costs = _text_costs(cfg, models, folder, device, dtype) if cfg.corpus else {}
    result["models"] = {name: row | costs.get(name, {}) for name, row in _figures(sampled, kls, cfg.seed).items()}
    result["greedy"] = _figures(greedy, {}, cfg.seed)  # KL is measured on the sampled answers
    result["win_rates"], result["length_controlled"] = _win_rates(sampled, cfg.seed)
    result["answered_alike"] = {name: len(duplicate_pairs(e.texts())) for name, e in sampled.items()}
    write_text(folder / "evaluation.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return result


def _win_rates(sampled: Mapping[str, Evaluation], seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """(plain, at equal length) by pair, the later model against the earlier one."""
    plain, controlled = {}, {}
    for earlier, later in itertools.combinations(sampled, 2):
        name, a, b = f"{later}_vs_{earlier}", sampled[later], sampled[earlier]
        plain[name] = win_rate(a.gold(), b.gold(), seed=seed).to_dict()
        same_length = length_controlled_win_rate(a.gold(), b.gold(), a.lengths(), b.lengths(), seed=seed)
        controlled[name] = same_length.to_dict()
    return plain, controlled


def _open(cfg: EvaluateConfig, models: Mapping[str, str], folder: Path) -> None:
    """Answers that are there already were made from the same models, questions and settings (the judge may differ), or it is
    a RunChangedError."""
    named = [Source(place=place, kind="language", prefix=f"{name}=") for name, place in models.items()]
    found = {"models": named, "data": files(cfg.data), "corpus": files([cfg.corpus] if cfg.corpus else [])}
    answers = [_file(folder, name, decoding) for name in models for decoding in get_args(Decoding)]
    owned = [*answers, *(folder / name for name in ("kl.json", "text.json", "evaluation.json"))]
    any_judge = replace(cfg, judge="")
    record = Record.of("evaluate", any_judge, found)
    known = open_output(record, any_judge, folder, folder / INPUTS, owned)
    old = folder / "settings.toml"
    if old.is_file() and not known and not cfg.fresh:  # an earlier version kept the settings only
        settings = {key: value for key, value in settings_of_toml(old).items() if key not in found}
        refuse(folder, "evaluate", [], changed_settings(settings, record.settings, any_judge))
        record.write(folder / INPUTS)


def _file(folder: Path, name: str, decoding: Decoding) -> Path:
    return folder / f"{name}-{decoding}.jsonl"


def _answer_all(
    cfg: EvaluateConfig,
    models: Mapping[str, str],
    prompts: Sequence[Prompt],
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
) -> dict[str, KL]:
    """Write every model's answers (those not there yet) and measure the KL to the reference."""
    done_file = folder / "kl.json"
    kls: dict[str, KL] = json.loads(done_file.read_text()) if done_file.is_file() else {}
    reference: tuple[Transformer, Tokenizer] | None = None
    for name, source in models.items():
        if name in kls and all(_file(folder, name, d).is_file() for d in ("sampled", "greedy")):
            continue
        model, tokenizer = load_model(source, dtype=dtype, device=device, template=cfg.template)
        check_room(prompts, tokenizer, model.config.max_positions, cfg.max_new_tokens, f"evaluate {name}")
        generator = LocalGenerator(model, tokenizer, max_batch=cfg.batch_size)
        for decoding in ("sampled", "greedy"):
            params = SamplingParams(
                max_new_tokens=cfg.max_new_tokens, temperature=cfg.temperature if decoding == "sampled" else 0.0
            )
            n = cfg.samples if decoding == "sampled" else 1
            title = f"evaluate {name} ({decoding})"
            answers = sample_answers(generator, tokenizer, prompts, params, n=n, seed=cfg.seed, title=title)
            rows = [
                {
                    **prompt.to_dict(),
                    "completions": [a.text for a in row],
                    "finish_reason": [a.finish_reason for a in row],
                    "prompt_ids": list(row[0].prompt_ids),
                    "completion_ids": [list(a.ids) for a in row],
                    "logprob_sums": [math.fsum(a.logprobs) for a in row],
                }
                for prompt, row in zip(prompts, answers, strict=True)
            ]
            write_jsonl(_file(folder, name, decoding), rows)
        generator.release()
        kls[name] = None
        names = list(models)
        if name == cfg.reference:
            kls[name] = {"kl_nats_per_token": 0.0, "kl_nats_per_answer": 0.0}
        elif cfg.reference and names.index(name) > names.index(cfg.reference):
            del model, generator
            if reference is None:
                reference = load_model(models[cfg.reference], dtype=dtype, device=device)
            if reference[1].fingerprint == tokenizer.fingerprint:
                answers_file, temperature = _file(folder, name, "sampled"), cfg.temperature or 1.0
                kls[name] = measure_kl(reference[0], answers_file, tokenizer.pad_id, temperature)
            else:
                console().print(f"evaluate {name}: no KL to {cfg.reference}, whose tokenizer is another one")
        write_text(done_file, json.dumps(kls))
    return kls


def _text_costs(
    cfg: EvaluateConfig, models: Mapping[str, str], folder: Path, device: torch.device, dtype: torch.dtype
) -> dict[str, dict[str, float]]:
    """Bits per byte of the corpus's held-out part, by model; measured once."""
    done_file = folder / "text.json"
    costs: dict[str, dict[str, float]] = json.loads(done_file.read_text()) if done_file.is_file() else {}
    for name, source in models.items():
        if name not in costs:
            model, tokenizer = load_model(source, dtype=dtype, device=device)
            costs[name] = {"bits_per_byte": bits_per_byte(model, tokenizer, cfg.corpus)}
            write_text(done_file, json.dumps(costs))
    return costs


@torch.no_grad()
def measure_kl(reference: Transformer, answers: Path, pad_id: int, temperature: float) -> dict[str, float]:
    """log pi - log pi_ref on a model's own samples, mean per token and per answer, nats (k1: may be below 0).

    log pi is what the samples were drawn with, at that temperature, as the generator recorded it.
    """
    prompt_ids: list[list[int]] = []
    response_ids: list[list[int]] = []
    sampled = 0.0
    for _, row in read_jsonl(answers):
        sampled += math.fsum(row["logprob_sums"])
        for ids in row["completion_ids"]:
            prompt_ids.append(row["prompt_ids"])
            response_ids.append(ids)
    longest = max((len(p) + len(r) for p, r in zip(prompt_ids, response_ids, strict=True)), default=0)
    if longest > reference.config.max_positions:
        raise DataError(
            f"{answers}: an answer with its prompt has {longest} tokens, more than the reference's context of "
            f"{reference.config.max_positions}, so KL cannot be measured; lower --max-new-tokens or take another --reference"
        )
    device = reference.embed.weight.device
    expected, count = 0.0, 0
    for batch in response_batches(prompt_ids, response_ids, range(len(prompt_ids)), 4096, pad_id, device):
        hidden_ND = reference.eval()(batch.tokens_BT)[batch.row_N, batch.predict_N]
        logprob_N, _ = token_logprobs(hidden_ND, reference.output_weight(), batch.targets_N, temperature)
        expected += float(logprob_N.double().sum())
        count += batch.targets_N.numel()
    total = sampled - expected
    return {"kl_nats_per_token": total / count, "kl_nats_per_answer": total / len(prompt_ids)}


def _judge_all(
    cfg: EvaluateConfig,
    models: Mapping[str, str],
    prompts: Sequence[Prompt],
    folder: Path,
    decoding: Decoding,
    judge: Judge,
    language: str,
) -> dict[str, Evaluation]:
    out = {}
    for name in models:
        rows = [row for _, row in read_jsonl(_file(folder, name, decoding))]
        answers = [
            [
                Answer(text=text, ended=reason == "stop")
                for text, reason in zip(row["completions"], row["finish_reason"], strict=True)
            ]
            for row in rows
        ]
        samples = cfg.samples if decoding == "sampled" else 1
        out[name] = evaluate(lambda _p, _n, a=answers: a, prompts, judge, samples=samples, language=language)  # type: ignore[misc]
    return out


def _figures(evaluations: Mapping[str, Evaluation], kls: Mapping[str, KL], seed: int) -> dict[str, Any]:
    budget = common_budget(list(evaluations.values()))
    return {
        name: {**figures(evaluation, budget=budget, seed=seed), **_kl_figures(kls.get(name))}
        for name, evaluation in evaluations.items()
    }


def _kl_figures(kl: Mapping[str, float] | None) -> dict[str, float | None]:
    return dict(kl) if kl is not None else {"kl_nats_per_token": None, "kl_nats_per_answer": None}


def print_summary(cfg: EvaluateConfig) -> None:
    """`chatwright evaluate`: run and print the table, with its judge."""
    result = main(cfg)
    console().print(f"evaluate: {result['questions']} questions, score by {score_judge(result)[0]}")
    if result.get("judge_gate"):
        console().print(f"evaluate: that reward model's own report card is not good enough: {result['judge_gate']}")
    for name, values in result["models"].items():
        console().print(f"{name}: score {values['gold_mean']:.3f}, words {values['words_mean']:.1f}")
    for name, rate in result["win_rates"].items():
        same = result["length_controlled"][name]
        equal = f"at equal length {same['rate']:.3f} [{same['low']:.3f}, {same['high']:.3f}]"
        console().print(f"{name}: {rate['rate']:.3f} [{rate['low']:.3f}, {rate['high']:.3f}], {equal}")
