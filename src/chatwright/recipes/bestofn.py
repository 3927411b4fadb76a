"""Best-of-n: sample n answers, keep the one the reward model likes best (InstructGPT section 3.5's strong baseline).

No training. With d = sqrt(KL) it is also the other axis of over-optimisation: KL = log n - (n-1)/n (arXiv 2210.10760).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatwright.config import check_least
from chatwright.data.answer_file import append_rows, whole_rows
from chatwright.engine.record import Record, files, model_source, open_output, record_of_file
from chatwright.errors import ConfigError
from chatwright.evals.overoptimisation import kl_best_of_n
from chatwright.evals.rewards import answered, open_reward, reward_sources
from chatwright.generation.answers import check_room, sample_answers
from chatwright.generation.api import Completion, SamplingParams
from chatwright.generation.lm import load_model
from chatwright.generation.local import LocalGenerator
from chatwright.jsonl import check_writable
from chatwright.model.precision import DeviceName, Precision, pick_device, pick_dtype
from chatwright.progress import console
from chatwright.records import Prompt, load_prompts, read_jsonl

_CHUNK_ANSWERS = 512  # between two writes


@dataclass(frozen=True, kw_only=True)
class BestOfNConfig:
    """Answer every prompt with the best of n samples."""

    model: str = "smollm2-135m-instruct"
    """Model that answers."""
    template: str = ""
    """Chat template instead of the model's own: a Jinja file, a layout (chatml, llama3, gemma, mistral, plain), or settings
    of it: thinking=on, thinking=off, date=YYYY-MM-DD. Several are joined by commas."""
    reward: tuple[str, ...]
    """Reward sources, as in `chatwright ppo`."""
    data: tuple[str, ...]
    """Prompts, JSON lines."""
    out: str = "bestofn.jsonl"
    """File to write: the best answer, all answers and their scores per prompt; an unfinished one is continued."""
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

    def __post_init__(self) -> None:
        check_least(self, "", 1, "n", "max_new_tokens", "batch_size")
        check_least(self, "", 0, "temperature")


def main(cfg: BestOfNConfig) -> dict[str, Any]:
    """Write one row per prompt; returns mean rewards of the first and of the best answer."""
    if cfg.n < 1:
        raise ConfigError(f"--n {cfg.n}: at least one answer per prompt is needed")
    if cfg.temperature == 0 and cfg.n > 1:
        raise ConfigError("--temperature 0 writes the same answer n times; use a temperature above 0, or --n 1")
    out = Path(cfg.out)
    check_writable(out)
    prompts = load_prompts(cfg.data)
    found = {"data": files(cfg.data), "model": model_source(cfg.model), "reward": reward_sources(cfg.reward)}
    record = Record.of("bestofn", cfg, found)
    if not open_output(record, cfg, out, record_of_file(out), [out]):
        out.unlink(missing_ok=True)  # of an earlier version, which kept no record
        record.write(record_of_file(out))
    done = len(whole_rows(out))
    if done < len(prompts):
        _answer(cfg, prompts, out, done)
    else:
        console().print(f"bestofn: {out} is complete ({done} prompts)")
    scores: list[list[float]] = [row["scores"] for _, row in read_jsonl(out)]
    result = {
        "prompts": len(scores),
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


def _answer(cfg: BestOfNConfig, prompts: Sequence[Prompt], out: Path, done: int) -> None:
    """Sample, score and write the prompts after the first `done`, chunk by chunk."""
    device = pick_device(cfg.device)
    dtype = pick_dtype(cfg.precision, device)
    model, tokenizer = load_model(cfg.model, dtype=dtype, device=device, template=cfg.template)
    reward = open_reward(cfg.reward, tokenizer, dtype=dtype, device=device)
    check_room(prompts, tokenizer, model.config.max_positions, cfg.max_new_tokens, f"--data {' '.join(cfg.data)}")
    reward.check_prompts(prompts)
    generator = LocalGenerator(model, tokenizer, max_batch=cfg.batch_size)
    params = SamplingParams(max_new_tokens=cfg.max_new_tokens, temperature=cfg.temperature)
    at_once = max(1, _CHUNK_ANSWERS // cfg.n)
    for start in range(done, len(prompts), at_once):
        chunk = prompts[start : start + at_once]
        title = f"best of n {start + len(chunk)}/{len(prompts)}"
        sampled = sample_answers(generator, tokenizer, chunk, params, n=cfg.n, seed=cfg.seed, title=title, first=start)
        rows = []
        for prompt, answers in zip(chunk, sampled, strict=True):
            scores = [float(score) for score in reward.score([answered(prompt, answer) for answer in answers])]
            rows.append(_row(prompt, answers, scores))
        append_rows(out, rows)


def _row(prompt: Prompt, answers: Sequence[Completion], scores: Sequence[float]) -> dict[str, Any]:
    top = max(range(len(scores)), key=lambda i: (scores[i], -i))
    return {
        **prompt.to_dict(),
        "completion": answers[top].text,
        "finish_reason": answers[top].finish_reason,
        "completions": [a.text for a in answers],
        "finish_reasons": [a.finish_reason for a in answers],
        "scores": [round(s, 6) for s in scores],
    }
