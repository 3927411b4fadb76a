"""Every figure of the READMEs stands in a kept result, and benchmarks/quick.py measures it again."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "benchmarks"))

import quick  # noqa: E402
import readme_claims  # noqa: E402
from readme_claims import CLAIMS, Claim  # noqa: E402

# Decimals, shares, times, memory, speed; `n=960`. Versions are none.
FIGURE = re.compile(r"(?<![\w.])\d+\.\d{2,}|\d+(?:\.\d+)?\s?(?:%|min\b|minutes|分钟|GiB|GFLOP)|n=\d{3,}|\d+\.\d+x?\b times")
# Versions, the model's size (1.35亿), and settings of the run that the Chinese page names beside those of today.
# How long recipes/tang.toml takes is a setting of it, too.
CLOCKS = re.compile("recipes/tang.toml +# [^#]*?25 (minutes|分钟)")
NOT_MEASURED = {"20.19", "3.11", "1.35", "0.12", "0.14"}


def plain(text: str) -> str:
    """Without line ends and runs of blanks: passages are wrapped."""
    return " ".join(text.split())


def page(name: str) -> str:
    return plain((TOP / name).read_text(encoding="utf-8"))


def shown(claim: Claim) -> str:
    """The passage as the README must show it."""
    return plain(claim.text.format(**readme_claims.context()))


@pytest.mark.parametrize("claim", CLAIMS, ids=[f"{n}: {claim.text[:30]}" for n, claim in enumerate(CLAIMS)])
def test_the_readme_shows_what_the_kept_result_says(claim: Claim) -> None:
    for name in claim.pages:
        assert shown(claim) in page(name), name


@pytest.mark.parametrize("name", readme_claims.BOTH)
def test_no_figure_is_without_a_claim(name: str) -> None:
    text = CLOCKS.sub(" ", page(name))
    for claim in sorted(CLAIMS, key=lambda one: -len(one.text)):
        if name in claim.pages:
            text = text.replace(shown(claim), " ")
    assert [found for found in FIGURE.findall(text) if found not in NOT_MEASURED] == []


def test_every_claim_has_a_run() -> None:
    assert {claim.run for claim in CLAIMS} == quick.RUNS.keys()
