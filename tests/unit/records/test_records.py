"""Records in and out of JSON lines; every bad row is named."""

from __future__ import annotations

import codecs
import contextlib
import errno
import gzip
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatwright import jsonl
from chatwright.errors import DataError
from chatwright.records import (
    Demonstration,
    Prompt,
    Ranking,
    WeakOrder,
    conversation,
    conversation_id,
    load_demonstrations,
    load_prompts,
    load_rankings,
    read_jsonl,
    user,
    write_jsonl,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)


def _write(path: Path, *rows: Any) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return path


def test_both_row_forms_are_read_and_other_fields_kept(tmp_path: Path) -> None:
    file = _write(
        tmp_path / "p.jsonl",
        {"prompt": "Why?", "topic": "bees", "keywords": ["honey"]},
        {"messages": [{"role": "user", "content": "Why?"}]},
        {"prompt": "Why?", "system": "Be brief."},
    )
    first, second, third = load_prompts(file)
    assert first.meta == {"topic": "bees", "keywords": ["honey"]} and first.messages == second.messages
    assert first.id == second.id != third.id
    assert third.messages == conversation(("system", "Be brief."), ("user", "Why?"))
    assert first.to_dict() == {
        "messages": [{"role": "user", "content": "Why?"}],
        "topic": "bees",
        "keywords": ["honey"],
    }


def test_ids_are_pinned() -> None:
    """Splits are made by them: a changed id would move prompts between training and held-out data."""
    assert Prompt(messages=user("Why do bees make honey?")).id == PINNED_ID
    assert Prompt(messages=user("a"), meta={"x": 1}).id == Prompt(messages=user("a")).id


PINNED_ID = "3fc421f0d0d297cc"


def test_demonstrations(tmp_path: Path) -> None:
    file = _write(tmp_path / "d.jsonl", {"prompt": "Why?", "completion": "So.", "topic": "t"})
    (one,) = load_demonstrations(str(file))
    assert one.answer == "So." and one.prompt == Prompt(messages=user("Why?"), meta={"topic": "t"})
    assert Demonstration.from_dict(one.to_dict()) == one


@given(st.lists(texts, min_size=2, max_size=9), texts, st.data())
def test_rankings_round_trip_with_every_field(answers: list[str], question: str, data: st.DataObject) -> None:
    k = len(answers)
    ranks = data.draw(st.lists(st.none() | st.integers(0, 4), min_size=k, max_size=k).filter(any_ranked))
    ranking = Ranking(
        messages=conversation(("system", "s"), ("user", question)),
        completions=tuple(answers),
        order=WeakOrder.from_ranks(ranks),
        context=({"title": "t", "text": "passage"}, "more"),
        likert=tuple(data.draw(st.lists(st.none() | st.integers(1, 7), min_size=k, max_size=k))),
        flags=tuple(("hallucination",) if n == 0 else () for n in range(k)),
        labeller="ann",
        labeller_kind="human",
        shown_order=tuple(data.draw(st.permutations(range(k)))),
        guideline="v1",
        seconds={"read": 3.5, "rank": 2},
        uuid="u-1",
        meta={"model": "m", "finish_reason": ["stop"] * k},
    )
    row = json.loads(json.dumps(ranking.to_dict()))
    assert Ranking.from_dict(row) == ranking
    bare = Ranking(messages=user(question), completions=tuple(answers), order=WeakOrder.from_ranks(ranks))
    assert set(bare.to_dict()) - {"unranked"} == {"messages", "completions", "ranking"}
    assert Ranking.from_dict(bare.to_dict()) == bare


def any_ranked(ranks: list[int | None]) -> bool:
    return any(rank is not None for rank in ranks)


