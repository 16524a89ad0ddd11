#!/usr/bin/env python3
"""The web process's memory under visitors who are all new.

    python benchmarks/soak.py [--minutes 60] [--clients 12] [--plot FILE.svg]

Each visit has a new session, address and prompt, and one of many API keys. Visits call the page's
functions and the API: results that are read, results that nobody collects, results of 8 completions
with 20 alternatives for each token that are read slowly or not at all, callers that leave, and long
names. The memory is the process's anonymous memory, which excludes files that it maps.

The memory counts as flat if the median of the last tenth of the run is at most 5 % over the median
of the first minute after `--warm` minutes. Exits with 1 if it is not.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
import page_calls
from common import describe_machine, finish, make_parser, median, note, print_table
from programs import anonymous_memory, running_playground

SAMPLE_SECONDS = 5.0
FLAT = 1.05
KEYS = 1000
SLOW_SECONDS = 0.5
PROMPT_WORDS = 40


class Sample(NamedTuple):
    """Memory at a time."""

    minutes: float
    megabytes: float
    visits: int


class Visits:
    """Makes visits, each by a new visitor."""

    def __init__(self, url: str, keys: Sequence[str], seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self._url = url
        self._keys = keys
        self._random = random.Random(seed)
        self._numbers = itertools.count(1)
        self._page: page_calls.Page | None = None
        self._kinds: list[tuple[Callable[[httpx.AsyncClient], Awaitable[None]], int]] = [
            (self._write, 4),
            (self._count_tokens, 6),
            (self._never_collect, 4),
            (self._call_and_leave, 2),
            (self._large_and_unread, 1),
            (self._stream, 4),
            (self._stream_slowly, 1),
            (self._batch, 2),
            (self._strange_names, 1),
        ]

    async def go_on(self) -> None:
        """Make visits until cancelled."""
        visits = [kind for kind, _ in self._kinds]
        weights = [weight for _, weight in self._kinds]
        while True:
            visit = self._random.choices(visits, weights)[0]
            address = ".".join(["10", *(str(byte) for byte in secrets.token_bytes(3))])
            headers = {
                "X-Forwarded-For": address,
                "Authorization": f"Bearer {self._random.choice(self._keys)}",
            }
            async with httpx.AsyncClient(
                base_url=self._url, headers=headers, timeout=120, trust_env=False, verify=False
            ) as client:
                if self._page is None:
                    self._page = await page_calls.load_page(client)
                try:
                    await visit(client)
                    self.counts[visit.__name__.strip("_")] += 1
                except httpx.HTTPError as error:
                    self.counts[f"failed: {type(error).__name__}"] += 1
                    await asyncio.sleep(0.2)

    @property
    def page(self) -> page_calls.Page:
        assert self._page is not None
        return self._page

    def _prompt(self) -> str:
        words = (secrets.token_hex(3) for _ in range(self._random.randrange(1, PROMPT_WORDS)))
        return f"Visit {next(self._numbers)}: " + " ".join(words)

    # ---- the page's functions

    async def _write(self, client: httpx.AsyncClient) -> None:
        session = page_calls.new_session()
        if await page_calls.press_generate(
            client, self.page, session, self._prompt(), max_new_tokens=16, logprobs=5
        ):
            async for message in page_calls.read_log(client, session):
                if page_calls.is_last(message):
                    break

    async def _count_tokens(self, client: httpx.AsyncClient) -> None:
        await page_calls.count_tokens(client, self.page, page_calls.new_session(), self._prompt())

    async def _never_collect(self, client: httpx.AsyncClient) -> None:
        await page_calls.press_generate(
            client, self.page, page_calls.new_session(), self._prompt(), max_new_tokens=8
        )

    async def _call_and_leave(self, client: httpx.AsyncClient) -> None:
        await client.post("/gradio_api/call/tokenize", json={"data": [self._prompt()]})

    async def _large_and_unread(self, client: httpx.AsyncClient) -> None:
        session = page_calls.new_session()
        await page_calls.press_generate(
            client, self.page, session, self._prompt(), max_new_tokens=64, logprobs=20, n=8
        )
        if self._random.random() < 0.5:
            messages = page_calls.read_log(client, session)
            await anext(messages, None)
            await asyncio.sleep(SLOW_SECONDS)
            await messages.aclose()  # type: ignore[attr-defined]

    async def _strange_names(self, client: httpx.AsyncClient) -> None:
        await page_calls.count_tokens(client, self.page, secrets.token_hex(2000), "a")
        await page_calls.press_generate(
            client, self.page, secrets.token_hex(2000), "a", max_new_tokens=1
        )
        await client.get(f"/v1/models/{secrets.token_hex(8)}")
        await client.get(f"/{secrets.token_hex(8)}")

    # ---- the API

    async def _stream(self, client: httpx.AsyncClient) -> None:
        body = {"prompt": self._prompt(), "max_tokens": 16, "stream": True, "logprobs": 2}
        async with client.stream("POST", "/v1/completions", json=body) as answer:
            async for _ in answer.aiter_bytes():
                pass

    async def _stream_slowly(self, client: httpx.AsyncClient) -> None:
        body = {
            "prompt": self._prompt(),
            "max_tokens": 64,
            "stream": True,
            "logprobs": 20,
            "n": 8,
        }
        async with client.stream("POST", "/v1/completions", json=body) as answer:
            async for _ in answer.aiter_bytes():
                await asyncio.sleep(SLOW_SECONDS)
                break

    async def _batch(self, client: httpx.AsyncClient) -> None:
        body = {"prompt": [self._prompt() for _ in range(4)], "max_tokens": 4}
        await client.post("/v1/completions", json=body)


async def soak(
    url: str, pid: int, keys: Sequence[str], minutes: float, clients: int
) -> tuple[list[Sample], Counter[str]]:
    """Let clients visit for some minutes; returns the memory over time, and counts of visits."""
    visits = Visits(url, keys, seed=1)
    tasks = [asyncio.create_task(visits.go_on()) for _ in range(clients)]
    samples = []
    begin = time.monotonic()
    while (passed := (time.monotonic() - begin) / 60) < minutes:
        samples.append(Sample(passed, anonymous_memory(pid) / 2**20, visits.counts.total()))
        for task in tasks:
            if task.done():
                task.result()  # raises its error
        if len(samples) % 12 == 1:
            note(f"{passed:5.1f} min  {samples[-1].megabytes:6.0f} MB  {samples[-1].visits} visits")
        await asyncio.sleep(SAMPLE_SECONDS)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return samples, visits.counts


def growth(samples: Sequence[Sample], warm: float) -> float:
    """The memory at the end of the run, relative to that after `warm` minutes."""
    after = [one for one in samples if one.minutes >= warm]
    if not after:
        raise SystemExit("the run is shorter than --warm")
    first = [one.megabytes for one in after if one.minutes < after[0].minutes + 1]
    last = [one.megabytes for one in after[-max(1, len(after) // 10) :]]
    return median(last) / median(first)


def plot(samples: Sequence[Sample], warm: float) -> str:
    """The memory over time as an SVG picture."""
    width, height, left, bottom = 640, 240, 48, 28
    longest = max(samples[-1].minutes, 0.1)
    most = max(one.megabytes for one in samples) * 1.1

    def x(minutes: float) -> float:
        return left + (width - left - 8) * minutes / longest

    def y(megabytes: float) -> float:
        return height - bottom - (height - bottom - 8) * megabytes / most

    points = " ".join(f"{x(one.minutes):.1f},{y(one.megabytes):.1f}" for one in samples)
    labels = [
        f'<text x="{left - 6}" y="{y(most * part):.0f}" text-anchor="end">{most * part:.0f}</text>'
        for part in (0.25, 0.5, 0.75, 1.0)
    ]
    labels += [
        f'<text x="{x(longest * part):.0f}" y="{height - 10}" text-anchor="middle">'
        f"{longest * part:.0f}</text>"
        for part in (0.25, 0.5, 0.75)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="sans-serif" font-size="11">'
        "<title>Memory of the web process (MB) over time (minutes)</title>"
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
        f'<path d="M{left} 8V{height - bottom}H{width - 8}" fill="none" stroke="#888"/>'
        f'<path d="M{x(min(warm, longest)):.1f} 8V{height - bottom}" stroke="#ccc"/>'
        f'<polyline points="{points}" fill="none" stroke="#0f6e56" stroke-width="1.5"/>'
        f'{"".join(labels)}<text x="{width - 8}" y="{height - 10}" text-anchor="end">minutes</text>'
        f'<text x="{left + 6}" y="18">MB</text></svg>\n'
    )


def main() -> None:
    parser = make_parser(__doc__, rounds=None, saves=False)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--warm", type=float, default=10.0, help="minutes that do not count")
    parser.add_argument("--clients", type=int, default=12, help="visitors at a time")
    parser.add_argument("--plot", type=Path, help="write the plot to this file")
    arguments = parser.parse_args()
    keys = [secrets.token_hex(16) for _ in range(KEYS)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "keys"
        file.write_text("\n".join(keys))
        flags = ("--limits", "public", "--trusted-proxies", "127.0.0.1", "--api-keys-file", file)
        with running_playground("sample", *flags) as (url, pid):
            samples, counts = asyncio.run(
                soak(url, pid, keys, arguments.minutes, arguments.clients)
            )
    grown = growth(samples, min(arguments.warm, arguments.minutes / 2))
    each = max(1, len(samples) // 20)
    rows = [(round(one.minutes, 1), one.megabytes, one.visits) for one in samples[::each]]
    print_table("Memory of the web process", ["minutes", "MB", "visits"], rows)
    print_table("Visits", ["", "number"], counts.most_common())
    figures = {
        "minutes": arguments.minutes,
        "visits": counts.total(),
        "MB at the beginning": round(samples[0].megabytes, 1),
        "MB at the end": round(samples[-1].megabytes, 1),
        "MB at most": round(max(one.megabytes for one in samples), 1),
        "growth after the warm-up": round(grown, 4),
        "visits by kind": dict(counts),
    }
    if arguments.plot is not None:
        arguments.plot.write_text(plot(samples, arguments.warm), encoding="utf-8")
    finish("soak", figures, describe_machine("gradio", "uvicorn"))
    sys.exit(0 if grown <= FLAT else 1)


if __name__ == "__main__":
    main()
