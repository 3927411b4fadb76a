"""Every stage as a command of its own, chained by a run file: `chatwright run FILE.toml`, twice, and from its own config."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny_training as tiny
from chatwright import cli
from chatwright.engine.checkpoint import verify_folder

MUSEUM = tiny.SRC / "chatwright" / "bundled" / "museum" / "en"
RUN_FILE = """
[[stage]]
command = "sft"
model = "model"
data = ["demonstrations.jsonl"]
out = "r/sft"
train = { epochs = 25 }
optim = { lr = 1e-2 }

[[stage]]
command = "sample"
model = "r/sft"
data = ["prompts.jsonl"]
out = "r/samples.jsonl"
n = 4
max_new_tokens = 40

[[stage]]
command = "label"
data = ["r/samples.jsonl"]
out = "r/rankings.jsonl"

[[stage]]
command = "reward"
model = "r/sft"
data = ["r/rankings.jsonl"]
demonstrations = ["demonstrations.jsonl"]
out = "r/reward"
optim = { lr = 1e-3 }

[[stage]]
command = "score"
reward = "r/reward"
data = "r/samples.jsonl"
out = "r/scores.jsonl"

[[stage]]
command = "dpo"
model = "r/sft"
data = ["r/rankings.jsonl"]
out = "r/dpo"
train = { steps = 2 }

[[stage]]
command = "replay"
model = "model"
out = "r/replay.jsonl"
num_texts = 16
max_new_tokens = 64

[[stage]]
command = "ppo"
model = "r/sft"
reward = ["r/reward", "0.1*python:shorter:score"]
data = ["prompts.jsonl"]
out = "r/ppo"
ignore_gate = true
train = { steps = 2, ema = 0.5 }
rollout = { batch_size = 8, max_new_tokens = 16 }
ptx = { data = ["r/replay.jsonl"], gamma = 0.5, per_episode = 0.5, block_tokens = 32, held_out = 4 }

[[stage]]
command = "bestofn"
model = "r/sft"
reward = ["r/reward"]
data = ["questions.jsonl"]
out = "r/best.jsonl"
n = 3
max_new_tokens = 16

