"""Which characters of the page's text a token covers, and what the page gets of the token."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gptj_demo.client import place_prompt
from gptj_demo.engine.detokenizer import Detokenizer
from gptj_demo.protocol import Alternative, PromptScored, Submit, TokenLogprobs
from gptj_demo.sampling import SamplingParams
from gptj_demo.tokenization import Vocabulary
from gptj_demo.ui.tokens import (
    END_OF_TEXT,
    PART_OF_CHARACTER,
    TEXT,
    CharacterCount,
    healed_length,
    pack_score,
    pack_token,
)
from tests.engine.checkpoints import TEXT_TOKENS, make_tokenizer
from tests.test_tokenization import (
    TOKENIZER_SETTINGS,
    Change,
    added_with_spaces,
    bos_first,
    prefix_space,
    vocabulary_with,
)

END = TEXT_TOKENS - 1
VOCABULARY = Vocabulary(make_tokenizer().to_str(), TEXT_TOKENS, END, [END])
byte_strings = st.lists(
    st.one_of(
        st.binary(max_size=5),
        st.sampled_from([b"\r", b"\n", b"\r\n", "🦊".encode(), b"\xf0\x9f", b"\xa6\x8a", b" the"]),
    ),
    max_size=12,
)


def page_length(text: str) -> int:
    """Characters as a textarea's value counts them."""
    shown = text.replace("\r\n", "\n").replace("\r", "\n")
    return len(shown.encode("utf-16-le")) // 2


@settings(derandomize=True, deadline=None, max_examples=500)
@given(byte_strings, st.integers(0, 6))
@example([b"a\r", b"\nb"], 0)
@example([b"\xf0\x9f", b"\xa6", b"\x8a!"], 0)
@example([b"\xe2\x82", b"no"], 0)
@example([b"healed and", b" more"], 3)
def test_character_counts_equal_the_length_of_the_released_text(
    tokens: list[bytes], skip: int
) -> None:
    count, released, text = CharacterCount(skip), 0, ""
    detokenizer = Detokenizer(tokens, (), skip)
    for token_id, data in enumerate(tokens):
        released += count.add(data)
        text += detokenizer.add(token_id)
        assert released == page_length(text)


def test_a_character_counts_where_it_is_complete() -> None:
    count = CharacterCount()
    data = "€🦊é".encode()
    assert [count.add(data[i : i + 1]) for i in range(9)] == [0, 0, 1, 0, 0, 0, 2, 0, 1]


def logprobs(*others: Alternative) -> TokenLogprobs:
    return TokenLogprobs(-1.23456789, -0.5, 3, others)


def test_a_token_is_packed_with_both_probabilities_and_its_alternatives() -> None:
    part, word = VOCABULARY.encode("é")[0], VOCABULARY.encode("a")[0]
    packed = pack_token(
        VOCABULARY,
        word,
        1,
        logprobs(
            Alternative(part, -2.0, None, "top_p"),
            Alternative(END, -math.inf, -math.inf, None),
        ),
    )
    assert packed == [
        word, "a", TEXT, 1, -1.2346, -0.5, 3, False,
        [[part, r"\xc3", PART_OF_CHARACTER, -2.0, None, "top_p"],
         [END, "<|endoftext|>", END_OF_TEXT, None, None, None]],
    ]  # fmt: skip
    assert json.loads(json.dumps(packed, allow_nan=False)) == packed


def test_text_that_looks_like_an_escaped_byte_is_text() -> None:
    ids = VOCABULARY.encode(r"\xc3")
    kinds = {pack_token(VOCABULARY, token_id, 1, logprobs())[2] for token_id in ids}
    assert kinds == {TEXT}


def submitted(ids: list[int], dropped: int = 0) -> Submit:
    return Submit(1, tuple(ids[dropped:]), SamplingParams(), 1, dropped_tokens=dropped)


def score_of(
    vocabulary: Vocabulary, text: str, *, dropped: int = 0, healed: int = 0
) -> dict[str, Any]:
    """The packed score of a prompt; `healed` is 1 where its last token is taken back."""
    submit = submitted(vocabulary.encode_prompt(text), dropped)
    ids = submit.prompt_token_ids[: len(submit.prompt_token_ids) - healed]
    known = tuple(logprobs() if i else None for i in range(len(ids)))
    scored = PromptScored(1, ids, known, -1.0, None, None)
    return pack_score(vocabulary, scored, place_prompt(vocabulary, text, submit))


@settings(derandomize=True, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=1))
def test_the_tokens_of_a_score_are_as_long_as_the_text(text: str) -> None:
    packed = score_of(VOCABULARY, text)
    assert sum(token[3] for token in packed["tokens"]) == page_length(text)
    assert packed["after"] == 0
    assert [token[4] is None for token in packed["tokens"]] == [
        i == 0 for i in range(len(packed["tokens"]))
    ]


@pytest.mark.parametrize("change", TOKENIZER_SETTINGS)
def test_the_tokens_of_a_score_have_their_places_with_every_tokenizer(change: Change) -> None:
    vocabulary = vocabulary_with(change)

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=1))
    @example(" Abc \U0001f642\u20ac <mask>  d \ufb01 ")
    @example("<mask>  ")
    @example("Abc")
    def check(text: str) -> None:
        count = len(vocabulary.encode_prompt(text))
        for dropped in (0, count // 2):
            if count == 0 or vocabulary.encode_prompt(text) == [END]:
                continue
            packed = score_of(vocabulary, text, dropped=dropped)
            places = vocabulary.tokens(vocabulary.encode_prompt(text), text)
            before = text.encode()[: places[dropped].start].decode(errors="ignore")
            length = sum(token[3] for token in packed["tokens"])
            assert length == page_length(text) - page_length(before)
            healed = score_of(vocabulary, text, dropped=dropped, healed=int(count - dropped > 1))
            assert healed["after"] + sum(token[3] for token in healed["tokens"]) == length

    check()


def test_a_beginning_token_is_not_among_the_scored_tokens() -> None:
    vocabulary = vocabulary_with(bos_first)
    packed = score_of(vocabulary, "the lamp")
    assert [token[0] for token in packed["tokens"]] == VOCABULARY.encode("the lamp")
    assert packed["tokens"][0][4] is not None, "the model has read a token before it"


def test_a_token_that_strips_spaces_is_as_long_as_its_text_with_them() -> None:
    packed = score_of(vocabulary_with(added_with_spaces), "a <mask>  b")
    assert [token[3] for token in packed["tokens"]] == [1, 9, 1]


def healed_from(vocabulary: Vocabulary, text: str) -> int:
    submit = submitted(vocabulary.encode_prompt(text))
    return healed_length(place_prompt(vocabulary, text, submit))


def test_the_start_of_a_healed_token_is_found() -> None:
    assert healed_from(VOCABULARY, "a") == 1
    assert healed_from(VOCABULARY, "é") == 0, "within a character"
    assert healed_from(vocabulary_with(added_with_spaces), "a<mask>  ") == 8
    assert healed_from(vocabulary_with(prefix_space), "a") == 1, "the space is not in the text"
