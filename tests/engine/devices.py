"""Where the tests of CUDA's parts run: on the GPU with `make test-gpu`, else on the processor.

There Triton's kernels run in its interpreter, where Triton is installed (`pip install triton`).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # must be set before Triton is imported

NO_GPU = pytest.mark.skipif(DEVICE == "cpu", reason="there is no GPU")
NO_TRITON = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed"
)
ALL_KERNELS = ["kernels", pytest.param("triton_kernels", marks=NO_TRITON)]


def import_kernels(name: str) -> Any:
    """Import one of `ALL_KERNELS`."""
    return importlib.import_module(f"gptj_demo.engine.model.cuda.{name}")