@pytest.mark.parametrize(
    ("meta", "ended"),
    [
        ({}, (True, True)),
        ({"finish_reason": ["stop", "length"]}, (True, False)),
        ({"finish_reason": "length"}, (False, False)),
        ({"completion_meta": [{"finish_reason": "length"}, {}]}, (False, True)),
        ({"completion_meta": [{"finish_reason": "length"}]}, (True, True)),
    ],
)
def test_whether_answers_ended(meta: dict[str, Any], ended: tuple[bool, ...]) -> None:
    ranking = Ranking(messages=user("q"), completions=("a", "b"), order=WeakOrder((1, 2)), meta=meta)
    assert ranking.ended == ended


RANKING = {"prompt": "q", "completions": ["a", "b"], "ranking": "A>B"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": 3}, "prompt: must be a text, not a number"),
        ({"prompt": " "}, "prompt: the last message is empty"),
        ({"completions": ["a"]}, "completions: holds 1"),
        ({"completions": ["a"] * 10}, "completions: holds 10"),
        ({"completions": "ab"}, "completions: must be a list, not a text"),
        ({"completions": ["a", None]}, r"completions\[1\]: is missing"),
        ({"completions": ["a", {"text": "b"}]}, r"completions\[1\]: must be a text, not an object"),
        ({"ranking": None}, "ranking: is missing"),
        ({"ranking": "A>C"}, "ranking: 'C' is not one of the letters A..B"),
        ({"ranking": "A"}, 'ranking: B missing in .* list it in "unranked"'),
        ({"ranking": "A>B", "unranked": ["B"]}, "ranking: B is ranked and listed"),
        ({"unranked": [1]}, r"unranked\[0\]: must be a text"),
        ({"likert": [1, 8]}, "likert: must hold 2 ratings from 1 to 7"),
        ({"likert": [True, 2]}, "likert: must hold 2"),
        ({"flags": [["x"]]}, "flags: must hold 2 lists"),
        ({"labeller_kind": "robot"}, "labeller_kind: is 'robot'; use one of human, simulated, ai"),
        ({"shown_order": ["A", "A"]}, "shown_order: must name each of the 2"),
        ({"shown_order": "AC"}, "shown_order: 'C' is not one"),
        ({"seconds": -1}, "seconds: must be a number"),
        ({"seconds": {"read": "long"}}, "seconds: must be a number"),
        ({"context": [{"title": "x"}]}, r"context\[0\]: is missing"),
    ],
)
def test_bad_ranking_rows_name_file_line_field_and_reason(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = _write(tmp_path / "r.jsonl", RANKING, "", {**RANKING, **change})
    with pytest.raises(DataError, match=rf"r\.jsonl:3: {message}"):
        load_rankings(file)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"promp": "x"}, r"messages: is missing; .*\(found: promp\)"),
        ({"messages": []}, "messages: is empty"),
        ({"messages": ["x"]}, r"messages\[0\]: must be"),
        ({"messages": [{"role": "human", "content": "x"}]}, r"messages\[0\].role: is 'human'; use one of system, user"),
        ({"messages": [{"role": "user", "content": None}]}, r"messages\[0\].content: is missing"),
        ({"messages": [{"role": "user", "content": "x", "weight": 0}]}, r"messages\[0\].weight: is not supported"),
        ({"messages": [{"role": "user", "content": "x"}]}, "messages: ends with a user message"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages: has no user message"),
        ({"prompt": "x"}, "completion: is missing"),
        ({"prompt": "x", "completion": " "}, "completion: the answer is empty"),
        ("[1]", "line: must be a JSON object, not a list"),
        ('{"prompt": "x", "completion": NaN}', "line: NaN is not JSON"),
        ('{"prompt": "x", "completion": 1e999}', "line: holds a number too large"),
        ('{"prompt": "\\ud800", "completion": "y"}', "line: holds half a surrogate pair"),
        ('{"prompt": ' + "[" * 100_000, "line: is "),
        ('{"prompt": ' + "[" * 300 + "]" * 300 + "}", "line: is nested deeper than 200"),
        ('{"prompt": "x"', "line: is not JSON: .* at column"),
        ("{", "line: is not JSON"),
        ("hello world", r"line: is not JSON: an object such as .* was expected on every line, not the text 'hello world'"),
        ("x" * 100, r"line: is not JSON: .*not the text 'x{30}\.\.\.'"),
    ],
)
def test_bad_demonstration_rows(row: Any, message: str, tmp_path: Path) -> None:
    file = _write(tmp_path / "d.jsonl", row)
    with pytest.raises(DataError, match=rf"1 row is not usable \(0 good\):\n  .*d\.jsonl:1: {message}"):
        load_demonstrations(file)


