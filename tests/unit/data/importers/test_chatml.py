"""ChatML texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatwright.data.importing import Imported, read_file
from chatwright.records import conversation, user, write_jsonl

ASKED = "<|im_start|>user\nq\nr<|im_end|>\n"


def read(tmp_path: Path, text: object) -> Imported:
    write_jsonl(tmp_path / "x.jsonl", [{"text": text}])
    return read_file(tmp_path / "x.jsonl", "chatml")


def test_it_is_recognised_and_raw_text_is_not(tmp_path: Path) -> None:
    for text, name in ((ASKED, "chatml"), ("Once upon a time <|im_start|>", "corpus")):
        write_jsonl(tmp_path / "x.jsonl", [{"text": text}])
        assert read_file(tmp_path / "x.jsonl").format == name


@pytest.mark.parametrize("opening", ["", "<|im_start|>assistant\n", "<|im_start|>assistant"])
def test_prompts_may_end_with_the_opening_of_an_answer(opening: str, tmp_path: Path) -> None:
    assert [p.messages for p in read(tmp_path, ASKED + opening).prompts] == [user("q\nr")]


def test_demonstrations(tmp_path: Path) -> None:
    text = "<|im_start|>system\ns<|im_end|>\n" + ASKED + "<|im_start|>assistant\na<|im_end|>"
    (found,) = read(tmp_path, text).demonstrations
    assert found.messages == conversation(("system", "s"), ("user", "q\nr"), ("assistant", "a"))


def test_tools_are_left_out(tmp_path: Path) -> None:
    found = read(tmp_path, ASKED + "<|im_start|>tool\n4<|im_end|>\n")
    assert found.num_records == 0 and found.left_out == {"uses tools": 1}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ASKED + "and more", "is not ChatML at character 31"),
        ("<|im_start|>user\nq", "is not ChatML at character 0"),
        ("<|im_start|>user\nq<|im_start|>assistant\na<|im_end|>", "does not end with"),
        (7, "must be a text"),
    ],
)
def test_what_is_damaged_is_named(text: object, reason: str, tmp_path: Path) -> None:
    found = read(tmp_path, text)
    assert reason in str(found.bad[0]) and found.num_records == 0
