"""Fused multiply-adds and sums for compiled code, with a result that is defined to the last bit.

If allowed, a compiler chooses whether `a * b + c` is rounded once or twice, and the order of a sum.
It can choose differently for each copy of a function, and a prompt's tokens and generated tokens go
through different copies. Functions that use this must not have numba's `fastmath`, which would
allow these choices again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gptj_demo.engine.model.cpu.llvm import fuse, positive, spread, sum_lanes

_LANES = 16
_FLOAT, _INDEX = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, _LANES)


@intrinsic
def multiply_add(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c of float32, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return fuse(builder, *arguments)

    number = types.float32
    return number(number, number, number), generate


@intrinsic
def sum_of(typing_context: Any, x: Any, length: Any) -> Any:
    """Sum the first `length` entries of x (float32, contiguous) in a fixed order."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, length = arguments
        return _add_up(context, builder, signature.args[0], x, length, builder.fadd)

    return types.float32(x, types.intp), generate


@intrinsic
def sum_of_sizes(typing_context: Any, x: Any, length: Any) -> Any:
    """Sum |entry| over the first `length` entries of x in the same order."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, length = arguments

        def add(total: Any, entry: Any) -> Any:
            return builder.fadd(total, positive(builder, entry))

        return _add_up(context, builder, signature.args[0], x, length, add)

    return types.float32(x, types.intp), generate


@intrinsic
def sum_of_squares(typing_context: Any, x: Any, length: Any, mean: Any) -> Any:
    """Sum (entry - mean)² over the first `length` entries of x in the same order."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, length, mean = arguments

        def add(total: Any, entry: Any) -> Any:
            means = mean if entry.type == _FLOAT else spread(builder, mean, _LANES)
            difference = builder.fsub(entry, means)
            return fuse(builder, difference, difference, total)

        return _add_up(context, builder, signature.args[0], x, length, add)

    return types.float32(x, types.intp, types.float32), generate


def _add_up(
    context: Any, builder: Any, kind: Any, x: Any, length: Any, add: Callable[[Any, Any], Any]
) -> Any:
    """Sum whole vectors lane by lane, then the lanes, then the remaining entries one by one."""
    array = context.make_array(kind)(context, builder, x)
    start = cgutils.get_item_pointer(context, builder, kind, array, [_INDEX(0)])
    whole = builder.and_(length, _INDEX(-_LANES))
    lanes = cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, [0.0] * _LANES))
    with cgutils.for_range_slice(builder, _INDEX(0), whole, _INDEX(_LANES)) as (at, _):
        place = builder.bitcast(builder.gep(start, [at]), _VECTOR.as_pointer())
        builder.store(add(builder.load(lanes), builder.load(place, align=4)), lanes)
    sums = sum_lanes(builder, [builder.load(lanes)])
    total = cgutils.alloca_once_value(builder, builder.extract_element(sums, _INDEX(0)))
    with cgutils.for_range_slice(builder, whole, length, _INDEX(1)) as (at, _):
        entry = builder.load(builder.gep(start, [at]))
        builder.store(add(builder.load(total), entry), total)
    return builder.load(total)
