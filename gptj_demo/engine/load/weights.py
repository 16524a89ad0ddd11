"""Loads the weights of a plan.

Weights stay mapped from the disk until each tensor is converted, so loading takes little more
memory than the loaded model.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import BitsAndBytesConfig, GPTJForCausalLM
from transformers.utils import logging as transformers_logging

from gptj_demo.engine.load.errors import Refusal, last_line
from gptj_demo.engine.load.hub import Report, fetch_weights
from gptj_demo.engine.load.plan import Plan
from gptj_demo.engine.load.tensors import open_tensors
from gptj_demo.engine.machine import return_freed_memory
from gptj_demo.engine.model.int8 import quantize
from gptj_demo.texts import first_line, message


def load_model(plan: Plan, report: Report) -> GPTJForCausalLM:
    """The model in evaluation mode on the plan's device, its weights in the plan's precision.

    In int8 the linear layers of the blocks are bitsandbytes' `Linear8bitLt`, and the rest is
    float16. Raises `Refusal`.
    """
    folder = fetch_weights(plan.source, plan.revision, report)
    stored = open_tensors(plan.source, folder, plan.config)
    is_int8 = plan.precision == "int8"
    is_quantized_here = is_int8 and plan.device == "cpu"
    if is_quantized_here:
        dtype = stored.dtype  # tensors stay mapped and take no memory
    elif is_int8:  # bitsandbytes quantises from float16
        dtype = torch.float16
    else:
        dtype = getattr(torch, plan.precision)
    try:
        with _reporting_tensors((lambda *_: None) if is_quantized_here else report):
            loaded: Any = GPTJForCausalLM.from_pretrained(
                None,
                state_dict=stored.tensors,
                config=copy.deepcopy(plan.config),
                dtype=dtype,
                quantization_config=_eight_bits() if is_int8 and not is_quantized_here else None,
                device_map={"": "cuda:0" if plan.device == "cuda" else "cpu"},
                attn_implementation="eager",
                output_loading_info=True,
            )
    except torch.OutOfMemoryError:
        raise Refusal(
            f"{plan.name} in {plan.precision} ran out of memory on {plan.device_name} while it was "
            "loaded: something else takes memory there."
        ) from None
    except (SafetensorError, OSError, RuntimeError) as error:
        problem = first_line(error) if isinstance(error, RuntimeError) else last_line(error)
        raise Refusal(f"The weights of {plan.source} cannot be read: {problem}.") from error
    model: GPTJForCausalLM = loaded[0]
    unread = {name for names in loaded[1].values() for name in names}
    if unread:  # all were there and had the right shape; transformers would leave these random
        raise Refusal(f"The weights of {plan.source} cannot be read: {min(unread)} was left out.")
    model.requires_grad_(False)
    if is_quantized_here:
        _quantize(model, report)
    for parameter in model.parameters():
        if parameter.data_ptr() % parameter.element_size():  # mapped from an old file
            parameter.data = parameter.data.clone()
    return model


def _quantize(model: GPTJForCausalLM, report: Report) -> None:
    """Makes the linear layers of the blocks `Linear8bitLt`, one by one, and all else float16.

    bitsandbytes makes the same codes, but needs a copy of the weights and large temporaries.
    """
    _silence_bitsandbytes()
    from bitsandbytes.nn.modules import Int8Params, Linear8bitLt

    blocks: Any = model.transformer.h
    linears = [
        (parent, name, linear)
        for block in blocks
        for parent in (block.attn, block.mlp)
        for name, linear in parent.named_children()
        if isinstance(linear, torch.nn.Linear)
    ]
    for done, (parent, name, linear) in enumerate(linears):
        total = len(linears)
        report(message("status.matrices", done=done, total=total), done / total)
        codes, largest = quantize(linear.weight.data)
        quantized = Linear8bitLt(
            linear.in_features,
            linear.out_features,
            linear.bias is not None,
            has_fp16_weights=False,
            threshold=6.0,  # as transformers has it
            device="meta",
        )
        quantized.weight = Int8Params(codes, requires_grad=False, CB=codes, SCB=largest)
        quantized.bias = linear.bias
        setattr(parent, name, quantized)
        return_freed_memory()
    for parameter in model.parameters():
        if parameter.is_floating_point():  # a copy, because the mapped files may be deleted
            parameter.data = parameter.data.to(torch.float16, copy=True)
    report(message("status.matrices", done=len(linears), total=len(linears)), 1.0)


def _silence_bitsandbytes() -> None:
    # On some processors bitsandbytes warns at import that it cannot fetch 4-bit kernels from the
    # hub. They are not used here.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def _eight_bits() -> BitsAndBytesConfig:
    _silence_bitsandbytes()
    return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]


@contextmanager
def _reporting_tensors(report: Report) -> Iterator[None]:
    """Reports transformers' progress over the tensors in place of its bar on standard error."""

    def counted(tensors: Any) -> Iterator[Any]:
        total = len(tensors)
        for done, tensor in enumerate(tensors):
            report(message("status.tensors", done=done, total=total), done / total)
            yield tensor
            return_freed_memory()
        report(message("status.tensors", done=total, total=total), 1.0)

    def hook(bar: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return counted(args[0]) if args else bar(*args, **kwargs)

    previous_hook = transformers_logging.set_tqdm_hook(hook)
    previous_verbosity = transformers_logging.get_verbosity()
    # Old checkpoints hold unused masks; the caller checks for missing tensors.
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(previous_verbosity)
        transformers_logging.set_tqdm_hook(previous_hook)
