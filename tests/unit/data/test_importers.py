"""Files of other projects: each format by example, each real file whole, and what must be refused."""

from __future__ import annotations

import contextlib
import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatwright.data.importing import Format, Imported, read_file
from chatwright.data.statistics import length_win_share, tie_share
from chatwright.errors import DataError
from chatwright.records import Demonstration, Prompt, Ranking, conversation, user
from chatwright.tabular import spreadsheets


def _file(tmp_path: Path, *rows: Any, name: str = "x.jsonl") -> Path:
    file = tmp_path / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def _read(tmp_path: Path, *rows: Any, file_format: Format = "auto") -> Imported:
    found = read_file(_file(tmp_path, *rows), file_format)
    assert found.bad == [], found.bad
    for record in (*found.prompts, *found.demonstrations, *found.rankings, *found.labelled, *found.samples):
        assert type(record).from_dict(json.loads(json.dumps(record.to_dict()))) == record
    return found


TURNS = conversation(("user", "q1"), ("assistant", "a1"), ("user", "q2"))


def _ranking(found: Imported, source: str) -> Ranking:
    assert found.format == source and found.num_records == 1
    (ranking,) = found.rankings
    assert ranking.meta["source"] == source
    return ranking


# ---- HH-RLHF -----------------------------------------------------------------------------------------------


def test_hh_pairs(tmp_path: Path) -> None:
    start = "\n\nHuman: q1\n\nAssistant: a1\n\nHuman: q2\n\nAssistant: "
    ranking = _ranking(_read(tmp_path, {"chosen": start + "good", "rejected": start + "bad: Human: x"}), "hh")
    assert ranking.messages == TURNS and ranking.completions == ("good", "bad: Human: x")
    assert str(ranking.order) == "A>B" and ranking.labeller_kind == "human"


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        ("\n\nHuman: q\n\nAssistant: a", "\n\nHuman: q\n\nAssistant: a ", "both answers are equal"),
        ("\n\nHuman: q\n\nAssistant: a", "\n\nHuman: p\n\nAssistant: b", "differ before the last answer"),
        ("\n\nHuman: q\n\nAssistant: a\n\nHuman: b", "\n\nHuman: q\n\nAssistant: b", "does not end with an answer"),
        ("\n\nAssistant: a\n\nHuman: b\n\nAssistant: c", "\n\nAssistant: a\n\nHuman: b\n\nAssistant: d", "starts with"),
    ],
)
def test_hh_rows_without_use_are_counted_by_reason(chosen: str, rejected: str, reason: str, tmp_path: Path) -> None:
    found = _read(tmp_path, {"chosen": chosen, "rejected": rejected})
    assert found.num_records == 0 and [reason in text for text in found.left_out] == [True]


def test_hh_joins_what_one_person_said_twice_in_a_row(tmp_path: Path) -> None:
    start = "\n\nHuman: one\n\nHuman: two\n\nAssistant: "
    assert _ranking(_read(tmp_path, {"chosen": start + "a", "rejected": start + "b"}), "hh").messages == user(
        "one\n\ntwo"
    )


# ---- TRL ---------------------------------------------------------------------------------------------------

ASK = [{"role": "user", "content": "q"}]
GOOD, BAD = ([{"role": "assistant", "content": text}] for text in ("good", "bad"))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
        {"prompt": "q", "chosen": "q good", "rejected": "q bad"},
        {"prompt": ASK, "chosen": GOOD, "rejected": BAD},
        {"prompt": "q", "chosen": GOOD, "rejected": BAD},
        {"prompt": ASK, "chosen": ASK + GOOD, "rejected": ASK + BAD},
        {"chosen": ASK + GOOD, "rejected": ASK + BAD},
    ],
)
def test_trl_preferences_plain_and_conversational(row: dict[str, Any], tmp_path: Path) -> None:
    ranking = _ranking(_read(tmp_path, {**row, "score_chosen": 4.5}), "trl")
    assert (ranking.messages, ranking.completions, str(ranking.order)) == (user("q"), ("good", "bad"), "A>B")
    assert ranking.meta["score_chosen"] == 4.5 and ranking.labeller_kind is None


