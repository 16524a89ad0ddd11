"""Which slot a prompt gets: the radix tree chooses as a comparison with every slot does."""

from __future__ import annotations

from collections.abc import Sequence as Tokens
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptj_demo.engine import prefix_cache
from gptj_demo.engine.prefix_cache import MIN_REUSED_TOKENS, Placement, PrefixCache, PrefixTree

LONGEST = 3200  # tokens of any sequence here
PAGES = 256 * LONGEST // 16


def common_length(one: Tokens[int], other: Tokens[int]) -> int:
    length = 0
    while length < min(len(one), len(other)) and one[length] == other[length]:
        length += 1
    return length


@dataclass
class Slot:
    """A slot of `LinearCache`."""

    number: int
    is_held: bool = False
    tokens: tuple[int, ...] = ()
    used: int = 0  # the later it was freed or its tokens were reused, the higher


class LinearCache:
    """The slow reference: compares a prompt with the tokens of each slot."""

    def __init__(self, slots: int) -> None:
        self.slots = [Slot(number) for number in range(slots)]
        self.times_used = 0

    def place(self, prompt: Tokens[int], most_reused: int) -> tuple[int, int, int | None]:
        """The chosen slot, the number of reused tokens, and the slot that holds them."""
        free = [slot for slot in self.slots if not slot.is_held]
        target = min(free, key=lambda slot: (slot.used if slot.tokens else -1, slot.number))
        reused, source = 0, target
        for slot in self.slots:
            common = common_length(prompt[:most_reused], slot.tokens)
            if common > reused and common >= MIN_REUSED_TOKENS:
                reused, source = common, slot
        if not source.is_held and reused >= len(source.tokens) // 2:
            target = source
        if reused and not source.is_held:
            self.times_used += 1
            source.used = self.times_used
        target.is_held, target.tokens = True, tuple(prompt[:reused])
        return target.number, reused, source.number if reused else None

    def extend(self, slot: int, tokens: Tokens[int]) -> None:
        self.slots[slot].tokens += tuple(tokens)

    def release(self, slot: int, *, keep: bool) -> None:
        self.times_used += 1
        one = self.slots[slot]
        one.is_held, one.used = False, self.times_used
        if not keep:
            one.tokens = ()


def place(cache: PrefixCache, prompt: Tokens[int], most_reused: int) -> Placement:
    placement = cache.place(prompt, most_reused, LONGEST)
    assert placement is not None
    return placement


def check_tree(tree: PrefixTree, slots: int) -> None:
    """Check the tree's invariants: masks add up, and no node could be merged with its child."""
    ends = tree._ends
    waiting = [tree._root]
    while waiting:
        node = waiting.pop()
        below = 0
        for token, child in node.children.items():
            assert child.parent is node
            assert child.tokens[0] == token
            assert not below & child.slots
            below |= child.slots
            waiting.append(child)
        if node is not tree._root:
            ending = sum(1 << slot for slot in range(slots) if ends[slot] is node)
            assert node.slots == ending | below != 0
            assert node.ends == ending
            assert node.tokens
            assert ending or len(node.children) > 1


# two kinds of tokens in runs, so that prompts share prefixes of all lengths
texts = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 9)), max_size=4).map(
    lambda runs: tuple(token for token, length in runs for _ in range(length))
)


