"""Loads the weights of a plan.

Weights stay mapped from the disk until each tensor is converted, so loading takes little more
memory than the loaded model.
"""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import BitsAndBytesConfig, GPTJForCausalLM
from transformers.utils import logging as transformers_logging

from gptj_demo.engine.load.errors import Refusal, last_line
from gptj_demo.engine.load.families import file_names, weight_files
from gptj_demo.engine.load.hub import Report, fetch_weights
from gptj_demo.engine.load.legacy import is_legacy, map_tensors
from gptj_demo.engine.load.plan import Plan
from gptj_demo.engine.machine import return_freed_memory
from gptj_demo.engine.model.int8 import quantize
from gptj_demo.texts import first_line, message


def load_model(plan: Plan, report: Report) -> GPTJForCausalLM:
    """The model in evaluation mode on the plan's device, its weights in the plan's precision.

    In int8 the linear layers of the blocks are bitsandbytes' `Linear8bitLt`, and the rest is
    float16. Raises `Refusal`.
    """
    folder = fetch_weights(plan.source, plan.revision, report)
    is_int8 = plan.precision == "int8"
    is_quantized_here = is_int8 and plan.device == "cpu"
    dtype: Any
    if is_quantized_here:
        dtype = "auto"  # in the stored dtype: tensors stay mapped and take no memory
    elif is_int8:  # bitsandbytes quantises from float16
        dtype = torch.float16
    else:
        dtype = getattr(torch, plan.precision)
    config = copy.deepcopy(plan.config)
    config.dtype = None  # the declared dtype may differ from the weights'
    try:
        with _reporting_tensors((lambda *_: None) if is_quantized_here else report):
            tensors = _map_legacy_files(plan.source, folder)
            loaded: Any = GPTJForCausalLM.from_pretrained(
                folder if tensors is None else None,
                state_dict=tensors,
                config=config,
                dtype=dtype,
                quantization_config=_eight_bits() if is_int8 and not is_quantized_here else None,
                device_map={"": "cuda:0" if plan.device == "cuda" else "cpu"},
                attn_implementation="eager",
                weights_only=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # checked below
                output_loading_info=True,
            )
    except torch.OutOfMemoryError:
        raise Refusal(
            f"{plan.name} in {plan.precision} ran out of memory on {plan.device_name} while it was "
            "loaded: something else takes memory there."
        ) from None
    except pickle.UnpicklingError as error:
        raise Refusal(
            f"The weights of {plan.source} are damaged, or hold code, which is not run: take them "
            "from somewhere else, best as safetensors."
        ) from error
    except (SafetensorError, EOFError, OSError, RuntimeError) as error:
        problem = first_line(error) if isinstance(error, RuntimeError) else last_line(error)
        raise Refusal(f"The weights of {plan.source} cannot be read: {problem}.") from error
    model: GPTJForCausalLM = loaded[0]
    missing, mismatched = sorted(loaded[1]["missing_keys"]), sorted(loaded[1]["mismatched_keys"])
    if mismatched:
        name, found, expected = mismatched[0]
        raise Refusal(
            f"The weights of {plan.source} are not those of its config.json: {name} is "
            f"{list(found)}, not {list(expected)}."
        )
    if missing:
        raise Refusal(
            f"The weights of {plan.source} lack {len(missing)} tensors, {missing[0]} to begin with."
        )
    model.requires_grad_(False)
    if is_quantized_here:
        _quantize(model, report)
    for parameter in model.parameters():
        if parameter.data_ptr() % parameter.element_size():  # mapped from an old file
            parameter.data = parameter.data.clone()
    return model


def _map_legacy_files(source: str, folder: Path) -> dict[str, torch.Tensor] | None:
    """The mapped tensors of a checkpoint with files of torch's old format, which transformers
    would read into memory; None if there is no such file."""
    paths = [folder / name for name in weight_files(source, folder, file_names(folder))]
    if not any(map(is_legacy, paths)):
        return None
    tensors: dict[str, torch.Tensor] = {}
    for path in paths:
        if is_legacy(path):
            tensors.update(map_tensors(path))
        else:
            tensors.update(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    return tensors


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
