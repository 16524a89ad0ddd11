"""Holds back the text of one completion until its sentences have been checked. Pure: no asyncio.

Text is released sentence by sentence. A token's event is released only with the whole text of the
token, so that ids and log-probabilities reveal no unchecked text.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Literal

from gptj_demo.client.moderation.sentences import first_end
from gptj_demo.client.moderation.verdict import Verdict
from gptj_demo.protocol import Finished, Passage, StreamEvent, TokenEvent
from gptj_demo.texts import joined, message

Action = Literal["hold", "mark", "end"]
WINDOW = 600
"""The most characters that are held back. A longer sentence is checked in windows of this size.
After each check at most half of the window is shown, so every stretch of half a window is checked
in one piece."""


@dataclass(slots=True)
class _Token:
    """A held token: its event's text is `start` to `end` of the completion.

    The token can be released with the text up to `known`. A token without text waits for the text
    of a later token; `known` is None until that arrives.
    """

    event: TokenEvent
    start: int
    end: int
    known: int | None


class Holdback:
    """Holds back one completion: `add` its events, and while `next` returns a text, `decide` about
    it.

    `context` is the unfinished sentence at the end of the prompt: the first check includes it.
    """

    def __init__(self, action: Action, context: str = "") -> None:
        self._action = action
        self._context = context
        self._text = ""  # of the undecided part, which begins at position `_from`
        self._from = 0
        self._received = 0  # characters of all events
        self._tokens: deque[_Token] = deque()
        self._finished: Finished | None = None
        self._cut = 0  # how much of `_text` is shown if the present check passes
        self._checked = 0  # how much of `_text` it looks at
        self._shown_of_first = 0  # characters of the first held token that were shown before it
        self._without_token = 0  # position before which the text's token has been left out
        self._after_placeholder = False
        self._tail = ""  # text at the end that belongs to no token
        self._flagged = self._failed = 0  # sentences
        self._request_id = self._index = 0
        self.has_ended = False
        """Whether the filter has ended the completion; it needs no more tokens."""
        self.is_done = False
        """Whether its `Finished` has been released."""

    @property
    def needs_no_more(self) -> bool:
        """Whether the engine need not continue this completion."""
        return self.has_ended or self._finished is not None

    def add(self, event: TokenEvent | Finished) -> None:
        """Take an event."""
        self._request_id, self._index = event.request_id, event.index
        start = self._received
        self._received += len(event.text)
        if isinstance(event, Finished):
            self._finished = event
        elif not self.has_ended:
            self._tokens.append(_Token(event, start, self._received, None))
        if self.has_ended:
            return
        self._text += event.text
        if event.text or self._finished is not None:
            for token in reversed(self._tokens):
                if token.known is not None:
                    break
                token.known = self._received

    def next(self) -> str | None:
        """The next text to check, None until more has arrived."""
        if self.has_ended or not self._text:
            return None
        end = first_end(self._text)
        if end is not None and end.mark <= WINDOW:
            self._cut = self._checked = self._align(end.mark, end.space)
        elif len(self._text) > WINDOW:
            self._checked = WINDOW
            self._cut = self._align(WINDOW // 4, WINDOW // 2)
        elif self._finished is not None:
            self._cut = self._checked = len(self._text)
        else:
            return None
        return self._context + self._text[: self._checked]

    def decide(self, verdict: Verdict) -> list[StreamEvent]:
        """The events to show after the check of the text that `next` returned."""
        self._context = ""
        if not verdict.flagged:
            return self._show(self._cut)
        self._flagged += not verdict.failed
        self._failed += verdict.failed
        if self._action == "mark":
            sentence = self._text[: self._cut]
            mark = self._passage("", kind="marked", sentence=sentence, label=verdict.label)
            return [*self._show(self._cut, may_be_tail=False), mark]
        if self._action == "hold":
            return self._leave_out(self._checked, verdict)
        self.has_ended = True
        self._tokens.clear()
        self._text = ""
        return []

    def end(self) -> list[StreamEvent]:
        """The last events, once all text has been decided; else an empty list."""
        finished = self._finished
        if finished is None or self._text or self.is_done:
            return []
        self.is_done = True
        if self.has_ended:
            code = message("end.filter_failed" if self._failed else "end.filtered")
            return [
                replace(
                    finished,
                    reason="filtered",
                    message=code,
                    text="",
                    sum_logprob=None,
                    end_token_id=None,
                    end_logprobs=None,
                )
            ]
        why = finished.message
        if self._flagged:
            key = "end.marked" if self._action == "mark" else "end.left_out"
            why = joined(why, message(key, number=self._flagged))
        if self._failed:
            key = "end.not_checked" if self._action == "mark" else "end.left_out_unchecked"
            why = joined(why, message(key, number=self._failed))
        rest = [token.event._replace(text="") for token in self._tokens]  # of the stop string
        return [*rest, replace(finished, text=self._tail, message=why)]

    def _align(self, least: int, most: int) -> int:
        """The last token end from `least` to `most`, or `least` if there is none."""
        ends = [
            token.end - self._from
            for token in self._tokens
            if least <= token.end - self._from <= most
        ]
        return ends[-1] if ends else least

    def _show(self, length: int, may_be_tail: bool = True) -> list[StreamEvent]:
        """Release the first `length` characters and the tokens that end there.

        Text at the end that has no token goes into the last event, if `may_be_tail`.
        """
        events: list[StreamEvent] = []
        at, to = self._from, self._from + length

        def give(until: int, untokened: bool) -> None:
            nonlocal at
            if until > at:
                text = self._text[at - self._from : until - self._from]
                events.append(self._passage(text, untokened=len(text) if untokened else 0))
                at = until

        give(min(to, self._without_token), untokened=True)
        while self._tokens:
            token = self._tokens[0]
            if token.known is None or token.known > to:
                break
            self._tokens.popleft()
            text = self._text[max(at, token.start) - self._from : token.end - self._from]
            events.append(token.event._replace(text=text))
            at = max(at, token.end)
            self._shown_of_first = 0
        if self._tokens:
            self._shown_of_first += to - at
            give(to, untokened=False)
        elif may_be_tail and self._finished is not None and to == self._received:
            self._tail = self._text[at - self._from : length]
        else:
            give(to, untokened=True)
        self._text = self._text[length:]
        self._from = to
        self._after_placeholder = False
        return events

    def _leave_out(self, length: int, verdict: Verdict) -> list[StreamEvent]:
        """Replace the first `length` characters with a placeholder."""
        text, to = self._text[:length], self._from + length
        while self._tokens and self._tokens[0].start < to:
            self._without_token = max(self._without_token, self._tokens.popleft().end)
        words = text.strip()
        begin = text.find(words) if words else 0
        before, after = text[:begin], text[begin + len(words) :]
        key = "filter.unchecked" if verdict.failed else "filter.left_out"
        shown = "" if self._after_placeholder else before + str(message(key)) + after
        untokened = len(shown) + self._shown_of_first
        self._shown_of_first = 0
        self._text = self._text[length:]
        self._from = to
        self._after_placeholder = True
        return [
            self._passage(shown, untokened=untokened, kind="left_out", label=verdict.label),
        ]

    def _passage(self, text: str, **fields: Any) -> Passage:
        return Passage(self._request_id, text, self._index, **fields)
