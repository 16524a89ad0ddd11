#!/usr/bin/env python3
"""Time from the command to the page, to a ready model, to the first words.

    python benchmarks/start.py

A visitor polls the page until it answers, then requests a text, which waits for the model. The peer
is the usual Space (`usual_space.py`), whose page is up only when its model is loaded. Both use the
sample model, with all files in the page cache.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from common import describe_machine, finish, make_parser, median, note, print_table
from programs import api_arguments, free_port, running_program
from workload import endless_model

PROMPT = "Once upon a time there was a"
OURS, SPACE = "ours", "the usual Space"
PAGE, READY, FIRST = "page s", "model ready s", "first words s"


def first_words(url: str) -> None:
    """Request a text through the page's API and read until the first words arrive."""
    body = json.dumps({"data": api_arguments(url, prompt=PROMPT, max_new_tokens=8)}).encode()
    call = f"{url}/gradio_api/call/generate"
    request = urllib.request.Request(call, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{call}/{event}", timeout=60) as updates:
        for line in updates:
            data = json.loads(line[6:]) if line.startswith(b"data: ") else None
            if isinstance(data, dict):
                raise SystemExit(f"{url} answered {data}")
            if data and data[0]:
                return
    raise SystemExit(f"{url} gave no words")


def start_ours(model: Path) -> dict[str, float]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    begin = time.perf_counter()
    with running_program("app.py", "--model", str(model), "--server-port", str(port)) as program:
        program.wait_until_up(url)
        page = time.perf_counter() - begin
        first_words(url)
        first = time.perf_counter() - begin
    begin = time.perf_counter()  # a second start, as a text request would disturb this
    with running_program("app.py", "--model", str(model), "--server-port", str(port)) as program:
        program.wait_until_up(url)
        program.wait_until_ready(url)
        ready = time.perf_counter() - begin
    return {PAGE: page, READY: ready, FIRST: first}


def start_space(model: Path) -> dict[str, float]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    begin = time.perf_counter()
    with running_program("benchmarks/usual_space.py", str(model), str(port)) as program:
        program.wait_until_up(url)
        page = time.perf_counter() - begin
        first_words(url)
        first = time.perf_counter() - begin
    return {PAGE: page, READY: page, FIRST: first}


def main() -> None:
    arguments = make_parser(__doc__, rounds=5).parse_args()
    starts: dict[str, Callable[[Path], dict[str, float]]] = {OURS: start_ours, SPACE: start_space}
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in starts}
    with endless_model() as model:
        for start in starts.values():  # fills the page cache
            start(model)
        for number in range(arguments.rounds):
            for name, start in starts.items():
                note(f"start: {name}, round {number + 1}")
                samples[name].append(start(model))
    moments = (PAGE, READY, FIRST)
    figures = {
        name: {what: round(median([one[what] for one in taken]), 3) for what in moments}
        for name, taken in samples.items()
    }
    rows = [[what, *(by[what] for by in figures.values())] for what in moments]
    print_table("Seconds from the command", ["", *figures], rows)
    ratios = {
        f"{what} / {SPACE}": round(figures[OURS][what] / figures[SPACE][what], 3)
        for what in moments
    }
    print_table("Ratios", ["", "ours / theirs"], list(ratios.items()))
    machine = describe_machine("torch", "transformers", "gradio")
    finish("start", {"seconds": figures, "ratios": ratios}, machine, save=arguments.save)


if __name__ == "__main__":
    main()
