"""Weights are loaded as they were stored, in little memory, and no code is run."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear8bitLt
from transformers import GPTJForCausalLM

from gptj_demo.engine.load import Refusal, load_tokenizer, make_plan
from gptj_demo.settings import Settings
from tests.engine.checkpoints import (
    LAYOUTS,
    Layout,
    copy_checkpoint,
    make_checkpoint,
    make_config,
    make_model,
)
from tests.engine.load.conftest import Reports, ignore, load


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
@pytest.mark.parametrize("layout", ["bin", "bin-legacy", "bin-sharded", "safetensors"])
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


@pytest.mark.parametrize("layout", ["safetensors", "bin"])
def test_weights_that_are_cut_off_are_to_be_downloaded_again(
    layout: Layout, tmp_path: Path, machine: Any
) -> None:
    folder = make_checkpoint(tmp_path, layout=layout)
    (file,) = (path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(Refusal, match=rf"{file.name} is .*cut off.*: download it again\."):
        load(folder, "float32")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_folder_cloned_without_git_lfs_is_refused_with_what_to_do(
    name: str, tiny: Path, tmp_path: Path, machine: Any
) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy")
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")

    def load_all() -> None:
        load_tokenizer(make_plan(Settings(model=str(folder))), ignore)
        load(folder, "float32")

    with pytest.raises(Refusal, match=f"The {name} of .* a pointer of Git LFS .*git lfs pull"):
        load_all()


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (["a", "list"], "holds a list, not tensors by their names"),
        ("a text", "holds a text, not tensors by their names"),
        ({"transformer.wte.weight": "x" * 1000}, 'wte.weight is "xxx'),
        ({"transformer.wte.weight": torch.zeros(320, 32, dtype=torch.int64)}, "is of type int64"),
        ({"transformer.wte.weight": torch.zeros(320, 32).to_sparse()}, "is sparse_coo on cpu"),
        ({"lm_head.bias": torch.zeros(320, device="meta")}, "is strided on meta"),
    ],
)
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "pickle"])
def test_objects_that_are_not_weights_are_refused(
    stored: Any, said: str, is_zip: bool, tiny: Path, tmp_path: Path, machine: Any
) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy", without=("model.safetensors",))
    torch.save(stored, folder / "pytorch_model.bin", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(Refusal, match="The weights of") as refused:
        load(folder, "float32")
    assert is_zip is False or said in str(refused.value)


def test_a_compressed_file_of_weights_is_not_unpacked(tmp_path: Path, machine: Any) -> None:
    folder = make_checkpoint(tmp_path, layout="bin")
    path = folder / "pytorch_model.bin"
    with zipfile.ZipFile(path) as stored:
        records = {name: stored.read(name) for name in stored.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as compressed:
        for name, content in records.items():
            compressed.writestr(name, content)
    with pytest.raises(Refusal, match="is compressed"):
        load(folder, "float32")


CUDA_ERROR = """CUDA error: an illegal memory access was encountered
Search for `cudaErrorIllegalAddress' in https://docs.nvidia.com/cuda for more information.
CUDA kernel errors might be asynchronously reported at some other API call.
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.
"""


def test_an_error_of_cuda_is_reported_by_its_first_line(
    tiny: Path, machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise RuntimeError(CUDA_ERROR)

    monkeypatch.setattr(GPTJForCausalLM, "from_pretrained", fail)
    with pytest.raises(Refusal, match=r"cannot be read: CUDA error: an illegal memory access was"):
        load(tiny, "float32")


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
from gptj_demo.engine import load as loading
from gptj_demo.settings import Settings

def own_memory():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\\s+(\\d+)", status)[1]) * 1024

loading.load_model(loading.make_plan(Settings(model=sys.argv[1], precision="int8")), print)
for folder in sys.argv[2:]:
    for precision in ("bfloat16", "int8"):
        plan = loading.make_plan(Settings(model=folder, precision=precision))
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
        model = loading.load_model(plan, lambda *report: None)
        ended.set()
        watcher.join()
        del model
        stays = loading.weight_bytes(plan.config, precision)
        print("measured", Path(folder).name, precision, stays, peak - before)
"""


MEASURED_SHAPE = {"n_embd": 512, "n_layer": 12, "n_head": 8}
STORED = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def measure_loading(tiny: Path, *folders: Path) -> list[tuple[str, str, int, int]]:
    """Layout, precision, bytes that stay and peak of own memory for each folder, measured in a
    new process.

    Pages of the mapped weight file are not counted: the system takes them back at need."""
    command = [sys.executable, "-c", MEASURE, str(tiny), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("measured")]
    return [(layout, precision, int(stays), int(peak)) for layout, precision, stays, peak in rows]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("stored", ["fp32", "fp16"])
def test_loading_takes_little_more_memory_than_what_stays(
    stored: str, tiny: Path, tmp_path: Path
) -> None:
    folders = [
        make_checkpoint(tmp_path / layout, layout=layout, dtype=STORED[stored], **MEASURED_SHAPE)
        for layout in LAYOUTS
    ]
    rows = measure_loading(tiny, *folders)
    assert [row[:2] for row in rows] == [
        (layout, precision) for layout in LAYOUTS for precision in ("bfloat16", "int8")
    ]
    noise = 16_000_000  # threads' stacks and arenas; the weights are 76 and 39 MB
    for layout, precision, stays, peak in rows:
        assert peak <= 1.3 * stays + noise, (layout, precision, stays, peak)
