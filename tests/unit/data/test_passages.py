"""Passages (`context`) of a row reach every stage in the same way (core B1)."""

from __future__ import annotations

from typing import Any

import pytest

from chatwright.data import prompts, rankings, sft
from chatwright.data.passages import prompt_tokens
from chatwright.errors import DataError
from chatwright.generation.answers import sample_answers
from chatwright.generation.api import SamplingParams
from chatwright.records import Demonstration, Prompt, Ranking
from chatwright.text.tokenizer import Tokenizer

CONTEXT = [{"title": "Hives", "text": "Bees live in hives."}, "Honey is sweet."]
ROW = {"messages": [{"role": "user", "content": "Why honey?"}], "context": CONTEXT}
TEXT = "Hives\nBees live in hives.\n\nHoney is sweet.\n\nWhy honey?"


def test_every_stage_gives_the_model_the_same_prompt(tokenizer: Tokenizer) -> None:
    prompt = Prompt.from_dict(ROW)
    ranking = Ranking.from_dict({**ROW, "completions": ["a", "b"], "ranking": "A>B"})
    demonstration = Demonstration.from_dict(
        {**ROW, "messages": [*ROW["messages"], {"role": "assistant", "content": "To eat."}]}  # type: ignore[misc]
    )
    expected, cut = prompt_tokens(prompt, tokenizer, 512)
    assert TEXT in tokenizer.decode(expected) and not cut
    (ranked,) = rankings.load_examples([ranking], tokenizer, max_tokens=512)
    (asked,) = prompts.load_examples([prompt], tokenizer)
    (taught,) = sft.load_examples([demonstration], tokenizer, max_tokens=512)
    assert ranked.prompt_ids == asked.ids == expected == taught.ids[: len(expected)]

    class Generator:
        """Takes the place of the model."""

        class model:
            class config:
                max_positions = 512

        def generate(self, ids: Any, params: Any, **more: Any) -> Any:
            return ids

    params = SamplingParams(max_new_tokens=8)
    assert sample_answers(Generator(), tokenizer, [prompt], params, n=1, seed=0, title="x") == [expected]  # type: ignore[arg-type, comparison-overlap]


def test_rows_with_passages_come_back_as_they_were() -> None:
    prompt = Prompt.from_dict(ROW)
    assert prompt.to_dict() == ROW and prompt.full_messages[-1].content == TEXT
    ranking = Ranking.from_dict({**ROW, "completions": ["a", "b"], "ranking": "A>B"})
    assert ranking.to_dict()["context"] == CONTEXT and ranking.prompt.full_messages == prompt.full_messages
    assert ranking.prompt.id == prompt.id, "an id is of the messages"
    for none in ({}, {"context": None}, {"context": ""}, {"context": []}):
        assert Prompt.from_dict({"prompt": "Why?", **none}).full_messages[-1].content == "Why?"


@pytest.mark.parametrize("wrong", [3, {"text": "x"}, [1], [{"title": "no text"}]])
@pytest.mark.parametrize("kind", [Prompt, Demonstration])
def test_what_is_no_passage_is_refused_in_every_kind_of_row(wrong: Any, kind: Any) -> None:
    with pytest.raises(DataError, match="context"):
        kind.from_dict({"prompt": "Why?", "completion": "So.", "context": wrong})


def test_passages_are_cut_before_question_and_answer(tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]) -> None:
    long = {"context": ["Bees live in hives. " * 60]}
    prompt = Prompt.from_dict({"prompt": "Why honey?", **long})
    ids, cut = prompt_tokens(prompt, tokenizer, 100)
    text = tokenizer.decode(ids)
    assert cut and 80 < len(ids) <= 100 and "Bees live in hives." in text and "Why honey?" in text
    assert len(prompts.load_examples([prompt], tokenizer, max_tokens=100)) == 1
    assert "passages of 1 prompts cut" in capsys.readouterr().err
    demonstration = Demonstration.from_dict({"prompt": "Why honey?", "completion": "To eat in winter.", **long})
    (taught,) = sft.load_examples([demonstration], tokenizer, max_tokens=100)
    assert 80 < len(taught.ids) <= 100 and "To eat in winter." in tokenizer.decode(taught.ids)
    assert "cut" not in capsys.readouterr().err
