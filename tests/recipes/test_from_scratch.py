"""recipes/from-scratch.toml as a whole, on small budgets: every stage, its report, kills, and inputs that are not there."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import tiny_training as tiny
from chatwright import cli
from chatwright.config import read_toml
from corpus_texts import article, write_rows

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "from-scratch.toml"
MUSEUM = "src/chatwright/bundled/museum/en"
TRAINED = ("2-base", "3-sft", "6-reward", "7-ppo", "8-ppo-without-ptx")
SMALLER: dict[str, dict[str, Any]] = {
    "tokenizer train": {"vocab_size": 420},
    "pretrain": {
        "train": {"steps": 30, "batch_tokens": 512, "save_every_steps": 10},
        "size": {"width": 32, "heads": 2},
        "held_out": {"every_steps": 10, "tokens": 512},
        "sample": {"every_steps": 15, "prompts": ["", "world"], "max_new_tokens": 8},
    },
    "sft": {"train": {"epochs": 2, "max_tokens": 256, "save_every_steps": 2}},
    "sample": {"n": 4, "max_new_tokens": 12},
    "reward": {"train": {"epochs": 1, "batch_size": 4, "save_every_steps": 2}},
    "ppo": {
        "train": {"steps": 3, "save_every_steps": 1},
        "rollout": {"batch_size": 4, "max_new_tokens": 12},
        "ignore_gate": True,
    },
    "evaluate": {"samples": 2, "max_new_tokens": 12},
}


def toml_of(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {toml_of(inner)}" for name, inner in value.items()) + " }"
    return json.dumps(value)


def small_recipe(**changes: Mapping[str, Any]) -> str:
    """The recipe with less work in every stage; its folders, data and order are the recipe's own."""
    recipe = read_toml(RECIPE)
    lines = [f'report = "{recipe["report"]}"']
    for stage in recipe["stage"]:
        settings = {**stage, **SMALLER.get(stage["command"], {}), **changes.get(stage["command"], {})}
        lines += ["[[stage]]", *(f"{name} = {toml_of(value)}" for name, value in settings.items())]
    return "\n".join(lines) + "\n"


def make_home(folder: Path) -> Path:
    """A clone's museum, some of it, and the text that the first stage would fetch."""
    museum = folder / MUSEUM
    museum.mkdir(parents=True)
    for name, number in (("demonstrations", 8), ("prompts", 12), ("heldout", 4)):
        rows = tiny.read_rows(RECIPE.parents[1] / MUSEUM / f"{name}.jsonl")[:number]
        tiny.write_rows(museum / f"{name}.jsonl", rows)
    text = folder / "runs" / "from-scratch" / "0-text.jsonl"
    text.parent.mkdir(parents=True)
    write_rows(text, [article(n, words=30) for n in range(300)])
    (folder / "recipe.toml").write_text(small_recipe(), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="module")
def chain(home: Path) -> Path:
    done = tiny.run_cli(home, "run", "recipe.toml", timeout=400)
    assert done.returncode == 0, done.stderr
    assert "alignment tax" in done.stdout and "chatwright chat --model runs/from-scratch/7-ppo" in done.stdout
    return home / "runs" / "from-scratch"


def test_the_report_tells_of_every_stage(chain: Path) -> None:
    report = json.loads((chain / "report.json").read_text(encoding="utf-8"))
    rows = {(row["stage"][0], row["measure"][0].split(":")[0]): (row["before"], row["after"]) for row in report["stages"]}
    assert list(dict.fromkeys(stage for stage, _ in rows)) == [
        "tokenizer", "corpus", "pre-training", "SFT", "rankings (simulated)", "reward model", "PPO-ptx", "PPO without ptx"
    ]  # fmt: skip
    before, after = map(float, rows["pre-training", "bits per byte of held-out text"])
    assert after < 0.9 * before
    assert float(rows["tokenizer", "bytes of text in a token"][1]) > 1.5
    models = report["models"]
    assert list(models) == ["base", "sft", "ppo", "ppo-without-ptx"]
    assert len({row["bits_per_byte"] for row in models.values()}) == 4, "measured of each model, not copied"
    base = json.loads((chain / "2-base" / "result.json").read_text(encoding="utf-8"))
    assert models["base"]["bits_per_byte"] == pytest.approx(base["held_out_bits_per_byte"], rel=2e-3)
    for stage, name in (("PPO-ptx", "ppo"), ("PPO without ptx", "ppo-without-ptx")):
        tax = (f"{models['sft']['bits_per_byte']:.3f}", f"{models[name]['bits_per_byte']:.3f}")
        assert rows[stage, "alignment tax"] == tax
    assert base["untrained_bits_per_byte"] > base["held_out_bits_per_byte"]
    assert set(report["seconds_by_stage"]) == {
        f"{n} {stage['command']}" for n, stage in enumerate(read_toml(RECIPE)["stage"], start=1)
    }
    page = (chain / "report.html").read_text(encoding="utf-8")
    for said in ("Before and after every stage", "What the base model writes", "simulated", "without ptx", "对齐税"):
        assert said in page, said
    steps = [row["step"] for row in tiny.read_rows(chain / "2-base" / "samples.jsonl")]
    assert steps == [0, 0, 15, 15, 30, 30]


