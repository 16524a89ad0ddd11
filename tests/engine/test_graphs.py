"""Decoding by captured graphs: the same tokens as without."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from gptj_demo.engine.model import Chunk, Rows
from gptj_demo.engine.model.cuda.graphs import DecodeGraphs, buckets
from gptj_demo.engine.model.cuda.model import CudaModel
from gptj_demo.engine.runner import Runner
from gptj_demo.pages import PAGE_TOKENS
from tests.engine.checkpoints import TEXT_TOKENS, make_model
from tests.engine.devices import DEVICE, NO_GPU, NO_TRITON
from tests.engine.forward import built
from tests.engine.graphs import (
    CONTEXT,
    Bench,
    all_kinds,
    is_interpreted,
    larger_model,
    recorder,
    request,
)


def test_buckets_double_up_to_the_number_of_streams() -> None:
    assert buckets(1) == [1]
    assert buckets(8) == [1, 2, 4, 8]
    assert buckets(9) == [1, 2, 4, 8, 9]
    assert buckets(2048, 256) == [256, 512, 1024, 2048]
    assert buckets(96, 256) == [96]


def test_every_kind_of_request_has_the_same_result_with_and_without_graphs(kernels: Any) -> None:
    plain, graphs = Bench(), Bench(capture=recorder(), kernels=kernels)
    requests = all_kinds()[:: 3 if is_interpreted(kernels) else 1]
    for bench in (plain, graphs):
        waiting = list(requests)
        generator = random.Random(2)
        while waiting or not bench.engine.is_idle:
            if waiting and generator.random() < 0.3:
                bench.submit(waiting.pop(0))
            bench.step()
    assert len(plain.results) == sum(request.params.n for request in requests)
    assert graphs.results == plain.results
    assert graphs.graphs.failure is None


def test_each_bucket_of_rows_is_captured_once_and_smaller_batches_are_padded() -> None:
    recorded = recorder()
    bench = Bench(capture=recorded, streams=6)
    bench.run(*(request(n, 4) for n in range(3)))  # at most three rows
    assert recorded.captured == [4]
    assert set(recorded.launched) == {4}
    # a step reads sixteen tokens, so that four rows begin, six go on, and two are left at the end
    bench.run(*(request(n, 4) for n in range(6)))
    assert recorded.captured == [4, 6, 2]
    bench.run(request(0, 4))
    assert recorded.captured == [4, 6, 2, 1]


def test_preparing_captures_all_and_reports() -> None:
    recorded, reports = recorder(), list[tuple[str, float | None]]()
    bench = Bench(capture=recorded, streams=6)
    before = bench.runner.cache.storage.clone()
    assert (
        bench.runner.prepare(lambda detail, progress: reports.append((str(detail), progress)))
        is None
    )
    assert recorded.captured == [6, 4, 2, 1]
    assert reports[1] == ("Capturing graphs, 1 of 4", 0.25)
    assert torch.equal(bench.runner.cache.storage, before)
    bench.run(*(request(n, 4) for n in range(6)))
    assert len(recorded.captured) == 4


def test_without_triton_a_graph_is_captured_for_each_range_of_lengths() -> None:
    recorded = recorder()
    bench = Bench(capture=recorded, streams=1, n_positions=600)
    bench.run(request(0, 250, max_new_tokens=20))
    assert recorded.captured == [1, 1]  # up to 256 positions and up to 512
    bench.run(request(1, 560, max_new_tokens=2))
    assert recorded.captured == [1, 1, 1]
    plain = Bench(streams=1, n_positions=600)
    plain.run(request(0, 250, max_new_tokens=20), request(1, 560, max_new_tokens=2))
    assert bench.results == plain.results


def test_without_triton_no_graph_is_captured_after_preparing() -> None:
    recorded, reports = recorder(), list[str]()
    bench = Bench(capture=recorded, streams=2, n_positions=600)
    bench.runner.prepare(lambda detail, progress: reports.append(str(detail)))
    assert recorded.captured == [2, 1] * 3  # up to 600 positions, up to 512, up to 256
    assert reports[1] == "Capturing graphs, 1 of 6"
    bench.run(request(0, 250, max_new_tokens=20), request(1, 560, max_new_tokens=2))
    assert len(recorded.captured) == 6


def test_rows_that_pad_the_batch_store_nothing(kernels: Any) -> None:
    bench = Bench(capture=recorder(), kernels=kernels, streams=8)
    storage = bench.runner.cache.storage
    storage.copy_(torch.randn(storage.shape, generator=torch.Generator().manual_seed(0)))
    before = storage.clone()
    bench.graphs.launch(Rows([5, 6, 7], [9, 0, 30], [6, 2, 3]))
    touched = (storage != before).any(dim=4).any(dim=1).nonzero().tolist()
    each = CONTEXT // PAGE_TOKENS  # a slot's pages follow those of the slot before it
    places = ([1 + 2 * each, 0], [1 + 3 * each + 1, 14], [1 + 6 * each, 9])
    expected = [[layer, *place] for layer in range(2) for place in places]
    assert touched == expected


def test_the_next_launch_does_not_overwrite_returned_logits() -> None:
    bench = Bench(capture=recorder())
    first = bench.graphs.launch(Rows([5], [0], [0]))
    assert first is not None
    kept = first.clone()
    bench.graphs.launch(Rows(torch.tensor([6], device=DEVICE), [1], [0]))
    assert torch.equal(first, kept)


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float16, marks=NO_GPU)])
def test_logits_of_a_graph_are_those_of_the_plain_pass(kernels: Any, dtype: torch.dtype) -> None:
    """At the first and the last position, and where plain torch switches to longer graphs."""
    model = larger_model(dtype)
    cache = model.make_cache(4)
    generator = torch.Generator().manual_seed(1)
    cache.storage.copy_(torch.randn(cache.storage.shape, generator=generator))
    graphs = DecodeGraphs(model, cache, recorder(), kernels)
    slots, tokens = [0, 1, 3], [7, 8, 9]
    for positions in ([0, 1, 2], [4, 255, 0], [256, 3, 130], [511, 20, 511]):
        rows = Rows(tokens, positions, slots)
        expected = model.logits(model.decode(cache, rows))
        actual = graphs.launch(rows)
        assert actual is not None
        limit = 1e-5 if dtype == torch.float32 else 1e-2
        assert (actual - expected).abs().max() < limit * expected.abs().max()


# ---- on a GPU


@NO_GPU
def test_on_a_gpu_graphs_are_captured_by_default() -> None:
    model = built(make_model().to("cuda"))
    assert isinstance(model, CudaModel)
    assert Runner(model, 4, TEXT_TOKENS).prepare(lambda detail, progress: None) is None
    assert model.queues_ahead


@NO_GPU
@NO_TRITON
def test_on_a_gpu_a_row_gives_the_same_bits_in_any_batch_of_one_bucket() -> None:
    model = larger_model(torch.float16)
    cache = model.make_cache(8)
    for slot in range(8):
        ids = random.Random(slot).choices(range(300), k=30 + 60 * slot)
        model.prefill(cache, Chunk(ids, slot, 0))
    graphs = DecodeGraphs(model, cache)
    tokens, slots = [*range(8)], [*range(8)]
    positions = [30 + 60 * slot for slot in slots]
    whole = graphs.launch(Rows(tokens, positions, slots))
    assert whole is not None
    for order in ([7, 6, 5, 4, 3, 2, 1, 0], [3, 1, 4, 0, 5], [2, 7, 0, 6, 4, 5]):
        part = graphs.launch(Rows(*([x[n] for n in order] for x in (tokens, positions, slots))))
        assert part is not None
        assert torch.equal(part, whole[order])
