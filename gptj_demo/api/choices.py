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


@dataclass(frozen=True, slots=True)
class Shape:
    """What the choices of a request show beside the text.

    `logprobs` and `prompt_logprobs` are numbers of alternatives; None shows no probabilities.
    """

    echo: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    token_ids: bool = False
    tokens_as_ids: bool = False
    """Show token ids instead of texts in `logprobs`, because two tokens can have the same text."""


@dataclass(slots=True)
class Piece:
    """The new part of one choice, or the whole choice if pieces are merged.

    `start` is where its text begins, in characters from the prompt's beginning on.
    """

    index: int
    text: str = ""
    start: int = 0
    tokens: list[str] = field(default_factory=list)
    token_logprobs: list[float | None] = field(default_factory=list)
    top_logprobs: list[dict[str, float] | None] = field(default_factory=list)
    text_offset: list[int] = field(default_factory=list)
    echoed: int = 0  # how many of the tokens are the prompt's, first ones
    finish_reason: str | None = None
    token_ids: list[int] = field(default_factory=list)
    prompt_token_ids: list[int] | None = None
    prompt_logprobs: list[dict[str, Any] | None] | None = None

    def add(self, other: Piece) -> None:
        """Append a later piece."""
        self.text += other.text
        self.tokens += other.tokens
        self.token_logprobs += other.token_logprobs
        self.top_logprobs += other.top_logprobs
        self.text_offset += other.text_offset
        self.echoed += other.echoed
        self.finish_reason = other.finish_reason or self.finish_reason
        self.token_ids += other.token_ids
        self.prompt_token_ids = self.prompt_token_ids or other.prompt_token_ids
        self.prompt_logprobs = self.prompt_logprobs or other.prompt_logprobs

    def by_token(self) -> list[Piece]:
        """The piece, cut before each token but the first: clients read only one token per chunk."""
        if len(self.tokens) < 2:
            return [self]
        cuts = [0]
        for offset in self.text_offset[1:]:  # that of a token in the prompt can be before the text
            cuts.append(max(cuts[-1], min(len(self.text), offset - self.start)))
        pieces = [
            Piece(self.index, self.text[cut:end], self.start + cut, [token], [logprob], [top], [at])
            for cut, end, token, logprob, top, at in zip(
                cuts,
                [*cuts[1:], len(self.text)],
                self.tokens,
                self.token_logprobs,
                self.top_logprobs,
                self.text_offset,
                strict=True,
            )
        ]
        pieces[-1].finish_reason = self.finish_reason
        for piece, token_id in zip(pieces[self.echoed :], self.token_ids, strict=False):
            piece.token_ids.append(token_id)
        # a stop string's tokens are not shown, but their ids are
        pieces[-1].token_ids += self.token_ids[len(pieces) - self.echoed :]
        pieces[0].prompt_token_ids = self.prompt_token_ids
        pieces[0].prompt_logprobs = self.prompt_logprobs
        return pieces

    def choice(self, shape: Shape) -> dict[str, Any]:
        """The choice as a JSON value."""
        logprobs = {
            "tokens": self.tokens,
            "token_logprobs": self.token_logprobs,
            "top_logprobs": self.top_logprobs,
            "text_offset": self.text_offset,
        }
        value: dict[str, Any] = {
            "text": self.text,
            "index": self.index,
            "logprobs": None if shape.logprobs is None else logprobs,
            "finish_reason": self.finish_reason,
        }
        if shape.token_ids:
            value["prompt_token_ids"] = self.prompt_token_ids
            value["token_ids"] = self.token_ids
        if shape.prompt_logprobs is not None:
            value["prompt_logprobs"] = self.prompt_logprobs
        return value


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
        shape: Shape,
        healed: bytes,
    ) -> None:
        self._vocabulary = vocabulary
        self._shape = shape
        self._index = index
        self._placed = placed
        self._offsets = _Offsets(len(prompt))
        self._rewritten = _Offsets(0)  # the healed token's text, which the model generates again
        self._rewritten.add(placed.data[: placed.start_of_last])
        self._left = len(healed)  # bytes of the healed token still to come
        self._prompt_end = self._text_end = len(prompt)  # of the released text
        self._held: list[tuple[int, TokenEvent]] = []
        self._piece = Piece(index, *((prompt, 0) if shape.echo else ("", len(prompt))))
        if shape.token_ids:
            self._piece.prompt_token_ids = [token.token_id for token in placed.tokens]

    def score(self, scored: PromptScored) -> None:
        """Note the probabilities of the prompt's tokens, where they are to be shown."""
        if self._shape.prompt_logprobs is not None:
            self._piece.prompt_logprobs = [
                None if logprobs is None else self._ranked(token_id, logprobs)
                for token_id, logprobs in zip(scored.token_ids, scored.logprobs, strict=True)
            ]
        if self._shape.echo and self._shape.logprobs is not None and self._prompt_end:
            self._echo(scored)

    def _echo(self, scored: PromptScored) -> None:
        """Put the prompt's tokens before the others."""
        offsets = _Offsets(0)
        offsets.add(self._placed.data[: self._placed.start])
        parts = self._placed.parts(scored.token_ids)
        for token_id, logprobs, part in zip(scored.token_ids, scored.logprobs, parts, strict=True):
            self._token(token_id, logprobs, offsets.add(part))
        self._piece.echoed = len(parts)

    def add(self, event: TokenEvent) -> None:
        """Add a token."""
        self._piece.text += event.text
        self._text_end += len(event.text)
        if event.logprobs is not None and self._shape.logprobs is not None:
            offset = self._place(self._vocabulary.bytes_of(event.token_id))
            self._held.append((offset, event))
        else:
            self._add_id(event.token_id)
        self._release()

    def add_passage(self, passage: Passage) -> None:
        """Add text without a token."""
        self._piece.text += passage.text
        self._text_end += len(passage.text)
        self._offsets.skip(passage.untokened)
        self._release()

    def finish(self, finished: Finished) -> None:
        """Add the end of the completion."""
        self._piece.text += finished.text
        self._text_end += len(finished.text)
        self._release()
        if finished.reason == "length":
            self._text_end = sys.maxsize  # otherwise the held tokens belong to the stop string
            self._release()
        for _, event in self._held:
            self._add_id(event.token_id)
        if finished.end_token_id is not None:
            self._add_id(finished.end_token_id)
            if finished.end_logprobs is not None and self._shape.logprobs is not None:
                self._token(finished.end_token_id, finished.end_logprobs, self._offsets.add(b""))
        self._piece.finish_reason = FINISH_REASONS.get(finished.reason, "stop")

    def take(self) -> Piece | None:
        """The new part since the last call."""
        piece = self._piece
        shown = (piece.text, piece.tokens, piece.token_ids, piece.prompt_token_ids)
        if not any((*shown, piece.prompt_logprobs, piece.finish_reason)):
            return None
        self._piece = Piece(self._index, start=piece.start + len(piece.text))
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
            self._add_id(event.token_id)

    def _add_id(self, token_id: int) -> None:
        if self._shape.token_ids:
            self._piece.token_ids.append(token_id)

    def _token(self, token_id: int, logprobs: TokenLogprobs | None, offset: int) -> None:
        text = self._name(token_id)
        self._piece.tokens.append(text)
        self._piece.text_offset.append(offset)
        if logprobs is None:
            self._piece.token_logprobs.append(None)
            self._piece.top_logprobs.append(None)
            return
        self._piece.token_logprobs.append(_number(logprobs.logprob))
        top = {
            self._name(other.token_id): _number(other.logprob)
            for other in logprobs.alternatives[: self._shape.logprobs]
        }
        top.setdefault(text, _number(logprobs.logprob))
        self._piece.top_logprobs.append(top)

    def _name(self, token_id: int) -> str:
        """A token as `logprobs` names it."""
        if self._shape.tokens_as_ids:
            return f"token_id:{token_id}"
        return token_text(self._vocabulary, token_id)

    def _ranked(self, token_id: int, logprobs: TokenLogprobs) -> dict[str, Any]:
        """A prompt's token and the most probable ones in its place, by their ids."""
        others = logprobs.alternatives[: self._shape.prompt_logprobs]
        found = [(token_id, logprobs.logprob, logprobs.rank)]
        found += [(one.token_id, one.logprob, place + 1) for place, one in enumerate(others)]
        return {
            str(one): {
                "logprob": _number(logprob),
                "rank": rank,
                "decoded_token": token_text(self._vocabulary, one),
            }
            for one, logprob, rank in found
        }


def _number(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else LEAST_LOGPROB
