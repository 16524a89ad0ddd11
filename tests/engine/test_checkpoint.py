"""Which checkpoint is taken, in which precision, and that it is loaded as it was stored."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear8bitLt
from tokenizers import Tokenizer
from transformers import GPTJConfig

from gptj_demo.engine import checkpoint
from gptj_demo.engine.checkpoint import (
    GPT_J,
    Plan,
    Refusal,
    kv_bytes_per_token,
    load_model,
    load_tokenizer_json,
    make_plan,
    memory_needed,
    parameter_count,
    streams_that_fit,
    weight_bytes,
)
from gptj_demo.engine.machine import Machine
from gptj_demo.settings import Settings
from tests.engine.checkpoints import (
    EMBEDDING_ROWS,
    END_OF_TEXT,
    LAYOUTS,
    TEXT_TOKENS,
    Layout,
    copy_checkpoint,
    make_checkpoint,
    make_config,
    make_model,
    write_tokenizer,
)
from tests.engine.fake_hub import FakeHub, commit_of, serve_hub

GB = 1_000_000_000
PRECISIONS = ("float32", "float16", "bfloat16", "int8")
ODD_SHAPE: dict[str, Any] = {"n_embd": 24, "n_head": 3, "n_layer": 3, "n_inner": 40}

Reports = list[tuple[str, float | None]]


@pytest.fixture(autouse=True)
def _clean_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"GPTJ_{name.upper()}", raising=False)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the devices that a plan is made for: gigabytes on a GPU, if any, and on the CPU."""

    def set_machine(*, cpu: float = 16, gpu: float | None = None) -> None:
        machines = [Machine("cpu", "a processor", int(cpu * GB))]
        if gpu is not None:
            machines.insert(0, Machine("cuda", "a GPU", int(gpu * GB)))
        monkeypatch.setattr(checkpoint, "find_machines", lambda: machines)

    set_machine()
    return set_machine


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that says it is GPT-J 6B; its weights are empty, for a plan reads none."""
    folder = tmp_path_factory.mktemp("checkpoints") / "full-size"
    GPTJConfig().save_pretrained(folder)
    write_tokenizer(folder)
    (folder / "pytorch_model.bin").touch()
    return folder


@pytest.fixture
def sample(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(checkpoint, "SAMPLE_MODEL", tiny)
    return tiny


def ignore(detail: str, progress: float | None = None) -> None:
    """A report that nobody reads."""


def load(folder: Path, precision: str, reports: Reports | None = None) -> Any:
    plan = make_plan(Settings(model=str(folder), precision=precision))
    report = ignore if reports is None else lambda *report: reports.append(report)
    return load_model(plan, report)


def refusal(**settings: Any) -> str:
    with pytest.raises(Refusal) as caught:
        make_plan(Settings(**settings))
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


# ---- arithmetic


def test_gpt_j_6b_is_counted_as_transformers_counts_it() -> None:
    config = GPTJConfig()
    assert parameter_count(config) == 6_050_882_784
    assert weight_bytes(config, "float32") == 4 * 6_050_882_784
    assert weight_bytes(config, "float16") == weight_bytes(config, "bfloat16") == 12_101_765_568
    assert weight_bytes(config, "int8") == pytest.approx(6.47 * GB, rel=0.005)
    assert kv_bytes_per_token(config, "float16") == 448 * 1024
    assert kv_bytes_per_token(config, "int8") == 448 * 1024
    assert kv_bytes_per_token(config, "float32") == 896 * 1024


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


def test_streams_that_fit_are_those_whose_whole_memory_fits() -> None:
    config = GPTJConfig()
    for precision in PRECISIONS:
        for memory in range(0, 64 * GB, 3 * GB):
            streams = streams_that_fit(config, precision, memory)
            assert memory_needed(config, precision, streams + 1) > memory
            assert streams == 0 or memory_needed(config, precision, streams) <= memory


# ---- the plan


@pytest.mark.parametrize(
    ("gigabytes", "precision", "streams"),
    [
        (72, "float16", 32),  # a card of 80 GB: as many streams as are made by default
        (21, "float16", 8),
        (14, "int8", 7),  # 16 bits would leave room for one stream alone
        (9, "int8", 1),
    ],
)
def test_a_gpu_gets_float16_where_four_streams_fit_and_else_int8(
    gigabytes: float, precision: str, streams: int, full_size: Path, machine: Any
) -> None:
    machine(gpu=gigabytes)
    plan = make_plan(Settings(model=str(full_size)))
    assert (plan.precision, plan.device) == (precision, "cuda")
    assert plan.max_streams == pytest.approx(streams, abs=1)
    assert plan.max_streams <= 32
    assert precision in str(plan.why)


def test_a_t4_has_room_for_eight_visitors_in_8_bits_and_for_two_in_16(
    full_size: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its 15.8 GB, 15.7 are free beside CUDA itself."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (15_700_000_000, 15_835_660_288))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a T4")
    plan = make_plan(Settings(model=str(full_size)))
    assert (plan.precision, plan.device_name, plan.max_streams) == ("int8", "a T4", 8)
    assert "16 bits would leave too little room" in str(plan.why)
    assert "Room for 8 visitors at once, with 2,048 tokens each." in str(plan.why)
    assert make_plan(Settings(model=str(full_size), precision="float16")).max_streams == 2
    one = make_plan(Settings(model=str(full_size), max_streams=1))
    assert "Room for 1 visitor at once, with 2,048 tokens each." in str(one.why)


def test_a_processor_gets_float32_for_a_small_model_and_int8_for_a_large_one(
    tiny: Path, full_size: Path, machine: Any
) -> None:
    assert make_plan(Settings(model=str(tiny))).precision == "float32"
    plan = make_plan(Settings(model=str(full_size)))
    assert (plan.precision, plan.device, plan.device_name) == ("int8", "cpu", "a processor")
    assert 1 < plan.max_streams < 32


def test_a_precision_that_was_asked_for_is_taken(tiny: Path, machine: Any) -> None:
    for precision in PRECISIONS:
        assert make_plan(Settings(model=str(tiny), precision=precision)).precision == precision


def test_more_streams_are_a_reason_for_int8(full_size: Path, machine: Any) -> None:
    machine(gpu=18)
    assert make_plan(Settings(model=str(full_size))).precision == "float16"
    plan = make_plan(Settings(model=str(full_size), max_streams=6))
    assert (plan.precision, plan.max_streams) == ("int8", 6)


def test_what_does_not_fit_is_refused_with_both_numbers_and_advice(
    full_size: Path, machine: Any
) -> None:
    message = refusal(model=str(full_size), precision="float32")
    assert "float32" in message
    assert "16.0 GB" in message
    assert f"{memory_needed(GPTJConfig(), 'float32', 1) / GB:.1f} GB" in message
    assert "int8" in message
    machine(cpu=4)
    assert "sample" in refusal(model=str(full_size))


def test_too_many_streams_are_refused_with_the_number_that_fits(
    full_size: Path, machine: Any
) -> None:
    message = refusal(model=str(full_size), max_streams=200)
    fitting = make_plan(Settings(model=str(full_size))).max_streams
    assert "200" in message
    assert f"{fitting} or less" in message
    assert make_plan(Settings(model=str(full_size), max_streams=fitting)).max_streams == fitting


def test_without_a_gpu_auto_is_the_sample_model(sample: Path, machine: Any) -> None:
    plan = make_plan(Settings(model="auto"))
    assert plan.is_sample
    assert (plan.name, plan.source, plan.revision) == ("sample model", str(sample), None)
    assert (plan.precision, plan.device, plan.max_streams) == ("float32", "cpu", 32)
    assert "GPU" in str(plan.why)


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
    monkeypatch.setattr(checkpoint, "SAMPLE_MODEL", tmp_path / "none")
    assert "tools/train_sample_model.py" in refusal(model="sample")


# ---- folders


def test_a_folder_or_a_weight_file_in_it_is_a_model(tiny: Path, machine: Any) -> None:
    for model in (tiny, tiny / "model.safetensors"):
        plan = make_plan(Settings(model=str(model)))
        assert (plan.name, plan.source, plan.is_sample) == ("tiny", str(tiny), False)


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (("config.json",), "config.json"),
        (("model.safetensors",), "no weights"),
        (("tokenizer.json",), "no tokenizer"),
    ],
)
def test_a_folder_that_lacks_a_part_is_refused(
    files: tuple[str, ...], named: str, tiny: Path, tmp_path: Path, machine: Any
) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy", without=files)
    message = refusal(model=str(folder))
    assert str(folder) in message
    assert named in message


def test_a_missing_shard_is_refused_by_name(tmp_path: Path, machine: Any) -> None:
    folder = make_checkpoint(tmp_path, layout="bin-sharded")
    (folder / "pytorch_model-00002-of-00003.bin").unlink()
    message = refusal(model=str(folder))
    assert "1 of its 3 weight files" in message
    assert "pytorch_model-00002-of-00003.bin" in message


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "gpt2"}, "not a GPT-J"),
        ({"model_type": None}, "not a GPT-J"),
        ({"n_layer": "many"}, "n_layer"),
        ({"quantization_config": {"load_in_8bit": True}}, "quantized"),
    ],
)
def test_a_configuration_that_is_no_gpt_j_is_refused(
    change: dict[str, Any], named: str, tiny: Path, tmp_path: Path, machine: Any
) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy")
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, **change}))
    assert named in refusal(model=str(folder))


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_configuration_that_cannot_be_read_is_refused(
    text: str, tiny: Path, tmp_path: Path, machine: Any
) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy")
    (folder / "config.json").write_text(text)
    assert "config.json" in refusal(model=str(folder))


@pytest.mark.parametrize("model", ["/nowhere/gpt-j", "./gpt-j", "~/gpt-j", "a/b/c", "gpt-j"])
def test_what_is_neither_a_folder_nor_a_hub_id_is_refused(model: str, machine: Any) -> None:
    message = refusal(model=model)
    assert model in message
    assert GPT_J in message


def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path, machine: Any) -> None:
    file = tmp_path / "gpt-j.gguf"
    file.touch()
    assert str(file) in refusal(model=str(file))


# ---- loading


@pytest.mark.parametrize("stored", [torch.float32, torch.float16], ids=["fp32", "fp16"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_loads_what_was_stored(
    layout: Layout, stored: torch.dtype, tmp_path: Path, machine: Any
) -> None:
    folder = make_checkpoint(tmp_path, layout=layout, dtype=stored)
    model = load(folder, "float32")
    assert not model.training
    tensors = model.state_dict()
    for name, expected in make_model().state_dict().items():
        assert tensors[name].dtype == torch.float32
        assert torch.equal(tensors[name], expected.to(stored).float()), name


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("layout", ["bin", "safetensors"])
def test_16_bits_are_the_stored_weights_rounded(
    layout: Layout, precision: str, tmp_path: Path, machine: Any
) -> None:
    model = load(make_checkpoint(tmp_path, layout=layout), precision)
    dtype = getattr(torch, precision)
    tensors = model.state_dict()
    for name, expected in make_model().state_dict().items():
        assert torch.equal(tensors[name], expected.to(dtype)), name


@pytest.mark.parametrize("stored", [torch.float32, torch.float16], ids=["fp32", "fp16"])
@pytest.mark.parametrize("layout", ["bin", "bin-sharded", "safetensors"])
def test_int8_keeps_a_byte_for_each_weight_of_the_blocks(
    layout: Layout, stored: torch.dtype, tmp_path: Path, machine: Any
) -> None:
    model = load(make_checkpoint(tmp_path, layout=layout, dtype=stored), "int8")
    expected = dict(make_model().named_parameters())
    quantized = {n: m for n, m in model.named_modules() if isinstance(m, Linear8bitLt)}
    assert len(quantized) == 6 * model.config.n_layer
    for name, linear in quantized.items():
        weight = linear.weight
        assert weight.dtype == torch.int8
        scale = weight.SCB[:, None] / 127
        error = (weight.data.float() * scale - expected[f"{name}.weight"]).abs()
        assert bool((error <= 0.6 * scale).all()), name  # half a step, and float16's rounding
    for part in (model.lm_head, model.transformer.wte):
        assert part.weight.dtype == torch.float16
    with torch.inference_mode():
        logits = model(torch.arange(10)[None]).logits.float()
        difference = logits - make_model()(torch.arange(10)[None]).logits
    assert difference.abs().max() < 0.1 * logits.std()


def test_loading_reports_each_tensor(tiny: Path, machine: Any) -> None:
    reports: Reports = []
    load(tiny, "float32", reports)
    total = len(make_model().state_dict())
    assert reports[0] == (f"Loading weights, 0 of {total} tensors", 0.0)
    assert reports[-1] == (f"Loading weights, {total} of {total} tensors", 1.0)
    assert len(reports) == total + 1
    fractions = [progress for _, progress in reports]
    assert fractions == sorted(fractions, key=lambda fraction: fraction or 0)


def test_weights_of_another_shape_are_refused(tiny: Path, tmp_path: Path, machine: Any) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy")
    make_config(n_inner=64).save_pretrained(folder)
    with pytest.raises(Refusal, match=r"fc_in.bias is \[128\], not \[64\]"):
        load(folder, "float32")


def test_missing_tensors_are_refused_and_not_made_up(
    tiny: Path, tmp_path: Path, machine: Any
) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy")
    make_config(n_layer=3).save_pretrained(folder)
    with pytest.raises(Refusal, match=r"lack 10 tensors, transformer\.h\.2\."):
        load(folder, "float32")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("content", [b"", b"not weights " * 100], ids=["empty", "damaged"])
def test_damaged_weights_are_refused(
    name: str, content: bytes, tiny: Path, tmp_path: Path, machine: Any
) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy", without=("model.safetensors",))
    (folder / name).write_bytes(content)
    with pytest.raises(Refusal, match="weights"):
        load(folder, "float32")


class RunsACommand:
    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.evidence),)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "pickle"])
def test_code_in_a_weight_file_is_not_run(
    is_zip: bool, tiny: Path, tmp_path: Path, machine: Any
) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy", without=("model.safetensors",))
    evidence = tmp_path / "evidence"
    value = {"transformer.wte.weight": RunsACommand(evidence)}
    torch.save(value, folder / "pytorch_model.bin", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(Refusal, match="code, which is not run"):
        load(folder, "float32")
    assert not evidence.exists()


MEASURE = """
import ctypes, gc, re, sys, threading
from pathlib import Path
import bitsandbytes
from gptj_demo.engine import checkpoint
from gptj_demo.settings import Settings

