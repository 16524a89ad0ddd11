"""Load on several engines of Ray Serve, while engines are killed and their number changes.

    .venv/fleet/bin/python -m tests.fleet.load [speed] [survival] [scaling] [prefixes]

Prints one line of JSON for each part; the exit code is 1 where a stream was lost or differed.
`make test-fleet` runs shorter ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psutil

from gptj_demo.client import Worker
from gptj_demo.client.backends import scaling
from gptj_demo.protocol import Finished, GenerationRequest, TokenEvent, Visitor
from gptj_demo.sampling import SamplingParams
from gptj_demo.settings import Settings
from tests.chaos.survival import Outcome, Report, complete, make_requests
from tests.test_reproducibility import PROMPTS
from tests.waiting import eventually

STREAMS = 32
ROUNDS, ROUND_SECONDS = 5, 5.0
KINDS = 24  # different requests
LIVES = (2.0, 6.0)  # seconds from the first token after a kill to the next kill


@contextmanager
def fleet(engines: str | None, slots: int, count: int = 1) -> Iterator[Worker]:
    """A worker whose first `count` engines are ready; `engines` None is an engine without Ray."""
    settings = Settings(model="sample", engines=engines, max_num_seqs=slots, max_waiting=10_000)
    worker = Worker(settings)
    worker.start()
    try:
        eventually(lambda: worker.status.state == "ready")
        eventually(lambda: (worker.health().engines or 1) >= count)
        yield worker
    finally:
        worker.stop()


def engines_of(process: psutil.Process) -> list[psutil.Process]:
    """The engine processes below a process."""

    def is_engine(child: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            return "gptj_demo.engine" in child.cmdline()
        return False

    return [child for child in process.children(recursive=True) if is_engine(child)]


async def load(
    worker: Worker,
    streams: int,
    alone: list[Outcome],
    is_over: Callable[[], bool],
    report: Report,
) -> None:
    """Run so many streams at a time; compare each with its request run alone."""
    requests = make_requests(len(alone))
    turn = iter(range(10**9))

    async def visitor(number: int) -> None:
        who = Visitor(f"visitor {number}", f"192.0.2.{number}")
        while not is_over():
            place = next(turn) % len(requests)
            outcome = await complete(worker, replace(requests[place], visitor=who), report)
            report.streams += 1
            report.errors += any(end[2][0] == "error" for end in outcome.values())
            report.differing += outcome != alone[place]

    await asyncio.gather(*(visitor(number) for number in range(streams)))


async def each_alone(worker: Worker, kinds: int) -> list[Outcome]:
    return [await complete(worker, request) for request in make_requests(kinds)]


async def survive(worker: Worker, streams: int, seconds: float, kinds: int) -> dict[str, Any]:
    """Kill an engine at random every few seconds in which tokens are written."""
    alone = await each_alone(worker, kinds)
    report, killed = Report(), 0
    generator = random.Random(3)

    async def kill() -> None:
        nonlocal killed
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            written = worker.tokens_written
            while worker.tokens_written == written:
                await asyncio.sleep(0.05)
            await asyncio.sleep(generator.uniform(*LIVES))
            found = engines_of(psutil.Process())
            if found:
                os.kill(generator.choice(found).pid, signal.SIGKILL)
                killed += 1

    killing = asyncio.ensure_future(kill())
    await load(worker, streams, alone, killing.done, report)
    await killing
    return {
        **figures(report),
        "engines killed": killed,
        "times no engine was ready": worker.restarts,
        "median pause, seconds": round(statistics.median(report.pauses or [0]), 2),
        "largest pause, seconds": round(max(report.pauses or [0]), 2),
    }


async def scale(worker: Worker, most: int, slots: int, kinds: int) -> dict[str, Any]:
    """Load all engines' slots until all are there, then a few until one is left."""
    alone = await each_alone(worker, kinds)
    report, seen = Report(), [worker.health().engines]

    def has(engines: int) -> bool:
        ready = worker.health().engines
        if ready != seen[-1]:
            seen.append(ready)
        return ready == engines

    begin = time.monotonic()
    await load(worker, most * slots, alone, lambda: has(most), report)
    up = time.monotonic() - begin
    # few enough for one engine, also where each request has three completions
    await load(worker, slots // 4, alone, lambda: has(1), report)
    return {
        **figures(report),
        "engines ready, in turn": seen,
        "seconds to the largest number": round(up, 1),
    }


async def continue_texts(worker: Worker, sessions: int, times: int) -> dict[str, Any]:
    """Visitors that continue their texts; how many found their text cached."""
    hits: list[bool] = []

    async def session(number: int) -> None:
        generator = random.Random(number)
        who = Visitor(f"visitor {number}", f"192.0.2.{number}")
        text = f"{number}. {PROMPTS[number % len(PROMPTS)]}"
        for turn in range(times + 1):
            await asyncio.sleep(generator.uniform(0, 0.5))
            params = SamplingParams(seed=turn, max_new_tokens=40, ignore_eos=True)
            written = ""
            async for event in worker.stream(GenerationRequest(text, params, who)):
                if isinstance(event, TokenEvent | Finished):
                    written += event.text
            assert isinstance(event, Finished)
            if turn:
                hits.append(event.cached_tokens >= 0.8 * event.prompt_tokens)
            text += written

    await asyncio.gather(*(session(number) for number in range(sessions)))
    return {"continued texts": len(hits), "cached": round(sum(hits) / len(hits), 4)}


async def speed(worker: Worker, streams: int, seconds: float) -> dict[str, float]:
    """Tokens a second of so many streams together, and the time to the first token."""
    firsts: list[float] = []
    begin = time.monotonic()
    end = begin + seconds

    async def visitor(number: int) -> None:
        seed = number * 1000
        while time.monotonic() < end:
            seed += 1
            params = SamplingParams(seed=seed, max_new_tokens=100, ignore_eos=True)
            asked = time.monotonic()
            stream = worker.stream(GenerationRequest(PROMPTS[seed % len(PROMPTS)], params))
            is_first = True
            async for event in stream:
                if isinstance(event, TokenEvent) and is_first:
                    is_first = False
                    firsts.append(time.monotonic() - asked)

    before = worker.tokens_written
    await asyncio.gather(*(visitor(number) for number in range(streams)))
    took = time.monotonic() - begin
    return {
        "tokens a second": round((worker.tokens_written - before) / took),
        "first token ms, median": round(1000 * statistics.median(firsts), 1),
        "first token ms, p95": round(1000 * statistics.quantiles(firsts, n=20)[-1], 1),
    }


def compare_speeds() -> dict[str, Any]:
    """One engine without Ray, and two and four with it, in turns on the same cores."""
    speeds: dict[str, Any] = {}
    scaling.UP_SECONDS = math.inf  # the number of engines is chosen here
    with fleet(None, 32) as one, fleet("2..4", 16, 2) as several:
        placement: Any = several._backend
        for engines in (2, 4):
            placement._placement.scale(engines)
            eventually(lambda wanted=engines: several.health().engines == wanted)
            rounds: dict[str, list[dict[str, float]]] = {"one engine": [], f"{engines} engines": []}
            for worker in (one, several):
                asyncio.run(speed(worker, STREAMS, 2))
            for _ in range(ROUNDS):
                for worker, got in zip((one, several), rounds.values(), strict=True):
                    got.append(asyncio.run(speed(worker, STREAMS, ROUND_SECONDS)))
            speeds[f"speed with {engines}"] = {
                name: {key: statistics.median(one[key] for one in got) for key in got[0]}
                for name, got in rounds.items()
            }
            ratios = [
                b["tokens a second"] / a["tokens a second"]
                for a, b in zip(*rounds.values(), strict=True)
            ]
            speeds[f"speed with {engines}"]["ratios"] = [round(ratio, 3) for ratio in ratios]
    return speeds


def figures(report: Report) -> dict[str, Any]:
    return {
        "streams": report.streams,
        "streams that differ": report.differing,
        "streams with an error": report.errors,
        "times a stream was resumed": report.resumed,
    }


def main() -> None:
    parts = sys.argv[1:] or ["speed", "survival", "scaling", "prefixes"]
    results: dict[str, Any] = {}
    if "speed" in parts:
        results |= compare_speeds()
        print(json.dumps(results), flush=True)
    if "survival" in parts:
        with fleet("2", 16, 2) as worker:
            results["survival"] = asyncio.run(survive(worker, STREAMS, 120, KINDS))
        print(json.dumps(results), flush=True)
    if "scaling" in parts:
        scaling.UP_SECONDS, scaling.DOWN_SECONDS = 2.0, 15.0
        with fleet("1..3", 8) as worker:
            results["scaling"] = asyncio.run(scale(worker, 3, 8, KINDS))
        print(json.dumps(results), flush=True)
    if "prefixes" in parts:
        with fleet("4", 8, 4) as worker:
            results["prefixes"] = asyncio.run(continue_texts(worker, 16, 8))
        print(json.dumps(results), flush=True)
    lost = [
        part
        for part in results.values()
        if part.get("streams that differ") or part.get("streams with an error")
    ]
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
