"""Merges LoRA adapters into the tensors of a checkpoint, in float32, when these are read.

The result is the same as that of peft's `merge_and_unload`, without peft: low-rank products, DoRA's
magnitudes, and tensors that were trained whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from gptj_demo.engine.load.adapters import Adapter, fetch_adapter
from gptj_demo.engine.load.errors import Refusal
from gptj_demo.engine.load.folder import path_in
from gptj_demo.engine.load.hub import Report
from gptj_demo.engine.load.mapping import checked, map_file
from gptj_demo.engine.load.tensors import EMBEDDING, HEAD, full_name
from gptj_demo.engine.load.values import Computed, own_float32, read, shape_of

_PREFIX = "base_model.model."
_PART = re.compile(
    r"(?P<module>.+)\.(?:"
    r"(?P<a>lora_A\.weight|lora_embedding_A)|(?P<b>lora_B\.weight|lora_embedding_B)|"
    r"(?P<bias>lora_B\.bias)|(?P<magnitude>lora_magnitude_vector(?:\.weight)?))"
)
_WRAPPERS = re.compile(r"\.(?:base_layer|modules_to_save)(?=\.)")
_NOT_WEIGHTS = re.compile(r".+\.attn\.(?:bias|masked_bias|causal_mask)|.+\.original_module\..+")
"""Tensors that bias="all" saves only because of their names: masks, and those that modules_to_save
replaces."""


class Step(Protocol):
    """A change of one tensor of the model."""

    def apply(self, tensor: torch.Tensor) -> torch.Tensor:
        """The changed tensor; `tensor`, which is float32, may be overwritten."""


@dataclass(frozen=True, slots=True)
class Whole:
    """Puts a trained tensor in the place of the model's."""

    trained: Any
    weight: float

    def apply(self, tensor: torch.Tensor) -> torch.Tensor:
        trained = own_float32(self.trained)
        return trained if self.weight == 1 else tensor.lerp_(trained, self.weight)


