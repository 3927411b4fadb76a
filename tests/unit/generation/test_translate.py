"""Translation, end to end on ten fruits; and a model that knows nothing, whose answers stay in the script all the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chatwright import cli
from chatwright.data.cldr import Names
from chatwright.data.cldr_pairs import training_lines
from chatwright.data.cldr_words import DIRECTIONS, LANGUAGES, SCRIPT_OF, lexicon
from chatwright.errors import ConfigError, DataError, ModelError
from chatwright.generation.lm import LM, load
from chatwright.generation.translate import Translator
from chatwright.recipes import pretrain
from chatwright.recipes.pretrain_config import PretrainConfig, PretrainOptimConfig, PretrainTrainConfig, SizeConfig
from chatwright.text.bpe import train_bpe
from chatwright.text.spelled import is_phrase
from tiny_models import tiny_model

ROWS = (
    "🍎 apple 苹果 manzana, 🍐 pear 梨 pera, 🍋 lemon 柠檬 limón, 🍌 banana 香蕉 plátano, 🍉 watermelon 西瓜 sandía, "
    "🍇 grapes 葡萄 uvas, 🍓 strawberry 草莓 fresa, 🍒 cherries 樱桃 cerezas, ❤ heart 心 corazón, 👱‍♂ man 男 hombre"
)
NAMES: Names = {e: {"en": (en,), "zh": (zh,), "es": (es,)} for e, en, zh, es in (row.split() for row in ROWS.split(", "))}
LINES = sorted(training_lines(lexicon(NAMES), 1))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that has learned the ten words by heart, made by the commands of the recipe."""
    folder = tmp_path_factory.mktemp("translate")
    text, tokenizer, corpus = (str(folder / name) for name in ("train.txt", "tokenizer", "corpus"))
    (folder / "train.txt").write_text("\n".join(LINES * 3) + "\n", encoding="utf-8")
    lines = ["--documents", "line"]
    assert cli.main(["tokenizer", "train", text, *lines, "--vocab-size", "420", "--out", tokenizer]) == 0
    build = ["corpus", "build", text, *lines, "--raw", "--no-bos", "--split.share", "0", "--workers", "1"]
    assert cli.main([*build, "--tokenizer", tokenizer, "--out", corpus]) == 0
    pretrain.main(
        PretrainConfig(
            data=corpus, out=str(folder / "model"), depth=2, context=32, documents="apart",
            device="cpu", precision="fp32", size=SizeConfig(width=64, heads=2),
            train=PretrainTrainConfig(steps=160, batch_tokens=512),
            optim=PretrainOptimConfig(lr=0.02, weight_decay=0.0),
        )
    )  # fmt: skip
    return str(folder / "model")


@pytest.fixture(scope="module")
def translator(trained: str) -> Translator:
    return Translator.open(load(trained), trained)


def run(capsys: Any, *args: str) -> tuple[int, str, str]:
    code = cli.main(["translate", *args])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_all_words_in_all_directions(translator: Translator) -> None:
    known = lexicon(NAMES)
    wrong = [
        (word, target)
        for source, target in DIRECTIONS
        for word in known.emoji[source]
        if translator.translate(word, target, source=source)[0].text not in known.accepted(word, source, target)
    ]
    assert wrong == []


def test_the_language_is_seen(translator: Translator) -> None:
    impossible = (("🍎", "emoji"), ("苹果", "zh"))
    asked = [(text, to) for text in ("🍎", "苹果", "Apple", "Manzana") for to in LANGUAGES if (text, to) not in impossible]
    guesses = {(text, to): translator.language_of(text, to) for text, to in asked}
    assert {language for (text, _), language in guesses.items() if text == "🍎"} == {"emoji"}
    assert {language for (text, _), language in guesses.items() if text == "苹果"} == {"zh"}
    assert (guesses["Apple", "zh"], guesses["Apple", "emoji"], guesses["Apple", "es"]) == ("en", "en", "en")
    assert (guesses["Manzana", "zh"], guesses["Manzana", "emoji"], guesses["Manzana", "en"]) == ("es", "es", "es")
    for text, to in (("яблоко", "en"), ("", "en"), ("10", "en"), ("🍎🍎", "zh"), ("苹果", "zh")):
        with pytest.raises(DataError, match="translate: "):
            translator.language_of(text, to)  # type: ignore[arg-type]