[[stage]]
command = "evaluate"
models = ["base=model", "sft=r/sft", "dpo=r/dpo", "ppo=r/ppo"]
data = ["questions.jsonl"]
out = "r/evaluation"
reference = "sft"
samples = 2
max_new_tokens = 16
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, make_tokenizer: Callable[..., Any]) -> Path:
    folder = tmp_path_factory.mktemp("stages")
    tiny.save_tiny_model(folder / "model", make_tokenizer(chat_template=tiny.SHORT_JINJA), max_positions=256)
    files = (("demonstrations", "demonstrations", 8), ("prompts", "prompts", 16), ("questions", "heldout", 4))
    for name, source, number in files:
        tiny.write_rows(folder / f"{name}.jsonl", tiny.read_rows(MUSEUM / f"{source}.jsonl")[:number])
    (folder / "shorter.py").write_text("def score(items):\n    return [-len(i['completion']) / 50 for i in items]\n")
    (folder / "stages.toml").write_text(RUN_FILE, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def _inside(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    monkeypatch.syspath_prepend(home)


@pytest.fixture(scope="module")
def chain(home: Path) -> Path:
    """The run file, as a process of its own."""
    done = tiny.run_cli(home, "run", "stages.toml")
    assert done.returncode == 0, done.stderr
    return home / "r"


def test_a_run_file_runs_every_stage_in_order(chain: Path) -> None:
    for stage in ("sft", "reward", "dpo", "ppo"):
        assert verify_folder(chain / stage)["kind"] == stage
    scores = tiny.read_rows(chain / "scores.jsonl")
    assert len(scores) == 16 and all(len(row["scores"]) == len(row["completions"]) == 4 for row in scores)
    assert len(tiny.read_rows(chain / "best.jsonl")) == 4
    result = json.loads((chain / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))
    assert list(result["models"]) == ["base", "sft", "dpo", "ppo"] and "ppo_vs_dpo" in result["win_rates"]
    ppo = json.loads((chain / "ppo" / "result.json").read_text(encoding="utf-8"))
    assert ppo["reward"] == ["r/reward", "0.1*python:shorter:score"] and ppo["ptx_loss_before"] > 0


@pytest.mark.slow
def test_run_again_only_what_is_missing_is_done(chain: Path, home: Path) -> None:
    import shutil

    hashes = {stage: tiny.tensor_hashes(chain / stage / "final") for stage in ("sft", "reward", "dpo", "ppo")}
    written = {p: p.stat().st_mtime_ns for p in chain.rglob("*.safetensors")}
    shutil.rmtree(chain / "dpo")
    assert cli.main(["run", "stages.toml"]) == 0
    assert {stage: tiny.tensor_hashes(chain / stage / "final") for stage in hashes} == hashes
    now = {p: p.stat().st_mtime_ns for p in chain.rglob("*.safetensors")}
    assert {p for p in now if now[p] != written[p]} == set((chain / "dpo").rglob("*.safetensors"))


@pytest.mark.parametrize("stage", ["sft", "reward", "ppo"])
def test_a_run_is_reproduced_from_the_config_it_wrote(chain: Path, stage: str) -> None:
    argv = [stage, "--config", f"r/{stage}/config.toml", "--out", f"again/{stage}"]
    assert cli.main(argv) == 0
    assert tiny.tensor_hashes(Path(f"again/{stage}/final")) == tiny.tensor_hashes(chain / stage / "final")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('[[stage]]\ncommand = "sfft"\n', ("stage 1", "unknown command 'sfft'", "sft")),
        ('[[stage]]\ncommand = "sft"\ndata = ["d"]\n[[stage]]\nsteps = 3\n', ("stage 2", "unknown command ''")),
        ('[[stage]]\ncommand = "sft"\ndata = ["d"]\ntrain = { step = 3 }\n', ("stage 1 (sft)", "step", "steps")),
        ('[[stage]]\ncommand = "sft"\n', ("stage 1 (sft)", "data")),
        ('[[stage]]\ncommand = "sft"\ndata = ["d"]\nseed = "x"\n', ("stage 1 (sft)", "seed")),
        ("stage = 3\n", ("[[stage]] tables",)),
        ("", ("[[stage]] tables",)),
        ("[[stage]\n", ("not readable as TOML",)),
    ],
)
def test_a_wrong_run_file_is_refused_before_anything_runs(
    home: Path, tmp_path: Path, text: str, parts: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.toml").write_text(text, encoding="utf-8")
    before = set(home.rglob("*"))
    assert cli.main(["run", str(tmp_path / "wrong.toml")]) == 2
    error = capsys.readouterr().err
    assert error.count("error:") == 1 and "Traceback" not in error
    for part in ("wrong.toml", *parts):
        assert part in error, error
    assert set(home.rglob("*")) == before


@pytest.mark.slow
def test_the_poem_recipe_fills_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """recipes/tang.toml with few small steps on a page of poems: it learns them, and fills the gap by `cloze`."""
    monkeypatch.chdir(tmp_path)
    poems = [
        "锄禾日当午，汗滴禾下土。谁知盘中餐，粒粒皆辛苦。",
        "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。",
        "床前明月光，疑是地上霜。举头望明月，低头思故乡。",
        "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。",
    ]
    Path("poems.txt").write_text("\n".join(poems * 12) + "\n", encoding="utf-8")
    recipe = (tiny.SRC.parent / "recipes" / "tang.toml").read_text(encoding="utf-8")
    for old, new in (
        ("minutes = 25.0, batch_tokens = 4096", "steps = 90, batch_tokens = 512"),
        ("depth = 4", 'depth = 2\ndevice = "cpu"\nprecision = "fp32"\nsize = { width = 64, heads = 2 }'),
        ("lr = 0.006", "lr = 0.02"),
    ):
        assert old in recipe
        recipe = recipe.replace(old, new)
    Path("tang.toml").write_text(recipe, encoding="utf-8")
    assert cli.main(["run", "tang.toml"]) == 0
    capsys.readouterr()
    assert cli.main(["cloze", "锄禾日当__", "--model", "runs/tang/2-model", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["text"].startswith("午")
