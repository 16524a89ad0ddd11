"""The compiled forward pass of small models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import GPTJConfig, GPTJForCausalLM

from gptj_demo.engine.model import Chunk, Rows
from gptj_demo.engine.model.cpu import compiled
from tests.engine.forward import built

PROMPT = range(3, 20)


def make_model() -> GPTJForCausalLM:
    torch.manual_seed(0)
    config = GPTJConfig(
        vocab_size=100, n_positions=64, n_embd=48, n_layer=2, n_head=3, rotary_dim=8
    )
    model = GPTJForCausalLM(config)
    for parameter in model.parameters():
        # some weights are subnormal in float16
        torch.nn.init.normal_(parameter.data, std=0.2)[..., ::7] *= 1e-4
    return model.half().float()


def logits(model: GPTJForCausalLM) -> torch.Tensor:
    small = built(model, "cpu-compiled")
    with torch.inference_mode():
        hidden = small.prefill(small.make_cache(1), Chunk(PROMPT, 0, 0, len(PROMPT)))
        return torch.cat((small.logits(hidden), small.logits(hidden[-1:])))


@pytest.fixture
def dtypes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The dtypes that the weights of the three kinds of products are kept in."""
    found: list[str] = []
    narrow = compiled._narrow

    def record(panels: np.ndarray) -> np.ndarray:
        narrowed = narrow(panels)
        found.append(str(narrowed.dtype))
        return narrowed

    monkeypatch.setattr(compiled, "_narrow", record)
    return found


@pytest.mark.skipif(not compiled.HAS_HALF, reason="the processor does not widen float16")
def test_float16_weights_give_the_bits_of_float32_weights(
    dtypes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    narrowed = logits(make_model())
    assert dtypes == ["uint16"] * 3
    monkeypatch.setattr(compiled, "_narrow", lambda panels: panels)
    assert torch.equal(narrowed, logits(make_model()))


def test_weights_that_are_not_exact_in_float16_stay_float32(
    dtypes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> GPTJForCausalLM:
        model = make_model()
        model.lm_head.weight.data *= 1 + 2**-12
        model.transformer.h[1].mlp.fc_out.weight.data *= 1 + 2**-12
        model.transformer.h[0].mlp.fc_in.weight.data[0, 0] = 70000.0  # overflows in float16
        return model

    kept = logits(make())
    assert dtypes == ["float32"] * 3
    monkeypatch.setattr(compiled, "_narrow", lambda panels: panels)
    assert torch.equal(kept, logits(make()))


@torch.inference_mode()
def test_a_16_bit_cache_holds_what_a_32_bit_cache_does_rounded() -> None:
    wide, narrow = (built(make_model(), "cpu-compiled") for _ in range(2))
    assert narrow.narrow_cache()
    caches = wide.make_cache(1), narrow.make_cache(1)
    for model, cache in zip((wide, narrow), caches, strict=True):
        model.prefill(cache, Chunk(PROMPT, 0, 0))
    kept, rounded = (cache.storage for cache in caches)
    assert rounded.dtype == torch.bfloat16
    assert torch.equal(rounded[0], kept[0].bfloat16())  # further layers see rounded values
    assert rounded.float().allclose(kept, rtol=0.05, atol=0.05)


@torch.inference_mode()
def test_logits_with_a_16_bit_cache_change_little_and_not_with_the_batch() -> None:
    wide, narrow = (built(make_model(), "cpu-compiled") for _ in range(2))
    assert narrow.narrow_cache()
    cache, alone = narrow.make_cache(2), narrow.make_cache(2)
    tokens = list(PROMPT)
    prefilled = narrow.logits(narrow.prefill(cache, Chunk(tokens, 1, 0, len(tokens))))
    exact = wide.logits(wide.prefill(wide.make_cache(1), Chunk(tokens, 0, 0, len(tokens))))
    distance = (prefilled.log_softmax(-1) - exact.log_softmax(-1)).abs().max().item()
    assert 0 < distance < 0.05
    for position, token in enumerate(tokens):
        row = Rows([token], [position], [0])
        decoded = narrow.logits(narrow.decode(alone, row))
        assert torch.equal(decoded[0], prefilled[position])
    two = Rows([tokens[-1], tokens[-1]], [0, len(tokens) - 1], [0, 1])
    assert torch.equal(narrow.logits(narrow.decode(cache, two))[1], prefilled[-1])


@pytest.mark.parametrize("length", [33, 50])
@torch.inference_mode()
def test_prefill_gives_the_same_bits_with_any_number_of_threads_and_as_decoding(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = [(7 * n) % 100 for n in range(length)]
    found = []
    for cores in (1, 3):
        monkeypatch.setattr(compiled, "available_cores", lambda cores=cores: cores)
        model = built(make_model(), "cpu-compiled")
        cache = model.make_cache(2)
        found.append(model.prefill(cache, Chunk(tokens, 1, 0, length)))
        found.append(cache.storage[:, :, cache.tables[1]])
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[3])
    for position, token in enumerate(tokens):
        decoded = model.decode(cache, Rows([token], [position], [0]))
        assert torch.equal(decoded[0], found[0][position])
