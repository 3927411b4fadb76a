"""The suites by name, where their files come from, and the text of `--suite list`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from chatwright.errors import ConfigError, DataError
from chatwright.evals.suites import generated, likelihood
from chatwright.evals.suites.items import Decoding, Item, Metric, Suite

_ACCURACY = {
    "accuracy": Metric(about=("accuracy", "准确率")),
    "accuracy_norm": Metric(about=("accuracy, per character", "准确率（按字符）")),
}
_LIKELIEST = "the likeliest continuation"
_PAIR = "the two sentences' probabilities (InstructGPT, section 4.2)"

_ALL = (
    Suite(
        name="common",
        about=("common knowledge, English: 4 options", "常识选择题（英文）"),
        bundled="common/en.jsonl",
        read=likelihood.read_common,
        score=likelihood.choice_score,
        metrics=_ACCURACY,
        judge=_LIKELIEST,
    ),
    Suite(
        name="common-zh",
        about=("common knowledge, Chinese: 4 options", "常识选择题（中文）"),
        bundled="common/zh.jsonl",
        read=likelihood.read_common,
        score=likelihood.choice_score,
        metrics=_ACCURACY,
        judge=_LIKELIEST,
    ),
    Suite(
        name="truthfulqa",
        about=("TruthfulQA: common misconceptions", "TruthfulQA：常见误解"),
        files=("mc_task.json", "truthfulqa_mc.jsonl", "TruthfulQA.csv"),
        source="https://github.com/sylinrl/TruthfulQA",
        licence="Apache-2.0",
        read=likelihood.read_truthfulqa,
        score=likelihood.truthful_score,
        metrics={"mc1": Metric(about=("MC1", "MC1")), "mc2": Metric(about=("MC2", "MC2"))},
        judge=_LIKELIEST,
    ),
    Suite(
        name="crows-pairs",
        about=("CrowS-Pairs: stereotypes", "CrowS-Pairs：刻板印象"),
        files=("crows_pairs_anonymized.csv",),
        source="https://github.com/nyu-mll/crows-pairs",
        licence="CC-BY-SA-4.0",
        read=likelihood.read_crows_pairs,
        score=likelihood.pair_score,
        metrics={
            "entropy_bits": Metric(about=("entropy, bits", "熵（比特）")),
            "prefers_first": Metric(about=("stereotype likelier", "刻板句更可能"), better=""),
        },
        judge=_PAIR,
    ),
    Suite(
        name="winogender",
        about=("Winogender: pronouns and occupations", "Winogender：代词与职业"),
        files=("winogender_all_sentences.tsv", "all_sentences.tsv"),
        source="https://github.com/rudinger/winogender-schemas",
        licence="MIT",
        read=likelihood.read_winogender,
        score=likelihood.pair_score,
        metrics={
            "entropy_bits": Metric(about=("entropy, bits", "熵（比特）")),
            "prefers_first": Metric(about=("male likelier", "男性更可能"), better=""),
        },
        judge=_PAIR,
    ),
    Suite(
        name="hellaswag",
        about=("HellaSwag: how does it go on", "HellaSwag：情境续写"),
        files=("hellaswag_val.jsonl", "hellaswag.jsonl"),
        source="https://github.com/rowanz/hellaswag",
        licence="MIT",
        read=likelihood.read_hellaswag,
        score=likelihood.choice_score,
        metrics=_ACCURACY,
        judge=_LIKELIEST,
    ),
    Suite(
        name="lambada",
        about=("LAMBADA: last word of a passage", "LAMBADA：段落的最后一个词"),
        files=("lambada_test.jsonl", "lambada_test_en.jsonl", "lambada.jsonl", "lambada.txt"),
        source="https://zenodo.org/records/2630551",
        licence="CC-BY-4.0",
        read=likelihood.read_lambada,
        score=likelihood.last_word_score,
        metrics={
            "accuracy": Metric(about=("accuracy", "准确率")),
            "nats": Metric(about=("nats per word", "每词奈特"), better="lower"),
        },
        judge=_LIKELIEST,
    ),
    Suite(
        name="gsm8k",
        about=("GSM8K: word problems, five examples", "GSM8K：应用题（五个示例）"),
        files=("gsm8k_test.jsonl", "test.jsonl"),
        source="https://github.com/openai/grade-school-math",
        licence="MIT",
        read=generated.read_gsm8k,
        score=generated.gsm8k_score,
        metrics={
            "exact_match": Metric(about=("exact match", "完全匹配")),
            "flexible": Metric(about=("last number right", "最后的数字正确")),
        },
        judge="comparison of numbers",
        decoding=Decoding(max_new_tokens=256, stop=("Question:",)),
    ),
    Suite(
        name="toxicity",
        about=("toxicity of continuations", "续写的毒性"),
        files=("prompts.jsonl", "realtoxicityprompts.jsonl", "toxicity_prompts.txt"),
        source="https://github.com/allenai/real-toxicity-prompts",
        licence="Apache-2.0",
        read=generated.read_toxicity,
        score=generated.toxicity_score,
        metrics={
            "toxicity": Metric(about=("toxicity", "毒性"), better="lower"),
            "toxicity_respectful": Metric(about=("toxicity, asked to be respectful", "毒性（要求尊重）"), better="lower"),
            "flagged": Metric(about=("flagged", "被标记"), better="lower"),
            "flagged_respectful": Metric(about=("flagged, asked to be respectful", "被标记（要求尊重）"), better="lower"),
            "instruction_effect": Metric(about=("effect of the instruction", "指令的作用"), better="lower"),
        },
        judge="",  # the classifier of --moderation
        decoding=Decoding(max_new_tokens=32, greedy=False),
        needs_moderation=True,
    ),
    Suite(
        name="over-refusal",
        about=("harmless questions that sound harmful", "听起来有害的无害问题"),
        files=("xstest_prompts.csv", "xstest_v2_prompts.csv", "over_refusal.txt"),
        bundled="house/en/facts.jsonl",
        source="https://github.com/paul-rottger/xstest",
        licence="CC-BY-4.0",
        read=generated.read_over_refusal,
        score=generated.over_refusal_score,
        metrics={"over_refused": Metric(about=("over-refused", "过度拒答"), better="lower")},
        judge="forms of declining of the house's judge",
        decoding=Decoding(max_new_tokens=96),
    ),
)
SUITES: dict[str, Suite] = {suite.name: suite for suite in _ALL}


def suites_named(names: Sequence[str]) -> dict[str, tuple[Suite, str]]:
    """By name the suite and the file that NAME=FILE gives (else empty). ConfigError suggests a name for an unknown one."""
    out: dict[str, tuple[Suite, str]] = {}
    for entry in names:
        name, sign, file = entry.partition("=")
        if name not in SUITES:
            close = difflib.get_close_matches(name, SUITES, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ConfigError(f"--suite {name}: unknown; {hint}`--suite list` shows all: {', '.join(SUITES)}")
        if name in out or (sign and not file):
            raise ConfigError(f"--suite {entry}: write NAME or NAME=FILE, each name once")
        out[name] = (SUITES[name], file)
    return out


def find_file(suite: Suite, folder: str | Path) -> Path | None:
    """The user's file in `folder` or one folder below it, else the bundled one, else None."""
    places = [Path(folder), *sorted(p for p in Path(folder).glob("*") if p.is_dir())]
    for name in suite.files:
        for place in places:
            if (place / name).is_file():
                return place / name
    bundled = Path(str(resources.files("chatwright"))) / "bundled" / suite.bundled
    return bundled if suite.bundled and bundled.is_file() else None


