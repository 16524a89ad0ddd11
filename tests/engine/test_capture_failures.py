"""Where capturing a graph fails, decoding goes on without it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from gptj_demo.engine.model.cuda.graphs import CudaCapture, DecodeGraphs, Forward
from tests.engine.devices import NO_GPU
from tests.engine.graphs import Bench, all_kinds, recorder, request


def failing(forward: Forward) -> tuple[Callable[[], None], torch.Tensor]:
    forward()
    raise RuntimeError("operation not permitted when stream is capturing.\nCompile with ...")


def test_decoding_works_without_graphs_after_a_capture_failure_and_logs_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plain, failed = Bench(), Bench(capture=failing)
    sentence = failed.runner.prepare(lambda detail, progress: None)
    reason = "(operation not permitted when stream is capturing)"
    assert str(sentence) == (
        f"Decoding is slower than it could be: CUDA graphs cannot be captured {reason}."
    )
    assert reason in caplog.text
    for bench in (plain, failed):
        bench.run(*all_kinds())
    assert failed.results == plain.results


def test_a_lack_of_memory_at_the_start_is_raised_so_that_the_cache_is_made_smaller() -> None:
    def run_out(forward: Forward) -> tuple[Callable[[], None], torch.Tensor]:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        finally:  # what ending the capture raises then
            raise RuntimeError("operation failed due to a previous error during capture")

    with pytest.raises(torch.OutOfMemoryError, match="CUDA graphs cannot be captured"):
        Bench(capture=run_out).runner.prepare(lambda detail, progress: None)


def test_a_later_capture_failure_does_not_change_the_results() -> None:
    recorded = recorder()

    def capture(forward: Forward) -> tuple[Callable[[], None], torch.Tensor]:
        return failing(forward) if recorded.captured else recorded(forward)

    plain, failed = Bench(), Bench(capture=capture)
    for bench in (plain, failed):
        bench.submit(request(0, 8, max_new_tokens=30))
        for _ in range(4):
            bench.step()
        bench.run(request(1, 8), request(2, 30))
    assert recorded.captured == [1]
    assert failed.results == plain.results


@NO_GPU
def test_decoding_works_if_the_gpu_refuses_to_capture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forward = DecodeGraphs._forward

    def waits(self: DecodeGraphs, inputs: torch.Tensor, longest: int) -> torch.Tensor:
        inputs.tolist()  # waiting for the device cannot be captured
        return forward(self, inputs, longest)

    monkeypatch.setattr(DecodeGraphs, "_forward", waits)
    plain, failed = Bench(), Bench(capture=CudaCapture())
    for bench in (plain, failed):
        bench.run(*all_kinds())
    assert failed.graphs.failure is not None
    assert failed.results == plain.results
