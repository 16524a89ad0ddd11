"""What a process may have of the machine, and what its control groups leave of it."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from gptj_demo.engine.machine import available_cores, available_memory, find_machines


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
