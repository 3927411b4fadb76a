"""config.json of Hugging Face <-> ModelConfig. Settings the decoder does not run are errors, never ignored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from chatwright.errors import ModelError
from chatwright.model.config import Family, ModelConfig, RopeScaling

SUPPORTED: dict[str, Family] = {
    "llama": "llama",
    "mistral": "mistral",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma3_text": "gemma3",
    "gemma3": "gemma3",
    "gpt2": "gpt2",
}
_ARCHITECTURES: dict[Family, tuple[str, str]] = {
    "llama": ("llama", "LlamaForCausalLM"),
    "mistral": ("mistral", "MistralForCausalLM"),
    "qwen2": ("qwen2", "Qwen2ForCausalLM"),
    "qwen3": ("qwen3", "Qwen3ForCausalLM"),
    "gemma3": ("gemma3_text", "Gemma3ForCausalLM"),
    "gpt2": ("gpt2", "GPT2LMHeadModel"),
}
# What transformers assumes where config.json is silent.
_DEFAULTS: dict[Family, dict[str, Any]] = {
    "llama": {"rms_norm_eps": 1e-6, "max_position_embeddings": 2048},
    "mistral": {
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 131_072,
        "num_key_value_heads": 8,
        "sliding_window": 4096,
    },
    "qwen2": {"rms_norm_eps": 1e-6, "max_position_embeddings": 32_768, "num_key_value_heads": 32},
    "qwen3": {
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 32_768,
        "num_key_value_heads": 32,
        "head_dim": 128,
    },
    "gemma3": {
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 131_072,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262_208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "tie_word_embeddings": True,
    },
    "gpt2": {
        "vocab_size": 50_257,
        "n_positions": 1024,
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
    },
}
# Settings that change the forward pass in a way the decoder does not have, and the value that leaves it as it is.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "attn_logit_softcapping": (None,),
    "final_logit_softcapping": (None,),
    "use_bidirectional_attention": (False, None),
    "scale_attn_weights": (True, None),
    "scale_attn_by_inverse_layer_idx": (False, None),
    "reorder_and_upcast_attn": (False, True, None),
    "add_cross_attention": (False, None),
    "is_encoder_decoder": (False, None),
    "quantization_config": (None,),
}
MAX_SIZE, MAX_LAYERS = 1 << 24, 1024
_ACTIVATIONS = {
    "llama": ("silu", "swish"),
    "mistral": ("silu", "swish"),
    "qwen2": ("silu", "swish"),
    "qwen3": ("silu", "swish"),
    "gemma3": ("gelu_pytorch_tanh",),
    "gpt2": ("gelu_new", "gelu_pytorch_tanh"),
}


def whole(value: Any, where: str, most: int = MAX_SIZE) -> int:
    """`value` if it is a whole number from 1 to `most`: no file may ask for more than any model has."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ModelError(f"{where}: {value!r} is not a positive whole number up to {most}")
    return value


class _Fields:
    """Reads a config.json with the family's defaults; complaints name the file and the key."""

    def __init__(self, raw: Mapping[str, Any], family: Family, where: str) -> None:
        self.raw, self.family, self.where = raw, family, where

    def get(self, key: str, default: Any = None) -> Any:
        value = self.raw.get(key)
        return _DEFAULTS[self.family].get(key, default) if value is None else value

    def integer(self, key: str, default: int | None = None, most: int = MAX_SIZE) -> int:
        return whole(self.get(key, default), f"{self.where}: {key}", most)

    def number(self, key: str, default: float | None = None) -> float:
        return self.positive(self.get(key, default), key)

    def positive(self, value: Any, key: str) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
            raise ModelError(f"{self.where}: {key}: {value!r} is not a positive number")
        return float(value)


