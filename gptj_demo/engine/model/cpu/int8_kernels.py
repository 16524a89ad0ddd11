"""The inner loops of the 8-bit products: exact sums of integers, by the fastest instructions.

Weights are stored in panels of COLUMNS outputs, [panels, width / QUAD, COLUMNS, QUAD]: an output's
weights for QUAD neighbouring inputs are adjacent. Vector instructions multiply them with codes of
16 bits. AMX's tiles take codes of 8 bits, so a 16-bit code is split into its two bytes: the
products of both, combined, are the same integers (Intel's "Architecture Instruction Set Extensions
Programming Reference", chapter on AMX).

Arguments are int64 unless said otherwise: counts, addresses, and distances in bytes.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

COLUMNS, QUAD = 16, 4

_FEATURES = cpu_target.target_context.codegen().magic_tuple()[2].split(",")

HAS_TILES = {"+amx-tile", "+amx-int8"} <= set(_FEATURES)
"""Whether the processor has AMX's products of bytes. See `allow_tiles`."""

TILE_ROWS, TILE_DEPTH = 16, 64
"""Rows of codes in a tile, and bytes of each: their part of the width."""

HAS_LONG_VECTORS = "+avx512bw" in _FEATURES
"""Whether the processor multiplies 512-bit vectors of 16-bit integers."""

ROWS = 8 if HAS_LONG_VECTORS else 3
"""Rows whose sums stay in registers."""

IS_SEQUENTIAL = HAS_LONG_VECTORS
"""Whether `multiply_rows` reads a panel in order. Shorter vectors need more instructions between
the loads, so they read the two halves of a panel at the same time to use more of the bandwidth."""

_PARTS = 2  # quads that are multiplied in one turn of the loop

BYTES_AHEAD = 8192
"""Prefetch distance of sequential reads."""

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_POINTER = ir.PointerType()
_VOID = ir.VoidType()


def allow_tiles() -> bool:
    """Ask Linux for AMX's registers for all threads of this process; returns whether it agrees."""
    if not HAS_TILES or sys.platform != "linux":
        return False
    arch_prctl, request, tile_data = 158, 0x1023, 18  # ARCH_REQ_XCOMP_PERM, in asm/prctl.h
    return bool(ctypes.CDLL(None).syscall(arch_prctl, request, tile_data) == 0)


