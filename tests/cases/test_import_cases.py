"""Files as other projects write them, each with what an import must make of it: nothing is dropped in silence.

`inputs/` holds small files after public bug reports (D01 to D40); rows of the same kinds stand in the tables below.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatwright import cli
from chatwright.data.importing import KINDS, Imported, Row, read_file
from chatwright.errors import DataError
from chatwright.jsonl import Where
from chatwright.records import load_demonstrations, load_rankings
from chatwright.tabular.encodings import encoding_of

INPUTS = Path(__file__).parent / "inputs"


class Case(NamedTuple):
    """What a file gives; the counts are of records, `left_out` and `bad` of rows."""

    rankings: tuple[str, ...] = ()
    labelled: tuple[bool, ...] = ()
    demonstrations: int = 0
    prompts: int = 0
    samples: int = 0
    left_out: tuple[str, ...] = ()
    bad: int = 0
    marks: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()


NOT_LEARNED = "holds an answer that is not to be learned"
CASES = {
    "d01_kto_messages.json": Case(labelled=(True, False, True, False)),
    "d03_kto_int_label.jsonl": Case(labelled=(True, False)),
    "d03c_kto_bool_label.jsonl": Case(labelled=(True, False)),
    "d04_ultrafeedback_binarized.jsonl": Case(("A>B", "A>B"), marks=frozenset({"score_chosen", "score_rejected"})),
    "d05_nectar.jsonl": Case(("B>D>A>F>E>G>C",)),
    "d06_oasst_flat.jsonl": Case(("A>B",), demonstrations=1, prompts=1),
    "d07_oasst_float_rank.jsonl": Case(("A>B",), demonstrations=1, prompts=1),
    "d08_argilla_flat.json": Case(("A>B", "A>B")),
    "d09_argilla_v1_hub.json": Case(("A>B",)),
    "d11_lmsys_arena.csv": Case(("A>B", "A=B")),
    "d12_pku_saferlhf.jsonl": Case(("A>B",), marks=frozenset({"safer_response_id", "is_response_1_safe"})),
    "d13a_sharegpt_weight.json": Case(left_out=(NOT_LEARNED,)),
    "d13b_swift_loss.jsonl": Case(left_out=(NOT_LEARNED,)),
    "d13d_openai_weight.jsonl": Case(left_out=(NOT_LEARNED,)),
    "d14c_gbk.csv": Case(demonstrations=1),
    "d15_sep.csv": Case(demonstrations=1),
    "d15b_utf16.csv": Case(demonstrations=1),
    "d15c_utf16.jsonl": Case(demonstrations=1),
    "d15d_bom_crlf.jsonl": Case(demonstrations=2),
    "d16_dpo_odd.jsonl": Case(("A>B",), left_out=("differ before the last answer", "both answers are equal")),
    "d16b_rank_dupes.jsonl": Case(("A>B",), left_out=("equal answers are ranked one above the other",)),
    "d18_label_studio.json": Case(("B>A",), lost=frozenset({"email"})),
    "d19_alpaca_inputs.json": Case(demonstrations=4, left_out=("an empty message",)),
    "d20_ultrafeedback_openbmb.jsonl": Case(("A>B",)),
    "d21_mixed_openai.jsonl": Case(demonstrations=3),
    "d22_reasoning.jsonl": Case(demonstrations=1),
    "d23_rank_columns.csv": Case(("A>B",)),
    "d23b_preference_letter.csv": Case(("A>B", "A=B", "A>B")),
    "d24_pandas_nan.jsonl": Case(demonstrations=1, bad=1),
    "d24b_pandas_columns.json": Case(demonstrations=2),
    "d25_nested_data.json": Case(demonstrations=1),
    "d26_odd_turns.jsonl": Case(demonstrations=3, bad=1),
    "d30_crlf.xlsx": Case(demonstrations=3),
    "d31_merged_formulas.xlsx": Case(("A>B", "A>B"), bad=3),
    "d32_title_row.xlsx": Case(bad=2),
    "d34_csv_crlf_cells.csv": Case(demonstrations=2),
    "d35_semicolons.csv": Case(demonstrations=1),
    "d36_quotes.tsv": Case(demonstrations=1),
}


def check(found: Imported, expected: Case) -> None:
    assert tuple(str(ranking.order) for ranking in found.rankings) == expected.rankings
    assert tuple(answer.good for answer in found.labelled) == expected.labelled
    counts = (len(found.demonstrations), len(found.prompts), len(found.samples), len(found.bad))
    assert counts == (expected.demonstrations, expected.prompts, expected.samples, expected.bad), found.bad
    reasons = list(found.left_out.elements())
    assert len(reasons) == len(expected.left_out), reasons
    assert all(any(part in reason for reason in reasons) for part in expected.left_out), reasons
    assert expected.marks <= set(found.unused_marks) and expected.lost <= set(found.lost_fields)
    assert found.num_rows == sum(found.used.values()) + sum(found.left_out.values()) + len(found.bad)
    for record in (record for kind in KINDS for record in found.of_kind(kind)):
        assert type(record).from_dict(json.loads(json.dumps(record.to_dict()))) == record


@pytest.mark.parametrize("name", CASES)
def test_files(name: str) -> None:
    check(read_file(INPUTS / name), CASES[name])


def test_every_input_is_in_a_table() -> None:
    declared = {"d14_excel_ansi.csv", "d14b_excel_ansi_quote.csv", "d14e_latin.csv", "d17_openai_logs.jsonl"}
    assert {path.name for path in INPUTS.glob("d[0-9]*")} == set(CASES) | declared


ASK, GOOD, BAD = ({"role": role, "content": text} for role, text in (("user", "q"), ("assistant", "y"), ("assistant", "n")))
CHAT = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "y"}]
SAID = [ASK, GOOD]
AB = Case(("A>B",))
BA = Case(("B>A",))
TIE = Case(("A=B",))
ROWS: dict[str, tuple[list[Any], Case]] = {
    # answers marked good or bad
    "words": (
        [{"prompt": "q", "completion": "y", "label": word} for word in ("True", "false", "desirable", "👎")],
        Case(labelled=(True, False, True, False)),
    ),
    "numbers": (
        [{"messages": SAID, "label": number} for number in (1, 0, 1.0, -1)],
        Case(labelled=(True, False, True, False)),
    ),
    "kto_tag": (
        [{"conversations": CHAT, "kto_tag": True}, {"conversations": CHAT, "kto_tag": False}],
        Case(labelled=(True, False)),
    ),
    "alpaca kto": (
        [{"instruction": "q", "output": "y", "kto_tag": flag} for flag in (True, False)],
        Case(labelled=(True, False)),
    ),
    "thumbs down": (
        [{"prompt": "q", "completion": "y", "thumbs_down": flag} for flag in (1, 0)],
        Case(labelled=(False, True)),
    ),
    "is_safe": ([{"prompt": "q", "response": "y", "is_safe": flag} for flag in (True, False)], Case(labelled=(True, False))),
    "nested conversation kto": ([{"prompt": [ASK], "completion": [BAD], "label": "no"}], Case(labelled=(False,))),
    "mark missing in one row": (
        [{"prompt": "q", "completion": "y", "label": True}, {"prompt": "q", "completion": "y", "label": None}],
        Case(labelled=(True,), left_out=("without the mark",)),
    ),
    "classes are no marks": (
        [{"prompt": "q", "completion": "y", "label": n} for n in (0, 1, 2, 3)],
        Case(demonstrations=4, marks=frozenset({"class_label"})),
    ),
    "topics are no marks": ([{"prompt": "q", "completion": "y", "label": "art", "rating": 5}], Case(demonstrations=1)),
    "a rating is named": (
        [{"instruction": "q", "output": "y", "rating": 5}],
        Case(demonstrations=1, marks=frozenset({"rating"})),
    ),
    "rank of one answer is named": (
        [{"conversations": CHAT, "meta": {"human_score": 2}}],
        Case(demonstrations=1, marks=frozenset({"human_score"})),
    ),
    # weights and masks of messages
    "train false": ([{"conversations": [CHAT[0], {**CHAT[1], "train": False}]}], Case(left_out=(NOT_LEARNED,))),
    "loss 0.0": ([{"messages": [ASK, {**GOOD, "loss": 0.0}]}], Case(left_out=(NOT_LEARNED,))),
    "mask": ([{"messages": [ASK, {**GOOD, "mask": True}]}], Case(left_out=(NOT_LEARNED,))),
    "weight in words": ([{"messages": [ASK, {**GOOD, "weight": "0"}]}], Case(left_out=(NOT_LEARNED,))),
    "half a weight": ([{"messages": [ASK, {**GOOD, "weight": 0.5}]}], Case(left_out=("another weight",))),
    "weight 1": (
        [{"messages": [ASK, {**GOOD, "weight": 1}]}, {"conversations": [CHAT[0], {**CHAT[1], "loss": True}]}],
        Case(demonstrations=2),
    ),
    "row weight is named": (
        [{"instruction": "q", "output": "y", "sample_weight": 0.5}],
        Case(demonstrations=1, marks=frozenset({"sample_weight"})),
    ),
    # rankings
    "scores of a list": (
        [{"prompt": "q", "responses": [{"text": "a", "score": 1}, {"text": "b", "score": 3}, {"text": "c", "score": 3}]}],
        Case(("B=C>A",)),
    ),
    "parallel scores": ([{"instruction": "q", "generations": ["a", "b"], "ratings": [5, 4.5]}], AB),
    "parallel scores of completions": ([{"prompt": "q", "completions": ["a", "b"], "scores": [0.1, 0.2]}], BA),
    "one score missing": (
        [{"prompt": "q", "answers": [{"text": "a", "score": 1}, {"text": "b", "score": None}, {"text": "c", "score": 2}]}],
        Case(("C>A",)),
    ),
    "a list without marks": ([{"prompt": "q", "responses": ["a", "b"]}], Case(samples=1)),
    "samples of ours": ([{"prompt": "q", "completions": ["a", "b"], "finish_reason": ["stop", "stop"]}], Case(samples=1)),
    "a list as ranking": ([{"prompt": "q", "completions": ["a", "b", "c"], "ranking": [2, 3, 1]}], Case(bad=1)),
    "ten answers": (
        [{"prompt": "q", "answers": [{"text": f"t{n}", "rank": n} for n in range(11)]}],
        Case(("A>B>C>D>E>F>G>H>I",)),
    ),
    "arena": (
        [
            {"conversation_a": SAID, "conversation_b": [ASK, BAD], "winner": winner}
            for winner in ("model_a", "model_b", "tie (bothbad)")
        ],
        Case(("A>B", "B>A", "A=B")),
    ),
    "arena of two turns": (
        [{"conversation_a": SAID + SAID, "conversation_b": [ASK, BAD] + SAID, "winner": "model_a"}],
        Case(left_out=("differ before the last answer",)),
    ),
    "shp": (
        [{"question": "q", "human_ref_A": "a", "human_ref_B": "b", "labels": label} for label in (1, 0)],
        Case(("A>B", "B>A")),
    ),
    "helpsteer 3": (
        [{"context": [ASK], "response1": "a", "response2": "b", "overall_preference": n} for n in (-2, 0, 3)],
        Case(("A>B", "A=B", "B>A")),
    ),
    "webgpt": (
        [{"question": {"full_text": "q", "id": "1"}, "answer_0": "a", "answer_1": "b", "score_0": -1, "score_1": 1}],
        BA,
    ),
    "a winner by number": (
        [{"prompt": "q", "response_1": "a", "response_2": "b", "winner": n} for n in (1, 2, "2")],
        Case(("A>B", "B>A", "B>A")),
    ),
    "a number that names none": ([{"prompt": "q", "response_a": "a", "response_b": "b", "winner": 1}], Case(bad=1)),
    "the best of three": (
        [{"prompt": "q", "response_a": "a", "response_b": "b", "response_c": "c", "best": "B"}],
        Case(("A>B", "A>B")),
    ),
    "columns without marks": ([{"prompt": "q", "response_a": "a", "response_b": "b"}], Case(samples=1)),
    "swift pair": ([{"messages": SAID, "rejected_response": "n"}], AB),
    "pair beside messages": ([{"prompt": "q", "messages": SAID, "chosen": SAID, "rejected": [ASK, BAD]}], AB),
    "swift pair of conversations": ([{"messages": SAID, "rejected_messages": [ASK, BAD]}], AB),
    "better in the output": ([{"query": "q", "response": "y", "rejected_response": "n"}], AB),
    "stack exchange": ([{"question": "q", "response_j": "y", "response_k": "n"}], AB),
    "equal answers of three": (
        [{"prompt": "q", "completions": ["a", "a ", "b"], "ranking": "A>B>C"}],
        Case(left_out=("equal answers are ranked",)),
    ),
    "equal answers that tie": ([{"prompt": "q", "completions": ["a", "a ", "b"], "ranking": "A=B>C"}], Case(("A=B>C",))),
    "label studio, two sides": (
        [
            {
                "data": {"prompt": "q", "answer1": "a", "answer2": "b"},
                "annotations": [
                    {"completed_by": 3, "result": [{"type": "pairwise", "value": {"selected": "right"}}]},
                    {"was_cancelled": True, "result": []},
                ],
            }
        ],
        BA,
    ),
    # marks that say: not to be learned
    "a mark in a message": (
        [{"messages": [ASK, {**BAD, "label": False}]}, {"messages": [ASK, {**GOOD, "thumbs": "up"}]}],
        Case(demonstrations=1, left_out=("not to be learned (label)",)),
    ),
    "a weight of the row": (
        [{"messages": SAID, "weight": 0}, {"messages": SAID, "train": "false"}, {"messages": SAID, "weight": 2}],
        Case(demonstrations=1, left_out=("not to be learned (weight)", "not to be learned (train)")),
    ),
    "a weight of a pair": (
        [{"prompt": "q", "chosen": "y", "rejected": "n", "sample_weight": 0.0}],
        Case(left_out=("not to be learned (sample_weight)",)),
    ),
    "verdicts, and rows without one": (
        [{"messages": SAID, "label": word} for word in ("good", "bad", "unsure", "")],
        Case(labelled=(True, False), left_out=("without the mark",) * 2),
    ),
    "a status of review": (
        [{"messages": SAID, "status": word} for word in ("approved", "rejected", "pending")],
        Case(labelled=(True, False), left_out=("without the mark",)),
    ),
    "ranks and flags as texts": (
        [
            {
                "message_id": f"m{n}", "parent_id": "m0" if n else None, "text": f"t{n}",
                "role": "assistant" if n else "prompter", "rank": rank, "deleted": deleted, "review_result": "True",
            }
            for n, (rank, deleted) in enumerate([("", "False"), ("1.0", "False"), ("0.0", "False"), ("2.0", "True")])
        ],  # fmt: skip
        Case(("B>A",), demonstrations=1, prompts=1),
    ),
    "an integer of thousands of digits": ([{"prompt": "q", "n": 1}, {"prompt": "q"}], Case(prompts=1, bad=1)),
    # rows of several kinds in one file
    "pairs and prompts": ([{"prompt": "q"}, {"prompt": "q", "chosen": "y", "rejected": "n"}], Case(("A>B",), prompts=1)),
    "a plain row first": (
        [{"messages": SAID}, {"messages": SAID, "label": False}],
        Case(demonstrations=1, labelled=(False,)),
    ),
    "an odd row first": ([{"colour": "red"}, {"prompt": "q", "chosen": "y", "rejected": "n"}], Case(("A>B",), bad=1)),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows(name: str, tmp_path: Path) -> None:
    rows, expected = ROWS[name]
    text = "".join(json.dumps(row) + "\n" for row in rows).replace('"n": 1', '"n": ' + 5_000 * "9")
    (tmp_path / "x.jsonl").write_text(text, encoding="utf-8")
    check(read_file(tmp_path / "x.jsonl"), expected)


TABLES: dict[str, tuple[str, Case]] = {
    "score_1": ("prompt,answer_1,answer_2,score_1,score_2\nq,a,b,3,4.5\n", BA),
    "suffix first": ("question,response_a,response_b,response_a_score,response_b_score\nq,a,b,5,5\n", TIE),
    "a score that is no number": ("prompt,answer_1,answer_2,score_1,score_2\nq,a,b,good,4\n", Case(bad=1)),
    "no score at all": ("prompt,answer_1,answer_2,score_1,score_2\nq,a,b,,\n", Case(samples=1)),
    "better": ("prompt,response_a,response_b,better\nq,a,b,response_b\n", BA),
    "Chinese": ("问题,回答A,回答B,偏好\nq,a,b,B\nq,a,b,平局\n", Case(("B>A", "A=B"))),
    "Chinese scores": ("提示,回答1,回答2,评分1,评分2\nq,a,b,2,1\n", AB),
    "Chinese thumbs": ("问题,回答,评价\nq,a,好\nq,b,差\n", Case(labelled=(True, False))),
    "thumbs": (
        "prompt,response,thumbs\nq,a,up\nq,b,down\nq,c,\n",
        Case(labelled=(True, False), left_out=("without the mark",)),
    ),
    "order of letters": ("prompt,A,B,C,ranking\nq,a,b,c,C>A=B\n", Case(("C>A=B",))),
    "order of numbers": ("prompt,answer_1,answer_2,ranking\nq,a,b,2>1\n", BA),
    "winner left": ("prompt,response_a,response_b,winner\nq,a,b,left\nq,a,b,right\n", Case(("A>B", "B>A"))),
    "two winners": ("prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\nq,a,b,1,1,0\n", Case(bad=1)),
    "an error cell": ("prompt,completion\nq,#N/A\nq,#REF!\nq,a\n", Case(demonstrations=1, bad=2)),
    "a column without a name": ("prompt,completion,\nq,a,lost\nq,a,\n", Case(demonstrations=1, bad=1)),
    "sep=": ("sep=|\nprompt|completion\nq|a, b; c\n", Case(demonstrations=1)),
    "commas in a quoted header": ('"note, of the team, long";prompt;completion\nx;q;a\n', Case(demonstrations=1)),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables(name: str, tmp_path: Path) -> None:
    text, expected = TABLES[name]
    (tmp_path / "x.csv").write_text(text, encoding="utf-8")
    check(read_file(tmp_path / "x.csv"), expected)


OBJECTS: dict[str, tuple[Any, Case]] = {
    "rows": ({"rows": [{"row_idx": 0, "row": {"prompt": "q", "chosen": "y", "rejected": "n"}}]}, AB),
    "orient split": ({"columns": ["prompt", "completion"], "index": [0], "data": [["q", "a"]]}, Case(demonstrations=1)),
    "orient index": ({"0": {"prompt": "q"}, "1": {"prompt": "r"}}, Case(prompts=2)),
    "orient list": ({"prompt": ["q", "r"], "completion": ["a", "b"]}, Case(demonstrations=2)),
    "two lists of rows": ({"train": [{"prompt": "q"}], "test": [{"prompt": "r"}, {"prompt": "s"}]}, Case(prompts=1, bad=2)),
    "one row over many lines": ({"messages": SAID}, Case(demonstrations=1)),
    "one row in ShareGPT": ({"conversations": CHAT}, Case(demonstrations=1)),
}


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("indent", [None, 1])
def test_json_objects(name: str, indent: int | None, tmp_path: Path) -> None:
    value, expected = OBJECTS[name]
    (tmp_path / "x.json").write_text(json.dumps(value, indent=indent), encoding="utf-8")
    check(read_file(tmp_path / "x.json"), expected)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("x.json", '[{"prompt": "q"}][{"prompt": "r"}]', "x.json:1: array: is followed by more text"),
        ("x.json", '[{"prompt": "q"},\n', "x.json:2: array: has no end"),
        ("x.json", '{"data": [{"prompt": "q"},\n{"prompt": "r"}', "the file may be cut off"),
        ("x.csv", 'prompt,completion\nq,a\nq,"a\nr,b\n', "x.csv:3: row: opens a quote that is never closed"),
        ("x.csv", 'sep=;\nprompt;completion\nq;"a', "x.csv:3: row: opens a quote that is never closed"),
    ],
)
def test_a_file_that_ends_early_or_late_is_refused(name: str, text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(reason)):
        read_file(tmp_path / name)


def test_texts_of_cells() -> None:
    one = [d.answer for d in read_file(INPUTS / "d30_crlf.xlsx").demonstrations]
    assert one == ["First line.\nSecond line.\n", "A control sign: \x07", "The text _x000D_ stands for itself."]
    assert read_file(INPUTS / "d34_csv_crlf_cells.csv").demonstrations[0].answer == "First line.\nSecond line."
    prompts = {d.messages[0].content for d in read_file(INPUTS / "d19_alpaca_inputs.json").demonstrations}
    assert prompts == {"Name a tree."}
    thought = read_file(INPUTS / "d22_reasoning.jsonl").demonstrations[0].messages[-1]
    assert (thought.reasoning_content, thought.content) == ("two and two", "4")


def test_error_cells_of_a_workbook_are_named(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in (["prompt", "completion"], ["q", "#DIV/0!"], ["q", "a"]):
        book.active.append(row)
    book.save(tmp_path / "x.xlsx")
    found = read_file(tmp_path / "x.xlsx")
    assert [str(error).partition("x.xlsx:")[2] for error in found.bad] == [
        "2: completion: is the spreadsheet's error #DIV/0!, no text"
    ]


# ---- encodings ---------------------------------------------------------------------------------------------

GERMAN = "prompt;completion\nWas ist ein Fuchs?;Ein schönes Tier, das Mäuse frißt – größer als ein Igel, schöner als Öl.\n"
CHINESE = "prompt,completion\n什么是狐狸？,狐狸是一种生活在森林里的动物，它们会在晚上出来找吃的。\n"
KOREAN = "prompt,completion\n여우란?,여우는 개과에 속하는 포유동물이며 숲과 초원에서 살고 쥐와 토끼를 잡아먹는다.\n"
JAPANESE = "prompt,completion\n狐とは？,狐は犬科の哺乳類です。森や草原に住み、鼠や兎を食べます。夜に出てきます。\n"


@pytest.mark.parametrize(
    ("text", "encoding", "taken"),
    [
        (CHINESE, "utf-8", "utf-8"),
        (CHINESE, "utf-8-sig", "utf-8-sig"),
        (CHINESE, "utf-16", "utf-16"),
        (CHINESE, "utf-32", "utf-32"),
        (GERMAN, "utf-16-le", "utf-16-le"),
        (GERMAN, "utf-16-be", "utf-16-be"),
        (CHINESE, "gbk", "gb18030"),
        (CHINESE, "gb18030", "gb18030"),
        (GERMAN, "cp1252", None),
        (GERMAN.replace("–", "-"), "cp850", None),
        (KOREAN, "euc_kr", None),
        (JAPANESE, "shift_jis", None),
        (JAPANESE, "euc_jp", None),
        ("prompt\n狐狸\n", "gbk", None),
        ("prompt\nIt’s\n", "cp1252", None),
    ],
)
def test_encodings_are_taken_only_beyond_doubt(text: str, encoding: str, taken: str | None, tmp_path: Path) -> None:
    data = text.encode(encoding)
    assert encoding_of(data) == taken
    if taken is not None:
        assert data.decode(taken) == text


@pytest.mark.parametrize("name", ["d14_excel_ansi.csv", "d14b_excel_ansi_quote.csv", "d14e_latin.csv"])
def test_western_text_is_shown_and_not_guessed(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "import", str(INPUTS / name), "--out", str(tmp_path / "o")]
    assert cli.main(command) == 1
    said = capsys.readouterr().err
    first = (
        "schönes Tier, das Mäuse frißt" if "latin" in name else "café" if name == "d14_excel_ansi.csv" else "It’s an animal."
    )
    assert f"{name}:2:" in said and "--encoding" in said and first in said and not (tmp_path / "o").exists()
    assert cli.main([*command, "--encoding", "cp1252"]) == 0
    written = (tmp_path / "o" / "demonstrations.jsonl").read_text(encoding="utf-8")
    assert ("’" in written or "ß" in written) and "鰊" not in written


def test_json_lines_in_another_encoding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.jsonl"
    file.write_bytes('{"prompt": "a", "completion": "b"}\n{"prompt": "Grün?", "completion": "schön"}\n'.encode("cp1252"))
    assert cli.main(["data", "check", str(file)]) == 1
    assert "x.jsonl:2: line: is not UTF-8" in (said := capsys.readouterr().out) and "Grün?" in said and "--encoding" in said
    assert cli.main(["data", "check", str(file), "--encoding", "latin-1"]) == 0
    assert cli.main(["data", "check", str(file), "--encoding", "klingon"]) == 2
    assert cli.main(["data", "check", str(file), "--encoding", "ascii"]) == 1
    assert "name another --encoding" in capsys.readouterr().err


# ---- the command -------------------------------------------------------------------------------------------


def test_an_earlier_import_is_not_replaced_in_silence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "o")
    first, second = str(INPUTS / "d19_alpaca_inputs.json"), str(INPUTS / "d23_rank_columns.csv")
    assert cli.main(["data", "import", first, "--out", out]) == 0
    assert cli.main(["data", "import", second, "--out", out]) == 2
    assert "demonstrations.jsonl" in (said := capsys.readouterr().err) and "--append" in said and "--replace" in said
    assert cli.main(["data", "import", second, "--out", out, "--append", "--replace"]) == 2
    assert cli.main(["data", "import", second, first, "--out", out, "--append"]) == 0
    assert len(load_demonstrations(f"{out}/demonstrations.jsonl")) == 8
    assert cli.main(["data", "import", second, "--out", out, "--replace"]) == 0
    assert "removed" in capsys.readouterr().out and sorted(p.name for p in Path(out).iterdir()) == ["rankings.jsonl"]
    assert len(load_rankings(f"{out}/rankings.jsonl")) == 1


def test_the_account_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [*ROWS["train false"][0], {"conversations": CHAT, "rating": 1, "chosen_by": "x"}, {"conversations": 3}]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert cli.main(["data", "import", str(tmp_path / "x.jsonl"), "--out", str(tmp_path / "o")]) == 0
    said = capsys.readouterr().out
    for part in (
        "3 rows = 1 used + 1 left out + 1 damaged",
        "used: 1 rows as demonstrations",
        f"left out: 1 x {NOT_LEARNED}",
        "(first: line 1)",
        "rating (1 rows)",
        "x.jsonl:3: conversations: must be a list",
    ):
        assert part in said, said


def test_training_refuses_marked_rows(tmp_path: Path) -> None:
    for mark in ({"label": False}, {"label": 0}, {"kto_tag": True}, {"thumbs": "down"}, {"is_bad": True}):
        (tmp_path / "x.jsonl").write_text(json.dumps({"messages": SAID, **mark}), encoding="utf-8")
        with pytest.raises(DataError, match="marks the answer as good or bad"):
            load_demonstrations(tmp_path / "x.jsonl")
    for mark in ({"loss": False}, {"trainable": 0}, {"label": "bad"}):
        (tmp_path / "x.jsonl").write_text(json.dumps({"messages": [ASK, {**GOOD, **mark}]}), encoding="utf-8")
        with pytest.raises(DataError, match=f"{next(iter(mark))}: is not supported"):
            load_demonstrations(tmp_path / "x.jsonl")
    (tmp_path / "x.jsonl").write_text(json.dumps({"messages": SAID, "weight": 0}), encoding="utf-8")
    with pytest.raises(DataError, match="weight: is 0: the row is not to be learned"):
        load_demonstrations(tmp_path / "x.jsonl")


def test_check_tells_odd_turns_and_labellers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "check", str(INPUTS / "d26_odd_turns.jsonl")]) == 1
    said = capsys.readouterr().out
    for way in ("a system message that is not the first", "the assistant speaks first", "the same role twice in a row"):
        assert f"odd turns, which some chat templates refuse: 1 x {way}" in said
    ranked = {"prompt": "q", "completions": ["a", "b"], "ranking": "A>B", "labeller": "ann"}
    (tmp_path / "r.jsonl").write_text(json.dumps(ranked), encoding="utf-8")
    assert cli.main(["data", "check", str(tmp_path / "r.jsonl")]) == 0
    assert "kind of labeller: not stated 1; 1 labellers by name" in capsys.readouterr().out


def test_check_says_which_files_training_does_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in (json.dumps([{"messages": SAID}]), json.dumps([{"messages": SAID}], indent=1)):
        (tmp_path / "a.json").write_text(text, encoding="utf-8")
        assert cli.main(["data", "check", str(tmp_path / "a.json")]) == 0
        assert "to train on it: chatwright data import" in capsys.readouterr().out
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": SAID}), encoding="utf-8")
    assert cli.main(["data", "check", str(tmp_path / "a.jsonl")]) == 0
    assert "data import" not in capsys.readouterr().out


# ---- the invariant -----------------------------------------------------------------------------------------

ANY_ROW = st.sampled_from([row for rows, _ in ROWS.values() for row in rows] + ["text", 3, None, [1], {}])
MUTATED = st.tuples(
    ANY_ROW,
    st.sampled_from(["", "label", "chosen", "rank", "weight", "prompt", "winner", "messages", "completions", "score_1"]),
    st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(["", "A", "good", "A>B"]) | st.just([]) | st.just({}),
).map(lambda made: {**made[0], made[1]: made[2]} if made[1] and isinstance(made[0], dict) else made[0])


@settings(deadline=None, max_examples=150)
@given(rows=st.lists(MUTATED, min_size=1, max_size=6))
def test_every_row_is_accounted_for(rows: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("any") / "x.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    try:
        found = read_file(file)
    except DataError:
        return  # refused as a whole
    assert found.num_rows == len(rows) == sum(found.used.values()) + sum(found.left_out.values()) + len(found.bad)
    assert (found.num_records > 0) == any(found.used.values()) or found.num_documents
    marked_bad = {json.dumps(row) for row in rows if isinstance(row, dict) and row.get("label") is False}
    if marked_bad and all(isinstance(row, dict) and isinstance(row.get("label", True), bool) for row in rows):
        names = {name for demonstration in found.demonstrations for name in demonstration.meta}
        assert not names & {"label", "class_label"}, "a bad answer became a demonstration"


def test_an_account_that_does_not_balance_is_an_error() -> None:
    account = Imported(Path("x"), "chatwright")
    account.take(Row((Where("x", 1),), {}, "chatwright", []))
    assert account.close().left_out == Counter({"it holds nothing of use": 1})
    account.num_rows += 1
    with pytest.raises(RuntimeError, match="2 rows were read and 1 accounted for"):
        account.close()


@pytest.mark.parametrize("how", ["--append", "--replace"])
def test_an_import_never_writes_over_the_file_that_it_reads(
    tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = tmp_path / "demonstrations.jsonl"
    given.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n', encoding="utf-8")
    before = given.read_bytes()
    assert cli.main(["data", "import", str(given), "--out", str(tmp_path), how]) == 2
    assert "would overwrite" in capsys.readouterr().err and given.read_bytes() == before
