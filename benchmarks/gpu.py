#!/usr/bin/env python3
"""GPT-J 6B on one GPU: decoding relative to the bandwidth, first tokens, gaps, memory.

    make bench-gpu

Needs a card with 24 GB: float16 with 32 streams takes 17.2 GB, int8 11.3 GB. A contender that fails
is listed with its reason, and the others are measured. Triton's kernels need a C compiler and
Python's headers (on Debian: gcc, python3-dev).

Random weights are made on the GPU and written to a temporary checkpoint (12 GB, in memory if it
fits), so that loading is measured too. Ours in float16 and int8 through the worker, whose engine
runs in its own process; the peer is transformers' `generate`, in float16 and in bitsandbytes' int8.

The peak of the memory includes CUDA's context and libraries, for which a plan leaves a part of the
card free (`USABLE_MEMORY`), so it is compared with the plan and that part.

The bandwidth is that of copies within the GPU's memory, bytes read and written; decoding at one
stream is bound by reading the weights once a step. `--smoke` runs every part on the CPU with a tiny
model; its numbers mean nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from common import ROOT, describe_machine, finish, make_parser, median, note, print_table, rounded
from workload import (
    Generation,
    decode_rate,
    generate,
    generate_all,
    random_prompt,
    running_worker,
    sampling,
)

STREAMS = (1, 2, 4, 8, 16, 32)
DECODE_PROMPT_TOKENS = 32
LONG_PROMPT = 1000
ARRIVING_PROMPT = 2000
OTHERS = 4  # streams whose gaps are measured meanwhile
IN_MEMORY = Path("/dev/shm")
WATCH_SECONDS = 0.01
BANDWIDTH_BYTES = 2**31

Figures = dict[str, dict[str, Any]]
"""What was measured, by contender; those that failed are left out."""

SHARE = "share of the bandwidth, one stream"


def measure_bandwidth(device: str) -> float:
    """Bytes a second, read and written, copying within the device's memory: the best of ten."""
    import torch

    size = BANDWIDTH_BYTES if device == "cuda" else BANDWIDTH_BYTES // 16
    source = torch.ones(size, dtype=torch.int8, device=device)
    target = torch.ones_like(source)
    best = 0.0
    for _ in range(10):
        begin = time.perf_counter()
        target.copy_(source)
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * size / (time.perf_counter() - begin))
    del source, target
    if device == "cuda":
        torch.cuda.empty_cache()
    return best


def memory_left_to_cuda(device: str) -> float:
    """Bytes of the device that plans do not use."""
    if device != "cuda":
        return 0.0
    import torch

    from gptj_demo.engine.machine import USABLE_MEMORY

    _, total = torch.cuda.mem_get_info(0)
    return (1 - USABLE_MEMORY[device]) * total


class GpuMemoryWatch:
    """The peak GPU memory taken by other processes since the start, by sampling."""

    def __init__(self, device: str) -> None:
        self.peak = 0
        self._device = device
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._before = self._used()

    def _used(self) -> int:
        if self._device != "cuda":
            return 0
        import torch

        free, total = torch.cuda.mem_get_info(0)
        return total - free

    def _watch(self) -> None:
        while not self._stop.wait(WATCH_SECONDS):
            self.peak = max(self.peak, self._used() - self._before)

    def __enter__(self) -> GpuMemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


async def measure_gap(worker: Any, generator: random.Random, tokens: int) -> float:
    """The longest gap in seconds between tokens of other streams while a long prompt arrives."""
    params = sampling(tokens, top_p=1.0)
    others = [Generation() for _ in range(OTHERS)]
    tasks = [
        asyncio.create_task(
            generate(worker, random_prompt(generator, DECODE_PROMPT_TOKENS), params, one)
        )
        for one in others
    ]
    while min(len(one.times) for one in others) < tokens // 4:
        await asyncio.sleep(0.001)
    arrived = time.perf_counter()
    prompt = random_prompt(generator, ARRIVING_PROMPT)
    arriving = await generate(worker, prompt, sampling(1, top_p=1.0))
    answered = arriving.times[0]
    await asyncio.gather(*tasks)
    return max(
        later - earlier
        for one in others
        for earlier, later in zip(one.times, one.times[1:], strict=False)
        if later > arrived and earlier < answered
    )