def own_memory():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\\s+(\\d+)", status)[1]) * 1024

checkpoint.load_model(checkpoint.make_plan(Settings(model=sys.argv[1], precision="int8")), print)
for precision in ("bfloat16", "int8"):
    plan = checkpoint.make_plan(Settings(model=sys.argv[2], precision=precision))
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = peak = own_memory()
    ended = threading.Event()

    def watch():
        global peak
        while not ended.wait(0.001):
            peak = max(peak, own_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    model = checkpoint.load_model(plan, lambda *report: None)
    ended.set()
    watcher.join()
    del model
    stays = checkpoint.weight_bytes(plan.config, precision)
    print("measured", precision, stays, peak - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_takes_little_more_memory_than_what_stays(tiny: Path, tmp_path: Path) -> None:
    """In a process of its own, whose memory nobody else's tests have touched; pages of the mapped
    weight file are not counted, since the system takes them back when it needs them."""
    shape = {"n_embd": 512, "n_layer": 12, "n_head": 8}
    folder = make_checkpoint(tmp_path, layout="bin", dtype=torch.float16, **shape)
    command = [sys.executable, "-c", MEASURE, str(tiny), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("measured")]
    assert [row[1] for row in rows] == ["bfloat16", "int8"]
    noise = 16_000_000  # threads' stacks and arenas; the weights are 76 and 39 MB
    for _, precision, stays, peak in rows:
        assert int(peak) <= 1.3 * int(stays) + noise, precision


# ---- the tokenizer


@pytest.mark.parametrize("tokenizer_layout", ["json", "files"])
def test_the_tokenizer_crosses_as_text_with_its_real_size(
    tokenizer_layout: Any, tmp_path: Path, machine: Any
) -> None:
    folder = make_checkpoint(tmp_path, tokenizer_layout=tokenizer_layout)
    plan = make_plan(Settings(model=str(folder)))
    text, bos_token_id, vocabulary_size = load_tokenizer_json(plan, ignore)
    tokenizer = Tokenizer.from_str(text)
    assert vocabulary_size == TEXT_TOKENS  # the rows that pad the embedding are left out
    assert tokenizer.get_vocab_size() == EMBEDDING_ROWS
    assert bos_token_id == tokenizer.token_to_id(END_OF_TEXT) == TEXT_TOKENS - 1
    story = "Once upon a time, 🙂 — naïve\n\n  twice"
    ids = tokenizer.encode(story).ids
    assert max(ids) < TEXT_TOKENS - 1  # nothing is added at either end
    assert tokenizer.decode(ids) == story


def test_a_stored_length_does_not_cut_prompts(tiny: Path, tmp_path: Path, machine: Any) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))
    text, _, _ = load_tokenizer_json(make_plan(Settings(model=str(folder))), ignore)
    assert (
        Tokenizer.from_str(text).decode(Tokenizer.from_str(text).encode("a" * 50).ids) == "a" * 50
    )


