"""Chooses a prompt's slot in the KV cache and finds the longest cached prefix.

A slot keeps its tokens after its sequence has ended, so a new prompt can reuse the longest prefix
in any slot, by taking the slot over or by copying from it. A radix tree over the tokens of all
slots finds that prefix; a look-up is linear in the prompt and independent of the number of slots.
Independent of torch and of requests.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field

# tokens; copying a shorter prefix costs more than computing it
MIN_REUSED_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Placement:
    """A prompt's slot; its first `reused` tokens come from the slot `source`.

    `source` is None if nothing is to be copied: the slot itself holds them, or there are none.
    """

    slot: int
    reused: int
    source: int | None


class PrefixCache:
    """The tokens that each slot holds, and the order in which free slots are reused.

    `computed(slot, start)` returns the tokens from position `start` on whose keys and values the
    slot's sequence has computed. It is called only if the result could matter, so a running
    sequence costs nothing until a prompt arrives that begins like it.
    """

    def __init__(self, slots: int, computed: Callable[[int, int], Tokens[int]]) -> None:
        self._tree = PrefixTree(slots)
        self._computed = computed
        self._empty = list(range(slots))  # a heap: free slots that hold nothing
        self._kept: dict[int, None] = {}  # free slots that hold tokens, first freed first
        self._held = 0  # bit mask of the slots that are not free

    @property
    def free(self) -> int:
        """Slots that no sequence holds."""
        return len(self._empty) + len(self._kept)

    def place(self, prompt: Tokens[int], most_reused: int) -> Placement:
        """Take a free slot for a prompt of which it then holds the reused prefix.

        There must be a free slot. Empty ones come first, lowest number first, which keeps rows
        together; then the one that was freed longest ago. At most `most_reused` tokens are reused:
        the logits after later ones are wanted.
        """
        slot = self._empty[0] if self._empty else next(iter(self._kept))
        reused, source = self._longest(prompt, most_reused)
        if reused < MIN_REUSED_TOKENS:
            reused, source = 0, slot
        elif source in self._kept and reused >= self._tree.lengths[source] // 2:
            slot = source  # taking the slot over loses little else
        if slot in self._kept:
            del self._kept[slot]
        else:
            heapq.heappop(self._empty)
        self._held |= 1 << slot
        self._tree.clear(slot)
        self._tree.extend(slot, prompt[:reused])
        return Placement(slot, reused, source if reused and source != slot else None)

    def release(self, slot: int, *, keep: bool) -> None:
        """Free a slot; with `keep`, later prompts may reuse its tokens."""
        self._held &= ~(1 << slot)
        if keep:
            self._update(slot)
        else:
            self._tree.clear(slot)
        if self._tree.lengths[slot]:
            self._kept[slot] = None
        else:
            heapq.heappush(self._empty, slot)

    def _longest(self, prompt: Tokens[int], limit: int) -> tuple[int, int]:
        """The longest prefix of `prompt[:limit]` that a slot holds, and the lowest such slot."""
        while True:
            length, slots, ends = self._tree.longest(prompt, limit)
            # sequences that end in this prefix may have grown since
            grown = [slot for slot in _bits(ends & self._held) if self._update(slot)]
            if not grown:
                return length, next(_bits(slots), -1)

    def _update(self, slot: int) -> bool:
        """Add the slot's newly computed tokens to the tree; whether there were any."""
        new = self._computed(slot, self._tree.lengths[slot])
        self._tree.extend(slot, new)
        return bool(new)


def _bits(mask: int) -> Iterator[int]:
    """The indices of the set bits, lowest first."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


@dataclass(slots=True, eq=False)
class _Node:
    """A run of tokens shared by the sequences of `slots`; those of `ends` end there (bit masks)."""

    tokens: list[int]
    slots: int
    parent: _Node | None
    ends: int = 0
    children: dict[int, _Node] = field(default_factory=dict)  # by their first token


class PrefixTree:
    """A radix tree of one token sequence per slot; `lengths` has their lengths."""

    def __init__(self, slots: int) -> None:
        every = (1 << slots) - 1
        self._root = _Node([], every, None, ends=every)
        self._ends = [self._root] * slots
        self.lengths = [0] * slots

    def tokens(self, slot: int) -> tuple[int, ...]:
        """The slot's sequence."""
        parts = []
        node: _Node | None = self._ends[slot]
        while node is not None:
            parts.append(node.tokens)
            node = node.parent
        return tuple(token for part in reversed(parts) for token in part)

    def longest(self, tokens: Tokens[int], limit: int) -> tuple[int, int, int]:
        """The length of the longest prefix of `tokens[:limit]` in any slot, and two bit masks.

        The masks are the slots that hold that prefix, and the slots whose whole sequence is a
        prefix of `tokens[:limit]`.
        """
        node, length, ends = self._root, 0, self._root.ends
        while length < limit:
            child = node.children.get(tokens[length])
            if child is None:
                break
            common = common_length(child.tokens, tokens, length, limit)
            node, length = child, length + common
            if common < len(child.tokens):
                break
            ends |= child.ends
        return length, node.slots, ends

    def extend(self, slot: int, tokens: Tokens[int]) -> None:
        """Append `tokens` to the slot's sequence."""
        start, bit, limit = self._ends[slot], 1 << slot, len(tokens)
        self.lengths[slot] += limit
        if start.slots == bit and start is not self._root:  # a leaf of this sequence only
            start.tokens.extend(tokens)
            return
        node, done = start, 0
        node.ends &= ~bit
        while done < limit:
            child = node.children.get(tokens[done])
            if child is None:
                child = _Node(list(tokens[done:]), bit, node)
                node.children[tokens[done]] = child
                node = child
                break
            common = common_length(child.tokens, tokens, done, limit)
            if common < len(child.tokens):
                child = _split(child, common)
            child.slots |= bit
            node, done = child, done + common
        node.ends |= bit
        self._ends[slot] = node
        _merge(start)

    def clear(self, slot: int) -> None:
        """Make the slot's sequence empty."""
        node = self._ends[slot]
        keep = ~(1 << slot)
        node.ends &= keep
        lowest = None  # of the remaining nodes
        while (parent := node.parent) is not None:
            node.slots &= keep
            if not node.slots:
                del parent.children[node.tokens[0]]
            elif lowest is None:
                lowest = node
            node = parent
        if lowest is not None:
            _merge(lowest)
        self._root.ends |= 1 << slot
        self._ends[slot], self.lengths[slot] = self._root, 0


def _split(node: _Node, length: int) -> _Node:
    """Split a node after `length` tokens; returns the new node with these tokens."""
    parent = node.parent
    assert parent is not None
    upper = _Node(node.tokens[:length], node.slots, parent)
    del node.tokens[:length]
    upper.children[node.tokens[0]] = node
    parent.children[upper.tokens[0]] = node.parent = upper
    return upper


def _merge(node: _Node) -> None:
    """Merge a node with its only child if no sequence ends between them."""
    parent = node.parent
    if parent is None or node.ends or len(node.children) != 1:
        return
    (child,) = node.children.values()
    child.tokens[:0] = node.tokens
    child.parent = parent
    parent.children[child.tokens[0]] = child


def common_length(run: list[int], tokens: Tokens[int], start: int, limit: int) -> int:
    """How many tokens of `run` equal `tokens[start:limit]`, from the first on.

    Compares slices, which is faster than token by token.
    """
    low, high = 0, min(len(run), limit - start)
    if run[:high] == list(tokens[start : start + high]):
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if run[low:middle] == list(tokens[start + low : start + middle]):
            low = middle
        else:
            high = middle - 1
    return low
