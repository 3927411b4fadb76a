"""Argilla's own rows, as its SDK 2.x, its feedback records 1.x and its HTTP API give them."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatwright.data.exporting import export_records
from chatwright.data.importers.argilla import argilla_row
from chatwright.data.importing import Imported, read_file
from chatwright.errors import DataError
from chatwright.records import IN_MEMORY, Demonstration, Ranking, WeakOrder, conversation, user, write_jsonl

FIELDS = {"prompt": "q", "response-1": "one", "response-2": "two", "response-3": "three"}


def read(tmp_path: Path, *rows: Any) -> Imported:
    file = tmp_path / "x.jsonl"
    write_jsonl(file, rows)
    return read_file(file)


def new(fields: dict[str, Any], responses: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A row of the SDK 2.x."""
    return {"id": "1", "fields": fields, "metadata": {}, "suggestions": {}, "responses": responses, "vectors": {}, **more}


def test_each_user_is_a_ranking(tmp_path: Path) -> None:
    answers = [
        {"value": ["response-2", "response-1", "response-3"], "user_id": "u1"},
        {"value": ["response-3", "response-2", "response-1"], "user_id": "u2"},
    ]
    found = read(tmp_path, new(FIELDS, {"ranking": answers, "rating-2": [{"value": 6, "user_id": "u1"}]}))
    assert found.format == "argilla"
    one, other = found.rankings
    assert one.messages == user("q") and one.completions == ("one", "two", "three")
    assert str(one.order) == "B>A>C" and str(other.order) == "C>B>A"
    assert (one.labeller, one.labeller_kind, one.meta["source"]) == ("u1", "human", "argilla")
    assert one.likert == (None, 6, None) and other.likert is None


def test_feedback_records_of_version_1_hold_ties_and_states(tmp_path: Path) -> None:
    value = [{"value": "reply_1", "rank": 1}, {"value": "reply_2", "rank": 2}, {"value": "reply_3", "rank": 2}]
    row = {
        "fields": {"instruction": "q", "reply_1": "a", "reply_2": "b", "reply_3": "c"}, "external_id": "e",
        "metadata": {"topic": "art"},
        "responses": [
            {"user_id": "u1", "status": "submitted", "values": {"reply-ranking": {"value": value}}},
            {"user_id": "u2", "status": "discarded", "values": {"reply-ranking": {"value": value}}},
            {"user_id": "u3", "status": "submitted", "values": {"topics": {"value": ["x", "y"]}}},
        ],
        "suggestions": [{"question_name": "reply-ranking", "value": value}],
    }  # fmt: skip
    found = read(tmp_path, row)
    (ranking,) = found.rankings
    assert str(ranking.order) == "A>B=C" and ranking.meta["topic"] == "art"
    assert found.parts == {
        "a response that was not submitted": 1, "a suggestion, which is no person's answer": 1,
        "a response without a ranking of the record's answers": 1,
    }  # fmt: skip


def test_partial_rankings_leave_answers_unranked(tmp_path: Path) -> None:
    found = read(tmp_path, new(FIELDS, {"ranking": [{"value": ["response-3", "response-1"], "user_id": "u"}]}))
    assert str(found.rankings[0].order) == "C>A" and found.rankings[0].order.unranked == ("B",)


def test_texts_are_demonstrations_and_bare_records_prompts(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "q"}]
    found = read(
        tmp_path, new({"prompt": chat}, {"response": [{"value": "mine", "user_id": "u"}]}),
        new({"prompt": "p"}, {}), new({"question": "only rated"}, {"quality": [{"value": 3, "user_id": "u"}]}),
    )  # fmt: skip
    assert [d.messages for d in found.demonstrations] == [conversation(("user", "q"), ("assistant", "mine"))]
    assert [p.messages for p in found.prompts] == [user("p"), user("only rated")]


def test_what_was_exported_and_ranked_anew_in_argilla(tmp_path: Path) -> None:
    ranking = Ranking(messages=user("q"), completions=("a", "b"), order=WeakOrder((1, 1)), labeller="ann", uuid="u-1")
    (row,) = export_records([ranking], "argilla").rows["rankings"]
    row["responses"]["ranking"] = [{"value": ["response-2", "response-1"], "user_id": "somebody"}]
    kept, more = read(tmp_path, row).rankings
    assert kept == ranking and str(more.order) == "B>A" and more.labeller == "somebody"


def test_an_order_changed_by_its_labeller_counts(tmp_path: Path) -> None:
    ranking = Ranking(messages=user("q"), completions=("a", "b"), order=WeakOrder((1, 2)), labeller="ann")
    (row,) = export_records([ranking], "argilla").rows["rankings"]
    row["responses"]["ranking"][0]["value"].reverse()
    (got,) = read(tmp_path, row).rankings
    assert str(got.order) == "B>A"


def test_an_edited_demonstration_is_read_as_edited(tmp_path: Path) -> None:
    mine = Demonstration(messages=conversation(("user", "q"), ("assistant", "a")), meta={"topic": "art"})
    (row,) = export_records([mine], "argilla").rows["demonstrations"]
    row["responses"]["response"][0]["value"] = "better"
    (got,) = read(tmp_path, row).demonstrations
    assert got.answer == "better" and got.meta == {"topic": "art"}


NAMES = st.sampled_from("prompt response-1 response-2 ranking rating-1 value rank user_id chatwright".split())
LEAVES = st.none() | st.booleans() | st.integers(-3, 9) | st.sampled_from(["response-1", "q", "", "A>B", "{}"])
ANY = st.recursive(LEAVES, lambda of: st.lists(of, max_size=3) | st.dictionaries(NAMES, of, max_size=4), max_leaves=12)
FIELD_SETS = st.fixed_dictionaries({"prompt": st.just("q") | ANY}, optional={"response-1": LEAVES, "response-2": LEAVES})
ROWS = st.fixed_dictionaries({"fields": FIELD_SETS | ANY}, optional={"responses": ANY, "metadata": ANY, "suggestions": ANY})


@given(row=ROWS)
@settings(max_examples=300, deadline=None)
def test_any_row_gives_records_or_data_errors(row: dict[str, Any]) -> None:
    with contextlib.suppress(DataError):
        argilla_row(row, IN_MEMORY)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"fields": 3, "responses": []}, "an Argilla record has fields"),
        (new({"colour": "red"}, {}), "none is named prompt"),
        (new(FIELDS, {"ranking": ["response-1"]}), "must be an object with a value"),
        ({"fields": FIELDS, "responses": [{"user_id": "u"}]}, "must be an object with values"),
        (new({"prompt": "q"}, {}, metadata={"chatwright": "{"}), "not the JSON object"),
        (new({"prompt": "q"}, {}, metadata={"chatwright": "[" * 100_000}), "not the JSON object"),
        (new(FIELDS, {"ranking": [{"value": [{"value": "response-1", "rank": 1e400}], "user_id": "u"}]}), ""),
    ],
)
def test_damaged_rows_are_named(row: Any, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(json.dumps(row) + "\n")
    found = read_file(file, "argilla")
    assert reason in (str(found.bad[0]) if found.bad else " ".join(found.left_out)) and not found.rankings