def _call(builder: Any, name: str, returned: Any, *arguments: Any) -> Any:
    kind = ir.FunctionType(returned, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _at(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _POINTER)


def _fetch(builder: Any, address: Any, locality: int) -> None:
    """Prefetch a cache line into the L1 cache (`locality` 3) or the L2 cache (2)."""
    to_read, data = _I32(0), _I32(1)
    place = _at(builder, address)
    _call(builder, "llvm.prefetch.p0", _VOID, place, to_read, _I32(locality), data)


@intrinsic
def multiply_rows(
    typing_context: Any,
    rows: Any,
    codes: Any,
    plane: Any,
    first_row: Any,
    first: Any,
    weights: Any,
    quads: Any,
    ahead: Any,
    sums: Any,
) -> Any:
    """Add the products of `rows` rows, 1 to ROWS, and a panel to int32 [rows, COLUMNS].

    Multiplies `quads` * QUAD entries of each row, a multiple of TILE_DEPTH, from `first` on;
    `codes` is an array of int16 or int8 [planes, rows, ..], `weights` and `sums` are addresses, and
    the weights `ahead` bytes further are prefetched.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, codes, plane, first_row, first, weights, quads, ahead, sums = arguments
        codes_type = signature.args[1]
        code_bytes = codes_type.dtype.bitwidth // 8
        code_type = ir.IntType(8 * code_bytes)
        array = context.make_array(codes_type)(context, builder, codes)
        row_bytes = cgutils.unpack_tuple(builder, array.strides, codes_type.ndim)[1]
        indices = [plane, first_row, first]
        start = cgutils.get_item_pointer(context, builder, codes_type, array, indices)
        start = builder.ptrtoint(start, _I64)
        if HAS_LONG_VECTORS:  # LLVM fuses it with the addition if the processor can
            lanes, name = 32, "llvm.x86.avx512.pmaddw.d.512"
        elif "+avx2" in _FEATURES:
            lanes, name = 16, "llvm.x86.avx2.pmadd.wd"
        else:
            lanes, name = 16, ""
        vectors = range(COLUMNS * QUAD // lanes)
        short, total = ir.VectorType(_I16, lanes), ir.VectorType(_I32, lanes // 2)
        some = ir.VectorType(_I32, lanes // 4)

        def shuffle(vector: Any, places: list[int]) -> Any:
            nothing = ir.Constant(vector.type, ir.Undefined)
            indices = ir.Constant(ir.VectorType(_I32, len(places)), places)
            return builder.shuffle_vector(vector, nothing, indices)

        def every_other(vector: Any, first: int) -> Any:
            return shuffle(vector, list(range(first, vector.type.count, 2)))

        def products(a: Any, b: Any) -> Any:
            """Multiply int16 by int16 and add neighbouring products."""
            if name:
                return _call(builder, name, total, a, b)
            first, second = (
                builder.mul(*(builder.sext(every_other(x, i), total) for x in (a, b)))
                for i in (0, 1)
            )
            return builder.add(first, second)

        def load_codes(address: Any) -> Any:
            """A vector of QUAD codes of a row, repeated."""
            kind = ir.VectorType(code_type, QUAD)
            loaded = builder.load(_at(builder, address), align=1, typ=kind)
            if code_type != _I16:
                loaded = builder.sext(loaded, ir.VectorType(_I16, QUAD))
            return shuffle(loaded, list(range(QUAD)) * (lanes // QUAD))

        def multiply_panel(count: int, starts: list[Any]) -> None:
            entry = builder.block
            loop = builder.append_basic_block("loop")
            after = builder.append_basic_block("after")
            part = builder.sdiv(quads, _I64(_PARTS))
            builder.branch(loop)
            builder.position_at_end(loop)
            quad = builder.phi(_I64)
            quad.add_incoming(_I64(0), entry)
            running = {(r, v): builder.phi(total) for r in range(count) for v in vectors}
            last = dict(running)
            for number in range(_PARTS):
                if IS_SEQUENTIAL:
                    at = builder.add(builder.mul(quad, _I64(_PARTS)), _I64(number))
                else:
                    at = builder.add(quad, builder.mul(part, _I64(number)))
                at_code = builder.mul(at, _I64(QUAD * code_bytes))
                at_weight = builder.add(weights, builder.mul(at, _I64(COLUMNS * QUAD)))
                rows_of_codes = [
                    load_codes(builder.add(row_start, at_code)) for row_start in starts
                ]
                for v in vectors:
                    read = builder.add(at_weight, _I64(v * lanes))
                    # for each vector: the processor drops some prefetches while others are pending
                    _fetch(builder, builder.add(read, ahead), 3 if IS_SEQUENTIAL else 2)
                    narrow = builder.load(
                        _at(builder, read), align=1, typ=ir.VectorType(_I8, lanes)
                    )
                    weight = builder.sext(narrow, short)
                    for r, row in enumerate(rows_of_codes):
                        last[r, v] = builder.add(last[r, v], products(weight, row))
            for place, before in running.items():
                before.add_incoming(ir.Constant(total, None), entry)
                before.add_incoming(last[place], loop)
            next_quad = builder.add(quad, _I64(1))
            quad.add_incoming(next_quad, loop)
            builder.cbranch(builder.icmp_signed("<", next_quad, part), loop, after)
            builder.position_at_end(after)
            for r, v in running:
                offset = 4 * (r * COLUMNS + v * lanes // QUAD)
                place = _at(builder, builder.add(sums, _I64(offset)))
                pairs = builder.add(every_other(last[r, v], 0), every_other(last[r, v], 1))
                before = builder.load(place, align=4, typ=some)
                builder.store(builder.add(before, pairs), place, align=4)

        done = builder.append_basic_block("done")
        chosen = builder.switch(rows, done)
        for count in range(1, ROWS + 1):
            case = builder.append_basic_block(f"rows.{count}")
            chosen.add_case(_I64(count), case)
            builder.position_at_end(case)
            starts = [builder.add(start, builder.mul(row_bytes, _I64(r))) for r in range(count)]
            multiply_panel(count, starts)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    number = types.int64
    return types.void(number, codes, *[number] * 7), generate


@intrinsic
def add_scaled(
    typing_context: Any,
    sums: Any,
    plane_bytes: Any,
    planes: Any,
    step: Any,
    scale: Any,
    bias: Any,
    out: Any,
    is_added: Any,
) -> Any:
    """out[:COLUMNS] = sums * (step * scale) + bias, plus `out` if `is_added`; fp32 except the sums.

    Each of the `planes` of int32 sums counts 256 times the next. `step` is a number; the other
    operands are addresses.
    """
    wide = ir.VectorType(_I32, COLUMNS)
    real = ir.VectorType(ir.FloatType(), COLUMNS)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, plane_bytes, planes, step, scale, bias, out, is_added = arguments

        def load(address: Any, kind: Any) -> Any:
            return builder.load(_at(builder, address), align=4, typ=kind)

        total = cgutils.alloca_once(builder, wide)
        builder.store(load(sums, wide), total)
        shift = ir.Constant(wide, [8] * COLUMNS)
        with cgutils.for_range_slice(builder, _I64(1), planes, _I64(1)) as (plane, _):
            lower = load(builder.add(sums, builder.mul(plane, plane_bytes)), wide)
            higher = builder.shl(builder.load(total), shift)
            builder.store(builder.add(higher, lower), total)
        first = builder.insert_element(ir.Constant(real, ir.Undefined), step, _I32(0))
        steps = builder.shuffle_vector(first, first, ir.Constant(wide, [0] * COLUMNS))
        factor = builder.fmul(steps, load(scale, real))
        product = builder.fmul(builder.sitofp(builder.load(total), real), factor)
        alone = builder.fadd(product, load(bias, real))
        added = builder.fadd(load(out, real), alone)
        chosen = builder.select(builder.trunc(is_added, ir.IntType(1)), added, alone)
        builder.store(chosen, _at(builder, out), align=4)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(i64, i64, i64, types.float32, i64, i64, i64, types.boolean), generate


# ---- AMX


@intrinsic
def configure_tiles(typing_context: Any, rows: Any) -> Any:
    """Prepare this thread's tiles for `multiply_tiles` of so many rows, 1 to TILE_ROWS."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.ArrayType(_I8, 64)
        fixed = [1] + [0] * 15 + [TILE_DEPTH, 0] * 8 + [0] * 16 + [0] * 6 + [TILE_ROWS] * 2
        fixed += [0] * (64 - len(fixed))  # palette, bytes of a row (16 bits) and rows of each tile
        configuration = cgutils.alloca_once_value(builder, ir.Constant(kind, fixed))
        for tile in range(6):  # sums and codes; weights have all rows
            place = builder.gep(configuration, [_I32(0), _I32(48 + tile)], inbounds=True)
            builder.store(builder.trunc(arguments[0], _I8), place)
        at = builder.bitcast(configuration, _POINTER)
        _call(builder, "llvm.x86.ldtilecfg", _VOID, at)
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def release_tiles(typing_context: Any) -> Any:
    """Give this thread's tiles back, so that they are not saved when it sleeps."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _call(builder, "llvm.x86.tilerelease", _VOID)
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def multiply_tiles(
    typing_context: Any,
    codes: Any,
    plane_bytes: Any,
    row_bytes: Any,
    weights: Any,
    panel_bytes: Any,
    quads: Any,
    sums: Any,
    sums_plane_bytes: Any,
    sums_panel_bytes: Any,
) -> Any:
    """Add the products of the configured rows and two panels to int32 sums.

    Upper and lower bytes of the codes are in two planes, whose products go to two planes of sums.
    `quads` * QUAD is a multiple of TILE_DEPTH.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        codes, plane_bytes, row_bytes, weights, panel_bytes, quads, *into = arguments
        sums, sums_plane_bytes, sums_panel_bytes = into
        # tiles 0 to 3 have the sums of (plane, panel), 4 and 5 the planes, 6 and 7 the panels
        places = [
            (
                2 * plane + panel,
                builder.add(
                    sums,
                    builder.add(
                        builder.mul(_I64(plane), sums_plane_bytes),
                        builder.mul(_I64(panel), sums_panel_bytes),
                    ),
                ),
            )
            for plane in (0, 1)
            for panel in (0, 1)
        ]

        def load(tile: int, address: Any, stride: Any) -> None:
            place = _at(builder, address)
            _call(builder, "llvm.x86.tileloadd64", _VOID, _I8(tile), place, stride)

        for tile, place in places:
            load(tile, place, _I64(4 * COLUMNS))
        steps = builder.sdiv(quads, _I64(TILE_DEPTH // QUAD))
        with cgutils.for_range(builder, steps) as loop:
            code = builder.add(codes, builder.mul(loop.index, _I64(TILE_DEPTH)))
            weight = builder.add(weights, builder.mul(loop.index, _I64(COLUMNS * TILE_DEPTH)))
            for number in (0, 1):
                plane = builder.add(code, builder.mul(_I64(number), plane_bytes))
                panel = builder.add(weight, builder.mul(_I64(number), panel_bytes))
                load(4 + number, plane, row_bytes)
                load(6 + number, panel, _I64(COLUMNS * QUAD))
                later = builder.add(panel, builder.mul(panel_bytes, _I64(2)))  # the next two panels
                for line in range(0, COLUMNS * TILE_DEPTH, 64):
                    _fetch(builder, builder.add(later, _I64(line)), 2)
            for tile, _ in places:
                operands = _I8(tile), _I8(4 + tile // 2), _I8(6 + tile % 2)
                _call(builder, "llvm.x86.tdpbssd", _VOID, *operands)
        for tile, place in places:
            stored = _I8(tile), _at(builder, place), _I64(4 * COLUMNS)
            _call(builder, "llvm.x86.tilestored64", _VOID, *stored)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 9), generate
