"""GPT-J on an NVIDIA GPU: the eager model with decode steps replayed as captured graphs."""

from __future__ import annotations

import functools
import logging

import torch
import torch.nn.functional as F
from transformers import GPTJForCausalLM

from gptj_demo.engine.model.base import Batch, Report
from gptj_demo.engine.model.cuda.graphs import Capture, DecodeGraphs
from gptj_demo.engine.model.cuda.kernels import (
    INT8_INPUTS_MULTIPLE,
    Kernels,
    TritonKernels,
    find_triton,
)
from gptj_demo.engine.model.eager import EagerModel
from gptj_demo.engine.model.fusing import is_int8
from gptj_demo.engine.model.int8 import Int8Linear, Int8Pair
from gptj_demo.engine.model.kv_cache import KVCache
from gptj_demo.engine.model.linear import Linear
from gptj_demo.texts import Message, joined, message

logger = logging.getLogger(__name__)

_LARGE_CARD = 100
"""GPUs with at least this many multiprocessors prefill 512 tokens a step. 512 tokens of GPT-J 6B
are 6.2 TFLOP: by the data sheets, about 12 ms on an H100 and 40 ms on an A100. Cards with fewer
multiprocessors (A10G, L4, T4) have a quarter to a tenth of the rate and prefill a quarter of the
tokens. In 8 bits they prefill half, because each chunk widens all weights again: by its data sheet,
this takes a T4 60 ms, more than the products of 128 tokens. None of this has been measured on a
GPU."""


class CudaLinear(Linear):
    """A product that can also return its sums in fp32."""

    def widened(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, in] -> fp32 [rows, out], without rounding to 16 bits between."""
        if x.dtype == torch.float32:
            return self(x)
        product: torch.Tensor = torch.mm(x, self.weight.t(), out_dtype=torch.float32)
        return product + self.bias.float()


class CudaInt8Linear(Int8Linear):
    """8-bit weights on a GPU: read as bytes for few rows, widened first for many."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        triton = _bytes_kernels(x, self)
        if triton is not None:
            bias = torch.zeros_like(self.scale) if self.bias is None else self.bias
            return triton.int8_sum([(x, self.weight, self.scale)], bias)
        bias_of_type = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self._widened(x.dtype), bias_of_type)

    @classmethod
    def pair(cls, attention: Int8Linear, mlp: Int8Linear) -> Int8Pair:
        return _CudaInt8Pair(attention, mlp)

    def _widened(self, dtype: torch.dtype) -> torch.Tensor:
        """The weights in `dtype`, rounded once. They are scaled before the product, because its
        sums would not fit into float16 otherwise."""
        triton = find_triton()
        if triton is not None and self.weight.shape[1] % INT8_INPUTS_MULTIPLE == 0:
            return triton.widen(self.weight, self.scale, dtype)
        widened = torch.empty_like(self.weight, dtype=dtype)
        torch.mul(self.weight, self.scale[:, None], out=widened)
        return widened


class _CudaInt8Pair(Int8Pair):
    """Adds the two products before rounding if Triton's kernels can be used."""

    def __call__(self, mixed: torch.Tensor, activated: torch.Tensor) -> torch.Tensor:
        triton = _bytes_kernels(mixed, self.attention, self.mlp)
        if triton is None:
            return super().__call__(mixed, activated)
        products = [
            (mixed, self.attention.weight, self.attention.scale),
            (activated, self.mlp.weight, self.mlp.scale),
        ]
        return triton.int8_sum(products, self._bias)

    @functools.cached_property
    def _bias(self) -> torch.Tensor:
        biases = [b for b in (self.attention.bias, self.mlp.bias) if b is not None]
        return sum(biases, torch.zeros_like(self.mlp.scale))


def _bytes_kernels(x: torch.Tensor, *products: Int8Linear) -> TritonKernels | None:
    """The kernels that read the products' weights as bytes, where that pays for x's rows."""
    triton = find_triton()
    if triton is None or x.shape[0] > triton.most_int8_rows(x.device):
        return None
    aligned = all(p.weight.shape[1] % INT8_INPUTS_MULTIPLE == 0 for p in products)
    return triton if aligned else None


