"""The inner loop of the 8-bit products: exact sums of int16 times int8, by the best instruction."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# A tile of so many rows and outputs is summed up in registers.
ROWS, OUTPUTS = 6, 4
_AHEAD = 65536  # bytes by which weights are fetched ahead, into the second cache


@intrinsic
def multiply_tile(
    typing_context: Any,
    rows: Any,
    codes: Any,
    weights: Any,
    stride: Any,
    width: Any,
    sums: Any,
) -> Any:
    """Scalar products of up to `ROWS` rows of int16 with `OUTPUTS` rows of int8.

    All are int64: `rows` counts those at the address `codes`, each of `width` entries; the rows at
    the address `weights` are `stride` bytes apart; int32 [ROWS, OUTPUTS] go to address `sums`.
    """
    i8, i16, i32, i64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
    pointer = ir.PointerType()

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, codes, weights, stride, width, sums = arguments
        features = context.codegen().magic_tuple()[2].split(",")
        if "+avx512bw" in features:  # LLVM makes one instruction of it and the sum, where there is
            lanes, name = 32, "llvm.x86.avx512.pmaddw.d.512"
        elif "+avx2" in features:
            lanes, name = 16, "llvm.x86.avx2.pmadd.wd"
        else:
            lanes, name = 16, ""
        short, total = ir.VectorType(i16, lanes), ir.VectorType(i32, lanes // 2)

        def function(name: str, returned: Any, *taken: Any) -> Any:
            return cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(returned, taken), name
            )

        def load(address: Any, kind: Any) -> Any:
            return builder.load(builder.inttoptr(address, pointer), align=1, typ=kind)

        def every_other(vector: Any, first: int) -> Any:
            places = ir.Constant(ir.VectorType(i32, lanes // 2), list(range(first, lanes, 2)))
            undefined = ir.Constant(short, ir.Undefined)
            return builder.sext(builder.shuffle_vector(vector, undefined, places), total)

        def products(a: Any, b: Any) -> Any:
            """int16 by int16, neighbours added."""
            if name:
                return builder.call(function(name, total, short, short), [a, b])
            first, second = (builder.mul(every_other(a, i), every_other(b, i)) for i in (0, 1))
            return builder.add(first, second)

        fetch = function("llvm.prefetch.p0", ir.VoidType(), pointer, i32, i32, i32)
        add_up = function(f"llvm.vector.reduce.add.v{lanes // 2}i32", i32, total)
        done = builder.append_basic_block("done")
        chosen = builder.switch(rows, done)
        for count in range(1, ROWS + 1):
            entry = builder.append_basic_block(f"rows.{count}")
            loop = builder.append_basic_block(f"rows.{count}.loop")
            after = builder.append_basic_block(f"rows.{count}.after")
            chosen.add_case(ir.Constant(i64, count), entry)
            builder.position_at_end(entry)
            row_bytes = builder.mul(width, i64(2))
            starts = [builder.add(codes, builder.mul(row_bytes, i64(r))) for r in range(count)]
            reads = [builder.add(weights, builder.mul(stride, i64(o))) for o in range(OUTPUTS)]
            builder.branch(loop)
            builder.position_at_end(loop)
            at = builder.phi(i64)
            at.add_incoming(i64(0), entry)
            places = [(r, o) for r in range(count) for o in range(OUTPUTS)]
            running = {place: builder.phi(total) for place in places}
            at_code = builder.mul(at, i64(2))
            widened = []
            for read in reads:
                address = builder.add(read, at)
                widened.append(builder.sext(load(address, ir.VectorType(i8, lanes)), short))
                ahead = builder.inttoptr(builder.add(address, i64(_AHEAD)), pointer)
                builder.call(fetch, [ahead, i32(0), i32(2), i32(1)])
            last = {}
            for r, start in enumerate(starts):
                row = load(builder.add(start, at_code), short)
                for o, weight in enumerate(widened):
                    last[r, o] = builder.add(running[r, o], products(weight, row))
                    running[r, o].add_incoming(ir.Constant(total, None), entry)
                    running[r, o].add_incoming(last[r, o], loop)
            following = builder.add(at, i64(lanes))
            at.add_incoming(following, loop)
            builder.cbranch(builder.icmp_signed("<", following, width), loop, after)
            builder.position_at_end(after)
            for r, o in places:
                place = builder.add(sums, i64(4 * (r * OUTPUTS + o)))
                builder.store(builder.call(add_up, [last[r, o]]), builder.inttoptr(place, pointer))
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate
