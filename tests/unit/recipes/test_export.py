"""Export of runs: weights survive, other programs read them, the card says where they come from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from chatwright import cli
from chatwright.engine.checkpoint import verify_folder, write_manifest
from chatwright.evals.model_card import lineage, model_card
from chatwright.generation.lm import load_model, save_model
from chatwright.model.config import ModelConfig
from chatwright.model.formats.reward import save_scalar_model
from chatwright.model.heads import ScalarModel
from chatwright.model.lora import LoraConfig, inject
from chatwright.model.transformer import Transformer


@pytest.fixture
def tiny(make_tokenizer: Callable[..., Any]) -> tuple[Transformer, Any]:
    """A random two-layer llama and its tokenizer."""
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config = ModelConfig(
        family="llama", vocab_size=tokenizer.vocab_size, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2,
        head_dim=8, intermediate_size=48, max_positions=64,
    )  # fmt: skip
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3) if parameter.dim() > 1 else parameter.fill_(1.0)
    return model.eval(), tokenizer


def write_run(folder: Path, kind: str, write: Callable[[Path], None], **result: Any) -> Path:
    """A finished run folder as the engine leaves it."""
    (folder / "final").mkdir(parents=True)
    write(folder / "final")
    (folder / "config.toml").write_text("seed = 0\n", encoding="utf-8")
    (folder / "result.json").write_text(json.dumps({"kind": kind, **result}), encoding="utf-8")
    write_manifest(folder, {"kind": kind})
    return folder


def write_file(path: Path, rows: list[dict[str, Any]]) -> dict[str, str]:
    """A data file, and its entry in result.json."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.fixture
