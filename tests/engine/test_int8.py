"""The 8-bit product: what bitsandbytes' weights mean, without its rounding of the activations."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BitsAndBytesConfig, GPTJForCausalLM

from gptj_demo.engine.load import SAMPLE_MODEL
from gptj_demo.engine.model.cpu.int8_products import (
    HAS_TILES,
    USES_TILES,
    Codes,
    Matrix,
    multiply,
)
from gptj_demo.engine.model.cpu.threads import Threads
from gptj_demo.engine.model.int8 import Int8Linear, quantize
from tests.engine.checkpoints import make_checkpoint, make_model
from tests.engine.devices import NO_GPU
from tests.engine.forward import built, is_exact, logits_of

ROWS = [1, 3, 48, 49, 80]  # on both sides of the change of kernels


def quantized(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Row-wise absmax, as LLM.int8 does it (Dettmers et al. 2022)."""
    scale = weight.abs().amax(dim=1) / 127
    return (weight / scale[:, None]).round().to(torch.int8), scale


def test_the_codes_are_those_of_bitsandbytes() -> None:
    from bitsandbytes.functional import int8_vectorwise_quant

    weight = torch.randn(1500, 64, generator=torch.Generator().manual_seed(0)).half()
    weight[3] = 0.0
    codes, largest = quantize(weight)
    expected, expected_largest, _ = int8_vectorwise_quant(weight)
    assert torch.equal(largest, expected_largest)
    # bitsandbytes turns a row of zeros into NaN
    rows = torch.arange(1500) != 3
    assert torch.equal(codes[rows], expected[rows])
    assert not codes[3].any()


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


@pytest.fixture(params=[False, True], ids=["vectors", "bytes"])
def in_bytes(request: pytest.FixtureRequest) -> bool:
    """How codes are multiplied: by vectors, or in bytes, by AMX's tiles where there are any."""
    if request.param and HAS_TILES and not USES_TILES:
        pytest.skip("Linux does not give AMX's tiles to this process")
    return bool(request.param)


def product(
    x: torch.Tensor, linear: Int8Linear, threads: int = 2, *, in_bytes: bool = USES_TILES
) -> torch.Tensor:
    """The compiled product, fp32."""
    matrix, workers = Matrix.of(linear), Threads(threads)
    out = np.full((len(x), matrix.outputs), np.nan, np.float32)
    codes = Codes.of(x.numpy(), matrix.width, workers, in_bytes=in_bytes)
    operands = (*codes, matrix.weight, matrix.scale, matrix.bias)
    workers.run(multiply, matrix.outputs, 32, (operands,), False, out)
    return torch.from_numpy(out)


def an_example(
    rows: int, width: int, outputs: int, outlier: float = 1.0
) -> tuple[torch.Tensor, Int8Linear]:
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, width, generator=generator)
    x[:, 1] *= outlier
    codes, scale = quantized(torch.randn(outputs, width, generator=generator))
    return x, Int8Linear(codes, scale, torch.randn(outputs, generator=generator))


@pytest.mark.parametrize(("width", "outputs"), [(64, 96), (40, 7), (8, 1)])
@pytest.mark.parametrize("outlier", [1.0, 100.0])
@pytest.mark.parametrize("rows", [1, 2, 5, 6, 7, 33])
def test_the_compiled_product_has_sixteen_bits_of_each_activation(
    rows: int, width: int, outputs: int, outlier: float, in_bytes: bool
) -> None:
    x, linear = an_example(rows, width, outputs, outlier)
    weight = linear.weight.double() * linear.scale[:, None]
    expected = x.double() @ weight.T + linear.bias
    step = x.abs().amax(dim=1, keepdim=True) / 32639
    most = 0.51 * step * weight.abs().sum(dim=1) + 1e-6 * expected.abs().max()
    assert bool(((product(x, linear, in_bytes=in_bytes) - expected).abs() <= most).all())