def config_from_hf(raw: Mapping[str, Any], where: str = "config.json") -> ModelConfig:
    """ModelConfig of a Hugging Face config. Raises ModelError naming the key for everything unsupported."""
    if raw.get("auto_map"):
        raise ModelError(f"{where}: auto_map asks to run code that comes with the model; that is never done")
    kind = raw.get("model_type")
    if not isinstance(kind, str) or kind not in SUPPORTED:
        raise ModelError(f"{where}: model_type {kind!r} is not supported; supported are {', '.join(SUPPORTED)}")
    family = SUPPORTED[kind]
    if kind == "gemma3":
        text = raw.get("text_config")
        if not isinstance(text, Mapping):
            raise ModelError(f"{where}: text_config: missing, although model_type is gemma3")
        raw = {"tie_word_embeddings": raw.get("tie_word_embeddings")} | dict(text)
    fields = _Fields(raw, family, where)
    for key, neutral in _NEUTRAL.items():
        if not any(raw.get(key) is value for value in neutral):
            raise ModelError(f"{where}: {key}: {raw[key]!r} is not supported")
    activation = fields.get("hidden_activation") or fields.get("hidden_act") or fields.get("activation_function")
    if activation is not None and activation not in _ACTIVATIONS[family]:
        raise ModelError(f"{where}: activation {activation!r} is not supported for {family}")
    return _gpt2(fields) if family == "gpt2" else _llama_like(fields)


def _gpt2(fields: _Fields) -> ModelConfig:
    width, heads = fields.integer("n_embd"), fields.integer("n_head")
    if width % heads:
        raise ModelError(f"{fields.where}: n_embd {width} is not a multiple of n_head {heads}")
    return ModelConfig(
        family="gpt2",
        vocab_size=fields.integer("vocab_size"),
        hidden_size=width,
        num_layers=fields.integer("n_layer", most=MAX_LAYERS),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=width // heads,
        intermediate_size=fields.integer("n_inner", 4 * width),
        max_positions=fields.integer("n_positions"),
        norm="layer",
        norm_eps=fields.number("layer_norm_epsilon"),
        positions="learned",
        mlp="gelu",
        qkv_bias=True,
        linear_bias=True,
        tie_embeddings=bool(fields.get("tie_word_embeddings", True)),
    )


