"""Prefill returns the hidden states that are wanted, and stores keys and values of all tokens."""

from __future__ import annotations

import pytest
import torch

from gptj_demo.engine.model import Batch, Chunk, ForwardModel, Rows
from gptj_demo.engine.model.cpu import compiled
from tests.engine.checkpoints import make_model
from tests.engine.forward import built, is_exact
from tests.engine.test_int8 import load_quantized

LENGTH = 100
TOKENS = [(7 * n) % 100 for n in range(LENGTH)]


def make(path: str, tmp_path_factory: pytest.TempPathFactory) -> ForwardModel:
    model = make_model(seed=1, n_positions=128, n_embd=40, n_head=5, rotary_dim=8, n_layer=2)
    if path == "cpu-int8":
        folder = tmp_path_factory.mktemp("wanted")
        model.save_pretrained(folder)
        return built(load_quantized(folder, "cpu"))
    return built(model, path)


def prefilled(model: ForwardModel, wanted: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the last `wanted` tokens, and those of the token after them."""
    cache = model.make_cache(2)
    logits = model.forward(cache, Batch(chunks=[Chunk(TOKENS[:length], 1, 0, wanted)]))
    assert len(logits) == wanted
    return logits, model.forward(cache, Batch(Rows([3], [length], [1])))


@pytest.mark.parametrize("length", [1, 2, 9, 33, 65, 100])
@pytest.mark.parametrize("cores", [1, 3])
@pytest.mark.parametrize("path", ["cpu-compiled", "cpu-int8", "eager"])
@torch.inference_mode()
def test_requested_logits_equal_those_of_a_prefill_that_computes_all_logits(
    path: str,
    cores: int,
    length: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.setattr(compiled, "available_cores", lambda: cores)
    model = make(path, tmp_path_factory)
    every, after = prefilled(model, length, length)
    for wanted in {0, 1, min(2, length), length // 2}:
        some, then = prefilled(model, wanted, length)
        if is_exact(model):
            assert torch.equal(some, every[length - wanted :])
            assert torch.equal(then, after)
        else:
            torch.testing.assert_close(some, every[length - wanted :])
            torch.testing.assert_close(then, after)
