"""GGUF: what we write loads back equal, and damaged or hostile files are refused by name and at no cost."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as RustTokenizer

from chatwright.errors import ModelError
from chatwright.model.formats.convert import ensure_hf_folder
from chatwright.model.formats.gguf import read_gguf
from chatwright.model.formats.gguf_header import read_header
from chatwright.model.formats.gguf_tokenizer import write_tokenizer
from chatwright.model.formats.gguf_write import write_gguf
from chatwright.model.formats.huggingface import load_folder, save_folder
from chatwright.text.tokenizer import Tokenizer
from conftest import CHATML_TOKENS, byte_level_json, chatml_config, sentencepiece_json
from tiny_models import KINDS, SPLITTERS, tiny_model

TEXTS = ["The museum opens at nine.", "don't  stop\n\n 1234 naïve café", "春眠不觉晓 🍎", " leading", "x<|im_end|>y"]


def chatml() -> Tokenizer:
    return Tokenizer.from_json(byte_level_json(CHATML_TOKENS), chatml_config())


def gemma_like() -> Tokenizer:
    special = ["<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>"]
    config = {
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "add_bos_token": True,
    }
    return Tokenizer.from_json(sentencepiece_json(special, prefix=False), config)


def write(kind: str, folder: Path, how: Any = "f32") -> tuple[Any, Tokenizer, Path]:
    tokenizer = gemma_like() if kind == "gemma3" else chatml()
    model = tiny_model(kind, tokenizer.vocab_size + 3)  # more rows than tokens, as in real checkpoints
    tokenizer.save(folder / "tokenizer")
    write_gguf(model, folder / "model.gguf", folder / "tokenizer", how, name="tiny", licence="apache-2.0")
    return model, tokenizer, folder / "model.gguf"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("kind", KINDS)
def test_written_f32_loads_back_equal(kind: str, tmp_path: Path) -> None:
    model, tokenizer, file = write(kind, tmp_path)
    folder = ensure_hf_folder(file)
    loaded = load_folder(folder)
    config = loaded.config
    if kind == "mistral":  # GGUF has no name for it, and no window
        assert config.family == "llama"
    else:
        assert config == model.config
    for (name, ours), theirs in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        if kind == "gemma3" and "norm" in name:
            assert torch.allclose(ours, theirs, atol=2e-7), name  # stored plus one
        else:
            assert torch.equal(ours, theirs), name
    again = Tokenizer.from_folder(folder)
    for text in TEXTS:
        assert again.encode(text) == tokenizer.encode(text)
        assert again.decode(again.encode(text)) == tokenizer.decode(tokenizer.encode(text))
    assert (again.bos_id, again.eos_id, again.pad_id) == (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id)
    assert (again.stop_ids, again.template.name) == (tokenizer.stop_ids, tokenizer.template.name)


@pytest.mark.parametrize(("how", "step"), [("f16", 2**-10), ("bf16", 2**-7), ("q8_0", 1.15 / 127)])
def test_smaller_kinds_round_and_nothing_else(how: str, step: float, tmp_path: Path) -> None:
    model, _, file = write("llama-untied", tmp_path, how)
    tensors = dict(read_gguf(file).tensors())
    save_folder(model, tmp_path / "hf")
    from safetensors.torch import load_file

    for name, exact in load_file(tmp_path / "hf" / "model.safetensors").items():
        got = tensors[name]
        if exact.dim() == 1:
            assert torch.equal(got, exact), name
        else:
            scale = exact.abs() if how != "q8_0" else exact.abs().amax(dim=1, keepdim=True)
            assert ((got - exact).abs() <= 0.51 * step * scale + 1e-7).all(), name
            assert not torch.equal(got, exact), name


def split_like(pre: str, folder: Path) -> Tokenizer:
    """A tiny byte-level tokenizer with the splitting rule of a real one, saved in `folder`."""
    data = json.loads(byte_level_json(CHATML_TOKENS)) | {"pre_tokenizer": SPLITTERS[pre]}
    data["normalizer"] = {"type": "NFC"} if pre == "qwen2" else None
    data["model"]["ignore_merges"] = pre == "llama-bpe"
    tokenizer = Tokenizer.from_json(json.dumps(data), chatml_config())
    tokenizer.save(folder)
    return tokenizer


@pytest.mark.parametrize("pre", SPLITTERS)
def test_splitting_rules_survive(pre: str, tmp_path: Path) -> None:
    tokenizer = split_like(pre, tmp_path)
    write_gguf(tiny_model("llama", 700), tmp_path / "m.gguf", tmp_path, "q8_0", name="m")
    assert read_header(tmp_path / "m.gguf").metadata["tokenizer.ggml.pre"] == pre
    again = Tokenizer.from_folder(ensure_hf_folder(tmp_path / "m.gguf"))
    assert [again.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]
    for key in ("normalizer", "model"):
        kept = [json.loads(t.json)[key] for t in (again, tokenizer)]
        assert kept[0] == kept[1] or kept[0]["ignore_merges"] == kept[1]["ignore_merges"]
    pieces = {name: _pieces(json.loads(tokenizer.json) | {"pre_tokenizer": rule}) for name, rule in SPLITTERS.items()}
    assert _pieces(json.loads(again.json)) == pieces[pre]
    assert len({json.dumps(found) for found in pieces.values()}) == 4, "the texts do not tell the rules apart"


def _pieces(data: dict[str, Any]) -> list[list[str]]:
    splitter = RustTokenizer.from_str(json.dumps(data)).pre_tokenizer
    return [[piece for piece, _ in splitter.pre_tokenize_str(text)] for text in [*TEXTS, "DON'T 12345 a\r\nb  "]]


def test_unknown_splitting_rules_are_refused(tmp_path: Path) -> None:
    split_like("qwen2", tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text(file.read_text().replace(r"\\p{N}|", r"\\p{N}{1,2}|"))
    with pytest.raises(ModelError, match="splitting rule is none that llama.cpp has"):
        write_gguf(tiny_model("llama", 700), tmp_path / "m.gguf", tmp_path, name="m")
    file.write_text(json.dumps({"model": {"type": "Unigram", "vocab": []}}))
    with pytest.raises(ModelError, match="'Unigram' has no GGUF form"):
        write_gguf(tiny_model("llama", 700), tmp_path / "m.gguf", tmp_path, name="m")


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_survives_with_and_without_its_leading_blank(prefix: bool, tmp_path: Path) -> None:
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True}
    tokenizer = Tokenizer.from_json(sentencepiece_json(["<s>", "</s>"], prefix=prefix), config)
    tokenizer.save(tmp_path)
    write_gguf(tiny_model("llama", 700), tmp_path / "m.gguf", tmp_path, "q8_0", name="m")
    again = Tokenizer.from_folder(ensure_hf_folder(tmp_path / "m.gguf"))
    for text in TEXTS:
        assert again.encode(text) == tokenizer.encode(text)
        assert again.decode(again.encode(text)) == tokenizer.decode(tokenizer.encode(text)) == text
    assert json.loads(again.json)["post_processor"]["type"] == "TemplateProcessing", "bos is not added by others"


def test_a_mistral_window_becomes_the_context(tmp_path: Path) -> None:
    chatml().save(tmp_path)
    model = tiny_model("mistral", 600, sliding_window=24)
    write_gguf(model, tmp_path / "m.gguf", tmp_path, "f32", name="m")
    assert read_gguf(tmp_path / "m.gguf").config.max_positions == 24


def test_two_roundings_of_one_matrix_are_one_tied_matrix(tmp_path: Path) -> None:
    """As in Qwen's small files: output.weight in 8 bits, token_embd in 5. The finer one is taken for both."""
    import gguf
    from gguf.quants import quantize

    model, _, _ = write("qwen2", tmp_path)
    header = read_header(tmp_path / "model.gguf")
    exact = model.embed.weight.detach().numpy()
    path = tmp_path / "two.gguf"
    writer = gguf.GGUFWriter(path, "qwen2")
    for key, value in header.metadata.items():
        if key.startswith("qwen2.") and isinstance(value, int):
            writer.add_uint32(key, value)
        elif key.startswith("qwen2."):
            writer.add_float32(key, value)
    kinds = {"token_embd.weight": gguf.GGMLQuantizationType.Q5_0, "output.weight": gguf.GGMLQuantizationType.Q8_0}
    for name, kind in kinds.items():
        writer.add_tensor(name, quantize(exact, kind), raw_dtype=kind)
    for info in header.tensors.values():
        if info.name != "token_embd.weight":
            raw = np.fromfile(header.path, np.float32, info.num_bytes // 4, offset=info.start)
            writer.add_tensor(info.name, raw.reshape(info.shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    read = read_gguf(path)
    assert read.config.tie_embeddings
    names = [name for name, _ in read.tensors()]
    assert "lm_head.weight" not in names
    got = dict(read.tensors())["model.embed_tokens.weight"]
    best = torch.from_numpy(gguf.quants.dequantize(quantize(exact, kinds["output.weight"]), kinds["output.weight"]))
    assert torch.equal(got, best)


def test_what_llama_cpp_cannot_say_is_refused(tmp_path: Path) -> None:
    gemma_like().save(tmp_path)
    with pytest.raises(ModelError, match="every sixth layer"):
        write_gguf(tiny_model("gemma3", 700, rope_local_theta=1e3), tmp_path / "g.gguf", tmp_path, name="g")
    with pytest.raises(ModelError, match="beyond the 64 embedding rows"):
        write_gguf(tiny_model("llama", 64), tmp_path / "g.gguf", tmp_path, name="g")
    with pytest.raises(ModelError, match="q4_0"):
        write_gguf(tiny_model("llama", 700), tmp_path / "g.gguf", tmp_path, "q4_0", name="g")  # type: ignore[arg-type]
    broken = tiny_model("llama", 700)
    with torch.no_grad():
        broken.blocks[0].mlp.up.weight[0, 0] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        write_gguf(broken, tmp_path / "g.gguf", tmp_path, name="g")
    assert not list(tmp_path.glob("*.gguf*")) and not list(tmp_path.glob(".*tmp*")), "a failed export left a file behind"


def test_incomplete_and_foreign_files_are_refused_by_name(tmp_path: Path) -> None:
    _, _, file = write("llama", tmp_path)
    whole = file.read_bytes()
    cases = {
        "past the end": whole[:-64],
        "not a GGUF": b"PK\x03\x04" + whole[4:],
        "version 9": whole[:4] + struct.pack("<I", 9) + whole[8:],
        "architecture 'llbma'": whole.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0llbma", 1),
        "'blk.0.attn_q.weighT' belongs to no part|'blk.0.attn_q.weight'": whole.replace(
            b"blk.0.attn_q.weight", b"blk.0.attn_q.weighT"
        ),
    }
    for words, content in cases.items():
        bad = tmp_path / "bad.gguf"
        bad.write_bytes(content)
        with pytest.raises(ModelError, match=words) as caught:
            read_gguf(bad)
        assert "bad.gguf" in str(caught.value)
    (tmp_path / "empty.gguf").write_bytes(b"")
    with pytest.raises(ModelError, match="empty.gguf"):
        read_gguf(tmp_path / "empty.gguf")


def _string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


HOSTILE = {
    "metadata entries": struct.pack("<4sIQQ", b"GGUF", 3, 1, 1 << 40),
    "and .* tensors": struct.pack("<4sIQQ", b"GGUF", 3, 1 << 40, 1),
    "a string of": struct.pack("<4sIQQQ", b"GGUF", 3, 0, 1, 1 << 40),
    "an array of": struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + _string(b"k") + struct.pack("<IIQ", 9, 4, 1 << 60),
    "the file ends": struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + _string(b"k") + struct.pack("<IIQ", 9, 8, 3_000_000),
    "unknown value type": struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + _string(b"k") + struct.pack("<I", 77),
    "unknown value type 9": struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + _string(b"k") + struct.pack("<IIQ", 9, 9, 1),
    "dimensions": struct.pack("<4sIQQ", b"GGUF", 3, 1, 0) + _string(b"t") + struct.pack("<I", 4_000_000_000),
    "impossible shape|past the end": struct.pack("<4sIQQ", b"GGUF", 3, 1, 0)
    + _string(b"t")
    + struct.pack("<IQQQQIQ", 4, 1 << 62, 1 << 62, 1 << 62, 1 << 62, 0, 0),
}


@pytest.mark.parametrize("words", HOSTILE)
@pytest.mark.timeout(5)
def test_hostile_headers_are_refused_at_once(words: str, tmp_path: Path) -> None:
    file = tmp_path / "hostile.gguf"
    file.write_bytes(HOSTILE[words] + b"\0" * 120)
    with pytest.raises(ModelError, match=words):
        read_header(file)


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    _, _, file = write("llama", tmp_path_factory.mktemp("small"))
    return file.read_bytes()


@settings(max_examples=300, deadline=2000)
@given(data=st.data())
def test_mutated_files_load_or_raise_model_errors(
    data: st.DataObject, small_file: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    mutated = bytearray(small_file[: data.draw(st.integers(0, len(small_file)))])
    for _ in range(data.draw(st.integers(1, 4))):
        if mutated:
            at = data.draw(st.integers(0, min(len(mutated), data.draw(st.sampled_from([400, 20_000]))) - 1))
            mutated[at] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "mutated.gguf"
    file.write_bytes(mutated)
    try:
        write_tokenizer(read_gguf(file).header, file.parent)
    except ModelError as error:
        assert "mutated.gguf" in str(error)