def _llama_like(fields: _Fields) -> ModelConfig:
    family = fields.family
    width, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    theta, local_theta, scaling = _rope(fields)
    window, local = _windows(fields)
    gemma = family == "gemma3"
    return ModelConfig(
        family=family,
        vocab_size=fields.integer("vocab_size"),
        hidden_size=width,
        num_layers=fields.integer("num_hidden_layers", most=MAX_LAYERS),
        num_heads=heads,
        num_kv_heads=fields.integer("num_key_value_heads", heads),
        head_dim=fields.integer("head_dim", width // heads),
        intermediate_size=fields.integer("intermediate_size"),
        max_positions=fields.integer("max_position_embeddings"),
        norm="rms_plus_one" if gemma else "rms",
        norm_eps=fields.number("rms_norm_eps"),
        rope_theta=theta,
        rope_local_theta=local_theta,
        rope_scaling=scaling,
        mlp="geglu" if gemma else "swiglu",
        qkv_bias=family == "qwen2",
        qk_norm=family in ("qwen3", "gemma3"),
        post_norms=gemma,
        scale_embeddings=gemma,
        attention_scale=fields.number("query_pre_attn_scalar") ** -0.5 if gemma else None,
        sliding_window=window,
        local_layers=local,
        tie_embeddings=bool(fields.get("tie_word_embeddings", False)),
    )


def _rope(fields: _Fields) -> tuple[float, float | None, RopeScaling | None]:
    """(theta, theta of local layers, scaling), from the old keys or from transformers 5's `rope_parameters`."""
    gemma = fields.family == "gemma3"
    new = fields.get("rope_parameters")
    if isinstance(new, Mapping):
        shared = new.get("full_attention", new)
        local = new.get("sliding_attention", {}) if gemma else {}
        if not isinstance(shared, Mapping) or not isinstance(local, Mapping):
            raise ModelError(f"{fields.where}: rope_parameters: full_attention and sliding_attention must be objects")
        theta = fields.positive(shared.get("rope_theta") or fields.get("rope_theta", 10_000.0), "rope_theta")
        local_theta = fields.get("rope_local_base_freq") if local.get("rope_theta") is None else local["rope_theta"]
        return theta, fields.positive(local_theta, "rope_theta") if gemma else None, _scaling(shared, fields)
    local = fields.number("rope_local_base_freq") if gemma else None
    raw = fields.get("rope_scaling")
    return fields.number("rope_theta", 10_000.0), local, _scaling(raw, fields) if raw else None


def _scaling(raw: Any, fields: _Fields) -> RopeScaling | None:
    if not isinstance(raw, Mapping):
        raise ModelError(f"{fields.where}: rope_scaling: {raw!r} is not an object")
    kind = raw.get("rope_type", raw.get("type", "default"))

    def number(key: str) -> float:
        return fields.positive(raw.get(key), f"rope_scaling: {kind} needs {key}")

    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling(kind="linear", factor=number("factor"))
    if kind == "llama3":
        return RopeScaling(
            kind="llama3",
            factor=number("factor"),
            low_freq_factor=number("low_freq_factor"),
            high_freq_factor=number("high_freq_factor"),
            original_max_positions=int(number("original_max_position_embeddings")),
        )
    raise ModelError(f"{fields.where}: rope_scaling: type {kind!r} is not supported; linear and llama3 are")


def _windows(fields: _Fields) -> tuple[int | None, tuple[bool, ...]]:
    """(sliding window in tokens, which layers use it)."""
    family, num_layers = fields.family, fields.integer("num_hidden_layers", most=MAX_LAYERS)
    if family == "llama":
        return None, ()
    if family == "mistral":
        silent = "sliding_window" not in fields.raw
        return (fields.integer("sliding_window"), ()) if silent or fields.raw["sliding_window"] else (None, ())
    if family in ("qwen2", "qwen3") and not fields.get("use_sliding_window", False):
        return None, ()
    window = fields.integer("sliding_window", 4096)
    kinds = fields.get("layer_types")
    if isinstance(kinds, list):
        if len(kinds) != num_layers or not all(kind in ("sliding_attention", "full_attention") for kind in kinds):
            raise ModelError(f"{fields.where}: layer_types: want {num_layers} of sliding_attention or full_attention")
        return window, tuple(kind == "sliding_attention" for kind in kinds)
    if family == "gemma3":
        pattern = fields.integer("sliding_window_pattern", 6)
        return window, tuple(bool((n + 1) % pattern) for n in range(num_layers))
    first = fields.get("max_window_layers", 28)
    if not isinstance(first, int):
        raise ModelError(f"{fields.where}: max_window_layers: {first!r} is not a whole number")
    return window, tuple(n >= first for n in range(num_layers))


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The config.json that transformers, vLLM and llama.cpp's converter read for this model."""
    kind, architecture = _ARCHITECTURES[config.family]
    head: dict[str, Any] = {"architectures": [architecture], "model_type": kind}
    if config.family == "gpt2":
        return head | _gpt2_to_hf(config)
    out = head | {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": _scaling_to_hf(config.rope_scaling),
        "tie_word_embeddings": config.tie_embeddings,
        "attention_bias": False,
        "attention_dropout": 0.0,
    }
    if config.family == "gemma3":
        assert config.attention_scale is not None
        scalar = config.attention_scale**-2
        out |= {"hidden_activation": "gelu_pytorch_tanh", "rope_local_base_freq": config.rope_local_theta}
        out |= {"query_pre_attn_scalar": round(scalar) if abs(scalar - round(scalar)) < 1e-6 else scalar}
    else:
        out["hidden_act"] = "silu"
    if config.family == "llama":
        out["mlp_bias"] = False
    return out | _windows_to_hf(config)


def _windows_to_hf(config: ModelConfig) -> dict[str, Any]:
    if config.family == "llama":
        return {}
    if config.family == "mistral":
        return {"sliding_window": config.sliding_window}
    kinds = ["sliding_attention" if config.is_local(n) else "full_attention" for n in range(config.num_layers)]
    if config.family == "gemma3":
        return {"sliding_window": config.sliding_window, "layer_types": kinds}
    used = config.sliding_window is not None
    first = kinds.index("sliding_attention") if "sliding_attention" in kinds else config.num_layers
    return {
        "use_sliding_window": used,
        "sliding_window": config.sliding_window,
        "max_window_layers": first,
        "layer_types": kinds,
    }


def _scaling_to_hf(scaling: RopeScaling | None) -> dict[str, Any] | None:
    if scaling is None:
        return None
    if scaling.kind == "linear":
        return {"rope_type": "linear", "factor": scaling.factor}
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor,
        "original_max_position_embeddings": scaling.original_max_positions,
    }


def _gpt2_to_hf(config: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "n_positions": config.max_positions,
        "n_ctx": config.max_positions,
        "n_embd": config.hidden_size,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_inner": config.intermediate_size,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": config.norm_eps,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "tie_word_embeddings": config.tie_embeddings,
    }
