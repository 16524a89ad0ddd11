"""Queueing the next step before the tokens of this one are read changes no token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gptj_demo.engine.model import Rows
from tests.engine.graphs import (
    CONTEXT,
    NOT_A_NUMBER,
    Bench,
    all_kinds,
    is_interpreted,
    recorder,
    request,
)


def test_the_next_step_is_queued_before_the_tokens_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []
    recorded = recorder()
    bench = Bench(capture=recorded)
    launch = bench.graphs.launch

    def noted_launch(rows: Rows) -> Any:
        order.append("launch")
        return launch(rows)

    def noted_download(values: torch.Tensor) -> Callable[[], list[int]]:
        def read() -> list[int]:
            order.append("read")
            return values.tolist()

        return read

    monkeypatch.setattr(bench.graphs, "launch", noted_launch)
    monkeypatch.setattr("gptj_demo.engine.runner.download", noted_download)
    bench.run(request(0, 5, max_new_tokens=5))
    # one chunk reads the prompt; four tokens are decoded, and nothing is queued after the last
    assert order == ["launch", "read"] * 4 + ["read"]
    assert len(recorded.launched) == 4


def test_one_extra_step_is_launched_only_if_the_end_was_not_known() -> None:
    wanted = Bench(capture=(plain := recorder()))
    wanted.run(request(0, 5, max_new_tokens=6))
    assert len(plain.launched) == 5
    full = Bench(capture=(plain := recorder()))
    full.run(request(0, CONTEXT - 4, max_new_tokens=20))
    assert len(plain.launched) == 3
    tokens = wanted.results[0, 0][0]
    stopped = Bench(capture=(recorded := recorder()))
    stopped.run(request(0, 5, max_new_tokens=20, stop_token_ids=(tokens[3],)))
    assert stopped.results[0, 0][0] == tokens[: tokens.index(tokens[3])]
    assert len(recorded.launched) == tokens.index(tokens[3]) + 1


def test_a_row_with_probabilities_does_not_keep_steps_from_being_queued() -> None:
    plain, graphs = Bench(), Bench(capture=(recorded := recorder()))
    for bench in (plain, graphs):
        bench.run(request(0, 5, max_new_tokens=6, logprobs=1), request(1, 9, max_new_tokens=6))
    assert graphs.results == plain.results
    assert len(recorded.launched) == 5  # each step once: none was computed again


def test_a_row_that_joins_with_a_cached_prompt_does_not_change_the_other_row() -> None:
    prompt = request(0, 20).prompt_token_ids
    late = request(1, prompt, temperature=1.0)
    plain, graphs = Bench(), Bench(capture=recorder())
    for bench in (plain, graphs):
        bench.submit(request(0, prompt, max_new_tokens=15))
        for _ in range(6):
            bench.step()
        bench.run(late)
    assert graphs.results == plain.results


@pytest.mark.filterwarnings("ignore:invalid value")  # of numpy, in Triton's interpreter
def test_pages_freed_with_scarce_memory_are_reused_without_changing_results(kernels: Any) -> None:
    plain = Bench(streams=8)
    scarce = Bench(capture=recorder(), kernels=kernels, streams=8, max_tokens=2 * CONTEXT)
    requests = all_kinds()[:: 4 if is_interpreted(kernels) else 1]
    for bench in (plain, scarce):
        bench.run(*requests)
    assert scarce.results == plain.results


def test_the_slot_of_a_cancelled_request_serves_the_next_request() -> None:
    plain, graphs = Bench(streams=2), Bench(capture=recorder(), streams=2)
    for bench in (plain, graphs):
        bench.submit(request(0, 10, max_new_tokens=30), request(1, 12, max_new_tokens=30))
        for _ in range(5):
            bench.step()
        bench.events += bench.engine.cancel(0)
        bench.run(request(2, (*request(0, 10).prompt_token_ids, 1, 2), max_new_tokens=20))
    assert graphs.results == plain.results


@pytest.mark.filterwarnings("ignore:invalid value")  # of numpy, in Triton's interpreter
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nan_in_one_request_does_not_change_other_requests(
    kernels: Any, temperature: float
) -> None:
    plain = Bench(broken=True, streams=2)
    graphs = Bench(capture=recorder(), kernels=kernels, broken=True, streams=2)
    for bench in (plain, graphs):
        bench.submit(request(0, 10, max_new_tokens=8 if is_interpreted(kernels) else 30))
        bias = (((NOT_A_NUMBER,), 200.0),)
        bench.run(request(1, 7, temperature=temperature, logit_bias=bias))
        for number in range(2, 3 if is_interpreted(kernels) else 8):  # later users of the slot
            bench.run(request(number, number), request(10 + number, 30))
    assert graphs.results == plain.results
    assert "broke down" in str(graphs.results[1, 0][2])
    assert not graphs.runner.cache.storage.isnan().any()