def measure_ours(
    model: Path, precision: str, device: str, tokens: int, rounds: int
) -> dict[str, Any]:
    from transformers import GPTJConfig

    from gptj_demo.engine.load.memory import memory_needed, stream_bytes

    generator = random.Random(0)
    begin = time.perf_counter()
    settings = {"model": str(model), "precision": precision, "max_num_seqs": max(STREAMS)}
    with GpuMemoryWatch(device) as watch, running_worker(**settings) as worker:
        load_seconds = time.perf_counter() - begin
        assert worker.model is not None
        assert worker.model.device == device
        note(f"gpu: {worker.model.why}")  # also reports graphs that could not be captured
        rates: dict[str, list[float]] = {}
        first, gaps = [], []
        for number in range(rounds + 1):  # the first is a warm-up
            for count in STREAMS:
                prompts = [random_prompt(generator, DECODE_PROMPT_TOKENS) for _ in range(count)]
                written = asyncio.run(generate_all(worker, prompts, tokens))
                if number:
                    rates.setdefault(str(count), []).append(decode_rate(written))
            prompt = random_prompt(generator, LONG_PROMPT)
            first_token = asyncio.run(generate(worker, prompt, sampling(1, top_p=1.0))).first
            gap = asyncio.run(measure_gap(worker, generator, 4 * tokens))
            if number:
                first.append(first_token)
                gaps.append(gap)
        made = worker.model
    config = GPTJConfig.from_pretrained(model)
    planned = memory_needed(config, precision, 1, made.max_tokens)
    planned += (made.max_num_seqs - 1) * stream_bytes(config)
    return {
        "load s": load_seconds,
        "tokens a second": {count: median(values) for count, values in rates.items()},
        "first token of a long prompt ms": 1e3 * median(first),
        "others' longest gap ms": 1e3 * max(gaps),
        "peak memory GB": watch.peak / 1e9,
        "planned memory GB": planned / 1e9,
        "memory left to CUDA GB": memory_left_to_cuda(device) / 1e9,
        # a step of one stream reads all weights but the embedding, and one row of that
        "bytes a step": made.weight_bytes - 2 * config.vocab_size * config.n_embd,
    }


