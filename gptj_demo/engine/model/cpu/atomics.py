"""Atomic operations on the entries of an int64 array, for numba's functions in several threads.

A thread that reads a number by `read_atomic` or `add_atomic` sees all that another thread wrote to
memory before it stored or added that number (acquire and release order).
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

give_way = types.ExternalFunction("sched_yield", types.int32())
"""The system's call to let another thread run that waits for this core."""

_BYTES = 8
_MACHINE = platform.machine().lower()


def _entry(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    made = context.make_array(array_type)(context, builder, array)
    return cgutils.get_item_pointer(context, builder, array_type, made, [index])


@intrinsic
def add_atomic(typing_context: Any, array: Any, index: Any, number: Any) -> Any:
    """Add `number` to array[index]; returns its value before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, number = arguments
        place = _entry(context, builder, signature.args[0], array, index)
        return builder.atomic_rmw("add", place, number, "acq_rel")

    return types.int64(array, types.intp, types.int64), generate


@intrinsic
def read_atomic(typing_context: Any, array: Any, index: Any) -> Any:
    """The value of array[index]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index = arguments
        place = _entry(context, builder, signature.args[0], array, index)
        return builder.load_atomic(place, "acquire", _BYTES)

    return types.int64(array, types.intp), generate


@intrinsic
def write_atomic(typing_context: Any, array: Any, index: Any, number: Any) -> Any:
    """array[index] = number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, number = arguments
        place = _entry(context, builder, signature.args[0], array, index)
        builder.store_atomic(number, place, "release", _BYTES)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), generate


@intrinsic
def pause(typing_context: Any) -> Any:
    """Tell the processor that the thread waits, so that it saves power or runs another one."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = ir.IntType(32)
        if _MACHINE in ("x86_64", "amd64", "i386", "i686"):
            name, given = "llvm.x86.sse2.pause", []
        elif _MACHINE in ("aarch64", "arm64"):
            name, given = "llvm.aarch64.hint", [number(1)]  # YIELD
        else:
            return context.get_dummy_value()
        kind = ir.FunctionType(ir.VoidType(), [one.type for one in given])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), given)
        return context.get_dummy_value()

    return types.void(), generate
