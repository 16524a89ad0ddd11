"""What a model on a GPU does before the first request, tried on a processor."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import BitsAndBytesConfig, GPTJForCausalLM

from gptj_demo.engine.model.cuda import kernels as torch_kernels
from gptj_demo.engine.model.cuda import model as cuda_model
from gptj_demo.engine.model.cuda.model import CudaModel
from tests.engine.checkpoints import make_checkpoint, make_model
from tests.engine.graphs import Recorder


class Triton:
    """Stands in for the kernels: notes the rows that 8-bit products are called with."""

    def __init__(self) -> None:
        self.called: list[tuple[str, int]] = []

    def most_int8_rows(self, device: torch.device) -> int:
        return 64

    def int8_row_counts(self, device: torch.device) -> list[int]:
        return [1, 16, 64]

    def int8_sum(self, products: list[tuple[torch.Tensor, ...]], bias: torch.Tensor) -> Any:
        x, weight, _ = products[0]
        self.called.append(("sum" if len(products) == 1 else "pair", len(x)))
        return x.new_zeros(len(x), len(weight))

    def widen(self, weight: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> Any:
        self.called.append(("widen", len(weight)))
        return weight.to(dtype)


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> Triton:
    triton = Triton()
    monkeypatch.setattr(cuda_model, "find_triton", lambda: triton)
    card = SimpleNamespace(multi_processor_count=40)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    return triton


def prepare(model: CudaModel) -> list[str]:
    """Prepare the model; return what it reported."""
    details: list[str] = []
    model._capture, model._kernels = Recorder(), torch_kernels
    assert (
        model.prepare(model.make_cache(2), lambda text, progress: details.append(str(text))) is None
    )
    return details


def test_8_bit_kernels_are_compiled_before_graphs_are_captured(
    tmp_path: Path, triton: Triton, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_checkpoint(tmp_path, dtype=torch.float16, n_embd=64, n_layer=2)
    eight_bits = BitsAndBytesConfig(load_in_8bit=True)
    model = CudaModel(
        GPTJForCausalLM.from_pretrained(
            folder, quantization_config=eight_bits, dtype=torch.float16, device_map={"": "cpu"}
        )
    )
    assert model.prefill_budget == 256
    caplog.set_level(logging.INFO)
    model.head.widened = lambda x: x.float()  # type: ignore[method-assign]  # needs a GPU
    details = prepare(model)
    assert details[:4] == [f"Compiling GPU kernels, {done} of 4" for done in range(4)]
    assert details[4] == "Capturing graphs, 0 of 2"
    every_row_count = [
        ("sum", 1),
        ("pair", 1),
        ("sum", 16),
        ("pair", 16),
        ("sum", 64),
        ("pair", 64),
    ]
    widened = [("widen", 64 * 7), ("widen", 64), ("widen", 64)]
    assert triton.called[:9] == every_row_count + widened
    assert "compiling the 8-bit kernels for 16 rows" in caplog.text


@pytest.mark.parametrize(
    ("eight_bits", "said"),
    [
        (False, "so attention is slower"),
        (True, "so int8 is much slower than it could be. Attention"),
    ],
)
def test_without_triton_the_reason_fits_the_precision(
    eight_bits: bool, said: str, triton: Triton, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = CudaModel(make_model())
    model._is_int8, model._capture, model._kernels = eight_bits, Recorder(), torch_kernels
    monkeypatch.setattr(cuda_model, "find_triton", lambda: None)
    slower = model.prepare(model.make_cache(2), lambda *_: None)
    assert said in str(slower)
    assert ("int8" in str(slower)) == eight_bits


def test_other_models_need_no_kernels_compiled(triton: Triton) -> None:
    model = CudaModel(make_model())
    assert (model.prefill_budget, model.tries_most_memory) == (128, True)
    assert prepare(model)[0] == "Capturing graphs, 0 of 2"
    assert triton.called == []


def test_without_graphs_nothing_is_compiled_or_captured_and_prompts_are_read_as_fast(
    triton: Triton,
) -> None:
    model = CudaModel(make_model(), captures=False)
    assert (model.prefill_budget, model.tries_most_memory) == (128, False)
    assert prepare(model) == []
    assert (model.graphs, triton.called) == (None, [])
