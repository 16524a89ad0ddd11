"""The engine's start: what it tries before it says that it is ready."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from transformers import GPTJForCausalLM

from gptj_demo.engine import load as loading
from gptj_demo.engine import loop, starting
from gptj_demo.engine.engine import Engine
from gptj_demo.engine.load import Refusal
from gptj_demo.engine.model import Batch, ForwardModel, KVCache, select
from gptj_demo.pages import PAGE_TOKENS
from gptj_demo.protocol import EngineStatus
from gptj_demo.settings import Settings
from tests.processes import ROOT


class Panic(BaseException):
    """As the libraries written in Rust raise it."""


def ignore(message: object) -> None:
    pass


@pytest.mark.parametrize("streams", [1, 5])
def test_the_trial_samples_every_slot_while_a_whole_chunk_of_logits_is_wanted(
    streams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, seen = select._build_compiled, list[tuple[int, int]]()

    def build_like_a_gpus(weights: GPTJForCausalLM) -> ForwardModel:
        model = build(weights)
        forward = model.forward

        def note(cache: KVCache, batch: Batch) -> torch.Tensor:
            decoded = 0 if batch.rows is None else len(set(batch.rows.slots))
            seen.append((decoded, sum(chunk.wanted for chunk in batch.chunks)))
            return forward(cache, batch)

        monkeypatch.setattr(model, "forward", note)
        model.tries_most_memory = True
        return model

    paths = tuple(
        replace(path, build=build_like_a_gpus) if path.name == "cpu-compiled" else path
        for path in select.PATHS
    )
    monkeypatch.setattr(select, "PATHS", paths)
    engine = loop.load(Settings(model="sample", max_num_seqs=streams, speculation="off"), ignore)
    assert engine.is_idle
    assert max(seen) >= (streams, 0)
    assert any(rows == streams - 1 and wanted >= 200 for rows, wanted in seen)


_COUNT_SIGNATURES = """
from gptj_demo.engine import loop, starting
from gptj_demo.engine.compilation import compiled_functions
from gptj_demo.engine.load import make_plan
from gptj_demo.settings import Settings

settings = Settings(model="sample", precision="int8", max_num_seqs=3)
count = lambda: sum(len(one.signatures) for one in compiled_functions())
starting.compile_code(make_plan(settings), settings.backend, lambda *_: None)
before = count()
loop.load(settings, lambda _: None)
print(before, count())
"""


def test_the_code_is_compiled_before_the_weights_of_an_int8_model_are_loaded() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _COUNT_SIGNATURES], cwd=ROOT, capture_output=True, text=True
    )
    before, after = map(int, run.stdout.split())
    assert before == after > 0


def test_too_little_memory_for_the_trial_is_reported_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run_out(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(starting, "warm_up", run_out)
    with pytest.raises(Refusal, match=r"with a KV cache of 3072 tokens .* set max_num_seqs"):
        loop.load(Settings(model="sample", max_num_seqs=3), ignore)


def test_the_cache_is_smaller_where_the_memory_is_less_than_planned(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[int] = []
    warm_up = starting.warm_up

    def run_out(engine: Engine, context: int) -> None:
        tried.append(engine._runner.cache.pages * PAGE_TOKENS)
        if tried[-1] > 20_000:
            raise torch.OutOfMemoryError
        warm_up(engine, context)

    monkeypatch.setattr(starting, "warm_up", run_out)
    sent: list[object] = []
    caplog.set_level("INFO")
    loop.load(Settings(model="sample"), sent.append)
    assert tried == [32 * 1024, 24 * 1024, 18 * 1024]
    status = sent[-1]
    assert isinstance(status, EngineStatus)
    assert status.model is not None
    assert (status.model.max_num_seqs, status.model.max_tokens) == (32, 18 * 1024)
    assert "Room for 18 visitors at once, with 1,024 tokens each." in str(status.detail)
    assert "Room for 18 visitors at once, with 1,024 tokens each." in caplog.text


def test_a_small_model_can_keep_keys_and_values_in_16_bits() -> None:
    engine = loop.load(Settings(model="sample", kv_dtype="bfloat16"), ignore)
    assert engine._runner.cache.storage.dtype == torch.bfloat16


def test_a_16_bit_cache_is_refused_where_no_code_can_be_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(select, "_compiled_unfit", lambda model: "numba is missing")
    with pytest.raises(Refusal, match="the forward path eager keeps keys and values in float32"):
        loop.load(Settings(model="sample", kv_dtype="bfloat16"), ignore)


def test_memory_for_no_stream_at_all_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(starting, "warm_up", run_out)
    with pytest.raises(Refusal, match="with a KV cache of 1024 tokens ran out of memory"):
        loop.load(Settings(model="sample"), ignore)


def test_a_lack_of_memory_while_layers_are_fused_is_reported_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run_out(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 224.00 MiB.")

    monkeypatch.setattr(starting, "build_model", run_out)
    with pytest.raises(Refusal, match=r"sample model in float32 ran out of memory on .*Free some"):
        loop.load(Settings(model="sample"), ignore)


def test_a_backend_that_cannot_be_used_is_refused_before_weights_are_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[object] = []
    monkeypatch.setattr(loading, "load_model", lambda *_: loaded.append(None))
    for backend in ("cuda-graphs", "cpu-int8"):
        with pytest.raises(Refusal, match=f"The backend {backend}"):
            loop.load(Settings(model="sample", backend=backend), loaded.append)
    assert all(isinstance(one, EngineStatus) for one in loaded)


@pytest.mark.parametrize(
    "error", [KeyError("x"), MemoryError(), AssertionError("no\nway"), Panic()]
)
def test_any_other_exception_while_loading_is_refused_with_one_sentence(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(starting, "build_model", fail)
    with pytest.raises(Refusal) as caught:
        loop.load(Settings(model="sample"), ignore)
    said = str(caught.value)
    assert "The model sample cannot be loaded" in said
    assert type(error).__name__ in said
    assert said.isprintable()
    assert not caplog.records


def test_a_closed_socket_is_not_reported_as_a_refusal() -> None:
    def closed(_: object) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        loop.load(Settings(model="sample"), closed)
