"""Every family against transformers, on tiny random checkpoints: logits, cache, padding, packing, round trip."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from chatwright.model.formats.huggingface import load_folder, save_folder
from chatwright.model.kv_cache import KVCache
from chatwright.model.transformer import Transformer

transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-4
_SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "attn_implementation": "eager",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
_LOCAL = ["sliding_attention", "full_attention", "sliding_attention"]


def _llama(**changes: Any) -> Any:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**_SIZES | changes))


def _mistral(**changes: Any) -> Any:
    return transformers.MistralForCausalLM(transformers.MistralConfig(**_SIZES | changes))


def _qwen2(**changes: Any) -> Any:
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**_SIZES | changes))


def _qwen3(**changes: Any) -> Any:
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**_SIZES | {"head_dim": 16} | changes))


def _gemma_config(**changes: Any) -> Any:
    shape = {"head_dim": 16, "query_pre_attn_scalar": 24, "num_hidden_layers": 3, "layer_types": _LOCAL}
    window = {"sliding_window": 5, "rope_theta": 1e6, "rope_local_base_freq": 1e3}
    return transformers.Gemma3TextConfig(**_SIZES | shape | window | changes)


def _gemma3(**changes: Any) -> Any:
    return transformers.Gemma3ForCausalLM(_gemma_config(**changes))


def _gemma3_with_pictures() -> Any:
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 16, "patch_size": 8}
    config = transformers.Gemma3Config(
        text_config=_gemma_config().to_dict(),
        vision_config=vision,
        mm_tokens_per_image=4,
        attn_implementation="eager",
    )
    return transformers.Gemma3ForConditionalGeneration(config)


def _gpt2(**changes: Any) -> Any:
    sizes = {"vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, attn_implementation="eager", **changes))


CASES: dict[str, Callable[[], Any]] = {
    "llama-tied": lambda: _llama(tie_word_embeddings=True),
    "llama-untied-mha": lambda: _llama(num_key_value_heads=4, rope_theta=5e5),
    "llama-head-dim": lambda: _llama(head_dim=12),
    "llama3-rope": lambda: _llama(rope_scaling=_LLAMA3),
    "llama-linear-rope": lambda: _llama(rope_scaling={"rope_type": "linear", "factor": 2.0}),
    "mistral-window": lambda: _mistral(sliding_window=5),
    "mistral-global": lambda: _mistral(sliding_window=None),
    "qwen2-tied": lambda: _qwen2(tie_word_embeddings=True),
    "qwen2-window": lambda: _qwen2(use_sliding_window=True, sliding_window=5, max_window_layers=1),
    "qwen3": lambda: _qwen3(),
    "qwen3-tied": lambda: _qwen3(tie_word_embeddings=True),
    "gemma3": lambda: _gemma3(),
    "gemma3-linear-rope": lambda: _gemma3(rope_scaling={"rope_type": "linear", "factor": 8.0}),
    "gemma3-pictures": _gemma3_with_pictures,
    "gpt2": lambda: _gpt2(),
    "gpt2-wide": lambda: _gpt2(n_inner=80),
}
TOKENS = torch.randint(3, 97, (2, 24), generator=torch.Generator().manual_seed(7))


def make_lively(model: Any, seed: int = 0) -> Any:
    """Random weights large enough that every part of the network moves the logits."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            width = parameter.shape[0] if ".c_" in name else parameter.shape[-1]
            parameter.data = noise * (0.5 if "emb" in name or ".wte" in name or ".wpe" in name else 1.4 * width**-0.5)
        else:
            parameter.data = parameter.data + 0.2 * noise
    model.tie_weights()
    return model.eval()


class Case:
    """An oracle, its folder on disk, and our model loaded from it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.oracle = make_lively(CASES[name]())
        self.oracle.save_pretrained(folder, max_shard_size="20KB" if name == "llama-untied-mha" else "1GB")
        self.model = load_folder(folder)

    @torch.no_grad()
    def expected(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        """transformers' logits."""
        logits: torch.Tensor = self.oracle(tokens_BT).logits
        return logits


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(request.param, tmp_path_factory.mktemp(request.param))


