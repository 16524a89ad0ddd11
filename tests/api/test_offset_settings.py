"""The token offsets cut the text into its tokens, also if the tokenizer adds tokens or spaces.

No model runs: the test makes the events of an engine, with and without token healing.
"""

from __future__ import annotations

import itertools

import pytest
from tokenizers import AddedToken, pre_tokenizers, processors

from gptj_demo.api.choices import ChoiceWriter, Piece, Shape
from gptj_demo.client import place_prompt
from gptj_demo.engine.detokenizer import Detokenizer
from gptj_demo.protocol import Finished, PromptScored, Submit, TokenEvent, TokenLogprobs
from gptj_demo.sampling import SamplingParams
from gptj_demo.texts import message
from gptj_demo.tokenization import Vocabulary
from tests.engine.checkpoints import END_OF_TEXT, TEXT_TOKENS, make_tokenizer

END = TEXT_TOKENS - 1
PROBABLE = TokenLogprobs(-1.0, None, 1, ())
TEXTS = ["ab cd", " ab", "ab <mask>  cd", "é ñ  x", "<mask> a", "a", "  ", "日本 <mask> ",
         "ab<|endoftext|> cd", "🙂🙂 a<mask>", "ab <mask>  ", "🙂", "<mask>", ""]  # fmt: skip


def vocabulary_of(*, prefix: bool, begins: bool, mask: str) -> Vocabulary:
    """A tokenizer that adds a space, a beginning token, or has a token that takes spaces."""
    tokenizer = make_tokenizer(TEXT_TOKENS)
    if mask:
        tokenizer.add_tokens([AddedToken("<mask>", lstrip="l" in mask, rstrip="r" in mask)])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{END_OF_TEXT} $A", special_tokens=[(END_OF_TEXT, END)]
        )
    return Vocabulary(tokenizer.to_str(), TEXT_TOKENS + bool(mask), END, (END,))


def choice_of(
    vocabulary: Vocabulary, prompt: str, *, dropped: int, heals: bool, first: int
) -> Piece:
    """An echoed choice; `first` picks the first token of those that healing allows."""
    ids = vocabulary.encode_prompt(prompt) or [END]
    dropped = min(dropped, len(ids) - 1)
    submit = Submit(1, tuple(ids[dropped:]), SamplingParams(), 1, dropped_tokens=dropped)
    read = list(submit.prompt_token_ids)
    healed, written = b"", vocabulary.encode(" cd é🙂")
    if heals and read[-1] != END:
        healed = vocabulary.bytes_of(read[-1])
        read = read[:-1] or [END]
        possible = range(vocabulary.size)
        allowed = [i for i in possible if i != END and vocabulary.bytes_of(i).startswith(healed)]
        written.insert(0, allowed[first % len(allowed)])
    placed = place_prompt(vocabulary, prompt, submit)
    table = [vocabulary.bytes_of(token_id) for token_id in range(vocabulary.size)]
    detokenizer = Detokenizer(table, [], len(healed))
    writer = ChoiceWriter(vocabulary, 0, prompt, placed, Shape(echo=True, logprobs=0), healed)
    scores = (None, *[PROBABLE] * (len(read) - 1))
    writer.score(PromptScored(1, tuple(read), scores, 0.0, None, None))
    for token_id in written:
        writer.add(TokenEvent(1, token_id, detokenizer.add(token_id), 0, PROBABLE))
    end = message("end.length", count=1)
    writer.finish(Finished(1, "length", end, detokenizer.finish(), 1, 1, 1))
    piece = writer.take()
    assert piece is not None
    return piece


@pytest.mark.parametrize("mask", ["", "l", "r", "lr"])
@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize("prefix", [False, True])
def test_offsets_cut_the_text_into_its_tokens(prefix: bool, begins: bool, mask: str) -> None:
    vocabulary = vocabulary_of(prefix=prefix, begins=begins, mask=mask)
    for prompt, dropped, (heals, first) in itertools.product(
        TEXTS, (0, 3), ((False, 0), (True, 0), (True, -1))
    ):
        piece = choice_of(vocabulary, prompt, dropped=dropped, heals=heals, first=first)
        text, offsets = piece.text, piece.text_offset
        assert offsets == sorted(offsets)
        assert dropped or not prompt or offsets[0] == 0
        assert all(0 <= offset <= len(text) for offset in offsets)
        ends = [*offsets[1:], len(text)]
        for token, start, end in zip(piece.tokens, offsets, ends, strict=True):
            if token == END_OF_TEXT and start == end:
                continue  # the beginning of a text is no part of it
            if not token.startswith("bytes:"):
                assert text[start:end].strip(" ") == token.strip(" "), (prompt, token)
        parts = piece.by_token()
        assert "".join(part.text for part in parts) == text
        assert [part.tokens for part in parts] == [[token] for token in piece.tokens]
