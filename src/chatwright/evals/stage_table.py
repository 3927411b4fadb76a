"""What every stage of a chain began with and what it left, as rows of a table, from the files that the stages wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatwright.evals.charts import Text
from chatwright.jsonl import read_jsonl

_MEAN_OF = 5  # steps at either end of a training curve
_SHOWN_TEXT = 300  # characters of a sample


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A command that was run."""

    command: str
    folder: Path
    """What it wrote: a run folder, a corpus, a file."""
    model: str = ""
    """What it started from, a folder or a name; empty: nothing."""
    ptx: bool = False
    """Whether PPO saw pre-training text."""


def rows(
    stages: Sequence[Stage], models: Mapping[str, str], evaluation: Mapping[str, Any], labels: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """[{"stage": (en, zh), "measure": (en, zh), "before": text, "after": text}] in the order of the stages.

    `models`: the names under which `evaluation` knows folders; `labels`: summary of simulated rankings, {} without.
    """
    names = {str(Path(source)): name for name, source in models.items()}
    answered = {source: evaluation["models"][name] for source, name in names.items()}
    found: list[dict[str, Any]] = []
    for stage in stages:
        if stage.command == "corpus build":
            found += _corpus(_json(stage.folder / "manifest.json"))
        elif stage.command == "pretrain":
            found += _pretrain(_json(stage.folder / "result.json"))
        elif stage.command == "label" and labels:
            found += _labels(labels)
        elif stage.command == "reward":
            found += _reward(stage.folder)
        elif stage.command in ("sft", "ppo"):
            before, after = (answered.get(str(Path(source)), {}) for source in (stage.model, stage.folder))
            found += (_sft if stage.command == "sft" else _ppo)(stage, before, after)
    return found


def curves(stages: Sequence[Stage]) -> dict[str, list[dict[str, Any]]]:
    """The curves that the page of a chain does not have by itself: pre-training, and PPO without ptx after PPO-ptx."""
    found = {"pretrain": [stage for stage in stages if stage.command == "pretrain"][:1],
             "ppo_without_ptx": [s for s in stages if s.command == "ppo" and not s.ptx][:1]}  # fmt: skip
    return {name: _rows(stage.folder / "metrics.jsonl") for name, those in found.items() for stage in those}


def samples(stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """[{"step", "prompt", "text"}] that pre-training wrote: before the first step, in the middle, and at the end."""
    written = [row for stage in stages if stage.command == "pretrain" for row in _rows(stage.folder / "samples.jsonl")]
    steps = sorted({row["step"] for row in written})
    shown = {steps[0], steps[len(steps) // 2], steps[-1]} if steps else set()
    return [row | {"text": row["text"][:_SHOWN_TEXT]} for row in written if row["step"] in shown]


def _row(stage: Text, measure: Text, before: str, after: str) -> dict[str, Any]:
    return {"stage": stage, "measure": measure, "before": before, "after": after}


def _corpus(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    splits = manifest["splits"].values()
    num_bytes, tokens, documents = (sum(split[name] for split in splits) for name in ("bytes", "tokens", "documents"))
    return [
        _row(("tokenizer", "分词器"), ("bytes of text in a token", "每词元字节数"), "1", f"{num_bytes / tokens:.2f}"),
        _row(
            ("corpus", "语料"), ("documents kept", "保留的文档数"), f"{manifest['read']['documents']:,}", f"{documents:,}"
        ),
    ]  # fmt: skip


def _pretrain(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    before, after = (result.get(f"{when}_bits_per_byte") for when in ("untrained", "held_out"))
    measure = ("bits per byte of held-out text", "留出文本每字节比特数")
    return [] if before is None or after is None else [
        _row(("pre-training", "预训练"), measure, f"{before:.3f}", f"{after:.3f}")
    ]  # fmt: skip


def _labels(labels: Mapping[str, Any]) -> list[dict[str, Any]]:
    after = f"{labels['rankings']:,} / {labels['tie_share']:.0%}"
    return [_row(("rankings (simulated)", "排序（模拟）"), ("rankings / tied pairs", "排序数 / 平局对"), "0", after)]


def _reward(folder: Path) -> list[dict[str, Any]]:
    card_file = folder / "report_card.json"
    if not card_file.is_file():
        return []
    card = _json(card_file)
    accuracy = card["accuracy"]
    after = f"{accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}]"
    measure = ("agrees with held-out pairs (before: length alone)", "与留出对一致率（之前：仅看长度）")
    return [_row(("reward model", "奖励模型"), measure, f"{card['length_baseline']:.3f}", after)]


def _sft(stage: Stage, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    title = ("SFT", "监督微调（SFT）")
    first, last = _ends(_rows(stage.folder / "metrics.jsonl"), "loss", _MEAN_OF)
    measure = ("loss on demonstrations (nats per token)", "示范上的损失（nats/词元）")
    return [_row(title, measure, f"{first:.3f}", f"{last:.3f}"), *_answers(title, before, after)]


def _ppo(stage: Stage, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    title = ("PPO-ptx", "PPO-ptx") if stage.ptx else ("PPO without ptx", "不含 ptx 的 PPO")
    first, last = _ends(_rows(stage.folder / "metrics.jsonl"), "reward", 1)
    measure = ("score by the reward model (first, last iteration)", "奖励模型评分（首轮、末轮）")
    return [_row(title, measure, f"{first:.2f}", f"{last:.2f}"), *_answers(title, before, after)]


_ANSWERS: dict[str, tuple[Text, Callable[[float], str]]] = {
    "gold_mean": (("score by the judge on held-out questions", "评判者在留出问题上的评分"), "{:.3f}".format),
    "ended_share": (("answers that end by themselves", "自行结束的回答"), "{:.0%}".format),
    "kl_nats_per_token": (("KL to the reference (nats per token)", "与参考模型的 KL（nats/词元）"), "{:.3f}".format),
    "bits_per_byte": (
        ("alignment tax: bits per byte of held-out text", "对齐税：留出文本每字节比特数"), "{:.3f}".format
    ),
}  # fmt: skip


def _answers(title: Text, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the evaluation measured of the model that a stage started from and of its own."""
    return [
        _row(title, measure, shown(before[name]), shown(after[name]))
        for name, (measure, shown) in _ANSWERS.items()
        if before.get(name) is not None and after.get(name) is not None
    ]


def _ends(curve: Sequence[Mapping[str, Any]], name: str, steps: int) -> tuple[float, float]:
    """Means over the first and the last `steps` values of a curve."""
    values = [row[name] for row in curve if row.get(name) is not None]
    steps = max(min(steps, len(values) // 2), 1)
    first, last = values[:steps], values[-steps:]
    return sum(first) / len(first), sum(last) / len(last)


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _rows(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(path)] if path.is_file() else []
