"""What is hidden: shares, whole words and characters, control tokens, and that it follows from the seed."""

from __future__ import annotations

import numpy as np
import pytest

from chatwright.data.masking import MaskConfig, Vocabulary, hide, unit_starts, vocabulary_of
from chatwright.errors import ConfigError
from chatwright.text.bpe import MASK, train_bpe
from chatwright.text.tokenizer import Tokenizer

TEXTS = ["The museum opens at nine; don't be late, Émile. 春眠不觉晓，处处闻啼鸟。夜来风雨声。 1234 naïve 🍎 龘"] * 3


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe(TEXTS, 330)


@pytest.fixture(scope="module")
def vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    return vocabulary_of(tokenizer, tokenizer.vocab_size)


def random(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, 0], dtype=np.uint64)))


def units(tokenizer: Tokenizer, vocabulary: Vocabulary, text: str) -> list[str]:
    ids = np.array([tokenizer.encode(text)])
    bounds = [*np.flatnonzero(unit_starts(ids, vocabulary)[0]).tolist(), ids.shape[1]]
    return [tokenizer.decode(ids[0, a:b].tolist()) for a, b in zip(bounds, bounds[1:], strict=False)]


def test_units_are_words_and_characters_whatever_the_tokens(tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    found = [unit.strip() for unit in units(tokenizer, vocabulary, "museumly zebra, 龘龘🍎é") if unit.strip()]
    assert found == ["museumly", "zebra", ",", "龘", "龘", "🍎", "é"]
    # What the vocabulary has as one token is one unit at most; every other character is one by itself.
    assert "".join(units(tokenizer, vocabulary, TEXTS[0])) == TEXTS[0]
    assert all(len(unit) == 1 for unit in units(tokenizer, vocabulary, "龘骉靐"))


def test_bytes_and_characters_add_up_to_the_text(tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    ids = tokenizer.encode(TEXTS[0])
    assert vocabulary.num_bytes_V[ids].sum() == len(TEXTS[0].encode())
    assert vocabulary.num_characters_V[ids].sum() == len(TEXTS[0])
    assert vocabulary.control_V[[tokenizer.eos_id, tokenizer.pad_id, tokenizer.special_ids[MASK]]].all()


def test_shares_are_berts(vocabulary: Vocabulary, tokenizer: Tokenizer) -> None:
    """15 % are chosen; of these 80 % show the mask, 10 % another token, 10 % themselves (each within 5 standard errors)."""
    ordinary = np.flatnonzero(~vocabulary.control_V)
    tokens = np.random.default_rng(0).choice(ordinary, (400, 256))
    mask = tokenizer.special_ids[MASK]
    shown, chosen = hide(tokens, vocabulary, mask, MaskConfig(whole_words=False), random())
    num = chosen.sum()
    assert chosen.mean() == pytest.approx(0.15, abs=5 * (0.15 * 0.85 / tokens.size) ** 0.5)
    assert (shown[~chosen] == tokens[~chosen]).all()
    hidden, same = (shown == mask)[chosen].mean(), (shown == tokens)[chosen].mean()
    assert hidden == pytest.approx(0.8, abs=5 * (0.16 / num) ** 0.5)
    assert same == pytest.approx(0.1 + 0.1 / len(ordinary), abs=5 * (0.09 / num) ** 0.5)


def test_units_are_hidden_as_wholes_and_control_tokens_never(vocabulary: Vocabulary, tokenizer: Tokenizer) -> None:
    row = [tokenizer.bos_id, *tokenizer.encode("zebra 龘 quixotic " * 30), tokenizer.eos_id]
    tokens = np.array([row] * 60)
    shown, chosen = hide(tokens, vocabulary, tokenizer.special_ids[MASK], MaskConfig(), random())
    unit = np.cumsum(unit_starts(tokens, vocabulary), axis=1)
    for r in range(len(tokens)):
        for u in np.unique(unit[r]):
            inside = chosen[r][unit[r] == u] | vocabulary.control_V[tokens[r][unit[r] == u]]
            assert inside.all() or not chosen[r][unit[r] == u].any()
    assert 0.1 < chosen.mean() < 0.2
    assert not chosen[vocabulary.control_V[tokens]].any()
    assert not (vocabulary.control_V[shown] & (shown != tokenizer.special_ids[MASK]) & chosen).any()


def test_it_follows_from_the_generator(vocabulary: Vocabulary, tokenizer: Tokenizer) -> None:
    tokens = np.array([tokenizer.encode(TEXTS[0])])
    first, again, other = (hide(tokens, vocabulary, 5, MaskConfig(), random(seed))[0] for seed in (3, 3, 4))
    assert (first == again).all() and (first != other).any()


@pytest.mark.parametrize("wrong", [{"share": 0.0}, {"share": 1.0}, {"keep_share": 0.6, "random_share": 0.6}])
def test_shares_without_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="--mask"):
        MaskConfig(**wrong)
