"""The engine's start: what it tries before it says that it is ready."""

from __future__ import annotations

import pytest
import torch

from gptj_demo.engine import loop
from gptj_demo.engine.load import Refusal, make_plan
from gptj_demo.settings import Settings


def ignore(message: object) -> None:
    pass


def test_a_prompt_of_the_whole_context_can_be_tried() -> None:
    settings = Settings(model="sample", max_streams=1)
    engine = loop.load(settings, ignore)
    loop.warm_up(engine, make_plan(settings).config.n_positions - 4)
    assert engine.is_idle


def test_too_little_memory_for_the_trial_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run_out(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(loop, "warm_up", run_out)
    with pytest.raises(Refusal, match=r"sample model in float32 with 3 streams .* set max_streams"):
        loop.load(Settings(model="sample", max_streams=3), ignore)