def test_a_tokenizer_that_cannot_be_read_is_refused(
    tiny: Path, tmp_path: Path, machine: Any
) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(Refusal, match="tokenizer"):
        load_tokenizer_json(make_plan(Settings(model=str(folder))), ignore)


# ---- the hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with serve_hub(tmp_path / "cache", monkeypatch) as hub:
        yield hub


SMALL_AND_NEEDED = {"config.json", "tokenizer.json", "tokenizer_config.json"}


def load_all(plan: Plan, reports: Reports) -> Any:
    def report(detail: str, progress: float | None) -> None:
        reports.append((detail, progress))

    load_tokenizer_json(plan, report)
    return load_model(plan, report)


@pytest.mark.parametrize("layout", ["bin", "bin-sharded", "safetensors-sharded"])
def test_a_hub_id_is_fetched_with_what_it_needs_and_no_more(
    layout: Layout, tmp_path: Path, machine: Any, hub: FakeHub
) -> None:
    folder = make_checkpoint(tmp_path / "source", layout=layout)
    for name in ("flax_model.msgpack", "tf_model.h5", "modeling_other.py", "README.md"):
        (folder / name).write_text("not needed")
    if layout == "safetensors-sharded":
        make_checkpoint(folder, layout="bin")  # the same weights again, in the older format
    hub.publish("someone/gpt-j-tuned", "main", folder)

    plan = make_plan(Settings(model="someone/gpt-j-tuned"))
    assert (plan.name, plan.source) == ("gpt-j-tuned", "someone/gpt-j-tuned")
    assert (plan.revision, plan.is_sample) == (None, False)
    weights = {
        path.name
        for path in folder.iterdir()
        if path.name.startswith("model" if layout.startswith("safe") else "pytorch_model")
        and path.suffix in (".safetensors", ".bin")
    }
    fetched = {line.split("/", 1)[1] for line in hub.fetched}
    assert not weights & fetched  # a plan loads nothing

    reports: Reports = []
    model = load_all(plan, reports)
    assert torch.equal(model.lm_head.weight, make_model().lm_head.weight)
    fetched = {line.split("/", 1)[1] for line in hub.fetched}
    assert fetched == SMALL_AND_NEEDED | weights | {
        path.name for path in folder.glob("*.index.json")
    }
    # every request was for the repository itself: no conversion is looked for, no code fetched
    assert all("someone/gpt-j-tuned" in line for line in hub.requests)
    assert not any("discussions" in line or "refs%2Fpr" in line for line in hub.requests)

    assert reports[0] == ("Looking for someone/gpt-j-tuned", None)
    total = sum((folder / name).stat().st_size for name in weights)
    downloads = [report for report in reports if report[0].startswith("Downloading")]
    assert downloads[-1] == (f"Downloading {total / 1e6:,.0f} of {total / 1e6:,.0f} MB", 1.0)
    fractions = [progress for _, progress in downloads if progress is not None]
    assert fractions == sorted(fractions)
    assert len(fractions) >= len(weights)


