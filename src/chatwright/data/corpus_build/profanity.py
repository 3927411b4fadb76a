"""Documents with much profanity. A short list of words that are hardly anything else, in English and Chinese; a list of
your own replaces it. What the words mean in a sentence is beyond a list: `chatwright moderation` has a classifier."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from chatwright.errors import DataError

# Stems and phrases; Latin ones are matched at the beginning of a word.
ENGLISH = (
    "fuck", "motherfuck", "shit", "bullshit", "cunt", "asshole", "arsehole", "bitch", "whore", "slut", "wank", "jerk off",
    "blowjob", "handjob", "cumshot", "gangbang", "deepthroat", "porn", "xxx video", "milf", "dildo", "faggot", "nigger",
    "kike", "tranny", "dickhead", "cocksuck", "jizz",
)  # fmt: skip
CHINESE = (
    "操你", "肏", "傻逼", "傻屄", "煞笔", "妈逼", "妈的逼", "草泥马", "他妈的", "尼玛的", "狗日的", "婊子", "贱人", "鸡巴",
    "强奸视频", "成人视频", "黄色视频", "裸聊", "约炮", "援交", "口交", "肛交", "自慰", "淫荡", "骚货", "做爱视频", "一夜情",
)  # fmt: skip
# Two hits and one in 500 characters: a novel may swear, a page that lives on it does not pass.
LEAST_HITS = 2
CHARACTERS_PER_HIT = 500


def checker(words_file: str = "") -> Callable[[str], bool]:
    """A function that tells whether a document holds much profanity. DataError when the file of words is of no use."""
    listed = _from_file(Path(words_file)) if words_file else (*ENGLISH, *CHINESE)
    # Longest first; no lookbehind and no ignored case, so that the search skips to letters that begin a word of the list.
    pattern = re.compile("|".join(re.escape(word.lower()) for word in sorted(listed, key=len, reverse=True)))

    def much(text: str) -> bool:
        text = text.lower()
        hits = 0
        for found in pattern.finditer(text):
            start = found.start()
            inside = found[0][0].isascii() and start > 0 and text[start - 1].isascii() and text[start - 1].isalnum()
            hits += not inside
        return hits >= LEAST_HITS and hits * CHARACTERS_PER_HIT > len(text)

    return much


def _from_file(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--profanity-words {path}: cannot be read: {error}") from None
    found = tuple(dict.fromkeys(line.strip() for line in lines if line.strip() and not line.startswith("#")))
    if not found:
        raise DataError(f"--profanity-words {path}: holds no word; leave it out, or turn the filter off: --no-profanity")
    return found
