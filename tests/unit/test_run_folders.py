"""What `--model FOLDER` means: a model, a run, or the last model of a chain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chatwright import hub
from chatwright.errors import CheckpointError, HubError
from chatwright.evals.model_card import lineage, run_of
from chatwright.evals.rewards import check_gate
from chatwright.generation.lm import load_model
from tiny_training import save_tiny_model


def finished(folder: Path, *, reward: bool = False) -> Path:
    final = folder / "final"
    final.mkdir(parents=True)
    (folder / "config.toml").write_text("# chatwright sft\n")
    (final / "config.json").write_text("{}")
    if reward:
        (final / "reward_head.safetensors").write_text("")
    return final


def chain(folder: Path) -> Path:
    """What `teach` leaves: SFT, reward model and an evaluation; PPO was interrupted."""
    finished(folder / "1-sft")
    finished(folder / "4-reward", reward=True)
    (folder / "6-ppo").mkdir()
    (folder / "6-ppo" / "config.toml").write_text("# chatwright ppo\n")
    (folder / "7-evaluation").mkdir()
    (folder / "config.toml").write_text("# chatwright teach\n")
    return folder


def test_a_chain_means_the_last_model_that_it_has_finished(tmp_path: Path) -> None:
    folder = chain(tmp_path / "hotel")
    assert hub.model_folder(folder) == folder / "1-sft" / "final"
    assert hub.model_folder(folder, "reward") == folder / "4-reward" / "final"
    (folder / "6-ppo" / "final").mkdir()
    (folder / "6-ppo" / "final" / "config.json").write_text("{}")
    assert hub.model_folder(str(folder)) == folder / "6-ppo" / "final"
    finished(folder / "10-dpo")
    assert hub.model_folder(folder) == folder / "10-dpo" / "final", "by number, not by name"


def test_models_runs_and_names_are_what_they_were(tmp_path: Path) -> None:
    final = finished(tmp_path / "run")
    assert hub.model_folder(tmp_path / "run") == final == hub.model_folder(final)
    assert hub.model_folder("smollm2-135m-instruct") == Path("smollm2-135m-instruct")
    assert hub.model_folder(tmp_path / "missing") == tmp_path / "missing"
    (tmp_path / "gguf").mkdir()
    assert hub.model_folder(tmp_path / "gguf") == tmp_path / "gguf"


def test_a_folder_without_a_last_model_says_what_lies_there(tmp_path: Path) -> None:
    finished(tmp_path / "runs" / "sft")
    assert hub.model_folder(tmp_path / "runs") == tmp_path / "runs" / "sft" / "final", "the only one"
    finished(tmp_path / "runs" / "ppo")
    with pytest.raises(HubError, match=r"several models: ppo, sft\. Name one"):
        hub.model_folder(tmp_path / "runs")
    (tmp_path / "begun" / "1-sft").mkdir(parents=True)
    (tmp_path / "begun" / "1-sft" / "config.toml").write_text("# chatwright sft\n")
    with pytest.raises(CheckpointError, match=r"finished a language model yet \(1-sft\)"):
        hub.model_folder(tmp_path / "begun")
    with pytest.raises(CheckpointError, match="not finished"):
        hub.model_folder(tmp_path / "begun" / "1-sft")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "read.me").write_text("")
    with pytest.raises(HubError, match=r"no model in it: .*read\.me"):
        hub.resolve(tmp_path / "notes")


def test_every_user_of_models_takes_a_chain(tmp_path: Path, tokenizer: object, capsys: pytest.CaptureFixture[str]) -> None:
    save_tiny_model(tmp_path / "chain" / "1-sft" / "final", tokenizer)  # type: ignore[arg-type]
    (tmp_path / "chain" / "1-sft" / "result.json").write_text('{"kind": "sft", "model": "base"}')
    finished(tmp_path / "chain" / "4-reward", reward=True)
    (tmp_path / "chain" / "4-reward" / "report_card.json").write_text('{"gate": ""}')
    load_model(tmp_path / "chain", device="cpu")
    assert "its last model is" in capsys.readouterr().err
    assert run_of(tmp_path / "chain") == tmp_path / "chain" / "1-sft" and lineage(tmp_path / "chain").base == "base"
    check_gate((str(tmp_path / "chain"),))
    check_gate((str(tmp_path / "chain" / "4-reward" / "final"),))


def test_a_run_that_was_moved_over_its_own_origin_has_a_lineage(tmp_path: Path) -> None:
    """`mv runs/sft base`, where the run began from another folder `base`: its result names itself."""
    run = tmp_path / "base"
    run.mkdir()
    (run / "result.json").write_text(json.dumps({"kind": "sft", "model": str(run)}), encoding="utf-8")
    found = lineage(run)
    assert [stage.folder for stage in found.stages] == [run] and found.base == str(run)
