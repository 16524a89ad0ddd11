"""Chooses a prompt's slot and pages in the KV cache, and shares cached prefixes.

A slot keeps its tokens after its sequence has ended, so a new prompt can reuse the longest prefix
in any slot: whole pages are shared by reference, and the rest of a page is copied. A radix tree
over the tokens of all slots finds that prefix; a look-up is linear in the prompt and independent of
the number of slots. If pages are missing, kept prefixes are evicted, the least recently used first.
Independent of torch and of requests.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field

from gptj_demo.engine.page_pool import PagePool
from gptj_demo.pages import PAGE_TOKENS, page_count

# tokens; sharing a shorter prefix costs more than computing it
MIN_REUSED_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Placement:
    """A prompt's slot and the slot's pages; the first `reused` tokens come from the slot `source`.

    `source` is None where nothing is reused. `own` of the reused tokens are in slots of the same
    visitor too. `copied` are a page and the new page that gets a copy of it.
    """

    slot: int
    pages: tuple[int, ...]
    reused: int
    own: int
    source: int | None
    copied: tuple[int, int] | None


class PrefixCache:
    """The tokens and pages that each slot holds, and the order in which free slots are reused.

    `computed(slot, start)` returns the tokens from position `start` on whose keys and values the
    slot's sequence has computed. It is called only if the result could matter, so a running
    sequence costs nothing until a prompt arrives that begins like it.
    """

    def __init__(self, slots: int, pages: int, computed: Callable[[int, int], Tokens[int]]) -> None:
        self._tree = PrefixTree(slots)
        self._pool = PagePool(pages)
        self._pages: list[list[int]] = [[] for _ in range(slots)]
        self._computed = computed
        self._visitors: list[str | None] = [None] * slots
        self._slots_of: dict[str | None, int] = {None: (1 << slots) - 1}  # bit masks, by visitor
        self._empty = list(range(slots))  # a heap: free slots that hold nothing
        self._kept: dict[int, None] = {}  # free slots that hold tokens, least recently used first
        self._held = 0  # bit mask of the slots that are not free

    @property
    def free(self) -> int:
        """Slots that no sequence holds."""
        return len(self._empty) + len(self._kept)

    def place(
        self, prompt: Tokens[int], most_reused: int, length: int, visitor: str | None = None
    ) -> Placement | None:
        """Take a free slot with pages for `length` tokens, which begin with `prompt`.

        Returns None and changes nothing if running sequences hold too many pages. There must be a
        free slot. Empty slots come first, lowest number first, which keeps rows together; then the
        least recently used slot. At most `most_reused` tokens are reused, because the logits of
        later tokens are needed.
        """
        reused, source = self._longest(prompt, most_reused)
        if reused < MIN_REUSED_TOKENS:
            reused, source = 0, -1
        own = self._tree.longest(prompt, reused, self._slots_of.get(visitor, 0))[0]
        shared = self._pages[source][: reused // PAGE_TOKENS] if reused else []
        if not self._pool.can_run(shared, page_count(length)):
            return None

        if source in self._kept and reused >= self._tree.lengths[source] // 2:
            slot = source  # taking the slot over loses little else
        elif self._empty:
            slot = heapq.heappop(self._empty)
        else:
            slot = next(iter(self._kept))
        if source in self._kept:  # used now
            del self._kept[source]
            self._kept[source] = None
        self._pool.run(shared)
        partly = self._pages[source][len(shared)] if reused % PAGE_TOKENS else None
        new: list[int] = []
        if slot == source and partly is not None and self._pool.is_own(partly):
            self._pages[slot].remove(partly)  # the slot keeps writing to it
            self._pool.run([partly])
            self._pool.drop([partly])
            new, partly = [partly], None
        self._kept.pop(slot, None)
        self._empty_slot(slot)
        missing = page_count(length) - len(shared) - len(new)
        while self._pool.free < missing:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            self._empty_slot(oldest)
            heapq.heappush(self._empty, oldest)
        taken = self._pool.take(missing)
        copied = None if partly is None else (partly, taken[0])
        self._pages[slot] = [*shared, *new, *taken]
        self._held |= 1 << slot
        self._give(slot, visitor)
        self._tree.extend(slot, prompt[:reused])
        taken_from = source if reused else None
        return Placement(slot, tuple(self._pages[slot]), reused, own, taken_from, copied)

    def cached(self, prompt: Tokens[int], limit: int) -> int:
        """The length of the longest prefix of `prompt[:limit]` that a slot holds."""
        return self._longest(prompt, limit)[0]

    def release(self, slot: int, *, keep: bool) -> list[int]:
        """Free a slot; with `keep`, later prompts may reuse its tokens.

        Without it, returns those of its pages that no slot holds any more.
        """
        self._held &= ~(1 << slot)
        pages = self._pages[slot]
        self._pool.stop(pages)
        freed: list[int] = []
        if keep:
            self._update(slot)
            used = page_count(self._tree.lengths[slot])
            self._pool.drop(pages[used:])
            del pages[used:]
        else:
            freed = self._empty_slot(slot)
        if self._tree.lengths[slot]:
            self._kept[slot] = None
        else:
            heapq.heappush(self._empty, slot)
        return freed

    def check_integrity(self) -> None:
        """Raise `RuntimeError` if the pool does not count the slots' pages; for tests."""
        held = [slot for slot in range(len(self._pages)) if self._held >> slot & 1]
        self._pool.check_integrity(self._pages, [self._pages[slot] for slot in held])

    def _empty_slot(self, slot: int) -> list[int]:
        """Forget a slot's tokens and drop its pages; returns those that no slot holds any more."""
        self._tree.clear(slot)
        pages, self._pages[slot] = self._pages[slot], []
        return self._pool.drop(pages)

    def _give(self, slot: int, visitor: str | None) -> None:
        """Note whose sequence a slot has."""
        owner, bit = self._visitors[slot], 1 << slot
        self._slots_of[owner] &= ~bit
        if not self._slots_of[owner]:
            del self._slots_of[owner]
        self._visitors[slot] = visitor
        self._slots_of[visitor] = self._slots_of.get(visitor, 0) | bit

    def _longest(self, prompt: Tokens[int], limit: int) -> tuple[int, int]:
        """The longest prefix of `prompt[:limit]` that a slot holds, and the lowest such slot."""
        while True:
            length, slots, ends = self._tree.longest(prompt, limit)
            # sequences that end in this prefix may have grown since
            grown = [slot for slot in _bits(ends & self._held) if self._update(slot)]
            if not grown:
                return length, next(_bits(slots), -1)

    def _update(self, slot: int) -> bool:
        """Add the slot's newly computed tokens to the tree; returns whether there were any."""
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

    def longest(self, tokens: Tokens[int], limit: int, among: int = -1) -> tuple[int, int, int]:
        """The length of the longest prefix of `tokens[:limit]` in any slot, and two bit masks.

        `among` is a bit mask of the slots that count. The masks are the slots that hold that
        prefix, and the slots whose whole sequence is a prefix of `tokens[:limit]`.
        """
        node, length, ends = self._root, 0, self._root.ends
        while length < limit:
            child = node.children.get(tokens[length])
            if child is None or not child.slots & among:
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
