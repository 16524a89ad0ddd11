"""Runs visitors, callers and faults against one playground for ten minutes.

    python -m tests.chaos.mixed [--minutes 10] [--seed 1]

Visitors use the page's functions; callers the API, whole and streamed; batches have 16 prompts.
Some leave in the middle, some read slowly, some send nonsense. Meanwhile the engine is killed and
suspended, the web process is terminated and killed, writing files fails, and memory runs short.
Every text that arrives is compared with the one that the same request has alone. Prints a report
and one line of JSON last; the exit code is 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import psutil

from tests.processes import App, is_running
from tests.waiting import PATIENCE, eventually

MODELS_WORK = 24  # different requests
ANSWER_SECONDS = 120.0  # within which each request must have ended or been refused
SETTLE_SECONDS = 5.0  # after a restart of the web process, in which answers may still be lost
FREE_MEMORY = 2 * 2**30  # bytes that the shortage leaves free
NONSENSE = (b"", b"{", b"[]", b'{"prompt": 1}', b'{"prompt": "x", "temperature": "hot"}', b"\xff")
VISITORS, CALLERS, BATCHES, LEAVERS, SLOW, SENSELESS = 6, 10, 2, 4, 3, 2


def bodies(generator: random.Random) -> list[dict[str, Any]]:
    """Requests for the API whose texts do not depend on what else runs."""
    return [
        {
            "prompt": generator.choice(("Once upon a time", "The king", "In the forest ")),
            "max_tokens": generator.randrange(20, 250),
            "seed": number,
            "temperature": generator.choice((0.0, 0.8, 1.2)),
            "ignore_eos": True,
            "frequency_penalty": generator.choice((0.0, 0.4)),
        }
        for number in range(MODELS_WORK)
    ]


class Site:
    """The playground under test; its web process may be replaced."""

    def __init__(self) -> None:
        self.app = App("--model", "sample", "--max-num-seqs", "16", "--max-waiting", "200")
        self.faulty_until = 0.0
        """Until when connections may break or be refused, by the monotonic clock."""

    @property
    def may_fail(self) -> bool:
        return time.monotonic() < self.faulty_until

    def replace(self) -> None:
        """Start the web process again, at the same address, after it has ended."""
        self.app.process.wait(PATIENCE)
        self.app.restart()


class Chaos:
    """Runs the visitors and the faults, and counts the outcomes."""

    def __init__(self, site: Site, generator: random.Random) -> None:
        self.site = site
        self.generator = generator
        self.bodies = bodies(generator)
        self.alone: dict[int, str] = {}
        self.counts: Counter[str] = Counter()
        self.broken: list[str] = []
        self.longest = 0.0  # seconds that an answer took

    # ---- visitors and callers

    async def whole(self, client: httpx.AsyncClient) -> None:
        number = self.generator.randrange(len(self.bodies))
        answer = await client.post("/v1/completions", json=self.bodies[number])
        if answer.status_code == 200:
            self.compare(number, answer.json()["choices"][0]["text"])
        else:
            self.note_refusal(answer.status_code, answer.text)

    async def streamed(self, client: httpx.AsyncClient) -> None:
        number = self.generator.randrange(len(self.bodies))
        body = {**self.bodies[number], "stream": True}
        text = ""
        async with client.stream("POST", "/v1/completions", json=body) as response:
            if response.status_code != 200:
                self.note_refusal(response.status_code, (await response.aread()).decode())
                return
            async for line in response.aiter_lines():
                if line == "data: [DONE]":
                    self.compare(number, text)
                    return
                if line.startswith("data: "):
                    event = json.loads(line[6:])
                    if "error" in event:
                        self.note_refusal(503, event["error"]["message"])
                        return
                    text += event["choices"][0]["text"]
        self.lost("a stream ended without a word")

    async def batch(self, client: httpx.AsyncClient) -> None:
        prompts = [f"{number} little birds" for number in range(16)]
        body = {"prompt": prompts, "max_tokens": 30, "seed": 1, "ignore_eos": True}
        answer = await client.post("/v1/completions", json=body)
        if answer.status_code == 200:
            self.counts["batches answered"] += len(answer.json()["choices"]) == len(prompts)
        else:
            self.note_refusal(answer.status_code, answer.text)

    async def visitor(self, client: httpx.AsyncClient) -> None:
        call = "/gradio_api/call/v2/generate"
        asked = await client.post(call, json={"prompt": "The king", "max_new_tokens": 60})
        if asked.status_code != 200:
            self.note_refusal(asked.status_code, asked.text)
            return
        event = asked.json()["event_id"]
        async with client.stream("GET", f"{call}/{event}") as stream:
            kinds = [line async for line in stream.aiter_lines() if line.startswith("event: ")]
        if kinds and kinds[-1] == "event: complete":
            self.counts["page functions answered"] += 1
        else:
            self.lost(f"a page function ended with {kinds[-1:]}")

    async def leaver(self, client: httpx.AsyncClient) -> None:
        body = {"prompt": "x", "max_tokens": 900, "ignore_eos": True, "stream": True}
        async with client.stream("POST", "/v1/completions", json=body) as response:
            left = self.generator.randrange(1, 40)
            async for _ in response.aiter_lines():
                left -= 1
                if left == 0:
                    break
        self.counts["left in the middle"] += 1

    async def slow(self, client: httpx.AsyncClient) -> None:
        body = {"prompt": "x", "max_tokens": 500, "ignore_eos": True, "stream": True, "logprobs": 5}
        async with client.stream("POST", "/v1/completions", json=body) as response:
            count = 0
            async for _ in response.aiter_raw(64):
                await asyncio.sleep(0.05)
                count += 1
                if count > 200:
                    break
        self.counts["slow readers"] += 1

    async def senseless(self, client: httpx.AsyncClient) -> None:
        content = self.generator.choice(NONSENSE)
        headers = {"Content-Type": "application/json"}
        answer = await client.post("/v1/completions", content=content, headers=headers)
        self.counts["nonsense refused"] += 1
        if answer.status_code >= 500 and answer.status_code != 503:
            self.broken.append(f"status {answer.status_code} for {content!r}")

    # ---- outcomes

    def compare(self, number: int, text: str) -> None:
        if number not in self.alone:
            self.alone[number] = text
        elif text == self.alone[number]:
            self.counts["texts equal"] += 1
        else:
            self.broken.append(f"request {number} has another text")

    def note_refusal(self, status: int, why: str) -> None:
        self.counts[f"refused, status {status}"] += 1
        if status not in (429, 503):
            self.broken.append(f"status {status}: {why[:200]}")
        elif status == 503 and not self.site.may_fail and "memory" not in why:
            self.broken.append(f"status 503 without a fault of the web process: {why[:200]}")

    def lost(self, what: str) -> None:
        if self.site.may_fail:
            self.counts["connections lost with the web process"] += 1
        else:
            self.broken.append(what)

    async def actor(self, ask: Callable[[httpx.AsyncClient], Awaitable[None]], end: float) -> None:
        """Ask again and again until the end."""
        timeout = httpx.Timeout(ANSWER_SECONDS)
        while time.monotonic() < end:
            async with httpx.AsyncClient(
                base_url=self.site.app.url, timeout=timeout, trust_env=False
            ) as client:
                begin = time.monotonic()
                try:
                    await ask(client)
                except httpx.TimeoutException:
                    self.broken.append(f"no end within {ANSWER_SECONDS:g} s: {ask.__name__}")
                except httpx.HTTPError as error:
                    self.lost(f"{ask.__name__}: {error!r}")
                    await asyncio.sleep(0.5)
                self.longest = max(self.longest, time.monotonic() - begin)
            await asyncio.sleep(self.generator.random() * 0.2)

    # ---- faults

    async def kill_engine(self) -> None:
        self.site.app.engine.kill()

    async def suspend_engine(self) -> None:
        self.site.app.engine.suspend()

    async def end_web_process(self) -> None:
        self.site.faulty_until = math.inf
        self.site.app.process.send_signal(signal.SIGTERM)
        await self.replace_web_process()

    async def kill_web_process(self) -> None:
        engine = self.site.app.engine
        self.site.faulty_until = math.inf
        self.site.app.process.kill()
        await self.replace_web_process()
        if is_running(engine):
            self.broken.append("an engine outlived its web process")

    async def replace_web_process(self) -> None:
        await asyncio.to_thread(self.site.replace)
        await self.ready()
        self.site.faulty_until = time.monotonic() + SETTLE_SECONDS

    async def fill_disk(self) -> None:
        """Writing to files fails for a while."""
        web = psutil.Process(self.site.app.process.pid)
        before = web.rlimit(resource.RLIMIT_FSIZE)
        web.rlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        await asyncio.sleep(10)
        with contextlib.suppress(psutil.NoSuchProcess):
            web.rlimit(resource.RLIMIT_FSIZE, before)

    async def take_memory(self) -> None:
        """Leave little memory free for a while."""
        size = psutil.virtual_memory().available - FREE_MEMORY
        code = f"import time; held = bytearray({max(0, size)}); time.sleep(10)"
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
        await process.wait()

    async def faults(self, end: float) -> None:
        """One fault after another, in random order, until the end."""
        kinds = [
            *[self.kill_engine] * 6,
            self.suspend_engine,
            self.end_web_process,
            self.kill_web_process,
            self.fill_disk,
            self.take_memory,
        ]
        turn: list[Callable[[], Awaitable[None]]] = []
        while time.monotonic() < end - 30:
            await self.ready()
            await asyncio.sleep(self.generator.uniform(2, 8))
            if not turn:
                turn = kinds.copy()
                self.generator.shuffle(turn)
            fault = turn.pop()
            with contextlib.suppress(StopIteration, psutil.NoSuchProcess):
                await fault()
                self.counts[f"fault: {fault.__name__}"] += 1

    async def ready(self) -> None:
        while not await asyncio.to_thread(self.site.app.is_ready):
            await asyncio.sleep(0.1)

    async def run(self, minutes: float) -> None:
        async with httpx.AsyncClient(
            base_url=self.site.app.url, timeout=ANSWER_SECONDS, trust_env=False
        ) as client:
            for number, body in enumerate(self.bodies):
                answer = await client.post("/v1/completions", json=body)
                self.alone[number] = answer.json()["choices"][0]["text"]
        end = time.monotonic() + 60 * minutes
        actors = [
            (self.visitor, VISITORS),
            (self.whole, CALLERS // 2),
            (self.streamed, CALLERS // 2),
            (self.batch, BATCHES),
            (self.leaver, LEAVERS),
            (self.slow, SLOW),
            (self.senseless, SENSELESS),
        ]
        await asyncio.gather(
            self.faults(end),
            *(self.actor(ask, end) for ask, count in actors for _ in range(count)),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    site = Site()
    chaos = Chaos(site, random.Random(arguments.seed))
    try:
        site.app.wait_until_ready()
        asyncio.run(chaos.run(arguments.minutes))
        eventually(lambda: site.app.count_open() == 0)
        web = psutil.Process(site.app.process.pid)
        chaos.counts["processes at the end"] = 1 + len(web.children(recursive=True))
        chaos.counts["megabytes of the web process at the end"] = web.memory_info().rss >> 20
        chaos.counts["open files at the end"] = web.num_fds()
    finally:
        site.app.stop()
    for name, count in sorted(chaos.counts.items()):
        print(f"{name}: {count}")
    print(f"longest answer: {chaos.longest:.1f} s")
    print(f"promises broken: {len(chaos.broken)}", *chaos.broken[:10], sep="\n  ")
    figures = {**chaos.counts, "longest": round(chaos.longest, 1), "broken": len(chaos.broken)}
    print(json.dumps({"chaos": figures}))
    if chaos.broken:
        sys.exit(1)


if __name__ == "__main__":
    main()
