"""Model files as other people have them: cases M01 to M17, G01 and G03, and their siblings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from chat_families import FAMILIES
from chatwright.errors import ModelError
from chatwright.generation.api import Constraint, SamplingParams
from chatwright.generation.explain import explain
from chatwright.generation.lm import LM, load, load_model, save_model
from chatwright.generation.score import score_parts
from chatwright.model import lora
from chatwright.model.formats.gguf import read_gguf
from chatwright.model.formats.gguf_write import write_gguf
from chatwright.model.formats.huggingface import canonical, load_folder, save_folder
from chatwright.recipes import export
from chatwright.records import Prompt, conversation, user
from chatwright.text.chat import render
from chatwright.text.tokenizer import Tokenizer
from conftest import CHATML_TOKENS, byte_level_json, chatml_config
from tiny_models import tiny_model
from unit.text.test_chat_families import family_config, family_json


def _folder(path: Path, family: str, *, rows: int = 0, kind: str = "llama", **generation: Any) -> Path:
    """A tiny model of random weights with the tokenizer of a family, as a checkpoint: no file of ours is in it."""
    text = family_json(FAMILIES[family])
    tokenizer = Tokenizer.from_json(text, family_config(FAMILIES[family]))
    save_folder(tiny_model(kind, rows or tokenizer.vocab_size, max_positions=256), path)
    (path / "tokenizer.json").write_text(text, encoding="utf-8")
    config = family_config(FAMILIES[family])
    (path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    if generation:
        (path / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
    return path


def _export(source: Path, out: Path, **settings: Any) -> Path:
    export.main(export.ExportConfig(model=str(source), out=str(out), **settings))
    return out


# ---- M01: ids without a token ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def padded() -> LM:
    """About 560 tokens, 1,100 rows: half of the ids stand for nothing, among them the likeliest."""
    tokenizer = Tokenizer.from_json(byte_level_json(CHATML_TOKENS), chatml_config())
    model = tiny_model("llama", 1100, tie_embeddings=False, max_positions=128)
    with torch.no_grad():
        model.head.weight[tokenizer.vocab_size :] *= 3
    return LM(model, tokenizer)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"temperature": 1.0},
        {"temperature": 1.0, "top_k": 5},
        {"temperature": 2.0, "top_p": 0.9},
        {"temperature": 1.0, "ignore_eos": True, "presence_penalty": 1.0},
        {"temperature": 1.0, "logit_bias": ((900, 100.0),)},
        {"temperature": 1.0, "constraint": Constraint(kind="regex", value="[a-z ]{10,}")},
    ],
)
def test_ids_without_a_token_are_never_drawn(padded: LM, settings: dict[str, Any]) -> None:
    known = padded.tokenizer.vocab_size
    params = SamplingParams(max_new_tokens=12, n=16, top_logprobs=8, **settings)
    ids = padded.prompt_ids("Why do bees hum?", raw=True)
    plain = padded.generator.generate([ids], params)[0]
    served = list(padded.generator.prepare(ids, params))
    batch = padded.generator.new_batch(16, _prefixes(padded), cache_bytes=2**28)
    batch.admit(served)
    while batch.answers:
        batch.step()
    for one in (*plain, *(answer.completion(padded.tokenizer) for answer in served)):
        assert max(one.ids) < known
        assert all(token < known for top in one.top_logprobs for token, _ in top)


def _prefixes(lm: LM) -> Any:
    from chatwright.generation.prefix_cache import PrefixCache

    return PrefixCache(2**20)


def test_log_probabilities_count_every_row_as_training_does(padded: LM) -> None:
    """PPO compares them with those of the model it trains, which knows nothing of padding."""
    ids = padded.prompt_ids("Why do bees hum?", raw=True)
    (one,) = padded.generator.generate([ids], SamplingParams(max_new_tokens=8, temperature=1.0))[0]
    expected = torch.log_softmax(padded.logits([*ids, *one.ids])[len(ids) - 1 : -1], -1)
    drawn = expected.gather(1, torch.tensor(one.ids)[:, None])[:, 0]
    assert torch.allclose(torch.tensor(one.logprobs), drawn, atol=1e-4)


def test_alternatives_shown_are_tokens(padded: LM) -> None:
    known = padded.tokenizer.vocab_size
    explained = explain(padded, "bees hum", top_k=8)
    assert all(other.id < known for token in explained.tokens for other in token.top)
    absent = padded.generator.absent_ids
    rows = [row for part in score_parts(padded.model, [5, 6, 7], 8, absent=absent) for row in part if row]
    assert all(token < known for _, top in rows for token, _ in top)


def test_gaps_inside_a_vocabulary_are_absent_too() -> None:
    data = json.loads(byte_level_json(CHATML_TOKENS))
    data["model"]["vocab"]["far"] = 900
    tokenizer = Tokenizer.from_json(json.dumps(data), chatml_config())
    absent = tokenizer.ids_without_token(1000)
    assert 900 not in absent and {899, 901, 999} <= set(absent) and tokenizer.vocab_size == 901


# ---- M05, M07, M09, M10: templates, stop tokens, bos ---------------------------------------------------------


@pytest.mark.parametrize("family", ["zephyr", "llama3.1", "phi3", "qwen3"])
def test_an_untouched_model_is_exported_as_it_came(family: str, tmp_path: Path) -> None:
    eos = [FAMILIES[family].special.index(FAMILIES[family].end) + FAMILIES[family].pieces]
    source = _folder(tmp_path / "in", family, eos_token_id=eos, temperature=0.6, top_p=0.9)
    (source / "tokenizer.model").write_bytes(b"sentencepiece")
    out = _export(source, tmp_path / "out")
    config, before = (json.loads((f / "tokenizer_config.json").read_text("utf-8")) for f in (out, source))
    assert {key: config[key] for key in before} == before
    assert (out / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()
    assert (out / "tokenizer.model").read_bytes() == b"sentencepiece"
    generation = json.loads((out / "generation_config.json").read_text("utf-8"))
    assert generation["temperature"] == 0.6 and generation["top_p"] == 0.9
    given, exported = load(source), load(out)
    assert given.tokenizer.stop_ids == exported.tokenizer.stop_ids
    assert given.prompt_ids("Why?") == exported.prompt_ids("Why?")
    again = _export(out, tmp_path / "again")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"):
        assert (again / name).read_bytes() == (out / name).read_bytes()


def test_an_eos_list_ends_answers_and_is_written_back(tmp_path: Path) -> None:
    source = _folder(tmp_path / "in", "llama3.1", eos_token_id=[1, 5, 4])
    lm = load(source)
    assert lm.tokenizer.stop_ids == {1, 4, 5}
    out = _export(source, tmp_path / "out")
    for name in ("generation_config.json", "config.json"):
        assert sorted(json.loads((out / name).read_text("utf-8"))["eos_token_id"]) == [1, 4, 5]


@pytest.mark.parametrize(("shape", "prefix"), [("bos", [0]), ("none", []), ("off", []), ("on", [0])])
def test_raw_text_begins_as_the_post_processor_says(shape: str, prefix: list[int], tmp_path: Path) -> None:
    import tokenizers
    from tokenizers import processors

    rust = tokenizers.Tokenizer.from_str(byte_level_json(["<s>", "</s>"]))
    if shape in ("bos", "off"):
        rust.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    config: dict[str, Any] = {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "LlamaTokenizerFast"}
    config |= {"off": {"add_bos_token": False}, "on": {"add_bos_token": True}}.get(shape, {})
    tokenizer = Tokenizer.from_json(rust.to_str(), config)
    lm = LM(tiny_model("llama", tokenizer.vocab_size), tokenizer)
    assert lm.prompt_ids("The moon", raw=True) == [*prefix, *tokenizer.encode("The moon")]
    assert lm.wants_bos == bool(prefix)


def test_a_trained_model_keeps_the_settings_of_its_base(tmp_path: Path) -> None:
    lm = load(_folder(tmp_path / "in", "qwen3", eos_token_id=[2], temperature=0.6))
    save_model(lm.model, tmp_path / "out", lm.tokenizer.pinned())
    again = load(tmp_path / "out")
    assert again.tokenizer.fingerprint == lm.tokenizer.fingerprint and again.tokenizer.generation == {"temperature": 0.6}
    assert again.prompt_ids("Why?") == lm.prompt_ids("Why?")


def test_what_is_said_when_a_model_is_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load(_folder(tmp_path / "dated", "llama3.2 and 3.3"))
    assert "writes a date: always 2024-07-26" in capsys.readouterr().err
    broken = _folder(tmp_path / "broken", "zephyr")
    config = json.loads((broken / "tokenizer_config.json").read_text("utf-8")) | {"chat_template": "{% for"}
    (broken / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    lm = load(broken)
    assert "TemplateSyntaxError" in (said := capsys.readouterr().err) and "--template" in said
    assert lm.generate("raw", raw=True, max_new_tokens=2)
    assert load(broken, template="plain").generate("Why?", max_new_tokens=2)


# ---- M03, M16b, M17: names, heads, number formats ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("embed_tokens.weight", "model.embed_tokens.weight"),
        ("layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
        ("transformer.layers.0.input_layernorm.weight", "model.layers.0.input_layernorm.weight"),
        ("language_model.model.norm.weight", "model.norm.weight"),
        ("model.language_model.layers.1.x", "model.layers.1.x"),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("module.model.norm.weight", "model.norm.weight"),
        ("_orig_mod.module.lm_head.weight", "lm_head.weight"),
        ("base_model.model.model.layers.2.x", "model.layers.2.x"),
        ("h.0.attn.c_attn.weight", "transformer.h.0.attn.c_attn.weight"),
        ("transformer.wte.weight", "transformer.wte.weight"),
        ("model.layers.0.x", "model.layers.0.x"),
        ("score.weight", "score.weight"),
    ],
)
def test_prefixes_that_others_put_before_names(name: str, plain: str) -> None:
    assert canonical(name) == plain


@pytest.mark.parametrize("change", [lambda n: n.removeprefix("model."), lambda n: "transformer." + n.removeprefix("model."),
                                    lambda n: "language_model." + n, lambda n: "module._orig_mod." + n])  # fmt: skip
def test_weights_under_other_names_are_read(change: Any, tmp_path: Path) -> None:
    model = tiny_model("qwen3")
    save_folder(model, tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({change(name): tensor for name, tensor in load_file(file).items()}, file)
    again = load_folder(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


def test_missing_tensors_are_named_with_those_that_are_there(tmp_path: Path) -> None:
    save_folder(tiny_model("llama"), tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({"encoder." + name: tensor for name, tensor in load_file(file).items()}, file)
    with pytest.raises(ModelError, match=r"tensors are missing, the first is 'model.*others.*encoder\.model"):
        load_folder(tmp_path)


def test_a_head_that_is_not_used_is_mentioned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_folder(tiny_model("llama"), tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    embedding = tensors["model.embed_tokens.weight"]
    save_file(tensors | {"lm_head.weight": embedding.clone()}, file)
    load_folder(tmp_path)
    assert capsys.readouterr().err == ""
    save_file(tensors | {"lm_head.weight": embedding + 1}, file)
    load_folder(tmp_path)
    assert "lm_head.weight differs from model.embed_tokens.weight" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["torch_dtype", "dtype", None])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_export_keeps_the_number_format(key: str | None, dtype: str, tmp_path: Path) -> None:
    source = _folder(tmp_path / "in", "zephyr")
    save_folder(tiny_model("llama", 600), source, dtype=dtype)
    config = json.loads((source / "config.json").read_text("utf-8"))
    stored = config.pop("torch_dtype")
    (source / "config.json").write_text(json.dumps(config | ({key: stored} if key else {})), encoding="utf-8")
    out = _export(source, tmp_path / "out")
    before, after = (load_file(folder / "model.safetensors") for folder in (source, out))
    assert {n: (t.dtype, t.tolist()) for n, t in before.items()} == {n: (t.dtype, t.tolist()) for n, t in after.items()}


# ---- adapters ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "refused"),
    [
        ({"use_dora": True}, True), ({"use_rslora": True}, True), ({"kasa_config": {"x": 1}}, True),
        ({"something_new": True}, True), ({"bias": "all"}, True), ({"bias": "lora_only"}, True),
        ({"init_lora_weights": "pissa_niter_4"}, True), ({"init_lora_weights": "OLoRA"}, True),
        ({"alpha_pattern": {"q_proj": 4}}, True), ({"modules_to_save": ["lm_head"]}, True),
        ({"init_lora_weights": "gaussian"}, False), ({"something_new": None, "use_bdlora": None}, False),
        ({"qalora_group_size": 16, "megatron_core": "megatron.core", "peft_version": "9"}, False),
    ],
)  # fmt: skip
def test_adapter_settings_pass_a_list_of_known_ones(setting: dict[str, Any], refused: bool, tmp_path: Path) -> None:
    model = tiny_model("llama")
    lora.inject(model, lora.LoraConfig(rank=2))
    lora.save_adapter(model, tmp_path)
    file = tmp_path / lora.CONFIG
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | setting), encoding="utf-8")
    if refused:
        with pytest.raises(ModelError, match=next(iter(setting))):
            lora.load_adapter(tiny_model("llama"), tmp_path)
    else:
        lora.load_adapter(tiny_model("llama"), tmp_path)


def test_every_default_of_peft_is_accepted(tmp_path: Path) -> None:
    from peft import LoraConfig

    model = tiny_model("llama")
    lora.inject(model, lora.LoraConfig(rank=2))
    lora.save_adapter(model, tmp_path)
    LoraConfig(r=2, task_type="CAUSAL_LM", base_model_name_or_path="base").save_pretrained(tmp_path)
    lora.load_adapter(tiny_model("llama"), tmp_path)


# ---- GGUF ----------------------------------------------------------------------------------------------------


def _gguf(folder: Path, family: str) -> tuple[Path, Tokenizer]:
    tokenizer = Tokenizer.from_json(family_json(FAMILIES[family]), family_config(FAMILIES[family]))
    tokenizer.save(folder / "vocabulary")
    file = folder / "model.gguf"
    write_gguf(tiny_model("llama", tokenizer.vocab_size), file, folder / "vocabulary", "f32", name="tiny")
    return file, tokenizer


@pytest.mark.parametrize("family", ["zephyr", "llama3.1", "qwen3", "granite"])
def test_a_gguf_file_keeps_template_and_stop_tokens(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file, tokenizer = _gguf(tmp_path, family)
    again = load(file).tokenizer
    turns = conversation(("user", "Why do bees hum?"))
    assert again.template == tokenizer.template and tokenizer.end_of_turn_id in again.stop_ids
    theirs, ours = (one.decode(render(turns, one, add_generation_prompt=True).ids, skip_special=False)
                    for one in (again, tokenizer))  # fmt: skip
    assert theirs == ours


@pytest.fixture
def split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[Path]]:
    """A GGUF file, and the same as three parts in a folder of their own, written by gguf's own writer."""
    import gguf

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    whole, _ = _gguf(tmp_path, "qwen3")
    num = -(-len(read_gguf(whole).header.tensors) // 3)
    folder = tmp_path / "parts"
    folder.mkdir()
    writer = gguf.GGUFWriter
    with monkeypatch.context() as patch:
        patch.setattr(gguf, "GGUFWriter", lambda path, architecture: writer(path, architecture, split_max_tensors=num))
        with pytest.raises(FileNotFoundError):  # our writer renames one file; these are three
            write_gguf(load_model(whole)[0], folder / "model.gguf", tmp_path / "vocabulary", "f32", name="tiny")
    parts = []
    for part in sorted(folder.iterdir()):
        number, _, count = part.stem.rsplit("-", 3)[1:]
        parts.append(part.rename(folder / f"big-{number}-of-{count}.gguf"))
    assert len(parts) == 3
    return whole, parts


def test_a_split_file_is_joined_whichever_part_or_folder_is_named(split: tuple[Path, list[Path]]) -> None:
    whole, parts = split
    wanted = dict(read_gguf(whole).tensors())
    for name in (parts[0], parts[2]):
        found = dict(read_gguf(name).tensors())
        assert found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)
    before, after = load(whole), load(parts[0].parent)
    assert torch.equal(before.logits([5, 6, 7]), after.logits([5, 6, 7]))
    assert after.tokenizer.fingerprint == load(parts[1]).tokenizer.fingerprint == before.tokenizer.fingerprint


