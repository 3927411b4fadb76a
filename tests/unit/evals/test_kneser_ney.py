"""Modified Kneser-Ney against a plain reading of its definition, and as a distribution."""

from __future__ import annotations

import math
from random import Random

import pytest

from chatwright.errors import DataError
from chatwright.evals.kneser_ney import BEGIN, END, KneserNey


def texts(num: int, letters: str = "abcde", seed: int = 0) -> list[str]:
    random = Random(seed)
    found = []
    for _ in range(num):
        text = random.choice(letters)
        for _ in range(random.randint(0, 9)):
            after = letters[(letters.index(text[-1]) + 1) % len(letters)]
            text += after if random.random() < 0.6 else random.choice(letters)
        found.append(text)
    return found


class Brute:
    """Chen and Goodman's formulas by going through all n-grams every time."""

    def __init__(self, corpus: list[str], order: int) -> None:
        self.order = order
        self.whole = [BEGIN + text + END for text in corpus]
        self.vocab = {c for text in self.whole for c in text[1:]}

    def count(self, gram: str) -> int:
        return sum(text[n : n + len(gram)] == gram for text in self.whole for n in range(len(text) - len(gram) + 1))

    def adjusted(self, gram: str) -> int:
        if len(gram) == self.order or gram[0] == BEGIN:
            return self.count(gram)
        return sum(self.count(c + gram) > 0 for c in self.vocab | {BEGIN})

    def grams(self, k: int) -> set[str]:
        found = {text[n : n + k] for text in self.whole for n in range(len(text) - k + 1)}
        return {g for g in found if g != BEGIN}

    def discount(self, k: int, count: int) -> float:
        values = [self.adjusted(g) for g in self.grams(k)]
        n = [0, *(values.count(c) for c in (1, 2, 3, 4))]
        if not all(n[1:]):
            return (0.0, 0.5, 1.0, 1.5)[min(count, 3)]
        y = n[1] / (n[1] + 2 * n[2])
        c = min(count, 3)
        return 0.0 if c == 0 else max(min(c - (c + 1) * y * n[c + 1] / n[c], c), 0)

    def p(self, symbol: str, history: str) -> float:
        history = history[max(len(history) - self.order + 1, 0) :]
        k = len(history) + 1
        lower = self.p(symbol, history[1:]) if history else 1 / (len(self.vocab) + 1)
        own = {c: self.adjusted(history + c) for c in self.vocab}
        total = sum(own.values())
        if not total:
            return lower
        freed = sum(min(self.discount(k, c), c) for c in own.values() if c)
        count = own.get(symbol, 0)
        return max(count - self.discount(k, count), 0) / total + freed / total * lower


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("num", [4, 25])
def test_it_is_what_the_definition_says(order: int, num: int) -> None:
    corpus = texts(num, "abcd")
    model, brute = KneserNey(corpus, order), Brute(corpus, order)
    for history in (BEGIN, BEGIN + "a", "ab", "bca", "dd", BEGIN + "abc"):
        for symbol in ("a", "b", "d", END, "z"):
            assert model.probability(symbol, history) == pytest.approx(brute.p(symbol, history), rel=1e-9), (history, symbol)


@pytest.mark.parametrize("order", [1, 3, 5])
def test_probabilities_sum_to_one_after_any_context(order: int) -> None:
    model = KneserNey(texts(200), order)
    for history in (BEGIN, BEGIN + "ab", "abcd", "edcba", "zzzz", "azb", BEGIN + "z"):
        assert sum(model.probability(s, history) for s in [*model.symbols, "unseen"[:1]]) == pytest.approx(1)


def test_top_is_the_top_of_all_symbols_and_bits_are_those_of_the_chain() -> None:
    model = KneserNey(texts(300), 5)
    for history in (BEGIN, "abcd", "zz", BEGIN + "a"):
        ranked = sorted(model.symbols, key=lambda s: (-model.probability(s, history), s))
        assert model.top(history, 3) == ranked[:3]
    whole = BEGIN + "abca" + END
    assert model.bits("abca") == pytest.approx(-sum(math.log2(model.probability(whole[n], whole[:n])) for n in range(1, 6)))


def test_longer_contexts_help_on_text_with_structure() -> None:
    train, held_out = texts(2000), texts(200, seed=1)
    one, two, five = (sum(map(KneserNey(train, order).bits, held_out)) for order in (1, 2, 5))
    assert two < 0.9 * one and five < 1.02 * two


def test_nothing_and_control_signs_are_refused() -> None:
    with pytest.raises(DataError, match="at least one"):
        KneserNey([])
    with pytest.raises(DataError, match="control"):
        KneserNey(["a" + BEGIN])
