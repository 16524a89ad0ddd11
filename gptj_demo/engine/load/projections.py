"""Splits CodeGen's joint projections of query, key and value into GPT-J's three.

CodeGen was trained with its weights split over four cores. `qkv_proj` holds the rows core by core;
the rows of a core are those of the query, then of the value, then of the key. With these rows
separated, CodeGen computes what GPT-J does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from gptj_demo.engine.load.values import Computed, dtype_of, read, shape_of

CORES = 4
"""The width and the number of heads of a CodeGen are divisible by it."""

JOINT = "attn.qkv_proj.weight"
_PARTS = ("attn.q_proj.weight", "attn.v_proj.weight", "attn.k_proj.weight")  # in stored order


class Projection(Computed):
    """One of the three projections, [width, width], out of the joint one, [3 * width, width]."""

    def __init__(self, joint: Any, place: int) -> None:
        self._joint, self._place = joint, place
        rows, width = shape_of(joint)
        self.shape = (rows // len(_PARTS), width)
        dtype = dtype_of(joint)
        assert dtype is not None
        self.dtype = dtype

    def compute(self) -> torch.Tensor:
        by_core = read(self._joint).view(CORES, len(_PARTS), -1, self.shape[1])
        return by_core[:, self._place].reshape(self.shape).clone()


def separated(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with three projections in place of each joint one."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        if not name.endswith(JOINT):
            result[name] = value
            continue
        layer = name.removesuffix(JOINT)
        for place, part in enumerate(_PARTS):
            result[layer + part] = Projection(value, place)
    return result
