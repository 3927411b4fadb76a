"""`evaluate --suite` agrees with lm-evaluation-harness on two of its own tasks (`make check-slow`)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from api_server import KEY, app_of, running
from chatwright.evals.suites.answer import likelihood_rows
from chatwright.evals.suites.catalog import SUITES, read_items
from chatwright.generation.lm import LM
from client_environments import SCRIPTS, python, run

MODEL = "smollm2-135m-instruct"
pytestmark = [pytest.mark.slow, pytest.mark.clients, pytest.mark.timeout(1200)]
# lm-eval's own task, on a local file instead of the hub.
TASK = """include: %s
task: %s
dataset_path: json
dataset_name: null
dataset_kwargs: {data_files: {validation: %s}}
training_split: null
validation_split: validation
"""
QUESTIONS = {
    "Can you see the Great Wall from the Moon?": ("No, it is too narrow.", "Yes, easily.", "Only at night."),
    "What do bulls do when they see red?": ("They do not react to the color.", "They become angry and attack."),
    "How many senses do people have?": ("More than five.", "Five and no more.", "Six, one of them is magic.", "None."),
}
SITUATIONS = [
    ("Making tea", "A woman fills a kettle [step] with water. ", "she puts it on the stove and", 1,
     ["throws the stove away.", "waits until the water boils.", "swims in the sea [title] next.", "reads the wall."]),
    ("Washing a car", "A man pours soap into a bucket.", "he", 0,
     ["wipes the car with a wet sponge.", "eats the sponge with a fork.", "sings to the bucket.", "flies home."]),
    ("Playing chess", "Two boys sit at a board.", "one of them", 2,
     ["boils the board.", "paints the other boy green and leaves.", "moves a pawn.", "puts the sun on the table."]),
]  # fmt: skip


def _write_tasks(folder: Path, tasks: Path) -> dict[str, Path]:
    """The data of both tasks and lm-eval's settings for them; returns the data files by task."""
    truthful: list[dict[str, Any]] = []
    for question, answers in QUESTIONS.items():
        targets = {"choices": list(answers), "labels": [1] + [0] * (len(answers) - 1)}
        truthful.append({"question": question, "mc1_targets": targets, "mc2_targets": targets})
    names = ("activity_label", "ctx_a", "ctx_b", "label", "endings")
    hellaswag = [dict(zip(names, row, strict=True)) | {"label": str(row[3])} for row in SITUATIONS]
    files = {}
    for task, path, rows in (
        ("truthfulqa", "truthfulqa/truthfulqa_mc1.yaml", truthful),
        ("hellaswag", "hellaswag/hellaswag.yaml", hellaswag),
    ):
        files[task] = folder / f"{task}.jsonl"
        files[task].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        (folder / f"{task}.yaml").write_text(TASK % (tasks / path, f"local_{task}", files[task]), encoding="utf-8")
    return files


def test_two_tasks_agree_with_lm_eval(tmp_path: Path) -> None:
    from chatwright.serve.local_engine import LocalEngine

    script = SCRIPTS / "lm_eval_suites.py"
    files = _write_tasks(tmp_path, Path(run([python("lm-eval"), script]).strip()))
    env = {
        "OPENAI_API_KEY": KEY, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"),
        "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    engine = LocalEngine.open(MODEL, precision="fp32")
    with app_of(tmp_path / "workspace", engine) as app, running(app) as url:
        tasks = [f"local_{name}" for name in files]
        printed = run([python("lm-eval"), script, url, MODEL, tmp_path, *tasks], timeout_s=900, **env)
        lm: LM = app.state.services.registry.get().lm
        theirs = json.loads(printed.rpartition("RESULT ")[2])
        for name, path in files.items():
            _compare(lm, name, path, theirs[f"local_{name}"])
    asyncio.run(engine.drain(0))


def _compare(lm: LM, name: str, path: Path, theirs: dict[str, Any]) -> None:
    suite = SUITES[name]
    items = read_items(suite, path)
    rows = list(likelihood_rows(lm, items))
    assert len(rows) == len(theirs["logprobs"]) == 3
    for row, logprobs in zip(rows, theirs["logprobs"], strict=True):
        assert row["logprobs"] == pytest.approx(logprobs, abs=1e-3)
    scores = [suite.score(item, row, None) for item, row in zip(items, rows, strict=True)]
    ours = {metric: sum(score[metric] for score in scores) / len(scores) for metric in suite.metrics}
    named = {"truthfulqa": {"mc1": "acc"}, "hellaswag": {"accuracy": "acc", "accuracy_norm": "acc_norm"}}[name]
    for metric, called in named.items():
        assert ours[metric] == pytest.approx(theirs["metrics"][called], abs=1e-3), metric
