"""One choice of OpenAI's completions, built from the events of one completion."""

from __future__ import annotations

import codecs
import math
import sys
from dataclasses import dataclass, field
from typing import Any

from gptj_demo.client import PlacedPrompt
from gptj_demo.protocol import Finished, Passage, PromptScored, TokenEvent, TokenLogprobs
from gptj_demo.tokenization import Vocabulary

FINISH_REASONS = {"length": "length", "filtered": "content_filter"}
LEAST_LOGPROB = -9999.0  # JSON has no number for minus infinity


@dataclass(slots=True)
class Piece:
    """The new part of one choice, or the whole choice if pieces are merged."""

    index: int
    text: str = ""
    tokens: list[str] = field(default_factory=list)
    token_logprobs: list[float | None] = field(default_factory=list)
    top_logprobs: list[dict[str, float] | None] = field(default_factory=list)
    text_offset: list[int] = field(default_factory=list)
    finish_reason: str | None = None

    def add(self, other: Piece) -> None:
        """Append a later piece."""
        self.text += other.text
        self.tokens += other.tokens
        self.token_logprobs += other.token_logprobs
        self.top_logprobs += other.top_logprobs
        self.text_offset += other.text_offset
        self.finish_reason = other.finish_reason or self.finish_reason

    def choice(self, with_logprobs: bool) -> dict[str, Any]:
        """The choice as a JSON value."""
        logprobs = {
            "tokens": self.tokens,
            "token_logprobs": self.token_logprobs,
            "top_logprobs": self.top_logprobs,
            "text_offset": self.text_offset,
        }
        return {
            "text": self.text,
            "index": self.index,
            "logprobs": logprobs if with_logprobs else None,
            "finish_reason": self.finish_reason,
        }


class _Offsets:
    """The start of each token in a text, in characters, also for tokens that split a character."""

    def __init__(self, start: int) -> None:
        self._at = start
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, data: bytes) -> int:
        """The start of the next token, whose bytes are `data`."""
        at = self._at
        self._at += len(self._decoder.decode(data))
        return at

    def skip(self, characters: int) -> None:
        """Count characters that belong to no token."""
        self._at += characters


def token_text(vocabulary: Vocabulary, token_id: int) -> str:
    """A token's text, or OpenAI's `bytes:` notation if its bytes are not valid UTF-8."""
    data = vocabulary.bytes_of(token_id)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


class ChoiceWriter:
    """Turns one completion's events into pieces; a token is sent no sooner than its text."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        index: int,
        prompt: str,
        placed: PlacedPrompt,
        *,
        echo: bool,
        healed: bytes,
    ) -> None:
        self._vocabulary = vocabulary
        self._index = index
        self._placed = placed
        self._offsets = _Offsets(len(prompt))
        self._rewritten = _Offsets(0)  # the healed token's text, which the model generates again
        self._rewritten.add(placed.data[: placed.start_of_last])
        self._left = len(healed)  # bytes of the healed token still to come
        self._prompt_end = self._text_end = len(prompt)  # of the released text
        self._held: list[tuple[int, TokenEvent]] = []
        self._piece = Piece(index, prompt if echo else "")

    def echo(self, scored: PromptScored) -> None:
        """Put the prompt's tokens before the others."""
        offsets = _Offsets(0)
        offsets.add(self._placed.data[: self._placed.start])
        parts = self._placed.parts(scored.token_ids)
        for token_id, logprobs, part in zip(scored.token_ids, scored.logprobs, parts, strict=True):
            self._token(token_id, logprobs, offsets.add(part))

    def add(self, event: TokenEvent) -> None:
        """A token."""
        self._piece.text += event.text
        self._text_end += len(event.text)
        if event.logprobs is not None:
            offset = self._place(self._vocabulary.bytes_of(event.token_id))
            self._held.append((offset, event))
        self._release()

    def add_passage(self, passage: Passage) -> None:
        """Text without a token."""
        self._piece.text += passage.text
        self._text_end += len(passage.text)
        self._offsets.skip(passage.untokened)
        self._release()

    def finish(self, finished: Finished) -> None:
        """The end."""
        self._piece.text += finished.text
        self._text_end += len(finished.text)
        self._release()
        if finished.reason == "length":
            self._text_end = sys.maxsize  # otherwise the held tokens belong to the stop string
            self._release()
        if finished.end_logprobs is not None and finished.end_token_id is not None:
            self._token(finished.end_token_id, finished.end_logprobs, self._offsets.add(b""))
        self._piece.finish_reason = FINISH_REASONS.get(finished.reason, "stop")

    def take(self) -> Piece | None:
        """The new part since the last call."""
        piece = self._piece
        if not (piece.text or piece.tokens or piece.finish_reason):
            return None
        self._piece = Piece(self._index)
        return piece

    def _place(self, data: bytes) -> int:
        """The start of a token with these bytes; with token healing it can be in the prompt."""
        if not self._left:
            return self._offsets.add(data)
        again, new = data[: self._left], data[self._left :]
        self._left -= len(again)
        self._offsets.add(new)
        return min(self._rewritten.add(again), self._prompt_end)

    def _release(self) -> None:
        while self._held and self._held[0][0] < self._text_end:
            offset, event = self._held.pop(0)
            self._token(event.token_id, event.logprobs, offset)

    def _token(self, token_id: int, logprobs: TokenLogprobs | None, offset: int) -> None:
        text = token_text(self._vocabulary, token_id)
        self._piece.tokens.append(text)
        self._piece.text_offset.append(offset)
        if logprobs is None:
            self._piece.token_logprobs.append(None)
            self._piece.top_logprobs.append(None)
            return
        self._piece.token_logprobs.append(_number(logprobs.logprob))
        top = {
            token_text(self._vocabulary, other.token_id): _number(other.logprob)
            for other in logprobs.alternatives
        }
        top.setdefault(text, _number(logprobs.logprob))
        self._piece.top_logprobs.append(top)


def _number(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else LEAST_LOGPROB
