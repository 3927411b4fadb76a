"""An n-gram model with modified Kneser-Ney smoothing, interpolated (Chen and Goodman 1999, section 3): the baseline that a
neural language model has to beat. Symbols are the characters of strings.

p_k(w | h) = (a_k(h w) - D(a_k(h w))) / S(h) + g(h) p_(k-1)(w | h'), down to the uniform distribution. The highest order
takes counts, the lower ones the number of different symbols seen before (counts where a text begins: nothing stands before).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from chatwright.errors import DataError

BEGIN, END = "\x02", "\x03"
_FALLBACK = (0.0, 0.5, 1.0, 1.5)  # discounts where the counts are too few to estimate them
_TOP = 5


class KneserNey:
    """p(text) by symbols, each text between a begin and an end."""

    def __init__(self, texts: Iterable[str], order: int = 5) -> None:
        """Count `texts`. DataError when there is none, or one holds a control sign that is used here."""
        self.order = order
        counts = _ngrams(texts, order)
        if not counts[1]:
            raise DataError("an n-gram model needs at least one text")
        self.adjusted = _adjusted(counts, order)
        self.discounts = [_FALLBACK, *(_discounts(self.adjusted[k].values()) for k in range(1, order + 1))]
        self.symbols = sorted(self.adjusted[1])
        # One more for all symbols that were never seen.
        self.vocab_size = len(self.symbols) + 1
        self._contexts = [_contexts(self.adjusted[k], self.discounts[k]) for k in range(1, order + 1)]
        self._common = sorted(self.symbols, key=lambda s: (-self.adjusted[1][s], s))

    def probability(self, symbol: str, context: str) -> float:
        """p(symbol | context). The context is what stands before, BEGIN first where it reaches the start of the text."""
        history = context[max(len(context) - self.order + 1, 0) :]
        value = 1 / self.vocab_size
        for k in range(1, len(history) + 2):
            before = history[len(history) - k + 1 :]
            found = self._contexts[k - 1].get(before)
            if found is None:
                break  # longer contexts were not seen either
            total, backoff, _ = found
            count = self.adjusted[k].get(before + symbol, 0)
            own = max(count - self.discounts[k][min(count, 3)], 0.0) / total
            value = own + backoff * value
        return value

    def bits(self, text: str) -> float:
        """-log2 p of a whole text, its end included."""
        whole = BEGIN + text + END
        return -sum(math.log2(self.probability(whole[n], whole[:n][-self.order :])) for n in range(1, len(whole)))

    def top(self, context: str, num: int = _TOP) -> list[str]:
        """The likeliest symbols after a context, exactly: among those seen after some end of it, and the commonest ones
        (all others differ only by how common they are)."""
        history = context[max(len(context) - self.order + 1, 0) :]
        candidates = set(self._common[:num])
        for k in range(2, len(history) + 2):
            found = self._contexts[k - 1].get(history[len(history) - k + 1 :])
            candidates |= set(found[2]) if found else set()
        return sorted(candidates, key=lambda s: (-self.probability(s, context), s))[:num]


def _ngrams(texts: Iterable[str], order: int) -> list[Counter[str]]:
    """Counts of the n-grams of each length that end in a symbol to be predicted."""
    counts: list[Counter[str]] = [Counter() for _ in range(order + 1)]
    for text in texts:
        if BEGIN in text or END in text:
            raise DataError("an n-gram model reads texts without the control signs U+0002 and U+0003")
        whole = BEGIN + text + END
        for k in range(1, order + 1):
            counts[k].update(whole[n - k : n] for n in range(max(k, 2), len(whole) + 1))
    return counts


def _adjusted(counts: list[Counter[str]], order: int) -> list[dict[str, int]]:
    """Counts for the highest order, numbers of different predecessors below."""
    adjusted: list[dict[str, int]] = [{} for _ in range(order + 1)]
    adjusted[order] = dict(counts[order])
    for k in range(order - 1, 0, -1):
        before = Counter(gram[1:] for gram in counts[k + 1])
        # Nothing stands before the beginning of a text: its counts stay counts.
        adjusted[k] = {g: (c if g[0] == BEGIN else before[g]) for g, c in counts[k].items()}
    return adjusted


def _discounts(values: Iterable[int]) -> tuple[float, float, float, float]:
    """D(0), D(1), D(2), D(3 and more) from how many n-grams were seen once, twice, ..."""
    seen = Counter(min(v, 5) for v in values)
    n1, n2, n3, n4 = (seen[n] for n in range(1, 5))
    if not (n1 and n2 and n3 and n4):
        return _FALLBACK
    y = n1 / (n1 + 2 * n2)
    raw = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    clipped = [min(max(d, 0.0), float(n)) for n, d in enumerate(raw, 1)]
    return 0.0, clipped[0], clipped[1], clipped[2]


def _contexts(adjusted: Mapping[str, int], discounts: tuple[float, ...]) -> dict[str, tuple[int, float, str]]:
    """{context: (sum of its counts, weight of the lower order, symbols seen after it)}."""
    totals: dict[str, int] = defaultdict(int)
    freed: dict[str, float] = defaultdict(float)
    after: dict[str, list[str]] = defaultdict(list)
    for gram, count in adjusted.items():
        if not count:
            continue
        context = gram[:-1]
        totals[context] += count
        freed[context] += min(discounts[min(count, 3)], count)
        after[context].append(gram[-1])
    return {context: (total, freed[context] / total, "".join(after[context])) for context, total in totals.items()}
