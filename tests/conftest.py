"""Fixtures for all tests: one torch thread, tiny tokenizers built on the fly, the shared real data."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before torch is imported: one thread, so that tests beside one another do not fight over the cores.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

SMOLLM2_JINJA = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TRAINING_TEXT = [
    "The museum opens at nine. Why do bees make honey? Bees make honey to eat in winter, when there are no flowers.",
    "Gravity pulls things down, like a ball you drop. You can feel it when you jump!\n\nuser assistant system model",
    "User: What is the moon?\n\nAssistant: A big ball of rock.\n1. one 2. two (three) [four] {five} <six> don't it's",
    "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。 你好，世界！ Émile naïve café 🍎🍏",
]


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data beside the repository; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the shared data folder {SHARED_DATA} is absent (see CONTRIBUTING)")
    return SHARED_DATA


def byte_level_json(special: list[str], *, merges: int = 300, ordinary: tuple[str, ...] = ()) -> str:
    """tokenizer.json of a tiny byte-level BPE (the kind of GPT-2, SmolLM2, Qwen and Llama 3)."""
    rust = tokenizers.Tokenizer(models.BPE())
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + len(special) + merges, special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    rust.train_from_iterator(TRAINING_TEXT, trainer)
    if ordinary:
        rust.add_tokens([tokenizers.AddedToken(token, special=False, normalized=False) for token in ordinary])
    return str(rust.to_str())


def sentencepiece_json(special: list[str], *, merges: int = 300, prefix: bool = True) -> str:
    """tokenizer.json of a tiny BPE with byte fallback and blanks as U+2581 (the kind of Llama 2, Mistral, Gemma)."""
    rust = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    steps = ([normalizers.Prepend("▁")] if prefix else []) + [normalizers.Replace(" ", "▁")]
    rust.normalizer = normalizers.Sequence(steps)
    # Real SentencePiece vocabularies hold no piece that joins a line end and a word.
    rust.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(tokenizers.Regex("\\n+"), "isolated"), pre_tokenizers.Split("▁", "merged_with_next")]
    )
    rust.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        + ([decoders.Strip(content=" ", left=1)] if prefix else [])
    )
    byte_tokens = [f"<0x{b:02X}>" for b in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=256 + len(special) + 1 + merges,
        special_tokens=["<unk>", *special, *byte_tokens],
        show_progress=False,
    )
    rust.train_from_iterator(TRAINING_TEXT, trainer)
    data: dict[str, Any] = json.loads(rust.to_str())
    # Byte tokens belong to the model, not to the control tokens.
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] not in byte_tokens]
    return json.dumps(data, ensure_ascii=False)


def chatml_config(**fields: Any) -> dict[str, Any]:
    """tokenizer_config.json of SmolLM2-Instruct, reduced to what matters."""
    return {
        "bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>", "chat_template": SMOLLM2_JINJA, **fields,
    }  # fmt: skip


CHATML_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>"]


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., Any]:
    """`make_tokenizer(merges=300, **config)`: a tiny chatml tokenizer like SmolLM2's."""
    from chatwright.text.tokenizer import Tokenizer

    def make(merges: int = 300, **fields: Any) -> Tokenizer:
        return Tokenizer.from_json(byte_level_json(CHATML_TOKENS, merges=merges), chatml_config(**fields))

    return make


@pytest.fixture(scope="session")
def tokenizer(make_tokenizer: Callable[..., Any]) -> Any:
    """A tiny chatml tokenizer with SmolLM2's special tokens and default system message (about 560 entries)."""
    return make_tokenizer()


def pytest_collection_finish() -> None:
    """What was imported and collected stays until the end: no collection of garbage has to look at it again."""
    gc.collect()
    gc.freeze()
