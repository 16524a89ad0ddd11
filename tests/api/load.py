"""Load test: many clients stream and disconnect at random; afterwards nothing may stay open.

python -m tests.api.load --seconds 120 --clients 64
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil

from .conftest import Playground

PATIENCE = httpx.Timeout(60.0)


@dataclass
class Result:
    """Counts, memory, open descriptors and metrics of the run."""

    ended: int = 0
    left: int = 0
    refused: int = 0
    tokens: int = 0
    failures: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    """Bytes resident in the web process, taken at even times."""
    descriptors: tuple[int, int] = (0, 0)
    threads: tuple[int, int] = (0, 0)
    metrics: dict[str, float] = field(default_factory=dict)


async def _visit(client: httpx.AsyncClient, random_: random.Random, result: Result) -> None:
    """Send one request; about one in three is abandoned in the middle."""
    body: dict[str, Any] = {
        "prompt": "Once upon a time there was " * random_.randint(1, 12),
        "max_tokens": random_.randint(1, 80),
        "ignore_eos": True,
        "stream": random_.random() < 0.9,
        "n": random_.choice((1, 1, 1, 2)),
        "seed": random_.randrange(2**32),
    }
    leave_after = random_.randint(0, 10) if random_.random() < 0.33 else None
    async with client.stream("POST", "/v1/completions", json=body) as response:
        if response.status_code == 429:
            result.refused += 1
            await response.aread()
            return
        if response.status_code != 200:
            result.failures.append(f"status {response.status_code}")
            return
        if leave_after == 0:
            result.left += 1
            return
        seen, last = 0, ""
        async for line in response.aiter_lines():
            if not line:
                continue
            seen, last = seen + 1, line
            if leave_after is not None and seen >= leave_after:
                result.left += 1
                return
        result.ended += 1
        if body["stream"] and last != "data: [DONE]":
            result.failures.append(f"a stream ended with {last[:60]!r}")
        if not body["stream"] and "choices" not in json.loads(last):
            result.failures.append("an answer without choices")


async def _client(url: str, number: int, end: float, result: Result) -> None:
    random_ = random.Random(number)
    loop = asyncio.get_running_loop()
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False) as client:
        while loop.time() < end:
            try:
                await _visit(client, random_, result)
            except httpx.HTTPError as error:
                result.failures.append(repr(error))
            await asyncio.sleep(random_.random() * 0.05)


async def _storm(url: str, clients: int, seconds: float, web: psutil.Process) -> Result:
    result = Result()
    end = asyncio.get_running_loop().time() + seconds
    tasks = [asyncio.create_task(_client(url, i, end, result)) for i in range(clients)]
    while any(not task.done() for task in tasks):
        result.memory.append(web.memory_info().rss)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.gather(*tasks)), max(0.5, seconds / 24))
    return result


def storm(playground: Playground, clients: int, seconds: float) -> Result:
    """Let `clients` come and go for `seconds`; the playground is idle before and after."""
    web = psutil.Process(playground.process.pid)
    playground.wait_until_idle()
    before = web.num_fds(), web.num_threads()
    result = asyncio.run(_storm(playground.url, clients, seconds, web))
    result.metrics = playground.wait_until_idle()
    result.descriptors = before[0], web.num_fds()
    result.threads = before[1], web.num_threads()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--clients", type=int, default=64)
    arguments = parser.parse_args()
    playground = Playground("--max-num-seqs", "16", "--max-waiting", "80")
    try:
        playground.wait_until_ready()
        result = storm(playground, arguments.clients, arguments.seconds)
    finally:
        playground.stop()
    metrics = result.metrics
    print(f"{result.ended} ended, {result.left} left, {result.refused} refused")
    print(f"{len(result.failures)} failures {result.failures[:3]}")
    print("resident, MB:", *(round(size / 2**20, 1) for size in result.memory))
    print("descriptors before and after:", *result.descriptors)
    print("threads before and after:", *result.threads)
    for name in sorted(metrics):
        if name.startswith(("gptj_requests", "gptj_streams", "gptj_kv", "gptj_completion_tokens")):
            print(f"{name} {metrics[name]:g}")


if __name__ == "__main__":
    main()
