"""A translator of words out of CLDR's names: seen words, held-out words, and what else could answer.

    python benchmarks/translate.py [--questions 100] [--few-shot smollm2-135m-instruct] [--model FOLDER]

Runs recipes/translate.toml with a tenth of the emoji held out (every stage that is not complete) and asks, in each of
the 12 directions between English, Chinese, Spanish and emoji, so many questions on words that were in training, and so
many on words that only held-out emoji carry. An answer is right when it is in the word's accepted set: the union of the
names of the emoji that the word names (docs/howto/translate.md). Beside it, "closest": the share of answers that are
the very one of that set that stands with the same emoji most exactly; generic answers (food, face) do not get it.

* The dictionary is the training pairs themselves: exact look-up, and, for a word it does not have, the translation of the
  word that shares most pairs of letters with it.
* The larger model is prompted with eight training pairs of the same direction and decodes greedily within the same script.

Intervals are 95 % bootstraps over words. Writes benchmarks/results/translate.json.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chatwright import cli
from chatwright.data.cldr import load as load_names
from chatwright.data.cldr_pairs import HELD_OUT, SEEN, Question, load_questions
from chatwright.data.cldr_words import DIRECTIONS, SCRIPT_OF, Lexicon, lexicon
from chatwright.data.splits import split_by
from chatwright.engine.machine import machine_line
from chatwright.generation.api import Constraint, SamplingParams
from chatwright.generation.lm import load
from chatwright.generation.translate import Translator
from chatwright.statistics.bootstrap import ratio_interval
from chatwright.text.scripts import phrase_regex
from chatwright.text.spelled import is_phrase

RECIPE = Path("recipes/translate.toml")
HELD_OUT_RECIPE = Path("runs/translate-held-out/recipe.toml")
"""The same with a tenth of the emoji held out, which a model for use has no reason to do."""
RESULT = Path(__file__).parent / "results" / "translate.json"
NAMES = {"en": "English", "zh": "Chinese", "es": "Spanish", "emoji": "Emoji"}
SHOTS = 8
Answers = list[list[str]]
"""Of each question, what was answered, best first."""


def interval(right: Iterable[bool], words: Sequence[str]) -> list[float]:
    """[share, low, high] with whole words drawn."""
    sums, counts = Counter[str](), Counter[str]()
    for one, word in zip(right, words, strict=True):
        sums[word] += one
        counts[word] += 1
    keys = sorted(counts)
    found = ratio_interval(np.array([float(sums[k]) for k in keys]), np.array([float(counts[k]) for k in keys]))
    return [round(found.value, 4), round(found.low, 4), round(found.high, 4)]


def marks(questions: Sequence[Question], answers: Answers) -> dict[str, Any]:
    """Figures of one way to answer, over all directions and for each."""
    words = [f"{q.source} {q.text}" for q in questions]
    top1 = [any(q.is_right(one) for one in a[:1]) for q, a in zip(questions, answers, strict=True)]
    found: dict[str, Any] = {"questions": len(questions), "top1": interval(top1, words)}
    if any(len(a) > 1 for a in answers):
        found["top5"] = interval((any(q.is_right(x) for x in a[:5]) for q, a in zip(questions, answers, strict=True)), words)
    found["closest"] = interval((a[:1] == [q.accepted[0]] for q, a in zip(questions, answers, strict=True)), words)
    found["answered"] = sum(bool(a) for a in answers)
    found["outside_script"] = sum(
        not is_phrase(SCRIPT_OF[q.target])(x) for q, a in zip(questions, answers, strict=True) for x in a
    )
    for source, target in DIRECTIONS:
        chosen = [n for n, q in enumerate(questions) if (q.source, q.target) == (source, target)]
        found[f"{source}-{target}"] = interval((top1[n] for n in chosen), [words[n] for n in chosen])
    return found


def drawn(questions: Sequence[Question], num: int) -> list[Question]:
    """At most `num` of each direction."""
    kept = []
    for direction in DIRECTIONS:
        own = [q for q in questions if (q.source, q.target) == direction]
        kept += random.Random(0).sample(own, min(num, len(own)))
    return kept


def by_model(translator: Translator) -> Callable[[Question], list[str]]:
    return lambda q: [t.text for t in translator.translate(q.text, q.target, source=q.source, guess=True)]


def by_dictionary(train: Lexicon, *, nearest: bool) -> Callable[[Question], list[str]]:
    """Look the word up; `nearest`: or the known word that is spelled most like it (Dice of letter pairs)."""
    index: dict[tuple[str, str], set[str]] = defaultdict(set)
    for language, words in train.emoji.items():
        for word in words:
            for pair in pairs(word):
                index[language, pair].add(word)

    def answer(q: Question) -> list[str]:
        word = q.text
        if nearest and word not in train.emoji[q.source]:
            own = pairs(word)
            shared = Counter(other for pair in own for other in index[q.source, pair])
            if not shared:
                return []
            word = max(sorted(shared), key=lambda other: shared[other] / (len(own) + len(pairs(other))))
        return train.closest(word, q.source, q.target)[:1]

    return answer


def pairs(word: str) -> set[str]:
    return {a + b for a, b in zip(f" {word}", f"{word} ", strict=True)}


def by_few_shot(name: str, questions: Sequence[Question], train: Lexicon) -> Answers:
    """A larger model with examples in its prompt; one batch for each direction, so that the examples are read once."""
    lm = load(name)
    answers: Answers = [[] for _ in questions]
    for source, target in DIRECTIONS:
        chosen = [n for n, q in enumerate(questions) if (q.source, q.target) == (source, target)]
        known = [word for word in sorted(train.emoji[source]) if train.accepted(word, source, target)]
        shown = random.Random(1).sample(known, SHOTS)
        head = "".join(_line(word, train.closest(word, source, target)[0], source, target) for word in shown)
        prompts = [lm.prompt_ids(head + _line(questions[n].text, "", source, target), raw=True) for n in chosen]
        constraint = Constraint(kind="regex", value=f" {phrase_regex(SCRIPT_OF[target])}\n")
        params = SamplingParams(max_new_tokens=24, temperature=0.0, constraint=constraint, stop=("\n",))
        for n, (found,) in zip(chosen, lm.generator.generate(prompts, params), strict=True):
            text = found.text.strip()
            answers[n] = [text] if is_phrase(SCRIPT_OF[target])(text) else []
    return answers


def _line(word: str, answer: str, source: str, target: str) -> str:
    end = f" {answer}\n" if answer else ""
    return f"{NAMES[source]}: {word} = {NAMES[target]}:{end}"


def stages() -> dict[str, dict[str, Any]]:
    """{command: settings} of the recipe."""
    text = RECIPE.read_text(encoding="utf-8").replace("runs/translate/", f"{HELD_OUT_RECIPE.parent}/")
    HELD_OUT_RECIPE.parent.mkdir(parents=True, exist_ok=True)
    HELD_OUT_RECIPE.write_text(text.replace("held_out = 0.0", "held_out = 0.1"), encoding="utf-8")
    with HELD_OUT_RECIPE.open("rb") as file:
        return {stage["command"]: stage for stage in tomllib.load(file)["stage"]}


def trained(recipe: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Run the recipe; figures of the training run."""
    if cli.main(["run", str(HELD_OUT_RECIPE)]):
        raise SystemExit("the recipe failed")
    result = json.loads((Path(recipe["pretrain"]["out"]) / "result.json").read_text(encoding="utf-8"))
    return {name: result[name] for name in ("parameters", "steps", "tokens", "loss", "train_seconds")}


