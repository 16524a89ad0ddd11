"""The operations of a captured decode step that no library has, in Triton or in plain torch.

Both read lengths and slots from the device, so that one captured step serves all later ones. A row
with a negative slot only pads the batch: nothing is stored for it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Protocol, cast

import torch
import torch.nn.functional as F

from gptj_demo.engine.machine import is_out_of_memory
from gptj_demo.engine.model.kv_cache import MOST_GATHERED, gather
from gptj_demo.engine.model.rotary import rotate
from gptj_demo.pages import PAGE_TOKENS
from gptj_demo.texts import first_line

logger = logging.getLogger(__name__)

INT8_INPUTS_MULTIPLE = 16
"""The inputs of Triton's 8-bit products must be a multiple of this, so that rows are aligned."""


class Kernels(Protocol):
    """What `DecodeGraphs` needs: a module with these functions, such as this one."""

    def rotate_and_store(
        self,
        fused: torch.Tensor,
        rotation: torch.Tensor,
        slots: torch.Tensor,
        positions: torch.Tensor,
        stored: torch.Tensor,
        tables: torch.Tensor,
    ) -> torch.Tensor:
        """See below."""

    def attend(
        self,
        queries: torch.Tensor,
        slots: torch.Tensor,
        positions: torch.Tensor,
        stored: torch.Tensor,
        tables: torch.Tensor,
        longest: int,
    ) -> torch.Tensor:
        """See below."""


class TritonKernels(Kernels, Protocol):
    """The other functions of the module `triton_kernels`: see `triton_int8`."""

    def most_int8_rows(self, device: torch.device) -> int:
        """Rows up to which `int8_sum` reads each weight about once."""

    def int8_row_counts(self, device: torch.device) -> list[int]:
        """Numbers of rows that need kernels of their own."""

    def int8_sum(
        self,
        products: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
        bias: torch.Tensor,
    ) -> torch.Tensor:
        """The sum of products with 8-bit weights, each of (x, weight, scale), plus the bias."""

    def widen(self, weight: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """8-bit weights in a floating type."""


@functools.cache
def find_triton() -> TritonKernels | None:
    """The Triton kernels, if they are installed and run on this GPU; else the log says why not.

    Triton compiles at run time and needs a C compiler for it, so one product is computed as a test.
    Raises `RuntimeError` if the GPU lacks memory for the test. Call it again with more free memory.
    """
    if not torch.cuda.is_available():
        return None
    try:
        from gptj_demo.engine.model.cuda import triton_kernels

        weight = torch.eye(16, dtype=torch.int8, device="cuda")
        x = torch.arange(16.0, device="cuda")[None].half()
        ones = torch.ones(16, device="cuda")
        if not torch.equal(triton_kernels.int8_sum([(x, weight, ones)], ones), x + 1):
            raise RuntimeError("its product is wrong")
    except Exception as error:  # other kernels are used, except after a passing lack of memory
        if is_out_of_memory(error):  # the engine tries again with a smaller cache
            raise
        logger.warning("Triton's kernels cannot be used: %s", first_line(error))
        return None
    return cast(TritonKernels, triton_kernels)


def rotate_and_store(
    fused: torch.Tensor,
    rotation: torch.Tensor,
    slots: torch.Tensor,
    positions: torch.Tensor,
    stored: torch.Tensor,
    tables: torch.Tensor,
) -> torch.Tensor:
    """Rotate queries and keys by their positions, and store keys and values in the cache.

    `fused` [rows, 3 * d_model + more] has a row's queries, keys and values first, `rotation` is
    complex64 [context, rotary_dim / 2], `slots` and `positions` are int64 [rows], the first slot
    not negative, `stored` is one layer of the cache, [2 * heads, pages, PAGE_TOKENS, head_dim], and
    `tables` has the slots' pages, [slots, ..]. Returns the queries [rows, heads, head_dim].
    """
    heads, head_dim, rotary_dim = stored.shape[0] // 2, stored.shape[3], 2 * rotation.shape[1]
    pads = slots < 0
    three = fused[:, : 3 * heads * head_dim].view(-1, 3 * heads, head_dim).clone()
    rotate(three[:, : 2 * heads, :rotary_dim], rotation[positions][:, None])
    # padding rows repeat the first row's write
    keys_values = torch.where(pads[:, None, None], three[:1, heads:], three[:, heads:])
    slots, positions = (
        torch.where(pads, slots[0], slots),
        torch.where(pads, positions[0], positions),
    )
    pages = tables[slots, positions // PAGE_TOKENS]
    stored[:, pages, positions % PAGE_TOKENS] = keys_values.transpose(0, 1)
    return three[:, :heads]


def attend(
    queries: torch.Tensor,
    slots: torch.Tensor,
    positions: torch.Tensor,
    stored: torch.Tensor,
    tables: torch.Tensor,
    longest: int,
) -> torch.Tensor:
    """Attention of each row to the positions of its slot, up to its own: [rows, d_model].

    `queries` is [rows, heads, head_dim], rotated; the others are as in `rotate_and_store`. No
    position is beyond `longest`. This copies the slots up to there, some at a time; it is used if
    there is no Triton. The result of a padding row has no meaning.
    """
    beyond = torch.arange(longest, device=queries.device) > positions[:, None]
    mask = torch.zeros(beyond.shape, dtype=queries.dtype, device=queries.device)
    mask.masked_fill_(beyond, -torch.inf)
    slots, each = slots.clamp(min=0), max(1, MOST_GATHERED // longest)
    parts = [slice(begin, begin + each) for begin in range(0, len(slots), each)]
    mixed = [
        F.scaled_dot_product_attention(
            queries[part, :, None],
            *gather(stored, tables, slots[part], longest),
            attn_mask=mask[part, None, None],
        )
        for part in parts
    ]
    return torch.cat(mixed)[:, :, 0].flatten(1)
