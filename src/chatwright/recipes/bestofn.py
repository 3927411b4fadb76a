"""Best-of-n: sample n answers, keep the one the reward model likes best (InstructGPT section 3.5's strong baseline).

No training. With d = sqrt(KL) it is also the other axis of over-optimisation: KL = log n - (n-1)/n (arXiv 2210.10760).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatwright.engine.record import Record, files, model_source, open_output, record_of_file
from chatwright.errors import ConfigError
from chatwright.evals.overoptimisation import kl_best_of_n
from chatwright.evals.rewards import answered, open_reward, reward_sources
from chatwright.generation.answers import sample_answers
from chatwright.generation.api import SamplingParams
from chatwright.generation.lm import load_model
from chatwright.generation.local import LocalGenerator
from chatwright.model.precision import DeviceName, Precision, pick_device, pick_dtype
from chatwright.progress import console
from chatwright.records import load_prompts, read_jsonl, write_jsonl


@dataclass(frozen=True, kw_only=True)
class BestOfNConfig:
    """Answer every prompt with the best of n samples."""

    model: str = "smollm2-135m-instruct"
    """Model that answers."""
    reward: tuple[str, ...]
    """Reward sources, as in `chatwright ppo`."""
    data: tuple[str, ...]
    """Prompts, JSON lines."""
    out: str = "bestofn.jsonl"
    """File to write: the best answer, all answers and their scores per prompt."""
    fresh: bool = False
    """Delete what is there and start anew; without it, an output of other inputs or settings is refused."""
    n: int = 16
    """Answers sampled per prompt."""
    max_new_tokens: int = 128
    """Longest answer in tokens."""
    temperature: float = 1.0
    """Of the samples."""
    seed: int = 0
    """Fixes the samples."""
    batch_size: int = 64
    """Answers written at once."""
    device: DeviceName = "auto"
    """Where to compute."""
    precision: Precision = "auto"
    """Compute format."""


def main(cfg: BestOfNConfig) -> dict[str, Any]:
    """Write one row per prompt; returns mean rewards of the first and of the best answer."""
    if cfg.n < 1:
        raise ConfigError(f"--n {cfg.n}: at least one answer per prompt is needed")
    if cfg.temperature == 0 and cfg.n > 1:
        raise ConfigError("--temperature 0 writes the same answer n times; use a temperature above 0, or --n 1")
    out = Path(cfg.out)
    found = {"data": files(cfg.data), "model": model_source(cfg.model), "reward": reward_sources(cfg.reward)}
    record = Record.of("bestofn", cfg, found)
    if open_output(record, cfg, out, record_of_file(out), [out]):
        rows = [row for _, row in read_jsonl(out)]
        console().print(f"bestofn: {out} is complete ({len(rows)} prompts)")
    else:
        rows = _best_answers(cfg)
        write_jsonl(out, rows)
        record.write(record_of_file(out))
    scores: list[list[float]] = [row["scores"] for row in rows]
    result = {
        "prompts": len(rows),
        "n": cfg.n,
        "kl_nats": kl_best_of_n(cfg.n),
        "reward_first": sum(row[0] for row in scores) / len(scores),
        "reward_best": sum(map(max, scores)) / len(scores),
        "out": cfg.out,
    }
    console().print(
        f"bestofn: reward {result['reward_first']:+.3f} -> {result['reward_best']:+.3f} with n = {cfg.n} "
        f"(KL {result['kl_nats']:.2f} nats) -> {cfg.out}"
    )
    return result


def _best_answers(cfg: BestOfNConfig) -> list[dict[str, Any]]:
    """A row per prompt: the best answer, all answers and their scores."""
    device = pick_device(cfg.device)
    dtype = pick_dtype(cfg.precision, device)
    prompts = load_prompts(cfg.data)
    model, tokenizer = load_model(cfg.model, dtype=dtype, device=device)
    reward = open_reward(cfg.reward, tokenizer, dtype=dtype, device=device)
    generator = LocalGenerator(model, tokenizer, max_batch=cfg.batch_size)
    params = SamplingParams(max_new_tokens=cfg.max_new_tokens, temperature=cfg.temperature)
    all_answers = sample_answers(generator, tokenizer, prompts, params, n=cfg.n, seed=cfg.seed, title="best of n")
    rows = []
    for prompt, answers in zip(prompts, all_answers, strict=True):
        scores = [float(score) for score in reward.score([answered(prompt, answer) for answer in answers])]
        top = max(range(len(scores)), key=lambda i: (scores[i], -i))
        rows.append(
            {
                **prompt.to_dict(),
                "completion": answers[top].text,
                "finish_reason": answers[top].finish_reason,
                "completions": [a.text for a in answers],
                "finish_reasons": [a.finish_reason for a in answers],
                "scores": [round(s, 6) for s in scores],
            }
        )
    return rows