def test_trl_sft_prompt_only_and_unpaired(tmp_path: Path) -> None:
    found = _read(
        tmp_path,
        {"prompt": ASK, "completion": GOOD},
        {"prompt": "q", "completion": "good"},
        {"prompt": ASK},
        {"prompt": "q", "completion": "good", "label": True},
        {"prompt": "q", "completion": "bad", "label": False},
    )
    assert set(found.format.split(" and ")) == {"trl", "chatwright"} and len(found.prompts) == 1
    assert [d.messages for d in found.demonstrations] == [conversation(("user", "q"), ("assistant", "good"))] * 2
    assert [(a.messages[-1].content, a.good) for a in found.labelled] == [("good", True), ("bad", False)]
    plain = _read(tmp_path, {"messages": ASK + GOOD})
    assert plain.format == "chatwright" and len(plain.demonstrations) == 1


def test_trl_plain_text_without_a_prompt_is_left_out(tmp_path: Path) -> None:
    found = _read(tmp_path, {"chosen": "The sky is blue.", "rejected": "The sky is green."}, file_format="trl")
    assert found.num_records == 0 and sum(found.left_out.values()) == 1


# ---- chat lists --------------------------------------------------------------------------------------------


def test_openai_rows(tmp_path: Path) -> None:
    part = {"role": "user", "content": [{"type": "text", "text": "q"}, {"type": "text", "text": "!"}]}
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {}}]}
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "x", "function": {"name": "f", "arguments": "{}"}}]}
    found = _read(
        tmp_path,
        {"messages": [{"role": "developer", "content": "s"}, part, *GOOD]},
        {"messages": [image, *GOOD]},
        {"messages": [*ASK, call, {"role": "tool", "content": "1", "tool_call_id": "x"}, *GOOD], "tools": []},
        {"messages": [*ASK, {"role": "assistant", "content": "x", "weight": 0}, *ASK, *GOOD]},
        {"messages": [*ASK, {"role": "assistant", "content": "good", "weight": 1}]},
        {"input": {"messages": ASK}, "preferred_output": GOOD, "non_preferred_output": BAD},
    )
    assert found.format == "openai and chatwright" and len(found.demonstrations) == 3 and len(found.rankings) == 1
    assert found.demonstrations[0].messages == conversation(("system", "s"), ("user", "q!"), ("assistant", "good"))
    assert [m.role for m in found.demonstrations[1].messages] == ["user", "assistant", "tool", "assistant"]
    assert dict(found.left_out) == {"holds more than text": 1, "holds an answer that is not to be learned (weight)": 1}


def test_sharegpt_rows(tmp_path: Path) -> None:
    said = [{"from": "human", "value": "q1"}, {"from": "gpt", "value": "a1"}, {"from": "human", "value": "q2"}]
    found = _read(
        tmp_path,
        {"conversations": [*said, {"from": "gpt", "value": "a2"}], "system": "s", "id": 7},
        {"conversations": said},
        {"conversations": said, "chosen": {"from": "gpt", "value": "y"}, "rejected": {"from": "gpt", "value": "n"}},
        {"conversations": said[1:]},
        {"conversations": [*said, {"from": "observation", "value": "x"}]},
        {"conversations": [{"from": "human", "value": " "}, {"from": "gpt", "value": "x"}]},
    )
    assert found.format == "sharegpt" and found.num_records == 3
    assert [m.role for m in found.demonstrations[0].messages] == ["system", "user", "assistant", "user", "assistant"]
    assert found.demonstrations[0].meta["id"] == 7
    assert found.prompts[0].messages == found.rankings[0].messages == TURNS
    assert set(found.left_out) == {"the conversation starts with the assistant", "uses tools", "an empty message"}


def test_alpaca_and_self_instruct_rows(tmp_path: Path) -> None:
    found = _read(
        tmp_path,
        {"instruction": "Add.", "input": "1 2", "output": "3"},
        {"instruction": "q2", "input": "", "output": "a", "history": [["q1", "a1"]], "system": "s"},
        {"instruction": "q", "input": None, "chosen": "good", "rejected": "bad"},
    )
    assert found.format == "alpaca" and found.demonstrations[0].messages[0].content == "Add.\n\n1 2"
    assert found.demonstrations[1].prompt.messages == conversation(
        ("system", "s"), *((m.role, m.content) for m in TURNS)
    )
    assert str(found.rankings[0].order) == "A>B"
    seeds = _read(tmp_path, {"id": "t", "instruction": "Add.", "instances": [{"input": "1", "output": "2"}] * 2})
    assert seeds.format == "self-instruct" and len(seeds.demonstrations) == 2


