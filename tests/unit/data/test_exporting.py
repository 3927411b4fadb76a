"""Round trips: what is written in another project's format is read back equal; what is not written is counted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from chatwright.data.exporters.common import Record, Row
from chatwright.data.exporting import TARGETS, export_records, kind_of
from chatwright.data.importing import Imported, read_file
from chatwright.errors import DataError
from chatwright.records import Demonstration, Message, Prompt, Ranking, WeakOrder, conversation, user, write_jsonl

# Texts that formats trip over: marks of templates, speakers' names, white space, all scripts.
PIECES = st.sampled_from([
    "word", " ", "\n", "\n\n", "Human:", "\n\nHuman: x", "\n\nAssistant:", "<|im_start|>user\n", "<|im_end|>", "你好", "é",
    "🙂", "\u2028", "\t", '"', "\\", "{", "]",
])  # fmt: skip
TEXT = st.lists(PIECES, min_size=1, max_size=5).map("".join)
SAID = TEXT.filter(lambda text: text.strip() != "")
META = st.fixed_dictionaries(
    {}, optional={"topic": st.sampled_from(["art", "名"]), "source": st.just("desk"), "lang": st.just("zh"),
                  "prompt": st.just("clash"), "completion": st.just("clash"), "system": st.just("clash")},
)  # fmt: skip


@st.composite
def asked(draw: st.DrawFn) -> tuple[Message, ...]:
    turns: list[tuple[Any, str]] = [("system", draw(SAID))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 2))):
        turns += [("user", draw(SAID)), ("assistant", draw(SAID))]
    return conversation(*turns, ("user", draw(SAID)))


@st.composite
def rankings(draw: st.DrawFn) -> Ranking:
    k = draw(st.integers(2, 5))
    ranks = draw(st.lists(st.one_of(st.integers(1, k), st.none()), min_size=k, max_size=k).filter(lambda r: any(r)))
    meta = {name: value for name, value in draw(META).items() if name not in ("prompt", "system")}
    if draw(st.booleans()):
        meta["finish_reasons"] = ["stop" if n % 2 else "length" for n in range(k)]
    return Ranking(
        messages=draw(asked()), completions=tuple(draw(st.lists(TEXT, min_size=k, max_size=k))),
        order=WeakOrder.from_ranks(ranks),
        likert=tuple(draw(st.lists(st.one_of(st.none(), st.integers(1, 7)), min_size=k, max_size=k)))
        if draw(st.booleans()) else None,
        flags=tuple(("harmful",) if n == 0 else () for n in range(k)) if draw(st.booleans()) else None,
        labeller=draw(st.sampled_from([None, "ann"])), labeller_kind=draw(st.sampled_from([None, "human", "ai"])),
        shown_order=tuple(draw(st.permutations(range(k)))) if draw(st.booleans()) else None,
        guideline=draw(st.sampled_from([None, "v2"])), seconds=draw(st.sampled_from([None, 3.5])),
        uuid=draw(st.sampled_from([None, "u-1"])), meta=meta,
    )  # fmt: skip


DEMONSTRATIONS = st.builds(
    lambda before, answer, meta: Demonstration(messages=(*before, Message(role="assistant", content=answer)), meta=meta),
    asked(), SAID, META,
)  # fmt: skip
PROMPTS = st.builds(lambda messages, meta: Prompt(messages=messages, meta=meta), asked(), META)
RECORDS = st.one_of(rankings(), DEMONSTRATIONS, PROMPTS)
SETTINGS = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read_back(rows: list[Row], target: str, folder: Path) -> Imported:
    file = folder / "rows.jsonl"
    write_jsonl(file, rows)
    found = read_file(file, TARGETS[target].reader)
    assert found.bad == []
    return found


def plain(record: Record) -> Any:
    """A record without its meta, as one comparable value; a pair is the same whichever answer is called A."""
    if isinstance(record, Ranking) and record.order.k == 2 and record.order.ranks == (2, 1):
        record = Ranking(messages=record.messages, completions=record.completions[::-1], order=WeakOrder((1, 2)))
    answers = (record.completions, str(record.order)) if isinstance(record, Ranking) else ()
    return type(record).__name__, record.messages, answers


def strict_pairs(ranking: Ranking) -> list[Any]:
    texts = ranking.completions
    return [
        plain(Ranking(messages=ranking.messages, completions=(texts[i], texts[j]), order=WeakOrder((1, 2))))
        for i, j in ranking.order.strict_pairs()
    ]


# ---- every format of pairs ---------------------------------------------------------------------------------

PAIR_TARGETS = ("trl", "trl-implicit", "trl-text", "hh", "sharegpt", "openai")


@pytest.mark.parametrize("target", PAIR_TARGETS)
@given(record=RECORDS)
@SETTINGS
def test_what_is_written_is_read_back_and_the_rest_is_counted(target: Any, record: Record, tmp_path: Path) -> None:
    made = export_records([record], target)
    rows = made.rows[kind_of(record)]
    assert made.num_rows == len(rows)
    expected = strict_pairs(record) if isinstance(record, Ranking) else [plain(record)]
    if rows:
        found = read_back(rows, target, tmp_path)
        got = [plain(one) for one in (*found.rankings, *found.demonstrations, *found.prompts)]
        assert sum(found.left_out.values()) == 0 and len(got) == len(rows)
        assert not Counter(got) - Counter(expected)  # nothing is read that was not there
    if not isinstance(record, Ranking):
        assert len(rows) + sum(made.left_out.values()) == 1
        return
    pairs = len(record.order.pairs()) + len(record.order.unranked)
    whole = not rows and sum(made.left_out.values()) == 1  # the record as a whole does not fit
    assert whole or len(rows) + sum(made.left_out.values()) == pairs


@pytest.mark.parametrize("target", ["trl", "trl-implicit", "sharegpt", "openai"])
@given(record=RECORDS)
@SETTINGS
def test_chat_formats_lose_no_strict_pair_and_no_conversation(target: Any, record: Record, tmp_path: Path) -> None:
    made = export_records([record], target)
    if isinstance(record, Ranking):
        distinct = [
            (i, j) for i, j in record.order.strict_pairs() if record.completions[i].strip() != record.completions[j].strip()
        ]
        assert len(made.rows["rankings"]) == len(distinct)
    elif target != "openai" or isinstance(record, Demonstration):
        assert made.num_rows == 1 and not made.left_out


@pytest.mark.parametrize("target", ["trl", "trl-implicit", "sharegpt"])
def test_fields_of_the_two_answers_go_along(target: Any, tmp_path: Path) -> None:
    ranking = Ranking(
        messages=user("q"), completions=("a", "b", "c"), order=WeakOrder.parse("C>A=B", 3), likert=(1, None, 7),
        flags=((), ("harmful",), ()), labeller="ann", labeller_kind="human", shown_order=(2, 0, 1), seconds={"rank": 4.0},
        guideline="v3", uuid="u-7", meta={"finish_reasons": ["stop", "length", "stop"], "source": "desk"},
    )  # fmt: skip
    made = export_records([ranking], target)
    first, second = read_back(made.rows["rankings"], target, tmp_path).rankings
    assert first.completions == ("c", "a") and second.completions == ("c", "b")
    assert first.likert == (7, 1) and second.likert == (7, None) and second.flags == ((), ("harmful",))
    assert first.shown_order == (0, 1) and second.ended == (True, False)
    assert (first.labeller, first.labeller_kind, first.guideline, first.seconds) == ("ann", "human", "v3", {"rank": 4.0})
    assert first.uuid is None and made.lost["the uuid of a ranking of more than two answers"] == 2
    assert made.left_out == {"a pair of tied answers (the format has only better and worse)": 1}


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_hh_takes_no_text_that_would_read_as_a_turn(order: tuple[int, int]) -> None:
    texts = ("fine", "they said\n\nHuman: no")
    made = export_records([Ranking(messages=user("q"), completions=texts, order=WeakOrder(order))], "hh")
    assert made.num_rows == 0
    assert list(made.left_out) == ["a text with a speaker's name at the start of a paragraph, which would read as a turn"]


# ---- formats that hold whole rankings ----------------------------------------------------------------------


@given(record=RECORDS)
@SETTINGS
def test_our_own_rows_lose_nothing(record: Record, tmp_path: Path) -> None:
    assume("completion" not in record.meta)  # no row of ours has messages and a completion
    assume(not getattr(record, "equal_apart", False))  # our reader leaves such a ranking out, and counts it
    made = export_records([record], "chatwright")
    found = read_back(made.rows[kind_of(record)], "chatwright", tmp_path)
    assert [*found.rankings, *found.demonstrations, *found.prompts] == [record]
    assert not made.left_out and not made.lost


@given(record=RECORDS)
@SETTINGS
def test_argilla_keeps_whole_records(record: Record, tmp_path: Path) -> None:
    assume(not getattr(record, "equal_apart", False))
    made = export_records([record], "argilla")
    assert not made.left_out
    rows = made.rows[kind_of(record)]
    found = read_back(rows, "argilla", tmp_path)
    assert sum(found.left_out.values()) == 0
    (got,) = (*found.rankings, *found.demonstrations, *found.prompts)
    assert got == record
    if isinstance(record, Ranking):
        strict = len(record.order.levels()) == record.order.k
        assert ("ranking" in rows[0]["responses"]) == strict and bool(made.lost) == (not strict)


def test_argilla_ids_tell_records_apart() -> None:
    asked = user("q")
    said = [Demonstration(messages=(*asked, Message(role="assistant", content=text))) for text in ("a", "b")]
    records = [Prompt(messages=asked), *said]
    rows = [row for rows in export_records([*records, said[0]], "argilla").rows.values() for row in rows]
    assert len(rows) == 4 and len({row["id"] for row in rows}) == 3  # the same record again is the same id


@given(record=RECORDS)
@SETTINGS
def test_oasst_trees(record: Record, tmp_path: Path) -> None:
    made = export_records([record], "oasst")
    rows = made.rows[kind_of(record)]
    assert len(rows) + sum(made.left_out.values()) == 1
    if not rows:
        return
    assert rows == export_records([record], "oasst").rows[kind_of(record)]  # the same record, the same file
    found = read_back(rows, "oasst", tmp_path)
    if isinstance(record, Demonstration):
        assert plain(record) in [plain(one) for one in found.demonstrations]
    elif isinstance(record, Prompt) and len(record.messages) == 1:
        assert plain(record) in [plain(one) for one in found.prompts]
    elif isinstance(record, Ranking):
        kept = [i for i, rank in enumerate(record.order.ranks) if rank is not None]
        (got,) = found.rankings
        assert got.messages == record.messages and got.completions == tuple(record.completions[i] for i in kept)
        assert got.order == WeakOrder.from_ranks([record.order.ranks[i] for i in kept])


@given(record=RECORDS)
@SETTINGS
def test_chatml_texts(record: Record, tmp_path: Path) -> None:
    made = export_records([record], "chatml")
    rows = made.rows[kind_of(record)]
    assert len(rows) + sum(made.left_out.values()) == 1
    if rows:
        found = read_back(rows, "chatml", tmp_path)
        assert [plain(one) for one in (*found.demonstrations, *found.prompts)] == [plain(record)]
    else:
        marked = any("<|im_" in message.content for message in record.messages)
        assert isinstance(record, Ranking) or marked


# ---- rows as other projects write them ---------------------------------------------------------------------

CHAT = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "q"}]
GOOD, BAD = ([{"role": "assistant", "content": text}] for text in ("good", "bad"))
NATIVE = [
    ("trl", {"prompt": CHAT, "chosen": GOOD, "rejected": BAD, "score_chosen": 8.5}),
    ("trl", {"prompt": CHAT, "completion": GOOD}),
    ("trl", {"prompt": CHAT}),
    ("trl-implicit", {"chosen": CHAT + GOOD, "rejected": CHAT + BAD}),
    ("trl-implicit", {"messages": CHAT + GOOD}),
    ("trl-text", {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}),
    ("trl-text", {"prompt": "The sky is", "completion": " blue."}),
    ("hh", {"chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d", "rejected":
            "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: e"}),
    ("sharegpt", {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "id": "x1"}),
    ("sharegpt", {"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "q"}],
                  "chosen": {"from": "gpt", "value": "good"}, "rejected": {"from": "gpt", "value": "bad"}}),
    ("openai", {"messages": CHAT + GOOD}),
    ("openai", {"input": {"messages": CHAT}, "preferred_output": GOOD, "non_preferred_output": BAD}),
    ("chatml", {"text": "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"}),
]  # fmt: skip


@pytest.mark.parametrize(("target", "row"), NATIVE, ids=lambda value: value if isinstance(value, str) else "")
def test_rows_of_the_format_survive_import_and_export(target: Any, row: Row, tmp_path: Path) -> None:
    found = read_back([row], target, tmp_path)
    made = export_records([*found.rankings, *found.demonstrations, *found.prompts], target)
    assert not made.left_out and not found.left_out
    (got,) = (one for rows in made.rows.values() for one in rows)
    assert {name: value for name, value in got.items() if name != "source"} == row


def test_every_target_says_what_it_cannot_hold_and_is_read_back() -> None:
    for name, target in TARGETS.items():
        assert target.cannot_hold and target.reader == name.split("-")[0]
    with pytest.raises(DataError, match=r"cannot be written; use one of chatwright, trl"):
        export_records([], "docx")  # type: ignore[arg-type]


def test_a_conversation_with_tools_is_left_out_everywhere() -> None:
    record = Prompt(messages=conversation(("user", "q"), ("assistant", "a"), ("tool", "4")))
    for name in TARGETS:
        made = export_records([record], name)  # type: ignore[arg-type]
        assert (made.num_rows == 1) == (name == "chatwright")
        assert name == "chatwright" or sum(made.left_out.values()) == 1


def test_export_is_json(tmp_path: Path) -> None:
    ranking = Ranking(messages=user("问题"), completions=("甲", "乙"), order=WeakOrder((2, 1)))
    for name in TARGETS:
        rows = export_records([ranking], name).rows["rankings"]  # type: ignore[arg-type]
        assert json.loads(json.dumps(rows)) == rows


def test_the_table_of_formats_is_true() -> None:
    """docs/howto/formats.md: which format holds which kind of record."""
    page = (Path(__file__).parents[3] / "docs" / "howto" / "formats.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if len(row) == 6 and row[1].startswith("`") and row[1] != "`--format`"]
    told = {row[1].strip("`"): row[2:5] for row in rows}
    assert told.keys() == TARGETS.keys()
    kinds = (
        Ranking(messages=user("q"), completions=("good", "bad"), order=WeakOrder((1, 2))),
        Demonstration(messages=conversation(("user", "q"), ("assistant", "a"))),
        Prompt(messages=user("q")),
    )
    for name, cells in told.items():
        for record, cell in zip(kinds, cells, strict=True):
            made = export_records([record], name)  # type: ignore[arg-type]
            assert (made.num_rows, sum(made.left_out.values())) == ((0, 1) if cell == "no" else (1, 0)), (name, cell)
    whole = {name for name, cells in told.items() if cells[0].startswith("whole")}
    four = Ranking(messages=user("q"), completions=("a", "b", "c", "d"), order=WeakOrder((1, 2, 2, 3)))
    for name in told:
        number = export_records([four], name).num_rows  # type: ignore[arg-type]
        assert number == (1 if name in whole else 0 if told[name][0] == "no" else 5), name  # 6 pairs, one of them tied
