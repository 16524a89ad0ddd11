"""Triton kernels for CUDA: a decode step's attention over the KV cache, and 8-bit products.

Import this only where Triton is installed; `kernels.find_triton` does. The operations are the
functions of `kernels.TritonKernels`.
"""

from __future__ import annotations

from gptj_demo.engine.model.cuda.triton_attention import attend, rotate_and_store
from gptj_demo.engine.model.cuda.triton_int8 import (
    int8_row_counts,
    int8_sum,
    most_int8_rows,
    widen,
)

__all__ = [
    "attend",
    "int8_row_counts",
    "int8_sum",
    "most_int8_rows",
    "rotate_and_store",
    "widen",
]
