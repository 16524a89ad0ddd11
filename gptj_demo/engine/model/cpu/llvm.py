"""Pieces of LLVM code that several intrinsics use, for numbers and vectors of float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

_INDEX = ir.IntType(32)


def spread(builder: Any, number: Any, lanes: int) -> Any:
    """A vector of one number."""
    undefined = ir.Constant(ir.VectorType(ir.FloatType(), lanes), ir.Undefined)
    first = builder.insert_element(undefined, number, _INDEX(0))
    zeros = ir.Constant(_indices(lanes), [0] * lanes)
    return builder.shuffle_vector(first, undefined, zeros)


def fuse(builder: Any, one: Any, other: Any, added: Any) -> Any:
    """one * other + added, rounded once, of numbers or vectors."""
    return _call(builder, "fma", one, other, added)


def positive(builder: Any, one: Any) -> Any:
    """|one| of a number or a vector."""
    return _call(builder, "fabs", one)


def _call(builder: Any, name: str, *arguments: Any) -> Any:
    """An operation of LLVM whose result has the type of its arguments."""
    kind = arguments[0].type
    suffix = "f32" if kind == ir.FloatType() else f"v{kind.count}f32"
    signature = ir.FunctionType(kind, [kind] * len(arguments))
    full = f"llvm.{name}.{suffix}"
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, full), arguments)


def sum_lanes(builder: Any, vectors: list[Any]) -> Any:
    """Sum the lanes of each vector; lane i of the result is the sum of `vectors[i]`.

    The number of vectors is a power of two, at most the number of lanes. Each sum adds the upper
    half of the lanes to the lower half until one lane is left, so its order does not depend on the
    other vectors.
    """
    kind, count = vectors[0].type, len(vectors)

    def add_halves(joined: list[Any], lower: list[int], upper: list[int]) -> Any:
        one, *other = joined
        undefined = ir.Constant(one.type, ir.Undefined)
        halves = [
            builder.shuffle_vector(
                one, other[0] if other else undefined, ir.Constant(_indices(len(lanes)), lanes)
            )
            for lanes in (lower, upper)
        ]
        return builder.fadd(*halves)

    def keep_lower(joined: list[list[int]], lower: list[int], upper: list[int]) -> list[int]:
        lanes = [number for one in joined for number in one]
        return [lanes[lane] for lane in lower]

    # `_fold` permutes the sums, so pass the vectors in the order that undoes this
    taken = _fold([[number] * kind.count for number in range(count)], kind.count, keep_lower)
    ordered = [vectors[taken.index(number)] for number in range(count)]
    return _fold(ordered, kind.count, add_halves)


def _fold(vectors: list[Any], lanes: int, join: Callable[..., Any]) -> Any:
    """Join the lower half of the lanes with the upper half until one lane is left for each vector.

    While there are several vectors, two are joined into one. Halves of fewer than four lanes stay
    within groups of four lanes, because x86 has single shuffle instructions for these.
    """
    half = lanes // 2
    while half:
        chunk = lanes if half >= 4 else min(4, lanes)
        together = min(2, len(vectors))
        lower, upper = (
            [
                vector * lanes + begin + lane
                for begin in range(0, lanes, chunk)
                for vector in range(together)
                for lane in range(chunk)
                if (lane & half != 0) == is_upper
            ]
            for is_upper in (False, True)
        )
        pairs = len(vectors) // together
        vectors = [join(vectors[number::pairs], lower, upper) for number in range(pairs)]
        lanes, half = len(lower), half // 2
    return vectors[0]


def _indices(count: int) -> ir.VectorType:
    return ir.VectorType(_INDEX, count)
