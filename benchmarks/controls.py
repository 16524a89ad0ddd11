#!/usr/bin/env python3
"""The cost of controls, probabilities and several completions, on the sample model.

    python benchmarks/controls.py [--rows 16] [--steps 60]

Compares a decode step of 16 rows with the page's defaults to steps in which every row has its own
settings of a few controls, uses every control, or reports five alternatives a token. Then n = 8 on
a prompt of 400 tokens: the time until all eight have their first token, compared to one completion
and to eight requests with different prompts. The engine runs in this process.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from common import describe_machine, finish, make_parser, median, note, print_ratios
from workload import Prompts, endless_model, load_engine, running_worker, write_texts

from gptj_demo.protocol import Submit, TokenEvent
from gptj_demo.sampling import SamplingParams
from gptj_demo.settings import Settings

PROMPT_TOKENS = 64
LONG_PROMPT_TOKENS = 400
COMPLETIONS = 8
BAD_WORDS = ((11, 12), (13,), (200, 201, 202))
BIASES = (((300,), 2.0), ((17, 18), -3.0))
BREAKERS = frozenset((13, 198))


def every_control(row: int) -> dict[str, Any]:
    """All controls that change probabilities, with values that differ from row to row."""
    part = row / 16
    return {
        "temperature": 0.6 + part,
        "top_k": 40 + 20 * row,
        "top_p": 0.9 + part / 20,
        "min_p": 0.01 + part / 50,
        "typical_p": 0.9 + part / 20,
        "epsilon_cutoff": 0.0001 * (row + 1),
        "eta_cutoff": 0.0001 * (row + 1),
        "xtc_probability": 0.3 + part / 2,
        "repetition_penalty": 1.05 + part / 10,
        "presence_penalty": 0.1 + part,
        "frequency_penalty": 0.1 + part,
        "no_repeat_ngram_size": 3 + row % 4,
        "dry_multiplier": 0.5 + part,
        "min_new_tokens": 5 + row,
    }


def own_controls(row: int) -> dict[str, Any]:
    """Four controls, different ones in each row; every control is used by some row."""
    values = every_control(row)
    names = list(values)
    return {name: values[name] for name in (names * 2)[row % len(names) :][:4]}


CASES: dict[str, Callable[[int], dict[str, Any]]] = {
    "page's defaults": lambda row: {},
    "other controls in each row": own_controls,
    "every control in every row": every_control,
    "5 alternatives a token": lambda row: {"logprobs": 5},
}
PLAIN = "page's defaults"


def measure_steps(
    engine: Any, prompts: Prompts, rows: int, steps: int, controls: Callable[[int], dict[str, Any]]
) -> float:
    """The median time of a step in which all rows decode, in seconds."""
    for row in range(rows):
        params = SamplingParams(max_new_tokens=steps + rows + 8, seed=row, **controls(row))
        used = "dry_multiplier" in controls(row)
        words = (BIASES, BAD_WORDS, BREAKERS) if used else ((), (), frozenset())
        engine.submit(Submit(row + 1, prompts.take(PROMPT_TOKENS), params, row, *words))
    seen: set[int] = set()
    while len(seen) < rows:
        seen |= {event.request_id for event in engine.step() if isinstance(event, TokenEvent)}
    times = []
    for _ in range(steps):
        begin = time.perf_counter()
        engine.step()
        times.append(time.perf_counter() - begin)
    while not engine.is_idle:
        engine.step()
    return median(times)


def measure_first_tokens(engine: Any, prompts: Prompts, requests: int, n: int) -> float:
    """Seconds until every completion of requests with new prompts has its first token."""
    params = SamplingParams(max_new_tokens=4, n=n, seed=1)
    texts = [prompts.take(LONG_PROMPT_TOKENS) for _ in range(requests)]
    seen: set[tuple[int, int]] = set()
    begin = time.perf_counter()
    for number, prompt in enumerate(texts):
        engine.submit(Submit(number + 1, prompt, params, seed=number))
    while len(seen) < requests * n:
        seen |= {(e.request_id, e.index) for e in engine.step() if isinstance(e, TokenEvent)}
    seconds = time.perf_counter() - begin
    while not engine.is_idle:
        engine.step()
    return seconds


def main() -> None:
    parser = make_parser(__doc__, rounds=7)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    with endless_model() as folder:
        with running_worker(model=str(folder), max_num_seqs=16) as worker:
            texts = write_texts(worker)
        prompts = Prompts(texts, seed=3)
        engine = load_engine(Settings(model=str(folder), max_num_seqs=32))
        order = random.Random(5)
        times: dict[str, list[float]] = {name: [] for name in CASES}
        firsts: dict[str, list[float]] = {"n = 1": [], "n = 8": [], "8 requests": []}
        for number in range(arguments.rounds):
            note(f"round {number + 1} of {arguments.rounds}")
            for name in order.sample(list(CASES), len(CASES)):
                seconds = measure_steps(
                    engine, prompts, arguments.rows, arguments.steps, CASES[name]
                )
                times[name].append(seconds)
            firsts["n = 1"].append(measure_first_tokens(engine, prompts, 1, 1))
            firsts["n = 8"].append(measure_first_tokens(engine, prompts, 1, COMPLETIONS))
            firsts["8 requests"].append(measure_first_tokens(engine, prompts, COMPLETIONS, 1))

    figures = {
        "step": print_ratios(f"A decode step of {arguments.rows} rows", times, PLAIN),
        "first_tokens": print_ratios(
            f"First tokens after a prompt of {LONG_PROMPT_TOKENS}", firsts, "n = 1"
        ),
    }
    finish("controls", figures, describe_machine("torch"), save=arguments.save)


if __name__ == "__main__":
    main()
