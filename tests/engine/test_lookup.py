"""Prompt lookup: what it drafts, and what it learns of a text."""

from __future__ import annotations

import random

from gptj_demo.engine.lookup import PromptLookup, Text
from gptj_demo.engine.scheduler import Sequence


def text_of(tokens: list[int]) -> Text:
    text = Text()
    for token in tokens:
        text.add(token)
    return text


def test_the_tokens_that_followed_before_are_drafted() -> None:
    text = text_of([1, 2, 3, 4, 5, 6, 1, 2, 3])
    assert text.draft(3, 0.0) == [4, 5, 6]
    assert text.draft(0, 0.0) == []
    assert text_of([1, 2, 3, 4, 1, 2, 5]).draft(3, 0.0) == []


def test_a_loop_goes_on_past_the_end_of_the_text() -> None:
    assert text_of([7, 8] * 10).draft(5, 0.5) == [7, 8, 7, 8, 7]
    assert text_of([9] * 20).draft(4, 0.5) == [9, 9, 9, 9]


def test_predictions_that_were_wrong_make_later_ones_unlikely() -> None:
    """Predictions count even if nothing was drafted."""
    misleading = [token for n in range(30) for token in (1, 2, 3, 100 + n)]
    assert text_of([1, 2, 3, 100, 1, 2, 3]).draft(1, 0.1) == [100]
    assert text_of([*misleading, 1, 2, 3]).draft(1, 0.1) == []


def test_random_text_drafts_nothing_where_a_row_costs_much() -> None:
    generator = random.Random(1)
    text = Text()
    drafted = 0
    for _ in range(2000):
        text.add(generator.randrange(6))
        drafted += len(text.draft(8, 0.5))
    assert drafted < 40


def test_the_text_of_a_sequence_grows_with_it_and_is_dropped_at_its_end() -> None:
    lookup = PromptLookup()
    sequence = Sequence(1, (1, 2, 3, 4))
    other = Sequence(2, (5, 6, 7, 8, 5, 6, 7))
    sequence.generated_token_ids += [9, 1, 2]
    assert lookup.draft([sequence, other], [], [3, 1], 0.0) == [[], [8]]
    sequence.generated_token_ids.append(3)
    assert lookup.draft([sequence], [], [3], 0.0) == [[4, 9, 1]]
    lookup.forget(sequence)
    assert not any(one is sequence for one in lookup._texts)


def ended(lookup: PromptLookup, number: int, visitor: str | None, tokens: list[int]) -> None:
    """A text of a visitor that has ended."""
    sequence = Sequence(number, tuple(tokens[:2]), visitor=visitor)
    lookup.draft([sequence], [], [1], 0.0)
    sequence.generated_token_ids += tokens[2:]
    lookup.forget(sequence)


def test_tokens_are_drafted_from_other_texts_of_the_same_visitor_only() -> None:
    lookup = PromptLookup()
    ended(lookup, 1, "a", [1, 2, 3, 4, 5, 6])
    ended(lookup, 2, "b", [1, 2, 3, 7, 7])
    ended(lookup, 3, None, [1, 2, 3, 8, 8])
    texts = [Sequence(4 + n, (1, 2, 3), visitor=one) for n, one in enumerate(("a", "b", "c", None))]
    assert lookup.draft(texts, [], [9] * 4, 0.0) == [[4, 5, 6], [7, 7], [], []]


def test_the_longest_match_is_drafted_and_the_own_text_wins_ties() -> None:
    """Of equal matches the sequence's own text wins; longer matches are likelier to go on."""
    lookup = PromptLookup()
    ended(lookup, 1, "a", [9, 9, 1, 2, 3, 4])
    ended(lookup, 2, "a", [6, 7, 1, 2, 3, 5])
    ended(lookup, 3, "a", [8, 8, 1, 2, 3, 6])
    far = Sequence(4, (6, 7, 1, 2, 3), visitor="a")
    near = Sequence(5, (0, 1, 2, 3), visitor="a")
    own = Sequence(6, (1, 2, 3, 0, 1, 2, 3), visitor="a")
    assert lookup.draft([far, near, own], [], [1] * 3, 0.0) == [[5], [6], [0]]
    assert lookup.draft([far, near, own], [], [1] * 3, 0.5) == [[5], [], []]


def test_the_number_of_kept_texts_is_limited() -> None:
    lookup = PromptLookup()
    for number in range(300):
        ended(lookup, number, f"visitor {number // 20}", [number, 1, 2, 3])
    kept = [text for texts in lookup._ended.values() for text in texts]
    assert len(kept) == 64
    assert {len(texts) for texts in lookup._ended.values()} == {8}
    assert list(lookup._ended)[-1] == "visitor 14"
