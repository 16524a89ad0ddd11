#!/usr/bin/env python3
"""A person at the page beside a batch of 1,000 rows, which ends, and one that is cancelled.

    python benchmarks/batch.py [--rows 1000] [--tokens 40] [--requests 15]

The person presses Generate, waits for the first words, and stops; first with the playground to
herself, then while a visitor with another address generates for all rows of a file, in parts, as
the page sends them. Another batch is cancelled in its first part. No text ends before its length.
Exits with 1 if the person's median is more than three times the idle one.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import page_calls
from common import describe_machine, finish, make_parser, note, print_table
from neighbours import CALLER, browser, describe, person
from programs import running_playground
from workload import endless_model

TEMPLATE = "Once upon a time there was a {kind} who"
PART_ROWS = 100
ROW = '\\"row\\":'
LIMIT = 3.0
WARM_SECONDS = 3.0


class Batch:
    """A visitor with a file of rows."""

    def __init__(self, client: httpx.AsyncClient, rows: int, tokens: int) -> None:
        self._client = client
        self._rows = [[number, [f"child {number}"]] for number in range(rows)]
        self._tokens = tokens
        self._session = page_calls.new_session()
        self.done = 0

    async def load(self) -> None:
        """Find the functions of the page."""
        config = (await self._client.get("/config")).json()
        named = {one["api_name"]: one["id"] for one in config["dependencies"]}
        self._function = named["batch_run"]
        of_batch = (
            one["id"] for one in config["components"] if one["props"].get("elem_id") == "batch"
        )
        self._component = next(of_batch)

    async def run(self, *, cancel_after: int | None = None) -> float:
        """Seconds until all rows have ended; from Cancel on if the batch is cancelled."""
        begin = time.perf_counter()
        for first in range(0, len(self._rows), PART_ROWS):
            number = await self._begin(self._rows[first : first + PART_ROWS])
            is_cancelled = False
            async for message in page_calls.read_log(self._client, self._session):
                if json.loads(message)["msg"] == "process_completed":
                    break
                self.done += message.count(ROW)
                if cancel_after is not None and self.done >= cancel_after and not is_cancelled:
                    is_cancelled = True
                    begin = time.perf_counter()
                    await self._call("component_server/", self._stop(number))
            if is_cancelled:
                break
        return time.perf_counter() - begin

    async def _begin(self, rows: list[Any]) -> str:
        number = secrets.token_hex(4)
        controls = {"max_new_tokens": self._tokens}
        asked = {"id": number, "template": TEMPLATE, "names": ["kind"], "rows": rows}
        body = {
            "data": [],
            "event_data": {**asked, "controls": controls, "seed": 1},
            "fn_index": self._function,
            "trigger_id": self._component,
            "session_hash": self._session,
        }
        await self._call("queue/join", body)
        return number

    def _stop(self, number: str) -> dict[str, Any]:
        given = {"component_id": self._component, "fn_name": "stop_batch", "data": number}
        return {**given, "session_hash": self._session}

    async def _call(self, route: str, body: dict[str, Any]) -> None:
        answer = await self._client.post(f"/gradio_api/{route}", json=body)
        answer.raise_for_status()


async def measure(url: str, rows: int, tokens: int, requests: int) -> dict[str, Any]:
    """The person's times alone and beside a batch, and how long the batches take."""
    await person(url, 3)  # a warm-up
    note("the person alone")
    alone = await person(url, requests)
    async with browser(url, CALLER, 6) as client:
        batch = Batch(client, rows, tokens)
        await batch.load()
        note("the person beside the batch")
        running = asyncio.create_task(batch.run())
        await asyncio.sleep(WARM_SECONDS)
        beside = await person(url, requests)
        if running.done():
            raise SystemExit("the batch ended before the person did: take more rows")
        seconds = await running
        note("another batch is cancelled")
        cancelled = Batch(client, rows, tokens)
        await cancelled.load()
        seconds_to_stop = await cancelled.run(cancel_after=20)
    return {
        "alone": describe(alone),
        "beside the batch": describe(beside),
        "batch": {
            "rows": batch.done,
            "seconds": round(seconds, 1),
            "tokens a second": round(batch.done * tokens / seconds, 1),
            "seconds from Cancel to the end": round(seconds_to_stop, 3),
        },
    }


def start(model: Path, rows: int, tokens: int, requests: int) -> dict[str, Any]:
    """`measure` with a playground of its own."""
    with running_playground(model, "--trusted-proxies", "127.0.0.1") as playground:
        return asyncio.run(measure(playground.url, rows, tokens, requests))


def main() -> None:
    parser = make_parser(__doc__, rounds=None, saves=False)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=40, help="of each row; default 40")
    parser.add_argument("--requests", type=int, default=15, help="of the person; default 15")
    arguments = parser.parse_args()
    with endless_model() as model:
        figures = start(model, arguments.rows, arguments.tokens, arguments.requests)
    ratio = figures["beside the batch"]["median s"] / figures["alone"]["median s"]
    people = {name: figures[name] for name in ("alone", "beside the batch")}
    rows = [[name, *one.values()] for name, one in people.items()]
    print_table("First words of the person", ["", *figures["alone"]], rows)
    print_table("The batch", ["", ""], [[*one] for one in figures["batch"].items()])
    print(f"\n{ratio:.2f} times the idle time; at most {LIMIT} is the aim")
    machine = describe_machine("torch", "gradio")
    finish("batch", {**figures, "ratio": round(ratio, 3)}, machine)
    is_whole = figures["batch"]["rows"] == arguments.rows
    sys.exit(0 if ratio <= LIMIT and is_whole else 1)


if __name__ == "__main__":
    main()
