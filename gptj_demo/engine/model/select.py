"""Chooses the forward path: one ordered table, the first path that fits is taken."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import GPTJForCausalLM

from gptj_demo.engine.machine import available_cores
from gptj_demo.engine.model.base import ForwardModel, Shape
from gptj_demo.engine.model.eager import TANH_GELU, EagerModel
from gptj_demo.engine.model.fusing import is_int8
from gptj_demo.engine.model.linear import Linear, PackedLinear

logger = logging.getLogger(__name__)


class UnfitBackend(ValueError):
    """The requested forward path does not exist or does not fit; the message says why."""


@dataclass(frozen=True, slots=True)
class Path:
    """A forward path: `unfit` returns why a model cannot take it, or None."""

    name: str
    unfit: Callable[[GPTJForCausalLM], str | None]
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


def _is_on_cpu(model: GPTJForCausalLM) -> bool:
    return bool(model.lm_head.weight.device.type == "cpu")


def _cuda_unfit(model: GPTJForCausalLM) -> str | None:
    return "the model is not on a GPU" if _is_on_cpu(model) else None


def _compiled_unfit(model: GPTJForCausalLM) -> str | None:
    """Why no compiled path fits, or None: each needs a CPU, GPT-J's activation and numba."""
    if not _is_on_cpu(model):
        return "the model is not on a processor"
    activation = model.config.activation_function
    if activation not in TANH_GELU:
        return f"the activation {activation} is not compiled"
    try:
        from gptj_demo.engine.model.cpu import vectors
    except (ImportError, RuntimeError) as error:  # numba is missing or does not work
        return f"{_MISSING}: {error}"
    if not vectors.HAS_MULTIPLY_ADD:
        return f"{_MISSING}: this processor has no fused multiply-adds"
    return None


def _int8_unfit(model: GPTJForCausalLM) -> str | None:
    return _compiled_unfit(model) if is_int8(model) else "the weights are not in 8 bits"


def _small_unfit(model: GPTJForCausalLM) -> str | None:
    if is_int8(model) or model.lm_head.weight.dtype != torch.float32:
        return "the weights are not in float32"
    if not Shape.of(model.config).is_small:
        return "torch's own products are faster for a model of this size"
    return _compiled_unfit(model)


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
    if not _is_on_cpu(model):
        from gptj_demo.engine.model.cuda.model import CudaModel

        return CudaModel(model, captures=False)
    is_float32 = model.lm_head.weight.dtype == torch.float32
    has_onednn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    packs = is_float32 and has_onednn
    return EagerModel(model, linear=PackedLinear if packs else Linear)


PATHS = (
    Path("cuda-graphs", _cuda_unfit, _build_cuda),
    Path("cpu-int8", _int8_unfit, _build_int8),
    Path("cpu-compiled", _small_unfit, _build_compiled),
    Path("eager", lambda model: None, _build_eager),
)


def set_up_torch(model: GPTJForCausalLM) -> None:
    """Set torch's threads, or its attention on a GPU; the small-model path has its own threads."""
    if not _is_on_cpu(model):
        # cuDNN plans its attention anew for each length of a prompt, which takes longer than flash
        # attention takes to compute it
        torch.backends.cuda.enable_cudnn_sdp(False)
    else:
        most = 1 if Shape.of(model.config).is_small else available_cores()
        torch.set_num_threads(min(most, torch.get_num_threads()))


def choose_path(model: GPTJForCausalLM, backend: str = "auto") -> tuple[Path, Choice]:
    """The first path that fits, or the one named `backend`; raises `UnfitBackend`."""
    names = [path.name for path in PATHS]
    if backend != "auto" and backend not in names:
        raise UnfitBackend(f"backend is {backend}; it must be auto or one of {', '.join(names)}.")
    passed_over: list[tuple[str, str]] = []
    for path in PATHS:
        if backend not in ("auto", path.name):
            continue
        reason = path.unfit(model)
        if reason is None:
            return path, Choice(path.name, tuple(passed_over))
        if backend == path.name:
            raise UnfitBackend(f"The backend {backend} cannot be used: {reason}.")
        passed_over.append((path.name, reason))
    raise AssertionError("the last path fits every model")


def build_model(model: GPTJForCausalLM, backend: str = "auto") -> tuple[ForwardModel, Choice]:
    """The model on the path of `choose_path`.

    Takes `model`'s weights over and leaves it empty. Raises `UnfitBackend`.
    """
    path, choice = choose_path(model, backend)
    logger.info("forward path: %s", path.name)
    for name, why in choice.passed_over:
        logger.info("not %s: %s", name, why)
    return path.build(model), choice