def chain(tmp_path: Path, tiny: tuple[Transformer, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """SFT, reward and PPO runs below one folder with a report; paths are relative, as people give them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model, tokenizer = tiny
    demonstrations = write_file(Path("demos.jsonl"), [{"prompt": "a", "completion": "b"}] * 3)
    kinds = ["simulated"] * 3 + ["human"]
    rankings = write_file(Path("ranks.jsonl"), [{"ranking": "A>B", "labeller_kind": kind} for kind in kinds])

    def save(folder: Path) -> None:
        save_model(model, folder, tokenizer, base="smollm2-135m-instruct")

    write_run(Path("r/sft"), "sft", save, model="smollm2-135m-instruct", steps=5, data=demonstrations)
    scalar = ScalarModel(model)
    write_run(
        Path("r/reward"), "reward", lambda folder: save_scalar_model(scalar, folder, tokenizer, {}),
        model="r/sft", data=rankings, simulated_share=0.75, accuracy=0.7,
    )  # fmt: skip
    write_run(Path("r/ppo"), "ppo", save, model="r/sft", reward=["0.5*r/reward"], steps=7, data={})
    models = {"base": {"gold_mean": 0.1, "path": "x"}, "ppo": {"gold_mean": 0.8, "path": "r/ppo/final"}}
    rates = {"ppo_vs_base": {"rate": 0.9, "low": 0.8, "high": 0.95, "n": 60}}
    report = {"models": models, "win_rates": rates, "judge": "museum-en", "judge_kind": "simulated"}
    Path("r/report.json").write_text(json.dumps(report), encoding="utf-8")
    return Path("r")


def export(*argv: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = cli.main(["export", *argv])
    return code, capsys.readouterr().err


def logits(model: Transformer) -> torch.Tensor:
    with torch.inference_mode():
        return model.logits(model(torch.arange(3, 15)[None]))


def test_hf_export_is_the_same_model_with_a_card(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = export("--model", str(chain / "ppo"), "--to", "hf", "--out", "out/mine", capsys=capsys)
    assert code == 0
    out = Path("out/mine")
    verify_folder(out)
    (before, tokenizer), (after, again) = load_model(chain / "ppo"), load_model(out)
    assert torch.equal(logits(before), logits(after)) and again.fingerprint == tokenizer.fingerprint
    card = (out / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: apache-2.0\nbase_model: HuggingFaceTB/SmolLM2-135M-Instruct\n")
    for part in (
        "# mine", "supervised fine-tuning", "5 steps", "7 steps", "`demos.jsonl`: 3 rows", "`ranks.jsonl`: 4 rows",
        "4 rankings: 3 simulated (75%), 1 human (25%)", "Share of simulated labels: 75%", "this model is `ppo`",
        "| mean score | 0.1 | 0.8 |", "museum-en", "ppo preferred to base: 0.9", "speaks no Chinese", "safety",
    ):  # fmt: skip
        assert part in card, part
    assert str(Path.cwd()) not in card


def test_transformers_reads_the_export(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import transformers

    export("--model", str(chain / "sft"), "--out", "out", "--weights", "f32", capsys=capsys)
    theirs = transformers.AutoModelForCausalLM.from_pretrained("out", dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = theirs(torch.arange(3, 15)[None]).logits
    assert torch.allclose(logits(load_model(chain / "sft")[0]), expected, atol=1e-4)


@pytest.mark.parametrize(("weights", "tolerance"), [("keep", 1e-5), ("bf16", 0.3)])
def test_gguf_reads_back(chain: Path, weights: str, tolerance: float, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--model", str(chain / "ppo"), "--to", "gguf", "--out", "out", "--name", "mine", "--weights", weights]
    code, error = export(*argv, capsys=capsys)
    assert code == 0, error
    (file,) = Path("out").glob("*.gguf")
    assert file.name == f"mine-{'f32' if weights == 'keep' else weights}.gguf"
    assert file.name in Path("out/README.md").read_text(encoding="utf-8")
    verify_folder(Path("out"))
    again, _ = load_model(file)
    assert torch.allclose(logits(load_model(chain / "ppo")[0]), logits(again), atol=tolerance)


def test_adapters_are_merged(chain: Path, tiny: tuple[Transformer, Any], capsys: pytest.CaptureFixture[str]) -> None:
    model, tokenizer = tiny
    inject(model, LoraConfig(rank=2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_b" in name:
                parameter.normal_(0, 0.5)
    write_run(
        Path("r/lora"), "sft", lambda folder: save_model(model, folder, tokenizer, base="r/sft"), model="r/sft", data={}
    )
    code, error = export("--model", "r/lora", "--out", "out", capsys=capsys)
    assert code == 0, error
    adapted, merged = load_model("r/lora")[0], load_model("out")[0]
    assert not torch.allclose(logits(load_model("r/sft")[0]), logits(merged), atol=1e-2)
    assert torch.allclose(logits(adapted), logits(merged), atol=1e-3)  # 2e-4 on some processors
    assert not Path("out/adapter_config.json").exists()


def test_reward_models_are_copied_and_refused_as_gguf(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = export("--model", str(chain / "reward"), "--out", "rm", capsys=capsys)
    assert code == 0, error
    for path in (chain / "reward" / "final").iterdir():
        assert (Path("rm") / path.name).read_bytes() == path.read_bytes()
    code, error = export("--model", str(chain / "reward"), "--to", "gguf", "--out", "x", capsys=capsys)
    assert code == 1 and "reward model" in error and not Path("x").exists()


def test_misuse(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = export("--model", str(chain / "ppo"), "--out", str(chain), capsys=capsys)
    assert code == 2 and "exists already" in error
    code, error = export("--model", str(chain / "ppo"), "--out", "o", "--weights", "q8_0", capsys=capsys)
    assert code == 2 and "q8_0" in error
    (chain / "ppo" / "final" / "model.safetensors").write_bytes(b"damaged")
    code, error = export("--model", str(chain / "ppo"), "--out", "o", capsys=capsys)
    assert code == 1 and "model.safetensors" in error and not Path("o").exists()


def test_a_changed_data_file_is_not_counted_as_the_one_used(chain: Path) -> None:
    Path("ranks.jsonl").write_text('{"ranking": "A>B", "labeller_kind": "human"}\n', encoding="utf-8")
    card = model_card("m", chain / "ppo", licence="mit")
    assert "`ranks.jsonl`: no longer at hand" in card
    assert "Share of simulated labels: 75%**, as the training run recorded it" in card


def test_lineage_of_a_model_that_was_not_trained_here(tmp_path: Path) -> None:
    assert lineage("owner/name").base == "owner/name" and lineage("owner/name").stages == ()
    card = model_card("m", tmp_path, licence="")
    assert "Not trained here" in card and "Not stated by the base model" in card
