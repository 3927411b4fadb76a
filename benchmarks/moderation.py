"""The moderation classifier: trained, then measured once on texts that took no part in training or selection.

    python benchmarks/moderation.py --data ../shared/data --work /tmp/moderation --out benchmarks/results/moderation.json

Views and their settings were chosen by a grid on folds of COLDataset's train part; its dev part is only read here.
English: the same classifier trained on all human turns of HH's harmless part as harmful, against texts known to be harmless,
is the other choice that issue 3 names.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

from chatwright.serve.moderation.card import flagged_share
from chatwright.serve.moderation.classifier import MODEL_FILE, Classifier
from chatwright.serve.moderation.commands import CheckConfig, TrainConfig, check, train
from chatwright.serve.moderation.fit import macro_f1
from chatwright.serve.moderation.normalise import languages, normalise
from chatwright.serve.moderation.sources import distinct, held_out, read_labelled, read_texts, read_turns
from chatwright.serve.moderation.train import EN_VIEWS, Examples, train_head
from chatwright.statistics.bootstrap import statistic_interval

SAFE = (
    "demonstrations/self_instruct_seed_tasks.jsonl", "rankings/qa_feedback.jsonl", "eval_tax/gsm8k_test.jsonl",
    "eval_truth/TruthfulQA.csv", "demonstrations/alpaca_zh_demo_not_human.json",
)  # fmt: skip
NEVER_TRAINED = ("prompts/mt_bench_en.jsonl", "prompts/mt_bench_zh.jsonl", "prompts/oasst_prompts_en.jsonl")
OTHERS = ("rtp_insult", "rtp_profanity", "rtp_threat", "rtp_severe_toxicity", "rtp_identity_attack")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    data, model = args.data, args.work / "model"
    cfg = TrainConfig(
        out=str(model),
        chinese=(str(data / "eval_safety/coldataset_zh_train.csv.gz"),),
        dialogues=(str(data / "rankings/hh_harmless.jsonl.gz"),),
        harmful=(str(data / "eval_safety/harmbench_prompts.txt"),),
        safe=tuple(str(data / name) for name in SAFE),
    )
    card = train(cfg)
    dev = data / "eval_safety/coldataset_zh_dev.csv"
    figures = check(
        CheckConfig(
            model=str(model), labelled=(str(dev),), safe=tuple(str(data / p) for p in NEVER_TRAINED), harmful=cfg.harmful
        )
    )
    classifier = Classifier.load(model)
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "train_seconds": card["seconds"],
        "model_bytes": (model / MODEL_FILE).stat().st_size,
        "milliseconds_per_message": latency(classifier, dev),
        "heads": card["heads"],
        **figures,
        "dev_macro_f1_interval": interval(classifier, dev),
        "baseline_macro_f1": 0.906,
        "rtp_prompts_flagged": {
            name: flagged_share(classifier, read_texts(data / f"eval_safety/{name}.txt")) for name in OTHERS
        },
        "english_on_all_hh_turns": other_choice(cfg, data),
    }
    args.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def latency(classifier: Classifier, path: Path) -> dict[str, float]:
    """Of 500 messages, one by one."""
    taken = []
    for row in read_labelled(path)[:500]:
        started = time.perf_counter()
        classifier.judge(row.text)
        taken.append(1000 * (time.perf_counter() - started))
    return {"median": round(statistics.median(taken), 3), "p99": round(sorted(taken)[494], 3)}


def interval(classifier: Classifier, path: Path) -> list[float]:
    """Bootstrap interval of the macro-F1 over texts."""
    rows = read_labelled(path)
    target = np.array([row.label for row in rows])
    flagged = np.array([float(classifier.judge(row.text).flagged["offensive"]) for row in rows])
    found = statistic_interval(len(rows), lambda picked: macro_f1(target[picked], flagged[picked]), draws=500)
    return [round(found.low, 4), round(found.high, 4)]


def other_choice(cfg: TrainConfig, data: Path) -> dict[str, object]:
    """English harmful_request trained on every human turn of HH as harmful."""
    dialogues = [turns for path in cfg.dialogues for turns in read_turns(path)]
    positive = distinct([t for turns in dialogues if turns and not held_out(turns[0], cfg.held_out) for t in turns])
    safe = distinct([normalise(text) for path in cfg.safe for text in read_texts(path)])
    negative = [text for text in safe if languages(text) == ("en",)]
    targets = np.array([1.0] * len(positive) + [0.0] * len(negative))
    examples = Examples(texts=[*positive, *negative], targets=targets, labelled=np.ones(len(targets)))
    head = train_head("harmful_request", "en", examples, EN_VIEWS, limit_false=True).head
    classifier = Classifier([head])
    harmful = [text for path in cfg.harmful for text in read_texts(path) if held_out(normalise(text), cfg.held_out)]
    rows = {"harmbench, held out": flagged_share(classifier, harmful)}
    return rows | {name: flagged_share(classifier, read_texts(data / name)) for name in NEVER_TRAINED}


if __name__ == "__main__":
    main()
