"""Finds the steps that make the host wait for a device or mix devices; prints them as JSON.

The device is one of torch's fake ones. It computes nothing: code that needs its values fails, and
so does an operation on tensors of two devices. `Copies` refuses copies that wait. The device is
registered for the whole process, so the tests run this module in a process of its own.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend
from transformers import GPTJForCausalLM

from gptj_demo.engine.engine import Engine
from gptj_demo.engine.model import build_model
from gptj_demo.engine.model.cuda import kernels
from gptj_demo.engine.model.cuda.graphs import Forward
from gptj_demo.engine.model.cuda.model import CudaModel
from gptj_demo.engine.runner import Runner
from gptj_demo.engine.sampling import SamplerBatch
from gptj_demo.engine.vocabulary import EngineVocabulary
from gptj_demo.protocol import Expansion, Written
from gptj_demo.tokenization import token_bytes
from tests.engine.checkpoints import TEXT_TOKENS, make_config, make_tokenizer
from tests.engine.graphs import all_kinds, request
from tests.engine.sampling.reference import Row
from tests.engine.sampling.rows import ON
from tests.engine.sampling.rows import ON_VOCABULARY as VOCABULARY

MODELS = ("eager", "graphs", "graphs, 8 bits")
"""The GPU's models: without graphs, as on ZeroGPU, and with pretended ones."""

DOWNLOADERS = ("runner", "sampling.batch", "sampling.expansion", "sampling.trace")


class Waited(Exception):
    """The host waited for the device."""


class Copies(TorchDispatchMode):
    """Refuses copies between host and device for which the host waits."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in ("_to_copy", "copy_"):
            source = args[1] if name == "copy_" else args[0]
            target = args[0].device if name == "copy_" else kwargs.get("device", source.device)
            is_queued = kwargs.get("non_blocking") or (name == "copy_" and args[2:] == (True,))
            if source.device.type != torch.device(target).type and not is_queued:
                raise Waited(f"{name} from {source.device} to {target}")
        return func(*args, **kwargs)


def queue(values: torch.Tensor) -> Callable[[], list[Any]]:
    """Replaces `transfer.download`; all values are zero."""

    def read() -> list[Any]:
        def zeros(shape: tuple[int, ...]) -> Any:
            return [zeros(shape[1:]) for _ in range(shape[0])] if shape else 0

        found: list[Any] = zeros(tuple(values.shape))
        return found

    return read


@contextmanager
def fake_device() -> Iterator[torch.device]:
    patches = [patch(f"gptj_demo.engine.{name}.download", queue) for name in DOWNLOADERS]
    card = SimpleNamespace(multi_processor_count=132)
    patches.append(patch("torch.cuda.get_device_properties", lambda device: card))
    # else constant scalars are computed, for which this device has no code
    patches.append(patch("torch._subclasses.fake_tensor.CONSTANT_NUMEL_LIMIT", -1))
    for one in patches:
        one.start()
    with FakeTensorMode(), Copies():
        yield torch.device("fakegpu")
    for one in patches:
        one.stop()


def sample(rows: list[Row]) -> None:
    """Take two steps of a batch; only its reader may wait for the device."""
    with fake_device() as device:
        unused = torch.zeros(2, dtype=torch.int64, device=device)
        batch = SamplerBatch([row.sampler() for row in rows], VOCABULARY, device, unused)
        logits = torch.zeros(len(rows), VOCABULARY + 3, device=device)
        for _ in range(2):
            batch.sample(logits, lambda t: [0] * len(t))


def fake_weights(is_int8: bool, device: torch.device) -> GPTJForCausalLM:
    """A GPT-J in 16 bits on the device, or one with blocks in 8 bits, whose weights have no
    values."""
    with torch.device("meta"):
        model = GPTJForCausalLM(make_config())
    for module in list(model.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            in_bytes = is_int8 and isinstance(module, torch.nn.Linear) and module != model.lm_head
            dtype = torch.int8 if in_bytes and name == "weight" else torch.float16
            values: Any = torch.zeros(parameter.shape, dtype=dtype, device=device)
            new = torch.nn.Parameter(values, requires_grad=False)
            if dtype == torch.int8:
                largest = torch.zeros(len(values), device=device)
                new = SimpleNamespace(CB=values, SCB=largest, data=values, dtype=dtype)
                del module._parameters[name]
            setattr(module, name, new)
    return model


def pretend(forward: Forward) -> tuple[Callable[[], None], torch.Tensor]:
    """Replaces `CudaCapture`: each launch runs the forward pass again."""
    output = forward()

    def replay() -> None:
        output.copy_(forward())

    return replay, output


def run_requests(kind: str) -> None:
    """An engine that answers every kind of request, five at a time."""
    with fake_device() as device:
        weights = fake_weights(kind.endswith("8 bits"), device)
        model, _ = build_model(weights, "eager" if kind == "eager" else "cuda-graphs")
        assert isinstance(model, CudaModel)
        model._capture, model._kernels = pretend, kernels
        runner = Runner(model, 5, TEXT_TOKENS, unused_token_ids=(3,), max_tokens=512)
        runner.prepare(lambda text, progress: None)
        table = token_bytes(make_tokenizer().to_str())
        vocabulary = EngineVocabulary(table, TEXT_TOKENS, 64, bos_token_id=0, eos_token_ids=())
        engine = Engine(runner, vocabulary, prefill_budget=16)
        tree = Expansion((Written((1, 2), (0.0, 0.0)),), (-math.inf,), 50, after_controls=True)
        more = [
            request(17, must_match="regex", must_match_text="[a-z ]*", temperature=1.0),
            replace(request(18, 12, temperature=0.7), expansion=tree),
            replace(request(19, 40), logit_bias=(((5,), 1.0),)),
        ]
        for one in (*all_kinds(), *more):
            engine.submit(one)
        while not engine.is_idle:
            engine.step()


def waits() -> dict[str, str]:
    """The error of the wait in each trial, empty where the host does not wait."""
    trials: dict[str, Callable[[], None]] = {
        name: lambda row=row: sample([row, Row()])  # type: ignore[misc]
        for name, row in ON.items()
    }
    trials["log-probabilities"] = lambda: sample([Row({"logprobs": 3, "top_p": 0.9}), Row()])
    trials["all controls"] = lambda: sample(
        [replace(row, settings={**row.settings, "logprobs": 2}) for row in ON.values()]
    )
    for kind in MODELS:
        trials[f"requests of all kinds, {kind}"] = partial(run_requests, kind)
    return {name: what_stops(trial) for name, trial in trials.items()}


def what_stops(trial: Callable[[], object]) -> str:
    """The error of a wait, empty where there is none."""
    try:
        trial()
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return ""


def caught() -> dict[str, str]:
    """The errors of trials that do wait, one of each kind: none may go unnoticed."""

    def mask(logits: torch.Tensor) -> object:
        return logits[logits > 0]

    def number(logits: torch.Tensor) -> object:
        return bool(logits.any())

    def up(logits: torch.Tensor) -> object:
        return torch.ones(2).to(logits.device)

    def down(logits: torch.Tensor) -> object:
        return logits.to("cpu")

    def index(logits: torch.Tensor) -> object:
        return logits[[0, 1]]

    found = {}
    for trial in (mask, number, up, down, index):
        with fake_device() as device:
            logits = torch.zeros(2, 3, device=device)
            found[trial.__name__] = what_stops(partial(trial, logits))
    return found


if __name__ == "__main__":
    _setup_privateuseone_for_python_backend("fakegpu")
    json.dump({"waits": waits(), "caught": caught()}, sys.stdout)
