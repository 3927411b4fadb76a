"""The most probable answers to a prompt within a constraint: best-first search over the tree of its continuations.

Every step has the model's probabilities, renormalised over the tokens that the constraint allows there; the probability of
an answer is their product, its end included. This is how often sampling within the constraint gives that answer, and over
all answers it sums to 1. As a continuation is never more probable than what it continues, answers come off the queue in
the order of their probability: within `max_nodes` nothing better has been missed (Dijkstra's argument; no beam is cut).

Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import torch

from chatwright.errors import DataError, ModelError
from chatwright.generation.constrain import Matcher
from chatwright.model.transformer import Transformer
from chatwright.text.tokenizer import Tokenizer

MAX_TOKENS = 32  # of an answer
_ROWS = 8  # prefixes that go through the model together


@dataclass(kw_only=True)
class Node:
    """A beginning of an answer."""

    ids: tuple[int, ...]
    """Its tokens."""
    logprob: float
    """Nats."""
    matcher: Matcher
    order_V: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """Tokens that may follow, the likeliest first; the end is -1."""
    logprobs_V: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    """Of these, in the same order."""


class Search:
    """Best-first search with one model."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, max_nodes: int = 256) -> None:
        """An answer ends where a document ends. `max_nodes`: beginnings that go through the model at most."""
        self.model, self.max_nodes, self.end = model, max_nodes, tokenizer.document_end_id
        self.device = model.embed.weight.device
        # The constraint lets any of these follow a complete answer; the end of a document alone is learned here.
        self.stops_E = torch.tensor(sorted({*tokenizer.stop_ids, self.end}), device=self.device)

    @torch.inference_mode()
    def best(self, prompt: Sequence[int], matcher: Matcher, num: int) -> list[tuple[tuple[int, ...], float]]:
        """(tokens without the end, log-probability in nats) of the `num` most probable answers, best first; fewer when
        `max_nodes` were not enough. DataError for a prompt that is too long, ModelError for one that finds no answer."""
        context = self.model.config.max_positions
        longest = context - len(prompt)
        if longest < 1:
            raise DataError(f"the text has {len(prompt)} tokens with what stands around it; the model takes {context}")
        tie, queue = count(), list[tuple[float, int, Node, int]]()
        waiting, found, evaluated = [Node(ids=(), logprob=0.0, matcher=matcher)], list[tuple[tuple[int, ...], float]](), 0
        while len(found) < num and (waiting or queue):
            if len(waiting) >= _ROWS or not queue or (waiting and queue[0][2].order_V[queue[0][3]] < 0):
                if evaluated >= self.max_nodes:
                    break
                evaluated += len(waiting)
                self._evaluate(prompt, waiting, min(longest, MAX_TOKENS))
                for node in waiting:
                    _push(queue, tie, node, 0)
                waiting = []
                continue
            _, _, node, rank = heapq.heappop(queue)
            _push(queue, tie, node, rank + 1)
            token, logprob = int(node.order_V[rank]), node.logprob + float(node.logprobs_V[rank])
            if token < 0:
                found.append((node.ids, logprob))
                continue
            after = node.matcher.copy()
            after.accept(token)
            waiting.append(Node(ids=(*node.ids, token), logprob=logprob, matcher=after))
        if not found:
            raise ModelError(f"no answer ended within {self.max_nodes} attempts: the model was not trained for such answers")
        return found

    def _evaluate(self, prompt: Sequence[int], nodes: Sequence[Node], longest: int) -> None:
        """Fill in what may follow each node, and how probable it is."""
        width = len(prompt) + max(len(node.ids) for node in nodes)
        rows = [[*prompt, *node.ids] for node in nodes]
        tokens_BT = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=self.device)
        last_B = torch.tensor([len(row) - 1 for row in rows], device=self.device)
        hidden_BD = self.model(tokens_BT)[torch.arange(len(rows), device=self.device), last_B]
        for node, logits_V in zip(nodes, self.model.logits(hidden_BD).float(), strict=True):
            self._order(node, logits_V, may_go_on=len(node.ids) < longest)

    def _order(self, node: Node, logits_V: torch.Tensor, *, may_go_on: bool) -> None:
        allowed_V = node.matcher.mask().to(self.device)
        allowed_V[self.stops_E] = False
        tokens = allowed_V.nonzero()[:, 0] if may_go_on and not node.matcher.broken else self.stops_E[:0]
        scores = logits_V[tokens]
        if node.matcher.complete:
            tokens = torch.cat([tokens, torch.tensor([-1], device=self.device)])
            scores = torch.cat([scores, logits_V[self.end][None]])
        if not len(tokens):
            return
        sorted_scores, places = torch.log_softmax(scores, 0).sort(descending=True, stable=True)
        node.order_V, node.logprobs_V = tokens[places].cpu(), sorted_scores.cpu()


def _push(queue: list[tuple[float, int, Node, int]], tie: count[int], node: Node, rank: int) -> None:
    """Put the child of a node with this rank on the queue, if there is one."""
    if rank < len(node.order_V) and float(node.logprobs_V[rank]) > -math.inf:
        heapq.heappush(queue, (-node.logprob - float(node.logprobs_V[rank]), next(tie), node, rank))


def merged(found: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """(text, probability), best first, from (text, log-probability): spellings of one text are added up."""
    sums: dict[str, float] = {}
    for text, logprob in found:
        sums[text] = sums.get(text, 0.0) + math.exp(logprob)
    return sorted(sums.items(), key=lambda item: -item[1])
