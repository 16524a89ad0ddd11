"""Decode steps as captured CUDA graphs: the whole forward pass launched as one.

Graphs are captured for a few numbers of rows (`buckets`); a batch is padded to the next one with
rows that have no slot. All inputs that change from step to step (tokens, positions and slots) are
in one tensor on the device, which each launch overwrites.

Reproducibility: with Triton's kernels, a graph computes each row in the same way whatever the
others are, so a row's logits are the same to the last bit in any batch of the same bucket, in any
order. Between buckets the library's products may sum in different orders, which changes the last
digits. Without Triton, the longest row of a batch can change them too.
"""

from __future__ import annotations

import bisect
import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from gptj_demo.engine.machine import is_out_of_memory
from gptj_demo.engine.model.base import Report, Rows
from gptj_demo.engine.model.cuda import kernels as torch_kernels
from gptj_demo.engine.model.cuda.kernels import Kernels, find_triton
from gptj_demo.engine.model.eager import EagerModel
from gptj_demo.engine.model.kv_cache import KVCache
from gptj_demo.engine.transfer import upload
from gptj_demo.texts import first_line, message

logger = logging.getLogger(__name__)

_SHORTEST = 256  # positions; without Triton, lengths are in buckets too, from this one on

Forward = Callable[[], torch.Tensor]
Capture = Callable[[Forward], tuple[Callable[[], None], torch.Tensor]]
"""Captures a forward pass over fixed tensors; returns its replay and the output tensor."""


class CudaCapture:
    """Captures into one memory pool, because the graphs never run at the same time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        # one for all captures, because cuBLAS keeps a workspace for each stream
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def __call__(self, forward: Forward) -> tuple[Callable[[], None], torch.Tensor]:
        # the first call compiles, chooses and allocates things, which must not be captured
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(2):
                forward()
        current.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ):
                output = forward()
        finally:
            # `torch.cuda.graph` leaves its own stream current if ending the capture fails
            torch.cuda.set_stream(current)
        return graph.replay, output


@dataclass(frozen=True, slots=True)
class _Graph:
    inputs: torch.Tensor  # int64 [3, rows]: token ids, positions, slots
    replay: Callable[[], None]
    logits: torch.Tensor  # fp32 [rows, padded_vocabulary]


def buckets(largest: int, smallest: int = 1) -> list[int]:
    """`smallest`, then twice as much each time, and `largest` as the last one."""
    found = []
    while smallest < largest:
        found.append(smallest)
        smallest *= 2
    return [*found, largest]


class DecodeGraphs:
    """Decodes one token for each of up to `cache.max_num_seqs` rows, by graphs."""

    def __init__(
        self,
        model: EagerModel,
        cache: KVCache,
        capture: Capture | None = None,
        kernels: Kernels | None = None,
    ) -> None:
        self._model, self._cache = model, cache
        self._capture = capture or CudaCapture()
        self._kernels = kernels or find_triton() or torch_kernels
        self._rows = buckets(cache.max_num_seqs)
        # plain torch reads every row up to the bucket's length, Triton only the row's own positions
        smallest = _SHORTEST if self._kernels is torch_kernels else cache.context_length
        self._lengths = buckets(cache.context_length, smallest)
        self._graphs: dict[tuple[int, int], _Graph] = {}
        self._is_out_of_memory = False
        self.failure: str | None = None
        """Why there are no (more) graphs, as part of a sentence; None where nothing went wrong."""

    @torch.inference_mode()
    def prepare(self, report: Report) -> None:
        """Capture all graphs, the largest first: it sets the pool's size.

        A capture while streams are open would stop them for the time of several steps. Raises
        `torch.OutOfMemoryError` if that needs more memory than is free.
        """
        keys = [(rows, longest) for longest in self._lengths for rows in self._rows][::-1]
        for done, key in enumerate(keys):
            total = len(keys)
            report(message("status.capturing", done=done, total=total), done / total)
            if self._graph(*key) is None:
                if self._is_out_of_memory:  # a smaller cache leaves room for the graphs
                    raise torch.OutOfMemoryError(self.failure)
                return

    @torch.inference_mode()
    def launch(self, batch: Rows) -> torch.Tensor | None:
        """Queue a step on the device; returns a copy of the fp32 logits [rows, padded_vocabulary].

        Returns None and does nothing if there is no graph for so many rows (see `failure`).
        """
        token_ids, positions, slots = batch.token_ids, batch.positions, batch.slots
        rows = len(slots)
        bucket = self._rows[bisect.bisect_left(self._rows, rows)]
        longest = self._lengths[bisect.bisect_left(self._lengths, max(positions) + 1)]
        graph = self._graph(bucket, longest)
        if graph is None:
            return None
        missing = bucket - rows
        known = [0] * rows if isinstance(token_ids, torch.Tensor) else list(token_ids)
        padding = [0] * missing
        inputs = [[*known, *padding], [*positions, *padding], [*slots, *[-1] * missing]]
        graph.inputs.copy_(upload(inputs, torch.int64, graph.inputs.device))
        if isinstance(token_ids, torch.Tensor):
            graph.inputs[0, :rows] = token_ids
        graph.replay()
        return graph.logits[:rows].clone()

    def _graph(self, rows: int, longest: int) -> _Graph | None:
        key = rows, longest
        if key not in self._graphs and self.failure is None:
            # in the capture, the first row writes at the start of the first slot, the others
            # nowhere
            inputs = torch.zeros((3, rows), dtype=torch.int64, device=self._model.device)
            inputs[2, 1:] = -1
            stored, page = self._cache.storage, self._cache.tables[0, :1]
            kept = stored[:, :, page, 0]
            try:
                replay, logits = self._capture(lambda: self._forward(inputs, longest))
                self._graphs[key] = _Graph(inputs, replay, logits)
            except Exception as error:  # of the driver, a library or memory: decode without graphs
                self._is_out_of_memory = is_out_of_memory(error)
                self.failure = f"CUDA graphs cannot be captured ({first_line(error)})"
                logger.warning("%s", self.failure, exc_info=True)
            stored[:, :, page, 0] = kept
        return self._graphs.get(key)

    def _forward(self, inputs: torch.Tensor, longest: int) -> torch.Tensor:
        """The same as `EagerModel.forward` for rows, with no length known to Python."""
        model, kernels = self._model, self._kernels
        token_ids, positions, slots = inputs

        def attend(number: int, fused: torch.Tensor) -> torch.Tensor:
            pages = self._cache.storage[number], self._cache.tables
            queries = kernels.rotate_and_store(fused, model.rotation, slots, positions, *pages)
            return kernels.attend(queries, slots, positions, *pages, longest)

        return model.logits(model.run_layers(token_ids, attend))
