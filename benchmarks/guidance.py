#!/usr/bin/env python3
"""The cost of texts that must match, on the sample model.

    python benchmarks/guidance.py [--rows 16] [--steps 60]

Compares a decode step of 16 rows with the page's defaults to steps in which every row, or one of
them, must match a regular expression, a JSON schema or a grammar. Then the time from a request to
its first token, with and without a grammar. The engine runs in this process.
"""

from __future__ import annotations

import json
import random
import time
from typing import Any

from common import describe_machine, finish, make_parser, median, note, print_ratios
from workload import Prompts, endless_model, load_engine, running_worker, write_texts

from gptj_demo.protocol import Submit, TokenEvent
from gptj_demo.sampling import SamplingParams
from gptj_demo.settings import Settings

PROMPT_TOKENS = 64
SCHEMA = {
    "type": "array",
    "minItems": 100,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 30},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 4},
        },
        "required": ["name", "age", "tags"],
        "additionalProperties": False,
    },
}
GRAMMAR = """
start: (sentence " "){200}
sentence: subject " " VERB (" " object)? "."
subject: "The" (" " WORD){1,3}
object: "the" (" " WORD){1,3}
VERB: /[a-z]{2,10}(s|ed)/
WORD: /[a-z]{1,12}/
"""
MATCHES = {
    "regular expression": ("regex", "([A-Z][a-z]+( [a-z]+){2,12}[.!?] ){200}"),
    "JSON schema": ("json", json.dumps(SCHEMA)),
    "grammar": ("grammar", GRAMMAR),
}
PLAIN = "page's defaults"
ONE = "one row, JSON schema"


def controls(case: str, row: int) -> dict[str, Any]:
    """The settings of a row; each row has a grammar of its own, so none comes from the cache."""
    if case == PLAIN or (case == ONE and row):
        return {}
    kind, text = MATCHES["JSON schema" if case == ONE else case]
    own = f"({row})?" if kind == "regex" else " " * row
    return {"must_match": kind, "must_match_text": text + own}


def measure_steps(engine: Any, prompts: Prompts, rows: int, steps: int, case: str) -> float:
    """The median time of a step in which all rows decode, in seconds."""
    for row in range(rows):
        own = controls(case, row)
        params = SamplingParams(max_new_tokens=800, seed=row, **own)
        engine.submit(Submit(row + 1, prompts.take(PROMPT_TOKENS), params, row))
    seen: set[int] = set()
    while len(seen) < rows:
        seen |= {event.request_id for event in engine.step() if isinstance(event, TokenEvent)}
    times = []
    for _ in range(steps):
        begin = time.perf_counter()
        events = engine.step()
        times.append(time.perf_counter() - begin)
        assert sum(isinstance(event, TokenEvent) for event in events) == rows
    for row in range(rows):
        engine.cancel(row + 1)
    return median(times)


def measure_first_token(engine: Any, prompts: Prompts, case: str) -> float:
    """Seconds from a request alone to its first token; its grammar is new."""
    controls_ = controls(case, random.randrange(10**4))
    params = SamplingParams(max_new_tokens=1, seed=1, **controls_)
    begin = time.perf_counter()
    engine.submit(Submit(1, prompts.take(PROMPT_TOKENS), params, seed=1))
    while not engine.is_idle:
        engine.step()
    return time.perf_counter() - begin


def main() -> None:
    parser = make_parser(__doc__, rounds=7)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    cases = [PLAIN, *MATCHES, ONE]
    with endless_model() as folder:
        with running_worker(model=str(folder), max_num_seqs=16) as worker:
            texts = write_texts(worker)
        prompts = Prompts(texts, seed=3)
        engine = load_engine(Settings(model=str(folder), max_num_seqs=32))
        order = random.Random(5)
        times: dict[str, list[float]] = {name: [] for name in cases}
        firsts: dict[str, list[float]] = {name: [] for name in cases if name != ONE}
        for number in range(arguments.rounds):
            note(f"round {number + 1} of {arguments.rounds}")
            for name in order.sample(cases, len(cases)):
                seconds = measure_steps(engine, prompts, arguments.rows, arguments.steps, name)
                times[name].append(seconds)
            for name in order.sample(list(firsts), len(firsts)):
                firsts[name].append(measure_first_token(engine, prompts, name))

    figures = {
        "step": print_ratios(f"A decode step of {arguments.rows} rows", times, PLAIN),
        "first_token": print_ratios(f"The first token after {PROMPT_TOKENS} tokens", firsts, PLAIN),
    }
    finish("guidance", figures, describe_machine("torch"), save=arguments.save)


if __name__ == "__main__":
    main()