@pytest.mark.parametrize(
    ("settings", "revision"),
    [
        ({}, "float16"),
        ({"precision": "bfloat16"}, "float16"),
        ({"precision": "float32"}, None),
        ({"revision": "v1"}, "v1"),
    ],
)
def test_gpt_j_is_read_from_its_branch_of_16_bits_unless_32_are_asked_for(
    settings: dict[str, Any], revision: str | None, tiny: Path, machine: Any, hub: FakeHub
) -> None:
    for published in ("main", "float16", "v1"):
        hub.publish(GPT_J, published, tiny)
    plan = make_plan(Settings(model=GPT_J, **settings))
    assert (plan.name, plan.source, plan.revision) == ("GPT-J 6B", GPT_J, revision)
    load_all(plan, [])
    commit = commit_of(GPT_J, revision or "main")
    assert {line.split("/")[0] for line in hub.fetched} == {commit}


def test_with_room_on_a_gpu_auto_is_gpt_j(
    full_size: Path, sample: Path, machine: Any, hub: FakeHub
) -> None:
    hub.publish(GPT_J, "float16", full_size)
    machine(gpu=21)
    plan = make_plan(Settings(model="auto"))
    assert (plan.name, plan.source, plan.revision) == ("GPT-J 6B", GPT_J, "float16")
    assert (plan.precision, plan.device, plan.is_sample) == ("float16", "cuda", False)


