"""8-bit products in Triton, against products in fp64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gptj_demo.engine.model.cuda import model as cuda_model
from gptj_demo.engine.model.cuda.model import CudaInt8Linear
from gptj_demo.engine.model.int8 import Int8Linear, Int8Pair
from tests.engine.devices import DEVICE, NO_TRITON, import_kernels

Operands = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


@pytest.fixture
def triton_int8() -> Any:
    return import_kernels("triton_int8")


@pytest.fixture
def with_triton(monkeypatch: pytest.MonkeyPatch, triton_int8: Any) -> Any:
    """The model's products use Triton's kernels, on a processor too."""
    monkeypatch.setattr(cuda_model, "find_triton", lambda: import_kernels("triton_kernels"))
    return triton_int8


def randn(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(DEVICE, dtype)


def int8_linear(
    triton_int8: Any,
    x: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
) -> torch.Tensor:
    product: torch.Tensor = triton_int8.int8_sum([(x, weight, scale)], bias)
    return product


def int8_operands(rows: int, out: int, count: int, dtype: torch.dtype) -> Operands:
    generator = torch.Generator().manual_seed(rows)
    weight = torch.randint(-128, 128, (out, count), generator=generator, dtype=torch.int8)
    scale = torch.rand(out, generator=generator) / 127
    x = randn(rows, count, seed=rows, dtype=dtype)
    return x, weight.to(DEVICE), scale.to(DEVICE), randn(out, seed=rows + 1)


def largest_error(actual: torch.Tensor, x: torch.Tensor, *weights: torch.Tensor) -> float:
    """Against the product in fp64, relative to its largest entry."""
    codes, scale, bias = (part.double() for part in weights)
    expected = x.double() @ (codes * scale[:, None]).T + bias
    return float((actual.double() - expected).abs().max() / expected.abs().max())


# the interpreter has no products in bfloat16
HALVES = [torch.float16] if DEVICE == "cpu" else [torch.float16, torch.bfloat16]


@NO_TRITON
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
@pytest.mark.parametrize("rows", [1, 2, 8, 16, 17, 33, 64])
@pytest.mark.parametrize("capability", [(7, 5), (9, 0)])
def test_an_8_bit_product_is_that_of_the_widened_weights(
    triton_int8: Any,
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
    dtype: torch.dtype,
    capability: tuple[int, int],
) -> None:
    monkeypatch.setattr(triton_int8, "_capability", lambda device: capability)
    if rows > triton_int8.most_int8_rows(torch.device(DEVICE)):
        pytest.skip("so many rows are multiplied by widened weights")
    for out, count in ((21, 144), (40, 1040)):
        x, *weights = int8_operands(rows, out, count, dtype)
        actual = int8_linear(triton_int8, x, *weights)
        assert actual.dtype == dtype
        limit = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 5e-3}[dtype]
        assert largest_error(actual, x, *weights) < limit


@NO_TRITON
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
@pytest.mark.parametrize(("rows", "capability"), [(1, (7, 5)), (1, (9, 0)), (16, (9, 0))])
def test_every_byte_becomes_its_own_number(
    triton_int8: Any,
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
    dtype: torch.dtype,
    capability: tuple[int, int],
) -> None:
    monkeypatch.setattr(triton_int8, "_capability", lambda device: capability)
    weight = torch.arange(-128, 128, device=DEVICE).to(torch.int8)[:, None].expand(-1, 16)
    x = torch.eye(16, device=DEVICE, dtype=dtype)[:rows]
    ones = torch.ones(256, device=DEVICE)
    product = int8_linear(triton_int8, x, weight.contiguous(), ones, 0 * ones)
    expected = torch.arange(-128, 128, device=DEVICE).to(dtype)
    assert torch.equal(product, expected.expand(rows, -1))


def matmul_in_order(a: Any, b: Any, dtype: Any) -> Any:
    """The product for the interpreter's `tl.dot`, with every sum in the same order: BLAS sums
    columns in different orders, tensor cores do not."""
    return (a.astype(dtype)[:, :, None] * b.astype(dtype)[None]).sum(axis=1)


@NO_TRITON
@pytest.mark.parametrize(("rows", "capability"), [(5, (7, 5)), (5, (9, 0)), (40, (9, 0))])
@pytest.mark.parametrize("processors", [1, 132])
def test_an_8_bit_product_of_a_row_does_not_depend_on_the_other_rows(
    triton_int8: Any,
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
    capability: tuple[int, int],
    processors: int,
) -> None:
    monkeypatch.setattr(triton_int8, "_capability", lambda device: capability)
    monkeypatch.setattr(triton_int8, "_processors", lambda device: processors)
    if DEVICE == "cpu":
        monkeypatch.setattr(np, "matmul", matmul_in_order)
    x, *weights = int8_operands(rows, 40, 2048 + 48, torch.float16)
    whole = int8_linear(triton_int8, x, *weights)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    mixed = x[order]
    mixed[0] = 100.0
    assert torch.equal(int8_linear(triton_int8, mixed, *weights)[1:], whole[order][1:])


@NO_TRITON
def test_rows_of_a_wider_tensor_are_multiplied_without_a_copy(triton_int8: Any) -> None:
    for rows in (1, 3):
        x, *weights = int8_operands(rows, 40, 48, torch.float32)
        wide = torch.cat((x, x + 1), dim=1)
        expected = int8_linear(triton_int8, x, *weights)
        assert torch.equal(int8_linear(triton_int8, wide[:, :48], *weights), expected)


@NO_TRITON
@pytest.mark.parametrize("capability", [(7, 5), (9, 0)])
@pytest.mark.parametrize("rows", [1, 3, 33])
@pytest.mark.parametrize("processors", [0, 132])
def test_products_are_added_in_parts_and_rounded_once(
    triton_int8: Any,
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    rows: int,
    processors: int,
) -> None:
    monkeypatch.setattr(triton_int8, "_capability", lambda device: capability)
    monkeypatch.setattr(triton_int8, "_processors", lambda device: processors)
    if rows > triton_int8.most_int8_rows(torch.device(DEVICE)):
        pytest.skip("so many rows are multiplied by widened weights")
    added = recorded_parts(triton_int8, monkeypatch)
    x, *first, bias = int8_operands(rows, 40, 1040, torch.float32)
    longer, *second, _ = int8_operands(rows, 40, 4096, torch.float32)
    actual = triton_int8.int8_sum([(x, *first), (longer, *second)], bias)
    codes = torch.cat([(w.double() * s.double()[:, None]) for w, s in (first, second)], dim=1)
    expected = torch.cat((x, longer), dim=1).double() @ codes.T + bias.double()
    assert (actual.double() - expected).abs().max() < 1e-5 * expected.abs().max()
    assert added == [1 + (4 if processors else 1)]


def recorded_parts(triton_int8: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that gets the number of parts each time parts are added."""
    added: list[int] = []
    launcher = triton_int8._add_parts

    class Recorder:
        def __getitem__(self, grid: Any) -> Any:
            def launch(*args: Any, PARTS: int, **settings: Any) -> None:
                added.append(PARTS)
                launcher[grid](*args, PARTS=PARTS, **settings)

            return launch

    monkeypatch.setattr(triton_int8, "_add_parts", Recorder())
    return added


