"""Runs the rows of a step on all threads: together, or each thread the rows of some slots."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from gptj_demo.engine.model.cpu.faster import Faster
from gptj_demo.engine.model.cpu.layers import TILE
from gptj_demo.engine.model.cpu.passes import Pass, Weights
from gptj_demo.engine.model.cpu.threads import Threads

# The least work for which slots are divided among threads, in KV positions that are read. The
# matmuls of one row cost about as much as reading 256 positions.
_ROW_IN_POSITIONS, _WORK_FOR_THREADS = 256, 1800
_LEAST_SLOTS_A_THREAD = 2
_APART, _TOGETHER = 0, 1


class Tokens(NamedTuple):
    """Tokens of a step, int64 [tokens]; those of a slot are neighbours, by their positions."""

    token_ids: np.ndarray
    slots: np.ndarray
    positions: np.ndarray


class RowRunner:
    """Runs rows through a model over one KV cache.

    On a busy machine, two threads that wait for each other can be slower than one. So both ways are
    timed for each number of rows, and the faster one is used.
    """

    def __init__(
        self,
        embedding: np.ndarray,
        weights: Weights,
        pages: tuple[np.ndarray, np.ndarray],
        threads: Threads,
    ) -> None:
        self._embedding = embedding
        self._widths = embedding.shape[1], len(weights.ends[3])
        self._threads = threads
        self._apart = [Pass(weights, pages) for _ in range(threads.count)]
        self._together = Pass(weights, pages) if threads.count > 1 else None
        (self._together or self._apart[0]).compile()
        self._faster: dict[int, Faster] = {}  # apart or together, by number of rows

    def run(self, tokens: Tokens, wanted: int, *, wants_logits: bool) -> np.ndarray:
        """The results of the last `wanted` tokens, fp32.

        Logits [wanted, columns of the head], or hidden states [wanted, d_model] before the last
        norm. Keys and values of all tokens are stored.
        """
        count = len(tokens.token_ids)
        if count == 0:
            return np.empty((0, self._widths[wants_logits]), np.float32)
        if self._together is None or count > TILE:
            return self._run_apart(tokens, wanted, wants_logits)
        faster = self._faster.setdefault(count, Faster())
        way = faster.choose()
        begin = time.perf_counter()
        if way == _TOGETHER:
            result = self._run_pass(self._together, tokens, wanted, wants_logits)
        else:
            result = self._run_apart(tokens, wanted, wants_logits)
        faster.note(way, time.perf_counter() - begin)
        return result

    def free_threads(self) -> None:
        """Let no thread wait for further rows."""
        if self._together is not None:
            self._together.dismiss()

    def _run_pass(self, one: Pass, tokens: Tokens, wanted: int, wants_logits: bool) -> np.ndarray:
        first = len(tokens.token_ids) - wanted
        hidden = self._embedding[tokens.token_ids]
        helpers = self._threads.pool if one is self._together else None
        result = one.run(
            hidden,
            tokens.slots,
            tokens.positions,
            first,
            wants_logits=wants_logits,
            helpers=helpers,
        )
        return result.copy()  # the next pass overwrites it

    def _run_apart(self, tokens: Tokens, wanted: int, wants_logits: bool) -> np.ndarray:
        """Each thread takes all tokens of some slots: a token attends to those before it."""
        count = len(tokens.token_ids)
        first = count - wanted
        work = int(tokens.positions.sum()) + _ROW_IN_POSITIONS * count
        is_shared = work >= _WORK_FOR_THREADS and self._threads.count > 1
        changes = np.flatnonzero(np.diff(tokens.slots)).tolist() if is_shared else []
        bounds = [0, *(before + 1 for before in changes), count]
        out = np.empty((wanted, self._widths[wants_logits]), np.float32)

        def run(first_slot: int, end_slot: int) -> None:
            one = self._apart.pop()  # there is one for each thread
            try:
                for begin in range(bounds[first_slot], bounds[end_slot], TILE):
                    end = min(begin + TILE, bounds[end_slot])
                    part = Tokens(*(array[begin:end] for array in tokens))
                    own = min(max(end - first, 0), end - begin)  # wanted ones
                    result = self._run_pass(one, part, own, wants_logits)
                    out[end - own - first : end - first] = result
            finally:
                self._apart.append(one)

        slots = len(bounds) - 1
        each = max(-(-slots // self._threads.count), _LEAST_SLOTS_A_THREAD)
        if is_shared:
            self.free_threads()
        self._threads.run(run, slots, each if is_shared else slots)
        return out
