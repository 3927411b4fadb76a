"""What a decoder looks like, in numbers. One frozen config covers every supported family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chatwright.errors import ModelError

Family = Literal["llama", "mistral", "qwen2", "qwen3", "gemma3", "gpt2"]


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """Llama 3 frequency scaling (`rope_type = "llama3"`) or plain linear scaling."""

    kind: Literal["linear", "llama3"]
    """Which rule stretches the rotary frequencies."""
    factor: float
    """How many times longer the context becomes."""
    low_freq_factor: float = 1.0
    """Llama 3: wavelengths above original_max_positions / this are fully scaled."""
    high_freq_factor: float = 4.0
    """Llama 3: wavelengths below original_max_positions / this are left alone."""
    original_max_positions: int = 8192
    """Llama 3: context of the model before scaling, in tokens."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape of a decoder-only transformer (pre-norm). Sizes are counts of features or tokens."""

    family: Family
    """Checkpoint family; decides the names used on export, nothing in the forward pass."""
    vocab_size: int
    """Rows of the token embedding."""
    hidden_size: int
    """Width D of the residual stream."""
    num_layers: int
    """Number of blocks."""
    num_heads: int
    """Query heads."""
    num_kv_heads: int
    """Key and value heads (grouped-query attention when fewer than num_heads)."""
    head_dim: int
    """Features of one head."""
    intermediate_size: int
    """Width of the feed-forward layer."""
    max_positions: int
    """Longest context in tokens."""
    norm: Literal["rms", "rms_plus_one", "layer"] = "rms"
    """RMSNorm, RMSNorm that stores its weight minus one (Gemma 3), or LayerNorm with bias (GPT-2)."""
    norm_eps: float = 1e-5
    """Epsilon inside the norms."""
    positions: Literal["rope", "learned"] = "rope"
    """Rotary, or learned absolute positions (GPT-2)."""
    rope_theta: float = 10_000.0
    """Base of the rotary frequencies."""
    rope_scaling: RopeScaling | None = None
    """Frequency scaling of long-context checkpoints; None leaves the frequencies as they are."""
    rope_local_theta: float | None = None
    """Rotary base of the sliding-window layers, where it differs (Gemma 3)."""
    mlp: Literal["swiglu", "geglu", "gelu"] = "swiglu"
    """Gated SiLU, gated tanh-GELU, or plain tanh-GELU."""
    qkv_bias: bool = False
    """Bias on the query, key and value projections (Qwen2, GPT-2)."""
    linear_bias: bool = False
    """Bias on the output and feed-forward projections (GPT-2)."""
    qk_norm: bool = False
    """RMSNorm over each query and key head (Qwen3, Gemma 3)."""
    post_norms: bool = False
    """A second norm after attention and after the feed-forward layer (Gemma 3)."""
    scale_embeddings: bool = False
    """Multiply token embeddings by sqrt(hidden_size) (Gemma 3)."""
    attention_scale: float | None = None
    """Factor on query-key products; None is head_dim ** -0.5."""
    sliding_window: int | None = None
    """Keys a local layer may look back on, in tokens; None: all layers are global."""
    local_layers: tuple[bool, ...] = ()
    """Per layer, whether it uses the sliding window; empty: all do when sliding_window is set."""
    tie_embeddings: bool = True
    """Whether the output matrix is the embedding matrix."""

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ModelError(
                f"model config: num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}"
            )
        if self.head_dim % 2 and self.positions == "rope":
            raise ModelError(f"model config: head_dim {self.head_dim} must be even for rotary positions")
        if self.local_layers and len(self.local_layers) != self.num_layers:
            raise ModelError(
                f"model config: local_layers names {len(self.local_layers)} layers, the model has {self.num_layers}"
            )

    @property
    def qkv_size(self) -> int:
        """Output features of the fused query-key-value projection."""
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_dim

    @property
    def gated(self) -> bool:
        """Whether the feed-forward layer has a gate."""
        return self.mlp != "gelu"

    def is_local(self, layer: int) -> bool:
        """Whether `layer` attends only inside the sliding window."""
        if self.sliding_window is None:
            return False
        return self.local_layers[layer] if self.local_layers else True

    def num_parameters(self) -> int:
        """Trainable parameters, counted from the shapes (tied matrices once)."""
        d, f, n = self.hidden_size, self.intermediate_size, self.num_layers
        attn = d * self.qkv_size + self.num_heads * self.head_dim * d
        block = attn + (3 if self.gated else 2) * d * f
        return n * block + self.vocab_size * d * (1 if self.tie_embeddings else 2)
