#!/usr/bin/env python3
"""Many visitors at once through the page's API, and the same with the usual Space.

    python benchmarks/visitors.py [--visitors 1 4 16 64] [--tokens 60]

Each visitor is a `gradio_client` in this process. The sites run in processes of their own and take
turns: a site is idle while another has its visitors. The usual Space (`usual_space.py`) is a Gradio
generator over `TextIteratorStreamer` and `generate`: with Gradio's default of one visitor at a
time, and without that limit.

Words a second are all visitors' words, divided by the time from the first click to the last word.
First words and longest silence are per visitor; silence is the time between two updates with words.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from common import describe_machine, finish, make_parser, median, note, percentile, print_table
from gradio_client import Client
from programs import free_port, running_playground, running_program
from workload import endless_model

OPENINGS = (
    "Once upon a time there was a",
    "The old king had three daughters, and",
    "In the middle of the forest stood",
    "When the ship came in at last,",
)
LOOK_SECONDS = 0.01  # how often a visitor looks at what has arrived
LIMIT_SECONDS = 300.0
CONNECTION_ATTEMPTS = 3

OURS = "ours"
SPACE = "the usual Space"
UNLIMITED = "the usual Space, no limit"
SITES = (OURS, SPACE, UNLIMITED)


@dataclass
class Visit:
    """The words that one visitor received, with times."""

    job: Any
    begin: float
    updates: int = 0
    text: str = ""
    times: list[float] = field(default_factory=list)

    def look(self) -> bool:
        """Take the updates that have arrived; returns whether the last was among them."""
        done = self.job.done()  # before the updates, so that none is missed
        outputs = self.job.outputs()
        if len(outputs) > self.updates:
            self.updates = len(outputs)
            if outputs[-1] != self.text:
                self.text = outputs[-1]
                self.times.append(time.perf_counter())
        if done:
            self.job.result()  # raises the request's error
        return done

    @property
    def first(self) -> float:
        return self.times[0] - self.begin

    @property
    def silence(self) -> float:
        gaps = (later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False))
        return max(gaps, default=0.0)


@contextlib.contextmanager
def running_site(name: str, model: Path, visitors: int) -> Iterator[str]:
    if name == OURS:
        with running_playground(model, "--max-num-seqs", max(32, visitors)) as playground:
            yield playground.url
        return
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    flags = ["--unlimited"] if name == UNLIMITED else []
    with running_program("benchmarks/usual_space.py", str(model), str(port), *flags) as program:
        program.wait_until_up(url)
        yield url


def visit(name: str, clients: Sequence[Client], tokens: int, seed: int) -> list[Visit]:
    """All visitors press Generate at once; returns each one's words."""
    generator = random.Random(seed)
    visits = []
    for client in clients:
        prompt = f"{generator.choice(OPENINGS)} {generator.randrange(1000)}"
        begin = time.perf_counter()
        job = client.submit(prompt, max_new_tokens=tokens, api_name="/generate")
        visits.append(Visit(job, begin))
    open_visits = list(visits)
    while open_visits:
        open_visits = [visit for visit in open_visits if not visit.look()]
        if time.perf_counter() - visits[0].begin > LIMIT_SECONDS:
            raise SystemExit(f"{name}: {len(open_visits)} visitors wait after {LIMIT_SECONDS} s")
        time.sleep(LOOK_SECONDS)
    return visits


@contextlib.contextmanager
def connected(url: str, visitors: int) -> Iterator[list[Client]]:
    """Clients of a site."""

    def connect(_: int) -> Client:
        # loading certificates at each request would take CPU time from the sites
        for _ in range(CONNECTION_ATTEMPTS - 1):
            with contextlib.suppress(httpx.TransportError):  # many connect at once
                return Client(url, verbose=False, ssl_verify=False, download_files=False)
        return Client(url, verbose=False, ssl_verify=False, download_files=False)

    with ThreadPoolExecutor(4) as pool, contextlib.ExitStack() as opened:
        clients = list(pool.map(connect, range(visitors)))
        for client in clients:
            opened.callback(client.close)
        yield clients


def describe(rounds: Sequence[Sequence[Visit]]) -> dict[str, float]:
    """The figures of a site at one number of visitors, from the visits of each round."""
    rates = [
        sum(len(one.text.split()) for one in visits)
        / (max(one.times[-1] for one in visits) - visits[0].begin)
        for visits in rounds
    ]
    firsts = [one.first for visits in rounds for one in visits]
    silences = [one.silence for visits in rounds for one in visits]
    return {
        "words a second, all": round(median(rates), 1),
        "first words s, median": round(median(firsts), 3),
        "first words s, p95": round(percentile(firsts, 95), 3),
        "longest silence s, median": round(median(silences), 3),
        "longest silence s, worst": round(max(silences), 3),
    }


def measure(
    model: Path, counts: Sequence[int], tokens: int, rounds: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Figures by site and number of visitors; the sites take turns in each round."""
    figures: dict[str, dict[str, dict[str, float]]] = {name: {} for name in SITES}
    with contextlib.ExitStack() as stack:
        clients: dict[str, list[Client]] = {}
        for name in SITES:
            url = stack.enter_context(running_site(name, model, max(counts)))
            clients[name] = stack.enter_context(connected(url, max(counts)))
            visit(name, clients[name][:2], 8, seed=0)  # a warm-up
        for count in counts:
            visits: dict[str, list[list[Visit]]] = {name: [] for name in SITES}
            for number in range(rounds):
                note(f"visitors: {count}, round {number + 1}")
                for name in SITES:
                    chosen = clients[name][:count]
                    visits[name].append(visit(name, chosen, tokens, seed=100 * count + number))
            for name in SITES:
                figures[name][str(count)] = describe(visits[name])
    return figures


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--visitors", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--tokens", type=int, default=60, help="each visitor's; default 60")
    arguments = parser.parse_args()
    counts = sorted(arguments.visitors)
    with endless_model() as model:
        figures = measure(model, counts, arguments.tokens, arguments.rounds)
    for what in figures[OURS][str(counts[0])]:
        rows = [[name, *(by[str(n)][what] for n in counts)] for name, by in figures.items()]
        print_table(f"{what}, by visitors", ["", *map(str, counts)], rows)
    words, first = "words a second, all", "first words s, p95"
    ratios = {
        f"{what} / {name}, {count}": round(
            figures[OURS][str(count)][what] / by[str(count)][what], 3
        )
        for what in (words, first)
        for name, by in figures.items()
        if name != OURS
        for count in counts
    }
    print_table("Ratios", ["", "ours / theirs"], list(ratios.items()))
    machine = describe_machine("torch", "transformers", "gradio", "gradio_client")
    result = {"in turns": True, "by visitors": figures, "ratios": ratios}
    finish("visitors", result, machine, save=arguments.save)


if __name__ == "__main__":
    main()