def data_file(suite: Suite, folder: str | Path, given: str = "") -> Path:
    """`given`, else `find_file`; a DataError says where the file comes from and where to put it."""
    found = Path(given) if given else find_file(suite, folder)
    if found is None:
        raise DataError(
            f"suite {suite.name}: no data. Get {' or '.join(suite.files)} from {suite.source} ({suite.licence}) and put it "
            f"into {folder}, name its folder by --suite-data, or write --suite {suite.name}=FILE; nothing is fetched"
        )
    if not found.is_file():
        raise DataError(f"{found}: no such file; suite {suite.name} reads the formats of {' or '.join(suite.files)}")
    return found


def read_items(suite: Suite, path: Path, limit: int = 0) -> list[Item]:
    """The items of a file, at most `limit` (0: all). DataError when there is none."""
    items = list(suite.read(path))
    if not items:
        raise DataError(f"suite {suite.name}: {path}: has no rows")
    for item in items:
        if any(not text.strip() for _, text in item.pairs):
            raise DataError(f"suite {suite.name}: {path}: item {item.id}: has an empty text, which cannot be scored")
    return items[:limit] if limit else items


def list_text(folder: str | Path) -> str:
    """Per suite a line on what it measures, and one on its data."""
    lines = []
    for suite in SUITES.values():
        found = find_file(suite, folder)
        needed = f"{' or '.join(suite.files)} from {suite.source} ({suite.licence})"
        state = f"ready: {found}" if found and found.name in suite.files else "ready: bundled" if found else "not there"
        lines.append(f"{suite.name:<13} {suite.about[0]}; {', '.join(suite.metrics)}")
        lines.append(f"{'':<13} {state}{'; needs --moderation' if suite.needs_moderation else ''}")
        if suite.files:
            lines.append(f"{'':<13} {'yours' if suite.bundled else 'file'}: {needed}")
    return "\n".join([*lines, f"Put files into {folder}, or name their folder by --suite-data. Nothing is fetched."])
