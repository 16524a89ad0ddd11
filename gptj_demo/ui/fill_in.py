"""Fills in before a given text: several drafts, ranked by how likely each makes that text.

This is re-ranking, not infilling: the model writes each draft without the text that follows.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from gptj_demo.client import RequestRefused, Stream, Worker
from gptj_demo.client.prompt import encode
from gptj_demo.client.scoring import (
    Continuation,
    ContinuationScore,
    encode_continuation,
    encode_prompt,
    score_continuations,
)
from gptj_demo.control_values import with_values
from gptj_demo.protocol import Finished, GenerationRequest, Passage, Started, TokenEvent, Visitor
from gptj_demo.sampling import SamplingParams
from gptj_demo.texts import message
from gptj_demo.ui.generation import batches, describe_finished, describe_start, record

DRAFTS = 8
SHOWN = 3
MOST_SCORED = 64
"""Tokens of the following text that are scored; later ones say little about the draft."""


@dataclass(slots=True)
class Draft:
    """A draft, how it ended, and how likely it makes the text that follows."""

    text: str = ""
    end: Finished | None = None
    score: ContinuationScore | None = None


class FillIn:
    """One request; `cancel` ends it with the drafts so far."""

    def __init__(
        self,
        worker: Worker,
        prompt: str | tuple[int, ...],
        rest: str,
        params: SamplingParams,
        visitor: Visitor,
    ) -> None:
        self._worker = worker
        self._prompt = prompt
        self._rest = rest
        changed = {"n": DRAFTS, "best_of": None, "logprobs": None, "echo": False}
        self._params = with_values(params, changed)
        self._visitor = visitor
        self._stream: Stream | None = None
        self._is_cancelled = False

    def cancel(self) -> None:
        """End the request; its last records follow."""
        self._is_cancelled = True
        if self._stream is not None:
            self._stream.cancel()

    async def records(self) -> AsyncGenerator[str, None]:
        """The lines of a log; raises `RequestRefused`."""
        if not self._rest.strip():
            raise RequestRefused("invalid", message("fill.nothing"))
        whole = await encode_continuation(self._worker, self._rest)
        rest = Continuation(whole.token_ids[:MOST_SCORED], False, whole.size)
        drafts = [Draft() for _ in range(DRAFTS)]
        async with aclosing(self._write(drafts)) as lines:
            async for line in lines:
                yield line
        if not self._is_cancelled and not any(_failed(draft) for draft in drafts):
            async with aclosing(self._rank(drafts, rest)) as lines:
                async for line in lines:
                    yield line
            drafts = rank(drafts)
        yield "".join(self._final_records(drafts))

    async def _write(self, drafts: list[Draft]) -> AsyncGenerator[str, None]:
        """Write the drafts; yield records with their number of tokens."""
        request = GenerationRequest(self._prompt, self._params, self._visitor)
        written = 0
        async with aclosing(self._worker.stream(request)) as stream:
            self._stream = stream
            async for events in batches(self._worker, stream):
                lines = ""
                for event in events:
                    match event:
                        case Started():
                            start = describe_start(self._worker, event, stream)
                            shape = {"n": SHOWN, "candidates": DRAFTS, "fills": True}
                            lines += record("started", **(start | shape))
                        case TokenEvent() | Passage():
                            written += isinstance(event, TokenEvent)
                            drafts[event.index].text += event.text
                        case Finished():
                            drafts[event.index].text += event.text
                            drafts[event.index].end = event
                if written:
                    lines += record("drafting", tokens=written, rate=None)
                yield lines or "\n"
            self._stream = None

    async def _rank(self, drafts: list[Draft], rest: Continuation) -> AsyncGenerator[str, None]:
        """Score the text that follows after each draft."""
        before = self._prompt
        if isinstance(before, str):
            before = await encode_prompt(self._worker, before)
        ready, prompts = self._worker.require_ready(), []
        for draft in drafts:
            own = await encode(draft.text, ready, begins=False)
            prompts.append((*before, *own))
        scores = score_continuations(
            self._worker, prompts, rest, visitor=self._visitor, truncate="left", continues=True
        )
        async with aclosing(scores):
            async for one in scores:
                if one is not None:
                    drafts[one[0]].score = one[1]
                yield "\n"
                if self._is_cancelled:
                    return

    def _final_records(self, drafts: list[Draft]) -> list[str]:
        """The records of the best drafts, best first."""
        total = sum(one.end.completion_tokens for one in drafts if one.end is not None)
        lines = []
        for place, draft in enumerate(drafts[:SHOWN]):
            end = draft.end
            assert end is not None
            tokens = end.completion_tokens
            counted: dict[str, Any] = {"tokens": tokens, "total": total, "rate": None}
            lines.append(record("text", index=place, text=draft.text, **counted))
            said = message("fill.unranked", message=end.message)
            if draft.score is not None:
                logprob = f"{draft.score.mean_logprob:.2f}".replace("-", "\N{MINUS SIGN}")
                ranked = 1 + next(i for i, one in enumerate(drafts) if one.text == draft.text)
                said = message("fill.chosen", place=ranked, count=DRAFTS, logprob=logprob)
            lines.append(
                record(
                    "finished",
                    index=place,
                    reason=end.reason,
                    **describe_finished(replace(end, message=said)),
                    filtered_away=0,
                    last=place == SHOWN - 1,
                    total=total,
                    rate=None,
                    tokens=[],
                )
            )
        return lines


def rank(drafts: list[Draft]) -> list[Draft]:
    """Sort drafts by score, best first. Drafts with the text of a better one come last."""
    texts: set[str] = set()
    different: list[Draft] = []
    repeated: list[Draft] = []
    for draft in sorted(drafts, key=_merit):
        (repeated if draft.text in texts else different).append(draft)
        texts.add(draft.text)
    return different + repeated


def _failed(draft: Draft) -> bool:
    return draft.end is None or draft.end.reason in ("error", "cancelled")


def _merit(draft: Draft) -> float:
    return float("inf") if draft.score is None else -draft.score.sum_logprob