def test_what_was_fetched_once_works_without_the_hub(
    tiny: Path, machine: Any, hub: FakeHub
) -> None:
    hub.publish(GPT_J, "float16", tiny)
    settings = Settings(model=GPT_J)
    load_all(make_plan(settings), [])
    hub.disconnect()
    reports: Reports = []
    model = load_all(make_plan(settings), reports)
    assert torch.equal(model.lm_head.weight, make_model().lm_head.weight)
    assert not any(detail.startswith("Downloading") for detail, _ in reports)


def test_an_unfinished_download_without_the_hub_is_refused(
    tiny: Path, machine: Any, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish(GPT_J, "float16", tiny)
    plan = make_plan(Settings(model=GPT_J))
    hub.disconnect()
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between huggingface_hub's retries
    with pytest.raises(Refusal, match="cannot be reached"):
        load_model(plan, ignore)


def test_without_the_hub_and_its_cache_auto_is_the_sample_model(
    sample: Path, machine: Any, hub: FakeHub
) -> None:
    hub.disconnect()
    machine(gpu=80)
    assert "cannot be reached" in refusal(model=GPT_J)
    plan = make_plan(Settings(model="auto"))
    assert plan.is_sample
    assert "cannot be reached" in str(plan.why)


def test_an_unknown_repository_or_revision_is_refused(
    tiny: Path, machine: Any, hub: FakeHub
) -> None:
    message = refusal(model="nobody/nothing")
    assert "nobody/nothing" in message
    hub.publish("someone/gpt-j", "main", tiny)
    message = refusal(model="someone/gpt-j", revision="v9")
    assert "someone/gpt-j" in message
    assert "v9" in message


def test_a_repository_that_is_not_gpt_j_is_refused_before_its_weights_are_fetched(
    tiny: Path, tmp_path: Path, machine: Any, hub: FakeHub
) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    hub.publish("someone/llama", "main", folder)
    assert "not a GPT-J" in refusal(model="someone/llama")
    assert not any("safetensors" in line for line in hub.fetched)


def test_a_disk_without_room_is_refused_before_the_download(
    tiny: Path, machine: Any, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish("someone/gpt-j", "main", tiny)
    plan = make_plan(Settings(model="someone/gpt-j"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1))
    with pytest.raises(Refusal, match="on the disk"):
        load_model(plan, ignore)
    assert not any("safetensors" in line for line in hub.fetched)