def test_prompts_in_other_clothes(tmp_path: Path) -> None:
    bench = _read(tmp_path, {"question_id": 81, "turns": ["one", "two"]})
    assert bench.format == "mt-bench" and bench.prompts[0].messages == user("one")
    assert bench.prompts[0].meta["later_turns"] == ["two"]
    lines = _read(tmp_path, "What is it?", "你好")
    assert lines.format == "text" and [p.messages for p in lines.prompts] == [user("What is it?"), user("你好")]


# ---- Open-Assistant ----------------------------------------------------------------------------------------


def _node(role: str, text: str, replies: tuple[dict[str, Any], ...] = (), **fields: Any) -> dict[str, Any]:
    return {"message_id": text, "role": role, "text": text, "replies": list(replies), "lang": "en", **fields}


def test_oasst_trees(tmp_path: Path) -> None:
    follow_up = _node("prompter", "q2", (_node("assistant", "c", rank=1), _node("assistant", "d", rank=0)))
    worse = _node("prompter", "q3", (_node("assistant", "e"),))
    best = _node("assistant", "z best", (follow_up,), rank=0)
    replies = (_node("assistant", "b", (worse,), rank=1), best, _node("assistant", "x", rank=2, deleted=True))
    tree = {"message_tree_id": "t", "tree_state": "ready_for_export", "prompt": _node("prompter", "q1", replies)}
    found = _read(tmp_path, tree, {**tree, "tree_state": "growing"})
    assert found.format == "oasst"
    assert [(r.completions, str(r.order)) for r in found.rankings] == [(("b", "z best"), "B>A"), (("c", "d"), "B>A")]
    assert found.rankings[1].messages == conversation(("user", "q1"), ("assistant", "z best"), ("user", "q2"))
    assert [[m.content for m in d.messages] for d in found.demonstrations] == [["q1", "z best", "q2", "d"]]
    assert [p.messages for p in found.prompts] == [user("q1")]
    assert dict(found.left_out + found.parts) == {"a reply was deleted or failed review": 1, "tree is growing": 1}


def test_a_bottomless_tree_is_a_bad_row(tmp_path: Path) -> None:
    node = _node("assistant", "x")
    for n in range(140):
        node = _node("prompter" if n % 2 == 0 else "assistant", f"m{n}", (node,))
    with pytest.raises(DataError, match="x.jsonl:1: line: is nested deeper than"):
        read_file(_file(tmp_path, {"message_tree_id": "t", "prompt": _node("prompter", "q", (node,))}))


# ---- tables ------------------------------------------------------------------------------------------------

TABLE = [
    ["Question", "A", "B", "C", "Ranking", "note"],
    ["Why, then?", 'says "x"', "line\nbreak", "三", "C>A=B", "n1"],
    ["", "", "", "", "", ""],
    ["What?", "1", "2", "", "B>A", ""],
]


def _csv_text(delimiter: str = ",") -> str:
    return "".join(delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) + "\r\n" for row in TABLE)


def _check_table(found: Imported) -> None:
    assert found.bad == [] and found.format == "table"
    first, second = found.rankings
    assert first.completions == ('says "x"', "line\nbreak", "三") and str(first.order) == "C>A=B"
    assert first.messages == user("Why, then?") and first.meta["note"] == "n1"
    assert second.completions == ("1", "2") and str(second.order) == "B>A"