def test_the_command(trained: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "Apple", "--to", "zh", "--model", trained)
    assert (code, err) == (0, "") and out.splitlines()[0].split() == [out.split()[0], "苹果"]
    assert 0.5 < float(out.split()[0]) <= 1 and len(out.splitlines()) == 5
    for to, answer in (("es", "manzana"), ("emoji", "🍎")):
        code, out, _ = run(capsys, " APPLE ", "--to", to, "--model", trained, "--json", "--top", "3")
        rows = json.loads(out)
        assert code == 0 and rows[0]["text"] == answer and set(rows[0]) == {"text", "probability"}
        assert [row["probability"] for row in rows] == sorted((row["probability"] for row in rows), reverse=True)
        assert sum(row["probability"] for row in rows) <= 1 + 1e-6
    assert json.loads(run(capsys, "❤", "--to", "en", "--model", trained, "--json")[1])[0]["text"] == "heart"


def test_what_cannot_be_translated_is_told(trained: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "Apple", "--to", "zh")
    assert code == 2 and "chatwright run recipes/translate.toml" in err
    for args in (["яблоко", "--to", "en"], ["苹果", "--to", "en", "--from", "es"], ["apple " * 40, "--to", "zh"]):
        code, out, err = run(capsys, *args, "--model", trained)
        assert (code, out) == (1, "") and err.count("\n") == 1
    assert run(capsys, "apple", "--to", "en", "--from", "en", "--model", trained)[0] == 2
    assert run(capsys, "apple", "--to", "zh", "--top", "0", "--model", trained)[0] == 2


def test_a_word_that_was_never_seen_is_unknown(
    trained: str, translator: Translator, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is an error, with the word and the way to an answer all the same; words of training are all known."""
    known = lexicon(NAMES)
    missed = [(w, s, t) for s, t in DIRECTIONS for w in known.emoji[s] if not translator.knows(w, s, t)]
    assert missed == []
    unknown: dict[str, Any] = {"helicopter": "en", "amigo": "es", "zebra 7": "en", "木头": "zh", "apples": "en"}
    assert [word for word, source in unknown.items() if translator.knows(word, source, "emoji")] == []
    code, out, err = run(capsys, "helicopter", "--to", "emoji", "--model", trained)
    assert (code, out) == (1, "") and "'helicopter' is no word that this model has learned" in err and "--guess" in err
    code, out, err = run(capsys, "helicopter", "--to", "emoji", "--guess", "--model", trained)
    assert code == 0 and out


@pytest.mark.parametrize("target", LANGUAGES)
def test_answers_never_leave_the_script(translator: Translator, target: Any) -> None:
    """To words that the model has never seen, where it has nothing to say."""
    unknown = (("🚗", "emoji"), ("木头", "zh"), ("zebra 7", "en"), ("perro", "es"))
    found = [
        one.text for word, source in unknown if source != target
        for one in translator.translate(word, target, source=source, top=15, guess=True)
    ]  # fmt: skip
    assert len(found) >= 10
    assert [text for text in found if not is_phrase(SCRIPT_OF[target])(text)] == []


def test_another_model_is_refused() -> None:
    other = train_bpe(["no names of languages"] * 2, 270)
    with pytest.raises(ModelError, match="recipes/translate.toml"):
        Translator(LM(tiny_model("qwen3", other.vocab_size), other))


def test_source_and_target_differ(translator: Translator) -> None:
    with pytest.raises(ConfigError, match="nothing to do"):
        translator.translate("apple", "en", source="en")
