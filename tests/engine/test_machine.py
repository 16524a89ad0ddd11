"""The memory, cores and GPU that a process may use, and the limits of its control groups."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from gptj_demo.engine.machine import (
    available_cores,
    available_memory,
    find_machines,
    gpu_problem,
    is_out_of_memory,
)


@pytest.fixture
def thousand_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system with a thousand bytes of memory left."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))


def write_group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.mark.usefixtures("thousand_bytes")
def test_a_control_group_limits_the_memory(tmp_path: Path) -> None:
    assert available_memory(tmp_path) == 1000
    write_group(tmp_path / "proc/self", cgroup="0::/pod/box\n")
    group = tmp_path / "sys/fs/cgroup/pod"
    write_group(group / "box", memory__max="max\n", memory__current="70\n")
    assert available_memory(tmp_path) == 1000
    stat = "anon 40\ninactive_file 20\nactive_file 10\n"
    write_group(group, memory__max="100\n", memory__current="70\n", memory__stat=stat)
    assert available_memory(tmp_path) == 60  # the page cache gives way
    write_group(group / "box", memory__max="80\n", memory__current="70\n", memory__stat="")
    assert available_memory(tmp_path) == 10


@pytest.mark.usefixtures("thousand_bytes")
def test_a_control_group_seen_from_inside_a_container_limits_the_memory(tmp_path: Path) -> None:
    write_group(tmp_path / "proc/self", cgroup="5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n")
    stat = "cache 9\ntotal_inactive_file 5\ntotal_active_file 0\n"
    write_group(
        tmp_path / "sys/fs/cgroup/memory",
        memory__limit_in_bytes="100\n",
        memory__usage_in_bytes="70\n",
        memory__stat=stat,
    )
    assert available_memory(tmp_path) == 35


def test_the_machine_at_hand_has_a_name_and_memory() -> None:
    last = find_machines()[-1]
    assert last.device == "cpu"
    assert last.name
    assert 0 < last.memory <= psutil.virtual_memory().total


@pytest.fixture
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with sixteen cores to run on."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)


@pytest.mark.usefixtures("sixteen_cores")
def test_a_control_group_limits_the_cores(tmp_path: Path) -> None:
    assert available_cores(tmp_path) == 16
    write_group(tmp_path / "proc/self", cgroup="0::/pod/box\n")
    group = tmp_path / "sys/fs/cgroup/pod"
    write_group(group / "box", cpu__max="max 100000\n")
    assert available_cores(tmp_path) == 16
    write_group(group, cpu__max="250000 100000\n")
    assert available_cores(tmp_path) == 3  # two and a half
    write_group(group / "box", cpu__max="5000 100000\n")
    assert available_cores(tmp_path) == 1


@pytest.mark.usefixtures("sixteen_cores")
def test_an_older_control_group_limits_the_cores(tmp_path: Path) -> None:
    write_group(tmp_path / "proc/self", cgroup="5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n")
    folder = tmp_path / "sys/fs/cgroup/cpu"
    write_group(folder, cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    assert available_cores(tmp_path) == 16
    write_group(folder, cpu__cfs_quota_us="200000\n")
    assert available_cores(tmp_path) == 2


TORCH = torch.__version__.split("+")[0]
ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_90", "compute_90"]


def show_gpu(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], built: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 1000))


@pytest.mark.parametrize(
    ("capability", "built", "code"),
    [
        ((6, 0), ARCHITECTURES, "why.gpu_is_old"),  # P100
        ((7, 0), ARCHITECTURES, "why.gpu_is_old"),  # V100
        ((7, 5), ARCHITECTURES, None),  # T4
        ((8, 9), ARCHITECTURES, None),  # L4: code for 8.6 runs there
        ((12, 0), ARCHITECTURES, None),  # PTX is compiled for it
        ((12, 0), ARCHITECTURES[:-1], "why.gpu_is_new"),
        ((12, 0), [*ARCHITECTURES[:-1], "sm_100", "sm_120a"], None),
        ((9, 0), ["gfx90a"], None),  # ROCm's names say nothing here
    ],
)
def test_a_card_that_torch_has_no_code_for_is_named_and_not_used(
    capability: tuple[int, int],
    built: list[str],
    code: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    show_gpu(monkeypatch, capability, built)
    problem = gpu_problem()
    assert (problem and problem.code) == code
    assert find_machines()[0].device == ("cpu" if code else "cuda")
    if problem:
        assert "a card is not used" in str(problem)
        assert ".".join(map(str, capability)) in str(problem)
    if code == "why.gpu_is_old":
        install = f"pip install --force-reinstall torch=={TORCH} --index-url "
        assert install in str(problem)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("The NVIDIA driver on your system is too old (found version 11040).", "why.driver_is_old"),
        ("CUDA unknown error\nCompile with TORCH_USE_CUDA_DSA", "why.gpu_fails"),
        ("No CUDA GPUs are available", None),
    ],
)
def test_a_gpu_that_does_not_start_is_reported_unlike_a_missing_one(
    error: str, code: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError(error)

    write_group(tmp_path / "proc/driver/nvidia", version="NVRM version")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", fail)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    problem = gpu_problem(tmp_path)
    assert (problem and problem.code) == code
    assert "DSA" not in str(problem)


@pytest.mark.parametrize(
    "error",
    ["CUDA error: out of memory", "CUDA error: CUDA-capable device(s) is/are busy or unavailable"],
)
def test_a_gpu_without_memory_for_a_context_or_in_exclusive_use_is_left_out(
    error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(device: int) -> tuple[int, int]:
        raise torch.AcceleratorError(f"{error}\nCompile with `TORCH_USE_CUDA_DSA`")

    show_gpu(monkeypatch, (8, 0), ["sm_80"])
    monkeypatch.setattr(torch.cuda, "mem_get_info", fail)
    assert [machine.device for machine in find_machines()] == ["cpu"]
    problem = gpu_problem()
    assert problem is not None
    assert problem.code == "why.gpu_fails"
    assert str(problem) == f"The GPU is not used, as CUDA does not start: {error}."


def test_a_torch_without_cuda_beside_a_driver_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert gpu_problem(tmp_path) is None
    write_group(tmp_path / "proc/driver/nvidia", version="NVRM version")
    problem = gpu_problem(tmp_path)
    assert problem is not None
    assert problem.code == "why.torch_without_cuda"
    assert f"pip install --force-reinstall torch=={TORCH} --index-url " in str(problem)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
    ],
)
def test_a_lack_of_memory_is_recognised_also_behind_another_error(error: RuntimeError) -> None:
    assert is_out_of_memory(error)
    later = RuntimeError("operation failed due to a previous error during capture")
    assert not is_out_of_memory(later)
    later.__context__ = error
    assert is_out_of_memory(later)


def test_other_errors_are_not_a_lack_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access"))
    assert not is_out_of_memory(OSError("out of memory"))
