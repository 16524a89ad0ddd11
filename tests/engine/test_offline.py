"""What the Triton kernels need on each GPU, read from code compiled without one.

Limits are those of the hardware and, for registers, a little above what was found: more registers
mean fewer warps that hide the latency of memory. The compiler is the one of Triton's wheel.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.engine.offline import PROCESSORS
from tests.processes import ROOT

Kernels = dict[int, list[dict[str, Any]]]

# bytes of shared memory that a block can have
SHARED = {75: 64, 80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}
REGISTERS = 136  # of a kernel that decodes; 128 were found, in units of 8
REGISTERS_OF_PREFILL = 208  # 190 were found; 33 rows and more come only from prompts


def missing_tool() -> str | None:
    """Why nothing can be compiled here."""
    spec = importlib.util.find_spec("triton")
    if spec is None or spec.origin is None:
        return "Triton is not installed"
    tools = Path(spec.origin).parent / "backends/nvidia/bin"
    names = ("ptxas", "ptxas-blackwell", "cuobjdump", "nvdisasm")
    missing = [name for name in names if not (tools / name).exists()]
    return f"Triton came without {', '.join(missing)}" if missing else None


pytestmark = pytest.mark.skipif(missing_tool() is not None, reason=missing_tool() or "")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernels]:
    cache = tmp_path_factory.mktemp("triton")

    def compile_for(capability: int) -> list[dict[str, Any]]:
        environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
        done = subprocess.run(
            [sys.executable, "-m", "tests.engine.offline", str(capability)],
            cwd=ROOT,
            env={**environment, "TRITON_CACHE_DIR": str(cache / str(capability))},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        kernels: list[dict[str, Any]] = json.loads(done.stdout)
        return kernels

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield dict(zip(PROCESSORS, pool.map(compile_for, PROCESSORS), strict=True))


def test_every_kernel_is_compiled_for_every_gpu(compiled: Kernels) -> None:
    kernels = "_rotate_and_store _attend_part _put_together _multiply_by_lanes _add_parts"
    for capability, found in compiled.items():
        names = {kernel["kernel"].split()[0] for kernel in found}
        by_dot = {"_multiply_by_dot"} if capability >= 80 else set()
        assert names == {*kernels.split(), "_widen_row", *by_dot}, capability


def test_no_kernel_spills_registers(compiled: Kernels) -> None:
    spilling = [(c, k) for c, found in compiled.items() for k in found if k["local"]]
    assert not spilling


def test_every_kernel_has_enough_shared_memory(compiled: Kernels) -> None:
    too_large = [
        (c, k) for c, found in compiled.items() for k in found if k["shared"] > 1024 * SHARED[c]
    ]
    assert not too_large


def test_registers_leave_room_for_warps(compiled: Kernels) -> None:
    too_many = []
    for capability, found in compiled.items():
        for kernel in found:
            decodes = "64 rows" not in kernel["kernel"] and "float16" in kernel["kernel"]
            if kernel["registers"] > (REGISTERS if decodes else REGISTERS_OF_PREFILL):
                too_many.append((capability, kernel))
    assert not too_many


@pytest.mark.parametrize(
    ("kernel", "weights", "limit"),
    [
        # a thread multiplies 8 outputs of 8 inputs, or, where rows are four, 4 outputs of 8
        ("_multiply_by_lanes float16 1 rows", 64, {75: 2.7, 86: 2.7, 80: 3.7, 90: 3.7, 100: 3.2}),
        ("_multiply_by_lanes float16 32 rows", 32, {75: 7.5}),
        ("_multiply_by_dot float16 16 rows", 64, {80: 5.2, 90: 5.2, 100: 5.2}),
        ("_multiply_by_dot float16 32 rows", 64, {80: 6.2, 90: 6.2, 100: 6.2}),
    ],
)
def test_the_instructions_per_weight_of_each_kernel_are_limited(
    compiled: Kernels, kernel: str, weights: int, limit: dict[int, float]
) -> None:
    for capability, most in limit.items():
        loops = [k["loop"] for k in compiled[capability] if k["kernel"] == kernel]
        assert loops
        assert max(loops) <= most * weights, (capability, loops)


def test_codes_are_loaded_eight_at_a_time(compiled: Kernels) -> None:
    for found in compiled.values():
        (kernel, *_) = [k for k in found if k["kernel"] == "_multiply_by_lanes float16 1 rows"]
        assert kernel["narrowest_load_in_loop"] >= 64, kernel
