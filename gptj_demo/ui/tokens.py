"""Tokens for the page: compact records, and the number of characters of each.

A token is a list `[token_id, text, kind, length, logprob, sampled_logprob, rank, filtered_away,
alternatives]`, an alternative `[token_id, text, kind, logprob, sampled_logprob, removed_by]`;
`readTokens` in `assets/core/tokens.js` restores the field names. For two thousand tokens with five
alternatives each, this halves the size.
"""

from __future__ import annotations

import codecs
import math
from itertools import islice
from typing import Any

from gptj_demo.client import PlacedPrompt
from gptj_demo.protocol import PromptScored, TokenLogprobs
from gptj_demo.tokenization import Vocabulary

TEXT, PART_OF_CHARACTER, END_OF_TEXT = 0, 1, 2
"""Kinds of tokens; a person can insert only `TEXT` into a text."""


class CharacterCount:
    """How many characters each token of a text adds to it, as the page counts them.

    The page counts UTF-16 units, and a line end as one. A character split over several tokens
    counts for the token that completes it.
    """

    def __init__(self, skip_bytes: int = 0) -> None:
        """The first `skip_bytes` bytes, those of a healed token, are already in the text."""
        self._skip = skip_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._after_return = False

    def add(self, data: bytes) -> int:
        """The characters that the next token, whose bytes are `data`, completes."""
        if self._skip:
            data, self._skip = data[self._skip :], max(0, self._skip - len(data))
        text = self._decoder.decode(data)
        if not text:
            return 0
        doubled = text.count("\r\n") + (self._after_return and text[0] == "\n")
        self._after_return = text[-1] == "\r"
        return utf16_length(text) - doubled


def utf16_length(text: str) -> int:
    """The length of a text as a browser counts it."""
    return len(text.encode("utf-16-le")) // 2


def pack_token(
    vocabulary: Vocabulary,
    token_id: int,
    length: int,
    logprobs: TokenLogprobs | None,
    filtered_away: bool = False,
) -> list[Any]:
    """A token for the page; `length` is the number of characters it adds to the text."""
    text, kind = _shown(vocabulary, token_id)
    if logprobs is None:  # the first token of a prompt
        return [token_id, text, kind, length, None, None, None, filtered_away, []]
    return [
        token_id,
        text,
        kind,
        length,
        _round(logprobs.logprob),
        _round(logprobs.sampled_logprob),
        logprobs.rank,
        filtered_away,
        [
            [
                other.token_id,
                *_shown(vocabulary, other.token_id),
                _round(other.logprob),
                _round(other.sampled_logprob),
                other.removed_by,
            ]
            for other in logprobs.alternatives
        ],
    ]


def pack_score(
    vocabulary: Vocabulary, scored: PromptScored, prompt: PlacedPrompt
) -> dict[str, Any]:
    """A prompt's score for the page; `after` characters of the prompt follow its last token.

    Tokens before the text that have no characters, such as a beginning-of-text token, are left out.
    """
    count = CharacterCount()
    count.add(prompt.data[: prompt.start])
    parts = prompt.parts(scored.token_ids)
    added = next((place for place, part in enumerate(parts) if part), len(parts))
    tokens = zip(scored.token_ids, parts, scored.logprobs, strict=True)
    return {
        "sum_logprob": _round(scored.sum_logprob),
        "perplexity": _round(scored.perplexity),
        "bits_per_byte": _round(scored.bits_per_byte),
        "tokens": [
            pack_token(vocabulary, token_id, count.add(part), logprobs)
            for token_id, part, logprobs in islice(tokens, added, None)
        ],
        "after": count.add(prompt.data[prompt.start + sum(map(len, parts)) :]),
    }


def healed_length(prompt: PlacedPrompt) -> int:
    """Characters from the start of the prompt's last token, which is healed, to its end."""
    try:
        return utf16_length(prompt.data[prompt.start_of_last :].decode())
    except UnicodeDecodeError:  # it begins within a character
        return 0


def _shown(vocabulary: Vocabulary, token_id: int) -> tuple[str, int]:
    text = vocabulary.text_of(token_id)
    if token_id in vocabulary.eos_token_ids:
        return text, END_OF_TEXT
    return text, TEXT if text.encode() == vocabulary.bytes_of(token_id) else PART_OF_CHARACTER


def _round(value: float | None) -> float | None:
    """Rounded to four places; None for infinities and NaN, which JSON lacks."""
    return None if value is None or not math.isfinite(value) else round(value, 4)