class GraphModel(EagerModel):
    """A GPT-J that replays decode steps as graphs; until `prepare` it decodes as `EagerModel`."""

    def __init__(
        self,
        model: GPTJForCausalLM,
        *,
        capture: Capture | None = None,
        kernels: Kernels | None = None,
        linear: type[Linear] = Linear,
        int8_linear: type[Int8Linear] = Int8Linear,
        beside_int8: torch.dtype = torch.float16,
    ) -> None:
        super().__init__(model, linear=linear, int8_linear=int8_linear, beside_int8=beside_int8)
        self._capture, self._kernels = capture, kernels
        self.graphs: DecodeGraphs | None = None

    @property
    def queues_ahead(self) -> bool:
        return self.graphs is not None and self.graphs.failure is None

    def prepare(self, cache: KVCache, report: Report) -> Message | None:
        """Capture the graphs; returns why decoding is slower than it could be."""
        self.graphs = DecodeGraphs(self, cache, self._capture, self._kernels)
        self.graphs.prepare(report)
        failure = self.graphs.failure
        return None if failure is None else message("why.slower", reason=failure)

    def release(self) -> None:
        self.graphs = None

    def forward(self, cache: KVCache, batch: Batch) -> torch.Tensor:
        decoded = None
        if batch.rows is not None and self.graphs is not None:
            decoded = self.graphs.launch(batch.rows)
        if decoded is None:
            return super().forward(cache, batch)
        hidden = self.prefill_wanted(cache, batch)
        if not hidden:
            return decoded
        return torch.cat((decoded, self.logits(torch.cat(hidden))))


class CudaModel(GraphModel):
    """A GPT-J on a GPU, with its products and kernels.

    With `captures` off, `prepare` compiles and captures nothing: on ZeroGPU a visitor would pay for
    the time of it.
    """

    def __init__(self, model: GPTJForCausalLM, *, captures: bool = True) -> None:
        self._is_int8, self._captures = is_int8(model), captures
        super().__init__(model, linear=CudaLinear, int8_linear=CudaInt8Linear)
        multiprocessors = torch.cuda.get_device_properties(self.device).multi_processor_count
        small_card = 256 if self._is_int8 else 128
        self.prefill_budget = 512 if multiprocessors >= _LARGE_CARD else small_card
        self.tries_most_memory = captures  # on ZeroGPU a visitor would pay for the time of it

    @property
    def queues_ahead(self) -> bool:
        return True

    def allocate(self, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def prepare(self, cache: KVCache, report: Report) -> Message | None:
        """Compile the kernels and capture the graphs; returns why decoding is slower than it
        could be."""
        if not self._captures:
            return None
        self._compile_kernels(report)
        slower = super().prepare(cache, report)
        if find_triton() is not None:
            return slower
        no_triton = message("why.no_triton_int8" if self._is_int8 else "why.no_triton")
        return no_triton if slower is None else joined(slower, no_triton)

    @torch.inference_mode()
    def _compile_kernels(self, report: Report) -> None:
        """Run each 8-bit kernel that a step can need once, as Triton compiles at the first use."""
        triton = find_triton()
        if triton is None or not self._is_int8:
            return
        most = triton.most_int8_rows(self.device)
        counts = [*triton.int8_row_counts(self.device), most + 1]  # beyond, weights are widened
        layer, shape = self.layers[0], self.shape
        for done, rows in enumerate(counts):
            report(message("status.compiling", done=done, total=len(counts)), done / len(counts))
            logger.info("compiling the 8-bit kernels for %d rows", rows)
            x = torch.zeros(rows, shape.d_model, dtype=self.dtype, device=self.device)
            layer.project_in(x)
            layer.project_out(x, x.new_zeros(rows, shape.d_ff))
