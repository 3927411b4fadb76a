"""What a chain's samples are like under its rubric, and which parts of the rubric its reward model has learned.

    python benchmarks/rubric_parts.py [runs/quickstart] [--language en]    # default: what benchmarks/quickstart.py left

Prints the mean score and the mean of every part over the ranked samples. Where the chain has a reward model, it also
prints, over all pairs of answers to its held-out prompts, how often the sign of the score difference is that of a part's
difference (0.5: not learned at all). Writes nothing.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import torch

from chatwright.config import from_dict, read_toml
from chatwright.data.rankings import load_examples
from chatwright.evals.rewards import open_learned
from chatwright.labellers.rubric import Item, Rubric, Score, keywords_of, rubric_for
from chatwright.recipes.reward import RewardConfig, score_examples, split
from chatwright.records import Ranking, load_rankings


def judged(ranking: Ranking, rubric: Rubric) -> list[Score]:
    """The rubric's scores of a ranking's answers."""
    question = ranking.messages[-1].content
    keywords = keywords_of(ranking.meta, question)
    return [
        rubric.score(Item(prompt=question, answer=answer, keywords=keywords, ended=ended))
        for answer, ended in zip(ranking.completions, ranking.ended, strict=True)
    ]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chain", type=Path, nargs="?", default=Path("runs/benchmark-quickstart/seed-0"))
    parser.add_argument("--language", default="en")
    args = parser.parse_args()
    rubric = rubric_for(args.language)
    rows = [score for r in load_rankings((str(args.chain / "3-rankings.jsonl"),)) for score in judged(r, rubric)]
    print(f"{len(rows)} samples, mean score {sum(s.total for s in rows) / len(rows):.3f}")
    for name in rows[0].parts:
        print(f"  {name:<18} {sum(s.parts[name] for s in rows) / len(rows):.3f}")
    if not (args.chain / "4-reward" / "final").is_dir():
        return
    table = read_toml(args.chain / "4-reward" / "config.toml")
    _, held_out = split(from_dict(RewardConfig, table, where="config.toml"))
    learned = open_learned(str(args.chain / "4-reward"), dtype=torch.float32, device="cpu")
    examples = load_examples(held_out, learned.tokenizer, max_tokens=2048)
    signs: dict[str, list[bool]] = {}
    all_scores = score_examples(learned.model, examples, learned.tokenizer.pad_id, 2048)
    for example, scores in zip(examples, all_scores, strict=True):
        parts = [score.parts for score in judged(held_out[example.index], rubric)]
        for i, j in itertools.combinations(range(len(parts)), 2):
            for name, value in parts[i].items():
                if value != parts[j][name]:
                    signs.setdefault(name, []).append((scores[i] > scores[j]) == (value > parts[j][name]))
    print(f"{len(examples)} held-out rankings, sign of the reward difference = sign of the part's difference")
    for name, found in signs.items():
        print(f"  {name:<18} {sum(found) / len(found):.2f}  n={len(found)}")


if __name__ == "__main__":
    main()
