"""The 8-bit product: what bitsandbytes' weights mean, without its rounding of the activations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BitsAndBytesConfig, GPTJForCausalLM

from gptj_demo.engine.gptj import GPTJ
from gptj_demo.engine.int8 import Int8Linear
from tests.engine.checkpoints import make_checkpoint, make_model
from tests.engine.devices import NO_GPU
from tests.engine.forward import logits_of

ROWS = [1, 3, 48, 49, 80]  # on both sides of the change of kernels


def quantized(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Row-wise absmax, as LLM.int8 does it (Dettmers et al. 2022)."""
    scale = weight.abs().amax(dim=1) / 127
    return (weight / scale[:, None]).round().to(torch.int8), scale


@pytest.mark.parametrize("rows", ROWS)
def test_the_product_is_that_of_the_widened_weights(rows: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    weight = torch.randn(96, 64, generator=generator)
    bias = torch.randn(96, generator=generator)
    x = torch.randn(rows, 64, generator=generator).bfloat16()
    codes, scale = quantized(weight)
    expected = x.float() @ (codes.float() * scale[:, None]).T + bias
    actual = Int8Linear(codes, scale, bias)(x)
    assert actual.dtype == torch.bfloat16
    # a bfloat16 carries 8 bits; the product's largest entry bounds the rounding of all
    assert (actual.float() - expected).abs().max() < expected.abs().max() / 128


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # bitsandbytes' kernels want widths that are multiples of 16
    return make_checkpoint(
        tmp_path_factory.mktemp("int8"), dtype=torch.float16, n_embd=64, n_layer=2
    )


def load_quantized(folder: Path, device: str) -> GPTJForCausalLM:
    return GPTJForCausalLM.from_pretrained(
        folder,
        quantization_config=BitsAndBytesConfig(load_in_8bit=True),
        dtype=torch.bfloat16 if device == "cpu" else torch.float16,
        device_map={"": device},
    ).eval()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NO_GPU)])
def test_the_log_probabilities_are_closer_to_the_exact_ones_than_those_of_bitsandbytes(
    folder: Path, device: str
) -> None:
    exact = make_model(n_embd=64, n_layer=2).to(device)
    ids = torch.arange(3, 63, device=device)
    with torch.inference_mode():
        expected = exact(ids[None]).logits[0].log_softmax(-1)
        theirs = load_quantized(folder, device)(ids[None]).logits[0].float().log_softmax(-1)
    model = GPTJ(load_quantized(folder, device))
    ours = logits_of(model, ids, chunks=(40,)).log_softmax(-1)
    assert (ours - expected).abs().mean() < (theirs - expected).abs().mean()
