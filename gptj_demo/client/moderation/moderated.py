"""A stream whose texts are checked sentence by sentence before they can be taken."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from gptj_demo.client.moderation.checker import Checker
from gptj_demo.client.moderation.holdback import WINDOW, Action, Holdback
from gptj_demo.client.moderation.sentences import last_part
from gptj_demo.client.moderation.verdict import FAILED
from gptj_demo.client.refusal import RequestRefused
from gptj_demo.client.stream import Stream
from gptj_demo.protocol import Finished, StreamEvent, TokenEvent

logger = logging.getLogger(__name__)


class ModeratedStream(Stream):
    """A stream in which each completion holds back what has not been checked.

    `context` is the text before the completions; only its unfinished last sentence is used.
    """

    def __init__(self, *given: Any, checker: Checker, action: Action, context: str) -> None:
        super().__init__(*given)
        self._checker = checker
        self._action = action
        self._context = last_part(context[-WINDOW:])[-WINDOW // 2 :]
        self._held: dict[int, Holdback] = {}
        self._checks: dict[int, asyncio.Task[None]] = {}

    async def aclose(self) -> None:
        await super().aclose()
        for task in self._checks.values():
            task.cancel()

    def _pass_on(self, events: Sequence[StreamEvent | RequestRefused]) -> None:
        for event in events:
            if isinstance(event, TokenEvent | Finished):
                index = event.index
                if index not in self._held:
                    self._held[index] = Holdback(self._action, self._context)
                self._held[index].add(event)
                if index not in self._checks:
                    self._advance(index)
            else:
                super()._pass_on([event])

    def _advance(self, index: int) -> None:
        """Begin a check if there is a text to check, else pass on the end if it has arrived."""
        held = self._held[index]
        if (text := held.next()) is not None:
            self._checks[index] = asyncio.ensure_future(self._check(index, text))
        elif ends := held.end():
            super()._pass_on(ends)

    async def _check(self, index: int, text: str) -> None:
        held = self._held[index]
        try:
            verdict = await self._checker.judge(text)
        except Exception:  # a stream must neither hang nor show unchecked text
            logger.exception("the check of a sentence failed")
            verdict = FAILED
        del self._checks[index]
        if shown := held.decide(verdict):
            super()._pass_on(shown)
        if held.has_ended:
            self._stop_early()
        self._advance(index)

    def _stop_early(self) -> None:
        """End the engine's work if the filter has ended all completions that still run."""
        running = [
            index
            for index in range(self.request.params.n)
            if index not in self._held or not self._held[index].needs_no_more
        ]
        if not running:
            self.cancel()
