"""The most probable continuations of a prompt, as a tree of tokens.

The tree holds the most probable continuations of any length. A continuation is never more probable
than its beginning, so the most probable of the known continuations is always the next node. In one
step the engine expands up to 32 continuations: the next one and those that are likely to follow it.
Each step is a request of the visitor, so other visitors get their turns between two steps.
"""

from __future__ import annotations

import codecs
import heapq
import itertools
import math
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from gptj_demo.client.pacing import PAGE
from gptj_demo.client.prompt import check_ids
from gptj_demo.client.refusal import RequestRefused
from gptj_demo.client.worker import Worker
from gptj_demo.protocol import (
    Expanded,
    Expansion,
    Finished,
    GenerationRequest,
    Visitor,
    Written,
)
from gptj_demo.sampling import CONTROLS, TREE_CONTROLS, SamplingParams
from gptj_demo.texts import message, quoted
from gptj_demo.tokenization import Vocabulary

MAX_NODES = 1000
MAX_DEPTH = 32
STEP = 32
"""Continuations that the engine expands in one step."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a tree ends: `nodes` in all, `depth` tokens, and the least probability of a node."""

    nodes: int = 100
    depth: int = 12
    least: float = 0.0

    @classmethod
    def checked(cls, nodes: Any, depth: Any, least: Any) -> Limits:
        """Limits from untrusted values; raises `RequestRefused`."""
        for wrong, value, most in (
            ("likely.wrong_nodes", nodes, MAX_NODES),
            ("likely.wrong_depth", depth, MAX_DEPTH),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise RequestRefused("invalid", message(wrong, value=quoted(value), most=most))
        is_number = isinstance(least, int | float) and not isinstance(least, bool)
        if not is_number or not 0 <= least <= 1:
            why = message("likely.wrong_least", value=quoted(least))
            raise RequestRefused("invalid", why)
        return cls(nodes, depth, float(least))


@dataclass(slots=True, eq=False)
class Node:
    """One token of the tree; the path from the root to it is a continuation.

    `logprob` is the token's log-probability after its parent, `total` that of the whole
    continuation. `ends` says that the token ends a text. The root has no token.
    """

    token_id: int
    logprob: float
    total: float
    depth: int
    parent: Node | None
    ends: bool = False
    number: int = -1
    """Its place in the tree, from 0; -1 for the root and for a node that is not in the tree."""
    is_expanded: bool = False

    def path(self) -> list[Node]:
        """The nodes from the root's child to this one."""
        nodes = []
        node: Node | None = self
        while node is not None and node.parent is not None:
            nodes.append(node)
            node = node.parent
        return nodes[::-1]


@dataclass(slots=True)
class LikelyTree:
    """Grows the tree: expand the nodes of `batch`, pass the answers to `add`, then call `take`.

    `ends` are tokens that end a text. Independent of the engine.
    """

    limits: Limits
    ends: frozenset[int] = frozenset()
    root: Node = field(default_factory=lambda: Node(-1, 0.0, 0.0, 0, None))
    taken: list[Node] = field(default_factory=list)
    """The tree, the most probable node first."""
    _known: list[tuple[float, int, Node]] = field(default_factory=list)  # a heap: not yet taken
    _best: list[float] = field(default_factory=list)  # a heap: the totals of the best nodes known
    _serial: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def floor(self) -> float:
        """The least log-probability of a continuation that can still enter the tree."""
        least = math.log(self.limits.least) if self.limits.least > 0 else -math.inf
        return max(least, self._best[0]) if len(self._best) == self.limits.nodes else least

    @property
    def is_done(self) -> bool:
        """Whether the tree has all the nodes that it can have."""
        return len(self.taken) == self.limits.nodes or (
            not self._newest_is_open and not self._known
        )

    def batch(self, most: int = STEP) -> list[Node]:
        """The nodes to expand next: the newest of the tree, then the best of the others."""
        chosen = [self._newest] if self._newest_is_open else []
        places = self.limits.nodes - len(self.taken)
        for _, _, node in heapq.nsmallest(places, self._known):
            if len(chosen) == most:
                break
            if self._is_open(node) and node.total > self.floor:
                chosen.append(node)
        return chosen

    def add(self, node: Node, children: Iterable[tuple[int, float]]) -> None:
        """The answer for a node: token ids and log-probabilities, the most probable first."""
        node.is_expanded = True
        for token_id, logprob in children:
            total = node.total + logprob
            if total < self.floor:
                break
            child = Node(token_id, logprob, total, node.depth + 1, node, token_id in self.ends)
            heapq.heappush(self._known, (-total, next(self._serial), child))
            heapq.heappush(self._best, total)
            if len(self._best) > self.limits.nodes:
                heapq.heappop(self._best)

    def take(self) -> list[Node]:
        """Move the nodes that are certain to come next into the tree; returns them."""
        new = []
        while self._known and not self._newest_is_open and len(self.taken) < self.limits.nodes:
            _, _, node = heapq.heappop(self._known)
            node.number = len(self.taken)
            self.taken.append(node)
            new.append(node)
        return new

    @property
    def _newest(self) -> Node:
        return self.taken[-1] if self.taken else self.root

    @property
    def _newest_is_open(self) -> bool:
        return self._is_open(self._newest)

    def _is_open(self, node: Node) -> bool:
        """Whether its children are unknown and can enter the tree."""
        return not (node.is_expanded or node.ends or node.depth >= self.limits.depth)


def covered(nodes: Sequence[Node]) -> list[float]:
    """The total probability of the tree's continuations of 1 token, of 2 tokens, and so on.

    A continuation that ended earlier counts as one of each later length.
    """
    deepest = max((node.depth for node in nodes), default=0)
    sums = [0.0] * deepest
    for node in nodes:
        last = deepest if node.ends else node.depth
        for depth in range(node.depth, last + 1):
            sums[depth - 1] += math.exp(node.total)
    return sums


def controls_of_a_tree(params: SamplingParams) -> SamplingParams:
    """The controls, with those switched off that a tree does not support.

    A path is read and not continued, so it gets no room for a text.
    """
    off = {
        one.name: one.default if one.off is None else one.off
        for one in CONTROLS
        if one not in TREE_CONTROLS
    }
    return params.model_copy(update={**off, "truncate": "error", "seed": 0, "max_new_tokens": 1})


def fit_prompt(
    worker: Worker, token_ids: Sequence[int], limits: Limits, truncate: str
) -> tuple[tuple[int, ...], Limits]:
    """The prompt's tokens that are read, and limits of a tree that fits after them.

    Raises `RequestRefused`.
    """
    ready = worker.require_ready()
    ids, context = tuple(token_ids), ready.context_length
    check_ids(ids, ready.vocabulary)
    if truncate == "left":
        ids = ids[-(context - min(limits.depth, context // 2)) :]
    if len(ids) > context:
        sizes = {"tokens": len(ids), "context": context, "count": len(ids) - context}
        raise RequestRefused("too_long", message("refused.too_long", **sizes), "truncate")
    ids = ids or (ready.vocabulary.bos_token_id,)
    # the last token of a continuation is not read
    depth = min(limits.depth, context - len(ids) + 1)
    return ids, Limits(limits.nodes, depth, limits.least)


async def grow(
    worker: Worker,
    token_ids: tuple[int, ...],
    limits: Limits,
    params: SamplingParams | None,
    visitor: Visitor | None,
) -> AsyncGenerator[list[Node], None]:
    """The new nodes of the tree after each step, the most probable first.

    `token_ids` and `limits` fit (see `fit_prompt`). Without `params` the probabilities are the
    model's own; with `params` they are those after the controls. While the engine does not answer,
    an empty list is yielded every half second. Raises `RequestRefused`, also if the engine failed.
    """
    if worker.moderation is not None:
        raise RequestRefused("invalid", message("likely.filtered"))
    tree = LikelyTree(limits, _ends(worker, params))
    controls = controls_of_a_tree(params or SamplingParams())
    continues = False
    while not tree.is_done:
        batch = tree.batch()
        expansion = Expansion(
            tuple(_written(node) for node in batch),
            tuple(tree.floor - node.total for node in batch),
            limits.nodes,
            after_controls=params is not None,
        )
        request = GenerationRequest(token_ids, controls, visitor, expansion, continues=continues)
        continues = True
        async with aclosing(worker.stream(request)) as stream:
            while not stream.done:
                events = await stream.drain(timeout=PAGE.sign_of_life)
                for event in events:
                    if isinstance(event, Expanded):
                        tree.add(batch[event.index], event.children)
                    elif isinstance(event, Finished) and not batch[event.index].is_expanded:
                        raise RequestRefused("unavailable", event.message)
                if not events:
                    yield []
        yield tree.take()


def unfinished(vocabulary: Vocabulary, token_ids: Iterable[int]) -> bytes:
    """The bytes at the end of a text that are the beginning of a character."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token_id in token_ids:
        decoder.decode(vocabulary.bytes_of(token_id))
    return decoder.getstate()[0]


def described(vocabulary: Vocabulary, node: Node, before: bytes = b"") -> dict[str, Any]:
    """A node of a tree as JSON for page and API; `before` is put before its text.

    `text` is the whole continuation, without a token that ends it and without the bytes of a
    character that is not complete.
    """
    path = node.path()
    own = b"".join(vocabulary.bytes_of(one.token_id) for one in path if not one.ends)
    parent = node.parent
    return {
        "id": node.number,
        "parent": None if parent is None or parent.number < 0 else parent.number,
        "depth": node.depth,
        "token_id": node.token_id,
        "token": vocabulary.text_of(node.token_id),
        "text": codecs.getincrementaldecoder("utf-8")(errors="replace").decode(before + own),
        "logprob": round(node.logprob, 6),
        "sum_logprob": round(node.total, 6),
        "ends": node.ends,
    }


def _ends(worker: Worker, params: SamplingParams | None) -> frozenset[int]:
    """The tokens after which a text does not go on."""
    ends = frozenset(worker.require_ready().vocabulary.eos_token_ids)
    if params is None:
        return ends
    return (frozenset() if params.ignore_eos else ends) | frozenset(params.stop_token_ids)


def _written(node: Node) -> Written:
    path = node.path()
    return Written(tuple(one.token_id for one in path), tuple(one.logprob for one in path))
