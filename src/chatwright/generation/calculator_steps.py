"""The built-in calculator as a visible step of an answer, in the terminal, the chat and the API.

A model of 135 million parameters multiplies wrongly, calls tools unreliably, and repeats a result it was told only some of
the time. So nothing is left to it: arithmetic in the last question is found by rules, worked out exactly, told to the model
behind the question, and the answer is constrained to begin with it (to consist of it, when nothing else was asked):

    steps = calculator_steps(messages)
    messages = with_steps(messages, steps)
    params = held_to(params, steps)

What is found: numbers in digits with signs or English or Chinese words between them, where the text asks for a result ("what
is", "=", 等于) or holds nothing else. Dates, ranges, scores and sizes are left alone, and so are numbers in words (三加五).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from chatwright.errors import DataError
from chatwright.generation.api import Constraint, SamplingParams
from chatwright.generation.calculator import MAX_CHARACTERS, Token, calculate_tokens, normalised, tokens_from, written
from chatwright.records import Message

MAX_STEPS = 4
_BEFORE = re.compile(
    r"(?:what(?:'s|’s| is| are| does| do)|how much(?: is| are)?|calculate|compute|evaluate|work out|solve|find|result of"
    r"|value of|answer to|请计算|计算一下|计算|算一下|算算|算|求)[\s:：,，]*(?:the (?:result|value|product|sum) of\s*)?$",
    re.IGNORECASE,
)
_AFTER = re.compile(
    r"\s*(?:=(?!\s*[0-9(-])|(?:is )?equals?\b|is (?:how much|what)\b|等于|是多少|得多少|得几|结果|的(?:结果|值|积|和|差|商)"
    r"|[?？]\s*$)",
    re.IGNORECASE,
)
_END = re.compile(r"\s*(?:$|[?？.。!！,，;；:：=)）\n]|and\b|then\b|和|以及|是|的|等)", re.IGNORECASE)
_NOT_ARITHMETIC = re.compile(
    r"[0-9]{1,4}([-/])[0-9]{1,2}\1[0-9]{1,4}|24/7|9/11|[0-9]{3,}(?:-[0-9]{3,})+"  # dates, phrases, telephone numbers
)
_HAN = re.compile(r"[\u4e00-\u9fff]")
_BINARY = {"*", "/", "//", "+", "-", "mod", "^", "%", "sqrt", "root_after"}


@dataclass(frozen=True, kw_only=True)
class Step:
    """Something a tool did before the answer."""

    tool: str = "calculator"
    """Which one."""
    expression: str
    """What it worked on, as people write it: `3457 × 43216`."""
    result: str = ""
    """Digits; empty when there is none."""
    exact: bool = True
    """False: `result` is rounded."""
    error: str = ""
    """Why there is no result."""
    alone: bool = False
    """The question asks for nothing else."""
    language: str = "en"
    """Of the question: en or zh."""

    def to_dict(self) -> dict[str, str | bool]:
        """As it is stored and shown: tool, expression, exact, and result or error."""
        shown: dict[str, str | bool] = {"tool": self.tool, "expression": self.expression, "exact": self.exact}
        return shown | ({"error": self.error} if self.error else {"result": self.result})

    @property
    def sentence(self) -> str:
        """What the answer says about it."""
        if self.error:
            return f"{self.expression}：{_ZH.get(self.error, self.error)}。" if self.language == "zh" else (
                f"{self.expression} has no result here: {self.error}."
            )  # fmt: skip
        end = "。" if self.language == "zh" else "."
        return f"{self.expression} {'=' if self.exact else '≈'} {self.result}{end}"


_ZH = {"division by zero": "除数不能为零"}


def calculator_steps(messages: Sequence[Message]) -> tuple[Step, ...]:
    """What the calculator finds to do in the last message, when that is a user's; at most `MAX_STEPS`, in their order."""
    if not messages or messages[-1].role != "user" or len(messages[-1].content) > 20 * MAX_CHARACTERS:
        return ()
    text = normalised(messages[-1].content)
    language = "zh" if _HAN.search(text) else "en"
    steps: list[Step] = []
    at, covered = 0, ""
    while len(steps) < MAX_STEPS and (start := _next_start(text, at)) >= 0:
        tokens, at = _whole(text, start)
        if tokens and _is_asked(text, tokens, first=not steps):
            steps.append(_step(tokens, language))
            covered += text[tokens[0].start : tokens[-1].end]
    if len(steps) == 1 and _asks_nothing_else(text, covered):
        steps = [replace(steps[0], alone=True)]
    return tuple(steps)


def calculator_step(messages: Sequence[Message]) -> Step | None:
    """The first of `calculator_steps`."""
    return next(iter(calculator_steps(messages)), None)