def test_parts_that_are_missing_or_mixed_up_are_named(split: tuple[Path, list[Path]]) -> None:
    _, parts = split
    parts[1].rename(parts[1].with_name("elsewhere"))
    with pytest.raises(ModelError, match="one of 3 parts of a split file, and big-00002-of-00003.gguf is not beside it"):
        read_gguf(parts[0])
    shutil.copyfile(parts[2], parts[1])
    with pytest.raises(ModelError, match=r"big-00002-of-00003.gguf: says that it is part 3 of 3"):
        load(parts[0])
    alone = parts[2].rename(parts[2].with_name("renamed.gguf"))
    with pytest.raises(ModelError, match=r"part 3 of 3 of a split file. Name the parts as llama.cpp does"):
        read_gguf(alone)


def test_a_file_without_its_splitting_rule_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import gguf

    monkeypatch.setattr(gguf.GGUFWriter, "add_tokenizer_pre", lambda self, pre: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file, _ = _gguf(tmp_path, "smollm2")
    load(file)
    assert "does not name its splitting rule (tokenizer.ggml.pre)" in capsys.readouterr().err


def test_prompts_of_rows_with_tools_describe_them(tmp_path: Path) -> None:
    from chatwright.data.prompts import load_examples

    tokenizer = load(_folder(tmp_path, "qwen3")).tokenizer
    tools = [{"type": "function", "function": {"name": "add"}}]
    (example,) = load_examples([Prompt(messages=user("1+1?"), meta={"tools": tools})], tokenizer)
    assert json.dumps(tools[0]) in tokenizer.decode(example.ids)