@given(
    slots=st.integers(1, 6),
    actions=st.lists(
        st.one_of(
            st.tuples(st.just("place"), texts.map(lambda text: (*text, 0)), st.integers(0, 40)),
            st.tuples(st.just("extend"), texts, st.integers(0, 5)),
            st.tuples(st.just("release"), st.integers(0, 5), st.integers(0, 3)),
        ),
        max_size=40,
    ),
)
def test_slots_are_chosen_as_by_a_comparison_with_every_slot(
    slots: int, actions: list[tuple[str, tuple[int, ...] | int, int]]
) -> None:
    linear = LinearCache(slots)
    asked: set[int] = set()

    def computed(slot: int, start: int) -> tuple[int, ...]:
        asked.add(slot)
        return linear.slots[slot].tokens[start:]

    cache = PrefixCache(slots, PAGES, computed)
    held: list[int] = []
    for kind, subject, number in actions:
        if kind == "place" and cache.free:
            assert isinstance(subject, tuple)
            asked.clear()
            placement = place(cache, subject, max(0, len(subject) - 1 - number))
            assert asked <= set(held)
            expected = linear.place(subject, max(0, len(subject) - 1 - number))
            assert (placement.slot, placement.reused, placement.source) == expected
            linear.extend(placement.slot, subject[placement.reused :])
            held.append(placement.slot)
        elif kind == "extend" and held:
            assert isinstance(subject, tuple)
            linear.extend(held[number % len(held)], subject)
        elif kind == "release" and held:
            assert isinstance(subject, int)
            slot = held.pop(subject % len(held))
            cache.release(slot, keep=number > 0)
            linear.release(slot, keep=number > 0)
            assert cache._tree.tokens(slot) == linear.slots[slot].tokens
        assert cache.free == slots - len(held)
        cache.check_integrity()
        for one in linear.slots:
            known = cache._tree.tokens(one.number)
            assert known == one.tokens[: cache._tree.lengths[one.number]]
        check_tree(cache._tree, slots)


def test_the_tokens_that_a_visitor_has_sent_are_counted_apart_from_those_of_others() -> None:
    """Others would learn from the first number what somebody wrote."""
    whole = tuple(range(50))
    cache = PrefixCache(8, PAGES, lambda slot, start: ())

    def read(prompt: tuple[int, ...], visitor: str | None) -> tuple[int, int]:
        placement = cache.place(prompt, len(prompt) - 1, LONGEST, visitor)
        assert placement is not None
        cache._tree.extend(placement.slot, prompt[placement.reused :])
        return placement.reused, placement.own

    assert read(whole[:30], "a") == (0, 0)
    assert read((*whole[:20], 99), "b") == (20, 0)
    assert read(whole, "b") == (30, 20)
    assert read(whole, "a") == (49, 30)
    assert read(whole, "c") == (49, 0)
    assert read(whole, None) == (49, 0)
    assert read(whole, "c") == (49, 49)


def test_sequences_that_grow_token_by_token_beside_each_other_share_their_nodes() -> None:
    tree = PrefixTree(3)
    for token in range(100):
        for slot in range(3):
            tree.extend(slot, (token,))
    check_tree(tree, 3)
    assert len(tree._root.children) == 1
    assert tree.longest(tuple(range(100)), 100) == (100, 0b111, 0b111)
    tree.extend(1, (7, 8))
    assert tree.longest((*range(100), 7), 101) == (101, 0b010, 0b101)


@pytest.mark.parametrize("shared", [0, 1000])
def test_a_look_up_does_no_more_where_there_are_more_slots(
    shared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = 0
    compare = prefix_cache.common_length

    def counting(run: list[int], tokens: Tokens[int], start: int, limit: int) -> int:
        nonlocal compared
        compared += 1
        return compare(run, tokens, start, limit)

    monkeypatch.setattr(prefix_cache, "common_length", counting)
    counts = []
    for slots in (4, 32, 256):
        prompts: dict[int, tuple[int, ...]] = {}
        asked = 0

        def computed(slot: int, start: int) -> Tokens[int]:
            nonlocal asked
            asked += 1
            return prompts[slot][start:]  # noqa: B023

        cache = PrefixCache(slots, PAGES, computed)
        new = (*range(shared), 5, 6, 7)
        for number in range(slots - 2):
            prompt = (*range(shared), *(10_000 + number,) * 1000)
            prompts[place(cache, prompt, len(prompt) - 1).slot] = prompt
        prompts[place(cache, new, len(new) - 1).slot] = new  # enters the others into the tree
        compared = asked = 0
        place(cache, (*range(shared), 5, 6, 8, 9), shared + 3)
        counts.append((compared, asked))
    assert counts[0] == counts[1] == counts[2]
    assert max(counts[0]) <= 8
