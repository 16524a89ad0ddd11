"""Copies numbers between host and device without blocking.

A plain copy of even one number makes the host wait for all work queued on the GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch


def upload(values: Sequence[Any], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A tensor of (nested) numbers on the device, usable by all work queued after it."""
    staged = torch.tensor(values, dtype=dtype, pin_memory=device.type == "cuda")
    return staged.to(device, non_blocking=True)


def upload_array(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """An array on the device, usable by all work queued after it.

    On a processor it shares the array's memory.
    """
    staged = torch.from_numpy(values)
    if device.type == "cuda":
        staged = staged.pin_memory()
    return staged.to(device, non_blocking=True)


def download(values: torch.Tensor) -> Callable[[], list[Any]]:
    """Queue a copy to the host; the returned function waits for it alone and returns a list."""
    if not values.is_cuda:
        return values.tolist
    copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    copy.copy_(values, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()

    def read() -> list[Any]:
        copied.synchronize()
        numbers: list[Any] = copy.tolist()
        return numbers

    return read
