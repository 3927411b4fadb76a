"""What the training tests share: a two-layer model as a Hugging Face folder, small data files, the CLI as a process."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from safetensors import safe_open

from chatwright.model.formats.huggingface import save_folder
from chatwright.text.tokenizer import Tokenizer
from tiny_models import tiny_config

SRC = Path(__file__).resolve().parents[1] / "src"
# chatml without a default system message: prompts of a dozen tokens.
SHORT_JINJA = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
WORDS = "bees honey winter flowers museum gravity ball moon rock sun rain cloud tree river".split()


def save_tiny_model(folder: Path, tokenizer: Tokenizer, *, seed: int = 0, kind: str = "llama", **changes: Any) -> Path:
    """A model from scratch (GPT-2's initialisation: near-uniform predictions) with its tokenizer."""
    from chatwright.model.init import initialised

    sizes: dict[str, Any] = {"max_positions": 128, **changes}
    folder.mkdir(parents=True, exist_ok=True)
    save_folder(initialised(tiny_config(kind, tokenizer.vocab_size, **sizes), seed), folder, tokenizer)
    return folder


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """JSON lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def demonstration_rows(num: int = 8) -> list[dict[str, Any]]:
    """Short questions with answers of different lengths."""
    return [
        {"prompt": f"What is {WORDS[i % 14]} {i}?", "completion": " ".join(WORDS[: 2 + i % 5]) + "."} for i in range(num)
    ]


def prompt_rows(num: int = 8) -> list[dict[str, Any]]:
    """Questions."""
    return [{"prompt": f"Why is {WORDS[i % 14]} {i}?", "topic": WORDS[i % 14]} for i in range(num)]


def ranking_rows(num: int = 40, *, k: int = 3, seed: int = 0, kind: str = "simulated") -> list[dict[str, Any]]:
    """Answers that say "honey" are better; two that both do, or both do not, are tied."""
    random = Random(seed)
    rows = []
    for i in range(num):
        good = [True, False, *(random.random() < 0.5 for _ in range(k - 2))]
        random.shuffle(good)
        texts = [
            " ".join(random.sample(WORDS[2:], random.randint(2, 5)) + (["honey"] if g else ["rock"])) + "." for g in good
        ]
        letters = "ABCDEFGHI"[:k]
        best = "=".join(a for a, g in zip(letters, good, strict=True) if g)
        rest = "=".join(a for a, g in zip(letters, good, strict=True) if not g)
        rows.append(
            {"prompt": f"Tell me of {WORDS[i % 14]} {i}.", "completions": texts, "ranking": f"{best}>{rest}",
             "labeller": "tester", "labeller_kind": kind}
        )  # fmt: skip
    return rows


def corpus_text() -> str:
    """A text for ptx."""
    random = Random(3)
    return "\n".join(" ".join(random.choices(WORDS, k=12)) + "." for _ in range(60))


def tensor_hashes(folder: Path) -> dict[str, str]:
    """sha256 of the bytes of every tensor in a folder's safetensors files."""
    found = {}
    for path in sorted(folder.rglob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                data = file.get_tensor(name).contiguous()
                digest = hashlib.sha256(data.reshape(-1).view(__import__("torch").uint8).numpy().tobytes())
                found[f"{path.relative_to(folder)}:{name}"] = digest.hexdigest()
    assert found
    return found


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def environment(home: Path) -> dict[str, str]:
    """For a child process: this source tree, one thread, no network, no cache of ours."""
    offline = {"XDG_CACHE_HOME": str(home / "cache"), "XDG_STATE_HOME": str(home / "state"), "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **offline, "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}


def start_cli(home: Path, *argv: str) -> subprocess.Popen[str]:
    """`chatwright ...` as a process of its own."""
    command = [sys.executable, "-m", "chatwright", *argv]
    return subprocess.Popen(
        command, env=environment(home), cwd=home, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run_cli(home: Path, *argv: str, timeout: float = 100) -> subprocess.CompletedProcess[str]:
    """`chatwright ...` run to its end."""
    process = start_cli(home, *argv)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
