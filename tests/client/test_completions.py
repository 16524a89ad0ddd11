"""Several completions of a request, and the best of them."""

from __future__ import annotations

from gptj_demo.client import Worker
from gptj_demo.protocol import (
    Drafting,
    GenerationRequest,
    Started,
    TokenEvent,
)
from tests.client.requests import (
    endless,
    ends,
    everything,
    paused,
    request,
    run,
    started,
    tokens_of,
)


def test_completions_stream_side_by_side_and_each_ends_with_its_own_seed(worker: Worker) -> None:
    events = run(everything(worker, request(n=2, seed=2**32 - 1)))
    order = [event.index for event in events if isinstance(event, TokenEvent)]
    assert sorted(order) == [0] * 8 + [1] * 8
    assert order != sorted(order)
    assert {end.index: end.seed for end in ends(events)} == {0: 2**32 - 1, 1: 0}
    assert sum(isinstance(event, Started) for event in events) == 1


def test_more_completions_than_slots_are_written_one_after_another(worker: Worker) -> None:
    events = run(everything(worker, request(n=5)))
    assert sorted(end.index for end in ends(events)) == [0, 1, 2, 3, 4]
    alone = run(everything(worker, request(seed=1 + 4)))
    assert tokens_of(events, 4) == tokens_of(alone, 0)


def test_best_of_returns_the_most_probable_candidates_in_order(worker: Worker) -> None:
    candidates = run(everything(worker, request(n=4, logprobs=0)))
    means = {end.index: end.mean_logprob for end in ends(candidates)}
    ranked = sorted(means, key=lambda index: -(means[index] or 0))
    events = run(everything(worker, request(n=2, best_of=4)))
    assert [end.index for end in ends(events)] == [0, 1]
    for place, candidate in enumerate(ranked[:2]):
        assert tokens_of(events, place) == tokens_of(candidates, candidate)
        assert ends(events)[place].seed == 1 + candidate
    drafted = [event.tokens for event in events if isinstance(event, Drafting)]
    assert drafted == list(range(1, 33))
    assert not any(isinstance(e, TokenEvent) and e.logprobs for e in events)  # not asked for


def test_cancelling_ends_every_completion(worker: Worker) -> None:
    async def scenario() -> None:
        params = endless().params.model_copy(update={"n": 4})
        stream = worker.stream(GenerationRequest("x", params))
        await started(stream)
        with paused(worker):
            stream.cancel()
        events = [event async for event in stream]
        assert {end.index: end.reason for end in ends(events)} == dict.fromkeys(
            range(4), "cancelled"
        )

    run(scenario())
    assert worker.streams_running == 0
