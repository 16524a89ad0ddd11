#!/usr/bin/env python3
"""Clients whose prompts begin alike, and as many whose prompts do not: memory and first tokens.

    python benchmarks/prefixes.py [--clients 64] [--prefix 800]

All requests arrive at once at the engine of the sample model, changed so that it never ends its
text. Each has a prefix of so many tokens and 20 tokens of its own. The time to the first token is
that of all requests; memory is what the process has grown by, which is mainly the KV cache.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Sequence

import psutil
from common import (
    SAMPLE_MODEL,
    describe_machine,
    finish,
    make_parser,
    median,
    note,
    percentile,
    print_table,
)
from workload import endless_model, load_engine, random_prompt, sampling

from gptj_demo.protocol import Submit, TokenEvent
from gptj_demo.settings import Settings

OWN_TOKENS = 20
NEW_TOKENS = 100


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--clients", type=int, default=64, help="default 64")
    parser.add_argument("--prefix", type=int, default=800, help="tokens; default 800")
    arguments = parser.parse_args()
    clients, prefix = arguments.clients, arguments.prefix
    measured: dict[str, list[tuple[float, list[float]]]] = {"shared": [], "apart": []}
    with endless_model(SAMPLE_MODEL) as model:
        settings = Settings(model=str(model), max_num_seqs=clients, speculation="off")
        for turn in range(arguments.rounds):
            note(f"round {turn + 1} of {arguments.rounds}")
            for name, rounds in measured.items():
                generator = random.Random(turn)
                beginnings = [random_prompt(generator, prefix) for _ in range(clients)]
                if name == "shared":
                    beginnings = beginnings[:1] * clients
                prompts = [(*one, *random_prompt(generator, OWN_TOKENS)) for one in beginnings]
                rounds.append(measure(settings, prompts))
    figures = {
        "clients": clients,
        "prefix tokens": prefix,
        **{
            f"prefix {name}": {
                "first token s, median": median([median(first) for _, first in rounds]),
                "first token s, 95 %": median([percentile(first, 95) for _, first in rounds]),
                "memory MB": median([grown / 1e6 for grown, _ in rounds]),
            }
            for name, rounds in measured.items()
        },
    }
    shared, apart = figures["prefix shared"], figures["prefix apart"]
    figures["ratios"] = {key: apart[key] / shared[key] for key in shared}
    rows = [[key, shared[key], apart[key], figures["ratios"][key]] for key in shared]
    title = f"{clients} clients, {prefix} tokens of prefix"
    print_table(title, ["", "shared", "apart", "apart / shared"], rows)
    finish("prefixes", figures, describe_machine("torch"), save=arguments.save)


def measure(settings: Settings, prompts: Sequence[tuple[int, ...]]) -> tuple[float, list[float]]:
    """The bytes that the process grows by, and the seconds to each request's first token."""
    engine = load_engine(settings)
    gc.collect()
    process = psutil.Process()
    before = process.memory_info().rss
    begin = time.perf_counter()
    for number, prompt in enumerate(prompts):
        engine.submit(Submit(number, prompt, sampling(NEW_TOKENS), seed=number))
    first: dict[int, float] = {}
    while not engine.is_idle:
        for event in engine.step():
            if isinstance(event, TokenEvent):
                first.setdefault(event.request_id, time.perf_counter() - begin)
    return process.memory_info().rss - before, list(first.values())


if __name__ == "__main__":
    main()