@pytest.mark.parametrize(
    ("name", "encode"),
    [
        ("x.csv", lambda: _csv_text().encode()),
        ("x.csv", lambda: b"\xef\xbb\xbf" + _csv_text(";").encode()),
        ("x.csv", lambda: _csv_text().encode("utf-16")),
        ("x.tsv", lambda: _csv_text("\t").encode()),
        ("x.csv.gz", lambda: gzip.compress(_csv_text().encode())),
    ],
)
def test_csv_files(name: str, encode: Any, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(encode())
    _check_table(read_file(tmp_path / name))


def _workbook(tmp_path: Path) -> Path:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in TABLE:
        sheet.append(row)
    book.create_sheet("second").append(["Question"])
    book.save(tmp_path / "x.xlsx")
    return tmp_path / "x.xlsx"


def test_xlsx_files(tmp_path: Path) -> None:
    _check_table(read_file(_workbook(tmp_path)))


@pytest.mark.parametrize(
    ("header", "cells", "kind"),
    [
        ("问题,回答", "为什么,因为", Demonstration),
        ("instruction,input,output,system", "Add,1 2,3,s", Demonstration),
        ("prompt,chosen,rejected", "q,y,n", Ranking),
        ("prompt,answer_1,answer 2,rank", "q,y,n,A=B", Ranking),
        ("prompt,topic", "q,t", Prompt),
    ],
)
def test_column_names(header: str, cells: str, kind: type, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(f"{header}\n{cells}\n", encoding="utf-8")
    found = read_file(tmp_path / "x.csv")
    (record,) = (*found.prompts, *found.demonstrations, *found.rankings)
    assert isinstance(record, kind)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt,A,B,ranking\nq,y,n,A>C\n", "x.csv:2: ranking: 'C' is not one of the letters"),
        ("prompt,A,C,ranking\nq,y,n,A>B\n", "x.csv:2: ranking: needs the answers in columns A, B"),
        ("prompt,completion\nq,a\nq,a,b,c\n", "x.csv:3: row: has 4 cells, the header 2"),
        ("prompt,completion\n,a\n", "x.csv:2: prompt: is missing"),
        ("prompt,prompt\na,b\n", "x.csv: two columns are named 'prompt'"),
        ("", "x.csv: is empty"),
        ("prompt\n", "there are no rows"),
        ("prompt\n\x00\n", "x.csv: holds NUL bytes"),
        ("colour,size\nred,3\n", "x.csv:2: prompt: is missing or empty; .*colour, size"),
    ],
)
def test_tables_that_cannot_be_read(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        found = read_file(tmp_path / "x.csv")
        raise found.bad[0]


def _zip(path: Path, **parts: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name.replace("__", "/") + ".xml", content)
    return path


def test_spreadsheet_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file, message in (
        (_zip(tmp_path / "a.xlsx", xl__sheet=b" " * 50_000_000), "looks like a zip bomb"),
        (
            _zip(tmp_path / "b.xlsx", xl__sheet=b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><x/>'),
            "document type",
        ),
        (_zip(tmp_path / "c.xlsx", xl__sheet=b"<x/>"), "is not a readable XLSX file"),
    ):
        with pytest.raises(DataError, match=message):
            read_file(file)
    (tmp_path / "d.xlsx").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(DataError, match="is not an XLSX file"):
        read_file(tmp_path / "d.xlsx")
    monkeypatch.setattr(spreadsheets, "MAX_WHOLE_BYTES", 1000)
    with pytest.raises(DataError, match="too large"):
        read_file(_workbook(tmp_path))


# ---- JSON arrays and damaged files -------------------------------------------------------------------------


def test_json_arrays_know_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    rows: list[dict[str, Any]] = [{"instruction": "q", "output": "a"}, {"instruction": "q", "output": 3}]
    for text in (json.dumps(rows), json.dumps(rows, indent=2), "\n [\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n"):
        file.write_text("\ufeff" + text, encoding="utf-8")
        found = read_file(file)
        assert len(found.demonstrations) == 1 and len(found.bad) == 1
        line = 1 + text[: text.index('"output": 3')].count("\n")
        assert f"x.json:{line - (2 if 'indent' in text or text.startswith('[' + chr(10)) else 0)}: " in str(
            found.bad[0]
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"instruction": "q", "output": "a"}', "cut off"),
        ('[{"instruction": "q", "output": "a"} {"x": 1}]', "not followed by a comma"),
        ('[\n{"instruction": "q", "output": }]', "x.json:2: item: is not JSON"),
        ('[\n{"instruction": NaN}]', "x.json:2: item: NaN"),
        ("[\n" + "[" * 100_000, "x.json:"),
        ("[\n]", "there are no rows"),
        ("", "there are no rows"),
    ],
)
def test_damaged_json_arrays(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        found = read_file(tmp_path / "x.json")
        raise found.bad[0]


def test_bad_rows_are_collected_beside_good_ones(tmp_path: Path) -> None:
    found = read_file(
        _file(tmp_path, {"prompt": "a"}, {"prompt": 1}, "text", [1], {"prompt": "\ud800"}, {"prompt": "b"})
    )
    assert [p.messages for p in found.prompts] == [user("a"), user("b")] and len(found.bad) == 4
    assert "x.jsonl:2: prompt: must be a text" in str(found.bad[0]) and found.num_rows == 6


def test_unknown_rows_list_the_formats(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x.jsonl:1: format: is not recognised \(found: colour\); .*--from.*hh, oasst"):
        read_file(_file(tmp_path, {"colour": "red"}))
    with pytest.raises(DataError, match="files ending in '.pdf' are not read"):
        read_file(_file(tmp_path, {}, name="x.pdf"))
    with pytest.raises(DataError, match="no such file"):
        read_file(tmp_path / "absent.jsonl")


FIELDS = [
    "prompt",
    "chosen",
    "rejected",
    "messages",
    "role",
    "content",
    "from",
    "value",
    "replies",
    "text",
    "instances",
    "ranking",
    "completions",
    "history",
    "turns",
    "message_tree_id",
    "rank",
    "fields",
    "responses",
    "response-1",
    "metadata",
    "values",
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=200)
@given(value=json_values, file_format=st.sampled_from(Format.__args__))  # type: ignore[attr-defined]
def test_any_json_gives_records_or_data_errors(
    value: Any, file_format: Format, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("fuzz") / "x.jsonl"
    file.write_text(json.dumps(value), encoding="utf-8")
    with contextlib.suppress(DataError):
        read_file(file, file_format)


@settings(deadline=None, max_examples=100)
@given(content=st.binary(max_size=300), name=st.sampled_from(["x.csv", "x.json", "x.xlsx", "x.tsv", "x.txt"]))
def test_any_bytes_give_records_or_data_errors(
    content: bytes, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("fuzz") / name
    file.write_bytes(content)
    with contextlib.suppress(DataError):
        read_file(file)


# ---- real files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "file_format", "prompts", "demonstrations", "rankings"),
    [
        ("rankings/qa_feedback.jsonl", "chatwright", 0, 0, 385),
        ("rankings/oasst_trees.jsonl", "oasst", 79, 80, 172),
        ("rankings/hh_harmless.jsonl.gz", "hh", 0, 0, 1876),
        ("demonstrations/self_instruct_seed_tasks.jsonl", "self-instruct", 0, 175, 0),
        ("demonstrations/alpaca_zh_demo_not_human.json", "alpaca", 0, 1000, 0),
        ("formats/dpo_zh_demo_not_human.json", "sharegpt", 0, 0, 300),
        ("prompts/mt_bench_en.jsonl", "mt-bench", 80, 0, 0),
        ("prompts/mt_bench_zh.jsonl", "mt-bench", 80, 0, 0),
        ("prompts/oasst_prompts_en.jsonl", "text", 250, 0, 0),
        ("eval_safety/cvalues_zh.jsonl", "chatwright", 664, 0, 0),
        ("eval_tax/gsm8k_test.jsonl", "table", 0, 1319, 0),
        ("eval_truth/TruthfulQA.csv", "table", 817, 0, 0),
    ],
)
def test_real_files(
    name: str, file_format: str, prompts: int, demonstrations: int, rankings: int, shared_data: Path
) -> None:
    found = read_file(shared_data / name)
    assert found.bad == []
    assert (found.format, len(found.prompts), len(found.demonstrations), len(found.rankings)) == (
        file_format, prompts, demonstrations, rankings,
    )  # fmt: skip
    for record in (*found.prompts, *found.demonstrations, *found.rankings):
        assert type(record).from_dict(record.to_dict()) == record


@pytest.mark.parametrize(
    ("name", "longer", "ties"),
    [("qa_feedback.jsonl", 0.51, 0.106), ("oasst_trees.jsonl", 0.70, 0.0), ("hh_harmless.jsonl.gz", 0.44, 0.0)],
)
def test_length_and_ties_of_the_real_rankings(name: str, longer: float, ties: float, shared_data: Path) -> None:
    rankings = read_file(shared_data / "rankings" / name).rankings
    assert length_win_share(rankings) == pytest.approx(longer, abs=0.006)
    assert tie_share(rankings) == pytest.approx(ties, abs=0.001)
