"""Loads the weights of a plan.

Weights stay mapped from the disk until each tensor is converted, so loading takes little more
memory than the loaded model.
"""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import GPTJForCausalLM
from transformers.utils import logging as transformers_logging

from gptj_demo.engine.load.eight_bit import EightBit
from gptj_demo.engine.load.errors import Refusal, last_line
from gptj_demo.engine.load.hub import Report, fetch_weights
from gptj_demo.engine.load.lora import merged
from gptj_demo.engine.load.plan import Plan
from gptj_demo.engine.load.tensors import open_tensors
from gptj_demo.engine.load.values import read, shape_of
from gptj_demo.engine.machine import is_out_of_memory, return_freed_memory
from gptj_demo.engine.model.int8 import quantize
from gptj_demo.texts import first_line, message

_IN_LINEAR = re.compile(r"transformer\.h\.\d+\.(?:attn|mlp)\.\w+\.weight")
"""Names of the weights of the blocks' linear layers."""


def load_model(plan: Plan, report: Report) -> GPTJForCausalLM:
    """The model in evaluation mode on the plan's device, its weights in the plan's precision.

    In int8 the linear layers of the blocks are bitsandbytes' `Linear8bitLt`, and the rest is
    float16. Adapters are merged into the weights before. Raises `Refusal`.
    """
    folder = fetch_weights(plan.source, plan.revision, report)
    stored = open_tensors(
        plan.source,
        folder,
        plan.config,
        plan.family,
        lambda values: merged(plan.source, values, plan.adapters, report),
    )
    config = copy.deepcopy(plan.config)
    config.tie_word_embeddings = stored.is_tied
    tensors = dict(stored.tensors)
    is_int8 = plan.precision == "int8"
    if is_int8:
        dtype = stored.dtype  # tensors stay mapped and take no memory
        for name in filter(_IN_LINEAR.fullmatch, tensors):  # read one by one in `_quantize`
            tensors[name] = torch.zeros((), dtype=dtype).expand(shape_of(tensors[name]))
    else:
        dtype = getattr(torch, plan.precision)
    device = "cuda:0" if plan.device == "cuda" else "cpu"
    try:
        with _reporting_tensors((lambda *_: None) if is_int8 else report):
            loaded: Any = GPTJForCausalLM.from_pretrained(
                None,
                state_dict=tensors,
                config=config,
                dtype=dtype,
                device_map={"": "cpu" if is_int8 else device},
                attn_implementation="eager",
                output_loading_info=True,
            )
        model: GPTJForCausalLM = loaded[0]
        unread = {name for names in loaded[1].values() for name in names}
        if unread:  # all were there with the right shape; transformers would initialise these
            raise Refusal(
                f"The weights of {plan.source} cannot be read: {min(unread)} was left out."
            )
        model.requires_grad_(False)
        if is_int8:
            _quantize(model, stored.tensors, device, report)
    except (SafetensorError, OSError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise ran_out_of_memory(plan) from None
        problem = first_line(error) if isinstance(error, RuntimeError) else last_line(error)
        raise Refusal(f"The weights of {plan.source} cannot be read: {problem}.") from error
    for parameter in model.parameters():
        if parameter.data_ptr() % parameter.element_size():  # mapped from an old file
            parameter.data = parameter.data.clone()
    return model


def ran_out_of_memory(plan: Plan) -> Refusal:
    """The refusal of a model that fits by its plan, and did not while it was loaded or fused."""
    return Refusal(
        f"{plan.name} in {plan.precision} ran out of memory on {plan.device_name} while it was "
        "loaded: something else takes memory there. Free some of it."
    )


def make_stand_in(plan: Plan) -> GPTJForCausalLM:
    """A tiny model with random weights in int8, on a processor.

    It runs the same compiled code as the plan's model, because that depends only on the head size.
    """
    config = copy.deepcopy(plan.config)
    config.n_embd //= config.n_head
    config.n_layer, config.n_head, config.n_inner, config.vocab_size = 1, 1, None, 256
    model = GPTJForCausalLM(config).requires_grad_(False)
    _quantize(model, model.state_dict(), "cpu", lambda *_: None)
    return model


def _quantize(
    model: GPTJForCausalLM, tensors: Mapping[str, Any], device: str, report: Report
) -> None:
    """Makes the linear layers of the blocks `Linear8bitLt`, one by one, and all else float16.

    Their weights are read from `tensors`, and are quantised unless they are stored in 8 bits.
    bitsandbytes makes the same codes, but needs a copy of the weights and large temporaries, and
    transformers would put all weights into one block of a GPU's memory, which would stay in use
    when most of its parts are free.
    """
    # On some processors bitsandbytes warns at import that it cannot fetch 4-bit kernels from the
    # hub. They are not used here.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    from bitsandbytes.nn.modules import Int8Params, Linear8bitLt

    names = [name for name in tensors if _IN_LINEAR.fullmatch(name)]
    total = len(names)
    for done, name in enumerate(names):
        report(message("status.matrices", done=done, total=total), done / total)
        codes, largest = _codes_of(tensors[name], device)
        path = name.removesuffix(".weight")
        linear = model.get_submodule(path)
        assert isinstance(linear, torch.nn.Linear)
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
        model.set_submodule(path, quantized)
        return_freed_memory()
    for module in model.modules():
        for key, parameter in list(module.named_parameters(recurse=False)):
            if parameter.is_floating_point():  # a copy, because the mapped files may be deleted
                half = parameter.to(device, torch.float16, copy=True)
                setattr(module, key, torch.nn.Parameter(half, requires_grad=False))
        for key, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, key, buffer.to(device))
    if model.config.tie_word_embeddings:
        model.lm_head.weight = model.transformer.wte.weight
    report(message("status.matrices", done=total, total=total), 1.0)


def _codes_of(value: Any, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The LLM.int8 codes of a weight, and the largest absolute value of each row, on `device`."""
    if not isinstance(value, EightBit):
        return quantize(read(value), device)
    codes, largest = value.stored()
    return codes.to(device), largest.to(device)


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