def with_steps(messages: Sequence[Message], steps: Sequence[Step]) -> tuple[Message, ...]:
    """The conversation as the model reads it: what the calculator found stands behind the user's question."""
    if not steps:
        return tuple(messages)
    last = messages[-1]
    head = "计算器的结果：" if steps[0].language == "zh" else "The calculator's result: "
    told = f"{last.content}\n\n({head}{' '.join(step.sentence for step in steps)})"
    return (*messages[:-1], replace(last, content=told))


def steps_constraint(steps: Sequence[Step]) -> Constraint | None:
    """What makes the answer hold the results: it begins with them, and ends there when nothing else was asked."""
    if not steps:
        return None
    text = " ".join(step.sentence for step in steps)
    if steps[0].alone:
        return Constraint(kind="choice", value=json.dumps([text]))
    return Constraint(kind="lark", value=f"start: {json.dumps(text, ensure_ascii=False)} /(.|\\n)*/")


def held_to(params: SamplingParams, steps: Sequence[Step]) -> SamplingParams:
    """Parameters with which an answer holds the results whole: a limit on its tokens does not cut a number."""
    if not steps or params.constraint is not None:
        return params
    longest = len(" ".join(step.sentence for step in steps).encode()) + 1  # a token holds a byte at least
    return replace(params, constraint=steps_constraint(steps), max_new_tokens=max(params.max_new_tokens, longest))


# ---- finding arithmetic ----------------------------------------------------------------------------------

_START = re.compile(r"[0-9]|\.[0-9]|[(√]|[-−](?=[0-9(])|sqrt|(?:the )?square root of", re.IGNORECASE)


def _next_start(text: str, at: int) -> int:
    """Where the next expression could begin: not inside a word or a longer number."""
    while match := _START.search(text, at):
        before = text[max(0, match.start() - 2) : match.start()]
        in_word = before[-1:].isascii() and (before[-1:].isalnum() or before[-1:] in tuple("_@#/-"))
        in_number = len(before) == 2 and before[0].isdigit() and before[1] in ".,"
        if not in_word and not in_number:
            return match.start()
        at = match.start() + 1
    return -1


def _whole(text: str, start: int) -> tuple[list[Token], int]:
    """The longest beginning that could be an expression, and where to look on: it ends with an operand, has its parentheses
    closed, and is more than a number."""
    tokens: list[Token] = []
    best = depth = operators = 0
    at = start + 1
    for token in tokens_from(text, start, min(len(text), start + MAX_CHARACTERS)):
        depth += (token.kind == "(") - (token.kind == ")")
        # Two operands side by side are two expressions, or none.
        beside = token.kind in ("number", "(", "sqrt") and tokens and tokens[-1].kind in ("number", ")", "root_after")
        if depth < 0 or beside:
            break
        operators += token.kind in _BINARY and (bool(tokens) or token.kind == "sqrt")
        tokens.append(token)
        at = token.end
        lone_percent = token.kind == "%" and operators == 1
        if depth == 0 and operators and token.kind in ("number", ")", "%", "root_after") and not lone_percent:
            best = len(tokens)
    return tokens[:best], tokens[best - 1].end if best else at


def _is_asked(text: str, tokens: list[Token], *, first: bool) -> bool:
    start, end = tokens[0].start, tokens[-1].end
    before, after = text[max(0, start - 60) : start], text[end : end + 40]
    raw = text[start:end]
    if not _END.match(after) and not _AFTER.match(after):
        return False
    if _NOT_ARITHMETIC.search(raw):
        return False
    if _BEFORE.search(before) or not (text[:start] + text[end:]).strip(" \n?？=.。"):
        return True
    if not first and re.search(r"(?:and|,|，|和|以及|、|;|；)\s*$", before):
        return True
    # "3-1?", "1/2?": a score, a range, a fraction; a result is asked for only where the text says so.
    if {token.kind for token in tokens} <= {"number", "-", "/"} and not re.search(r"\s", raw) and "=" not in after[:2]:
        return bool(re.match(r"\s*(?:等于|是多少|得多少|得几|(?:is )?equals?\b)", after, re.IGNORECASE))
    return bool(_AFTER.match(after))


_ASKING = re.compile(
    r"what(?:'s|’s| is| are| does)|how much|calculate|compute|evaluate|work out|solve|please|can you|could you|tell me|find"
    r"|\b(?:the|result|value|product|sum|answer|equals?|is|of|to|for|me|hi|hello)\b"
    r"|请问|请|计算一下|计算|算一下|算算|算|帮我|求|等于|是多少|多少|得几|几|结果|是|得|的|呢|值|吗|一下|[\s?？=.。!！,，:：]",
    re.IGNORECASE,
)


def _asks_nothing_else(text: str, expression: str) -> bool:
    """Whether beside the expression only words of the question itself are left."""
    return not _ASKING.sub("", text.replace(expression, " ", 1))


def _step(tokens: list[Token], language: str) -> Step:
    try:
        found = calculate_tokens(tokens)
    except DataError as error:
        return Step(expression=written(tokens), error=str(error).removeprefix("calculator: "), language=language)
    return Step(expression=found.expression, result=found.result, exact=found.exact, language=language)
