"""The hold-back of one completion: nothing of a flagged sentence is sent, all other text is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptj_demo.client.moderation.holdback import WINDOW, Action, Holdback
from gptj_demo.client.moderation.sentences import first_end, last_part
from gptj_demo.client.moderation.verdict import FAILED, PASSED, Verdict
from gptj_demo.protocol import Finished, Passage, StreamEvent, TokenEvent
from gptj_demo.texts import message
from tests.moderation.streams import PLANTED, finished, text_of, tokens

LEFT_OUT = str(message("filter.left_out"))
CLEAN = ["The lamp was lit.", "Who came in?", "He paid 3.50 to Dr. Gray!", "“Sit down.”", "雨だ。"]


def flag(text: str) -> Verdict:
    return Verdict(True, "word") if PLANTED in text else PASSED


def advance(held: Holdback, judge: Any = flag) -> list[StreamEvent]:
    events: list[StreamEvent] = []
    while (text := held.next()) is not None:
        events += held.decide(judge(text))
    return events + held.end()


def read(
    parts: Sequence[str], action: Action = "hold", tail: str = "", **options: Any
) -> list[StreamEvent]:
    """All events of a completion, each check made as soon as it can be."""
    held = Holdback(action, **options)
    events: list[StreamEvent] = []
    for event in [*tokens(parts), finished(tail)]:
        held.add(event)
        events += advance(held)
    return events


def cut(text: str, places: Sequence[int]) -> list[str]:
    bounds = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[a:b] for a, b in pairwise(bounds)]


sentences = st.lists(st.sampled_from([*CLEAN, f"Then {PLANTED} came."]), min_size=1, max_size=12)
places = st.lists(st.integers(0, 10_000), max_size=80)


@given(sentences, places, st.integers(0, 30))
def test_flagged_sentences_are_never_shown_and_all_other_sentences_are(
    written: list[str], cuts: list[int], tail: int
) -> None:
    text = " ".join(written)
    split = len(text) - min(tail, len(text))
    events = read(cut(text[:split], cuts), tail=text[split:])
    shown = text_of(events)
    assert PLANTED not in shown
    clean = shown.replace(LEFT_OUT, "")
    expected = "".join(one for one in written if PLANTED not in one)
    assert "".join(clean.split()) == "".join(expected.split())
    assert isinstance(events[-1], Finished)
    assert sum(isinstance(event, Finished) for event in events) == 1


@given(sentences, places)
def test_no_token_of_a_planted_sentence_is_given_out(written: list[str], cuts: list[int]) -> None:
    text = " ".join(written)
    parts = cut(text, cuts)
    given_out = [event.token_id for event in read(parts) if isinstance(event, TokenEvent)]
    assert given_out == sorted(set(given_out))  # in order, none twice
    # the place of each planted sentence, and that of each token
    at = 0
    spans = []
    for one in written:
        at = text.index(one, at)
        if PLANTED in one:
            spans.append((at, at + len(one)))
        at += len(one)
    start = 0
    for number, part in enumerate(parts):
        end = start + len(part)
        overlaps = any(start < b and a < end for a, b in spans)
        assert (number in given_out) is not overlaps or not part.strip()
        start = end


@given(sentences, places)
def test_a_sentence_is_shown_once_its_end_is_known(written: list[str], cuts: list[int]) -> None:
    """The delay is one sentence: only the unfinished sentence is held back."""
    clean = [one for one in written if PLANTED not in one]
    text = " ".join(clean)
    held, shown, received = Holdback("hold"), "", ""
    for event in tokens(cut(text, cuts)):
        held.add(event)
        received += event.text
        shown += text_of(advance(held))
        assert received.startswith(shown)
        assert first_end(received[len(shown) :]) is None


@given(sentences, places)
def test_events_are_unchanged_if_no_sentence_is_flagged(
    written: list[str], cuts: list[int]
) -> None:
    """No token reaches over the end of a sentence: such a token is shown in two parts."""
    clean = [one for one in written if PLANTED not in one and one.isascii()]
    spaced = [one if i == 0 else " " + one for i, one in enumerate(clean)]
    parts = [part for one in spaced for part in cut(one, cuts)]
    assert read(parts) == [*tokens(parts), finished()]


@given(st.integers(0, 3 * WINDOW), st.integers(0, 2 * WINDOW), places)
def test_a_sentence_without_an_end_is_held_for_a_window_and_still_checked(
    before: int, after: int, cuts: list[int]
) -> None:
    held = Holdback("hold")
    received = shown = ""
    for event in tokens(cut("a" * before + PLANTED + "b" * after, cuts)):
        held.add(event)
        received += event.text
        events = advance(held)
        shown += text_of(events)
        kept = len(received) - len(shown.replace(LEFT_OUT, ""))
        assert kept <= WINDOW or LEFT_OUT in shown
    held.add(finished())
    events = advance(held)
    shown += text_of(events)
    assert PLANTED not in shown
    assert LEFT_OUT in shown


def test_the_mark_action_shows_the_sentence_and_reports_it() -> None:
    text = f"One is fine. Then {PLANTED} came. Two is fine."
    parts = [text[i : i + 4] for i in range(0, len(text), 4)]
    events = read(parts, "mark")
    assert text_of(events) == text
    at = next(i for i, e in enumerate(events) if isinstance(e, Passage) and e.kind == "marked")
    mark = events[at]
    assert isinstance(mark, Passage)
    shown = text_of(events[:at])
    assert shown.endswith(mark.sentence)
    assert mark.sentence.strip() == f"Then {PLANTED} came."
    assert mark.label == "word"
    assert "flagged: 1" in str(events[-1].message)  # type: ignore[union-attr]


def test_the_end_action_ends_the_text_before_the_sentence_with_the_reason() -> None:
    events = read(["Fine.", f" Then {PLANTED}", " came.", " More."], "end", tail=" And more.")
    assert text_of(events) == "Fine."
    last = events[-1]
    assert isinstance(last, Finished)
    assert (last.reason, last.message.code, last.text) == ("filtered", "end.filtered", "")
    assert last.seed == 7


@pytest.mark.parametrize(("action", "said"), [("hold", "not checked"), ("end", "")])
def test_text_that_could_not_be_checked_is_not_shown(action: Action, said: str) -> None:
    held = Holdback(action)
    events: list[StreamEvent] = []
    for event in [*tokens(["Fine.", " Also", " fine."]), finished()]:
        held.add(event)
        events += advance(held, lambda _: FAILED)
    assert "fine" not in text_of(events).lower()
    assert said in text_of(events)
    assert "did not answer" in str(events[-1].message)  # type: ignore[union-attr]


def test_an_unfinished_sentence_of_the_prompt_counts() -> None:
    prompt = "He sat. The word is plu"
    events = read(["gh", " and", " more.", " Fine."], context=last_part(prompt))
    assert text_of(events) == f"{LEFT_OUT} Fine."


def test_tokens_without_text_wait_for_the_text_they_belong_to() -> None:
    parts = ["Fine.", "", "", f" {PLANTED}", " x.", " Good."]
    events = read(parts)
    assert [e.token_id for e in events if isinstance(e, TokenEvent)] == [0, 5]


def test_neighbours_that_are_left_out_have_one_placeholder() -> None:
    bad = f" {PLANTED}."
    assert text_of(read(["Fine.", bad, bad, bad, " Fine."])) == f"Fine. {LEFT_OUT} Fine."


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("It cost 3.50 then. So", "It cost 3.50 then."),
        ("Dr. Gray and J. K. Brown left! So", "Dr. Gray and J. K. Brown left!"),
        ("He said “no.” So", "He said “no.”"),
        ("A line\nthat goes on. So", "A line\nthat goes on."),
        ("A title\n\nText", "A title\n"),
        ("雨だ。雪だ。", "雨だ。"),
        ("Wait... So", "Wait..."),
        ("It may go on.", None),
        ("1.", None),
    ],
)
def test_the_end_of_the_first_sentence_is_found(text: str, first: str | None) -> None:
    end = first_end(text)
    assert (end and text[: end.mark]) == first


@pytest.mark.parametrize(
    ("text", "part"),
    [("One. Two is", "Two is"), ("One. Two.", ""), ("One. ", ""), ("", ""), ("no end", "no end")],
)
def test_the_unfinished_sentence_of_a_prompt_is_found(text: str, part: str) -> None:
    assert last_part(text) == part
