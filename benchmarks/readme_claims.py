"""All figures of README.md and README.zh-CN.md: the kept result of each, and how benchmarks/quick.py measures it again.

`Claim.text` is the passage of the README with its figures as fields of kept results: `{flywheel[prompts]}` is `prompts` of
benchmarks/results/flywheel.json (a hyphen of the file's name is an underscore here; whole minutes and the rest in seconds
are `min` and `sec`, memory is `gib`). tests/architecture/test_readme_figures.py fills in the fields, finds the passage in
the README, and finds no figure there that no claim has.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
EN, ZH, BOTH = ("README.md",), ("README.zh-CN.md",), ("README.md", "README.zh-CN.md")
Report = dict[str, Any]
# (what is measured now, whether the claim holds), from the report of a run.
Rule = Callable[[Report], tuple[str, bool]]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A passage with figures, and the rule by which a new run confirms it."""

    text: str
    """The passage; fields are paths into kept results."""
    pages: tuple[str, ...]
    """READMEs that hold it."""
    run: str
    """Key of `quick.RUNS`: the command that measures it."""
    rule: Rule
    """Holds or not, by the report of that run."""


def context() -> dict[str, Report]:
    """Kept results by name, with `min`, `sec` and `gib` where they tell seconds and memory."""
    return {file.stem.replace("-", "_"): with_units(json.loads(file.read_text("utf-8"))) for file in RESULTS.glob("*.json")}


