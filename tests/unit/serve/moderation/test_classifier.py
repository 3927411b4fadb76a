"""Features, training, saving: on small made-up data whose answer is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from chatwright.errors import ModelError
from chatwright.serve.moderation.classifier import CARD_FILE, MODEL_FILE, Classifier, scaled
from chatwright.serve.moderation.features import NGrams, counts
from chatwright.serve.moderation.fit import ViewConfig, calibrate, calibration_error, fit_view, macro_f1, minimise
from chatwright.serve.moderation.train import Examples, train_head

GRAMS = NGrams(char_from=1, char_to=3, word_to=1, bits=12)


def made_up(num: int = 120) -> Examples:
    """Even texts hold a bad word, odd ones do not."""
    rest = ["the weather", "my garden", "a long walk", "some music", "the news", "our school"]
    texts = [f"{rest[n % 6]} {n} {'is rotten scum' if n % 2 == 0 else 'is very nice'}" for n in range(num)]
    return Examples(texts=texts, targets=np.array([1.0, 0.0] * (num // 2)), labelled=np.ones(num))


def test_counts_are_those_of_the_text() -> None:
    rows = counts(["aab", "", "aab aab"], NGrams(char_from=1, char_to=1, bits=16))
    first = rows.values[rows.starts[0] : rows.starts[1]]
    assert sorted(np.round(np.exp(first - 1)).astype(int)) == [1, 2, 2]  # b once, a twice, two outer blanks
    assert len(rows) == 3 and rows.starts[2] - rows.starts[1] == 1  # the empty text has only its blanks


def test_rows_times_weights_and_selection() -> None:
    rows = counts(["abc", "xyz", "abc xyz"], GRAMS)
    weights = np.random.default_rng(0).normal(size=2**GRAMS.bits)
    dense = np.zeros((3, 2**GRAMS.bits))
    dense[rows.row_of, rows.columns] = rows.values
    np.testing.assert_allclose(rows.dot(weights), dense @ weights, rtol=1e-5)
    np.testing.assert_allclose(rows.take([2, 0, 2]).dot(weights), (dense @ weights)[[2, 0, 2]], rtol=1e-5)
    lengths = np.bincount(rows.row_of, weights=scaled(rows, np.ones(2**GRAMS.bits, np.float32)).values ** 2)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def test_minimise_finds_the_least_of_a_badly_scaled_bowl() -> None:
    scales = np.array([1.0, 100.0, 0.01])
    found = minimise(lambda x: (float(scales @ (x - 3) ** 2), 2 * scales * (x - 3)), np.zeros(3), steps=200, tolerance=1e-14)
    np.testing.assert_allclose(found, 3, atol=1e-3)


def test_the_fit_is_at_its_optimum() -> None:
    """The gradient of the loss, written down a second time, is zero there."""
    examples, cfg = made_up(), ViewConfig(grams=GRAMS, l2=1.0)
    rows = counts(examples.texts, GRAMS)
    view = fit_view(rows, examples.targets, cfg)
    inputs = scaled(rows, view.scale)
    error = 1 / (1 + np.exp(-(inputs.dot(view.weights) + view.bias))) - examples.targets
    gradient = np.bincount(inputs.columns, weights=inputs.values * error[inputs.row_of], minlength=len(view.weights))
    assert np.abs(gradient + cfg.l2 * view.weights).max() < 0.02 and abs(error.sum()) < 0.05


def test_macro_f1_and_calibration() -> None:
    target = np.array([1.0, 1.0, 0.0, 0.0])
    assert macro_f1(target, target) == 1 and macro_f1(target, 1 - target) == 0
    assert macro_f1(target, np.array([1.0, 0.0, 0.0, 0.0])) == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert calibration_error(np.array([0.9, 0.9, 0.1, 0.1]), target) == pytest.approx(0.1)
    random = np.random.default_rng(1)
    logits = random.normal(size=4000) * 2
    drawn = (random.random(4000) < 1 / (1 + np.exp(-(0.5 * logits - 1)))).astype(float)
    assert calibrate(logits, drawn) == pytest.approx((0.5, -1), abs=0.12)


def test_train_save_load_judge(tmp_path: Path) -> None:
    trained = train_head("offensive", "en", made_up(), [ViewConfig(grams=GRAMS)], limit_false=True)
    assert trained.figures["macro_f1"] > 0.95 and trained.figures["false_positives"] <= 0.05
    before = Classifier([trained.head])
    before.save(tmp_path, {"name": "x"})
    after = Classifier.load(tmp_path)
    for text in ("that movie is rotten scum", "that movie is very nice", "ROTTEN \u200bＳＣＵＭ, all of it"):
        assert after.judge(text).scores["offensive"] == pytest.approx(before.judge(text).scores["offensive"], abs=0.01)
    assert after.judge("that movie is rotten scum").worst == "offensive"
    assert after.judge("that movie is very nice").worst == "" and not any(after.judge("").flagged.values())
    assert after.judge("这部电影很好").scores["offensive"] == 0, "no head reads Chinese here"
    assert json.loads((tmp_path / CARD_FILE).read_text()) == {"name": "x"}


def test_damaged_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        Classifier.load(tmp_path)
    (tmp_path / MODEL_FILE).write_bytes(b"PK nonsense")
    with pytest.raises(ModelError, match="damaged"):
        Classifier.load(tmp_path)
    trained = train_head("offensive", "en", made_up(), [ViewConfig(grams=GRAMS)], limit_false=False)
    Classifier([trained.head]).save(tmp_path, {})
    whole = (tmp_path / MODEL_FILE).read_bytes()
    (tmp_path / MODEL_FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="damaged"):
        Classifier.load(tmp_path)
