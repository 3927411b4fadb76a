"""Vectors of texts and words, with a head and without."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chatwright import cli
from chatwright.errors import ConfigError, DataError, ModelError
from chatwright.generation.embed import Embedder, load_embedder, pooled_states
from chatwright.model.formats.embedding import HEAD_FILE, META_FILE, EmbeddingSpec, save_embedding_head
from chatwright.model.heads import EmbeddingHead
from tiny_models import tiny_model
from tiny_training import save_tiny_model

TEXTS = ["The museum opens at nine.", "花落知多少", "🍎", "bees " * 60]


def with_head(tokenizer: Any, **spec: Any) -> Embedder:
    model = tiny_model("llama", tokenizer.vocab_size, max_positions=640)
    head = EmbeddingHead(32, 48)
    head.init_orthogonal(torch.Generator().manual_seed(1))
    return Embedder(model, tokenizer, head, EmbeddingSpec(dimensions=(48, 16), max_tokens=640, **spec))


def unit(vector: Any) -> Any:
    return pytest.approx([x / sum(y * y for y in vector) ** 0.5 for x in vector], abs=1e-5)


def test_without_a_head_the_mean_of_the_states(tokenizer: Any) -> None:
    model = tiny_model("llama", tokenizer.vocab_size)
    embedder, ids = Embedder(model, tokenizer), tokenizer.encode("bees")
    vector = embedder.vector("bees")
    with torch.no_grad():
        assert vector == unit(model(torch.tensor([ids]))[0].mean(0).tolist())
    assert embedder.width == len(vector) == 32 and embedder.vector(ids) == vector
    short = embedder.vector("bees", 8)
    assert len(short) == 8 and short == unit(vector[:8])
    with pytest.raises(ConfigError, match="dimensions 1536: the model's embeddings have 32 numbers"):
        embedder.vector("bees", 1536)
    with pytest.raises(DataError, match="0 tokens given"):
        embedder.vector("")
    with pytest.raises(DataError, match="no vector"):
        embedder.vectors(["bees", ""])


@pytest.mark.parametrize("attention", ["causal", "both"])
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_alone_in_parts_and_in_a_batch_are_the_same(tokenizer: Any, attention: str, pooling: str) -> None:
    embedder = with_head(tokenizer, attention=attention, pooling=pooling)
    alone = [embedder.vector(text) for text in TEXTS]
    for vector, row in zip(alone, embedder.vectors(TEXTS, micro_tokens=64).tolist(), strict=True):
        assert len(vector) == 48 and vector == pytest.approx(row, abs=1e-5)
    if attention == "causal":
        ids = embedder.ids(TEXTS[3])
        assert embedder.joined(list(embedder.parts(ids, part=7))) == pytest.approx(alone[3], abs=1e-5)
    reversed_ids = embedder.ids(TEXTS[0])[::-1]
    assert embedder.joined(list(embedder.parts(reversed_ids))) != pytest.approx(alone[0], abs=1e-3), "order counts"


@settings(max_examples=20, deadline=None)
@given(text=st.text(min_size=1, max_size=30), dimensions=st.integers(1, 48))
def test_every_cut_is_the_beginning_brought_back_to_length_1(tokenizer: Any, text: str, dimensions: int) -> None:
    embedder = with_head(tokenizer)
    whole, cut = embedder.vector(text), embedder.vector(text, dimensions)
    assert sum(x * x for x in cut) == pytest.approx(1.0, abs=1e-5)
    assert len(cut) == dimensions and cut == unit(whole[:dimensions])


def test_both_sides_are_seen_and_long_texts_are_read_window_by_window(tokenizer: Any) -> None:
    embedder = with_head(tokenizer, attention="both")
    tokens = torch.tensor([[5, 6, 7, 0], [5, 6, 8, 9]])
    lengths = torch.tensor([3, 4])
    causal = Embedder(embedder.model, tokenizer)
    with torch.no_grad():
        rows = [(tokens[:1, :3], torch.ones(1, 3, 3, dtype=torch.bool)), (tokens[1:], torch.ones(1, 4, 4, dtype=torch.bool))]
        first = [embedder.model(row, mask_BTS=mask)[0] for row, mask in rows]
        found = pooled_states(embedder.model, embedder.spec, tokens, lengths)
        assert torch.allclose(found, torch.stack([states.mean(0) for states in first]), atol=1e-5)
        assert not torch.allclose(found, pooled_states(causal.model, causal.spec, tokens, lengths), atol=1e-3)
    windowed = Embedder(embedder.model, tokenizer, None, EmbeddingSpec(attention="both", max_tokens=8))
    ids = windowed.ids(TEXTS[3])
    parts = list(windowed.parts(ids))
    assert [len(part) for part in parts][:-1] == [8] * (len(parts) - 1) and sum(map(len, parts)) == len(ids) > 50
    assert len(windowed.vector(TEXTS[3])) == 32


def test_words_stand_where_they_are(tokenizer: Any) -> None:
    embedder = with_head(tokenizer)
    words = embedder.words("The bees, 落花 bees")
    assert [w.word for w in words] == ["The", "bees", ",", "落", "花", "bees"]
    for word in words:
        assert len(word.vector) == 48 and word.vector == unit(word.vector)
    assert words[1].vector != pytest.approx(words[5].vector, abs=1e-3), "the same word elsewhere"
    assert all(len(w.vector) == 5 for w in embedder.words("The bees", 5))


@pytest.fixture
def folder(tmp_path: Path, tokenizer: Any) -> Path:
    made = save_tiny_model(tmp_path / "m", tokenizer)
    head = EmbeddingHead(32, 48)
    head.init_orthogonal(torch.Generator().manual_seed(2))
    save_embedding_head(head, made, EmbeddingSpec(dimensions=(48, 16), about={"base": "tiny"}))
    return made


def test_the_head_is_found_and_a_wrong_one_refused(folder: Path) -> None:
    embedder = load_embedder(folder)
    assert embedder.width == 48 and embedder.spec.about == {"base": "tiny"}
    meta = json.loads((folder / META_FILE).read_text(encoding="utf-8"))
    for wrong in ({"dimensions": [64]}, {"dimensions": []}, {"pooling": "max"}, {"dimensions": [16, 48]}, {"max_tokens": -1},
                  {"dimensions": [True]}, {"attention": None}):  # fmt: skip
        (folder / META_FILE).write_text(json.dumps(meta | wrong), encoding="utf-8")
        with pytest.raises(ModelError, match=r"embedding"):
            load_embedder(folder)
    for broken in ("{}", "[]", "nonsense"):
        (folder / META_FILE).write_text(broken, encoding="utf-8")
        with pytest.raises(ModelError, match="embedding.json: cannot be read"):
            load_embedder(folder)
    (folder / META_FILE).write_text(json.dumps(meta), encoding="utf-8")
    (folder / HEAD_FILE).write_bytes(b"\x08\x00")
    with pytest.raises(ModelError, match="embedding_head.safetensors: cannot be read"):
        load_embedder(folder)
    (folder / HEAD_FILE).unlink()
    with pytest.raises(ModelError, match="embedding_head.safetensors: missing"):
        load_embedder(folder)


def test_command(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*argv: str) -> Any:
        code = cli.main(["embed", *argv, "--model", str(folder), "--device", "cpu"])
        said = capsys.readouterr()
        return json.loads(said.out) if "--json" in argv and not code else (code, said.out + said.err)

    embedder = load_embedder(folder, device="cpu", dtype="auto")
    rows = run("bees", "花", "--json")
    assert [row["text"] for row in rows] == ["bees", "花"] and rows[0]["embedding"] == pytest.approx(embedder.vector("bees"))
    (tmp_path / "t.txt").write_text("one\n\ntwo\n", encoding="utf-8")
    rows = run("--file", str(tmp_path / "t.txt"), "--dimensions", "7", "--json")
    assert [(row["text"], len(row["embedding"])) for row in rows] == [("one", 7), ("two", 7)]
    monkeypatch.setattr("sys.stdin", io.StringIO("a b\nc\n"))
    rows = run("-", "--words", "--json")
    assert [[w["word"] for w in row["words"]] for row in rows] == [["a", "b"], ["c"]]
    code, said = run("bees", "rocks")
    assert code == 0 and "... (48 numbers)  bees" in said and "cosine      1      2" in said and " 1.000" in said
    for wrong, why in (((), "no text given"), (("a", "--dimensions", "49"), "have 48 numbers"), ((" ",), "empty text")):
        code, said = run(*wrong)
        assert code == 2 and why in said and "Traceback" not in said
