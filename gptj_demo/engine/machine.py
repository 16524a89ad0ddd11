"""The resources of this process: devices, their free memory, and processor cores.

A container sees the whole machine's memory and cores; its limits are in its control groups.
"""

from __future__ import annotations

import ctypes
import math
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil
import torch

from gptj_demo.hosting import is_on_zerogpu
from gptj_demo.texts import Message, first_line, message

USABLE_MEMORY = {"cpu": 0.9, "cuda": 0.96}
"""The share of the free memory that plans use; the rest is for fragmentation, other processes and
CUDA's libraries. A T4 with 15.7 GB free then holds GPT-J 6B in int8 with seven full contexts."""

ZEROGPU_MEMORY = 48 * 10**9
"""Bytes of the part of the card that is lent; CUDA reports those of the whole card."""

_ROOT = Path("/")


@dataclass(frozen=True, slots=True)
class Machine:
    """One device to compute on, and the bytes of its memory that a model may take."""

    device: str
    name: str
    memory: int


def find_machines() -> list[Machine]:
    """The devices of this machine, best first, with their free memory."""
    machines = []
    if torch.cuda.is_available() and gpu_problem() is None:
        free, _ = torch.cuda.mem_get_info(0)
        if is_on_zerogpu():
            free = min(free, ZEROGPU_MEMORY)
        name = torch.cuda.get_device_name(0)
        machines.append(Machine("cuda", name, int(free * USABLE_MEMORY["cuda"])))
    memory = int(available_memory() * USABLE_MEMORY["cpu"])
    machines.append(Machine("cpu", _processor_name(), memory))
    return machines


def gpu_problem(root: Path = _ROOT) -> Message | None:
    """Why this torch cannot use the machine's GPU, and what to do; None if it can or there is no
    GPU. `root` holds proc/."""
    if not torch.cuda.is_available():
        return _initialisation_problem(root)
    try:
        return _card_problem()
    except RuntimeError as error:  # CUDA has no memory for its context, or others own the card
        return message("why.gpu_fails", error=first_line(error))


def _card_problem() -> Message | None:
    """Why the GPU cannot be used; raises `RuntimeError` where CUDA does not start."""
    torch.cuda.mem_get_info(0)  # makes CUDA's context, which can fail although a card is there
    capability = torch.cuda.get_device_capability(0)
    found = [re.fullmatch(r"(sm|compute)_(\d+)(\d)[af]?", name) for name in _architectures()]
    built = [(match[1], (int(match[2]), int(match[3]))) for match in found if match]
    # Code runs on later cards of its generation; PTX is compiled for any later card.
    if not built or any(
        version <= capability and (kind == "compute" or version[0] == capability[0])
        for kind, version in built
    ):
        return None
    is_old = capability < min(version for _, version in built)
    return message(
        "why.gpu_is_old" if is_old else "why.gpu_is_new",
        gpu=torch.cuda.get_device_name(0),
        capability=".".join(map(str, capability)),
        torch=torch.__version__,
        version=_torch_version(),
    )


def _torch_version() -> str:
    """The version of torch as pip takes it, without that of its build."""
    return str(torch.__version__).partition("+")[0]


def _architectures() -> list[str]:
    names: list[str] = torch.cuda.get_arch_list()
    return names


def _initialisation_problem(root: Path) -> Message | None:
    driver = (root / "proc/driver/nvidia/version").exists()
    if torch.version.cuda is None:
        is_cuda_missing = driver and torch.version.hip is None
        return (
            message("why.torch_without_cuda", torch=torch.__version__, version=_torch_version())
            if is_cuda_missing
            else None
        )
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (AssertionError, RuntimeError) as error:
        said = first_line(error)
        if "too old" in said:
            return message("why.driver_is_old", cuda=torch.version.cuda)
        if driver and "No CUDA GPUs" not in said:
            return message("why.gpu_fails", error=said)
    return None


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it followed, says that the memory of a GPU was too small.

    torch has a type for it. The errors of libraries, such as cuBLAS and Triton, only say it.
    """
    while error is not None:
        said = str(error)
        if isinstance(error, torch.OutOfMemoryError):
            return True
        if isinstance(error, RuntimeError) and ("out of memory" in said or "ALLOC_FAILED" in said):
            return True
        error = error.__context__
    return False


def available_memory(root: Path = _ROOT) -> int:
    """Bytes of main memory that are free in the system and within the limits of this process's
    control groups. `root` holds proc/ and sys/."""
    return min([int(psutil.virtual_memory().available), *_memory_left(root)])


def available_cores(root: Path = _ROOT) -> int:
    """Processor cores that this process can use, at least 1: the smaller of its CPU affinity and
    its control groups' CPU quota."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min([cores, *_cores_allowed(root)]))


def return_freed_memory() -> None:
    """Return freed memory from glibc to the system and from torch to the GPU: fragmentation between
    temporaries and weights would otherwise hold gigabytes while a large model loads."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries lack it
        if trim is not None:
            trim(0)


def _memory_left(root: Path) -> Iterator[int]:
    for group, version in _control_groups(root, "memory"):
        if version == 2:
            limit, usage, prefix = "memory.max", "memory.current", ""
        else:
            limit, usage, prefix = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"
        most, used = _read(group / limit).strip(), _read(group / usage).strip()
        if most.isdigit() and used.isdigit():
            pairs = (row.split() for row in _read(group / "memory.stat").splitlines())
            stat = {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}
            # The page cache counts as used but is reclaimed on demand.
            cache = stat.get(f"{prefix}inactive_file", 0) + stat.get(f"{prefix}active_file", 0)
            yield max(0, int(most) - max(0, int(used) - cache))


def _cores_allowed(root: Path) -> Iterator[int]:
    for group, version in _control_groups(root, "cpu"):
        if version == 2:
            values = _read(group / "cpu.max").split()
        else:
            names = "cpu.cfs_quota_us", "cpu.cfs_period_us"
            values = [_read(group / name).strip() for name in names]
        if len(values) == 2 and all(value.isdigit() for value in values):  # else there is no limit
            yield math.ceil(int(values[0]) / int(values[1]))


def _control_groups(root: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """The folders of the groups that limit this process, with the version of their files."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mount, version = "", 2
        elif controller in controllers.split(","):
            mount, version = controller, 1
        else:
            continue
        # A container may see its own group as the root, under a path that exists only outside.
        group = PurePosixPath(path.lstrip("/"))
        for part in (group, *group.parents):
            yield root / "sys/fs/cgroup" / mount / part, version


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _processor_name() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _read(Path("/proc/cpuinfo")), re.MULTILINE)
    return found.group(1).strip() if found else platform.processor() or platform.machine()
