"""`chatwright teach` from a model folder to report.html on a two-layer model, killed on the way, and misused."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tiny_training as tiny
from chatwright import cli, pipeline
from chatwright.engine.checkpoint import verify_folder
from chatwright.errors import ConfigError
from chatwright.evals.model_card import model_card
from chatwright.records import load_demonstrations, load_prompts
from openai_stub import running_stub

MUSEUM = tiny.SRC / "chatwright" / "bundled" / "museum" / "en"
STAGES = (
    "--device", "cpu", "--precision", "fp32", "--ignore-gate", "--stages.sft-epochs", "40", "--stages.sft-lr", "1e-2",
    "--stages.answers", "3", "--stages.max-new-tokens", "40", "--stages.reward-lr", "3e-3", "--stages.ppo-steps", "4",
    "--stages.ppo-batch", "8", "--stages.ppo-lr", "1e-4", "--stages.replay-texts", "48", "--stages.eval-samples", "2",
    "--stages.eval-max-new-tokens", "40",
)  # fmt: skip
TEACH = (
    "teach", "--model", "model", "--demonstrations", "demonstrations.jsonl", "--prompts", "prompts.jsonl",
    "--questions", "questions.jsonl", "--labeller", "simulated", *STAGES,
)  # fmt: skip
# What the product promises of report.json; more may stand beside it.
MODEL_KEYS = {"gold_mean", "fk_grade", "distinct_2", "words_mean", "ended_share", "kl_nats_per_token", "path"}
RATE_KEYS = {"rate", "low", "high", "n"}
REWARD_KEYS = {"accuracy", "length_baseline", "ece", "tie_nll", "path"}
CHANGING = ("seconds", "seconds_by_stage", "peak_rss_bytes")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, make_tokenizer: Callable[..., Any]) -> Path:
    """A model and a handful of museum rows."""
    folder = tmp_path_factory.mktemp("loop")
    tiny.save_tiny_model(folder / "model", make_tokenizer(chat_template=tiny.SHORT_JINJA), max_positions=256)
    files = (("demonstrations", "demonstrations", 8), ("prompts", "prompts", 16), ("questions", "heldout", 4))
    for name, source, number in files:
        tiny.write_rows(folder / f"{name}.jsonl", tiny.read_rows(MUSEUM / f"{source}.jsonl")[:number])
    return folder


@pytest.fixture(autouse=True)
def _inside(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


@pytest.fixture(scope="module")
def taught(home: Path) -> dict[str, Any]:
    """report.json of a chain that nobody interrupted, run as a process of its own."""
    done = tiny.run_cli(home, *TEACH, "--out", "straight")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads((home / "straight" / "report.json").read_text(encoding="utf-8"))
    report["stdout"] = done.stdout
    return report


def test_the_report_has_what_was_promised(home: Path, taught: dict[str, Any]) -> None:
    assert list(taught["models"]) == ["base", "sft", "ppo"]
    for row in taught["models"].values():
        assert set(row) >= MODEL_KEYS
        assert all(isinstance(row[key], int | float) for key in MODEL_KEYS - {"path", "kl_nats_per_token"})
    kl = {name: row["kl_nats_per_token"] for name, row in taught["models"].items()}
    assert kl["base"] is None and kl["sft"] == 0.0 and isinstance(kl["ppo"], float)
    assert {"ppo_vs_base", "ppo_vs_sft"} <= set(taught["win_rates"])
    for rate in taught["win_rates"].values():
        assert set(rate) >= RATE_KEYS and 0 <= rate["low"] <= rate["rate"] <= rate["high"] <= 1
    assert set(taught["reward_model"]) >= REWARD_KEYS
    assert all(isinstance(taught["reward_model"][key], float) for key in REWARD_KEYS - {"path"})
    assert taught["seconds"] > 0 and 10**7 < taught["peak_rss_bytes"] < 4 * 10**9
    assert taught["ptx"]["source"] == "replay" and taught["ptx"]["loss_before"] > 0
    for path in (taught["models"]["sft"]["path"], taught["models"]["ppo"]["path"], taught["reward_model"]["path"]):
        verify_folder(home / path)


def test_the_page_the_table_and_the_next_command_are_there(home: Path, taught: dict[str, Any]) -> None:
    page = (home / "straight" / "report.html").read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>")
    assert 'src="http' not in page and 'href="http' not in page  # self-contained
    for question in load_prompts((str(home / "questions.jsonl"),)):
        assert question.messages[-1].content in page
    assert taught["judge_kind"] == "simulated" and "评分规则 museum-en" in page and "rubric museum-en" in page
    chat = f"chatwright chat --model {taught['models'][taught['recommended']]['path']}"
    judged = ("Judge: the rubric museum-en", taught["reason"], "of 4 questions")
    for part in ("ppo preferred to base", "report.html", chat, *judged):
        assert part in taught["stdout"], part
    assert set(taught["length_controlled"]) == set(taught["win_rates"])


def test_every_label_says_that_it_is_simulated(home: Path, taught: dict[str, Any]) -> None:
    rows = tiny.read_rows(home / "straight" / "3-rankings.jsonl")
    assert len(rows) == 24 and {row["labeller_kind"] for row in rows} == {"simulated"}
    assert json.loads((home / "straight" / "4-reward" / "result.json").read_text())["simulated_share"] == 1.0


def test_held_out_questions_are_never_trained_on(home: Path, taught: dict[str, Any]) -> None:
    questions = {p.id for p in load_prompts((str(home / "straight" / "questions.jsonl"),))}
    assert len(questions) == 4
    for name in ("prompts.jsonl", "2-samples.jsonl", "3-rankings.jsonl", "6-ppo/rollouts.jsonl"):
        assert not questions & {p.id for p in load_prompts((str(home / "straight" / name),))}, name


def test_running_it_again_does_nothing(home: Path, taught: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    stages = [p for p in sorted((home / "straight").rglob("*")) if p.is_file() and p.name != ".lock"]
    kept = {p: p.stat().st_mtime_ns for p in stages if p.parent != home / "straight" and p.name not in KEPT_ANEW}
    assert len(kept) > 20
    assert cli.main([*TEACH, "--out", "straight"]) == 0
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    report = json.loads((home / "straight" / "report.json").read_text(encoding="utf-8"))
    assert {k: v for k, v in report.items() if k not in CHANGING} == {
        k: v for k, v in taught.items() if k not in (*CHANGING, "stdout")
    }
    assert report["seconds_by_stage"] == taught["seconds_by_stage"]  # a complete stage costs nothing more
    assert "ppo preferred to base" in capsys.readouterr().out


KEPT_ANEW = {"evaluation.json"}  # written again with the same contents


def test_other_settings_in_the_same_folder_are_refused(taught: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*TEACH, "--out", "straight", "--seed", "7"]) == 2
    refused = capsys.readouterr().err
    assert "straight/1-sft: holds a sft run with other settings (--seed 7, was 0)" in refused and "another --out" in refused


def test_a_chain_does_not_take_the_folder_of_another_run(tmp_path: Path) -> None:
    from chatwright.pipeline import Chain, TeachConfig

    cfg = TeachConfig(demonstrations=("d.jsonl",), out=str(tmp_path / "chain"))
    Chain(cfg)
    Chain(replace(cfg, ignore_gate=True, seed=1))
    (tmp_path / "chain" / "config.toml").write_text("# chatwright sft\n")
    with pytest.raises(ConfigError, match="another --out"):
        Chain(cfg)


def kill_when(home: Path, out: str, there: Callable[[Path], bool]) -> subprocess.Popen[str]:
    process = tiny.start_cli(home, *TEACH, "--out", out)
    deadline = time.monotonic() + 60
    while not there(home / out) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process


@pytest.mark.timeout(600)  # minutes on a machine that is busy
@pytest.mark.slow
def test_killed_twice_it_finishes_with_the_same_models(home: Path, taught: dict[str, Any]) -> None:
    def rows(path: Path) -> int:
        return path.read_bytes().count(b"\n") if path.exists() else 0

    points: tuple[Callable[[Path], bool], ...] = (
        lambda out: rows(out / "1-sft" / "metrics.jsonl") >= 28,  # after its first checkpoint
        lambda out: rows(out / "6-ppo" / "metrics.jsonl") >= 2,
    )
    for there in points:
        assert kill_when(home, "killed", there).returncode == -signal.SIGKILL
    assert not (home / "killed" / "report.json").exists()
    assert cli.main([*TEACH, "--out", "killed"]) == 0
    for stage in ("1-sft", "4-reward", "6-ppo"):
        killed, straight = (tiny.tensor_hashes(home / out / stage / "final") for out in ("killed", "straight"))
        assert killed == straight, stage
    report = json.loads((home / "killed" / "report.json").read_text(encoding="utf-8"))
    for name, row in taught["models"].items():
        assert report["models"][name] == {**row, "path": row["path"].replace("straight", "killed")}
    assert report["win_rates"] == taught["win_rates"] and report["seconds"] > 0
    assert (home / "killed" / "report.html").stat().st_size > 10_000


# ---- other ways in ---------------------------------------------------------------------------------------------------

SMALLER = {
    "--stages.sft-epochs": "2", "--stages.ppo-steps": "1", "--stages.max-new-tokens": "8",
    "--stages.eval-max-new-tokens": "8", "--stages.eval-samples": "1",
}  # fmt: skip


def quick(*argv: str) -> list[str]:
    """`teach` with the smallest stages."""
    flags = [value for value in STAGES if value != "--ignore-gate"]
    settings = {**dict(zip(flags[::2], flags[1::2], strict=True)), **SMALLER}
    return ["teach", "--model", "model", "--ignore-gate", *(part for pair in settings.items() for part in pair), *argv]


def test_with_rankings_and_a_corpus_of_ones_own_nothing_is_sampled_or_replayed(home: Path, tmp_path: Path) -> None:
    tiny.write_rows(tmp_path / "mine.jsonl", tiny.ranking_rows(24, kind="human"))
    (tmp_path / "corpus.txt").write_text(tiny.corpus_text() * 6, encoding="utf-8")
    out = tmp_path / "out"
    argv = quick("--demonstrations", "demonstrations.jsonl", "--prompts", "prompts.jsonl", "--out", str(out))
    assert cli.main([*argv, "--rankings", str(tmp_path / "mine.jsonl"), "--corpus", str(tmp_path / "corpus.txt")]) == 0
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["ptx"]["source"] == "corpus" and report["judge"] == str(out / "4-reward") and report["labels"] == {}
    # 24 prompts are too few for a second reward model: the judge is the training reward, and says so wherever a figure is.
    assert report["judge_kind"] == "learned" and not (out / "4-judge").exists()
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "so it is an upper bound" in page and "仅为上限" in page and "rubric" not in page and "评分规则" not in page
    assert not list(out.glob("2-*")) and not list(out.glob("3-*")) and not list(out.glob("5-*"))
    assert json.loads((out / "4-reward" / "result.json").read_text())["simulated_share"] == 0.0
    assert set(report["models"]["ppo"]) >= MODEL_KEYS


@pytest.mark.slow
def test_a_part_of_the_rankings_trains_an_independent_judge(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_rows(tmp_path / "mine.jsonl", tiny.ranking_rows(60, kind="human"))
    out = tmp_path / "out"
    argv = quick("--demonstrations", "demonstrations.jsonl", "--questions", "questions.jsonl", "--out", str(out))
    assert cli.main([*argv, "--rankings", str(tmp_path / "mine.jsonl"), "--stages.ptx-gamma", "0"]) == 0
    results = [json.loads((out / name / "result.json").read_text()) for name in ("4-reward", "4-judge")]
    assert [result["rankings"] for result in results] == [30, 10] and results[0]["data"] == results[1]["data"]
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert (report["judge"], report["judge_kind"]) == (str(out / "4-judge"), "held_out")
    assert report["seconds_by_stage"]["judge"] > 0  # its cost
    ppo = json.loads((out / "6-ppo" / "result.json").read_text(encoding="utf-8"))
    assert ppo["reward"] == [str(out / "4-reward")]
    page, said = (out / "report.html").read_text(encoding="utf-8"), capsys.readouterr().out
    for text in (page, said):
        assert "a reward model that none of these models was trained against" in text and "upper bound" not in text
    card = model_card("mine", out / "6-ppo", licence="")
    assert "a reward model that none of these models was trained against" in card
    # The training reward is named as what it is, when it is asked.
    argv = ["evaluate", "--models", f"sft={out}/1-sft", f"ppo={out}/6-ppo", "--data", "questions.jsonl", "--samples", "1",
            "--max-new-tokens", "8", "--out", str(tmp_path / "again"), "--judge", f"{out}/4-reward"]  # fmt: skip
    assert cli.main(argv) == 0
    assert "so it is an upper bound" in capsys.readouterr().err
    assert json.loads((tmp_path / "again" / "evaluation.json").read_text())["judge_kind"] == "learned"


@pytest.mark.slow
def test_an_ai_judge_compares_the_models_where_there_is_one(home: Path, tmp_path: Path) -> None:
    rankings = tiny.write_rows(tmp_path / "mine.jsonl", tiny.ranking_rows(60, kind="human"))
    out = tmp_path / "out"
    argv = quick("--demonstrations", "demonstrations.jsonl", "--questions", "questions.jsonl", "--out", str(out))
    with running_stub() as stub:
        judge = ("--ai-base-url", stub.url, "--ai-model", "m", "--rankings", str(rankings), "--stages.ptx-gamma", "0")
        assert cli.main([*argv, *judge]) == 0
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert not (out / "4-judge").exists()
    assert report["preference_judge"]["judge"] == "ai:m" and report["preference_judge"]["unreadable"] == 0
    assert report["preference_judge"]["replies"] == 4 * 6 and report["judge_kind"] == "learned"
    assert {rate["n"] for rate in report["win_rates"].values()} == {4}
    assert set(report["score_win_rates"]) == set(report["win_rates"])
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Judge: the AI judge m." in page and "AI 评判 m" in page and "training reward" in page


@pytest.mark.slow
def test_questions_that_are_kept_aside_are_not_demonstrated_either(home: Path, tmp_path: Path) -> None:
    """Without --questions a tenth of the prompts is held out; a demonstration of one of them would give it away."""
    rankings = tiny.write_rows(tmp_path / "mine.jsonl", tiny.ranking_rows(12))
    out = tmp_path / "out"
    argv = quick("--demonstrations", "demonstrations.jsonl", "--out", str(out), "--rankings", str(rankings))
    assert cli.main([*argv, "--stages.ptx-gamma", "0"]) == 0
    questions = {p.id for p in load_prompts((str(out / "questions.jsonl"),))}
    result = json.loads((out / "1-sft" / "result.json").read_text())
    demonstrated = {d.prompt.id for d in load_demonstrations(tuple(result["data"]))}
    assert len(questions) == 1 and len(demonstrated) == 7 and not questions & demonstrated
    assert json.loads((out / "report.json").read_text())["ptx"] is None


@pytest.mark.slow
def test_people_rank_in_a_folder_and_the_chain_waits_for_them(
    home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    argv = quick("--demonstrations", "demonstrations.jsonl", "--out", str(out), "--labeller", "human")
    assert cli.main([*argv, "--stages.ptx-gamma", "0", "--questions", "questions.jsonl"]) == 0
    assert "then run the same command again" in " ".join(capfd.readouterr().err.split())
    assert not (out / "4-reward").exists() and not (out / "report.json").exists()
    tasks = tiny.read_rows(out / "3-labels" / "tasks.jsonl")
    assert len(tasks) == 8
    rows = [{"task": task["task"], "ranking": "B>A=C", "labeller": "ann"} for task in tasks]
    tiny.write_rows(out / "3-labels" / "rankings.jsonl", rows)
    assert cli.main([*argv, "--stages.ptx-gamma", "0", "--questions", "questions.jsonl"]) == 0
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert json.loads((out / "4-reward" / "result.json").read_text())["simulated_share"] == 0.0
    assert report["judge"].endswith("4-reward")


# ---- misuse: one message, no traceback -------------------------------------------------------------------------------

BAD_ROWS = {
    "broken.jsonl": '{"prompt": "a", "completion": "b"}\n{"prompt": \n',
    "fields.jsonl": '{"prompt": "a", "completion": "b"}\n{"prompt": 3, "completion": "b"}\n',
    "empty.jsonl": "",
    "ranks.jsonl": '{"prompt": "a", "completions": ["x", "y", "z"], "ranking": "A>B"}\n',
    "binary.jsonl": "\x00\x01",
}
MISUSES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "missing file": (("sft", "--data", "absent.jsonl"), ("absent.jsonl", "No such file")),
    "missing flag": (("sft", "--model", "model"), ("--data is required",)),
    "unknown flag": (("sft", "--data", "demonstrations.jsonl", "--dat", "x"), ("unknown flag --dat", "--data")),
    "unknown command": (("stf",), ("unknown command 'stf'", "sft")),
    "not a number": (("sft", "--data", "demonstrations.jsonl", "--train.steps", "many"), ("--train.steps", "many")),
    "broken row": (("sft", "--data", "broken.jsonl"), ("broken.jsonl:2",)),
    "wrong field": (("sft", "--data", "fields.jsonl"), ("fields.jsonl:2", "prompt")),
    "no rows": (("sft", "--data", "empty.jsonl"), ("empty.jsonl",)),
    "not text": (("sft", "--data", "binary.jsonl"), ("binary.jsonl:1",)),
    "ranking": (("reward", "--data", "ranks.jsonl"), ("ranks.jsonl:1", "ranking")),
    "no reward": (("ppo", "--data", "prompts.jsonl", "--reward", "nowhere"), ("nowhere",)),
    "no model": (("sample", "--data", "prompts.jsonl", "--model", "./nowhere"), ("nowhere",)),
    "no demonstrations": (("teach", "--demonstrations", "absent.jsonl"), ("absent.jsonl",)),
    "two in one": (("sft", "--data", "demonstrations.jsonl", "--seed", "1", "--seed", "2"), ("--seed is given twice",)),
    "no config": (("sft", "--config", "absent.toml"), ("absent.toml",)),
    "chinese": (("quickstart", "--language", "zh"), ("speaks no Chinese", "--model")),
    "judge": (("teach", "--demonstrations", "demonstrations.jsonl", "--labeller", "ai"), ("--ai-base-url",)),
}


@pytest.mark.parametrize("name", MISUSES)
def test_misuse_is_one_message_and_no_traceback(
    home: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for file, text in BAD_ROWS.items():
        (home / file).write_text(text, encoding="utf-8")
    argv, parts = MISUSES[name]
    if argv[0] in ("sft", "reward", "ppo") and "--model" not in argv and name != "unknown flag":
        argv = (*argv, "--model", "model")
    if argv[0] in ("sft", "reward", "ppo", "teach"):
        argv = (*argv, "--out", str(tmp_path / "r"))
    code = cli.main(list(argv))
    error = capsys.readouterr().err
    assert code in (1, 2), error
    assert error.count("error:") == 1 and "Traceback" not in error and "unexpected" not in error, error
    for part in parts:
        assert part in error, error


def test_a_process_of_its_own_exits_with_the_same_code_and_message(home: Path) -> None:
    done = tiny.run_cli(home, "sft", "--data", "absent.jsonl", "--model", "model", "--out", "nothing")
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("chatwright sft: error: absent.jsonl: ") and "Traceback" not in done.stderr


def test_an_unsupported_model_type_names_the_supported_ones(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    shutil.copytree(home / "model", tmp_path / "odd")
    config = json.loads((tmp_path / "odd" / "config.json").read_text())
    (tmp_path / "odd" / "config.json").write_text(json.dumps({**config, "model_type": "mamba"}))
    argv = ["sft", "--data", "demonstrations.jsonl", "--model", str(tmp_path / "odd"), "--out", str(tmp_path / "r")]
    assert cli.main(argv) == 1
    error = capsys.readouterr().err
    assert "mamba" in error and all(name in error for name in ("llama", "qwen2", "gemma3", "gpt2"))


def test_a_large_model_gets_adapters_and_their_rates(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = pipeline.TeachConfig(model="model", demonstrations=("demonstrations.jsonl",))
    assert pipeline._lora(cfg) is None and pipeline._rate(cfg, 1e-4).lr == 1e-4
    monkeypatch.setattr(pipeline, "_FULL_MAX_PARAMETERS", 10)
    assert pipeline._lora(cfg).rank == 16 and pipeline._rate(cfg, 1e-4).lr == pytest.approx(4e-4)
    full = replace(cfg, stages=replace(cfg.stages, lora_rank=0))
    assert pipeline._lora(full) is None and pipeline._rate(full, 1e-4).lr == 1e-4


def test_an_adapter_by_itself_is_no_start(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "model"}', encoding="utf-8")
    arguments = ["teach", "--model", str(tmp_path), "--demonstrations", "demonstrations.jsonl", "--out", str(tmp_path / "o")]
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert "an adapter without its base model" in said and "chatwright export --model" in said and "Traceback" not in said