def measured(questions: Sequence[Question], answer: Callable[[Question], list[str]]) -> dict[str, Any]:
    started = time.perf_counter()
    found = marks(questions, [answer(q) for q in questions])
    return found | {"seconds": round(time.perf_counter() - started, 1)}


def main() -> None:
    """Train, ask, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=100, help="of each direction, seen and held out")
    parser.add_argument("--few-shot", nargs="*", default=["smollm2-135m-instruct"], help="larger models to prompt")
    parser.add_argument("--few-shot-questions", type=int, default=30, help="of each direction, held out")
    args = parser.parse_args()
    recipe = stages()
    report: dict[str, Any] = {"date": str(date.today()), "machine": machine_line(torch.float32, torch.device("cpu"))}
    report["training"] = trained(recipe)
    report["cpu_seconds"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_utime)
    pairs_cfg = recipe["cldr pairs"]
    folder, model = Path(pairs_cfg["out"]), recipe["pretrain"]["out"]
    report["data"] = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    names = load_names()
    _, without = split_by(sorted(lexicon(names).names), lambda emoji: emoji, pairs_cfg["held_out"], 0)
    train = lexicon(names, without=without)
    translator = Translator.open(load(model), model)
    for part, file in (("seen", SEEN), ("held_out", HELD_OUT)):
        questions = drawn(load_questions(folder / file), args.questions)
        report[part] = {"model": measured(questions, by_model(translator))}
        report[part]["known_to_the_model"] = interval(
            (translator.knows(q.text, q.source, q.target) for q in questions), [f"{q.source} {q.text}" for q in questions]
        )
        report[part]["dictionary"] = measured(questions, by_dictionary(train, nearest=False))
        if part == "held_out":
            report[part]["dictionary_nearest"] = measured(questions, by_dictionary(train, nearest=True))
            fewer = drawn(questions, args.few_shot_questions)
            report["held_out_few_shot"] = {"model": marks(fewer, [by_model(translator)(q) for q in fewer])}
            for name in args.few_shot:
                report["held_out_few_shot"][name] = marks(fewer, by_few_shot(name, fewer, train))
    examples = {"en": "Apple", "zh": "苹果", "es": "manzana", "emoji": "🍎"}
    report["shown"] = {
        f"{word} -> {to}": [[t.text, round(t.probability, 4)] for t in translator.translate(word, to, source=source, top=3)]
        for source, word in examples.items() for to in examples if to != source
    }  # fmt: skip
    RESULT.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
