"""Pieces of LLVM code that several intrinsics use, for numbers and vectors of float32."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

_INDEX = ir.IntType(32)


def spread(builder: Any, number: Any, lanes: int) -> Any:
    """A vector of one number."""
    undefined = ir.Constant(ir.VectorType(ir.FloatType(), lanes), ir.Undefined)
    first = builder.insert_element(undefined, number, _INDEX(0))
    zeros = ir.Constant(ir.VectorType(_INDEX, lanes), [0] * lanes)
    return builder.shuffle_vector(first, undefined, zeros)


def fuse(builder: Any, one: Any, other: Any, added: Any) -> Any:
    """one * other + added, rounded once, of numbers or vectors."""
    name = "f32" if one.type == ir.FloatType() else f"v{one.type.count}f32"
    signature = ir.FunctionType(one.type, [one.type] * 3)
    function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.fma.{name}")
    return builder.call(function, [one, other, added])


def sum_lanes(builder: Any, vector: Any) -> Any:
    """The sum of a vector's lanes, halved again and again."""
    lanes = vector.type.count
    undefined = ir.Constant(vector.type, ir.Undefined)
    half = lanes // 2
    while half:
        moved = [(lane + half) % lanes for lane in range(lanes)]
        places = ir.Constant(ir.VectorType(_INDEX, lanes), moved)
        vector = builder.fadd(vector, builder.shuffle_vector(vector, undefined, places))
        half //= 2
    return builder.extract_element(vector, _INDEX(0))
