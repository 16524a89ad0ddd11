"""Rows that two threads compute together, or each thread some of them: the same bits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from transformers import GPTJConfig, GPTJForCausalLM

from gptj_demo.engine.model import Batch, Chunk, Rows
from gptj_demo.engine.model.cpu import compiled, passes
from gptj_demo.engine.model.cpu.compiled import CompiledModel
from gptj_demo.engine.model.cpu.faster import Faster
from gptj_demo.engine.model.cpu.layers import TILE

# heads, head_dim, d_ff, vocabulary: one group of heads, two, four; whole panels and others
SHAPES = [(3, 16, 192, 100), (4, 16, 256, 700), (4, 32, 500, 33), (1, 64, 96, 290)]
SLOTS, CONTEXT = 3, 160


def make_model(heads: int, head_dim: int, d_ff: int, vocabulary: int) -> CompiledModel:
    torch.manual_seed(heads)
    model = GPTJForCausalLM(
        GPTJConfig(
            vocab_size=vocabulary,
            n_positions=CONTEXT,
            n_embd=heads * head_dim,
            n_layer=2,
            n_head=heads,
            n_inner=d_ff,
            rotary_dim=8,
        )
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter.data, std=0.2)
    return CompiledModel(model.half().float())


@pytest.fixture
def way(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The way that rows are run from now on: its only entry, 0 for apart and 1 for together."""
    chosen = [0]
    monkeypatch.setattr(Faster, "choose", lambda _: chosen[0])
    monkeypatch.setattr(compiled, "available_cores", lambda: 2)
    return chosen


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@torch.inference_mode()
def test_rows_have_the_same_bits_together_and_apart(shape: tuple[int, ...], way: list[int]) -> None:
    model = make_model(*shape)
    vocabulary = shape[3]
    prompt = [n % vocabulary for n in range(3, TILE)]
    steps = [
        Batch(chunks=[Chunk(prompt[:9], 0, 0, 2)]),
        Batch(chunks=[Chunk(prompt, 1, 0, 1)]),
        Batch(chunks=[Chunk(prompt[:1], 2, 0, 1)]),
        Batch(chunks=[Chunk(prompt[:5], 2, 1, 0)]),
        Batch(Rows([1, 2, 3], [9, len(prompt), 6], [0, 1, 2])),
        Batch(Rows([4, 5, 6, 7, 8, 9], [10, 11, 12, 13, 14, 7], [0, 0, 0, 0, 0, 2])),
        Batch(Rows([1], [8], [2])),
    ]
    found = []
    for way[0] in (0, 1):
        cache = model.make_cache(SLOTS)
        found.append([model.forward(cache, step) for step in steps])
        found[-1].append(cache.storage)
    for apart, together in zip(*found, strict=True):
        assert torch.equal(apart, together)


@torch.inference_mode()
def test_logits_do_not_depend_on_how_many_rows_a_pass_has(way: list[int]) -> None:
    model = make_model(*SHAPES[2])
    cache, count = model.make_cache(TILE + 6), TILE + 6
    rows = Rows([n % 33 for n in range(count)], [0] * count, list(range(count)))
    at_once = model.forward(cache, Batch(rows))  # more than go through the model together
    for way[0] in (0, 1):
        for number in (0, 5, TILE, count - 1):
            alone = model.forward(cache, Batch(Rows([number % 33], [0], [number])))
            assert torch.equal(alone[0], at_once[number])
        few = Rows(rows.token_ids[:TILE], [0] * TILE, list(range(TILE)))
        assert torch.equal(model.forward(cache, Batch(few)), at_once[:TILE])


@torch.inference_mode()
def test_no_rows_have_no_logits(way: list[int]) -> None:
    model = make_model(*SHAPES[0])
    assert model.forward(model.make_cache(1), Batch(Rows([], [], []))).shape == (0, 100)


@torch.inference_mode()
def test_a_helper_joins_ends_and_joins_again(
    way: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is the same if the helper starts late, has left, or was dismissed."""
    model = make_model(*SHAPES[2])
    cache = model.make_cache(1)
    pool = ThreadPoolExecutor(1)
    runner = model._runner(cache)
    one = runner._together
    assert one is not None
    hidden = model._embedding[[3]]
    slots = positions = np.zeros(1, np.int64)

    def run(helpers: ThreadPoolExecutor | None) -> np.ndarray:
        given = hidden, slots, positions, 0
        return one.run(*given, wants_logits=True, helpers=helpers).copy()

    expected = run(None)
    for patience in (1, 10**6):
        monkeypatch.setattr(passes, "_patience", lambda patience=patience: patience)
        for number in range(300):
            assert np.array_equal(run(pool if number % 7 else None), expected)
            if number % 5 == 0:
                one.dismiss()
    one.dismiss()
    pool.shutdown(wait=True)


def test_a_helper_takes_a_part_of_the_items(way: list[int]) -> None:
    """The helper alone runs a whole pass, if the other thread takes no items."""
    model = make_model(*SHAPES[2])
    one = model._runner(model.make_cache(1))._together
    assert one is not None
    slots = positions = np.zeros(1, np.int64)
    given = model._embedding[[5]], slots, positions, 0
    expected = one.run(*given, wants_logits=True).copy()
    one._logits[:] = 0
    one._hidden[:1] = model._embedding[[5]]
    one._state[passes._DONE] = 0
    one._state[passes._NEXT] = 0
    one._state[passes._PASS] = 1
    passes._help(one._state, 0, 1, one._given, one._helpers_normed)
    assert np.array_equal(one._logits[:1], expected)


def test_one_core_has_no_helper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "available_cores", lambda: 1)
    model = make_model(*SHAPES[0])
    assert model._runner(model.make_cache(1))._together is None
