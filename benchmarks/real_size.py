#!/usr/bin/env python3
"""GPT-J 6B at its real size on a CPU: loading, memory, prompts, decoding.

    python benchmarks/real_size.py [--layers 28]

Random weights in float16 are made in a temporary folder (12 GB, removed afterwards), as safetensors
and, for a second loading, as `.bin` files. Ours in int8 through the worker, its engine in its own
process; OpenVINO GenAI with weights in int8; transformers in bfloat16 and with bitsandbytes' int8.
All run in processes of their own. Ours and OpenVINO are loaded together and asked in turns, since
the bandwidth of a shared machine changes; transformers' follow one after the other. OpenVINO's
weights are exported beforehand, which takes 18 GB of disk more. Peak memory is anonymous memory,
without the page cache. All cores together measure the bandwidth of memory beside each rate; the
faster of small and large pages counts. For transformers' contenders it is measured before and after
their process. The share of the bandwidth is the bytes of weights that a step reads, times steps a
second, divided by the bandwidth at that time. Rates and steps are both measured in every round.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from common import ROOT, describe_machine, finish, make_parser, median, note, print_table, rounded
from openvino_client import Exporting, is_installed, running_openvino, versions
from programs import anonymous_memory
from random_model import LAYERS, file_bytes, gptj_6b, random_model
from transformers import GPTJConfig
from workload import Generation, decode_rate, generate_all, random_prompt

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
BANDWIDTH_BYTES = 2**28  # more than the caches, little beside two models
BANDWIDTH_READINGS = 5

OURS = "ours, int8"
BFLOAT16 = "transformers, bfloat16"
BITSANDBYTES = "transformers, bitsandbytes int8"
OPENVINO = "OpenVINO GenAI, int8"
PRECISIONS = {BFLOAT16: "bfloat16", BITSANDBYTES: "int8"}
"""Precisions of transformers' contenders, as arguments of its script."""
WEIGHT_BYTES = {OURS: (1, 2), BFLOAT16: (2, 2), BITSANDBYTES: (1, 2), OPENVINO: (1, 1)}
"""Bytes of one weight, in the layers and in the head."""
OPENVINO_FLAGS = ("--prefix-caching", "--batched-tokens", "2048", "--cache-gb", "2")
SHARE = "share of the bandwidth"
BY_STREAMS = ("tokens a second", SHARE)
FIRST = f"first token, prompt of {FIRST_TOKEN_AFTER} tokens, s"
COLD = f"first token, prompt of {CONTINUE_AFTER} tokens, s"
CONTINUED = "first token when that is continued, s"
STEP = "a step of one stream at {} tokens, ms"
LOADING_PEAK = "peak memory GB, loading"
EXPORT = "export before loading, s"
EXPORTING_PEAK = "peak memory GB, exporting"

# relative to the checkpoint in float16; OpenVINO beside ours
NEEDED_MEMORY = {BFLOAT16: 1.15, OPENVINO: 1.5}
EXPORT_DISK = 2.6  # the checkpoint, OpenVINO's float16 and its int8


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
                self.peak = max(self.peak, anonymous_memory(pid))

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


