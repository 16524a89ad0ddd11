"""The planned bytes of a stream cover what the sampler takes."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import GPTJConfig

from gptj_demo.engine.load.memory import stream_bytes
from gptj_demo.engine.sampling import batch as sampling
from gptj_demo.engine.sampling import select
from tests.engine.sampling.reference import Row

VOCABULARY, ROWS = 50_257, 8
LOGITS = 16
"""Bytes an id of the copies of the logits that the plan counts outside the sampler."""


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of tensors that were made inside of it and are still referred to."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in self.known:
                    self.known[key] = storage.nbytes()
                    weakref.finalize(storage, self.known.pop, key, None)
        self.peak = max(self.peak, sum(self.known.values()))
        return made


@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.parametrize(
    "controls",
    [
        {"top_p": 0.95},
        {"top_p": 0.95, "logprobs": 5},
        {"tfs": 0.9},
        {"typical_p": 0.9},
        sampling.MOST_MEMORY,
    ],
    ids="+".join,
)
def test_the_sampler_takes_no_more_than_is_planned(
    controls: dict[str, Any], is_compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_compiled:  # as on a GPU
        for module in (sampling, select):
            monkeypatch.setattr(module, "compiled_code", lambda device: None)
    rows = [Row({"temperature": 0.8, **controls}, vocabulary=VOCABULARY) for _ in range(ROWS)]
    batch = sampling.SamplerBatch(
        [row.sampler() for row in rows], VOCABULARY, torch.device("cpu"), torch.tensor([5, 6])
    )
    logits = torch.randn(ROWS, VOCABULARY, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), LiveTensors() as live:
        batch.sample(logits)
    planned = stream_bytes(GPTJConfig(vocab_size=VOCABULARY)) - LOGITS * VOCABULARY
    assert 0 < live.peak <= ROWS * planned
