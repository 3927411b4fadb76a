"""One PPO iteration (performance.md P5): ours beside the PPOTrainer of TRL 1.12, the last TRL that had one, in turns.

    python benchmarks/ppo.py [--steps 3] [--no-peer]

16 prompts of at most 64 tokens, answers of up to 64, SmolLM2-135M as policy, critic, reference and reward model; two
minibatches of 8, one inner epoch, no ptx, every weight trained. `four`: four networks. `frozen`: the ten lowest blocks
frozen and computed once for all, as the quickstart does. TRL runs with its defaults but for these sizes (bf16 autocast
where the machine has it, gradient checkpointing); `trl-no-checkpointing` is the same without that. TRL has an environment of
its own, made once.

Each turn is a process that does one iteration to warm up and --steps timed ones; turns are interleaved --repeats times and
the medians of all iterations compared. TRL's answers all have 64 tokens, ours end where the model ends them: so the ratio is
given per iteration and per answer token. Writes benchmarks/results/ppo.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[1]
RESULTS = TOP / "benchmarks" / "results" / "ppo.json"
PROMPTS, PROMPT_TOKENS, NEW, MINIBATCH = 16, 64, 64, 8
VARIANTS = ("four", "frozen", "trl", "trl-no-checkpointing")


def ours(work: Path, variant: str, steps: int) -> dict[str, Any]:
    """Iterations of `chatwright ppo`, phase by phase, without its run folder."""
    from chatwright.data.prompts import load_examples
    from chatwright.data.ptx import open_ptx
    from chatwright.engine.memory import keep_heap
    from chatwright.engine.optim import OptimConfig
    from chatwright.recipes import ppo
    from chatwright.recipes.ppo_config import PPOAlgorithmConfig, PPOConfig, PPOTrainConfig, RolloutConfig
    from chatwright.recipes.ppo_models import open_models
    from chatwright.records import load_prompts

    keep_heap()
    small = OptimConfig(lr=1e-7)  # so that every iteration has the same work
    cfg = PPOConfig(
        model=str(work / "model"), reward=(str(work / "reward"),), data=(str(work / "prompts.jsonl"),),
        train=PPOTrainConfig(frozen_layers=10 if variant == "frozen" else 0, micro_tokens=2048),
        rollout=RolloutConfig(batch_size=PROMPTS, max_new_tokens=NEW), ppo=PPOAlgorithmConfig(minibatch_size=MINIBATCH),
        optim=small, critic_optim=small,
    )  # fmt: skip
    models = open_models(cfg)
    examples = load_examples(load_prompts(cfg.data), models.tokenizer)
    ptx = open_ptx((), models.tokenizer, block_tokens=16, held_out=0, seed=0, micro_tokens=16, device="cpu")
    phases: dict[str, list[float]] = {"generate": [], "score": [], "update": []}
    tokens = []
    for step in range(steps + 1):
        marks = [time.perf_counter()]
        rollouts = ppo.sample(models, examples, cfg.rollout, seeds=[step * PROMPTS + i for i in range(PROMPTS)])
        marks.append(time.perf_counter())
        advantaged = ppo.advantages(ppo.score(rollouts, models, cfg, step=step), cfg.ppo.beta, cfg.ppo)
        marks.append(time.perf_counter())
        ppo.update(advantaged, models, ptx, replace(cfg), step=step, where="benchmark")
        marks.append(time.perf_counter())
        if step:
            tokens.append(int(rollouts.mask_BT.sum()))
            for name, begin, end in zip(phases, marks, marks[1:], strict=False):
                phases[name].append(end - begin)
    seconds = [sum(parts) for parts in zip(*phases.values(), strict=True)]
    return {"seconds": seconds, "tokens": tokens, "phases": phases}


def trl(work: Path, variant: str, steps: int) -> dict[str, Any]:
    """Iterations of TRL's PPOTrainer; runs in TRL's environment."""
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        TrainerCallback,
    )
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    folder = str(work / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokenizer.padding_side = "left"

    def scalar() -> Any:
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.float32)
        model.config.pad_token_id = tokenizer.pad_token_id
        return model

    def causal() -> Any:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    ids = json.loads((work / "ids.json").read_text(encoding="utf-8"))
    cfg = PPOConfig(
        output_dir=str(work / "trl"), per_device_train_batch_size=MINIBATCH, gradient_accumulation_steps=2,
        num_mini_batches=2, num_ppo_epochs=1, total_episodes=PROMPTS * (steps + 1), response_length=NEW, temperature=1.0,
        local_rollout_forward_batch_size=PROMPTS, learning_rate=1e-7, num_sample_generations=0, report_to=[],
        save_strategy="no", use_cpu=True, bf16=has_bf16(), gradient_checkpointing=variant == "trl", disable_tqdm=True,
    )  # fmt: skip
    marks = [time.perf_counter()]

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            marks[0] = time.perf_counter()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            marks.append(time.perf_counter())

    trainer = PPOTrainer(
        args=cfg, processing_class=tokenizer,
        model=causal(), ref_model=causal(), reward_model=scalar(), value_model=scalar(),
        train_dataset=Dataset.from_dict({"input_ids": ids}), eval_dataset=Dataset.from_dict({"input_ids": ids}),
        callbacks=[Clock()],
    )  # fmt: skip
    trainer.train()
    seconds = [end - begin for begin, end in zip(marks, marks[1:], strict=False)][1:]
    return {"seconds": seconds, "tokens": [PROMPTS * NEW] * len(seconds)}


def has_bf16() -> bool:
    """Whether the processor multiplies bf16 matrices itself."""
    import torch

    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def prepare(work: Path, model: str) -> None:
    """The model as an HF folder, a reward model with a random head on the same trunk, and prompts of exactly 64 tokens."""
    import torch

    from chatwright import hub
    from chatwright.data.prompts import load_examples
    from chatwright.generation.lm import load_model
    from chatwright.model.formats.convert import ensure_hf_folder
    from chatwright.model.formats.reward import save_scalar_model
    from chatwright.model.heads import ScalarModel
    from chatwright.records import load_prompts

    folder = ensure_hf_folder(hub.resolve(model))
    (work / "model").symlink_to(folder)
    trunk, tokenizer = load_model(folder, dtype=torch.float32, device=torch.device("cpu"))
    scalar = ScalarModel(trunk)
    scalar.head.init_normal(torch.Generator().manual_seed(0))
    (work / "reward").mkdir()
    save_scalar_model(scalar, work / "reward", tokenizer, {"ties": "drop"})
    (work / "reward" / "report_card.json").write_text('{"gate": ""}\n', encoding="utf-8")
    file, words = work / "prompts.jsonl", "river stone bridge winter honey flower moon gravity window teacher".split()
    rows = [[words[(i + j * (i + 1)) % len(words)] for j in range(200)] for i in range(PROMPTS)]
    lengths = [200] * PROMPTS

    def written() -> list[tuple[int, ...]]:
        texts = ("Tell a very long story about: " + " ".join(row[:n]) for row, n in zip(rows, lengths, strict=True))
        file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts), encoding="utf-8")
        return [example.ids for example in load_examples(load_prompts([str(file)]), tokenizer)]

    while max(map(len, found := written())) > PROMPT_TOKENS:
        lengths = [n - max(0, len(ids) - PROMPT_TOKENS) for n, ids in zip(lengths, found, strict=True)]
    (work / "ids.json").write_text(json.dumps([list(ids) for ids in found]), encoding="utf-8")


def turn(interpreter: str, work: Path, variant: str, steps: int) -> dict[str, Any]:
    """One process; what it measured."""
    command = [interpreter, __file__, "--turn", variant, "--work", str(work), "--steps", str(steps)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    result: dict[str, Any] = json.loads((work / f"{variant}.json").read_text(encoding="utf-8"))
    return result


def summary(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over all timed iterations."""
    seconds = [s for one in turns for s in one["seconds"]]
    tokens = [t for one in turns for t in one["tokens"]]
    phases = {
        name: round(statistics.median(s for one in turns for s in one["phases"][name]), 2)
        for name in turns[0].get("phases", ())
    }
    return {
        "s_per_iteration": round(statistics.median(seconds), 2),
        "answer_tokens": round(statistics.mean(tokens), 1),
        "tokens_per_s": round(sum(tokens) / sum(seconds), 1),
        **({"phases_s": phases} if phases else {}),
        "iterations": len(seconds),
    }


