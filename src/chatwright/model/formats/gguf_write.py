"""A model and its tokenizer -> one GGUF file for llama.cpp, as f32, f16, bf16 or q8_0."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from chatwright.errors import ModelError
from chatwright.model.attention import llama3_factors
from chatwright.model.config import ModelConfig
from chatwright.model.formats.gguf_names import gguf_name, permute
from chatwright.model.formats.gguf_vocab import Vocabulary, read_vocabulary
from chatwright.model.formats.huggingface import export_state
from chatwright.model.transformer import Transformer

if TYPE_CHECKING:
    from gguf import GGUFWriter

Kind = Literal["f32", "f16", "bf16", "q8_0"]
KINDS: tuple[Kind, ...] = ("f32", "f16", "bf16", "q8_0")
_FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}


def write_gguf(
    model: Transformer,
    path: str | Path,
    tokenizer_folder: str | Path,
    kind: Kind = "f16",
    *,
    name: str,
    licence: str | None = None,
) -> None:
    """Write `model` with the tokenizer and chat template in `tokenizer_folder` (tokenizer.json, tokenizer_config.json).

    Matrices are stored as `kind`, norms and biases as f32. Written aside, flushed, renamed. Raises ModelError for what
    GGUF cannot say: an unknown splitting rule of the tokenizer, layer patterns that llama.cpp fixes in its code.
    """
    from gguf import GGUFWriter

    path = Path(path)
    if kind not in KINDS:
        raise ModelError(f"GGUF kind {kind!r} is not supported; supported are {', '.join(KINDS)}")
    config = model.config
    vocabulary = read_vocabulary(Path(tokenizer_folder), config.vocab_size)
    architecture = "llama" if config.family == "mistral" else config.family
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    writer = GGUFWriter(aside, architecture)
    try:
        writer.add_name(name)
        if licence:
            writer.add_license(licence)
        writer.add_file_type(_FILE_TYPES[kind])
        _add_shape(writer, config)
        _add_vocabulary(writer, vocabulary)
        for tensor_name, tensor in _tensors(config, export_state(config, model.state_dict())):
            _add_tensor(writer, tensor_name, tensor, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with open(aside, "rb") as done:
            os.fsync(done.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _add_shape(writer: GGUFWriter, config: ModelConfig) -> None:
    window = config.sliding_window
    local = any(config.is_local(n) for n in range(config.num_layers))
    # llama.cpp's Mistral and Qwen know no window: inside its length the two are the same.
    max_positions = min(config.max_positions, window) if window and local and config.family != "gemma3" else None
    writer.add_context_length(max_positions or config.max_positions)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_heads)
    if config.family == "gpt2":
        writer.add_layer_norm_eps(config.norm_eps)
        return
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    if config.rope_scaling is not None and config.rope_scaling.kind == "linear":
        writer.add_string(f"{writer.arch}.rope.scaling.type", "linear")
        writer.add_rope_scaling_factor(config.rope_scaling.factor)
    if config.family == "gemma3":
        _check_gemma(config)
        assert window is not None
        writer.add_sliding_window(window)


def _check_gemma(config: ModelConfig) -> None:
    scale_dim = config.hidden_size / config.num_heads if config.num_layers == 62 else config.head_dim
    pattern = all(config.is_local(n) == bool((n + 1) % 6) for n in range(config.num_layers))
    same_scale = config.attention_scale is not None and abs(config.attention_scale - scale_dim**-0.5) < 1e-7
    if not pattern or config.rope_local_theta != 10_000.0 or not same_scale:
        raise ModelError(
            "gemma3 in GGUF: llama.cpp fixes every sixth layer as global, rope_local_base_freq 10000 and a "
            "query_pre_attn_scalar of head_dim; this model differs. Export it to hf instead."
        )


def _add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    adders = {"bos": writer.add_bos_token_id, "eos": writer.add_eos_token_id}
    adders |= {"eot": writer.add_eot_token_id, "unk": writer.add_unk_token_id, "pad": writer.add_pad_token_id}
    for key, token_id in vocabulary.special.items():
        adders[key](token_id)
    writer.add_add_bos_token(vocabulary.add_bos)
    writer.add_add_space_prefix(vocabulary.add_space_prefix)
    if vocabulary.chat_template:
        writer.add_chat_template(vocabulary.chat_template)


def _tensors(config: ModelConfig, state: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in state.items():
        if config.family in ("llama", "mistral") and ".q_proj." in name:
            tensor = permute(tensor, config.num_heads)
        elif config.family in ("llama", "mistral") and ".k_proj." in name:
            tensor = permute(tensor, config.num_kv_heads)
        elif config.norm == "rms_plus_one" and "norm." in name:
            tensor = tensor.float() + 1.0
        elif config.family == "gpt2" and ".c_" in name and tensor.dim() == 2:
            tensor = tensor.t()
        yield gguf_name(config.family, name), tensor.float().contiguous()
    if config.rope_scaling is not None and config.rope_scaling.kind == "llama3":
        yield "rope_freqs.weight", llama3_factors(config)


def _add_tensor(writer: GGUFWriter, name: str, tensor: torch.Tensor, kind: Kind) -> None:
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    values: np.ndarray[Any, Any] = tensor.numpy()
    if not np.isfinite(values).all():
        raise ModelError(f"tensor {name}: holds values that are not finite; it is not exported")
    if values.ndim == 1 or kind == "f32" or name == "position_embd.weight":
        writer.add_tensor(name, values)
    elif kind == "f16" and float(np.abs(values).max()) > 65_504.0:
        raise ModelError(f"tensor {name}: has values beyond f16; export it as bf16 or f32")
    elif kind == "f16":
        writer.add_tensor(name, values.astype(np.float16))
    else:
        if kind == "q8_0" and values.shape[-1] % 32:
            writer.add_tensor(name, values)  # blocks of 32 do not fit
            return
        target = GGMLQuantizationType.BF16 if kind == "bf16" else GGMLQuantizationType.Q8_0
        writer.add_tensor(name, quantize(values, target), raw_dtype=target)
