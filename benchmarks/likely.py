#!/usr/bin/env python3
"""The time until the tree of the likely has 300 nodes, on the sample model.

    python benchmarks/likely.py [--rounds 5]

Grows the tree after prompts of several lengths through the worker, with the model's own
probabilities and with those after the page's default controls.
"""

from __future__ import annotations

import asyncio
import time

from common import SAMPLE_MODEL, describe_machine, finish, make_parser, median, print_table
from workload import running_worker

from gptj_demo.client import Worker
from gptj_demo.client.likely import Limits, Node, grow
from gptj_demo.sampling import SamplingParams

NODES = 300
PROMPTS = (8, 64, 400)
"""Tokens."""


async def seconds(worker: Worker, prompt: tuple[int, ...], params: SamplingParams | None) -> float:
    """The time until the tree is complete."""
    began = time.perf_counter()
    nodes: list[Node] = []
    async for new in grow(worker, prompt, Limits(nodes=NODES), params, None):
        nodes += new
    assert len(nodes) == NODES
    return time.perf_counter() - began


def main() -> None:
    asked = make_parser(__doc__, 5, saves=False).parse_args()
    found: dict[str, dict[str, list[float]]] = {"the model's own": {}, "after the controls": {}}
    with running_worker(model=str(SAMPLE_MODEL)) as worker:
        for turn in range(asked.rounds + 1):  # the first one warms up
            for length in PROMPTS:
                prompt = tuple(100 + turn + place for place in range(length))
                for name, params in zip(found, (None, SamplingParams()), strict=True):
                    took = asyncio.run(seconds(worker, prompt, params))
                    if turn:
                        found[name].setdefault(str(length), []).append(1000 * took)
    figures = {
        name: {length: median(times) for length, times in one.items()}
        for name, one in found.items()
    }
    rows = [[name, *one.values()] for name, one in figures.items()]
    title = f"Milliseconds until the tree has {NODES} nodes, by tokens of the prompt"
    print_table(title, ["probabilities", *map(str, PROMPTS)], rows)
    finish("likely", figures, describe_machine("torch"))


if __name__ == "__main__":
    main()