def test_ptx_takes_the_corpus_of_the_base_model(chain: Path) -> None:
    with_ptx, without = (json.loads((chain / name / "result.json").read_text()) for name in TRAINED[3:])
    assert with_ptx["ptx_sequences"] > 0 and with_ptx["ptx_loss_before"] > 0
    assert without["ptx_sequences"] == 0 and without["ptx_loss_before"] is None


def test_the_tax_is_measured_on_text_that_was_kept_aside_in_the_models_own_tokens(
    home: Path, chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    text, own, other = str(chain / "0-text.jsonl"), str(chain / "0-tokenizer"), str(tmp_path / "tokenizer")
    build = ["corpus", "build", text, "--workers", "1"]
    assert cli.main(["tokenizer", "train", text, "--vocab-size", "300", "--out", other]) == 0
    assert cli.main([*build, "--tokenizer", other, "--out", str(tmp_path / "other")]) == 0
    assert cli.main([*build, "--tokenizer", own, "--split.share", "0", "--out", str(tmp_path / "all")]) == 0
    argv = ["evaluate", "--models", f"base={chain / '2-base'}", "--data", f"{MUSEUM}/heldout.jsonl", "--samples", "1"]
    argv += ["--max-new-tokens", "4", "--out", str(tmp_path / "evaluation")]
    for corpus, said in (("absent", "no built corpus"), ("all", "no text that was kept aside")):
        assert cli.main([*argv, "--corpus", str(tmp_path / corpus)]) == 1
        assert said in capsys.readouterr().err and not (tmp_path / "evaluation").exists()
    assert cli.main([*argv, "--corpus", str(tmp_path / "other")]) == 1
    assert "another tokenizer" in capsys.readouterr().err


def test_run_again_nothing_is_done_and_nothing_counted_twice(home: Path, chain: Path) -> None:
    report = json.loads((chain / "report.json").read_text(encoding="utf-8"))
    written = {path: path.stat().st_mtime_ns for path in chain.rglob("*.safetensors")}
    assert len(written) >= len(TRAINED)
    done = tiny.run_cli(home, "run", "recipe.toml", timeout=400)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in chain.rglob("*.safetensors")} == written
    again = json.loads((chain / "report.json").read_text(encoding="utf-8"))
    assert again["seconds_by_stage"] == report["seconds_by_stage"] and again["models"] == report["models"]


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_to_the_same_models(chain: Path, tmp_path: Path) -> None:
    home = make_home(tmp_path / "killed")
    mine = home / "runs" / "from-scratch"
    for file, at_least in (("2-base/metrics.jsonl", 12), ("7-ppo/metrics.jsonl", 2)):
        process = tiny.start_cli(home, "run", "recipe.toml")
        deadline = time.monotonic() + 90
        while process.poll() is None and time.monotonic() < deadline:
            if (mine / file).is_file() and (mine / file).read_bytes().count(b"\n") >= at_least:
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, file
    done = tiny.run_cli(home, "run", "recipe.toml", timeout=400)
    assert done.returncode == 0, done.stderr
    assert "resuming after step" in done.stderr
    for stage in TRAINED:
        assert tiny.tensor_hashes(mine / stage / "final") == tiny.tensor_hashes(chain / stage / "final"), stage
    steps = [row["step"] for row in tiny.read_rows(mine / "2-base" / "samples.jsonl")]
    assert steps == [0, 0, 15, 15, 30, 30]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "runs/from-scratch/0-text.jsonl"),
        ("", "no text"),
        ('{"text": ""}\n', "no text"),
        ("no json\n", "no row could be read"),
    ],
)
def test_text_that_is_not_there_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str | None, said: str
) -> None:
    home = make_home(tmp_path)
    monkeypatch.chdir(home)
    recipe = small_recipe()
    start = recipe.index('command = "wordnet text"') - len("[[stage]]\n")
    recipe = recipe[:start] + recipe[recipe.index("[[stage]]", start + 1) :]  # as with text of one's own
    (home / "recipe.toml").write_text(recipe, encoding="utf-8")
    file = home / "runs" / "from-scratch" / "0-text.jsonl"
    file.unlink()
    if text is not None:
        file.write_text(text, encoding="utf-8")
    assert cli.main(["run", "recipe.toml"]) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("error:") == 1 and "Traceback" not in error and "unexpected" not in error, error
    assert not (home / "runs" / "from-scratch" / "2-base").exists()


def test_a_run_that_lacks_its_data_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for argv in (
        ["pretrain", "--data", "absent"],
        ["embed-train", "--data", "absent.jsonl", "--model", "absent"],
        ["sft", "--data", "absent.jsonl", "--model", "absent"],
        ["reward", "--data", "absent.jsonl", "--model", "absent"],
        ["dpo", "--data", "absent.jsonl", "--model", "absent"],
        ["ppo", "--data", "absent.jsonl", "--model", "absent", "--reward", "absent"],
    ):
        assert cli.main([*argv, "--out", "r"]) == 1, argv
        assert "absent" in capsys.readouterr().err and not Path("r").exists(), argv


def test_a_report_of_stages_that_are_not_there_is_refused_before_anything_runs(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(home / "src", tmp_path / "src")
    recipe = small_recipe()
    (tmp_path / "recipe.toml").write_text(recipe[: recipe.index('command = "evaluate"') - len("[[stage]]\n")])
    assert cli.main(["run", "recipe.toml"]) == 2
    assert "there is no evaluate" in capsys.readouterr().err and not (tmp_path / "runs").exists()
