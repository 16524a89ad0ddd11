"""The parts of a prompt that are left out in turn."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gptj_demo.client.parts import PartKind, parts_of, sentences, without_each, words

TEXTS = st.text(st.sampled_from(list("ab .!?…\n\t\"'")) | st.characters(exclude_categories=["Cs"]))


@given(TEXTS, st.sampled_from(["auto", "sentences", "words"]), st.integers(1, 70))
def test_parts_are_the_text_in_order_and_no_more_than_are_allowed(
    text: str, kind: PartKind, at_most: int
) -> None:
    parts = parts_of(text, kind, at_most)
    assert "".join(parts) == text
    assert all(parts)
    assert len(parts) <= at_most
    for i, rest in enumerate(without_each(parts)):
        assert len(rest) == len(text) - len(parts[i])


@given(TEXTS)
def test_words_are_split_before_their_space(text: str) -> None:
    assert [word.strip() for word in words(text) if word.strip()] == text.split()
    assert "".join(sentences(text)) == text


def test_sentences_end_with_their_marks_quotes_and_lines() -> None:
    text = 'He came. "Who is it?" she said!\nA line\n\nv1.5 is out… no'
    assert sentences(text) == [
        "He came. ",
        '"Who is it?" ',
        "she said!\n",
        "A line\n\n",
        "v1.5 is out… ",
        "no",
    ]
    wide = "\u3002"
    assert sentences(f"a{wide}b{wide} c") == [f"a{wide}", f"b{wide} ", "c"]


def test_a_short_prompt_is_cut_into_words_and_a_long_one_into_sentences() -> None:
    assert parts_of("One two. Three", "auto", 64) == ["One", " two.", " Three"]
    long = "One two three four five six seven. " * 5
    assert len(parts_of(long, "auto", 64)) == 5
    assert len(parts_of(long, "words", 64)) == 36  # the last space too
    assert len(parts_of(long, "words", 10)) == 9  # four words a part
    assert parts_of("", "auto", 64) == []


def test_a_run_of_marks_as_long_as_a_prompt_may_be_is_cut_at_once() -> None:
    assert len(sentences("." * 200_000)) == 1
    assert len(words(" " * 200_000)) == 1
