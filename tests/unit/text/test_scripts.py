"""Scripts against an oracle of its own: the `regex` package, with its own tables of Unicode.

Texts are random walks through the masks, each token as likely as any other that is allowed, so that the walk goes where a
model hardly would. The short walks run on a tiny vocabulary in which nearly every character is written byte by byte.
"""

from __future__ import annotations

from typing import Any

import pytest
import regex
import torch

from chatwright.errors import ConfigError
from chatwright.generation.api import Constraint
from chatwright.generation.constrain import ConstraintCompiler
from chatwright.text.pieces import token_bytes
from chatwright.text.scripts import SCRIPTS, script_regex

_ONE = r"(?:\p{Emoji_Modifier_Base}\p{Emoji_Modifier}|(?![\p{RI}\p{Emoji_Modifier}0-9#*])\p{Emoji}\uFE0F?)"
EMOJI = regex.compile(
    rf"\p{{RI}}{{2}}|[0-9#*]\uFE0F\u20E3|\U0001F3F4[\U000E0020-\U000E007E]+\U000E007F|{_ONE}(?:\u200D{_ONE})*"
)
BESIDE = regex.compile(r"[\p{M}\p{P}\p{S}0-9 \n]")


def walks(tokenizer: Any, script: str, num_tokens: int, length: int = 80) -> list[str]:
    """Texts of at least so many tokens together; of one that is cut, what is certain."""
    pieces, compiler = token_bytes(tokenizer), ConstraintCompiler(tokenizer, tokenizer.vocab_size)
    generator = torch.Generator().manual_seed(0)
    texts, drawn = [], 0
    while drawn < num_tokens:
        matcher, text, certain = compiler.matcher(Constraint(kind="script", value=script)), b"", b""
        for _ in range(length):
            allowed = matcher.mask().nonzero()[:, 0]
            token = int(allowed[torch.randint(len(allowed), (1,), generator=generator)])
            drawn += 1
            if token in tokenizer.stop_ids:
                assert certain == text, "an answer may only end where its text is complete"
                break
            assert pieces[token], "control tokens are no text"
            matcher.accept(token)
            assert not matcher.broken
            text += pieces[token]
            certain = text if matcher.complete else certain
        texts.append(certain.decode("utf-8"))  # strict: raises when it is not whole
    return texts


def violations(texts: list[str], script: str) -> set[str]:
    """Characters, for emoji clusters, that the oracle does not count as the script's or as what may stand beside it."""
    everything = "".join(f"{text}\n" for text in texts)
    if script == "emoji":
        clusters = set(regex.findall(r"\X", everything)) - {" ", "\n"}
        return {one for one in clusters if not EMOJI.fullmatch(one)}
    letters = regex.compile("|".join(rf"\p{{Script={name}}}" for name in script.split("|")))
    return {c for c in set(everything) if not letters.match(c) and not BESIDE.match(c)}


@pytest.mark.parametrize("script", ["Han", "Latin", "emoji", "Cyrillic|Greek", "Arabic", "Hangul"])
def test_random_walks_stay_in_the_script(tokenizer: Any, script: str) -> None:
    texts = walks(tokenizer, script, 4_000)
    assert violations(texts, script) == set()
    assert len(set("".join(texts))) > 30, "the walk saw many characters"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("script", ["Han", "Latin", "emoji"])
def test_no_violation_in_a_hundred_thousand_tokens(script: str) -> None:
    import chatwright

    tokenizer = chatwright.load("smollm2-135m-instruct").tokenizer
    assert violations(walks(tokenizer, script, 100_000), script) == set()


def test_the_oracle_sees_what_is_wrong() -> None:
    for text in ("7", "\U0001f1e8", "\U0001f1e8\U0001f1f3\U0001f1e8", "🍎\U0001f3fd", "\u200d", "a", "\u2654\ufe0f"):
        assert violations([text], "emoji"), text
    for text in ("🍎", "👩🏽‍⚕️", "🇨🇳🇺🇸", "7️⃣", "❤️", "👨‍👩‍👧‍👦", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"):
        assert not violations([text], "emoji"), text
    assert violations(["苹果 apple"], "Han") and violations(["苹果"], "Latin") and not violations(["苹果，好"], "Han")


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("👩🏽‍⚕️", True), ("👨‍👩‍👧‍👦", True), ("🇨🇳", True), ("🇨🇳 🇺🇸", True), ("7️⃣", True), ("❤️", True), ("🏴󠁧󠁢󠁥󠁮󠁧󠁿", True),
        ("👍🏽👍", True),
        ("7", False), ("🍎7", False), ("\U0001f1e8", False), ("\U0001f1e6\U0001f1e6", False), ("🍎\U0001f3fd", False),
        ("❤", False), ("🍎\u200d", False), ("\U0001f3fd", False), ("ok", False), (" ", False),
    ],
)  # fmt: skip
def test_which_texts_are_emoji(tokenizer: Any, text: str, allowed: bool) -> None:
    matcher = ConstraintCompiler(tokenizer, tokenizer.vocab_size).matcher(Constraint(kind="script", value="emoji"))
    pieces, rest = token_bytes(tokenizer), text.encode()
    while rest:
        # Where only one continuation exists, its usual token is the only one allowed: so tokens, not bytes.
        fitting = [i for i in matcher.mask().nonzero()[:, 0].tolist() if pieces[i] and rest.startswith(pieces[i])]
        if not fitting:
            break
        token = max(fitting, key=lambda i: len(pieces[i]))
        matcher.accept(token)
        rest = rest[len(pieces[token]) :]
    assert (not rest and matcher.complete) == allowed


def test_names() -> None:
    assert script_regex("han") == script_regex("Han") and script_regex(" Han | emoji ") == script_regex("Han|emoji")
    assert {"Han", "Latin", "Cyrillic"} <= set(SCRIPTS)
    for wrong in ("Klingon", "", "Han|", "Han|x"):
        with pytest.raises(ConfigError, match="is none of emoji, Arabic"):
            script_regex(wrong)
