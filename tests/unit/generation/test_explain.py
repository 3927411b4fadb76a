"""Explanations against figures computed in another way, and pages that nobody's text can break out of."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest
import torch

from chatwright.errors import ConfigError, DataError
from chatwright.generation.commands import ExplainConfig
from chatwright.generation.commands import explain as command
from chatwright.generation.explain import Explanation, TokenView, explain
from chatwright.generation.explain_page import as_html, as_text, shown
from chatwright.generation.lm import LM
from tiny_models import tiny_model

TEXT = "The museum opens at nine. 你好 🍎!"


@pytest.fixture
def lm(tokenizer: Any) -> LM:
    return LM(tiny_model("llama", tokenizer.vocab_size, max_positions=512), tokenizer)


def test_figures_are_those_of_the_whole_distribution(lm: LM) -> None:
    found = explain(lm, TEXT, top_k=3)
    ids = lm.tokenizer.encode(TEXT)
    assert [token.id for token in found.tokens] == ids
    p_TV = torch.softmax(lm.logits(ids).double(), dim=-1)
    assert found.tokens[0].logprob is None and found.tokens[0].top == ()
    for place, token in enumerate(found.tokens[1:]):
        p_V = p_TV[place]
        assert token.logprob == pytest.approx(math.log(p_V[token.id]), abs=1e-5)
        assert token.entropy == pytest.approx(float(-(p_V * p_V.log()).sum()), abs=1e-5)
        assert token.entropy_bits == pytest.approx(float(-(p_V * p_V.log2()).sum()), abs=1e-5)
        assert token.rank == 1 + int((p_V > p_V[token.id]).sum())
        assert [one.id for one in token.top] == p_V.topk(3).indices.tolist()
    surprises = [-math.log(p_TV[place, token]) for place, token in enumerate(ids[1:])]
    assert found.surprise == pytest.approx(sum(surprises) / len(surprises), abs=1e-5)
    assert found.perplexity == pytest.approx(math.exp(found.surprise))


def test_an_answer_is_scored_after_its_prompt(lm: LM) -> None:
    found = explain(lm, "You can feel it", prompt="What is gravity?", system="Be brief.")
    before = lm.prompt_ids("What is gravity?", system="Be brief.")
    ids = lm.tokenizer.encode("You can feel it")
    assert [token.id for token in found.tokens] == ids
    logprob_TV = torch.log_softmax(lm.logits([*before, *ids]), dim=-1)
    for place, token in enumerate(found.tokens, len(before) - 1):
        assert token.logprob == pytest.approx(float(logprob_TV[place, token.id]), abs=1e-5)


def test_blocks_of_positions_make_no_difference(lm: LM, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = explain(lm, TEXT)
    monkeypatch.setattr("chatwright.generation.explain._ROWS", 3)
    for one, other in zip(whole.tokens, explain(lm, TEXT).tokens, strict=True):
        assert one.id == other.id and one.rank == other.rank
        assert one.logprob == pytest.approx(other.logprob, abs=1e-5)


def test_json_holds_nats_and_bits(lm: LM) -> None:
    row = json.loads(explain(lm, TEXT, top_k=2).to_json())
    token = row["tokens"][1]
    assert token["surprise"] == -token["logprob"] and token["surprise_bits"] == pytest.approx(
        token["surprise"] / math.log(2)
    )
    assert len(token["top"]) == 2 and row["text"] == TEXT
    lonely = json.loads(explain(lm, "T").to_json())
    assert lonely["surprise"] is None and lonely["perplexity"] is None


def test_what_cannot_be_explained_is_said(lm: LM) -> None:
    with pytest.raises(DataError, match="the text is empty"):
        explain(lm, "")
    with pytest.raises(ConfigError, match="top_k 21: must be from 0 to 20"):
        explain(lm, "a", top_k=21)
    with pytest.raises(ConfigError, match="give one"):
        explain(lm, "a", system="x")
    with pytest.raises(DataError, match="the model takes 1 to 512"):
        explain(lm, "museum opens at nine! " * 500)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_is_whole_and_escapes_everything(lm: LM, language: Any) -> None:
    hostile = "</span><script>alert(1)</script> \"'><img src=x onerror=alert(1)> &lt; \u202e 你\n好"
    page = as_html(explain(lm, hostile, prompt=hostile), language)
    reader = _Reader()
    reader.feed(page)
    assert not reader.open and not {"script", "img", "link", "iframe"} & set(reader.tags)
    assert reader.attributes <= {"lang", "charset", "name", "content", "class", "tabindex"}
    assert "prefers-color-scheme: dark" in page and "http" not in page and "\u202e" not in page.split("text")[-1]
    assert ("惊奇度" in page) == (language == "zh")


def test_shades_follow_surprise() -> None:
    def view(logprob: float) -> TokenView:
        return TokenView(id=1, text="a", logprob=logprob, rank=1, entropy=1.0, top=())

    page = as_html(Explanation(text="aaa", prompt="", tokens=(view(-0.01), view(-3.0), view(-30.0))))
    assert [int(n) for n in re.findall(r'class="t s(\d)"', page)] == [0, 2, 7]


def test_the_table_lines_up_with_wide_characters() -> None:
    tokens = tuple(TokenView(id=1, text=t, logprob=-1.0, rank=1, entropy=0.5, top=()) for t in ("你好", "a", "\n"))
    lines = as_text(Explanation(text="", prompt="", tokens=tokens)).splitlines()
    assert lines[1].startswith("你好   ") and lines[2].startswith("a      ") and "36.8%" in lines[1]
    assert "surprise 1.44 bits per token" in lines[-1]
    assert shown("\u202ea b\n") == "\\u{202e}a·b⏎"


def test_the_command_prints_each_format(lm: LM, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("chatwright.generation.commands.open_model", lambda *_: lm)
    command(ExplainConfig(text="The museum"))
    assert capsys.readouterr().out.startswith("token")
    command(ExplainConfig(text="The museum", format="json"))
    assert json.loads(capsys.readouterr().out)["text"] == "The museum"
    command(ExplainConfig(text="The museum", format="html", language="zh"))
    assert '<html lang="zh-CN">' in capsys.readouterr().out
    with pytest.raises(ConfigError, match="only --format html"):
        command(ExplainConfig(text="x", language="zh"))
