"""Chooses the forward path: one ordered table, the first path that fits is taken."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import GPTJConfig, GPTJForCausalLM
from typing_extensions import Self

from gptj_demo.engine.machine import available_cores
from gptj_demo.engine.model.base import ForwardModel, Shape
from gptj_demo.engine.model.eager import TANH_GELU, EagerModel
from gptj_demo.engine.model.fusing import is_int8
from gptj_demo.engine.model.linear import Linear, PackedLinear

logger = logging.getLogger(__name__)


class UnfitBackend(ValueError):
    """The requested forward path does not exist or does not fit; the message says why."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A model's device, precision and configuration, which decide the forward paths that fit it.

    They are known before the weights are loaded.
    """

    device: str
    """The type of torch's device: cpu, or that of a GPU."""
    precision: str
    """float32, float16, bfloat16 or int8."""
    config: GPTJConfig

    @classmethod
    def of(cls, model: GPTJForCausalLM) -> Self:
        """That of a loaded model."""
        weight = model.lm_head.weight
        precision = "int8" if is_int8(model) else str(weight.dtype).removeprefix("torch.")
        return cls(weight.device.type, precision, model.config)

    @property
    def is_on_cpu(self) -> bool:
        return self.device == "cpu"


@dataclass(frozen=True, slots=True)
class Path:
    """A forward path: `unfit` returns why a model cannot take it, or None."""

    name: str
    device: str | None
    """The only kind of device that it runs on: cpu or cuda; None if it runs on both."""
    unfit: Callable[[Placement], str | None]
    build: Callable[[GPTJForCausalLM], ForwardModel]


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen path, and why each earlier one in the table does not fit."""

    path: str
    passed_over: tuple[tuple[str, str], ...]

    @property
    def unavailable(self) -> str | None:
        """What this machine lacks for a faster path, if anything."""
        reasons = [reason for _, reason in self.passed_over if reason.startswith(_MISSING)]
        return reasons[0] if reasons else None


_MISSING = "compiled code is not available"


def _cuda_unfit(placed: Placement) -> str | None:
    return "the model is not on a GPU" if placed.is_on_cpu else None


def _compiled_unfit(placed: Placement) -> str | None:
    """Why no compiled path fits, or None: each needs a CPU, GPT-J's activation and numba."""
    if not placed.is_on_cpu:
        return "the model is not on a processor"
    activation = placed.config.activation_function
    if activation not in TANH_GELU:
        return f"the activation {activation} is not compiled"
    try:
        from gptj_demo.engine.model.cpu import vectors
    except (ImportError, RuntimeError) as error:  # numba is missing or does not work
        return f"{_MISSING}: {error}"
    if not vectors.HAS_MULTIPLY_ADD:
        return f"{_MISSING}: this processor has no fused multiply-adds"
    return None


def _int8_unfit(placed: Placement) -> str | None:
    if placed.precision != "int8":
        return f"the weights are in {placed.precision}, and it is for int8"
    return _compiled_unfit(placed)


def _small_unfit(placed: Placement) -> str | None:
    if placed.precision != "float32":
        return f"the weights are in {placed.precision}, and it is for float32"
    if not Shape.of(placed.config).is_small:
        return "torch's own products are faster for a model of this size"
    return _compiled_unfit(placed)


def _build_cuda(model: GPTJForCausalLM) -> ForwardModel:
    from gptj_demo.engine.model.cuda.model import CudaModel

    return CudaModel(model)


def _build_int8(model: GPTJForCausalLM) -> ForwardModel:
    from gptj_demo.engine.model.cpu.int8 import Int8CpuModel

    return Int8CpuModel(model)


def _build_compiled(model: GPTJForCausalLM) -> ForwardModel:
    from gptj_demo.engine.model.cpu.compiled import CompiledModel

    return CompiledModel(model)


def _build_eager(model: GPTJForCausalLM) -> ForwardModel:
    if not Placement.of(model).is_on_cpu:
        from gptj_demo.engine.model.cuda.model import CudaModel

        return CudaModel(model, captures=False)
    is_float32 = model.lm_head.weight.dtype == torch.float32
    has_onednn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    packs = is_float32 and has_onednn
    return EagerModel(model, linear=PackedLinear if packs else Linear)


PATHS = (
    Path("cuda-graphs", "cuda", _cuda_unfit, _build_cuda),
    Path("cpu-int8", "cpu", _int8_unfit, _build_int8),
    Path("cpu-compiled", "cpu", _small_unfit, _build_compiled),
    Path("eager", None, lambda placed: None, _build_eager),
)


def set_up_torch(model: GPTJForCausalLM) -> None:
    """Set torch's threads, or its attention on a GPU; the small-model path has its own threads."""
    if not Placement.of(model).is_on_cpu:
        # cuDNN plans its attention anew for each length of a prompt, which takes longer than flash
        # attention takes to compute it
        torch.backends.cuda.enable_cudnn_sdp(False)
    else:
        most = 1 if Shape.of(model.config).is_small else available_cores()
        torch.set_num_threads(min(most, torch.get_num_threads()))


def device_of(backend: str) -> str | None:
    """The only kind of device that a backend runs on, if any; raises `UnfitBackend` if it is not a
    name of a path or auto."""
    devices = {"auto": None, **{path.name: path.device for path in PATHS}}
    if backend not in devices:
        raise UnfitBackend(f"backend is {backend}; it must be one of {', '.join(devices)}.")
    return devices[backend]


def choose_path(placed: Placement, backend: str = "auto") -> tuple[Path, Choice]:
    """The first path that fits, or the one named `backend`; raises `UnfitBackend`."""
    device_of(backend)  # refuses other names
    passed_over: list[tuple[str, str]] = []
    for path in PATHS:
        if backend not in ("auto", path.name):
            continue
        reason = path.unfit(placed)
        if reason is None:
            return path, Choice(path.name, tuple(passed_over))
        if backend == path.name:
            raise UnfitBackend(
                f"The backend {backend} cannot be used: {reason}. Set backend to auto, which takes "
                "one that fits."
            )
        passed_over.append((path.name, reason))
    raise AssertionError("the last path fits every model")


def build_model(model: GPTJForCausalLM, backend: str = "auto") -> tuple[ForwardModel, Choice]:
    """The model on the path of `choose_path`.

    Takes `model`'s weights over and leaves it empty. Raises `UnfitBackend`.
    """
    path, choice = choose_path(Placement.of(model), backend)
    logger.info("forward path: %s", path.name)
    for name, why in choice.passed_over:
        logger.info("not %s: %s", name, why)
    return path.build(model), choice
