"""Inner loops over vectors of numbers, written as LLVM code for numba's functions.

Numba lets LLVM choose which loops become vectors, and keeps sums in memory if arrays may overlap.
Here sums stay in registers. Each adds its terms in order by fused multiply-adds, so it is the same
to the last bit whatever else is computed.

All arrays are float32, and contiguous along their last dimension. The weights of `multiply_panel`
may be the bits of float16 instead, the KV cache those of bfloat16, both as uint16: the numbers are
widened when they are loaded. Nothing checks bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gptj_demo.engine.model.cpu.llvm import fuse, spread, sum_lanes
from gptj_demo.pages import PAGE_TOKENS

_FEATURES = binding.get_host_cpu_features()

HAS_MULTIPLY_ADD = bool(_FEATURES.get("fma", True))
"""Whether the processor has fused multiply-adds, as all but old x86 ones do."""

HAS_HALF = bool(_FEATURES.get("f16c"))
"""Whether the processor widens vectors of float16 in one instruction."""

LANES = 16
"""Numbers in a vector; LLVM splits it if the processor's vectors are shorter."""

PANEL = 2 * LANES
"""Columns of a product that are computed together."""

MOST_ROWS = 8 if _FEATURES.get("avx512f") else 3
"""Rows of a product that are computed together: their sums fit into registers."""

_REGISTERS = 24 if _FEATURES.get("avx512f") else 6
"""Vectors of sums that stay in registers."""

_SUMS = 16 if _FEATURES.get("avx512f") else 4
"""Dot products that are computed together: their lanes are added up in fewer instructions."""

_VECTORS_AHEAD = 64
"""The most vectors of keys that are prefetched at once: processors can queue few requests."""

# The caches that keys and values are prefetched into: 3 for all, 0 for only the first. AMD's other
# caches are left to the weights.
_LOCALITY = 0 if binding.get_host_cpu_name().startswith("znver") else 3

_FLOAT, _INDEX = ir.FloatType(), ir.IntType(64)
_FLOAT_BYTES, _HALF_BYTES, _LINE_BYTES = 4, 2, 64


@intrinsic
def as_float(typing_context: Any, bits: Any) -> Any:
    """The float32 with the bits of an int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _FLOAT)

    return types.float32(types.int32), generate


@intrinsic
def as_double(typing_context: Any, bits: Any) -> Any:
    """The float64 with the bits of an int64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), generate


