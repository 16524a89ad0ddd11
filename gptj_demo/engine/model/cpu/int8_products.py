"""The 8-bit products of a processor: rows rounded to 16 bits, times weights that are read once.

Activations are rounded to 16-bit integers, each row by its own step, and multiplied with the 8-bit
weights as integers. Integer sums are exact, so a row's results depend neither on the rows beside
it, nor on the number of threads, nor on the instructions. The rounding is finer than bfloat16's.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit
from numba.extending import overload

from gptj_demo.engine.model.cpu.elementwise import largest_size
from gptj_demo.engine.model.cpu.exact import sum_of_sizes
from gptj_demo.engine.model.cpu.int8_kernels import (
    BYTES_AHEAD,
    COLUMNS,
    HAS_TILES,
    IS_SEQUENTIAL,
    QUAD,
    ROWS,
    TILE_DEPTH,
    TILE_ROWS,
    add_scaled,
    allow_tiles,
    configure_tiles,
    multiply_rows,
    multiply_tiles,
    release_tiles,
)
from gptj_demo.engine.model.cpu.threads import Threads
from gptj_demo.engine.model.int8 import Int8Linear
from gptj_demo.engine.numba_cache import cached_njit

USES_TILES = allow_tiles()

_PART_OUTPUTS = 1024
"""Outputs that a thread takes at a time; half of them are whole panels too."""

_PANELS = 2  # panels that AMX multiplies together; outputs are padded to whole pairs

# The largest code that splits into two signed bytes, and the largest sum of a row's absolute codes:
# times 128, the largest weight, it stays within 32 bits.
_LARGEST_CODE = np.float32(32639)
_CODES_IN_ALL = 16_000_000

# Rows of codes begin in different cache sets, although widths are powers of two.
_ROW_PADDING = 64

# Products are computed in blocks of the width, so that the codes of a block and the prefetched
# weights fit into the L2 cache. Blocks are longer if all codes fit, and there is only one if the
# weights are read once. The sums of _OUTPUTS_IN_CACHE outputs are kept until the last block.
_CODES_IN_CACHE, _BLOCK, _LONG_BLOCK, _OUTPUTS_IN_CACHE = 1 << 18, 1024, 4096, 256

_ROWS_TO_ENCODE = 8  # rows that a thread takes at a time
_ROWS_TO_PUT = 1024  # of weights, so that temporaries take little memory


def _multiply_block(codes: Any, first: Any, end: Any, weight: Any, panel: Any, sums: Any) -> Any:
    """sums += codes[.., first:end] @ weight[panel : panel + sums.shape[0]].T, for all rows.

    `codes` and `weight` as in `multiply`; `sums` int32 [panels, planes, rows, COLUMNS].
    """
    raise NotImplementedError("compiled functions call it")


@overload(_multiply_block)
def _choose_block(codes: Any, first: Any, end: Any, weight: Any, panel: Any, sums: Any) -> Any:
    def by_tiles(codes: Any, first: Any, end: Any, weight: Any, panel: Any, sums: Any) -> Any:
        rows = codes.shape[1] // _tiles_of(codes.shape[1])
        configure_tiles(rows)
        for pair in range(0, sums.shape[0], _PANELS):
            for row in range(0, codes.shape[1], rows):
                multiply_tiles(
                    codes.ctypes.data + row * codes.strides[1] + first,
                    codes.strides[0],
                    codes.strides[1],
                    weight.ctypes.data + (panel + pair) * weight.strides[0] + first * COLUMNS,
                    weight.strides[0],
                    (end - first) // QUAD,
                    sums.ctypes.data + pair * sums.strides[0] + row * sums.strides[2],
                    sums.strides[1],
                    sums.strides[0],
                )
        release_tiles()

    def by_vectors(codes: Any, first: Any, end: Any, weight: Any, panel: Any, sums: Any) -> Any:
        # for more rows the panel is read again, so the next one is prefetched
        ahead = BYTES_AHEAD if _reads_once(codes.shape[1]) else weight.strides[0]
        for number in range(sums.shape[0]):
            for plane in range(codes.shape[0]):
                for row in range(0, codes.shape[1], ROWS):
                    multiply_rows(
                        min(ROWS, codes.shape[1] - row),
                        codes,
                        plane,
                        row,
                        first,
                        weight.ctypes.data + (panel + number) * weight.strides[0] + first * COLUMNS,
                        (end - first) // QUAD,
                        ahead,
                        sums[number, plane, row:].ctypes.data,
                    )

    return by_tiles if codes.dtype.bitwidth == 8 and HAS_TILES else by_vectors


@njit
def _reads_once(rows: int) -> bool:
    """Whether the weights are read once, in order."""
    return IS_SEQUENTIAL and rows <= ROWS


@njit
def _tiles_of(rows: int) -> int:
    """The number of tiles for so many rows."""
    return (rows + TILE_ROWS - 1) // TILE_ROWS


@cached_njit(error_model="numpy")
def multiply(operands: Any, is_added: bool, out: Any, begin: int, end: int) -> None:
    """out[:, begin:end] = codes * steps @ (weight * scale).T + bias, summed over `operands`.

    With `is_added`, the result is added to `out`. `codes` int16 [1, rows, width + ..] or the bytes
    of the same codes, int8 [2, rows, ..], `steps` [rows], `weight` int8
    [panels, width / QUAD, COLUMNS, QUAD], `scale` and `bias` [panels * COLUMNS]; `begin` is a
    multiple of two panels.
    """
    unfilled = np.zeros(COLUMNS, np.float32)  # for the outputs of an incomplete last panel
    for codes, steps, weight, scale, bias in operands:
        planes, rows, _ = codes.shape
        width = weight.shape[1] * QUAD
        fits = rows * width * 2 <= _CODES_IN_CACHE
        block = width if _reads_once(rows) else min(width, _LONG_BLOCK if fits else _BLOCK)
        for start in range(begin, end, _OUTPUTS_IN_CACHE):
            stop = min(start + _OUTPUTS_IN_CACHE, end)
            panels = (stop - start + COLUMNS * _PANELS - 1) // (COLUMNS * _PANELS) * _PANELS
            sums = np.zeros((panels, planes, rows, COLUMNS), np.int32)
            for first in range(0, width, block):
                last = min(first + block, width)
                _multiply_block(codes, first, last, weight, start // COLUMNS, sums)
            for row in range(steps.shape[0]):
                for panel in range(panels):
                    output = start + panel * COLUMNS
                    of_panel = sums[panel, 0, row:].ctypes.data
                    own = out[row, output : output + COLUMNS]
                    whole = own if own.shape[0] == COLUMNS else unfilled
                    for column in range(own.shape[0] % COLUMNS):
                        unfilled[column] = own[column]
                    add_scaled(
                        of_panel,
                        sums.strides[1],
                        planes,
                        steps[row],
                        scale[output:].ctypes.data,
                        bias[output:].ctypes.data,
                        whole.ctypes.data,
                        is_added,
                    )
                    for column in range(own.shape[0] % COLUMNS):
                        own[column] = unfilled[column]
        is_added = True


@cached_njit(error_model="numpy")
def _encode(x: Any, codes: Any, steps: Any, begin: int, end: int) -> None:
    """Encode x [rows, width] as `codes` (int16, may be wider) times a step for each row.

    The codes are limited so that the 32-bit sums of their products cannot overflow.
    """
    width = x.shape[1]
    for row in range(begin, end):
        entries, coded = x[row], codes[row]
        largest, total = largest_size(entries), sum_of_sizes(entries, width)
        step = max(largest / _LARGEST_CODE, total / np.float32(_CODES_IN_ALL - width))
        if not math.isfinite(total):
            steps[row] = np.nan  # NaN and infinity make the whole row NaN
        elif step < np.float32(1e-35):  # almost zero: its inverse would be infinite
            coded[:] = 0
            steps[row] = np.float32(0.0)
        else:
            inverse = np.float32(1.0) / step
            for i in range(width):
                coded[i] = np.int16(np.rint(entries[i] * inverse))
            steps[row] = step


@cached_njit(error_model="numpy")
def _split(codes: Any, planes: Any, begin: int, end: int) -> None:
    """Split codes [rows, ..] into signed bytes [2, rows, ..]: 256 * planes[0] + planes[1]."""
    for row in range(begin, end):
        coded, upper, lower = codes[row], planes[0, row], planes[1, row]
        for i in range(coded.shape[0]):
            rounded = (np.int32(coded[i]) + np.int32(128)) >> np.int32(8)
            upper[i] = np.int8(rounded)
            lower[i] = np.int8(np.int32(coded[i]) - (rounded << np.int32(8)))


class Codes(NamedTuple):
    """Rows rounded to 16 bits, as `multiply` takes them, and their steps."""

    codes: np.ndarray
    steps: np.ndarray

    @classmethod
    def of(
        cls, x: np.ndarray, width: int, threads: Threads, *, in_bytes: bool = USES_TILES
    ) -> Codes:
        """Encode x [at least one row, up to width], padded with zeros."""
        rows = len(x)
        coded = cls(np.zeros((1, rows, width + _ROW_PADDING), np.int16), np.empty(rows, np.float32))
        threads.run(_encode, rows, _ROWS_TO_ENCODE, x, coded.codes[0], coded.steps)
        if not in_bytes:
            return coded
        tiles = -(-rows // TILE_ROWS)  # with the same number of rows each
        planes = np.zeros((2, tiles * -(-rows // tiles), width + _ROW_PADDING), np.int8)
        threads.run(_split, rows, _ROWS_TO_ENCODE, coded.codes[0], planes)
        return cls(planes, coded.steps)


class Matrix(NamedTuple):
    """A product's weights, scales and biases as `multiply` takes them, and its number of outputs.

    numpy allocates the weights, because it asks for huge pages: they are read a third faster.
    """

    weight: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    outputs: int

    @classmethod
    def of(cls, linear: Int8Linear) -> Matrix:
        matrix = cls._empty(*linear.weight.shape)
        for begin in range(0, matrix.outputs, _ROWS_TO_PUT):
            matrix._put(linear.weight[begin : begin + _ROWS_TO_PUT], begin)
        matrix.scale[: matrix.outputs] = linear.scale.float()
        if linear.bias is not None:
            matrix.bias[: matrix.outputs] = linear.bias.float()
        return matrix

    @classmethod
    def in_halves(cls, weight: torch.Tensor, bias: torch.Tensor) -> Matrix:
        """A product with 16-bit weights, as two products of 8 bits: the upper halves of the weights
        give the first half of the outputs, the lower halves the second, and the caller adds them.
        The outputs of each half are padded with zeros to a whole number of panels."""
        outputs, width = weight.shape
        filled = _filled(outputs)
        matrix = cls._empty(2 * filled, width)
        for begin in range(0, outputs, _ROWS_TO_PUT):
            part = weight[begin : begin + _ROWS_TO_PUT].float()
            steps = part.abs().amax(dim=1).clamp(min=1e-30) / (127 * 256)
            codes = (part / steps[:, None]).round()
            upper = (codes / 256).round()
            lower = (codes - 256 * upper).clamp(max=127)
            for half, first, scale in ((upper, begin, 256 * steps), (lower, filled + begin, steps)):
                matrix._put(half.to(torch.int8), first)
                matrix.scale[first : first + len(part)] = scale
        matrix.bias[:outputs] = bias.float()
        return matrix

    @classmethod
    def _empty(cls, outputs: int, width: int) -> Matrix:
        filled, quads = _filled(outputs), (width + -width % TILE_DEPTH) // QUAD
        scale, bias = np.zeros((2, filled), np.float32)
        weight = np.zeros((filled // COLUMNS, quads, COLUMNS, QUAD), np.int8)
        return cls(weight, scale, bias, outputs)

    def _put(self, part: torch.Tensor, begin: int) -> None:
        """Store the weights of some outputs, int8 [outputs, width]; a panel starts at `begin`."""
        outputs, width = part.shape
        quads = self.weight.shape[1]
        filled = np.zeros((_filled(outputs), quads * QUAD), np.int8)
        filled[:outputs, :width] = part
        panels = filled.view(np.int32).reshape(-1, COLUMNS, quads).transpose(0, 2, 1)
        first = begin // COLUMNS
        self.weight[first : first + len(panels)].view(np.int32)[..., 0] = panels

    @property
    def width(self) -> int:
        """The padded width of the rows that it multiplies."""
        return int(self.weight.shape[1]) * QUAD


def _filled(outputs: int) -> int:
    return outputs + -outputs % (_PANELS * COLUMNS)


def multiply_into(
    out: np.ndarray,
    threads: Threads,
    *products: tuple[np.ndarray, Matrix],
    is_added: bool = False,
    outputs: range | None = None,
) -> None:
    """out = the sum of x @ matrix, plus `out` if `is_added`; does nothing if there are no rows.

    Each x is [rows, width], `out` [rows, outputs], fp32. If only some `outputs` are needed, a few
    around them may be computed too.
    """
    if not len(out):
        return
    operands = tuple(
        (*Codes.of(x, matrix.width, threads), matrix.weight, matrix.scale, matrix.bias)
        for x, matrix in products
    )
    needed = outputs or range(out.shape[1])
    first = needed.start // (_PANELS * COLUMNS) * (_PANELS * COLUMNS)

    def run(begin: int, end: int) -> None:
        multiply(operands, is_added, out, first + begin, first + end)

    threads.run(run, needed.stop - first, _PART_OUTPUTS // len(products))
