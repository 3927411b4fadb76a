"""The moderation classifier: trained, then measured once on texts that took no part in training or selection.

    python benchmarks/moderation.py             # trains and measures: benchmarks/results/moderation.json
    python benchmarks/moderation.py --select    # how the Chinese settings compare: benchmarks/results/moderation-select.json

`--select` trains every setting of a grid on folds of COLDataset's train part and reads nothing else; its dev part is only
read by the first command. Times per message are `clock` and `computed`, the thread's own: on a machine with other work
the first are mostly waiting.
English: the same classifier trained on all human turns of HH's harmless part as harmful, against texts known to be harmless,
is the other choice that issue 3 names.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from chatwright.serve.moderation.card import flagged_share
from chatwright.serve.moderation.classifier import MODEL_FILE, Classifier
from chatwright.serve.moderation.commands import CheckConfig, TrainConfig, check, train
from chatwright.serve.moderation.features import NGrams
from chatwright.serve.moderation.fit import ViewConfig, macro_f1
from chatwright.serve.moderation.normalise import languages, normalise
from chatwright.serve.moderation.sources import distinct, held_out, read_labelled, read_texts, read_turns
from chatwright.serve.moderation.train import EN_VIEWS, ZH_VIEWS, Examples, chinese_examples, train_head
from chatwright.statistics.bootstrap import statistic_interval

SAFE = (
    "demonstrations/self_instruct_seed_tasks.jsonl", "rankings/qa_feedback.jsonl", "eval_tax/gsm8k_test.jsonl",
    "eval_truth/TruthfulQA.csv", "demonstrations/alpaca_zh_demo_not_human.json",
)  # fmt: skip
NEVER_TRAINED = ("prompts/mt_bench_en.jsonl", "prompts/mt_bench_zh.jsonl", "prompts/oasst_prompts_en.jsonl")
OTHERS = ("rtp_insult", "rtp_profanity", "rtp_threat", "rtp_severe_toxicity", "rtp_identity_attack")


RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
TRAIN, DEV = "eval_safety/coldataset_zh_train.csv.gz", "eval_safety/coldataset_zh_dev.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--select", action="store_true", help="compare settings on folds of the train part")
    parser.add_argument("--texts", type=int, default=0, help="of the train part for --select, the first so many; 0: all")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.select:
        found = select(args.data, args.texts)
    else:
        with tempfile.TemporaryDirectory() as work:
            found = measured(args.data, Path(work) / "model")
    out = args.out or RESULTS / ("moderation-select.json" if args.select else "moderation.json")
    out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def select(data: Path, most: int) -> dict[str, object]:
    """Macro-F1 on the folds that a setting was not trained on, the best first."""
    examples = chinese_examples(read_labelled(data / TRAIN)[: most or None], [])
    grid = [
        (ViewConfig(grams=NGrams(char_from=1, char_to=longest, bits=20), floor=floor, l2=l2),)
        for longest in (2, 3, 4)
        for floor, l2 in ((0.3, 0.05), (0.5, 0.1), (0.8, 0.05))
    ]
    rows = []
    for views in [*grid, ZH_VIEWS]:
        figures = train_head("offensive", "zh", examples, views, limit_false=False).figures
        named = [f"1-{v.grams.char_to} characters, floor {v.floor}, l2 {v.l2}" for v in views]
        rows.append({"views": named, "macro_f1": round(figures["macro_f1"], 4), "chosen": views == ZH_VIEWS})
        print(json.dumps(rows[-1]), flush=True)
    rows.sort(key=lambda row: -float(str(row["macro_f1"])))
    return {"date": time.strftime("%Y-%m-%d"), "texts": len(examples.texts), "settings": rows}


def measured(data: Path, model: Path) -> dict[str, object]:
    """Train, then everything that is measured once."""
    cfg = TrainConfig(
        out=str(model),
        chinese=(str(data / TRAIN),),
        dialogues=(str(data / "rankings/hh_harmless.jsonl.gz"),),
        harmful=(str(data / "eval_safety/harmbench_prompts.txt"),),
        safe=tuple(str(data / name) for name in SAFE),
    )
    card = train(cfg)
    dev = data / DEV
    figures = check(
        CheckConfig(
            model=str(model), labelled=(str(dev),), safe=tuple(str(data / p) for p in NEVER_TRAINED), harmful=cfg.harmful
        )
    )
    classifier = Classifier.load(model)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "train_seconds": card["seconds"],
        "model_bytes": (model / MODEL_FILE).stat().st_size,
        "load_average": round(os.getloadavg()[0], 1),
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


def latency(classifier: Classifier, path: Path) -> dict[str, dict[str, float]]:
    """Of 500 messages one by one, and of long texts: what a filter of answers judges at a time, and the longest there is."""
    said = [row.text for row in read_labelled(path)]
    whole = "".join(said)
    texts = {"messages": said[:500]}
    texts |= {f"{size} characters": [whole[at : at + size] for at in range(0, 50_000, 500)] for size in (1000, 20_000)}
    return {name: _times(classifier, some) for name, some in texts.items()}


def _times(classifier: Classifier, texts: list[str]) -> dict[str, float]:
    taken, computed = [], []
    for text in texts:
        started, thread = time.perf_counter(), time.thread_time()
        classifier.judge(text)
        taken.append(1000 * (time.perf_counter() - started))
        computed.append(1000 * (time.thread_time() - thread))
    return {
        f"{name}_{at}": round(sorted(values)[int(share * (len(values) - 1))], 3)
        for name, values in (("clock", taken), ("computed", computed))
        for at, share in (("median", 0.5), ("p99", 0.99))
    }


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
