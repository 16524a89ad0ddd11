"""What tests of speculation share: a drafter that knows the texts, and storms of requests."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from collections.abc import Sequence as Rows
from dataclasses import replace
from typing import Any

from gptj_demo.engine.draft_model import DraftModel
from gptj_demo.engine.engine import Engine
from gptj_demo.engine.lookup import PromptLookup
from gptj_demo.engine.model import ForwardModel
from gptj_demo.engine.sampling import RowSampler
from gptj_demo.engine.scheduler import Sequence
from gptj_demo.engine.speculation import Drafter, PassCost, Speculation
from gptj_demo.protocol import EngineEvent, Finished, Submit, TokenEvent

Texts = dict[tuple[int, int], list[int]]
"""Token ids of completions, by request and index."""


class Scripted(Drafter):
    """Drafts the tokens of known texts; each token is right with probability `acceptance`.

    It drafts `length` tokens, or a random number. After a wrong token it goes on in the text.
    """

    name = "scripted"

    def __init__(
        self, texts: Texts, vocabulary: int, acceptance: float, length: int | None = None
    ) -> None:
        self._texts = texts
        self._vocabulary = vocabulary
        self._acceptance = acceptance
        self._length = length
        self._random = random.Random(1)

    def chance(self, row: Sequence, sampler: RowSampler) -> float:
        return 1.0

    def draft(
        self, rows: Rows[Sequence], samplers: Rows[RowSampler], most: Rows[int], least: float
    ) -> list[list[int]]:
        return [self._draft(row, count) for row, count in zip(rows, most, strict=True)]

    def _draft(self, row: Sequence, most: int) -> list[int]:
        done = len(row.generated_token_ids)
        length = self._random.randint(0, max(0, most)) if self._length is None else self._length
        text = self._texts.get(row.key, [])[done : done + min(length, max(0, most))]
        return [
            token
            if self._random.random() < self._acceptance
            else (token + self._random.randrange(1, self._vocabulary)) % self._vocabulary
            for token in text
        ]


class EagerLookup(PromptLookup):
    """Prompt lookup that drafts wherever it finds something."""

    def draft(
        self, rows: Rows[Sequence], samplers: Rows[RowSampler], most: Rows[int], least: float
    ) -> list[list[int]]:
        return super().draft(rows, samplers, most, 0.0)


def draft_model(engine: Engine, model: ForwardModel) -> DraftModel:
    """A draft model whose passes cost nothing, for an engine."""
    runner = engine._runner
    free = PassCost(seconds=math.inf, row=0.0)
    return DraftModel(model, runner.cache, runner.vocabulary, runner._unused, free)


def speculate(engine: Engine, *drafters: Drafter) -> None:
    """Verify all that the drafters propose, however many requests run."""
    engine._runner.speculation = Speculation(drafters, row_cost=0.0)


def drafted_by(events: Iterable[EngineEvent], drafter: str) -> tuple[int, int]:
    """How many tokens a drafter drafted, and how many of them were generated."""
    ends = [event for event in events if isinstance(event, Finished)]
    own = [one for end in ends for one in end.drafts if one.drafter == drafter]
    return sum(one.drafted for one in own), sum(one.accepted for one in own)


def outcome(events: Rows[EngineEvent]) -> dict[int, list[Any]]:
    """A request's events by completion, without the counts of cached and drafted tokens."""
    by_index: dict[int, list[Any]] = {}
    for event in events:
        if isinstance(event, Finished):
            event = replace(event, cached_tokens=0, own_cached_tokens=0, drafts=())
        by_index.setdefault(getattr(event, "index", -1), []).append(event)
    return by_index


def texts_of(events: dict[int, list[EngineEvent]]) -> Texts:
    """The token ids that requests generated, those that ended a text too."""
    texts: Texts = {}
    for request_id, own in events.items():
        for event in own:
            if isinstance(event, TokenEvent):
                texts.setdefault((request_id, event.index), []).append(event.token_id)
            elif isinstance(event, Finished) and event.end_token_id is not None:
                texts.setdefault((request_id, event.index), []).append(event.end_token_id)
    return texts


def alone(engine: Engine, requests: Rows[Submit]) -> dict[int, list[EngineEvent]]:
    """The events of requests that run one after the other, by their ids."""
    events: dict[int, list[EngineEvent]] = {}
    for one in requests:
        engine.submit(one)
        while not engine.is_idle:
            for event in engine.step():
                events.setdefault(event.request_id, []).append(event)
    return events


def in_a_storm(
    engine: Engine, requests: Rows[Submit], together: int, generator: random.Random
) -> dict[int, list[EngineEvent]]:
    """The events of requests that arrive at random, beside copies that are cancelled midway.

    A copy has the id -1 - n of the n-th request.
    """
    events: dict[int, list[EngineEvent]] = {}
    waiting = list(enumerate(requests))
    generator.shuffle(waiting)
    cancelled: list[int] = []
    steps = 0
    while waiting or not engine.is_idle:
        running = len(engine._requests)
        while waiting and running < together and generator.random() < 0.6:
            number, one = waiting.pop()
            engine.submit(one)
            running += 1
            if generator.random() < 0.3:
                engine.submit(replace(one, request_id=-1 - number))
                cancelled.append(-1 - number)
        if cancelled and generator.random() < 0.2:
            engine.cancel(cancelled.pop(generator.randrange(len(cancelled))))
        for event in engine.step():
            events.setdefault(event.request_id, []).append(event)
        engine._scheduler.check_integrity()
        steps += 1
    return {number: own for number, own in events.items() if number >= 0}
