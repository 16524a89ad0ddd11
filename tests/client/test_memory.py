"""Memory and note: where they stand in the prompt, and what a window leaves out."""

from __future__ import annotations

from typing import Any

import pytest

from gptj_demo.client import RequestRefused
from gptj_demo.client.memory import MAX_LINES, MAX_MEMORY, Memory, remember
from gptj_demo.client.prompt import Ready
from gptj_demo.sampling import SamplingParams
from gptj_demo.tokenization import Vocabulary
from tests.client.requests import run
from tests.client.scripted import END, TOKENIZER
from tests.engine.checkpoints import TEXT_TOKENS

READY = Ready(Vocabulary(TOKENIZER.tokenizer_json, TEXT_TOKENS, END, (END,), ()), 64)
TEXT = "one\ntwo\nthree\nfour"


def remembered(memory: Memory, text: str, *, leaves_out: bool = True, **params: Any) -> Any:
    params = {"max_new_tokens": 8, **params}
    return run(remember(memory, text, SamplingParams(**params), READY, leaves_out=leaves_out))


def text_of(token_ids: tuple[int, ...]) -> str:
    return b"".join(map(READY.vocabulary.bytes_of, token_ids)).decode()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [(1, "one\ntwo\nthree\nNOTE\nfour"), (3, "one\nNOTE\ntwo\nthree\nfour"), (9, f"NOTE\n{TEXT}")],
)
def test_the_memory_stands_first_and_the_note_some_lines_above_the_end(
    lines: int, expected: str
) -> None:
    found = remembered(Memory("Ann is old. \n", " NOTE ", lines), TEXT)
    assert text_of(found.token_ids) == f"Ann is old.\n{expected}"
    assert (found.dropped, found.end) == (0, 0)
    assert text_of(remembered(Memory("", "NOTE", lines), TEXT).token_ids) == expected


def test_truncation_removes_text_after_the_memory() -> None:
    memory = Memory("Keep me.", "Note.", 1)
    text = "".join(f"line {number}\n" for number in range(20)) + "end"
    found = remembered(memory, text)
    assert len(found.token_ids) == 64 - 8
    whole = text_of(found.token_ids)
    assert whole.startswith("Keep me.\n")
    assert whole.endswith("Note.\nend")
    assert found.dropped > 0
    assert whole == f"Keep me.\n{memory.with_note(text)[found.end :]}"
    # without truncation, the request is refused later, with its length
    assert len(remembered(memory, text, leaves_out=False).token_ids) > 64


def test_a_memory_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(RequestRefused, match="memory"):
        remembered(Memory("word " * 40), "a text " * 20)


def test_untrusted_data_makes_a_memory_or_an_empty_one() -> None:
    for given in (None, 3, [], {}, {"text": 3, "note": None, "lines": "x"}, {"lines": True}):
        assert Memory.read(given) == Memory()
        assert Memory.read(given).is_empty
    huge = Memory.read({"text": "x" * 10**5, "note": "y" * 10**5, "lines": 10**9})
    assert (len(huge.text), huge.lines) == (MAX_MEMORY, MAX_LINES)
    assert Memory.read({"lines": -1}).lines == 1
