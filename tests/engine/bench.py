"""An engine with a tiny random model, for tests that read its events.

`logit_bias` makes the model write what a test needs; the clock is set by hand.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch

from gptj_demo.engine.engine import Engine
from gptj_demo.engine.runner import Runner
from gptj_demo.engine.vocabulary import EngineVocabulary
from gptj_demo.protocol import EngineEvent, Finished, Started, Submit, TokenEvent
from gptj_demo.sampling import SamplingParams
from gptj_demo.tokenization import token_bytes
from tests.engine.checkpoints import TEXT_TOKENS, make_model, make_tokenizer
from tests.engine.forward import built

TOKENIZER = make_tokenizer()
TABLE = token_bytes(TOKENIZER.to_str())
END = TEXT_TOKENS - 1
CONTEXT = 64
A, B, C, D = (TABLE.index(letter.encode()) for letter in "ABCD")
NOT_A_NUMBER = TABLE.index(b"~")  # with `broken`, its embedding is NaN


class Clock:
    """Seconds, set by hand; each reading advances them by `a_step`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.a_step = 0.0

    def __call__(self) -> float:
        self.now += self.a_step
        return self.now


class Bench:
    """An engine and its events, by request."""

    def __init__(
        self,
        *,
        broken: bool = False,
        max_num_seqs: int = 4,
        prefill_budget: int = 16,
        max_tokens: int | None = None,
    ) -> None:
        model = make_model(seed=4, n_positions=CONTEXT)
        if broken:
            with torch.no_grad():
                model.transformer.wte.weight[NOT_A_NUMBER] = torch.nan
        self.clock = Clock()
        runner = Runner(built(model), max_num_seqs, TEXT_TOKENS, max_tokens=max_tokens)
        vocabulary = EngineVocabulary(
            TABLE, TEXT_TOKENS, CONTEXT, bos_token_id=END, eos_token_ids=[END]
        )
        self.engine = Engine(runner, vocabulary, prefill_budget, self.clock)
        self.events: dict[int, list[EngineEvent]] = {}

    def submit(self, *requests: Submit) -> None:
        for request in requests:
            self.engine.submit(request)

    def cancel(self, request_id: int) -> list[Finished]:
        ends = self.engine.cancel(request_id)
        for end in ends:
            self.events.setdefault(request_id, []).append(end)
        return ends

    def step(self) -> None:
        for event in self.engine.step():
            self.events.setdefault(event.request_id, []).append(event)

    def run(self, *requests: Submit) -> None:
        self.submit(*requests)
        while not self.engine.is_idle:
            self.step()

    def tokens(self, request_id: int, index: int = 0) -> list[int]:
        return [event.token_id for event in self.token_events(request_id, index)]

    def token_events(self, request_id: int, index: int = 0) -> list[TokenEvent]:
        return [
            event
            for event in self.events.get(request_id, ())
            if isinstance(event, TokenEvent) and event.index == index
        ]

    def text(self, request_id: int, index: int = 0) -> str:
        pieces = [event.text for event in self.token_events(request_id, index)]
        return "".join(pieces) + self.end(request_id, index).text

    def end(self, request_id: int, index: int = 0) -> Finished:
        ends = [
            event
            for event in self.events[request_id]
            if isinstance(event, Finished) and event.index == index
        ]
        assert len(ends) == 1
        return ends[0]

    def started(self, request_id: int) -> Started:
        events = [event for event in self.events[request_id] if isinstance(event, Started)]
        assert len(events) == 1
        return events[0]


def request(request_id: int = 0, prompt: Sequence[int] = (C,), **values: Any) -> Submit:
    """A request, greedy by default; `writes` are the tokens that the model writes in turn."""
    fields = ("logit_bias", "bad_words", "dropped_tokens", "seed", "visitor")
    given = {name: values.pop(name) for name in fields if name in values}
    writes = values.pop("writes", ())
    if writes:
        path = (prompt[-1], *writes)
        pairs = itertools.pairwise(path)
        given["logit_bias"] = tuple((pair, 100.0) for pair in pairs)
    params = SamplingParams(**{"temperature": 0, "max_new_tokens": 10, **values})
    return Submit(request_id, tuple(prompt), params, **{"seed": 5, **given})


DRAWN: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 8, "ignore_eos": True}
