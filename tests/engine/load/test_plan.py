"""Which checkpoint is taken, in which precision, for how many streams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear8bitLt
from transformers import GPTJConfig

from gptj_demo.engine.load import (
    make_plan,
    memory_needed,
    parameter_count,
    plan,
    weight_bytes,
)
from gptj_demo.engine.load.memory import (
    Footprint,
    kv_bytes_per_token,
    streams_that_fit,
    tokens_that_fit,
)
from gptj_demo.engine.load.plan import GPT_J, Plan
from gptj_demo.engine.machine import USABLE_MEMORY
from gptj_demo.settings import Settings
from gptj_demo.texts import message
from tests.engine.checkpoints import (
    make_checkpoint,
)
from tests.engine.fake_hub import FakeHub
from tests.engine.load.conftest import GB, ODD_SHAPE, PRECISIONS, load, refusal


def test_gpt_j_6b_is_counted_as_transformers_counts_it() -> None:
    config = GPTJConfig()
    assert parameter_count(config) == 6_050_882_784
    assert weight_bytes(config, "float32") == 4 * 6_050_882_784
    assert weight_bytes(config, "float16") == weight_bytes(config, "bfloat16") == 12_101_765_568
    assert weight_bytes(config, "int8") == pytest.approx(6.47 * GB, rel=0.005)
    assert kv_bytes_per_token(config, "float16") == 448 * 1024
    assert kv_bytes_per_token(config, "int8") == 448 * 1024
    assert kv_bytes_per_token(config, "float32") == 896 * 1024
    assert kv_bytes_per_token(config, "float32", "bfloat16") == 448 * 1024


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shape", [{}, ODD_SHAPE], ids=["plain", "odd"])
def test_weights_take_the_bytes_that_are_planned(
    precision: str, shape: dict[str, Any], tmp_path: Path
) -> None:
    model = load(make_checkpoint(tmp_path, **shape), precision)
    scales = sum(
        module.weight.SCB.nbytes for module in model.modules() if isinstance(module, Linear8bitLt)
    )
    taken = sum(parameter.nbytes for parameter in model.parameters()) + scales
    assert weight_bytes(model.config, precision) == taken


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("tokens", [220, 2048])
def test_streams_that_fit_returns_the_largest_number_that_fits_in_memory(
    precision: str, tokens: int
) -> None:
    config = GPTJConfig()
    for memory in range(0, 64 * GB, 3 * GB):
        streams = streams_that_fit(memory, tokens, Footprint(config, precision))
        assert memory_needed(config, precision, streams + 1, tokens) > memory
        assert streams == 0 or memory_needed(config, precision, streams, tokens) <= memory


def test_tokens_that_fit_returns_the_largest_number_of_whole_pages() -> None:
    config = GPTJConfig()
    for memory in range(14 * GB, 64 * GB, 3 * GB):
        tokens = tokens_that_fit(memory, 7, Footprint(config, "float16"))
        used = memory_needed(config, "float16", 7, 0) + tokens * 448 * 1024
        assert tokens % 16 == 0
        assert used <= memory < used + 16 * 448 * 1024


@pytest.mark.parametrize(
    ("device", "gigabytes", "precision", "usual", "full"),
    [
        ("cpu", 14.4, "int8", 32, 7),  # nine tenths of 16 GB
        ("gpu", 15.07, "int8", 71, 7),  # a T4
        ("gpu", 22.66, "float16", 89, 9),  # an A10G
        ("gpu", 80.64, "float16", 256, 70),  # an A100 or H100
        ("gpu", 143.04, "float16", 256, 137),  # an H200
    ],
)
def test_a_machine_has_room_for_more_texts_of_usual_length_than_full_contexts(
    device: str,
    gigabytes: float,
    precision: str,
    usual: int,
    full: int,
    full_size: Path,
    machine: Any,
) -> None:
    machine(**{device: gigabytes})
    plan = make_plan(Settings(model=str(full_size)))
    assert plan.precision == precision
    assert (plan.visitors(220), plan.visitors(2048)) == (usual, full)
    assert plan.max_num_seqs == usual
    assert plan.max_tokens >= usual * 220
    assert f"Room for {usual} visitors at once, with 220 tokens each." in str(plan.why)
    assert f"Room for {full} visitors at once, with 2,048 tokens each." in str(plan.why)


def test_the_cache_of_a_plan_holds_a_full_context_at_least(full_size: Path, machine: Any) -> None:
    for megabytes in range(8_500, 10_500, 50):
        machine(gpu=megabytes / 1000)
        plan = make_plan(Settings(model=str(full_size), precision="int8"))
        assert plan.max_tokens >= 2048
        assert plan.visitors(2048) >= 1


def test_more_streams_than_the_default_can_be_asked_for(full_size: Path, machine: Any) -> None:
    machine(gpu=135)
    assert make_plan(Settings(model=str(full_size), max_num_seqs=1000)).max_num_seqs == 1000


def test_a_plan_with_less_room_goes_down_to_one_context(full_size: Path, machine: Any) -> None:
    machine(gpu=22)
    plan: Plan | None = make_plan(Settings(model=str(full_size)))
    sizes = []
    while plan is not None:
        sizes.append((plan.max_num_seqs, plan.max_tokens))
        plan = plan.smaller()
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == (9, 2048)


@pytest.mark.parametrize(
    ("gigabytes", "precision"),
    [
        (72, "float16"),
        (21, "float16"),
        (14, "int8"),  # 16 bits would leave room for one context alone
        (9, "int8"),
    ],
)
def test_a_gpu_gets_float16_where_four_contexts_fit_and_else_int8(
    gigabytes: float, precision: str, full_size: Path, machine: Any
) -> None:
    machine(gpu=gigabytes)
    plan = make_plan(Settings(model=str(full_size)))
    assert (plan.precision, plan.device) == (precision, "cuda")
    assert precision in str(plan.why)


def give_gpu(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """A T4 with so many bytes free."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 15_835_660_288))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))