@dataclass(frozen=True, slots=True)
class Added:
    """Adds a tensor, scaled: the bias of a LoRA layer."""

    added: Any
    scale: float

    def apply(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.add_(own_float32(self.added), alpha=self.scale)


@dataclass(frozen=True, slots=True)
class LowRank:
    """Adds `scale * b @ a` to a weight [out, in], or its transpose to an embedding [rows, width].

    With DoRA's `magnitude`, each row of the sum (of an embedding, each column) is scaled to this
    length.
    """

    a: Any
    b: Any
    scale: float
    magnitude: Any | None
    is_embedding: bool
    weight: float

    def apply(self, tensor: torch.Tensor) -> torch.Tensor:
        product = own_float32(self.b) @ own_float32(self.a)
        change = product.T if self.is_embedding else product
        if self.magnitude is None:
            return tensor.add_(change, alpha=self.scale * self.weight)
        changed = change.mul(self.scale).add_(tensor)
        dim = 0 if self.is_embedding else 1
        length = torch.linalg.vector_norm(changed, dim=dim, keepdim=True)
        changed *= own_float32(self.magnitude).view_as(length) / length
        return changed if self.weight == 1 else tensor.lerp_(changed, self.weight)


class Merged(Computed):
    """A tensor of the base model with changes, in float32."""

    dtype = torch.float32

    def __init__(self, base: Any, steps: Sequence[Step]) -> None:
        self._base, self._steps = base, steps
        self.shape = shape_of(base)

    def compute(self) -> torch.Tensor:
        tensor = own_float32(self._base)
        for step in self._steps:
            tensor = step.apply(tensor)
        return tensor


@dataclass(slots=True)
class _Parts:
    """The tensors of an adapter for one module."""

    a: Any | None = None
    b: Any | None = None
    bias: Any | None = None
    magnitude: Any | None = None
    names: list[str] = field(default_factory=list)


def merged(
    source: str, values: Mapping[str, Any], adapters: Iterable[Adapter], report: Report
) -> dict[str, Any]:
    """The values of the checkpoint `source` with the adapters merged, one after another.

    The head of a tied model is the same value as its embedding. Raises `Refusal` if an adapter has
    a tensor that the model does not have, or has in another shape.
    """
    result = dict(values)
    for adapter in adapters:
        steps: dict[str, list[Step]] = {}
        shapes = {name: shape_of(value) for name, value in result.items()}
        whole, parts = _sorted(adapter, fetch_adapter(adapter, report).name, shapes, source)
        for name, trained in whole.items():
            is_base = name in (EMBEDDING, HEAD) and _is_same(trained, values[name])
            if not is_base:  # peft saves these two whenever an adapter changes them
                steps.setdefault(name, []).append(Whole(trained, adapter.weight))
        is_tied = result[HEAD] is result[EMBEDDING] and not {EMBEDDING, HEAD} & set(steps)
        for module, found in parts.items():
            for name, step in _steps(adapter, module, found, shapes, source):
                steps.setdefault(EMBEDDING if is_tied and name == HEAD else name, []).append(step)
        for name, changes in steps.items():
            result[name] = Merged(result[name], changes)
        if is_tied:
            result[HEAD] = result[EMBEDDING]
    return result


def _sorted(
    adapter: Adapter, file: str, shapes: Mapping[str, tuple[int, ...]], source: str
) -> tuple[dict[str, Any], dict[str, _Parts]]:
    """An adapter's tensors: those trained whole by name, and the parts of LoRA by module."""
    whole: dict[str, Any] = {}
    parts: dict[str, _Parts] = {}
    subject = f"the adapter {adapter.name}"
    for key, value in map_file(subject, path_in(subject, adapter.folder, file)).items():
        name = full_name(key.removeprefix(_PREFIX))
        if _NOT_WEIGHTS.fullmatch(name):
            continue
        tensor = checked(subject, key, value)
        found = _PART.fullmatch(name)
        if found is not None:
            module = parts.setdefault(found["module"], _Parts())
            setattr(module, str(found.lastgroup), tensor)
            module.names.append(key)
            continue
        name = _WRAPPERS.sub("", name)
        if name not in shapes:
            raise _unmatched(adapter, key, source)
        _check_shape(adapter, key, tensor, shapes[name])
        whole[name] = tensor
    if not whole and not parts:
        raise Refusal(f"The adapter {adapter.name} has no tensors.")
    return whole, parts


def _steps(
    adapter: Adapter,
    module: str,
    parts: _Parts,
    shapes: Mapping[str, tuple[int, ...]],
    source: str,
) -> Iterator[tuple[str, Step]]:
    """The changes that a module's parts of LoRA make, by the name of the tensor they change."""
    name = f"{module}.weight"
    shape = shapes.get(name)
    if shape is None or len(shape) != 2:
        raise _unmatched(adapter, parts.names[0], source)
    if parts.a is None or parts.b is None:
        lacking = "lora_A" if parts.a is None else "lora_B"
        raise Refusal(f"The adapter {adapter.name} lacks {lacking} of {module}.")
    is_embedding = any("lora_embedding_" in one for one in parts.names)
    rows, columns = reversed(shape) if is_embedding else shape
    rank = adapter.rank_of(module)
    named = f"{module}.lora_%s{' of the embedding' if is_embedding else ''}"
    _check_shape(adapter, named % "A", parts.a, (rank, columns))
    _check_shape(adapter, named % "B", parts.b, (rows, rank))
    if parts.magnitude is not None:
        _check_shape(adapter, f"{module}.lora_magnitude_vector", parts.magnitude, (rows,))
    scale = adapter.scale_of(module)
    yield (
        name,
        LowRank(parts.a, parts.b, scale, parts.magnitude, is_embedding, adapter.weight),
    )
    if parts.bias is not None:
        bias = f"{module}.bias"
        if bias not in shapes:
            raise _unmatched(adapter, f"{module}.lora_B.bias", source)
        _check_shape(adapter, f"{module}.lora_B.bias", parts.bias, shapes[bias])
        yield bias, Added(parts.bias, scale * adapter.weight)


def _unmatched(adapter: Adapter, name: str, source: str) -> Refusal:
    return Refusal(
        f"The adapter {adapter.name} was made for another model: {source} has no tensor for its "
        f"{name}."
    )


def _check_shape(adapter: Adapter, name: str, tensor: Any, expected: tuple[int, ...]) -> None:
    if shape_of(tensor) != expected:
        raise Refusal(
            f"The adapter {adapter.name} does not fit: its {name} is {list(shape_of(tensor))}, "
            f"not {list(expected)}."
        )


def _is_same(trained: Any, base: Any) -> bool:
    return torch.equal(read(trained).float(), read(base).float())
