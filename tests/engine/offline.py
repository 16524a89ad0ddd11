"""Compiles all Triton kernels for a GPU that may be absent: `python -m tests.engine.offline 80`.

Writes JSON: for each kernel that a decode step or a prefill chunk of GPT-J 6B launches, what
NVIDIA's tools, which come with Triton, say about it: registers a thread; bytes of local memory,
which spilled registers need, and of shared memory; the instructions of its longest loop, and the
bits of the narrowest load from memory in it.

The wrappers run over tensors on the processor; instead of a launch there is only the compilation,
with the same specialisation that a GPU would get.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gptj_demo.pages import PAGE_TOKENS, page_count

HEADS, HEAD_DIM, ROTARY_DIM, CONTEXT = 16, 256, 64, 2048
D_MODEL, D_FF = HEADS * HEAD_DIM, 4 * HEADS * HEAD_DIM
PROCESSORS = {75: 40, 80: 108, 86: 80, 89: 58, 90: 132, 100: 148, 120: 170}
"""Multiprocessors of a GPU of each compute capability: T4, A100, A10G, L4, H100, B200, RTX 5090."""


def compile_all(capability: int) -> list[dict[str, Any]]:
    """Every kernel for a compute capability (75 is 7.5), each described once."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    from gptj_demo.engine.model.cuda import triton_int8

    class Target:
        """What Triton asks a driver when it compiles."""

        def get_current_target(self) -> GPUTarget:
            return GPUTarget("cuda", capability, 32)

        def get_current_device(self) -> int:
            return 0

        def get_current_stream(self, device: int) -> int:
            return 0

    found: dict[str, tuple[str, Any]] = {}
    label = ""
    compile_and_launch = JITFunction.run

    def only_compile(kernel: Any, *args: Any, grid: Any, warmup: bool, **settings: Any) -> Any:
        compiled = compile_and_launch(kernel, *args, grid=grid, warmup=True, **settings)
        found.setdefault(compiled.hash, (f"{kernel.__name__} {label}", compiled))
        return compiled

    driver.set_active(Target())
    JITFunction.run = only_compile
    major, minor = divmod(capability, 10)
    triton_int8._processors = lambda device: PROCESSORS[capability]
    triton_int8._capability = lambda device: (major, minor)
    for name, launch in launches():
        label = name
        launch()
    tools = Path(triton.__file__).parent / "backends/nvidia/bin"
    return [{"kernel": name, **described(tools, kernel)} for name, kernel in found.values()]


def launches() -> Iterator[tuple[str, Callable[[], object]]]:
    """Name and call of everything that launches kernels, in each shape that needs its own."""
    from gptj_demo.engine.model.cuda import triton_attention, triton_int8

    rows, integers = 4, torch.empty(4, dtype=torch.int64)
    tables = torch.empty(rows, page_count(CONTEXT) + 1, dtype=torch.int64)
    stored = torch.empty(2 * HEADS, tables.numel(), PAGE_TOKENS, HEAD_DIM, dtype=torch.float16)
    fused = torch.empty(rows, 3 * D_MODEL + D_FF, dtype=torch.float16)
    rotation = torch.empty(CONTEXT, ROTARY_DIM // 2, dtype=torch.complex64)
    rotate = triton_attention.rotate_and_store
    yield "float16", lambda: rotate(fused, rotation, integers, integers, stored, tables)
    queries = torch.empty(rows, HEADS, HEAD_DIM, dtype=torch.float16)
    attend = triton_attention.attend
    yield "float16", lambda: attend(queries, integers, integers, stored, tables, CONTEXT)
    scale = torch.empty(3 * D_MODEL + D_FF)
    weight_in = torch.empty(3 * D_MODEL + D_FF, D_MODEL, dtype=torch.int8)
    weight_out = torch.empty(D_MODEL, D_FF, dtype=torch.int8)
    yield "float16", lambda: triton_int8.widen(weight_in, scale, torch.float16)
    counts = triton_int8.int8_row_counts(torch.device("cpu"))
    # the model's activations have 16 bits; in fp32 the most rows need the most shared memory
    for dtype, rows in [*((torch.float16, count) for count in counts), (torch.float32, counts[-1])]:
        x = torch.empty(rows, D_MODEL, dtype=dtype)
        activated = torch.empty(rows, D_FF, dtype=dtype)
        first = x, weight_in, scale
        pair = (
            (x, weight_in[:D_MODEL], scale[:D_MODEL]),
            (activated, weight_out, scale[:D_MODEL]),
        )
        label = f"{str(dtype).removeprefix('torch.')} {rows} rows"
        yield label, partial(triton_int8.int8_sum, [first], scale)
        yield label, partial(triton_int8.int8_sum, pair, scale[:D_MODEL])


def described(tools: Path, compiled: Any) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = _output(tools / "cuobjdump", "--dump-resource-usage", file.name)
        code = _output(tools / "nvdisasm", "-c", file.name)
    used = {name: int(count) for name, count in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    loop = longest_loop(code)
    loads = [re.search(r"LDG\.E\.(?:\w+\.)*?(64|128)\b", line) for line in loop if "LDG." in line]
    return {
        "registers": used["REG"],
        "local": used["LOCAL"],
        "shared": compiled.metadata.shared,
        "loop": len(loop),
        "narrowest_load_in_loop": min((int(m[1]) if m else 32 for m in loads), default=None),
    }


def longest_loop(code: str) -> list[str]:
    """Instructions of the longest loop in nvdisasm's output: back to an earlier label."""
    instructions, labels, longest = list[str](), dict[str, int](), list[str]()
    for line in code.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line):
            labels[label[1]] = len(instructions)
        elif re.match(r"\s+(/\*[0-9a-f]+\*/)?\s*(@!?U?P\w+ )?[A-Z][A-Z0-9_.]+.*;", line):
            instructions.append(line.strip())
            target = re.search(r"BRA.*`\((\.L_x_\d+)\)", line)
            if target and target[1] in labels:
                loop = instructions[labels[target[1]] :]
                longest = max(longest, loop, key=len)
    return longest


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    print(json.dumps(compile_all(int(sys.argv[1]))))
