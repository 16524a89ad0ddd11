"""Several completions of a request, and requests that share a batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from gptj_demo.engine.model import Batch, KVCache
from gptj_demo.protocol import Finished
from tests.engine.bench import CONTEXT, DRAWN, END, A, B, Bench, C, D, request


def test_each_completion_equals_a_single_request_with_its_seed() -> None:
    """Also with more completions than slots, and with seeds that wrap around."""
    bench = Bench(max_num_seqs=2)
    first = 2**32 - 2
    bench.run(request(0, (A, B), n=5, seed=first, **DRAWN))
    assert [bench.end(0, index).seed for index in range(5)] == [first, first + 1, 0, 1, 2]
    for index in range(5):
        alone = Bench()
        alone.run(request(0, (A, B), seed=bench.end(0, index).seed, **DRAWN))
        assert alone.tokens(0) == bench.tokens(0, index)
    assert len({tuple(bench.tokens(0, index)) for index in range(5)}) == 5


def test_several_completions_share_one_prefill(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    bench = Bench(prefill_budget=8)
    model = bench.engine._runner.model
    forward = model.forward

    def counted(cache: KVCache, batch: Batch) -> torch.Tensor:
        lengths.extend(len(chunk.token_ids) for chunk in batch.chunks)
        return forward(cache, batch)

    monkeypatch.setattr(model, "forward", counted)
    bench.run(request(prompt=(A, B, C) * 7, n=4, **DRAWN))
    assert sum(lengths) == 21
    assert [len(bench.tokens(0, index)) for index in range(4)] == [8] * 4


@pytest.mark.parametrize("contexts", [1, 2])
def test_requests_wait_for_scarce_memory_and_give_the_same_texts(contexts: int) -> None:
    shared = (A, B, C, D) * 5
    requests = [
        request(n, (*shared, *[A + n % 3] * (n % 7)), n=1 + n % 3, seed=n, **DRAWN)
        for n in range(12)
    ]
    plenty, scarce = Bench(max_num_seqs=8), Bench(max_num_seqs=8, max_tokens=contexts * CONTEXT)
    for bench in (plenty, scarce):
        bench.submit(*requests)
        for _ in range(4):
            bench.step()
        bench.cancel(5)
        bench.run()
    for one in requests:
        if one.request_id != 5:
            for index in range(one.params.n):
                expected = plenty.tokens(one.request_id, index)
                assert scarce.tokens(one.request_id, index) == expected


def test_cancel_ends_running_and_waiting_completions() -> None:
    bench = Bench(max_num_seqs=2)
    bench.submit(request(0, n=3, **DRAWN), request(1, **DRAWN))
    for _ in range(3):
        bench.step()
    written = [len(bench.tokens(0, index)) for index in range(3)]
    assert written[0] > 0
    assert written[1] > 0
    assert written[2] == 0
    ends = bench.cancel(0)
    assert [end.index for end in ends] == [0, 1, 2]
    assert {end.reason for end in ends} == {"cancelled"}
    assert [end.completion_tokens for end in ends] == written
    assert bench.cancel(0) == []
    while not bench.engine.is_idle:
        bench.step()
    assert [len(bench.tokens(0, index)) for index in range(3)] == written
    assert bench.end(1).completion_tokens == 8


def test_cancel_reports_no_completion_that_has_ended() -> None:
    bench = Bench()
    bench.submit(request(n=3, logit_bias=(((END,), 4.0),), **{**DRAWN, "ignore_eos": False}))
    while not any(isinstance(event, Finished) for event in bench.events.get(0, ())):
        bench.step()
    ended = {event.index for event in bench.events[0] if isinstance(event, Finished)}
    assert 0 < len(ended) < 3
    assert {end.index for end in bench.cancel(0)} == {0, 1, 2} - ended
    assert bench.engine.is_idle


def test_cancelling_an_unknown_request_does_nothing() -> None:
    bench = Bench()
    assert bench.cancel(77) == []
    assert bench.engine.is_idle


def test_a_short_prompt_overtakes_a_long_one_and_neither_changes() -> None:
    long = request(0, [A, B, C, D] * 14, max_new_tokens=4)
    short = request(1, [B, B, D], max_new_tokens=4)
    alone = Bench(prefill_budget=4)
    alone.run(long)
    alone.run(short)
    bench = Bench(prefill_budget=4)
    bench.submit(long)
    bench.step()
    bench.submit(short)
    for _ in range(3):
        bench.step()
    assert bench.tokens(1)
    assert not bench.tokens(0)  # its prompt takes 14 steps to read
    bench.run()
    for request_id in (0, 1):
        assert bench.tokens(request_id) == alone.tokens(request_id)


def test_a_request_gives_the_same_events_alone_and_in_a_mixed_batch() -> None:
    kinds: list[dict[str, Any]] = [
        {},
        {"temperature": 0},
        {"top_k": 5, "presence_penalty": 1.0},
        {"top_p": 0.8, "repetition_penalty": 1.2, "logprobs": 20},
        {"typical_p": 0.8, "dry_multiplier": 0.8, "dry_allowed_length": 1},
        {"min_p": 0.1, "no_repeat_ngram_size": 2, "echo": True},
        {"eta_cutoff": 0.1, "epsilon_cutoff": 0.001, "xtc_probability": 0.5, "xtc_threshold": 0.01},
        {"token_healing": True, "frequency_penalty": 0.5, "min_new_tokens": 3, "n": 2},
    ]
    requests = [
        replace(
            request(number, [A, B, C, D][: 1 + number % 4] * 3, **{**DRAWN, **values}), seed=number
        )
        for number, values in enumerate(kinds)
    ]
    together = Bench(max_num_seqs=8)
    together.run(*requests)
    for one in requests:
        alone = Bench()
        alone.run(one)
        for index in range(one.params.n):
            assert alone.tokens(one.request_id, index) == together.tokens(one.request_id, index)
            ours, theirs = (b.token_events(one.request_id, index) for b in (alone, together))
            assert ours == theirs
