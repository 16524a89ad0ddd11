"""The logits of a whole text on the engine's path: prefill chunks, then decode steps."""

from __future__ import annotations

import torch
from transformers import GPTJForCausalLM

from gptj_demo.engine.model import Batch, Chunk, ForwardModel, Rows, build_model


def built(model: GPTJForCausalLM, backend: str = "auto") -> ForwardModel:
    """The model on a forward path."""
    return build_model(model, backend)[0]


def is_exact(model: ForwardModel) -> bool:
    """Whether results have the same bits in every batch, as on the compiled paths."""
    from gptj_demo.engine.model.cpu.compiled import CompiledModel
    from gptj_demo.engine.model.cpu.int8 import Int8CpuModel

    return isinstance(model, CompiledModel | Int8CpuModel)


@torch.inference_mode()
def logits_of(model: ForwardModel, ids: torch.Tensor, chunks: tuple[int, ...]) -> torch.Tensor:
    """fp32 logits [length, padded_vocabulary] for `ids` [length].

    `chunks` are the lengths that are prefilled one after the other; the rest is decoded token by
    token. It all happens in the second of three slots.
    """
    cache, slot, done = model.make_cache(3), 1, 0
    tokens: list[int] = ids.tolist()
    logits = []
    for length in chunks:
        chunk = Chunk(tokens[done : done + length], slot, done, wanted=length)
        logits.append(model.forward(cache, Batch(chunks=[chunk])))
        done += length
    for position in range(done, len(tokens)):
        rows = Rows([tokens[position]], [position], [slot])
        logits.append(model.forward(cache, Batch(rows)))
    return torch.cat(logits)