def test_a_t4_has_room_for_seven_contexts_in_8_bits_and_for_two_in_16(
    full_size: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the 15.8 GB of a T4, CUDA leaves 15.7 free."""
    give_gpu(monkeypatch, 15_700_000_000)
    plan = make_plan(Settings(model=str(full_size)))
    assert (plan.precision, plan.device_name, plan.max_num_seqs) == ("int8", "a T4", 71)
    assert "16 bits would leave too little room" in str(plan.why)
    assert "Room for 7 visitors at once, with 2,048 tokens each." in str(plan.why)
    assert make_plan(Settings(model=str(full_size), precision="float16")).visitors(2048) == 2
    one = make_plan(Settings(model=str(full_size), max_num_seqs=1))
    assert "Room for 1 visitor at once, with 2,048 tokens each." in str(one.why)


@pytest.mark.parametrize(
    ("free", "contexts"),
    [
        (16 * GB, 2),
        (int(14.58 * 2**30), 2),  # a T4
        (15 * GB, 1),
        (int(14.7 * GB), 1),  # the least
    ],
)
def test_float16_on_a_card_of_16_gb_gets_as_many_tokens_as_fit(
    free: int, contexts: int, full_size: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_gpu(monkeypatch, free)
    plan = make_plan(Settings(model=str(full_size), precision="float16"))
    assert (plan.precision, plan.device) == ("float16", "cuda")
    visitors = "2 visitors" if contexts == 2 else "1 visitor"
    assert f"Room for {visitors} at once, with 2,048 tokens each." in str(plan.why)
    cache = plan.max_tokens * kv_bytes_per_token(plan.config, "float16")
    needed = memory_needed(plan.config, "float16", plan.max_num_seqs, 0) + cache
    left = int(free * USABLE_MEMORY["cuda"]) - needed
    assert 0 <= left < 16 * kv_bytes_per_token(plan.config, "float16")
    assert make_plan(Settings(model=str(full_size))).precision == "int8"
    streams = plan.max_num_seqs
    message = refusal(model=str(full_size), precision="float16", max_num_seqs=streams + 1)
    assert f"set max_num_seqs to {streams} or less" in message


def test_float16_on_a_12_gb_gpu_is_refused_and_int8_is_suggested(
    full_size: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_gpu(monkeypatch, 12 * GB)
    message = refusal(model=str(full_size), precision="float16")
    assert "in float16 needs 14.0 GB of memory with one context" in message
    assert "11.5 GB can be used on a T4: set precision to int8, which fits." in message
    assert make_plan(Settings(model=str(full_size))).visitors(2048) == 4


def test_a_processor_gets_float32_for_a_small_model_and_int8_for_a_large_one(
    tiny: Path, full_size: Path, machine: Any
) -> None:
    assert make_plan(Settings(model=str(tiny))).precision == "float32"
    plan = make_plan(Settings(model=str(full_size)))
    assert (plan.precision, plan.device, plan.device_name) == ("int8", "cpu", "a processor")
    assert plan.max_num_seqs == 32
    assert plan.visitors(2048) < 32


def test_a_precision_that_was_asked_for_is_taken(tiny: Path, machine: Any) -> None:
    for precision in PRECISIONS:
        assert make_plan(Settings(model=str(tiny), precision=precision)).precision == precision


def test_a_16_bit_cache_holds_twice_as_many_tokens(tiny: Path, machine: Any) -> None:
    config = GPTJConfig()
    wide = tokens_that_fit(64 * GB, 1, Footprint(config, "float32"))
    narrow = tokens_that_fit(64 * GB, 1, Footprint(config, "float32", "bfloat16"))
    assert narrow == pytest.approx(2 * wide, abs=48)  # one page of each cache is spare
    plan = make_plan(Settings(model=str(tiny), kv_dtype="bfloat16"))
    assert "Keys and values are kept in bfloat16." in str(plan.why)
    assert "Keys and values" not in str(make_plan(Settings(model=str(tiny))).why)


def test_a_16_bit_cache_is_refused_if_the_forward_path_keeps_32_bits(
    tiny: Path, full_size: Path, machine: Any
) -> None:
    assert make_plan(Settings(model=str(full_size), kv_dtype="bfloat16")).precision == "int8"
    machine(cpu=64)
    said = refusal(model=str(full_size), precision="float32", kv_dtype="bfloat16")
    assert "kv_dtype is bfloat16" in said
    assert "Set kv_dtype to auto" in said
    said = refusal(model=str(tiny), backend="eager", kv_dtype="bfloat16")
    assert "Set kv_dtype to auto" in said
    machine(gpu=16)
    said = refusal(model=str(tiny), precision="float32", kv_dtype="bfloat16")
    assert "Set kv_dtype to auto" in said


def test_a_larger_max_num_seqs_selects_int8(full_size: Path, machine: Any) -> None:
    machine(gpu=18)
    assert make_plan(Settings(model=str(full_size))).precision == "float16"
    plan = make_plan(Settings(model=str(full_size), max_num_seqs=80))
    assert (plan.precision, plan.max_num_seqs) == ("int8", 80)


def test_a_model_that_does_not_fit_is_refused_with_both_numbers_and_advice(
    full_size: Path, machine: Any
) -> None:
    message = refusal(model=str(full_size), precision="float32")
    assert "float32" in message
    assert "16.0 GB" in message
    assert f"{memory_needed(GPTJConfig(), 'float32', 1, 2048) / GB:.1f} GB" in message
    assert "int8" in message
    machine(cpu=4)
    assert "sample" in refusal(model=str(full_size))


def test_too_many_streams_are_refused_with_the_number_that_fits(
    full_size: Path, machine: Any
) -> None:
    message = refusal(model=str(full_size), max_num_seqs=200)
    assert "200 streams of 220 tokens do not fit" in message
    fitting = int(message.split("set max_num_seqs to ")[1].split()[0])
    assert make_plan(Settings(model=str(full_size), max_num_seqs=fitting)).max_num_seqs == fitting
    assert f"{fitting} do" in refusal(model=str(full_size), max_num_seqs=fitting + 1)


def test_without_a_gpu_auto_is_the_sample_model(sample: Path, machine: Any) -> None:
    plan = make_plan(Settings(model="auto"))
    assert plan.is_sample
    assert (plan.name, plan.source, plan.revision) == ("sample model", str(sample), None)
    assert (plan.precision, plan.device, plan.max_num_seqs) == ("float32", "cpu", 32)
    assert "GPU" in str(plan.why)
    command = "make run MODEL=EleutherAI/gpt-j-6b: it downloads 12 GB once and needs 8.4 GB"
    assert command in str(plan.why)
    assert "16.0 GB can be used" in str(plan.why)


def test_a_space_without_a_gpu_serves_gpt_j_in_8_bits(
    full_size: Path, machine: Any, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYSTEM", "spaces")
    hub.publish(GPT_J, "float16", full_size)
    machine(cpu=14.4)  # nine tenths of 16 GB
    plan = make_plan(Settings(model="auto"))
    assert (plan.name, plan.precision, plan.device) == ("GPT-J 6B", "int8", "cpu")
    assert plan.max_num_seqs >= 4
    assert "The memory of this Space has room for GPT-J 6B." in str(plan.why)
    assert make_plan(Settings(model="sample")).is_sample


def test_a_space_without_room_for_gpt_j_serves_the_sample_model(
    sample: Path, full_size: Path, machine: Any, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYSTEM", "spaces")
    hub.publish(GPT_J, "float16", full_size)
    machine(cpu=7)
    plan = make_plan(Settings(model="auto"))
    assert plan.is_sample
    assert "GPT-J 6B cannot run here" in str(plan.why)


def test_a_gpu_without_room_for_gpt_j_gets_the_sample_model(
    sample: Path, full_size: Path, machine: Any, hub: FakeHub
) -> None:
    hub.publish(GPT_J, "float16", full_size)
    machine(gpu=4)
    plan = make_plan(Settings(model="auto"))
    assert (plan.is_sample, plan.device) == (True, "cuda")
    assert "4.0 GB" in str(plan.why)
    machine(gpu=0)
    plan = make_plan(Settings(model="auto"))
    assert (plan.is_sample, plan.device) == (True, "cpu")


def test_a_missing_sample_model_is_refused(
    tmp_path: Path, machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SAMPLE_MODEL", tmp_path / "none")
    assert "tools/train_sample_model.py" in refusal(model="sample")


def test_a_gpu_that_torch_cannot_use_is_the_reason_for_the_sample_model(
    sample: Path, machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "gpu_problem", lambda: message("why.driver_is_old", cuda="13.0"))
    for model in ("auto", "sample"):
        assert "Update the NVIDIA driver" in str(make_plan(Settings(model=model)).why)


@pytest.mark.parametrize(
    ("backend", "device", "precision"),
    [
        ("auto", "cuda", "float16"),
        ("eager", "cuda", "float16"),
        ("cuda-graphs", "cuda", "float16"),
        ("cpu-int8", "cpu", "int8"),
    ],
)
def test_a_forward_path_is_planned_on_the_device_that_it_runs_on(
    backend: str, device: str, precision: str, full_size: Path, machine: Any
) -> None:
    machine(cpu=16, gpu=24)
    plan = make_plan(Settings(model=str(full_size), backend=backend))
    assert (plan.device, plan.precision) == (device, precision)


def test_auto_is_the_sample_model_where_the_path_of_a_processor_was_asked_for(
    sample: Path, machine: Any
) -> None:
    machine(cpu=16, gpu=24)
    plan = make_plan(Settings(model="auto", backend="cpu-compiled"))
    assert (plan.is_sample, plan.device) == (True, "cpu")
    assert "The forward path cpu-compiled runs on a processor" in str(plan.why)
    assert "There is no GPU" not in str(plan.why)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_path_of_a_gpu_is_refused_where_there_is_none(
    precision: str, tiny: Path, machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"model": str(tiny), "backend": "cuda-graphs", "precision": precision}
    assert "cuda-graphs runs on a GPU, and there is none here" in refusal(**settings)
    monkeypatch.setattr(plan, "gpu_problem", lambda: message("why.driver_is_old", cuda="13.0"))
    assert "Update the NVIDIA driver" in refusal(**settings)


@pytest.mark.parametrize(
    ("backend", "precision", "said"),
    [
        ("cpu-int8", "float32", "the weights are in float32, and it is for int8"),
        ("cpu-compiled", "bfloat16", "the weights are in bfloat16, and it is for float32"),
        ("cpu-compiled", "float32", "for a model of this size"),
        ("fastest", "auto", "backend is fastest; it must be one of auto, cuda-graphs"),
    ],
)
def test_a_forward_path_that_does_not_fit_the_model_is_refused(
    backend: str, precision: str, said: str, full_size: Path, machine: Any
) -> None:
    machine(cpu=64, gpu=64)
    assert said in refusal(model=str(full_size), backend=backend, precision=precision)