@intrinsic
def multiply_panel(
    typing_context: Any,
    x: Any,
    first_row: Any,
    rows: Any,
    weight: Any,
    panel: Any,
    bias: Any,
    out: Any,
) -> Any:
    """Compute `rows` rows and one panel of `out` = x @ weight + bias.

    `x` is [rows, depth], `weight` [panels, depth, PANEL], `bias` [panels * PANEL], `out`
    [rows, panels * PANEL]; `rows` is 1 to MOST_ROWS. Weights in float16 are widened when they are
    loaded, so the results have the same bits as with float32 weights of the same values.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x_type, _, _, weight_type, _, bias_type, out_type = signature.args
        x, first_row, rows, weight, panel, bias, out = arguments
        column = builder.mul(panel, _INDEX(PANEL))
        weights = _place(context, builder, weight_type, weight, panel)
        biases = _place(context, builder, bias_type, bias, column)
        depth = _length(context, builder, weight_type, weight, 1)
        end = builder.append_basic_block()
        switch = builder.switch(rows, end)
        for count in range(1, MOST_ROWS + 1):
            case = builder.append_basic_block()
            switch.add_case(_INDEX(count), case)
            builder.position_at_end(case)
            numbers = [builder.add(first_row, _INDEX(number)) for number in range(count)]
            inputs = [_place(context, builder, x_type, x, number) for number in numbers]
            places = [_place(context, builder, out_type, out, row, column) for row in numbers]
            _multiply_block(builder, inputs, weights, depth, biases, places)
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return types.void(x, types.intp, types.intp, weight, types.intp, bias, out), generate


def _multiply_block(
    builder: Any, inputs: list[Any], weights: Any, depth: Any, biases: Any, places: list[Any]
) -> None:
    """The code of `multiply_panel` for a fixed number of rows: `inputs` and `places`."""
    lanes = [_INDEX(lane) for lane in range(0, PANEL, LANES)]
    sums = [[_variable(builder, LANES) for _ in lanes] for _ in inputs]
    for at, lane in enumerate(lanes):
        begin = _load(builder, biases, lane, LANES)
        for own in sums:
            builder.store(begin, own[at])
    with cgutils.for_range(builder, depth) as loop:
        here = builder.mul(loop.index, _INDEX(PANEL))
        vectors = [_load_wide(builder, weights, builder.add(here, lane)) for lane in lanes]
        for row, own in zip(inputs, sums, strict=True):
            factor = spread(builder, builder.load(builder.gep(row, [loop.index])), LANES)
            for total, vector in zip(own, vectors, strict=True):
                _accumulate(builder, total, factor, vector)
    for place, own in zip(places, sums, strict=True):
        for total, lane in zip(own, lanes, strict=True):
            _store(builder, builder.load(total), place, lane)


@intrinsic
def dot_keys(
    typing_context: Any,
    queries: Any,
    stored: Any,
    table: Any,
    head: Any,
    begin: Any,
    end: Any,
    out: Any,
    rows: Any,
    lanes: Any,
    vectors: Any,
) -> Any:
    """out[row, j] = queries[row] @ (key of the position j), for j from `begin` to `end`.

    `queries` is [rows, width] and `out` [rows, ..]. `stored` [heads, pages, PAGE_TOKENS, width] is
    a layer of the KV cache and `table` has the pages of the positions, and one entry more. Only the
    lengths of the tuples `rows`, `lanes` and `vectors` matter, as compile-time constants: `width`
    is the product of the last two.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        query_type, *pages_type, _, _, _, out_type, rows_type, lanes_type, vectors_type = (
            signature.args
        )
        queries, *pages, head, begin, end, out, _, _, _ = arguments
        width, offsets = _offsets(lanes_type, vectors_type)
        numbers = [_INDEX(row) for row in range(rows_type.count)]
        places = [_place(context, builder, query_type, queries, row) for row in numbers]
        own = [
            [_load(builder, place, offset, lanes_type.count) for offset in offsets]
            for place in places
        ]
        results = [_place(context, builder, out_type, out, row) for row in numbers]
        zeros = ir.Constant(ir.VectorType(_FLOAT, lanes_type.count), [0.0] * lanes_type.count)

        def dot(position: Any, keys: list[Any], later: list[Any]) -> None:
            totals = [[zeros for _ in keys] for _ in numbers]
            for number, offset in enumerate(offsets):
                for at, key in enumerate(keys):
                    _fetch(builder, later[at], offset)
                    vector = _load_stored(builder, key, offset, lanes_type.count)
                    for query, of_row in zip(own, totals, strict=True):
                        of_row[at] = fuse(builder, query[number], vector, of_row[at])
            for of_row, result in zip(totals, results, strict=True):
                _store(builder, sum_lanes(builder, of_row), result, position)

        together = max(1, min(_SUMS // len(numbers), lanes_type.count, PAGE_TOKENS))
        while together > 1 and together * len(offsets) > _VECTORS_AHEAD:
            together //= 2
        place = pages_type, pages, head, begin, end, width
        _each_position(context, builder, *place, dot, together)
        return context.get_dummy_value()

    number = types.intp
    given = queries, stored, table, number, number, number, out, rows, lanes, vectors
    return types.void(*given), generate


@intrinsic
def mix_values(
    typing_context: Any,
    weights: Any,
    stored: Any,
    table: Any,
    head: Any,
    begin: Any,
    end: Any,
    out: Any,
    rows: Any,
    lanes: Any,
    vectors: Any,
) -> Any:
    """out[row] += weights[row, begin:end] @ (the values of the positions); `out` is [rows, width].

    `head` is the index of the values' head in `stored`. The other arguments are as in `dot_keys`.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        weights_type, *pages_type, _, _, _, out_type, rows_type, lanes_type, vectors_type = (
            signature.args
        )
        weights, *pages, head, begin, end, out, _, _, _ = arguments
        width, offsets = _offsets(lanes_type, vectors_type)
        numbers = [_INDEX(row) for row in range(rows_type.count)]
        factors = [_place(context, builder, weights_type, weights, row) for row in numbers]
        results = [_place(context, builder, out_type, out, row) for row in numbers]
        together = max(1, _REGISTERS // len(numbers))
        for first in range(0, len(offsets), together):
            part = offsets[first : first + together]
            sums = [[_variable(builder, lanes_type.count) for _ in part] for _ in numbers]
            places = [(row, at) for row in range(len(numbers)) for at in range(len(part))]
            for row, at in places:
                before = _load(builder, results[row], part[at], lanes_type.count)
                builder.store(before, sums[row][at])

            def mix(
                position: Any,
                values: list[Any],
                later: list[Any],
                part: list[Any] = part,
                sums: list[list[Any]] = sums,
                places: list[tuple[int, int]] = places,
            ) -> None:
                for at in part:
                    _fetch(builder, later[0], at)
                read = [_load_stored(builder, values[0], at, lanes_type.count) for at in part]
                for row, at in places:
                    weight = builder.load(builder.gep(factors[row], [position]))
                    factor = spread(builder, weight, lanes_type.count)
                    _accumulate(builder, sums[row][at], factor, read[at])

            place = pages_type, pages, head, begin, end, width
            _each_position(context, builder, *place, mix)
            for row, at in places:
                _store(builder, builder.load(sums[row][at]), results[row], part[at])
        return context.get_dummy_value()

    number = types.intp
    given = weights, stored, table, number, number, number, out, rows, lanes, vectors
    return types.void(*given), generate


# ---- pieces of code


def _place(context: Any, builder: Any, array_type: Any, array: Any, *index: Any) -> Any:
    """Pointer to an element; missing indices are 0."""
    made = context.make_array(array_type)(context, builder, array)
    indices = [*index, *[_INDEX(0)] * (array_type.ndim - len(index))]
    return cgutils.get_item_pointer(context, builder, array_type, made, indices)


def _length(context: Any, builder: Any, array_type: Any, array: Any, dimension: int) -> Any:
    made = context.make_array(array_type)(context, builder, array)
    return cgutils.unpack_tuple(builder, made.shape, array_type.ndim)[dimension]


def _offsets(lanes_type: Any, vectors_type: Any) -> tuple[Any, list[Any]]:
    """The width of a row of vectors, and the offset of each vector in it."""
    lanes, vectors = lanes_type.count, vectors_type.count
    return _INDEX(lanes * vectors), [_INDEX(lanes * number) for number in range(vectors)]


def _variable(builder: Any, lanes: int) -> Any:
    return cgutils.alloca_once(builder, ir.VectorType(_FLOAT, lanes))


def _load(builder: Any, place: Any, offset: Any, lanes: int) -> Any:
    pointer = ir.VectorType(_FLOAT, lanes).as_pointer()
    loaded = builder.load(builder.bitcast(builder.gep(place, [offset]), pointer))
    loaded.align = _FLOAT_BYTES
    return loaded


def _load_wide(builder: Any, place: Any, offset: Any) -> Any:
    """LANES numbers as float32, from float32 or from the bits of float16."""
    if place.type.pointee == _FLOAT:
        return _load(builder, place, offset, LANES)
    pointer = ir.VectorType(ir.HalfType(), LANES).as_pointer()
    loaded = builder.load(builder.bitcast(builder.gep(place, [offset]), pointer))
    loaded.align = _HALF_BYTES
    return builder.fpext(loaded, ir.VectorType(_FLOAT, LANES))


def _load_stored(builder: Any, place: Any, offset: Any, lanes: int) -> Any:
    """Numbers of the KV cache as float32, from float32 or from the bits of bfloat16."""
    if place.type.pointee == _FLOAT:
        return _load(builder, place, offset, lanes)
    pointer = ir.VectorType(ir.IntType(16), lanes).as_pointer()
    loaded = builder.load(builder.bitcast(builder.gep(place, [offset]), pointer))
    loaded.align = _HALF_BYTES
    wide = ir.VectorType(ir.IntType(32), lanes)
    bits = builder.shl(builder.zext(loaded, wide), ir.Constant(wide, [16] * lanes))
    return builder.bitcast(bits, ir.VectorType(_FLOAT, lanes))


def _store(builder: Any, vector: Any, place: Any, offset: Any) -> None:
    pointer = builder.bitcast(builder.gep(place, [offset]), vector.type.as_pointer())
    builder.store(vector, pointer).align = _FLOAT_BYTES


def _each_position(
    context: Any,
    builder: Any,
    array_types: list[Any],
    arrays: list[Any],
    head: Any,
    begin: Any,
    end: Any,
    width: Any,
    visit: Callable[[Any, list[Any], list[Any]], None],
    together: int = 1,
) -> None:
    """Loop over the positions of a slot from `begin` to `end`, page by page.

    `arrays` are the layer's pages and the slot's table. `visit` gets the first of `together`
    positions, the addresses of their rows, and those of the rows at the same places of the next
    page. It gets the remaining positions of a page one by one.
    """
    (stored_type, table_type), (stored, table) = array_types, arrays
    table_at = _place(context, builder, table_type, table)
    in_page = _INDEX(PAGE_TOKENS)
    first_page = builder.sdiv(begin, in_page)
    pages = builder.sdiv(builder.add(end, _INDEX(PAGE_TOKENS - 1)), in_page)

    def rows_of(number: Any) -> Any:
        page = builder.load(builder.gep(table_at, [number]))
        return _place(context, builder, stored_type, stored, head, page)

    def limited(value: Any, least: Any, most: Any) -> Any:
        value = builder.select(builder.icmp_signed("<", value, least), least, value)
        return builder.select(builder.icmp_signed(">", value, most), most, value)

    with cgutils.for_range_slice(builder, first_page, pages, _INDEX(1)) as (number, _):
        page_begin = builder.mul(number, in_page)
        rows, later = rows_of(number), rows_of(builder.add(number, _INDEX(1)))
        from_row = limited(builder.sub(begin, page_begin), _INDEX(0), in_page)
        to_row = limited(builder.sub(end, page_begin), _INDEX(0), in_page)
        loops = [(from_row, to_row, 1)]
        if together > 1:
            left = builder.srem(builder.sub(to_row, from_row), _INDEX(together))
            whole = builder.sub(to_row, left)
            loops = [(from_row, whole, together), (whole, to_row, 1)]
        for start, stop, count in loops:
            with cgutils.for_range_slice(builder, start, stop, _INDEX(count)) as (row, _):
                places = [builder.mul(builder.add(row, _INDEX(at)), width) for at in range(count)]
                visit(
                    builder.add(page_begin, row),
                    [builder.gep(rows, [place]) for place in places],
                    [builder.gep(later, [place]) for place in places],
                )


def _fetch(builder: Any, row: Any, offset: Any) -> None:
    """Prefetch a part of a row that is needed a little later, if a cache line begins there."""
    number_bytes = _FLOAT_BYTES if row.type.pointee == _FLOAT else _HALF_BYTES
    if offset.constant * number_bytes % _LINE_BYTES:
        return
    byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    signature = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
    function = cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0")
    place = builder.bitcast(builder.gep(row, [offset]), byte)
    builder.call(function, [place, number(0), number(_LOCALITY), number(1)])  # to read, data


def _accumulate(builder: Any, total: Any, one: Any, other: Any) -> None:
    builder.store(fuse(builder, one, other, builder.load(total)), total)