@torch.no_grad()
def logits(model: Transformer, tokens_BT: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    return model.logits(model(tokens_BT, **kwargs))


def test_logits_equal_transformers(case: Case) -> None:
    ours, theirs = logits(case.model, TOKENS), case.expected(TOKENS)
    assert theirs.std() > 0.5, "the oracle is too flat for the comparison to mean anything"
    assert (ours - theirs).abs().max() < TOLERANCE


def test_import_then_export_is_the_identity(case: Case, tmp_path: Path) -> None:
    save_folder(case.model, tmp_path)
    original = {k: v for file in case.folder.glob("*.safetensors") for k, v in load_file(file).items()}
    if case.name == "gemma3-pictures":
        prefix = next(name for name in original if name.endswith("embed_tokens.weight")).removesuffix("embed_tokens.weight")
        original = {k.replace(prefix, "model.", 1): v for k, v in original.items() if k.startswith(prefix)}
    written = load_file(tmp_path / "model.safetensors")
    assert written.keys() == original.keys()
    for name, tensor in original.items():
        assert torch.equal(written[name], tensor) and written[name].dtype == tensor.dtype, name
    assert load_folder(tmp_path).config == case.model.config


def test_transformers_loads_what_we_write(case: Case, tmp_path: Path) -> None:
    save_folder(case.model, tmp_path, max_shard_bytes=20_000)
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 1
    loaded, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True, attn_implementation="eager"
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        assert (loaded(TOKENS).logits - logits(case.model, TOKENS)).abs().max() < TOLERANCE
    ours = load_folder(tmp_path)
    assert torch.equal(logits(ours, TOKENS), logits(case.model, TOKENS))


def test_cache_equals_full_forward_on_ragged_rows_in_chunks(case: Case) -> None:
    """Row 0 has 7 prompt tokens and row 1 has 12; then chunks of 1, 5 and 3 tokens, ragged too."""
    full = logits(case.model, TOKENS)
    cache = KVCache(case.model.config, 2, 32, torch.float32)
    lengths = torch.zeros(2, dtype=torch.long)
    for counts in ([7, 12], [1, 1], [5, 3], [3, 2], [0, 1], [8, 5]):
        width = max(counts)
        chunk = torch.zeros(2, width, dtype=torch.long)
        for row, count in enumerate(counts):
            chunk[row, :count] = TOKENS[row, lengths[row] : lengths[row] + count]
        got = logits(case.model, chunk, cache=cache)
        for row, count in enumerate(counts):
            want = full[row, lengths[row] : lengths[row] + count]
            assert torch.allclose(got[row, :count], want, atol=TOLERANCE), (counts, row)
        cache.append(torch.tensor(counts))
        lengths += torch.tensor(counts)
    assert lengths.tolist() == [24, 24]


def test_padding_changes_nothing(case: Case) -> None:
    padded = torch.cat((TOKENS[:, :10], torch.zeros(2, 9, dtype=torch.long)), dim=1)
    assert torch.allclose(logits(case.model, padded)[:, :10], logits(case.model, TOKENS[:, :10]), atol=1e-5)


def test_packed_rows_equal_rows_of_their_own(case: Case) -> None:
    """Three texts in one row, kept apart by mask and positions."""
    lengths = [9, 4, 11]
    packed = torch.cat([TOKENS[n % 2, : lengths[n]] for n in range(3)])[None]
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    segment = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))
    order = torch.arange(24)
    mask = ((segment[:, None] == segment[None]) & (order[:, None] >= order[None]))[None]
    got = logits(case.model, packed, positions_BT=positions, mask_BTS=mask)[0].split(lengths)
    for n, part in enumerate(got):
        alone = logits(case.model, TOKENS[n % 2, : lengths[n]][None])[0]
        assert torch.allclose(part, alone, atol=1e-5), n


def test_forked_answers_share_their_prompt(case: Case) -> None:
    """A tree mask: two answers after one prompt; neither sees the other, both positions go on from the prompt."""
    prompt, first, second = TOKENS[0, :8], TOKENS[0, 8:14], TOKENS[1, :5]
    positions = torch.cat((torch.arange(8), 8 + torch.arange(6), 8 + torch.arange(5)))[None]
    branch = torch.tensor([0] * 8 + [1] * 6 + [2] * 5)
    order = torch.arange(19)
    mask = (order[:, None] >= order[None]) & ((branch[None] == 0) | (branch[:, None] == branch[None]))
    got = logits(case.model, torch.cat((prompt, first, second))[None], positions_BT=positions, mask_BTS=mask[None])[0]
    for answer, part in ((first, got[8:14]), (second, got[14:])):
        alone = logits(case.model, torch.cat((prompt, answer))[None])[0, 8:]
        assert torch.allclose(part, alone, atol=1e-5)


def test_bfloat16_stays_near_transformers(case: Case) -> None:
    ours = logits(load_folder(case.folder, "bfloat16"), TOKENS).float()
    theirs = case.expected(TOKENS)
    assert (ours - theirs).abs().mean() < 0.05 * theirs.std()


def test_rope_parameters_of_transformers_5_are_read(tmp_path: Path) -> None:
    make_lively(_gemma3(rope_scaling={"rope_type": "linear", "factor": 8.0})).save_pretrained(tmp_path)
    before = load_folder(tmp_path).config
    raw = json.loads((tmp_path / "config.json").read_text())
    del raw["rope_scaling"]
    raw["rope_parameters"] = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": raw.pop("rope_theta")},
        "sliding_attention": {"rope_type": "default", "rope_theta": raw.pop("rope_local_base_freq")},
    }
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert load_folder(tmp_path).config == before