@NO_TRITON
def test_a_large_gpu_gets_more_parts_only_where_there_are_few_outputs(triton_int8: Any) -> None:
    """Out projections of GPT-J, 4096 and 16384 inputs, and its wide first product."""
    sizes = [(4096, 4096), (4096, 16384), (28672, 4096)]
    found = {}
    for name, processors, by_dot in (("T4", 40, False), ("A10G", 80, True), ("H100", 132, True)):
        for rows in (1, 32):
            blocks = triton_int8._blocks(rows, torch.float16, by_dot)
            found[name, rows] = [
                -(-inputs // triton_int8._part_inputs(blocks, out, inputs, processors))
                for out, inputs in sizes
            ]
    assert found == {
        ("T4", 1): [1, 1, 1],
        ("T4", 32): [1, 1, 1],
        ("A10G", 1): [1, 1, 1],
        ("A10G", 32): [4, 8, 1],
        ("H100", 1): [2, 2, 1],
        ("H100", 32): [4, 8, 2],
    }


@NO_TRITON
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
def test_weights_are_widened_as_torch_widens_them(triton_int8: Any, dtype: torch.dtype) -> None:
    for out, count in ((3, 16), (5, 4096 + 48)):
        _, weight, scale, _ = int8_operands(1, out, count, dtype)
        expected = (weight.float() * scale[:, None]).to(dtype)
        assert torch.equal(triton_int8.widen(weight, scale, dtype), expected)


# ---- in the model


@NO_TRITON
@pytest.mark.parametrize("rows", [1, 65])
@pytest.mark.parametrize("count", [48, 50])  # rows of 50 codes are not aligned
def test_the_model_s_products_are_right_for_any_number_of_rows_and_inputs(
    with_triton: Any, rows: int, count: int
) -> None:
    x, *weights = int8_operands(rows, 40, count, torch.float16)
    assert largest_error(CudaInt8Linear(*weights)(x), x, *weights) < 2e-3


@NO_TRITON
@pytest.mark.parametrize("rows", [1, 65])
@pytest.mark.parametrize("count", [48, 50])
def test_a_pair_of_products_is_their_sum(with_triton: Any, rows: int, count: int) -> None:
    x, *first = int8_operands(rows, 40, count, torch.float16)
    wider, *second = int8_operands(rows, 40, 4 * count, torch.float16)
    pair = CudaInt8Linear.pair(CudaInt8Linear(*first), CudaInt8Linear(*second))
    expected = x.double() @ (first[0].double() * first[1].double()[:, None]).T
    expected += wider.double() @ (second[0].double() * second[1].double()[:, None]).T
    expected += first[2].double() + second[2].double()
    assert pair(x, wider).dtype == torch.float16
    assert (pair(x, wider).double() - expected).abs().max() < 2e-3 * expected.abs().max()


def test_without_cuda_a_pair_is_two_products() -> None:
    linear = Int8Linear(torch.ones(2, 2, dtype=torch.int8), torch.ones(2), None)
    assert type(Int8Linear.pair(linear, linear)) is Int8Pair


@pytest.mark.parametrize("rows", [1, 9, 65])
def test_the_widened_product_does_not_overflow_float16(rows: int) -> None:
    """The sums of codes times activations, before scaling, would overflow."""
    codes = torch.full((8, 512), 127, dtype=torch.int8, device=DEVICE)
    scale, bias = torch.full((8,), 1e-3, device=DEVICE), torch.ones(8, device=DEVICE)
    x = torch.full((rows, 512), 2.0, dtype=torch.float16, device=DEVICE)
    for linear in (CudaInt8Linear(codes, scale, bias), CudaInt8Linear(codes, scale, None)):
        product = linear(x)
        assert product.dtype == torch.float16
        expected = 512 * 2 * 0.127 + (linear.bias is not None)
        assert (product.float() - expected).abs().max() < 0.2