def with_units(report: Report) -> Report:
    """`report` with its time in minutes and seconds, and its memory in GiB."""
    more: Report = {}
    if isinstance(seconds := report.get("seconds"), int | float):
        more |= {"min": int(seconds // 60), "sec": round(seconds % 60)}
    if "peak_rss_bytes" in report:
        more["gib"] = report["peak_rss_bytes"] / 2**30
    return report | more


def at(report: Report, path: str) -> Any:
    """The value under a path with dots."""
    found: Any = report
    for name in path.split("."):
        found = found[int(name)] if isinstance(found, list) else found[name]
    return found


def overlaps(path: str, kept: str, names: tuple[str, str, str] = ("rate", "low", "high")) -> Rule:
    """The new interval and that of the kept result `kept` have a point in common. `names`: of value and bounds."""

    def rule(report: Report) -> tuple[str, bool]:
        old = json.loads((RESULTS / f"{kept}.json").read_text("utf-8"))
        value, low, high = (at(report, f"{path}{name}") for name in names)
        before = [at(old, f"{path}{name}") for name in names[1:]]
        return f"{value:.3f} [{low:.3f}, {high:.3f}]", low <= before[1] and before[0] <= high

    return rule


def above(path: str, bound: float | str, names: tuple[str, str, str] = ("rate", "low", "high")) -> Rule:
    """The lower end of the interval is above `bound`, a number or another path of the report."""

    def rule(report: Report) -> tuple[str, bool]:
        value, low, high = (at(report, f"{path}{name}") for name in names)
        limit = at(report, bound) if isinstance(bound, str) else bound
        return f"{value:.3f} [{low:.3f}, {high:.3f}], bound {limit:.3f}", low > limit

    return rule


def not_above(path: str, bound: str, names: tuple[str, str, str] = ("value", "low", "high")) -> Rule:
    """The lower end of the interval is not above the value under `bound`."""

    def rule(report: Report) -> tuple[str, bool]:
        told, holds = above(path, bound, names)(report)
        return told, not holds

    return rule


def between(path: str, low: float, high: float) -> Rule:
    """The value lies within the bounds."""

    def rule(report: Report) -> tuple[str, bool]:
        value = at(report, path)
        return f"{value:.3f} ({low:g} to {high:g})", low <= value <= high

    return rule


def lower(path: str, than: str) -> Rule:
    """One value of the report is lower than another."""

    def rule(report: Report) -> tuple[str, bool]:
        first, second = at(report, path), at(report, than)
        return f"{first:.3f}, {second:.3f}", first < second

    return rule


def every(*rules: Rule) -> Rule:
    """All rules hold."""

    def rule(report: Report) -> tuple[str, bool]:
        found = [one(report) for one in rules]
        return "; ".join(told for told, _ in found), all(holds for _, holds in found)

    return rule


GOLD = ("gold_mean", "gold_low", "gold_high")


def block(name: str, page: tuple[str, ...], run: str, *, grade: bool) -> list[Claim]:
    """The printed table of a quickstart, line by line: `name` is its kept result, as a field."""
    kept, claims = name.replace("_", "-"), []
    for model, kl in (("base", "–"), ("sft", "0.000"), ("ppo", f"{{{name}[models][ppo][kl_nats_per_token]:.3f}}")):
        of = f"{name}[models][{model}]"
        middle = f"{{{of}[fk_grade]:.1f}} " if grade else ""
        text = (
            f"{model} {{{of}[gold_mean]:.3f}} [{{{of}[gold_low]:.2f}}, {{{of}[gold_high]:.2f}}] {middle}"
            f"{{{of}[words_mean]:.1f}} {{{of}[ended_share]:.1%}} {{{of}[distinct_2]:.3f}} "
            f"{{{name}[answered_alike][{model}]}} {kl}"
        )
        rules = [overlaps(f"models.{model}.", kept, GOLD)]
        rules += [] if model == "base" else [between(f"models.{model}.ended_share", 0.95, 1)]
        claims.append(Claim(text=text, pages=page, run=run, rule=every(*rules)))
    for first, second in (("sft", "base"), ("ppo", "base"), ("ppo", "sft")):
        of, path = f"{name}[win_rates][{first}_vs_{second}]", f"win_rates.{first}_vs_{second}."
        text = f"{first} preferred to {second}: {{{of}[rate]:.3f}} [{{{of}[low]:.3f}}, {{{of}[high]:.3f}}] n={{{of}[n]}}"
        claims.append(Claim(text=text, pages=page, run=run, rule=above(path, 0.5)))
    of = f"{name}[reward_model]"
    text = (
        f"reward model: accuracy {{{of}[accuracy]:.3f}}, length baseline {{{of}[length_baseline]:.3f}}, "
        f"ECE {{{of}[ece]:.3f}}, tie NLL {{{of}[tie_nll]:.3f}}"
    )
    rule = above("reward_model.", "reward_model.length_baseline", ("accuracy", "accuracy_low", "accuracy_high"))
    claims.append(Claim(text=text, pages=page, run=run, rule=rule))
    return claims


SEED_0, TODAY, ZH_RUN = "quickstart_seed_0", "quickstart_seed_0_2026_12_01", "quickstart_zh"
TIME = "time {%s[min]} min {%s[sec]} s, peak memory {%s[gib]:.1f} GiB computed with {%s[machine]}"
PREFERRED = "{%s[win_rates][%s][rate]:.3f} [{%s[win_rates][%s][low]:.3f}, {%s[win_rates][%s][high]:.3f}]"
HUMAN = "{0[value]:.3f} [{0[low]:.3f}, {0[high]:.3f}]".replace("0[", "human_rankings[mixed][accuracy][")
WHEEL = "{0[rate]:.3f} [{0[low]:.3f}, {0[high]:.3f}]".replace("0[", "flywheel[verdicts][0][")
NO_BETTER_THAN_LENGTH = not_above("mixed.accuracy.", "mixed.length_baseline")
WHEEL_RULE = every(above("verdicts.0.", 0.5), between("seconds", 0, 2400))
PTX = every(lower("replay_losses.ppo-ptx", "replay_losses.sft"), lower("replay_losses.ppo-ptx", "replay_losses.ppo"))


def preferred(report: str, pair: str) -> str:
    """Rate and interval of one comparison."""
    return PREFERRED % ((report, pair) * 3)


CLAIMS = (
    *block(SEED_0, EN, "quickstart", grade=True),
    Claim(text=TIME % ((SEED_0,) * 4), pages=EN, run="quickstart",
          rule=every(between("seconds", 0, 1000), between("peak_rss_bytes", 0, 8e9))),
    Claim(text="Seeds 1 and 2 took {quickstart_seed_1[min]} min {quickstart_seed_1[sec]} s and {quickstart_seed_2[min]} min "
               "{quickstart_seed_2[sec]} s and were preferred to SFT in "
               "{quickstart_seed_1[win_rates][ppo_vs_sft][rate]:.3f} and "
               "{quickstart_seed_2[win_rates][ppo_vs_sft][rate]:.3f}",
          pages=EN, run="quickstart", rule=above("win_rates.ppo_vs_sft.", 0.5)),
    Claim(text="fell from {quickstart_no_ptx[replay_losses][sft]:.2f} (SFT) to "
               "{quickstart_no_ptx[replay_losses][ppo-ptx]:.2f}, "
               "without it it rose to {quickstart_no_ptx[replay_losses][ppo]:.2f}",
          pages=EN, run="no-ptx", rule=PTX),
    Claim(text=f"PPO preferred to SFT {preferred(TODAY, 'ppo_vs_sft')}, SFT to base {preferred(TODAY, 'sft_vs_base')}, "
               f"reward model {{{TODAY}[reward_model][accuracy]:.3f}} against length "
               f"{{{TODAY}[reward_model][length_baseline]:.3f}}, KL "
               f"{{{TODAY}[models][ppo][kl_nats_per_token]:.3f}} (judge: the rubric; {{{TODAY}[min]}} min",
          pages=EN, run="quickstart",
          rule=every(overlaps("win_rates.ppo_vs_sft.", "quickstart-seed-0-2026-12-01"),
                     overlaps("win_rates.sft_vs_base.", "quickstart-seed-0-2026-12-01"),
                     between("models.ppo.kl_nats_per_token", 0, 0.5))),
    Claim(text="({quickstart_seed_0[models][ppo][parts][topic]:.2f} against "
               "{quickstart_seed_0[models][sft][parts][topic]:.2f} on that part of the rubric",
          pages=EN, run="quickstart", rule=lower("models.ppo.parts.topic", "models.sft.parts.topic")),
    Claim(text=HUMAN, pages=BOTH, run="human-rankings", rule=NO_BETTER_THAN_LENGTH),
    Claim(text="length alone reaches {human_rankings[mixed][length_baseline]:.3f}", pages=EN, run="human-rankings",
          rule=NO_BETTER_THAN_LENGTH),
    Claim(text="只看长度就有 {human_rankings[mixed][length_baseline]:.3f}", pages=ZH, run="human-rankings",
          rule=NO_BETTER_THAN_LENGTH),
    Claim(text="in {flywheel[min]} minutes, with five *simulated* labellers of the answers to {flywheel[prompts]} questions",
          pages=EN, run="flywheel", rule=WHEEL_RULE),
    Claim(text="只需 {flywheel[min]} 分钟（五个*模拟*标注者为 {flywheel[prompts]} 个", pages=ZH, run="flywheel",
          rule=WHEEL_RULE),
    Claim(text=WHEEL, pages=BOTH, run="flywheel", rule=WHEEL_RULE),
    *block(ZH_RUN, ZH, "quickstart-zh", grade=False),
    Claim(text=TIME % ((ZH_RUN,) * 4), pages=ZH, run="quickstart-zh", rule=between("peak_rss_bytes", 0, 12e9)),
    Claim(text="distinct-2 {quickstart_zh[models][ppo][distinct_2]:.3f}，"
               "SFT 为 {quickstart_zh[models][sft][distinct_2]:.3f}",
          pages=ZH, run="quickstart-zh", rule=lower("models.ppo.distinct_2", "models.sft.distinct_2")),
    Claim(text="评分 {quickstart_zh[greedy][ppo][gold_mean]:.3f}，采样时 {quickstart_zh[models][ppo][gold_mean]:.3f}",
          pages=ZH, run="quickstart-zh", rule=lower("greedy.ppo.gold_mean", "models.ppo.gold_mean")),
)  # fmt: skip
