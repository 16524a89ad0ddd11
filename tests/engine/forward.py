"""The logits of a whole text by the way the engine takes: prefill chunks, then decode steps."""

from __future__ import annotations

import torch

from gptj_demo.engine.gptj import GPTJ


@torch.inference_mode()
def logits_of(model: GPTJ, ids: torch.Tensor, chunks: tuple[int, ...]) -> torch.Tensor:
    """fp32 logits [length, padded_vocabulary] for `ids` [length].

    `chunks` are the lengths that are prefilled one after the other; the rest is decoded token by
    token. It all happens in the second of three slots.
    """
    cache, slot, done = model.make_cache(3), 1, 0
    hidden = []
    for length in chunks:
        hidden.append(model.prefill(cache, slot, ids[done : done + length], done))
        done += length
    for position in range(done, ids.shape[0]):
        token, at, slots = (
            torch.tensor([value], device=ids.device)
            for value in (int(ids[position]), position, slot)
        )
        hidden.append(
            model.decode(cache, token, at, slots, model.decode_runs([slot], [position + 1]))
        )
    return model.logits(torch.cat(hidden))
