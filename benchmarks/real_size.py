#!/usr/bin/env python3
"""GPT-J 6B at its real size on a CPU: loading, memory, prompts, decoding.

    python benchmarks/real_size.py [--layers 28]

Random weights in float16 are made in a temporary folder (12 GB, removed afterwards), as safetensors
and, for a second loading, as `.bin` files. Ours in int8 through the worker, its engine in its own
process; transformers in bfloat16 and with bitsandbytes' int8, in processes of their own, one after
the other. Peak memory is anonymous memory, without the page cache. The bandwidth is that of all
cores reading memory, on small or large pages, whichever is faster, measured before and after each
contender. Decoding is given as a share of it: bytes of weights that a step reads, times steps a
second, divided by the bandwidth.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from common import ROOT, describe_machine, finish, make_parser, median, note, print_table, rounded
from random_model import LAYERS, file_bytes, gptj_6b, random_model
from transformers import GPTJConfig
from workload import decode_rate, generate, generate_all, random_prompt, sampling

from gptj_demo.client import Worker
from gptj_demo.settings import Settings

STREAMS = (1, 2, 4, 8)
DECODE_PROMPT_TOKENS = 32
FIRST_TOKEN_AFTER = 100
CONTINUE_AFTER = 1000
CONTINUE_TOKENS = 8
STEP_CONTEXTS = (64, 512, 1024, 2000)
STEPS = 8
WATCH_SECONDS = 0.02
BANDWIDTH_BYTES = 2**30

BFLOAT16_MEMORY = 1.15  # memory of transformers in bfloat16, relative to the checkpoint

OURS = "ours, int8"
BFLOAT16 = "transformers, bfloat16"
PEERS = {BFLOAT16: "bfloat16", "transformers, bitsandbytes int8": "int8"}
FIRST = f"first token of a prompt of {FIRST_TOKEN_AFTER}, s"
COLD = f"first token of a prompt of {CONTINUE_AFTER}, s"
CONTINUED = "first token when that is continued, s"
STEP = "a step of one stream at {} tokens, ms"
LOADING_PEAK = "peak memory GB, loading"


class MemoryWatch:
    """The peak anonymous memory of a process, sampled every 20 ms."""

    def __init__(self, find_pid: Callable[[], int | None]) -> None:
        self.peak = 0
        self._find_pid = find_pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._stop.wait(WATCH_SECONDS):
            if (pid := self._find_pid()) is not None:
                self.peak = max(self.peak, own_memory(pid))

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def own_memory(pid: int) -> int:
    """Bytes of a process's anonymous memory; 0 if it has ended."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        if "RssAnon" in fields:  # absent for one that has just ended
            return 1024 * sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssShmem"))
    return 0


