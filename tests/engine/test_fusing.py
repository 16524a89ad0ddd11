"""The blocks' memory while they are fused."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gptj_demo.engine.load.weights import _quantize
from gptj_demo.engine.model import fusing
from tests.engine.checkpoints import make_model


@pytest.mark.parametrize("take", [fusing.take_layers, fusing.take_int8_layers])
def test_a_block_is_released_before_its_layer_is_returned(
    take: Callable[[Any], Iterator[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(n_layer=3)
    if take is fusing.take_int8_layers:
        _quantize(model, model.state_dict(), "cpu", lambda *_: None)
    blocks = [weakref.ref(block) for block in model.transformer.h]
    alive: list[list[bool]] = []

    def note() -> None:
        alive.append([block() is not None for block in blocks])

    monkeypatch.setattr(fusing, "return_freed_memory", note)
    layers = take(model)
    for done in range(1, 4):
        next(layers)
        assert len(alive) == done
    assert alive == [[False, True, True], [False, False, True], [False, False, False]]
