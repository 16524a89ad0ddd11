"""The interface of every forward path: `forward(cache, batch) -> logits`.

A step of the engine is one `Batch`: rows that decode one token each, and chunks of prompts that are
prefilled. The runner builds it and does not know which path computes it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from transformers import GPTJConfig

from gptj_demo.engine.model.kv_cache import KVCache, allocate_pages
from gptj_demo.texts import Message

Report = Callable[[Message, float | None], None]
"""Receives what is being done, and the progress from 0 to 1 if known."""


SMALL_MODEL = 100_000_000
"""A model with fewer parameters in its layers is small: on a CPU it runs compiled, in fp32. A
larger one runs in int8."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a GPT-J."""

    layers: int
    d_model: int
    d_ff: int
    heads: int
    head_dim: int
    rotary_dim: int
    context_length: int
    padded_vocabulary: int
    """Rows of the embedding and the head."""
    epsilon: float
    """Epsilon of the layer norms."""
    activation: str
    """A key of transformers' `ACT2FN`."""

    @classmethod
    def of(cls, config: GPTJConfig) -> Shape:
        head_dim = config.n_embd // config.n_head
        return cls(
            layers=config.n_layer,
            d_model=config.n_embd,
            d_ff=config.n_inner or 4 * config.n_embd,
            heads=config.n_head,
            head_dim=head_dim,
            rotary_dim=config.rotary_dim or head_dim,
            context_length=config.n_positions,
            padded_vocabulary=config.vocab_size,
            epsilon=config.layer_norm_epsilon,
            activation=config.activation_function,
        )

    @property
    def layer_parameters(self) -> int:
        """Weights of the linear layers of all blocks."""
        return self.layers * self.d_model * (4 * self.d_model + 2 * self.d_ff)

    @property
    def is_small(self) -> bool:
        """Whether a step on a CPU is bound by dispatch rather than bandwidth."""
        return self.layer_parameters < SMALL_MODEL


@dataclass(frozen=True, slots=True)
class Rows:
    """One token for each of several slots, ordered by slot.

    A model that `verifies` takes several tokens of a slot, at consecutive positions in ascending
    order. `token_ids` may be an int64 tensor [rows] on the model's device, which avoids a host
    sync.
    """

    token_ids: Sequence[int] | torch.Tensor
    positions: Sequence[int]
    slots: Sequence[int]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive tokens of one prompt, the first at position `start` of `slot`.

    Positions before `start` must be in the cache. Logits are wanted for the last `wanted` tokens.
    """

    token_ids: Sequence[int]
    slot: int
    start: int
    wanted: int = 1


@dataclass(frozen=True, slots=True)
class Batch:
    """All tokens of one step."""

    rows: Rows | None = None
    chunks: Sequence[Chunk] = field(default=())


class ForwardModel(ABC):
    """A model on one forward path. `dtype` is that of the KV cache."""

    @property
    def queues_ahead(self) -> bool:
        """Whether `forward` returns before the device has computed, so a step can be queued."""
        return False

    @property
    def verifies(self) -> bool:
        """Whether `decode` takes several tokens of a slot, and a row's logits do not depend on the
        rows beside it, so that drafted tokens can be verified without changing a text."""
        return False

    @property
    def least_row_cost(self) -> float:
        """The least cost of one more row, as a part of a pass of one row."""
        return 0.0

    def __init__(self, shape: Shape, dtype: torch.dtype, device: torch.device) -> None:
        self.shape = shape
        self.dtype = dtype
        self.device = device
        self.prefill_budget = 256 if shape.is_small else 32
        """Prompt tokens a step. The other streams wait for them: 256 tokens take the sample model
        27 to 42 ms on one core."""
        self.tries_most_memory = False
        """Whether the engine runs the steps that need the most memory before it takes requests."""

    def narrow_cache(self) -> bool:
        """Keep keys and values in 16 bits from now on; returns whether they are in 16 bits."""
        return self.dtype != torch.float32

    def make_cache(self, max_num_seqs: int, max_tokens: int | None = None) -> KVCache:
        """A KV cache of the model's shape, in its dtype, on its device; see `KVCache`."""
        return KVCache(
            layers=self.shape.layers,
            max_num_seqs=max_num_seqs,
            context_length=self.shape.context_length,
            heads=self.shape.heads,
            head_dim=self.shape.head_dim,
            allocate=self.allocate,
            device=self.device,
            max_tokens=max_tokens,
        )

    def allocate(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Zeros for the KV cache."""
        return allocate_pages(shape, self.dtype)

    def prepare(self, cache: KVCache, report: Report) -> Message | None:
        """Compile or capture what is needed; returns why decoding is slower than planned."""
        return None

    def release(self) -> None:  # noqa: B027  # most models keep no reference
        """Drop references to the prepared cache, so that its memory is free for another one."""

    def forward(self, cache: KVCache, batch: Batch) -> torch.Tensor:
        """fp32 logits [wanted, padded_vocabulary]: the rows', then each chunk's last tokens'.

        Keys and values of all tokens are stored in the cache.
        """
        hidden: list[torch.Tensor] = []  # [tokens, d_model] each
        if batch.rows is not None:
            hidden.append(self.decode(cache, batch.rows))
        hidden += self.prefill_wanted(cache, batch)
        if not hidden:
            return torch.empty(0, self.shape.padded_vocabulary, device=self.device)
        return self.logits(hidden[0] if len(hidden) == 1 else torch.cat(hidden))

    def prefill_wanted(self, cache: KVCache, batch: Batch) -> list[torch.Tensor]:
        """Prefill the chunks; the hidden states [wanted, d_model] of those that want logits."""
        wanted = []
        for chunk in batch.chunks:
            hidden = self.prefill(cache, chunk)
            if chunk.wanted:
                wanted.append(hidden)
        return wanted

    @abstractmethod
    def decode(self, cache: KVCache, rows: Rows) -> torch.Tensor:
        """Hidden states [rows, d_model] before the last norm."""

    @abstractmethod
    def prefill(self, cache: KVCache, chunk: Chunk) -> torch.Tensor:
        """Hidden states [wanted, d_model] of the last tokens, before the last norm."""

    @abstractmethod
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states [rows, d_model] -> fp32 logits [rows, padded_vocabulary]."""