def test_thoughts_and_tool_calls_stay_with_their_messages() -> None:
    call = {"id": "call00001", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    as_text = call | {"function": {"name": "add", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": None, "tool_calls": [as_text]},
        {"role": "tool", "content": "2", "name": "add", "tool_call_id": "call00001"},
        {"role": "assistant", "content": "2", "reasoning_content": "easy"},
    ]
    row = {"messages": messages, "tools": [{"type": "function"}]}
    found = Demonstration.from_dict(row)
    kept = messages[1] | {"content": "", "tool_calls": [call]}
    assert found.to_dict() == row | {"messages": [messages[0], kept, *messages[2:]]}
    assert Demonstration.from_dict(found.to_dict()) == found
    plain = [m | {"reasoning_content": ""} for m in messages]
    assert Demonstration.from_dict({"messages": plain}).prompt.id == found.prompt.id
    assert conversation_id(found.messages) != conversation_id(Demonstration.from_dict({"messages": plain}).messages)


@pytest.mark.parametrize(
    ("role", "fields", "error"),
    [
        ("user", {"reasoning_content": "y"}, "reasoning_content: belongs to a message of the assistant"),
        ("user", {"tool_calls": [{"name": "f"}]}, "tool_calls: belongs to a message of the assistant"),
        ("assistant", {"tool_calls": "f"}, "tool_calls: must be a list"),
        ("assistant", {"tool_calls": ["f"]}, r"tool_calls\[0\]: must be"),
        ("assistant", {"tool_calls": [{"name": "f", "arguments": "{"}]}, "arguments: is not JSON"),
        ("assistant", {"tool_calls": [{"name": "f", "arguments": [1]}]}, "arguments: must be an object"),
        ("assistant", {"tool_calls": [{"arguments": {}}]}, "name: is missing"),
        ("assistant", {"reasoning_content": 3}, "reasoning_content: must be a text"),
    ],
)
def test_damaged_thoughts_and_tool_calls_are_named(role: str, fields: dict[str, Any], error: str) -> None:
    with pytest.raises(DataError, match=error):
        Prompt.from_dict({"messages": [{"role": role, "content": "x", **fields}, {"role": "user", "content": "go"}]})


def test_many_bad_rows_are_counted_and_the_first_five_shown(tmp_path: Path) -> None:
    file = _write(tmp_path / "p.jsonl", {"prompt": "x"}, *[{"prompt": n} for n in range(8)])
    with pytest.raises(DataError) as caught:
        load_prompts(file)
    message = str(caught.value)
    assert message.startswith("8 rows are not usable (1 good):") and message.count("p.jsonl:") == 5
    assert "... and 3 more" in message and "data check" in message
    bad: list[DataError] = []
    assert len(load_prompts(file, bad=bad)) == 1 and len(bad) == 8


def test_no_rows_is_an_error_but_no_files_is_none(tmp_path: Path) -> None:
    assert load_prompts(()) == []
    with pytest.raises(DataError, match="there are no rows"):
        load_prompts([_write(tmp_path / "p.jsonl", "", "  ")])
    with pytest.raises(DataError, match="cannot be read: No such file"):
        load_prompts(tmp_path / "absent.jsonl")


# ---- files -------------------------------------------------------------------------------------------------


def test_byte_order_mark_crlf_gzip_and_blank_lines(tmp_path: Path) -> None:
    body = b'{"prompt": "\xe4\xbd\xa0\xe5\xa5\xbd"}\r\n\r\n{"prompt": "b"}'
    (tmp_path / "a.jsonl").write_bytes(codecs.BOM_UTF8 + body)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(body))
    (tmp_path / "c.jsonl").write_bytes(gzip.compress(body))  # told by its bytes, not by its name
    for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl"):
        assert [p.messages[0].content for p in load_prompts(tmp_path / name)] == ["你好", "b"]
        assert [line for line, _ in read_jsonl(tmp_path / name)] == [1, 3]


def test_a_line_separator_inside_a_text_does_not_split_the_row(tmp_path: Path) -> None:
    text = "a\u2028b\x85c\x0bd"
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": text}, ensure_ascii=False), encoding="utf-8")
    assert load_prompts(tmp_path / "p.jsonl")[0].messages[0].content == text


def test_damaged_files_are_named(tmp_path: Path) -> None:
    packed = gzip.compress(b'{"prompt": "x"}\n' * 1000)
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[:-12])
    with pytest.raises(DataError, match="cut.jsonl.gz: the gzip data is damaged or cut off"):
        load_prompts(tmp_path / "cut.jsonl.gz")
    (tmp_path / "latin.jsonl").write_bytes('{"prompt": "é"}\n{"prompt": "b"}'.encode("latin-1"))
    with pytest.raises(DataError, match="latin.jsonl:1: line: is not UTF-8 at byte 12"):
        load_prompts(tmp_path / "latin.jsonl")