def measure_peer(
    model: Path, precision: str, device: str, tokens: int, rounds: int
) -> dict[str, Any]:
    script = ROOT / "benchmarks" / "transformers_peer.py"
    options = ["--device", device, "--tokens", str(tokens), "--rounds", str(rounds)]
    options += ["--streams", "1", "32", "--prompts", str(LONG_PROMPT)]
    ended = subprocess.run(
        [sys.executable, str(script), str(model), precision, *options],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        note(ended.stderr[-2000:])
        raise RuntimeError((ended.stderr.strip().splitlines() or ["it gave no reason"])[-1])
    measured = json.loads(ended.stdout.splitlines()[-1])
    return {
        "load s": measured["load s"],
        "tokens a second": {n: median(v) for n, v in measured["tokens a second"].items()},
        "first token of a long prompt ms": 1e3
        * median(measured["first token s"][str(LONG_PROMPT)]),
    }


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--smoke", action="store_true", help="a tiny model, on the CPU")
    parser.add_argument("--tokens", type=int, default=128, help="new tokens a stream; default 128")
    arguments = parser.parse_args()
    if arguments.smoke:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    # import torch after the choice of devices
    import torch
    from random_model import file_bytes, gptj_6b, random_model, tiny_gptj

    device = "cpu" if arguments.smoke else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("This benchmark needs a CUDA GPU; --smoke tries it without one.")
    begin = time.perf_counter()
    config = tiny_gptj() if arguments.smoke else gptj_6b()
    precisions = ("float32", "int8") if arguments.smoke else ("float16", "int8")
    folder = IN_MEMORY if _has_room(IN_MEMORY, 2 * file_bytes(config)) else None
    figures: Figures = {}
    failed: dict[str, str] = {}
    with random_model(config, "safetensors", device, folder) as model:
        torch.cuda.empty_cache()
        bandwidth = measure_bandwidth(device)
        for precision in precisions:
            for name, measure in (("ours", measure_ours), ("generate", measure_peer)):
                contender = f"{name}, {precision}"
                note(f"gpu: {contender}, after {time.perf_counter() - begin:.0f} s")
                try:
                    figures[contender] = measure(
                        model, precision, device, arguments.tokens, arguments.rounds
                    )
                except (Exception, SystemExit) as error:  # a refused model ends with SystemExit
                    failed[contender] = str(error) or type(error).__name__
                    note(f"gpu: {contender} failed: {failed[contender]}")
    if not figures:
        raise SystemExit("No contender could be measured.")
    for name in (name for name in figures if name.startswith("ours")):
        bound = bandwidth / figures[name].pop("bytes a step")
        figures[name][SHARE] = figures[name]["tokens a second"]["1"] / bound
    figures = {name: rounded(by) for name, by in figures.items()}
    checks = make_checks(figures, precisions[0])
    show(figures, checks, bandwidth)
    gpu = torch.cuda.get_device_name(0) if device == "cuda" else "none: a trial on the CPU"
    machine = {
        "gpu": gpu,
        "cuda": torch.version.cuda,
        **describe_machine("torch", "transformers", "bitsandbytes", "triton"),
    }
    result = {
        "bandwidth GB a second": round(bandwidth / 1e9, 1),
        "by contender": figures,
        "failed": failed,
        "checks": {name: value for name, value, _, _ in checks},
        "seconds": round(time.perf_counter() - begin),
    }
    finish("gpu", result, machine, save=arguments.save)


def _has_room(folder: Path, needed: int) -> bool:
    return folder.is_dir() and shutil.disk_usage(folder).free > needed


def make_checks(figures: Figures, full: str) -> list[tuple[str, float, str, bool]]:
    """The targets on a GPU: name, value, bound, and whether it is met.

    Targets of contenders that failed are left out.
    """
    ours, ours_int8, peer, peer_int8 = (
        figures.get(f"{name}, {precision}", {})
        for name in ("ours", "generate")
        for precision in (full, "int8")
    )
    first, gap = "first token of a long prompt ms", "others' longest gap ms"

    def rate(by: dict[str, Any], streams: str = "1") -> float | None:
        value: float | None = by.get("tokens a second", {}).get(streams)
        return value

    def ratio(value: float | None, base: float | None) -> float | None:
        return None if value is None or base is None else value / base

    def fit(by: dict[str, Any]) -> float | None:
        if not by:
            return None
        return by["peak memory GB"] / (by["planned memory GB"] + by["memory left to CUDA GB"])

    wanted = (
        (f"{full}, one stream, share of the bandwidth", ours.get(SHARE), ">=", 0.8),
        (f"{full} / generate, one stream", ratio(rate(ours), rate(peer)), ">=", 6.0),
        ("int8 / bitsandbytes", ratio(rate(ours_int8), rate(peer_int8)), ">=", 1.0),
        (f"int8 / {full}, one stream", ratio(rate(ours_int8), rate(ours)), ">=", 1.5),
        (f"{full}, 32 streams / one", ratio(rate(ours, "32"), rate(ours)), ">=", 20.0),
        (f"{full}, first token of {LONG_PROMPT} tokens, ms", ours.get(first), "<=", 80.0),
        (f"longest gap as {ARRIVING_PROMPT} tokens arrive, ms", ours.get(gap), "<=", 50.0),
        (f"{full}, peak memory / planned and left to CUDA", fit(ours), "<=", 1.0),
        ("int8, peak memory / planned and left to CUDA", fit(ours_int8), "<=", 1.0),
    )
    return [
        (
            name,
            round(value, 3),
            f"{sign} {limit:g}",
            value >= limit if sign == ">=" else value <= limit,
        )
        for name, value, sign, limit in wanted
        if value is not None
    ]


def show(
    figures: Figures,
    checks: list[tuple[str, float, str, bool]],
    bandwidth: float,
) -> None:
    names = list(figures)
    whats = dict.fromkeys(what for by in figures.values() for what in by)
    rows = [
        [what, *(figures[name].get(what) for name in names)]
        for what in whats
        if what != "tokens a second"
    ]
    rows += [
        [
            f"tokens a second, {n} streams",
            *(figures[x]["tokens a second"].get(str(n)) for x in names),
        ]
        for n in STREAMS
    ]
    print_table(f"Memory is copied at {bandwidth / 1e9:,.0f} GB a second", ["", *names], rows)
    kept = [[name, value, wanted, "yes" if ok else "no"] for name, value, wanted, ok in checks]
    print_table("Promises", ["", "value", "bound", "kept"], kept)


if __name__ == "__main__":
    main()