def measure_bandwidth() -> float:
    """Bytes a second, reading memory that was written before: the best of several readings."""
    best = 0.0
    on_small_pages = torch.ones(BANDWIDTH_BYTES // 4)
    on_large_pages = torch.from_numpy(np.ones(BANDWIDTH_BYTES // 4, np.float32))
    for _ in range(5):
        for written in (on_small_pages, on_large_pages):
            begin = time.perf_counter()
            written.sum()
            best = max(best, BANDWIDTH_BYTES / (time.perf_counter() - begin))
    return best


@contextlib.contextmanager
def loading_worker(model: Path) -> Iterator[tuple[Worker, float, MemoryWatch]]:
    """A ready worker, the seconds it took to load, and the watch over its engine's memory."""
    begin = time.perf_counter()
    workers: list[Worker] = []

    def engine_pid() -> int | None:
        return workers[0].engine_pid if workers else None

    with MemoryWatch(engine_pid) as watch:
        worker = Worker(Settings(model=str(model), precision="int8"))
        workers.append(worker)
        worker.start()
        try:
            while worker.status.state not in ("ready", "failed"):
                time.sleep(WATCH_SECONDS)
            if worker.status.state == "failed":
                raise SystemExit(str(worker.status.detail))
            yield worker, time.perf_counter() - begin, watch
        finally:
            worker.stop()


def measure_ours(model: Path, tokens: int, rounds: int) -> dict[str, Any]:
    generator = random.Random(0)
    with loading_worker(model) as (worker, load_seconds, watch):
        loading_peak = watch.peak
        assert worker.model is not None
        rates: dict[str, list[float]] = {}
        first, cold, warm = [], [], []
        for _ in range(rounds):
            prompt = random_prompt(generator, FIRST_TOKEN_AFTER)
            first.append(asyncio.run(generate(worker, prompt, sampling(1, top_p=1.0))).first)
            for count in (n for n in STREAMS if n <= worker.model.max_streams):
                prompts = [random_prompt(generator, DECODE_PROMPT_TOKENS) for _ in range(count)]
                written = asyncio.run(generate_all(worker, prompts, tokens))
                rates.setdefault(str(count), []).append(decode_rate(written))
        for _ in range(rounds):
            prompt = random_prompt(generator, CONTINUE_AFTER)
            begun = asyncio.run(generate(worker, prompt, sampling(CONTINUE_TOKENS, top_p=1.0)))
            longer = (*prompt, *begun.token_ids)
            cold.append(begun.first)
            warm.append(asyncio.run(generate(worker, longer, sampling(1, top_p=1.0))).first)
        steps = {}
        text = random_prompt(generator, STEP_CONTEXTS[-1])
        for context in STEP_CONTEXTS:  # each extends the one before, whose prefix is cached
            one = asyncio.run(generate(worker, text[:context], sampling(STEPS + 1, top_p=1.0)))
            steps[STEP.format(context)] = 1e3 * median(one.gaps)
    return {
        "load s": load_seconds,
        LOADING_PEAK: loading_peak / 1e9,
        "peak memory GB": watch.peak / 1e9,
        FIRST: median(first),
        COLD: median(cold),
        CONTINUED: median(warm),
        **steps,
        "tokens a second": {count: median(values) for count, values in rates.items()},
    }


def measure_peer(model: Path, precision: str, tokens: int, rounds: int) -> dict[str, Any]:
    script = ROOT / "benchmarks" / "transformers_peer.py"
    options = ["--tokens", str(tokens), "--rounds", str(rounds)]
    process = subprocess.Popen(
        [sys.executable, str(script), str(model), precision, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with MemoryWatch(lambda: process.pid) as watch:
        output, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"transformers in {precision} failed:\n{errors[-2000:]}")
    measured = json.loads(output.splitlines()[-1])
    return {
        "load s": measured["load s"],
        "peak memory GB": watch.peak / 1e9,
        FIRST: median(measured["first token s"][str(FIRST_TOKEN_AFTER)]),
        "tokens a second": {
            count: median(values) for count, values in measured["tokens a second"].items()
        },
    }


def bytes_a_step(config: GPTJConfig, precision: str) -> int:
    """Weights that a decode step reads: all but the embedding, of which it reads one row."""
    inner = config.n_inner or 4 * config.n_embd
    layers = config.n_layer * (4 * config.n_embd**2 + 2 * config.n_embd * inner)
    head = config.vocab_size * config.n_embd
    return layers * (1 if precision == "int8" else 2) + 2 * head


def main() -> None:
    parser = make_parser(__doc__, rounds=2)
    parser.add_argument("--layers", type=int, default=LAYERS, help="fewer than 28 for a trial")
    parser.add_argument("--tokens", type=int, default=16, help="new tokens a stream; default 16")
    arguments = parser.parse_args()
    config = gptj_6b(arguments.layers)
    contenders: dict[str, tuple[str, Callable[[Path], dict[str, Any]]]] = {
        OURS: ("int8", lambda model: measure_ours(model, arguments.tokens, arguments.rounds))
    }
    for name, precision in PEERS.items():
        contenders[name] = (
            precision,
            lambda model, precision=precision: measure_peer(
                model, precision, arguments.tokens, arguments.rounds
            ),
        )
    needed, available = BFLOAT16_MEMORY * file_bytes(config), psutil.virtual_memory().available
    if available < needed:
        note(f"{BFLOAT16} needs {needed / 1e9:.0f} GB of memory, more than is free: left out")
        del contenders[BFLOAT16]
    figures: dict[str, dict[str, Any]] = {}
    bandwidths = []
    with random_model(config, "safetensors", "cpu") as model:
        bandwidths.append(measure_bandwidth())
        for name, (_, measure) in contenders.items():
            note(f"real_size: {name}")
            figures[name] = measure(model)
            bandwidths.append(measure_bandwidth())
    with random_model(config, "bin", "cpu") as model, loading_worker(model) as (_, seconds, watch):
        figures[OURS] |= {"load s, .bin": seconds, f"{LOADING_PEAK}, .bin": watch.peak / 1e9}
    bandwidth = median(bandwidths)
    for name, (precision, _) in contenders.items():
        floor = bytes_a_step(config, precision) / bandwidth
        rates = figures[name]["tokens a second"]
        figures[name]["share of the bandwidth"] = {
            count: rate / int(count) * floor for count, rate in rates.items()
        }
    show(figures, bandwidth)
    ours, others = figures[OURS], {name: by for name, by in figures.items() if name != OURS}
    ratios = {
        f"tokens a second / {name}, {count}": rate / by["tokens a second"][count]
        for name, by in others.items()
        for count, rate in ours["tokens a second"].items()
    }
    ratios["continued / cold first token"] = ours[CONTINUED] / ours[COLD]
    shortest, longest = (STEP.format(context) for context in (STEP_CONTEXTS[0], STEP_CONTEXTS[-1]))
    ratios[f"step at {STEP_CONTEXTS[-1]} tokens / at {STEP_CONTEXTS[0]}"] = (
        ours[longest] / ours[shortest]
    )
    ratios = {name: round(value, 3) for name, value in ratios.items()}
    print_table("Ratios", ["", "ours / theirs"], list(ratios.items()))
    result = {
        "layers": arguments.layers,
        "bandwidth GB a second": round(bandwidth / 1e9, 1),
        "by contender": rounded(figures),
        "ratios": ratios,
    }
    machine = describe_machine("torch", "transformers", "bitsandbytes")
    finish("real_size", result, machine, save=arguments.save)


def show(figures: dict[str, dict[str, Any]], bandwidth: float) -> None:
    names = list(figures)
    rows = [
        [what, *(figures[name].get(what) for name in names)]
        for what, value in figures[OURS].items()
        if isinstance(value, float)
    ]
    for what in ("tokens a second", "share of the bandwidth"):
        rows += [
            [f"{what}, {count} streams", *(figures[name][what].get(str(count)) for name in names)]
            for count in STREAMS
        ]
    print_table(f"Memory reads at {bandwidth / 1e9:.1f} GB a second", ["", *names], rows)


if __name__ == "__main__":
    main()
