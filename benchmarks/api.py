#!/usr/bin/env python3
"""The cost of HTTP over the worker's interface, and of a busy API caller to a visitor.

    python benchmarks/api.py [--streams 32] [--queued 200]

Tokens a second: `--streams` clients, each with a few requests in a row, over the worker's interface
and over `/v1/completions`, streamed and not streamed. Timed from the first request to the last end,
clients and server on the same machine. First words: a visitor who generates through Gradio, as the
page does, alone and while a caller with a key has `--queued` requests in the queue.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
from common import describe_machine, finish, make_parser, median, note, print_table
from programs import running_playground
from workload import endless_model, generate, running_worker, sampling

from gptj_demo.client import Worker

PROMPT = "Once upon a time there was a king"
TOKENS = 300
IN_A_ROW = 3
SPARE = 8  # slots beyond the streams, because one caller cannot get the last ones
KEY = "the-caller"
LIMITS = httpx.Limits(max_connections=None)


async def over_worker(worker: Worker, streams: int) -> float:
    """Tokens a second of `streams` requests over the worker's interface."""

    async def ask(number: int) -> None:
        for seed in _seeds(number):
            await generate(worker, PROMPT, sampling(TOKENS, seed=seed))

    begin = time.perf_counter()
    await asyncio.gather(*(ask(number) for number in range(streams)))
    return streams * IN_A_ROW * TOKENS / (time.perf_counter() - begin)


def _seeds(number: int) -> range:
    """The seeds of one client's requests."""
    return range(IN_A_ROW * number, IN_A_ROW * (number + 1))


async def over_http(url: str, streams: int, *, stream: bool) -> float:
    """Tokens a second of the same requests over HTTP."""
    async with httpx.AsyncClient(
        base_url=url, timeout=300, limits=LIMITS, trust_env=False, headers=_headers()
    ) as client:

        async def ask(seed: int) -> int:
            params = sampling(TOKENS, seed=seed)
            body = {
                "prompt": PROMPT,
                "max_tokens": TOKENS,
                "temperature": params.temperature,
                "top_p": params.top_p,
                "seed": seed,
                "stream": stream,
            }
            if not stream:
                answer = await client.post("/v1/completions", json=body)
                return int(answer.json()["usage"]["completion_tokens"])
            body["stream_options"] = {"include_usage": True}
            last: dict[str, Any] = {}
            async with client.stream("POST", "/v1/completions", json=body) as answer:
                async for line in answer.aiter_lines():
                    if line.startswith("data: {"):
                        last = json.loads(line[6:])
            return int(last["usage"]["completion_tokens"])

        async def ask_all(number: int) -> int:
            return sum([await ask(seed) for seed in _seeds(number)])

        begin = time.perf_counter()
        tokens = sum(await asyncio.gather(*(ask_all(number) for number in range(streams))))
        return tokens / (time.perf_counter() - begin)


def _headers() -> dict[str, str]:
    return {"Authorization": f"Bearer {KEY}"}


def first_words(person: Any) -> float:
    """Seconds until a visitor's first words; then reads the rest."""
    begin = time.perf_counter()
    job = person.submit("The old woman", max_new_tokens=20, api_name="/generate")
    while not job.outputs():
        time.sleep(0.001)
    elapsed = time.perf_counter() - begin
    job.result()
    return elapsed


async def beside_a_caller(url: str, person: Any, queued: int, times: int) -> list[float]:
    """First words while a caller has `queued` requests in the queue."""
    async with httpx.AsyncClient(
        base_url=url, timeout=600, limits=LIMITS, trust_env=False, headers=_headers()
    ) as caller:
        body = {"prompt": PROMPT, "max_tokens": TOKENS}
        tasks = [
            asyncio.create_task(caller.post("/v1/completions", json=body)) for _ in range(queued)
        ]
        try:
            await asyncio.sleep(1.0)
            seconds = []
            for _ in range(times):
                seconds.append(await asyncio.to_thread(first_words, person))
                if sum(not task.done() for task in tasks) < queued // 3:
                    break
            return seconds
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def measure(model: Path, streams: int, queued: int, rounds: int) -> dict[str, Any]:
    """All figures."""
    from gradio_client import Client

    flags = ("--max-num-seqs", streams + SPARE, "--max-waiting", 2 * queued)
    rates: dict[str, list[float]] = {"worker": [], "HTTP, streams": [], "HTTP, whole": []}
    for number in range(rounds):
        note(f"api: tokens a second, round {number + 1}")
        with running_worker(model=str(model), max_num_seqs=streams + SPARE) as worker:
            asyncio.run(over_worker(worker, streams))
            rates["worker"].append(asyncio.run(over_worker(worker, streams)))
        with running_playground(model, *flags, GPTJ_API_KEYS=KEY) as (url, _):
            asyncio.run(over_http(url, streams, stream=True))
            for name, stream in (("HTTP, streams", True), ("HTTP, whole", False)):
                rates[name].append(asyncio.run(over_http(url, streams, stream=stream)))
            if number == rounds - 1:
                note("api: a person beside a caller")
                person = Client(url, verbose=False)
                first_words(person)
                alone = [first_words(person) for _ in range(9)]
                beside = asyncio.run(beside_a_caller(url, person, queued, 9))
    return {
        "streams": streams,
        "tokens a second": {name: round(median(measured), 1) for name, measured in rates.items()},
        "queued": queued,
        "first words ms, alone": round(1e3 * median(alone), 1),
        "first words ms, beside the caller": round(1e3 * median(beside), 1),
        "first words ms, beside the caller, longest": round(1e3 * max(beside), 1),
    }


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--queued", type=int, default=200)
    arguments = parser.parse_args()
    with endless_model() as model:
        figures = measure(model, arguments.streams, arguments.queued, arguments.rounds)
    rates = figures["tokens a second"]
    rows = [(name, rate, rate / rates["worker"]) for name, rate in rates.items()]
    print_table(
        f"{arguments.streams} streams at once", ("over", "tokens a second", "of worker's"), rows
    )
    names = [name for name in figures if name.startswith("first words")]
    print_table(
        f"a person while a caller has {arguments.queued} requests in line",
        ("first words", "ms"),
        [(name.removeprefix("first words ms, "), figures[name]) for name in names],
    )
    machine = describe_machine("torch", "gradio", "fastapi", "uvicorn")
    finish("api", figures, machine, save=arguments.save)


if __name__ == "__main__":
    main()