def main() -> None:
    """Measure in turns, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--steps", type=int, default=3, help="timed iterations a turn")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--turn", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.turn:
        result = (trl if args.turn.startswith("trl") else ours)(args.work, args.turn, args.steps)
        (args.work / f"{args.turn}.json").write_text(json.dumps(result), encoding="utf-8")
        return
    interpreters = {"four": sys.executable, "frozen": sys.executable}
    if not args.no_peer:
        sys.path.insert(0, str(TOP / "tests"))  # environments of peers are made as those of clients are
        from client_environments import python

        peer = str(python("trl"))
        interpreters |= {"trl": peer, "trl-no-checkpointing": peer}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(work, args.model)
        turns: dict[str, list[dict[str, Any]]] = {variant: [] for variant in interpreters}
        for _ in range(args.repeats):
            for variant, interpreter in interpreters.items():
                turns[variant].append(turn(interpreter, work, variant, args.steps))
                print(variant, [round(s, 2) for s in turns[variant][-1]["seconds"]], flush=True)
    result: dict[str, Any] = {"date": date.today().isoformat(), "model": args.model, "bf16": has_bf16()}
    result |= {variant: summary(rows) for variant, rows in turns.items()}
    for ours_name in ("four", "frozen"):
        for peer_name in interpreters.keys() & {"trl", "trl-no-checkpointing"}:
            mine, theirs = result[ours_name], result[peer_name]
            mine[f"{peer_name}_ratio"] = {
                "iteration": round(theirs["s_per_iteration"] / mine["s_per_iteration"], 2),
                "token": round(mine["tokens_per_s"] / theirs["tokens_per_s"], 2),
            }
    print(json.dumps(result, indent=1))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
