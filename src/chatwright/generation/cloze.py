"""Fill blanks in a text: `_` is one character, `*` any number of them, and what the model believes of each filling.

**Causal models** propose fillings from the left, token by token (a beam). Then every proposal is put into the text and the
*whole* text is scored, so that what stands after a blank counts: log p(filled text) is exact, whatever the tokens.
**Masked models** see both sides: the tokens of a blank are restored one after another, left to right, the others still
hidden (chain rule), for every number of tokens the blank can have.

Probabilities are normalised over the fillings that were found, `candidates` of them at most: they are relative to those.
Lengths of `*` compete by their probability under a causal model; under a masked one every number of tokens is taken to be
equally likely before. Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch

from chatwright import hub
from chatwright.data.masking import pieces_of, vocabulary_of
from chatwright.errors import ConfigError, DataError, ModelError
from chatwright.generation.lm import LM
from chatwright.kernels.cross_entropy import token_logprobs

ABOUT = "pretrain.json"
MAX_BLANK = 64  # characters of one blank
_BATCH_TOKENS = 8192
_MOST_LAYOUTS = 64
_LEFT_OUT = ("Cc", "Cn", "Co", "Zl", "Zp")  # controls, characters that Unicode does not know, line and paragraph ends


@dataclass(frozen=True, kw_only=True)
class ClozeParams:
    """How fillings are looked for."""

    top: int = 10
    """Fillings given back."""
    candidates: int = 100
    """Fillings looked at; probabilities are relative to these."""
    longest: int = 8
    """Most characters of `*`."""

    def __post_init__(self) -> None:
        if min(self.top, self.candidates) < 1 or not 1 <= self.longest <= MAX_BLANK:
            raise ConfigError(f"top and candidates must be at least 1, longest from 1 to {MAX_BLANK}")


@dataclass(frozen=True, kw_only=True)
class Filling:
    """One way to fill all blanks."""

    text: str
    """What goes into the blanks; several are joined by a blank."""
    probability: float
    """Among the fillings found."""
    parts: tuple[str, ...]
    """What goes into each blank."""
    whole: str
    """The text with its blanks filled."""


@dataclass(frozen=True, kw_only=True)
class Gapped:
    """A text cut at its blanks: fixed[0] blank[0] fixed[1] ... blank[-1] fixed[-1]."""

    fixed: tuple[str, ...]
    blanks: tuple[int | None, ...]
    """Characters of each; None: any number."""

    def filled(self, parts: Sequence[str]) -> str:
        """The text as far as `parts` go, with the fixed text after the last of them."""
        return self.fixed[0] + "".join(part + text for part, text in zip(parts, self.fixed[1:], strict=False))


def parse(text: str) -> Gapped:
    """`_`: one character (several in a row are one blank), `*`: any number; `\\_` and `\\*` are the signs themselves.

    ConfigError without a blank, with one that is too long, or with two that touch where one is `*`.
    """
    fixed, blanks, at = [""], list[int | None](), 0
    touches = False
    while at < len(text):
        sign = text[at]
        if sign == "\\" and text[at + 1 : at + 2] in ("_", "*", "\\"):
            fixed[-1] += text[at + 1]
            at, touches = at + 2, False
        elif sign == "_" and touches and blanks[-1] is not None:
            blanks[-1] += 1
            at += 1
        elif sign in "_*":
            if touches:
                raise ConfigError(f"cloze: `*` stands beside another blank in {text!r}; `*` alone means any number")
            blanks.append(1 if sign == "_" else None)
            fixed.append("")
            at, touches = at + 1, True
        else:
            fixed[-1] += sign
            at, touches = at + 1, False
    if not blanks:
        raise ConfigError(f"cloze: no blank in {text!r}; write `_` for each missing character, or `*` for any number")
    if any(blank is not None and blank > MAX_BLANK for blank in blanks):
        raise ConfigError(f"cloze: a blank has more than {MAX_BLANK} characters")
    return Gapped(fixed=tuple(fixed), blanks=tuple(blanks))


@dataclass(frozen=True, kw_only=True)
class Node:
    """A blank that is being filled."""

    ids: tuple[int, ...]
    """All tokens so far (causal: of the text before; masked: of the whole row)."""
    added: bytes
    """What the blank holds so far; it may end inside a character."""
    left: int
    """Characters that are still missing."""
    score: float
    """Log-probability, nats."""
    parts: tuple[str, ...]
    """Blanks before this one."""

    @property
    def open_character(self) -> bool:
        """Whether a character has begun and not ended."""
        return _text_of(self.added) is None


class Cloze:
    """Fills blanks with one model."""

    def __init__(self, lm: LM, *, start_id: int | None = None, mask_id: int | None = None) -> None:
        """`start_id`: the token that stands before a document (None: bos where the model is used to it, else the end of the
        document before). `mask_id`: the token that hides others; None: the model cannot fill by masks."""
        self.lm, self.mask_id = lm, mask_id
        tokenizer = lm.tokenizer
        begins = tokenizer.bos_id if lm.wants_bos and tokenizer.bos_id is not None else tokenizer.document_end_id
        self.start_id = begins if start_id is None else start_id
        self.pieces = pieces_of(tokenizer)
        self.vocabulary = vocabulary_of(tokenizer, lm.model.config.vocab_size)
        self.device = lm.model.embed.weight.device
        self.usable_V = torch.tensor([self._usable(n) for n in range(lm.model.config.vocab_size)], device=self.device)
        self.characters_V = torch.tensor(self.vocabulary.num_characters_V, device=self.device)
        self.continues_V = torch.tensor(self.vocabulary.continues_V, device=self.device)

    def _usable(self, token: int) -> bool:
        """Ordinary text without line ends and other control characters."""
        piece = self.pieces[token] if token < len(self.pieces) else b""
        return bool(piece) and _plain(piece.decode("utf-8", "ignore"))

    @torch.inference_mode()
    def fill(self, text: str, params: ClozeParams, *, kind: Literal["causal", "masked"]) -> list[Filling]:
        """Fillings, the most probable first. ConfigError for a text without blanks, DataError when it is too long."""
        gapped = parse(text)
        training = self.lm.model.training
        self.lm.model.eval()
        try:
            found = self._masked(gapped, params) if kind == "masked" else self._causal(gapped, params)
        finally:
            self.lm.model.train(training)
        if not found:
            raise ModelError("cloze: the vocabulary has no token that fits; try `*`, or another number of `_`")
        top = max(found.values())
        total = sum(math.exp(score - top) for score in found.values())
        ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))[: params.top]
        return [
            Filling(
                text=" ".join(parts),
                probability=math.exp(score - top) / total,
                parts=parts,
                whole=gapped.filled(parts),
            )
            for parts, score in ranked
        ]

    # ---- causal ----------------------------------------------------------------------------------------

    def _causal(self, gapped: Gapped, params: ClozeParams) -> dict[tuple[str, ...], float]:
        """{what goes into the blanks: log p of the whole text}."""
        kept: dict[tuple[str, ...], float] = {(): 0.0}
        for number, blank in enumerate(gapped.blanks):
            proposals = self._proposals(gapped, kept, blank, params)
            ends = number == len(gapped.blanks) - 1 and not gapped.fixed[-1] and blank is None
            texts = [gapped.filled(parts) for parts in proposals]
            scores = dict(zip(proposals, self.score(texts, ends=ends), strict=True))
            best = sorted(scores, key=lambda parts: (-scores[parts], parts))[: params.candidates]
            kept = {parts: scores[parts] for parts in best}
        return kept

    def _proposals(
        self, gapped: Gapped, kept: dict[tuple[str, ...], float], blank: int | None, params: ClozeParams
    ) -> list[tuple[str, ...]]:
        """What the next blank may hold, judged from the left, after every filling of the blanks before."""
        longest = params.longest if blank is None else blank
        nodes = []
        for parts, score in kept.items():
            ids = (self.start_id, *self.lm.tokenizer.encode(gapped.filled(parts)))
            nodes.append(Node(ids=ids, added=b"", left=longest, score=score, parts=parts))
        done: dict[tuple[str, ...], float] = {}
        while nodes:
            for node in nodes:
                text = _text_of(node.added)
                if text is not None and _plain(text) and (node.left == 0 or blank is None):
                    key = (*node.parts, text)
                    done[key] = max(node.score, done.get(key, -math.inf))
            open_nodes = [node for node in nodes if node.left or node.open_character]
            nodes = self._grown(open_nodes, params.candidates)
        return sorted(done, key=lambda parts: (-done[parts], parts))[: 2 * params.candidates]

    def _grown(self, nodes: list[Node], most: int) -> list[Node]:
        """Every node with one token more, the `most` likeliest."""
        if not nodes:
            return []
        logprobs_BV = torch.cat(list(self._next_logprobs([node.ids for node in nodes])))
        return self._best(nodes, logprobs_BV, most, lambda node, token: (*node.ids, token))

    def _best(self, nodes: list[Node], logprobs_BV: torch.Tensor, most: int, put: Any) -> list[Node]:
        left_B1 = torch.tensor([[node.left] for node in nodes], device=self.device)
        open_B1 = torch.tensor([[node.open_character] for node in nodes], device=self.device)
        fits_BV = self.usable_V & (self.characters_V <= left_B1) & (self.continues_V == open_B1)
        before_B1 = torch.tensor([[node.score] for node in nodes], device=self.device)
        total_BV = (logprobs_BV + before_B1).masked_fill(~fits_BV, -math.inf)
        best = total_BV.flatten().topk(min(most, total_BV.numel()))
        grown = []
        for score, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            node, token = nodes[place // total_BV.shape[1]], place % total_BV.shape[1]
            added = node.added + self.pieces[token] if token < len(self.pieces) else node.added
            if score == -math.inf or not _begins_well(added):
                continue
            left = node.left - int(self.characters_V[token])
            grown.append(Node(ids=put(node, token), added=added, left=left, score=score, parts=node.parts))
        return grown

    def _next_logprobs(self, rows: list[tuple[int, ...]]) -> Iterator[torch.Tensor]:
        """[some rows, V]: log-probabilities of the token after each row."""
        for some in self._chunks(rows):
            tokens_BT, lengths_B = self._padded(some)
            hidden_BTD = self.lm.model(tokens_BT)
            last_BD = hidden_BTD[torch.arange(len(some), device=self.device), lengths_B - 1]
            yield self._logprobs(last_BD)

    def _logprobs(self, hidden_BD: torch.Tensor) -> torch.Tensor:
        """[B, V], ids that stand for no token at -inf."""
        logprob_BV = torch.log_softmax(self.lm.model.logits(hidden_BD).float(), dim=-1)
        absent_E = torch.tensor(self.lm.generator.absent_ids, dtype=torch.long, device=logprob_BV.device)
        return logprob_BV.index_fill(1, absent_E, -math.inf)

    def score(self, texts: Sequence[str], *, ends: bool) -> list[float]:
        """log p of each whole text in nats, from the start of a document; `ends`: and that the document ends there."""
        end = [self.lm.tokenizer.document_end_id] if ends else []
        rows = [(self.start_id, *self.lm.tokenizer.encode(text), *end) for text in texts]
        order = sorted(range(len(rows)), key=lambda n: -len(rows[n]))
        scores = [0.0] * len(rows)
        done = 0
        for some in self._chunks([rows[n] for n in order]):
            tokens_BT, lengths_B = self._padded(some)
            counted_BT = torch.arange(1, tokens_BT.shape[1], device=self.device)[None] < lengths_B[:, None]
            hidden_BTD = self.lm.model(tokens_BT)[:, :-1]
            weight_VD = self.lm.model.output_weight()
            logprobs_N, _ = token_logprobs(hidden_BTD.flatten(0, 1), weight_VD, tokens_BT[:, 1:].flatten())
            sums_B = (logprobs_N.view(counted_BT.shape) * counted_BT).sum(1)
            for place, value in enumerate(sums_B.tolist()):
                scores[order[done + place]] = value
            done += len(some)
        return scores

    def _chunks(self, rows: Sequence[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
        context = self.lm.model.config.max_positions
        longest = max(map(len, rows))
        if longest > context:
            raise DataError(f"cloze: the text has {longest} tokens, the model takes {context}; give a shorter one")
        size = max(_BATCH_TOKENS // longest, 1)
        for at in range(0, len(rows), size):
            yield list(rows[at : at + size])

    def _padded(self, rows: list[tuple[int, ...]]) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(map(len, rows))
        pad = self.lm.tokenizer.pad_id
        tokens_BT = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=self.device)
        return tokens_BT, torch.tensor([len(row) for row in rows], device=self.device)

    # ---- masked ----------------------------------------------------------------------------------------

    def _masked(self, gapped: Gapped, params: ClozeParams) -> dict[tuple[str, ...], float]:
        """{what goes into the blanks: log p of its tokens, one after another, given everything that is not hidden}."""
        if self.mask_id is None:
            raise ConfigError("cloze: this model was not trained with masks; leave --objective out, or train with masked")
        fixed = [self.lm.tokenizer.encode(text) for text in gapped.fixed]
        found: dict[tuple[str, ...], float] = {}
        for layout in self._layouts(gapped, params):
            for parts, score in self._restored(gapped, fixed, layout, params).items():
                found[parts] = max(score, found.get(parts, -math.inf))
        best = sorted(found, key=lambda parts: (-found[parts], parts))[: params.candidates]
        return {parts: found[parts] for parts in best}

    def _layouts(self, gapped: Gapped, params: ClozeParams) -> list[tuple[int, ...]]:
        """Numbers of tokens the blanks may have: those the vocabulary allows, and two more for rare characters."""
        most = max(int(self.vocabulary.num_characters_V.max()), 1)
        choices = []
        for blank in gapped.blanks:
            fewest = 0 if blank is None else math.ceil(blank / most)
            choices.append(range(fewest, (params.longest if blank is None else blank + 2) + 1))
        layouts = list(product(*choices))
        # Those near one token a character first: where there are too many, these are the likeliest.
        wanted = [blank or 1 for blank in gapped.blanks]
        layouts.sort(key=lambda layout: sum(abs(n - w) for n, w in zip(layout, wanted, strict=True)))
        return layouts[:_MOST_LAYOUTS]

    def _restored(
        self, gapped: Gapped, fixed: list[list[int]], layout: tuple[int, ...], params: ClozeParams
    ) -> dict[tuple[str, ...], float]:
        """Fillings with these numbers of tokens."""
        assert self.mask_id is not None
        row, places = [self.start_id, *fixed[0]], list[list[int]]()
        for num, after in zip(layout, fixed[1:], strict=True):
            places.append(list(range(len(row), len(row) + num)))
            row += [self.mask_id] * num + after
        nodes = [Node(ids=tuple(row), added=b"", left=0, score=0.0, parts=())]
        for blank, own in zip(gapped.blanks, places, strict=True):
            longest = params.longest if blank is None else blank
            nodes = [Node(ids=n.ids, added=b"", left=longest, score=n.score, parts=n.parts) for n in nodes]
            for place in own:
                nodes = self._put(nodes, place, params.candidates)
            closed = []
            for node in nodes:
                text = _text_of(node.added)
                if text is not None and _plain(text) and (blank is None or node.left == 0):
                    parts = (*node.parts, text)
                    closed.append(Node(ids=node.ids, added=b"", left=0, score=node.score, parts=parts))
            nodes = closed
        return {node.parts: node.score for node in nodes}

    def _put(self, nodes: list[Node], place: int, most: int) -> list[Node]:
        """Every node with the token at `place` restored; the state before a token predicts it."""
        if not nodes:
            return []
        logprobs = []
        for some in self._chunks([node.ids for node in nodes]):
            tokens_BT, _ = self._padded(some)
            both_1TT = torch.ones(1, tokens_BT.shape[1], tokens_BT.shape[1], dtype=torch.bool, device=self.device)
            hidden_BD = self.lm.model(tokens_BT, mask_BTS=both_1TT)[:, place - 1]
            logprobs.append(self._logprobs(hidden_BD))
        return self._best(
            nodes, torch.cat(logprobs), most, lambda node, token: (*node.ids[:place], token, *node.ids[place + 1 :])
        )


def _plain(text: str) -> bool:
    """Whether a filling may hold it."""
    return not any(unicodedata.category(character) in _LEFT_OUT for character in text)


def _text_of(data: bytes) -> str | None:
    """The text, None inside a character."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _begins_well(data: bytes) -> bool:
    """Whether the bytes are the beginning of a text (at most three of a last character may stand alone)."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True


def about_of(model: str | Path) -> dict[str, Any]:
    """What `chatwright pretrain` wrote beside a model ({"objective", "mask_id", "start_id"}); empty for other models."""
    file = hub.model_folder(model) / ABOUT
    if not file.is_file():
        return {}
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        known = about["objective"] in ("causal", "masked", "mixed") and isinstance(about["start_id"], int)
        known = known and isinstance(about["mask_id"], int | None)
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise ModelError(f"{file}: is damaged; train the model again")
    return dict(about)


def kind_for(about: dict[str, Any], gapped: Gapped) -> Literal["causal", "masked"]:
    """How a model fills best: by masks when it learned nothing else, or when it learned both and text follows a blank."""
    objective = about.get("objective", "causal")
    if objective == "mixed":
        return "masked" if any(gapped.fixed[1:]) else "causal"
    return "masked" if objective == "masked" else "causal"
