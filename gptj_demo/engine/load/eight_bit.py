"""Reads weights that bitsandbytes saved in 8 bits, and refuses other weights in 8 or 4 bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from gptj_demo.engine.load.errors import Refusal
from gptj_demo.engine.load.mapping import checked
from gptj_demo.engine.load.values import Computed, own_float32, read, shape_of

_STATISTICS = (".SCB", ".weight_format")
"""What bitsandbytes saves beside the weight of a linear layer."""

_OTHERS = (
    (".qweight", "in the 4 bits of GPTQ or AWQ"),
    (".qzeros", "in the 4 bits of GPTQ or AWQ"),
    (".weight.absmax", "in the 4 bits of bitsandbytes"),
    (".absmax", "in blocks of 8 bits, as hivemind/gpt-j-6B-8bit is"),
    (".code", "in blocks of 8 bits, as hivemind/gpt-j-6B-8bit is"),
)
"""Endings of names that other kinds of quantized checkpoints have, and how they are stored."""


class EightBit(Computed):
    """LLM.int8's codes of a weight: int8 `codes` [out, in], `largest` [out]; the weight is
    `codes * largest / 127`."""

    def __init__(self, codes: Any, largest: Any) -> None:
        self._codes, self._largest = codes, largest
        self.shape = shape_of(codes)
        self.dtype = torch.float16  # what it was quantized from

    def stored(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The codes and the fp32 scales, in memory of their own: the file may be deleted."""
        return read(self._codes).clone(), own_float32(self._largest)

    def compute(self) -> torch.Tensor:
        """The weight in float32."""
        return own_float32(self._codes).mul_((own_float32(self._largest) / 127)[:, None])


def is_statistic(name: str) -> bool:
    """Whether a tensor belongs to another one that is stored in 8 bits."""
    return name.endswith(_STATISTICS)


def refuse_other_kinds(source: str, names: Iterable[str]) -> None:
    """Raise `Refusal` if these names of tensors are those of another kind of quantization."""
    for name in names:
        for ending, how in _OTHERS:
            if name.endswith(ending):
                raise Refusal(
                    f"{source} is stored {how} ({name}), which is not read: take the checkpoint "
                    "it was made from, such as EleutherAI/gpt-j-6b, with precision int8."
                )


def with_weights(source: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with an `EightBit` for each weight that is stored in 8 bits.

    All others are checked to be tensors of floating-point numbers. Raises `Refusal`.
    """
    weights: dict[str, Any] = {}
    for name, value in values.items():
        if is_statistic(name):
            continue
        layer = name.removesuffix(".weight")
        scales = values.get(f"{layer}.SCB")
        if layer == name or scales is None:
            weights[name] = checked(source, name, value)
            continue
        codes = checked(source, name, value, (torch.int8,))
        largest = checked(source, f"{layer}.SCB", scales)
        rows = shape_of(codes)[:1]
        if len(shape_of(codes)) != 2 or shape_of(largest) != rows:
            raise Refusal(
                f"The weights of {source} cannot be used: {layer}.SCB is "
                f"{list(shape_of(largest))}, not {list(rows)}."
            )
        _check_order(source, layer, values.get(f"{layer}.weight_format"))
        weights[name] = EightBit(codes, largest)
    return weights


def _check_order(source: str, layer: str, value: Any) -> None:
    """Raise `Refusal` unless the codes are stored row by row, which is 0."""
    if value is None or value == "row":
        return
    stored = checked(source, f"{layer}.weight_format", value, (torch.uint8, torch.int8))
    if shape_of(stored) in ((), (1,)) and int(read(stored)) == 0:
        return
    raise Refusal(
        f"The weights of {source} cannot be used: {layer}.weight is in an order that only "
        "old versions of bitsandbytes read. Take the checkpoint it was made from, with precision "
        "int8."
    )
