"""Kills the engine at random under many streams; each must end with the text that it has alone.

    python -m tests.chaos.survival [--deaths 100] [--stop]

Mixed requests run once alone, one after the other. Then they run again, 32 at a time, while the
engine is killed at random moments, or with `--stop` suspended (SIGSTOP), so that it hangs. Texts,
token ids, reasons and all log-probabilities are compared exactly. Prints the numbers and the pauses
of the streams, and one line of JSON last; the exit code is 1 where anything was lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from gptj_demo.client import Worker, watch
from gptj_demo.protocol import (
    Finished,
    GenerationRequest,
    PromptScored,
    Reconnecting,
    TokenEvent,
)
from gptj_demo.sampling import SamplingParams
from gptj_demo.settings import Settings
from tests.test_reproducibility import PROMPTS

STREAMS = 32
SILENCE = 2.0  # seconds until a suspended engine counts as hung; shorter than in production
LIVES = (0.1, 2.0)  # seconds between an engine's first tokens and its end
KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"temperature": 0.0, "repetition_penalty": 1.2},
    {"logprobs": 3},
    {"logprobs": 0, "echo": True, "n": 2},
    {"presence_penalty": 0.6, "frequency_penalty": 0.4, "logprobs": 0},
    {"dry_multiplier": 0.8, "top_k": 200},
    {"mirostat": "2", "mirostat_tau": 4.0, "logprobs": 1},
    {"token_healing": True, "temperature": 1.1},
    {"n": 3, "min_p": 0.02},
    {"best_of": 3, "n": 2},
    {"stop": ("king", ". The"), "xtc_probability": 0.4},
    {"no_repeat_ngram_size": 3, "typical_p": 0.9},
)

Outcome = dict[int, tuple[Any, ...]]
"""Of each completion: text, token ids, log-probabilities, reason."""


@dataclass
class Report:
    """The totals of all streams."""

    streams: int = 0
    differing: int = 0
    errors: int = 0
    resumed: int = 0
    pauses: list[float] = field(default_factory=list)


def make_requests(count: int) -> list[GenerationRequest]:
    """Requests of every kind in turn, each with its seed."""
    generator = random.Random(1)
    requests = []
    for number in range(count):
        params = SamplingParams(
            seed=generator.randrange(2**32),
            max_new_tokens=generator.randrange(40, 300),
            ignore_eos=True,
            **KINDS[number % len(KINDS)],
        )
        requests.append(GenerationRequest(generator.choice(PROMPTS), params))
    return requests


async def complete(
    worker: Worker, request: GenerationRequest, report: Report | None = None
) -> Outcome:
    """The completions of a request; notes its pauses in the report."""
    texts: dict[int, str] = {}
    tokens: dict[int, list[Any]] = {}
    ends: dict[int, Any] = {}
    scores: Any = None
    paused: float | None = None
    async for event in worker.stream(request):
        if isinstance(event, Reconnecting) and report is not None:
            report.resumed += 1
            paused = time.monotonic() if paused is None else paused
        elif isinstance(event, PromptScored):
            scores = event.logprobs
        elif isinstance(event, TokenEvent | Finished):
            texts[event.index] = texts.get(event.index, "") + event.text
            if isinstance(event, TokenEvent):
                tokens.setdefault(event.index, []).append((event.token_id, event.logprobs))
            else:
                ends[event.index] = (event.reason, event.completion_tokens, event.sum_logprob)
            if paused is not None and report is not None:
                report.pauses.append(time.monotonic() - paused)
                paused = None
    return {
        index: (texts[index], tuple(tokens.get(index, ())), end, scores)
        for index, end in ends.items()
    }


async def kill_engines(worker: Worker, deaths: int, number: signal.Signals) -> None:
    """End the engine so many times, each a random moment after it has generated tokens."""
    generator = random.Random(2)
    for death in range(deaths):
        written = worker.tokens_written
        while worker.status.state != "ready" or worker.tokens_written == written:
            await asyncio.sleep(0.005)
        await asyncio.sleep(generator.uniform(*LIVES))
        pid, restarts = worker.engine_pid, worker.restarts
        if pid is not None:
            os.kill(pid, number)
        while worker.restarts == restarts:
            await asyncio.sleep(0.005)
        if death % 10 == 9:
            print(f"{death + 1} engines have ended", file=sys.stderr, flush=True)


async def measure(worker: Worker, deaths: int, number: signal.Signals, kinds: int) -> Report:
    requests = make_requests(kinds)
    alone = [await complete(worker, request) for request in requests]
    report = Report()
    killing = asyncio.ensure_future(kill_engines(worker, deaths, number))
    turn = iter(range(10**9))

    async def visitor() -> None:
        while not killing.done():
            place = next(turn) % len(requests)
            outcome = await complete(worker, requests[place], report)
            report.streams += 1
            report.errors += any(end[2][0] == "error" for end in outcome.values())
            report.differing += outcome != alone[place]

    await asyncio.gather(killing, *(visitor() for _ in range(STREAMS)))
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--deaths", type=int, default=100)
    parser.add_argument("--kinds", type=int, default=240, help="different requests")
    parser.add_argument("--stop", action="store_true", help="suspend engines, not kill them")
    arguments = parser.parse_args()
    number = signal.SIGSTOP if arguments.stop else signal.SIGKILL
    watch.SILENCE = SILENCE
    worker = Worker(Settings(model="sample", max_num_seqs=STREAMS, max_waiting=10_000))
    worker.start()
    begin = time.monotonic()
    try:
        report = asyncio.run(measure(worker, arguments.deaths, number, arguments.kinds))
    finally:
        worker.stop()
    figures = {
        "signal": number.name,
        "engines ended": arguments.deaths,
        "streams": report.streams,
        "streams that differ": report.differing,
        "streams with an error": report.errors,
        "times a stream was resumed": report.resumed,
        "median pause, seconds": round(statistics.median(report.pauses), 2),
        "largest pause, seconds": round(max(report.pauses), 2),
        "minutes": round((time.monotonic() - begin) / 60, 1),
    }
    for name, value in figures.items():
        print(f"{name}: {value}")
    print(json.dumps({"survival": figures}))
    if report.differing or report.errors:
        sys.exit(1)


if __name__ == "__main__":
    main()
