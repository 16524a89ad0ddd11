"""Text as it grows: equal to decoding all at once, no half characters, no leaked stop strings."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gptj_demo.engine.detokenizer import Detokenizer
from gptj_demo.tokenization import token_bytes
from tests.engine.checkpoints import END_OF_TEXT, make_tokenizer

TOKENIZER = make_tokenizer()
TABLE = token_bytes(TOKENIZER.to_str())


def stream(text_or_ids: str | list[int], stop: list[str]) -> tuple[list[str], Detokenizer]:
    """The pieces released for each token, the last one by `finish`."""
    ids = TOKENIZER.encode(text_or_ids).ids if isinstance(text_or_ids, str) else text_or_ids
    detokenizer = Detokenizer(TABLE, stop)
    pieces = []
    for token_id in ids:
        pieces.append(detokenizer.add(token_id))
        if detokenizer.stopped_by is not None:
            break
    pieces.append(detokenizer.finish())
    return pieces, detokenizer


def test_the_table_covers_every_byte_and_names_special_tokens() -> None:
    assert {bytes([byte]) for byte in range(256)} <= set(TABLE)
    assert TABLE[TOKENIZER.token_to_id(END_OF_TEXT)] == END_OF_TEXT.encode()


@given(st.text())
@example("naïve café — 日本語 🙂👩‍👩‍👧 \x00\x7f\r\n\t")
def test_the_pieces_of_a_stream_add_up_to_the_text(text: str) -> None:
    pieces, _ = stream(text, [])
    assert "".join(pieces) == text


@given(st.lists(st.integers(0, 298)))
def test_any_ids_give_what_the_tokenizer_decodes(ids: list[int]) -> None:
    pieces, _ = stream(ids, [])
    assert "".join(pieces) == TOKENIZER.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("character", ["é", "€", "🙂"])
def test_a_character_appears_with_its_last_byte_and_not_before(character: str) -> None:
    ids = [TABLE.index(bytes([byte])) for byte in character.encode()]
    pieces, _ = stream(ids, [])
    assert pieces == [""] * (len(ids) - 1) + [character, ""]


def test_a_character_cut_off_at_the_end_is_shown_as_unreadable() -> None:
    pieces, _ = stream([TABLE.index(b"\xe2"), TABLE.index(b"\x82")], [])
    assert "".join(pieces) == "\N{REPLACEMENT CHARACTER}"


def test_the_text_ends_before_the_stop_string() -> None:
    pieces, detokenizer = stream("one two\n\nthree", ["\n\n"])
    assert "".join(pieces) == "one two"
    assert detokenizer.stopped_by == "\n\n"


def test_the_start_of_a_stop_string_is_held_back_until_it_cannot_match() -> None:
    detokenizer = Detokenizer(TABLE, ["END"])
    letters = [TABLE.index(letter) for letter in (b"E", b"N", b"T")]
    assert [detokenizer.add(letter) for letter in letters] == ["", "", "ENT"]


def test_text_held_back_is_released_at_the_end() -> None:
    pieces, detokenizer = stream("the EN", ["END"])
    assert pieces[-1] == "EN"
    assert detokenizer.stopped_by is None


def test_the_earliest_of_several_stop_strings_wins() -> None:
    pieces, detokenizer = stream("abc", ["c", "bc"])
    assert "".join(pieces) == "a"
    assert detokenizer.stopped_by == "bc"


@given(st.text("ab", max_size=40), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
@example("aab", ["ab"])
@example("abaabab", ["abab"])
def test_stop_strings_are_never_shown_and_the_text_before_them_is_kept(
    text: str, stop: list[str]
) -> None:
    ids = [TABLE.index(letter.encode()) for letter in text]
    pieces, detokenizer = stream(ids, stop)
    hits = [text.find(string) for string in stop if string in text]
    # tokens come one by one, so the string that is complete first ends the text
    ends = [text.find(string) + len(string) for string in stop if string in text]
    if hits:
        first_end = min(ends)
        seen = text[:first_end]
        expected = seen[: min(seen.find(string) for string in stop if string in seen)]
        assert detokenizer.stopped_by in stop
    else:
        expected = text
        assert detokenizer.stopped_by is None
    assert "".join(pieces) == expected
    shown = ""
    for piece in pieces:
        shown += piece
        assert not any(string in shown for string in stop)
