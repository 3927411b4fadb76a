"""Blanks: how they are written, that probabilities are those of a full enumeration, and what the command prints."""

from __future__ import annotations

import json
import math
import unicodedata
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from chatwright import cli
from chatwright.errors import ConfigError, DataError, ModelError
from chatwright.generation.cloze import Cloze, ClozeParams, Gapped, about_of, kind_for, parse
from chatwright.generation.lm import LM
from chatwright.model.formats.huggingface import save_folder
from chatwright.text.bpe import MASK, train_bpe, train_characters
from chatwright.text.tokenizer import Tokenizer
from tiny_models import tiny_model

TEXT = "锄禾日当午，汗滴禾下土。谁知盘中餐，粒粒皆辛苦。abc"
LETTERS = sorted(set(TEXT))
ALL = ClozeParams(top=400, candidates=400)


def machine(tokenizer: Tokenizer, seed: int = 0) -> LM:
    return LM(tiny_model("qwen3", tokenizer.vocab_size, seed=seed), tokenizer)


@pytest.fixture(scope="module")
def characters() -> LM:
    return machine(train_characters([TEXT]))


@pytest.fixture(scope="module")
def pieces() -> LM:
    """Tokens of one to several characters."""
    return machine(train_bpe([TEXT] * 4, 300))


@pytest.mark.parametrize(
    ("text", "fixed", "blanks"),
    [
        ("锄禾日当__", ("锄禾日当", ""), (2,)),
        ("_a*b_", ("", "a", "b", ""), (1, None, 1)),
        (r"a\_b\*c\\_", ("a_b*c\\", ""), (1,)),
        (r"\n_", ("\\n", ""), (1,)),
        ("*", ("", ""), (None,)),
    ],
)
def test_how_blanks_are_written(text: str, fixed: tuple[str, ...], blanks: tuple[int | None, ...]) -> None:
    assert parse(text) == Gapped(fixed=fixed, blanks=blanks)


@pytest.mark.parametrize("text", ["", "no blank", r"a\_b", "a**b", "a*_", "a_*", "_" * 65])
def test_texts_without_a_usable_blank_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="cloze"):
        parse(text)


def log_p(lm: LM, start: int, text: str, *, ends: bool = False) -> float:
    """Reference: token by token."""
    ids = [start, *lm.tokenizer.encode(text), *([lm.tokenizer.document_end_id] if ends else [])]
    logprobs_TV = torch.log_softmax(lm.logits(ids), -1)
    return sum(float(logprobs_TV[n, token]) for n, token in enumerate(ids[1:]))


def normalised(scores: dict[str, float]) -> dict[str, float]:
    top = max(scores.values())
    total = sum(math.exp(s - top) for s in scores.values())
    return {text: math.exp(s - top) / total for text, s in scores.items()}


@pytest.mark.parametrize("name", ["characters", "pieces"])
def test_causal_probabilities_are_those_of_whole_texts(name: str, request: pytest.FixtureRequest) -> None:
    lm = request.getfixturevalue(name)
    cloze = Cloze(lm)
    found = cloze.fill("锄_日", ALL, kind="causal")
    expected = normalised({f.text: log_p(lm, cloze.start_id, f.whole) for f in found})
    every = {letter: log_p(lm, cloze.start_id, f"锄{letter}日") for letter in LETTERS}
    best = sorted(LETTERS, key=lambda letter: -every[letter])
    assert {f.text for f in found} >= set(best[:8])
    assert all(len(f.text) == 1 and unicodedata.category(f.text) not in ("Cc", "Cn") for f in found)
    assert [f.probability for f in found] == pytest.approx([expected[f.text] for f in found], rel=1e-3)
    assert [f.probability for f in found] == sorted((f.probability for f in found), reverse=True)
    assert sum(f.probability for f in found) == pytest.approx(1)


def test_several_blanks_are_filled_together(characters: LM) -> None:
    """The best pair is that of all pairs, and the others stand in the order of their whole texts."""
    cloze = Cloze(characters)
    found = cloze.fill("禾_当_土", ClozeParams(candidates=900, top=900), kind="causal")
    pairs = list(product(LETTERS, repeat=2))
    every = dict(zip(pairs, cloze.score([f"禾{a}当{b}土" for a, b in pairs], ends=False), strict=True))
    some = pairs[17]
    assert every[some] == pytest.approx(log_p(characters, cloze.start_id, "禾{}当{}土".format(*some)), rel=1e-4)
    ranked = sorted(every, key=lambda pair: -every[pair])
    ours = [f.parts for f in found if set("".join(f.parts)) <= set(LETTERS)]
    assert ours[0] == ranked[0] and ours == sorted(ours, key=lambda pair: -every[pair])
    assert found[0].text == " ".join(found[0].parts) and found[0].whole == f"禾{found[0].parts[0]}当{found[0].parts[1]}土"