@pytest.mark.parametrize("codes", ["random", "extreme"])
@pytest.mark.parametrize(
    ("rows", "width", "outputs"),
    [(1, 64, 32), (3, 100, 33), (16, 300, 64), (17, 256, 300), (60, 4096, 290)],
)
def test_the_sums_are_those_of_the_integers(
    rows: int, width: int, outputs: int, codes: str, in_bytes: bool
) -> None:
    generator = torch.Generator().manual_seed(rows)
    most = min(32639, (16_000_000 - 32639) // width - 1)
    weight = torch.randint(-128, 128, (outputs, width), generator=generator)
    x = torch.randint(-most, most + 1, (rows, width), generator=generator)
    if codes == "extreme":
        x = torch.where(x < 0, -most, most)
        weight = torch.where(weight < 0, -128, 127)
        weight[0], weight[-1], x[0] = 127, -128, most
    x[:, 0] = 32639  # the scale is then 1, and codes equal numbers
    weight[:, 0] = 1
    linear = Int8Linear(weight.to(torch.int8), torch.ones(outputs), None)
    result = product(x.float(), linear, in_bytes=in_bytes)
    assert torch.equal(result, (x @ weight.T).float())


@pytest.mark.skipif(not HAS_TILES, reason="the processor has no AMX")
def test_amx_tiles_are_used_if_the_processor_has_them() -> None:
    assert USES_TILES


def test_a_row_of_the_compiled_product_does_not_depend_on_the_batch_or_threads(
    in_bytes: bool,
) -> None:
    x, linear = an_example(20, 320, 150)
    together = product(x, linear, in_bytes=in_bytes)
    for rows in (slice(0, 1), slice(3, 5), slice(6, 19)):
        for threads in (1, 2, 5):
            some = product(x[rows].clone(), linear, threads, in_bytes=in_bytes)
            assert torch.equal(some, together[rows])


def test_the_largest_sums_fit(in_bytes: bool) -> None:
    width = 16384
    codes = torch.full((2, width), 127, dtype=torch.int8)
    codes[1] = -128
    x = torch.full((1, width), 3.0)
    result = product(x, Int8Linear(codes, torch.ones(2), None), in_bytes=in_bytes)
    assert result[0].tolist() == pytest.approx([3.0 * 127 * width, -3.0 * 128 * width], rel=1e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_affect_only_their_own_row(value: float, in_bytes: bool) -> None:
    x, linear = an_example(3, 64, 8)
    expected = product(x, linear, in_bytes=in_bytes)
    x[1, 5] = value
    x[2] = 0.0
    result = product(x, linear, in_bytes=in_bytes)
    assert torch.equal(result[0], expected[0])
    assert bool(result[1].isnan().all())
    assert torch.equal(result[2], linear.bias)


SUM = """
import torch
from tests.engine.test_int8 import an_example, product
print(product(*an_example(7, 320, 150)).double().sum().item())
"""


@pytest.mark.parametrize(("cpu", "features"), [("generic", ""), ("haswell", "+avx,+avx2,+fma")])
def test_older_processors_compute_the_same(cpu: str, features: str, tmp_path: Path) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("these are names of x86 processors")
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": cpu,
        "NUMBA_CPU_FEATURES": features,
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", SUM], env=environment, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) == product(*an_example(7, 320, 150)).double().sum().item()


TILES = """
import numpy as np
from numba import types, typeof
from gptj_demo.engine.model.cpu.int8_products import HAS_TILES, Matrix, multiply
from tests.engine.test_int8 import an_example
assert HAS_TILES
x, linear = an_example(7, 320, 150)
matrix = Matrix.of(linear)
codes = np.zeros((2, 7, 384), np.int8)
operands = codes, matrix.scale, matrix.weight, matrix.scale, matrix.bias
signature = typeof((operands,)), types.boolean, typeof(x.numpy()), types.int64, types.int64
multiply.compile(signature)  # and does not run it
print(multiply.inspect_asm(signature))
"""


def test_the_products_are_compiled_for_processors_with_amx(tmp_path: Path) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("AMX is a part of x86 processors")
    features = "+amx-tile,+amx-int8,+avx,+avx2,+avx512f,+avx512bw,+avx512vl,+fma"
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": "sapphirerapids",
        "NUMBA_CPU_FEATURES": features,
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", TILES], env=environment, capture_output=True, text=True, check=True
    )
    instructions = Counter(re.findall(r"^\t(\w+)", done.stdout, re.MULTILINE))
    # two planes of codes by two panels of weights
    assert [instructions[name] for name in ("ldtilecfg", "tdpbssd", "tilerelease")] == [1, 4, 1]


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
    model = built(load_quantized(folder, device))
    ours = logits_of(model, ids, chunks=(40,)).log_softmax(-1)
    assert (ours - expected).abs().mean() < (theirs - expected).abs().mean()


TEXT = """There was once a poor man who had three sons, and when he was going to die he called them
to his bed and said: "My dear children, I have nothing to leave you but the old mill, the ass and
the cat; share them as you please, and live in peace with each other." The eldest took the mill, the
second the ass, and for the youngest there was nothing left but the cat. He sat down sadly by the
road and thought: "What shall I do with a cat? If I have a pair of gloves made of his fur, it will
be all over with me." But the cat, who had understood every word of it, began to speak."""


@pytest.fixture(scope="module")
def sample_ids() -> torch.Tensor:
    from tokenizers import Tokenizer

    return torch.tensor(Tokenizer.from_file(str(SAMPLE_MODEL / "tokenizer.json")).encode(TEXT).ids)


def test_the_sample_model_in_int8_is_closer_to_fp32_than_by_bitsandbytes(
    sample_ids: torch.Tensor,
) -> None:
    exact = GPTJForCausalLM.from_pretrained(SAMPLE_MODEL, dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = exact(sample_ids[None]).logits[0].log_softmax(-1)
        theirs = load_quantized(SAMPLE_MODEL, "cpu")(sample_ids[None]).logits[0]
    model = built(load_quantized(SAMPLE_MODEL, "cpu"))
    ours = logits_of(model, sample_ids, chunks=(40,))
    differences = [
        float((logits.float().log_softmax(-1) - expected).abs().mean()) for logits in (ours, theirs)
    ]
    print("mean absolute difference of log-probabilities to fp32:")
    print(f"ours {differences[0]:.4f}, bitsandbytes {differences[1]:.4f}")
    assert differences[0] < 0.8 * differences[1]


def test_int8_logits_do_not_depend_on_how_the_prompt_is_chunked(sample_ids: torch.Tensor) -> None:
    model = built(load_quantized(SAMPLE_MODEL, "cpu"))
    assert is_exact(model)
    one_by_one = logits_of(model, sample_ids, chunks=())
    for chunks in ((len(sample_ids),), (7, 1, 33)):
        assert torch.equal(logits_of(model, sample_ids, chunks), one_by_one)
