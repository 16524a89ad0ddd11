#!/usr/bin/env python3
"""A person at the page beside a caller with 200 sessions and 64 connections.

    python benchmarks/neighbours.py [--sessions 200] [--connections 64] [--requests 20]

The playground runs with `--limits public`. The person presses Generate, waits for the first words,
and stops; first with the playground to herself, then while the caller keeps all of its connections
busy with long texts from its sessions. Both have addresses of their own, set by a trusted proxy.
The caller is a process of its own with the lowest priority, because a real caller has its own
machine. Exits with 1 if the person's median is more than twice the idle one.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import page_calls
from common import describe_machine, finish, make_parser, median, note, percentile, print_table
from programs import running_playground, running_program
from workload import endless_model

PERSON = {"X-Forwarded-For": "203.0.113.1"}
CALLER = {"X-Forwarded-For": "198.51.100.7"}
OPENING = "Once upon a time there was a"
CALLERS_TOKENS = 400
LIMIT = 2.0
PAUSE_SECONDS = 0.5
WARM_SECONDS = 10.0


def browser(url: str, headers: dict[str, str], connections: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=url,
        headers=headers,
        timeout=300,
        limits=httpx.Limits(max_connections=connections),
        trust_env=False,
        verify=False,
    )


async def first_words(client: httpx.AsyncClient, page: page_calls.Page) -> float:
    """Seconds from Generate to the first words."""
    session = page_calls.new_session()
    prompt = f"{OPENING} {random.randrange(10**6)}"
    begin = time.perf_counter()
    if not await page_calls.press_generate(client, page, session, prompt, max_new_tokens=8):
        raise SystemExit("the person was refused")
    seconds = None
    async for message in page_calls.read_log(client, session):
        if seconds is None and page_calls.has_words(message):
            seconds = time.perf_counter() - begin
        if page_calls.is_last(message):
            break
    if seconds is None:
        raise SystemExit("the person got no words")
    return seconds


async def person(url: str, requests: int) -> list[float]:
    """The person's times to the first words, one request after another."""
    async with browser(url, PERSON, 6) as client:
        page = await page_calls.load_page(client)
        times = []
        for _ in range(requests):
            times.append(await first_words(client, page))
            await asyncio.sleep(PAUSE_SECONDS)
        return times


async def call_without_end(url: str, sessions: int, connections: int) -> None:
    """The caller: every connection begins long texts under changing sessions, and reads them."""
    names = [page_calls.new_session() for _ in range(sessions)]
    async with browser(url, CALLER, connections) as client:
        page = await page_calls.load_page(client)

        async def keep_busy(first: int) -> None:
            number = first
            while True:
                session = names[number % sessions]
                number += connections
                try:
                    if await page_calls.press_generate(
                        client, page, session, f"{OPENING} {number}", max_new_tokens=CALLERS_TOKENS
                    ):
                        async for message in page_calls.read_log(client, session):
                            if page_calls.is_last(message):
                                break
                except httpx.HTTPError:
                    await asyncio.sleep(0.05)

        await asyncio.gather(*(keep_busy(number) for number in range(connections)))


def measure(model: Path, sessions: int, connections: int, requests: int) -> dict[str, list[float]]:
    """The person's times, alone and beside the caller."""
    flags = ("--limits", "public", "--trusted-proxies", "127.0.0.1")
    with running_playground(model, *flags) as (url, _):
        asyncio.run(person(url, 3))  # a warm-up
        note("the person alone")
        alone = asyncio.run(person(url, requests))
        call = ["--call", url, "--sessions", str(sessions), "--connections", str(connections)]
        with running_program("benchmarks/neighbours.py", *call):
            note("the person beside the caller")
            time.sleep(WARM_SECONDS)
            beside = asyncio.run(person(url, requests))
    return {"alone": alone, "beside the caller": beside}


def main() -> None:
    parser = make_parser(__doc__, rounds=None, saves=False)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--requests", type=int, default=20, help="of the person; default 20")
    parser.add_argument("--call", metavar="URL", help="be the caller")
    arguments = parser.parse_args()
    if arguments.call:
        if hasattr(os, "nice"):
            os.nice(19)
        asyncio.run(call_without_end(arguments.call, arguments.sessions, arguments.connections))
        return
    with endless_model() as model:
        times = measure(model, arguments.sessions, arguments.connections, arguments.requests)
    figures = {name: describe(seconds) for name, seconds in times.items()}
    ratio = figures["beside the caller"]["median s"] / figures["alone"]["median s"]
    rows = [[name, *one.values()] for name, one in figures.items()]
    print_table("First words of the person", ["", *figures["alone"]], rows)
    print(f"\n{ratio:.2f} times the idle time; at most {LIMIT} is the aim")
    machine = describe_machine("torch", "gradio")
    finish("neighbours", {**figures, "ratio": round(ratio, 3)}, machine)
    sys.exit(0 if ratio <= LIMIT else 1)


def describe(seconds: Sequence[float]) -> dict[str, float]:
    return {
        "median s": round(median(seconds), 4),
        "p95 s": round(percentile(seconds, 95), 4),
        "worst s": round(max(seconds), 4),
    }


if __name__ == "__main__":
    main()
