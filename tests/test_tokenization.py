"""Texts and token ids: places in the text, parts of characters, controls that name tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers, processors

from gptj_demo.control_values import InvalidControl
from gptj_demo.sampling import SamplingParams
from gptj_demo.tokenization import Vocabulary, prompt_hint
from tests.engine.checkpoints import END_OF_TEXT, TEXT_TOKENS, make_tokenizer

END = TEXT_TOKENS - 1
Change = Callable[[Tokenizer], None]
VOCABULARY = Vocabulary(make_tokenizer().to_str(), TEXT_TOKENS, END, [END])


# ---- places and texts


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("naïve café — 日本語 🙂👩‍👩‍👧 \x00\x7f\r\n\t  two  spaces ")
@example("a<|endoftext|>b")
@example("<|extratoken_1|>")
@example("")
def test_the_tokens_of_a_text_tile_its_bytes(text: str) -> None:
    tokens = VOCABULARY.tokens(VOCABULARY.encode(text), text)
    data, place = text.encode(), 0
    for token in tokens:
        assert token.start == place
        assert token.end > token.start
        place = token.end
        part = data[token.start : token.end]
        assert token.text == part.decode(errors="backslashreplace")
        assert 0 <= token.token_id < VOCABULARY.size
    assert place == len(data)


def test_a_part_of_a_character_is_shown_as_its_bytes() -> None:
    tokens = VOCABULARY.tokens(VOCABULARY.encode("a€"), "a€")
    assert [(token.text, token.start, token.end) for token in tokens] == [
        ("a", 0, 1),
        (r"\xe2", 1, 2),
        (r"\x82", 2, 3),
        (r"\xac", 3, 4),
    ]


def test_end_of_text_is_one_token_and_the_names_of_the_padding_are_texts() -> None:
    """Else a visitor who writes them could use ids that no control covers."""
    assert VOCABULARY.encode(END_OF_TEXT) == [END]
    ids = VOCABULARY.encode("<|extratoken_3|>")
    assert len(ids) > 5
    assert (
        "".join(token.text for token in VOCABULARY.tokens(ids, "<|extratoken_3|>"))
        == "<|extratoken_3|>"
    )


@pytest.mark.parametrize("text", ["once ", "two words \t", "line\n ", "tab\t"])
def test_a_prompt_that_ends_in_a_space_gets_a_hint(text: str) -> None:
    hint = prompt_hint(text)
    assert hint is not None
    assert "ends in a space" in str(hint)


@pytest.mark.parametrize("text", ["", " ", "\n", "word", "word\n", "a b"])
def test_other_prompts_get_no_hint(text: str) -> None:
    assert prompt_hint(text) is None


# ---- tokenizers with settings that GPT-J's does not have


def bos_first(tokenizer: Tokenizer) -> None:
    specials = [(END_OF_TEXT, END)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A {END_OF_TEXT}", special_tokens=specials
    )


def prefix_space(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)


def trimmed_offsets(tokenizer: Tokenizer) -> None:
    prefix_space(tokenizer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)


def compatibility_forms(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.NFKC()


def lower_case_without_spaces_around(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.Lowercase()])


def added_with_spaces(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens([AddedToken("<mask>", lstrip=True, rstrip=True)])


TOKENIZER_SETTINGS = [
    bos_first,
    prefix_space,
    trimmed_offsets,
    compatibility_forms,
    lower_case_without_spaces_around,
    added_with_spaces,
]


def vocabulary_with(change: Change) -> Vocabulary:
    tokenizer = make_tokenizer(TEXT_TOKENS)
    change(tokenizer)
    size = tokenizer.get_vocab_size()
    return Vocabulary(tokenizer.to_str(), size, END, [END])


@pytest.mark.parametrize("change", TOKENIZER_SETTINGS)
def test_the_places_of_tokens_make_up_the_text_for_every_tokenizer(
    change: Change,
) -> None:
    vocabulary = vocabulary_with(change)

    @settings(derandomize=True, max_examples=100)
    @given(st.text(st.characters(exclude_categories=["Cs"])))
    @example(" Abc \U0001f642\u20ac <mask>  d \ufb01 ")
    @example("e\u0301 <mask> x\u0130")
    @example("  ")
    def check(text: str) -> None:
        data = text.encode()
        for ids in (vocabulary.encode(text), vocabulary.encode_prompt(text)):
            tokens = vocabulary.tokens(ids, text)
            assert [token.token_id for token in tokens] == ids
            place = 0
            for token in tokens:
                assert token.start == place <= token.end
                place = token.end
            added = ids == [END] and END_OF_TEXT not in text
            assert place == len(data) or not ids or added

    check()


def test_a_space_that_was_put_in_front_has_no_place_in_the_text() -> None:
    vocabulary = vocabulary_with(prefix_space)
    tokens = vocabulary.tokens(vocabulary.encode_prompt("Abc"), "Abc")
    assert [token.start for token in tokens][:2] == [0, 0]
    assert [token.end for token in tokens][:2] == [0, 1]


def test_a_prompt_gets_one_beginning_token_and_no_end_token() -> None:
    vocabulary = vocabulary_with(bos_first)
    plain = VOCABULARY.encode("the lamp")
    assert vocabulary.encode_prompt("the lamp") == [END, *plain]
    assert vocabulary.encode_prompt(END_OF_TEXT + "the lamp") == [END, *plain]
    assert VOCABULARY.encode_prompt("the lamp") == plain
    assert vocabulary.tokens([END, *plain], "the lamp")[0].end == 0


@pytest.mark.parametrize("change", [bos_first, prefix_space])
def test_words_in_controls_are_tokenized_without_added_tokens_or_spaces(
    change: Change,
) -> None:
    values: dict[str, Any] = {
        "logit_bias": {"lamp": 1.0},
        "bad_words": ("the",),
        "dry_multiplier": 0.8,
        "dry_sequence_breakers": ("\n", "lamp"),
    }
    assert tokenized(vocabulary_with(change), **values) == tokenized(**values)


# ---- controls that name tokens


def tokenized(vocabulary: Vocabulary = VOCABULARY, **values: Any) -> Any:
    return vocabulary.tokenize_controls(SamplingParams(**values))


def test_biases_are_given_by_id_or_by_text() -> None:
    text = " the lamp"
    controls = tokenized(logit_bias={5: 1.5, text: -2.0})
    assert controls.logit_bias == (((5,), 1.5), (tuple(VOCABULARY.encode(text)), -2.0))


def test_the_last_of_two_biases_for_one_token_applies() -> None:
    token = VOCABULARY.encode("a")[0]
    assert tokenized(logit_bias={token: 1.0, "a": 3.0}).logit_bias == (((token,), 3.0),)


def test_words_are_forbidden_as_written_and_with_a_space_in_front() -> None:
    controls = tokenized(bad_words=("the", "é"))
    expected = [tuple(VOCABULARY.encode(word)) for word in ("the", " the", "é", " é")]
    assert list(controls.bad_words) == expected


def test_the_last_token_of_each_breaker_breaks_dry_where_dry_is_used() -> None:
    expected = {VOCABULARY.encode("a" + text)[-1] for text in ("\n", "lamp")}
    breakers = ("\n", "lamp")
    controls = tokenized(dry_multiplier=0.8, dry_sequence_breakers=breakers)
    assert controls.dry_sequence_breakers == expected
    assert tokenized(dry_sequence_breakers=breakers).dry_sequence_breakers == frozenset()


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"logit_bias": {TEXT_TOKENS: 1.0}}, "logit_bias"),
        ({"stop_token_ids": (3, TEXT_TOKENS)}, "stop_token_ids"),
    ],
)
def test_ids_outside_the_vocabulary_are_refused_by_name(values: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidControl) as refused:
        tokenized(**values)
    assert refused.value.name == name
    assert f"token id {TEXT_TOKENS} is not in the vocabulary" in str(refused.value)
    assert f"0 to {TEXT_TOKENS - 1}" in str(refused.value)


@given(st.lists(st.integers(-2, 8)))
def test_all_ids_can_occur_if_each_one_can(ids: list[int]) -> None:
    vocabulary = Vocabulary(make_tokenizer().to_str(), 7, 0, [0], unused_token_ids=[3])
    assert vocabulary.has_all(ids) == all(token_id in vocabulary for token_id in ids)


def tiny(size: int) -> Vocabulary:
    """A vocabulary of the tokenizer's first ids only, which are single characters."""
    return Vocabulary(make_tokenizer().to_str(), size, 0, [0])


def test_bad_words_that_forbid_every_token_are_refused() -> None:
    vocabulary = tiny(3)
    words = tuple(VOCABULARY.text_of(token) for token in range(3))
    assert [VOCABULARY.encode(word) for word in words] == [[0], [1], [2]]
    with pytest.raises(InvalidControl, match="leaves none of the model's 3 tokens") as refused:
        tokenized(vocabulary, bad_words=words)
    assert refused.value.name == "bad_words"
    assert len(tokenized(vocabulary, bad_words=words[1:]).bad_words) == 4


def test_bad_words_must_leave_a_token_other_than_a_forbidden_end_token() -> None:
    vocabulary = tiny(3)
    words = tuple(VOCABULARY.text_of(token) for token in (1, 2))
    tokenized(vocabulary, bad_words=words)
    with pytest.raises(InvalidControl, match="leaves none"):
        tokenized(vocabulary, bad_words=words, min_new_tokens=1)
    with pytest.raises(InvalidControl, match="leaves none"):
        tokenized(vocabulary, bad_words=words[:1], min_new_tokens=1, stop_token_ids=(2,))