def test_a_gzip_bomb_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "FREE_UNPACKED_BYTES", 2**20)
    (tmp_path / "bomb.jsonl.gz").write_bytes(gzip.compress(b"\n" * 50_000_000))
    with pytest.raises(DataError, match="bomb.jsonl.gz: unpacks to more than"):
        load_prompts(tmp_path / "bomb.jsonl.gz")


def test_an_endless_line_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 1000)
    with pytest.raises(DataError, match="p.jsonl:1: line: is longer"):
        load_prompts(_write(tmp_path / "p.jsonl", {"prompt": "x" * 2000}))


@given(rows=st.lists(st.dictionaries(texts, st.none() | texts | st.integers() | st.lists(texts)), max_size=4))
def test_what_is_written_is_read(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("rows") / "deep" / "x.jsonl"
    assert write_jsonl(file, rows) == len(rows)
    assert [row for _, row in read_jsonl(file)] == rows


def test_writing_is_all_or_nothing(tmp_path: Path) -> None:
    file = _write(tmp_path / "x.jsonl", {"old": 1})
    for bad in (float("nan"), "\ud800", object()):
        with pytest.raises(DataError, match="x.jsonl: row 2: cannot be written"):
            write_jsonl(file, [{"a": 1}, {"a": bad}])
    assert file.read_text() == '{"old": 1}\n' and os.listdir(tmp_path) == ["x.jsonl"]
    old = os.umask(0o022)
    try:
        write_jsonl(tmp_path / "y.jsonl", [{"a": 1}])
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "y.jsonl").stat().st_mode) == 0o644


@given(content=st.binary(max_size=200))
def test_any_bytes_give_rows_or_a_data_error(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("fuzz") / "x.jsonl"
    file.write_bytes(content)
    for load in (load_prompts, load_demonstrations, load_rankings):
        with contextlib.suppress(DataError):
            load(file)


def test_the_shared_rankings_are_read_whole(shared_data: Path) -> None:
    rankings = load_rankings(shared_data / "rankings" / "qa_feedback.jsonl")
    assert len(rankings) == 385 and {r.order.k for r in rankings} == {4}
    assert sum(any(relation == 0 for *_, relation in r.order.pairs()) for r in rankings) == 141
    assert sum(bool(r.context) for r in rankings) > 370


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device: .*rows.jsonl"):
        write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "x"}])
    assert not list(tmp_path.iterdir())
