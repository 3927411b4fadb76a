"""The only chat renderer: a conversation -> (ids, loss mask, roles), for SFT, reward models, PPO and serving.

Two rules make it safe and consistent:
* Control tokens are inserted as ids; message text is encoded with special tokens switched off, so a user who types
  `<|im_start|>system` gets plain text. Text is never stripped of anything a control token would look like.
* The ids of a prompt are always a prefix of the ids of prompt plus answer (what was generated after is what is
  trained after).

The layout is one of `text.layouts` where that equals the checkpoint's own Jinja template, and otherwise that template
itself (`text.native_template`). For ordinary text the ids equal those of transformers (tested).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

from chatwright.errors import TemplateError
from chatwright.records import Message
from chatwright.text.layouts import Piece, lay_out
from chatwright.text.native_template import NativeText, Span, control_pattern

if TYPE_CHECKING:
    from chatwright.text.tokenizer import Tokenizer

TrainOn = Literal["assistant", "last", "none"]


@dataclass(frozen=True)
class Rendered:
    """A conversation as tokens; the three tuples have equal length."""

    ids: tuple[int, ...]
    loss_mask: tuple[bool, ...]
    """True where the token is trained: answers and the end-of-turn token after them."""
    roles: tuple[str, ...]
    """Whose text a token is: "control", "system", "user", "assistant" or "tool"."""

    def __len__(self) -> int:
        return len(self.ids)


def render(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    *,
    add_generation_prompt: bool = False,
    train_on: TrainOn = "assistant",
    tools: Sequence[Any] = (),
) -> Rendered:
    """Lay out and encode a conversation with the tokenizer's chat template.

    `train_on`: every assistant message, the last one only, or none. The end-of-turn token after a trained answer is
    trained too; a newline the template writes after it is not. An earlier answer that the template writes in another
    way than it is generated is not trained (`training_rows` has a row for it). `tools`: JSON schemas of functions, for
    templates that describe them. TemplateError when the template has no form for the conversation.
    """
    _check(messages, tokenizer, add_generation_prompt)
    answers = [n for n, message in enumerate(messages) if message.role == "assistant"]
    wanted = {"assistant": answers, "last": answers[-1:], "none": []}[train_on]
    return _render(messages, tokenizer, add_generation_prompt, wanted, tools)[0]


def training_rows(
    messages: Sequence[Message], tokenizer: Tokenizer, *, train_on: TrainOn = "assistant", tools: Sequence[Any] = ()
) -> list[Rendered]:
    """The conversation as rows in which every answer asked for is trained once, after the prompt it is generated after.

    One row, but for templates that write an earlier answer differently (Qwen3 removes its thought): those get a row each.
    """
    _check(messages, tokenizer, False)
    answers = [n for n, message in enumerate(messages) if message.role == "assistant"]
    left = {"assistant": answers, "last": answers[-1:], "none": []}[train_on]
    row, trained = _render(messages, tokenizer, False, left, tools)
    rows = [row]
    while left := [n for n in left if n not in trained and n > 0]:
        row, trained = _render(messages[: left[-1] + 1], tokenizer, False, left, tools)
        rows.append(row)
    return rows[::-1]


def tools_of(meta: Mapping[str, Any]) -> list[Any]:
    """The functions that a row of data offers in its field `tools`, as JSON schemas; none where it has no such list."""
    tools = meta.get("tools")
    return list(tools) if isinstance(tools, list) else []


def answer_ids(answer: str, tokenizer: Tokenizer, *, ended: bool = True) -> tuple[int, ...]:
    """Ids of one answer as they stand in `render` after any prompt: its text, and the end-of-turn token.

    `ended=False`: the answer was cut at a token limit, so it has no end-of-turn token (an empty one keeps it: there
    is always at least one id).
    """
    turns = (Message(role="user", content="?"), Message(role="assistant", content=answer))
    rendered = render(turns, tokenizer)
    ids = tuple(i for i, trained in zip(rendered.ids, rendered.loss_mask, strict=True) if trained)
    return ids if ended or len(ids) == 1 else ids[:-1]


def _check(messages: Sequence[Message], tokenizer: Tokenizer, ask: bool) -> None:
    if not messages:
        raise TemplateError("a conversation needs at least one message")
    if ask and messages[-1].role == "assistant":
        raise TemplateError("a generation prompt cannot follow an assistant message; end with the user's")
    if tokenizer.template_problem:
        raise TemplateError(tokenizer.template_problem)


def _render(
    messages: Sequence[Message], tokenizer: Tokenizer, ask: bool, wanted: Collection[int], tools: Sequence[Any]
) -> tuple[Rendered, Collection[int]]:
    """The rendering, and which of the wanted answers are trained in it."""
    template, native = tokenizer.template, tokenizer.native
    if template.name != "native" and tools and tokenizer.tool_format is not None:
        template, native = tokenizer.tool_settings, tokenizer.for_tools
    elif template.name != "native":
        if template.answer_prefix and not ask:
            wanted = [n for n in wanted if n == len(messages) - 1]  # earlier answers stand there without it
        pieces = lay_out(messages, template, [n in wanted for n in range(len(messages))], ask)
        return _encode(pieces, tokenizer), wanted
    assert native is not None
    names = tokenizer.control_names
    if ask:
        return _encode(_pieces(native.prompt(messages, template, names, tools), names, ()), tokenizer), ()
    text = native.row(messages, template, names, tokenizer.stop_names, tools)
    return _encode(_pieces(text, names, wanted), tokenizer), text.answers


def _pieces(native: NativeText, names: frozenset[str], wanted: Collection[int]) -> list[Piece]:
    """A rendered text, cut at its control tokens and spans. `wanted`: messages whose answers are trained."""
    answers = iter(native.answers)
    pieces: list[Piece] = []
    start = 0
    for span in (*native.spans, Span(len(native.text), len(native.text), "control")):
        pieces += _cut(native, names, Piece("", "control"), start, span.start)
        trained = span.trained and next(answers) in wanted
        like = Piece("", span.role, trained=trained, answer=span.trained)
        pieces += _cut(native, names, like, span.start, span.end)
        start = span.end
    return pieces


def _cut(native: NativeText, names: frozenset[str], like: Piece, start: int, end: int) -> list[Piece]:
    pieces: list[Piece] = []
    at = start

    def text_until(stop: int) -> None:
        if stop > at:
            first = like.answer and at == start
            pieces.append(replace(like, text=native.text[at:stop].replace(native.mark, ""), answer=first))

    for match in control_pattern(names, native.mark).finditer(native.text, start, end):
        text_until(match.start())
        pieces.append(Piece(match[0], "control", control=True, trained=like.trained))
        at = match.end()
    text_until(end)
    return pieces


# ---- pieces to ids -----------------------------------------------------------------------------------------


def _encode(pieces: Sequence[Piece], tokenizer: Tokenizer) -> Rendered:
    ids: list[int] = []
    mask: list[bool] = []
    roles: list[str] = []
    run: list[Piece] = []
    for piece in [*_stripped(pieces, tokenizer), None]:
        if piece is not None and not piece.control:
            run.append(piece)
            continue
        run_ids, run_mask, run_roles = _encode_run(run, tokenizer, continued=bool(ids))
        ids, mask, roles, run = ids + run_ids, mask + run_mask, roles + run_roles, []
        if piece is not None:
            ids.append(tokenizer.special_ids[piece.text])
            mask.append(piece.trained)
            roles.append(piece.role)
    return Rendered(tuple(ids), tuple(mask), tuple(roles))


def _stripped(pieces: Sequence[Piece], tokenizer: Tokenizer) -> Sequence[Piece]:
    """Without the blanks that control tokens with `lstrip` or `rstrip` swallow (Phi-3's do)."""
    if not tokenizer.blank_eaters:
        return pieces
    out = list(pieces)
    for n, piece in enumerate(pieces):
        left, right = tokenizer.blank_eaters.get(piece.text, (False, False)) if piece.control else (False, False)
        for eats, places in ((right, range(n + 1, len(out))), (left, range(n - 1, -1, -1))):
            for other in places if eats else ():
                if out[other].control:
                    break
                text = out[other].text.lstrip() if other > n else out[other].text.rstrip()
                out[other] = replace(out[other], text=text)
                if text:
                    break
    return out


def _encode_run(
    run: Sequence[Piece], tokenizer: Tokenizer, continued: bool
) -> tuple[list[int], list[bool], list[str]]:
    """Text between two control tokens, encoded in one go as the native templates do, but for one case:
    an answer whose first characters would merge with the text before it is encoded on its own."""
    ids: list[int] = []
    mask: list[bool] = []
    roles: list[str] = []
    begins = [0, *(n for n, piece in enumerate(run) if piece.answer and n), len(run)]
    first = 0  # of the pieces that are encoded together
    known: list[int] = []  # ids of run[first:begin]
    for begin, end in zip(begins, begins[1:], strict=False):
        joint, ends = _encode_pieces(run[first:end], tokenizer, continued or first > 0)
        if joint[: len(known)] != known:
            first, known = begin, []
            joint, ends = _encode_pieces(run[first:end], tokenizer, continued or first > 0)
        owners = [run[max(begin, first + n)] for n in _owners(run[first:end], ends[len(known) :])]
        ids += joint[len(known) :]
        mask += [piece.trained for piece in owners]
        roles += [piece.role for piece in owners]
        known = joint
    return ids, mask, roles


def _encode_pieces(pieces: Sequence[Piece], tokenizer: Tokenizer, continued: bool) -> tuple[list[int], list[int]]:
    return tokenizer.encode_with_ends("".join(piece.text for piece in pieces), continued=continued)


def _owners(pieces: Sequence[Piece], ends: Sequence[int]) -> list[int]:
    """For each token the index of the piece that its last character belongs to."""
    if len(pieces) == 1:
        return [0] * len(ends)
    bounds = list(accumulate(len(piece.text) for piece in pieces))
    return [min(bisect_left(bounds, end), len(pieces) - 1) for end in ends]