class Bandwidth:
    """Measures how fast memory is read; the memory is written once, at the start."""

    def __init__(self) -> None:
        self.measured: list[float] = []
        self._written = (
            torch.ones(BANDWIDTH_BYTES // 4),  # on small pages
            torch.from_numpy(np.ones(BANDWIDTH_BYTES // 4, np.float32)),  # on large ones
        )

    def measure(self) -> float:
        """Bytes a second: the best of several readings."""
        best = 0.0
        for _ in range(BANDWIDTH_READINGS):
            for written in self._written:
                begin = time.perf_counter()
                written.sum()
                best = max(best, BANDWIDTH_BYTES / (time.perf_counter() - begin))
        self.measured.append(best)
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


class Contender(NamedTuple):
    """A model that is loaded.

    `ask` takes at most `most_streams` prompts and a number of new tokens, and returns what was
    generated.
    """

    ask: Callable[[Sequence[tuple[int, ...]], int], Sequence[Generation]]
    most_streams: int


@contextlib.contextmanager
def running_ours(model: Path, figures: dict[str, Any]) -> Iterator[Contender]:
    """Ours; puts the time and memory that it takes into `figures`."""
    with loading_worker(model) as (worker, load_seconds, watch):
        figures |= {"load s": load_seconds, LOADING_PEAK: watch.peak / 1e9}
        assert worker.model is not None
        yield Contender(
            lambda prompts, new: asyncio.run(generate_all(worker, prompts, new)),
            worker.model.max_num_seqs,
        )
        figures["peak memory GB"] = watch.peak / 1e9


@contextlib.contextmanager
def running_exported(model: Path, figures: dict[str, Any]) -> Iterator[Contender]:
    """OpenVINO with its exported model; puts the time and memory that it takes into `figures`."""
    with tempfile.TemporaryDirectory(prefix="gptj-openvino-") as folder:
        begin = time.perf_counter()
        exporting = Exporting(model, Path(folder) / "model", "int8")
        with MemoryWatch(lambda: exporting.process.pid) as exporter:
            exported = exporting.wait()
        figures |= {EXPORT: time.perf_counter() - begin, EXPORTING_PEAK: exporter.peak / 1e9}
        begin = time.perf_counter()
        with (
            running_openvino(exported, *OPENVINO_FLAGS) as peer,
            MemoryWatch(lambda: peer.process.pid) as watch,
        ):
            peer.wait_until_loaded()
            peer.top_p = 1.0  # as in `generate_all`
            peer.batch([(1, 2, 3)], 4)  # it packs the weights in its first steps
            figures |= {"load s": time.perf_counter() - begin, LOADING_PEAK: watch.peak / 1e9}
            yield Contender(peer.batch, max(STREAMS))
            figures["peak memory GB"] = watch.peak / 1e9


RUNNING = {OURS: running_ours, OPENVINO: running_exported}


def measure_in_turns(
    model: Path,
    bandwidth: Bandwidth,
    step_bytes: Mapping[str, int],
    tokens: int,
    rounds: int,
) -> dict[str, dict[str, Any]]:
    """By contender: first tokens, steps of one stream by context, and tokens a second by streams.

    `step_bytes` has the bytes that a step reads, by contender. The contenders take turns for each
    request. The memory bandwidth is measured before each rate.
    """
    names = list(step_bytes)
    figures: dict[str, dict[str, Any]] = {name: {} for name in names}
    rates: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    shares: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    times: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    generator = random.Random(0)
    with contextlib.ExitStack() as stack:
        running = {name: stack.enter_context(RUNNING[name](model, figures[name])) for name in names}
        for one in running.values():  # while another was loaded, this one's memory got cold
            one.ask([random_prompt(generator, FIRST_TOKEN_AFTER)], STEPS)
        for _ in range(rounds):
            prompt = random_prompt(generator, FIRST_TOKEN_AFTER)
            for name, one in running.items():
                times[name].setdefault(FIRST, []).append(one.ask([prompt], 1)[0].first)
            for count in STREAMS:
                prompts = [random_prompt(generator, DECODE_PROMPT_TOKENS) for _ in range(count)]
                for name, one in running.items():
                    if count <= one.most_streams:
                        at_the_time = bandwidth.measure()
                        rate = decode_rate(one.ask(prompts, tokens))
                        share = rate / count * step_bytes[name] / at_the_time
                        rates[name].setdefault(str(count), []).append(rate)
                        shares[name].setdefault(str(count), []).append(share)
            text = random_prompt(generator, STEP_CONTEXTS[-1])
            for context in STEP_CONTEXTS:  # each extends the previous one, so its prefix is cached
                for name, one in running.items():
                    gaps = one.ask([text[:context]], STEPS + 1)[0].gaps
                    steps = times[name].setdefault(STEP.format(context), [])
                    steps += [1e3 * gap for gap in gaps]
        for _ in range(rounds):
            prompt = random_prompt(generator, CONTINUE_AFTER)
            for name, one in running.items():
                begun = one.ask([prompt], CONTINUE_TOKENS)[0]
                times[name].setdefault(COLD, []).append(begun.first)
                continued = one.ask([(*prompt, *begun.token_ids)], 1)[0]
                times[name].setdefault(CONTINUED, []).append(continued.first)
    for name, own in figures.items():
        own |= {what: median(values) for what, values in times[name].items()}
        own["tokens a second"] = {count: median(values) for count, values in rates[name].items()}
        own[SHARE] = {count: median(values) for count, values in shares[name].items()}
    return figures


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


def bytes_a_step(config: GPTJConfig, name: str) -> int:
    """Bytes of weights that a decode step reads; its one row of the embedding is not counted."""
    inner = config.n_inner or 4 * config.n_embd
    layers = config.n_layer * (4 * config.n_embd**2 + 2 * config.n_embd * inner)
    head = config.vocab_size * config.n_embd
    of_layers, of_head = WEIGHT_BYTES[name]
    return layers * of_layers + head * of_head


def main() -> None:
    parser = make_parser(__doc__, rounds=3)
    parser.add_argument("--layers", type=int, default=LAYERS, help="fewer than 28 for a trial")
    parser.add_argument("--tokens", type=int, default=16, help="new tokens a stream; default 16")
    arguments = parser.parse_args()
    config = gptj_6b(arguments.layers)
    tokens, rounds = arguments.tokens, arguments.rounds
    contenders = [OURS, *([OPENVINO] if is_installed() else []), BFLOAT16, BITSANDBYTES]
    for name in NEEDED_MEMORY.keys() & set(contenders):
        needed = NEEDED_MEMORY[name] * file_bytes(config)
        if psutil.virtual_memory().available < needed:
            note(f"{name} needs {needed / 1e9:.0f} GB of memory, more than is free: left out")
            contenders.remove(name)
    if OPENVINO in contenders:
        needed = EXPORT_DISK * file_bytes(config)
        if shutil.disk_usage(tempfile.gettempdir()).free < needed:
            note(f"{OPENVINO} needs {needed / 1e9:.0f} GB of disk, more than is free: left out")
            contenders.remove(OPENVINO)
    with random_model(config, "safetensors", "cpu") as model:
        bandwidth = Bandwidth()
        in_turns = {name: bytes_a_step(config, name) for name in contenders if name in RUNNING}
        note(f"real_size: {' and '.join(in_turns)}")
        figures = measure_in_turns(model, bandwidth, in_turns, tokens, rounds)
        for name in contenders:
            if name in PRECISIONS:
                note(f"real_size: {name}")
                before = bandwidth.measure()
                figures[name] = measure_peer(model, PRECISIONS[name], tokens, rounds)
                floor = bytes_a_step(config, name) / median([before, bandwidth.measure()])
                figures[name][SHARE] = {
                    count: rate / int(count) * floor
                    for count, rate in figures[name]["tokens a second"].items()
                }
    with random_model(config, "bin", "cpu") as model, loading_worker(model) as (_, seconds, watch):
        figures[OURS] |= {"load s, .bin": seconds, f"{LOADING_PEAK}, .bin": watch.peak / 1e9}
    typical = median(bandwidth.measured)
    show(figures, typical)
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
        "bandwidth GB a second": round(typical / 1e9, 1),
        "by contender": rounded(figures),
        "ratios": ratios,
    }
    machine = describe_machine("torch", "transformers", "bitsandbytes") | versions()
    finish("real_size", result, machine, save=arguments.save)


def show(figures: dict[str, dict[str, Any]], bandwidth: float) -> None:
    names = list(figures)
    whats = dict.fromkeys(what for by in figures.values() for what in by)
    rows = [
        [what, *(figures[name].get(what) for name in names)]
        for what in whats
        if what not in BY_STREAMS
    ]
    for what in BY_STREAMS:
        rows += [
            [f"{what}, {count} streams", *(figures[name][what].get(str(count)) for name in names)]
            for count in STREAMS
        ]
    print_table(f"Memory reads at {bandwidth / 1e9:.1f} GB a second", ["", *names], rows)


if __name__ == "__main__":
    main()