@pytest.mark.parametrize("kind", ["causal", "masked"])
@pytest.mark.parametrize("name", ["characters", "pieces"])
def test_every_filling_has_as_many_characters_as_its_blank(name: str, kind: Any, request: pytest.FixtureRequest) -> None:
    lm = request.getfixturevalue(name)
    cloze = Cloze(lm, mask_id=lm.tokenizer.special_ids[MASK])
    for text, lengths in (("锄__当_", (2, 1)), ("___", (3,)), ("a_龘_", (1, 1))):
        found = cloze.fill(text, ClozeParams(candidates=20, top=5), kind=kind)
        assert len(found) == 5
        for one in found:
            assert tuple(map(len, one.parts)) == lengths and not set("".join(one.parts)) & set("\n\ufffd")
            assert parse(text).filled(one.parts) == one.whole


def test_any_length_competes_by_the_probability_of_the_whole(characters: LM) -> None:
    cloze = Cloze(characters)
    found = cloze.fill("锄*土", ClozeParams(candidates=60, top=60, longest=3), kind="causal")
    assert {len(f.text) for f in found} >= {0, 1}
    expected = normalised({f.text: log_p(characters, cloze.start_id, f.whole) for f in found})
    assert [f.probability for f in found] == pytest.approx([expected[f.text] for f in found], rel=1e-3)
    last = cloze.fill("锄*", ClozeParams(candidates=50, top=50, longest=2), kind="causal")  # a text that ends there
    expected = normalised({f.text: log_p(characters, cloze.start_id, f.whole, ends=True) for f in last})
    assert [f.probability for f in last] == pytest.approx([expected[f.text] for f in last], rel=1e-3)


def test_masks_are_restored_from_both_sides(characters: LM) -> None:
    mask = characters.tokenizer.special_ids[MASK]
    cloze = Cloze(characters, mask_id=mask)
    found = cloze.fill("锄_日", ALL, kind="masked")
    a, b = characters.tokenizer.encode("锄日")
    row = torch.tensor([[cloze.start_id, a, mask, b]])
    with torch.no_grad():
        hidden = characters.model(row, mask_BTS=torch.ones(1, 4, 4, dtype=torch.bool))[0, 1]
        logprobs = torch.log_softmax(characters.model.logits(hidden).float(), -1)
    one = {letter: float(logprobs[characters.tokenizer.encode(letter)[0]]) for letter in LETTERS}
    ours = [f for f in found if f.text in one]
    ratio = ours[0].probability / math.exp(one[ours[0].text])
    assert [f.probability for f in ours] == pytest.approx([ratio * math.exp(one[f.text]) for f in ours], rel=1e-3)
    other = cloze.fill("锄_餐", ALL, kind="masked")
    assert [f.text for f in other][:5] != [f.text for f in found][:5]  # what stands after counts
    with pytest.raises(ConfigError, match="not trained with masks"):
        Cloze(characters).fill("锄_日", ALL, kind="masked")


def test_a_text_that_is_too_long_is_refused(characters: LM) -> None:
    with pytest.raises(DataError, match="the model takes 64"):
        Cloze(characters).fill("锄" * 70 + "_", ClozeParams(), kind="causal")


def test_how_a_model_fills_follows_from_its_training() -> None:
    before, between = parse("锄禾_"), parse("锄_日")
    assert (kind_for({}, between), kind_for({"objective": "masked"}, before)) == ("causal", "masked")
    assert (kind_for({"objective": "mixed"}, before), kind_for({"objective": "mixed"}, between)) == ("causal", "masked")


def saved(lm: LM, folder: Path, about: str | None) -> str:
    folder.mkdir()
    save_folder(lm.model, folder, lm.tokenizer)
    if about is not None:
        (folder / "pretrain.json").write_text(about)
    return str(folder)


def test_the_command_prints_json_best_first(characters: LM, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    about = {"objective": "causal", "mask_id": None, "start_id": characters.tokenizer.bos_id}
    model = saved(characters, tmp_path / "m", json.dumps(about))
    assert cli.main(["cloze", "锄禾日当__", "--model", model, "--json", "--top", "4", "--precision", "fp32"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 4 and all(set(row) == {"text", "probability"} and len(row["text"]) == 2 for row in rows)
    assert [r["probability"] for r in rows] == sorted((r["probability"] for r in rows), reverse=True)
    assert cli.main(["cloze", "锄_日", "--model", model, "--top", "2", "--precision", "fp32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all("锄" in line and line.endswith("日") for line in lines)


def test_without_a_model_the_error_names_the_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cloze", "锄禾日当__"]) == 2
    said = capsys.readouterr().err
    assert "--model" in said and "recipes/from-scratch.toml" in said


@pytest.mark.parametrize(
    "about", ["{", "[]", '{"objective": "other", "mask_id": 1, "start_id": 0}', '{"objective": "causal"}']
)
def test_a_damaged_description_is_refused(characters: LM, tmp_path: Path, about: str) -> None:
    with pytest.raises(ModelError, match="damaged"):
        about_of(saved(characters, tmp_path / "m", about))
