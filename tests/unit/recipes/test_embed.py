"""Training of embeddings: parts of a step add up, what is learned is measured, exported and found again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_training as tiny
from chatwright import cli
from chatwright.data.pairs import Pair
from chatwright.engine.checkpoint import verify_folder
from chatwright.generation.embed import Embedder, load_embedder
from chatwright.model.formats.embedding import HEAD_FILE, META_FILE, EmbeddingSpec
from chatwright.model.heads import EmbeddingHead
from chatwright.recipes.embed import EmbedConfig, EmbedTrainConfig, same_pairs, step_parts
from tiny_models import tiny_model
from tiny_training import WORDS


def rows(num: int = 48) -> list[dict[str, Any]]:
    """A word with another that goes with it; two sources, groups of two."""
    made = []
    for n in range(num):
        word, other = WORDS[n % 14], WORDS[(n * 5 + 3) % 14]
        texts = {"query": f"{word} {n}", "passage": f"of {other} {word} {n}"}
        made.append({**texts, "source": "ab"[n % 2], "group": f"g{n // 2}"})
    return made


def test_parts_of_a_step_add_up_to_it(tokenizer: Any) -> None:
    """GradCache: the loss and every gradient are those of the whole batch at once."""
    texts = ["bees", "honey in the winter museum", "gravity", "the ball falls down to the moon", "rain", "clouds"]
    found = {}
    for micro_tokens in (10_000, 32):
        model = tiny_model("llama", tokenizer.vocab_size)
        head = EmbeddingHead(32, 48)
        head.init_orthogonal(torch.Generator().manual_seed(0))
        embedder = Embedder(model, tokenizer, head, EmbeddingSpec(attention="both", dimensions=(48, 8)))
        cfg = EmbedConfig(data=("x",), dimensions=(48, 8), train=EmbedTrainConfig(micro_tokens=micro_tokens))
        parts = list(step_parts(embedder, [embedder.ids(t) for t in texts], torch.eye(3, dtype=torch.bool), cfg))
        for total, _ in parts:
            total.backward()
        gradients = {n: p.grad for module in (model, head) for n, p in module.named_parameters() if p.grad is not None}
        found[micro_tokens] = sum(t.item() for t, _ in parts), sum(c.item() for _, c in parts), gradients, len(parts)
    (loss, count, gradients, one), (loss_in_parts, count_in_parts, in_parts, many) = found.values()
    assert one == 1 and many >= 3 and count == count_in_parts == 3.0
    assert loss == pytest.approx(loss_in_parts, rel=1e-5)
    assert gradients.keys() == in_parts.keys() and len(gradients) > 10
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, in_parts[name], rtol=1e-3, atol=1e-5), name


def test_which_pairs_are_no_negatives() -> None:
    pairs = [
        Pair(query="a", passage="b"), Pair(query="c", passage="A "), Pair(query="d", passage="e", group="1"),
        Pair(query="f", passage="g", group="1"), Pair(query="h", passage="i"),
    ]  # fmt: skip
    wanted = {(0, 1), (1, 0), (2, 3), (3, 2)} | {(n, n) for n in range(5)}
    assert {(i, j) for i, row in enumerate(same_pairs(pairs).tolist()) for j, value in enumerate(row) if value} == wanted


@pytest.mark.parametrize("attention", ["causal", "both"])
def test_learns_saves_and_exports(
    tmp_path: Path, tokenizer: Any, attention: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.save_tiny_model(tmp_path / "model", tokenizer)
    tiny.write_rows(tmp_path / "pairs.jsonl", rows())
    argv = ["embed-train", "--model", f"{tmp_path}/model", "--data", f"{tmp_path}/pairs.jsonl", "--out", f"{tmp_path}/run",
            "--attention", attention, "--dimensions", "48", "16", "--train.steps", "24", "--train.batch-size", "16",
            "--eval.share", "0.25", "--optim.lr", "1e-2", "--device", "cpu", "--precision", "fp32", "--layers", "1",
            "--schedule.warmup-steps", "2"]  # fmt: skip
    assert cli.main(argv) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    losses = [row["loss"] for row in tiny.read_rows(tmp_path / "run" / "metrics.jsonl")]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert set(result["retrieval"]) == {"a", "b"} and result["pairs"] + result["held_out"] == 48
    verify_folder(tmp_path / "run")
    final = tmp_path / "run" / "final"
    verify_folder(final)
    embedder = load_embedder(tmp_path / "run")
    assert embedder.width == 48 and embedder.model.config.num_layers == 1 and embedder.spec.attention == attention
    before = load_embedder(tmp_path / "model")
    texts = [row["query"] for row in rows()] + [row["passage"] for row in rows()]

    def right(which: Embedder) -> int:
        vectors = which.vectors(texts)
        return int(((vectors[:48] @ vectors[48:].T).argmax(1) == torch.arange(48)).sum())

    assert right(embedder) > right(before)
    assert cli.main(["export", "--model", f"{tmp_path}/run", "--out", f"{tmp_path}/hf"]) == 0
    assert load_embedder(tmp_path / "hf").vector("bees 3") == pytest.approx(embedder.vector("bees 3"), abs=1e-6)
    assert (tmp_path / "hf" / HEAD_FILE).read_bytes() == (final / HEAD_FILE).read_bytes()
    assert (tmp_path / "hf" / META_FILE).is_file()
    assert cli.main(["export", "--model", f"{tmp_path}/run", "--out", f"{tmp_path}/gguf", "--to", "gguf"]) == 1
    assert "embedding head" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (("--dimensions", "64", "128"), "the widest first"),
        (("--dimensions", "0"), "must be 1 or more"),
        (("--train.batch-size", "1"), "no negatives"),
        (("--train.temperature", "0"), "must be above 0"),
        (("--layers", "9"), "the model has 2"),
    ],
)
def test_settings_that_make_no_sense(
    tmp_path: Path, tokenizer: Any, fields: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.save_tiny_model(tmp_path / "model", tokenizer)
    tiny.write_rows(tmp_path / "pairs.jsonl", rows(8))
    argv = ("embed-train", "--model", f"{tmp_path}/model", "--data", f"{tmp_path}/pairs.jsonl", "--out", f"{tmp_path}/run")
    assert cli.main([*argv, *fields]) in (1, 2)
    error = " ".join(capsys.readouterr().err.split())
    assert said in error and "Traceback" not in error
