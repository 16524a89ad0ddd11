#!/usr/bin/env python3
"""Tokens a second with drafted tokens against the same engine without, in the same run.

    python benchmarks/speculation.py [--layers 4] [--tokens 48] [--draft FOLDER]

At GPT-J 6B's layer sizes in int8, with fewer layers and random weights: a drafter that knows the
text and is right with a chance of 0.5, 0.7 or 0.9 drafts a fixed number of tokens a pass, the best
of a few. At a chance of 0 it drafts nothing, as prompt lookup would. The time of a pass over 1 to 9
tokens of a sequence shows what they cost.

On the sample model: prompt lookup as it runs by default, for a list, code, a table and a Retry at
several temperatures, and for prose at 1, 8 and 32 streams; and what its drafts would gain if they
were verified at the cost that they have at GPT-J 6B's sizes. With a draft model, by default that of
the sample model: how often a drafted token is right, what it costs, and the speed as it runs by
default. Both engines write the same texts, which is checked, and take turns in running first.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import describe_machine, finish, make_parser, median, note, print_table, rounded
from random_model import gptj_6b, random_model
from workload import endless_model, load_engine, random_prompt

from gptj_demo.engine.model import Batch, Rows
from gptj_demo.protocol import Finished, Submit, TokenEvent
from gptj_demo.sampling import SamplingParams
from gptj_demo.settings import Settings
from tests.engine.drafting import Scripted, drafted_by, speculate

ACCEPTANCES = (0.0, 0.5, 0.7, 0.9)
LENGTHS = (1, 2, 3, 5)
"""Numbers of drafted tokens per pass that are tried; the fastest one counts."""
PASS_TOKENS = (1, 2, 3, 4, 6, 9)
CONTEXT = 64
STREAMS = (1, 8, 32)
SAMPLE_DRAFT = Path(__file__).resolve().parent.parent / "assets" / "sample-draft"
PARTS = ("real", "sample", "draft")
TEMPERATURES = (0.0, 0.5, 0.8)
OPENING = "Once upon a time there was a king who had"
RETRY = "Retry"
TEXTS = {
    "list": "".join(f"{n}. The king gave the boy an apple.\n" for n in range(1, 9)),
    "code": "".join(f"if name == 'b{n}': return the_box_of(name, {n})\n" for n in range(1, 9)),
    "table": "".join(f"| gold | {n} | the old king | yes |\n" for n in range(1, 9)),
    RETRY: OPENING,
}
ROW_COST = 0.05
"""The time of one more token of a sequence in a pass, relative to a pass over one token: in int8 at
GPT-J 6B's sizes."""


class Timed:
    """An engine and its speculation, which can be switched off between runs."""

    def __init__(self, settings: Settings) -> None:
        self.engine = load_engine(settings)
        self.speculation = self.engine._runner.speculation
        self._request_id = self._visitors = 0

    def run(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        drafts: bool,
        ends: list[Finished] | None = None,
        seed: int = 0,
        visitor: str | None = None,
    ) -> tuple[float, list[list[int]]]:
        """Tokens a second after all prompts have their first one, and the tokens of each text.

        The seeds of the prompts begin with `seed`. The last events are added to `ends`.
        """
        self.engine._runner.speculation = self.speculation if drafts else None
        first = self._request_id + 1
        for number, prompt in enumerate(prompts):
            self._request_id += 1
            self.engine.submit(
                Submit(self._request_id, tuple(prompt), params, seed=seed + number, visitor=visitor)
            )
        texts: dict[int, list[int]] = {}
        begin, at_begin = 0.0, 0
        while not self.engine.is_idle:
            for event in self.engine.step():
                if isinstance(event, TokenEvent):
                    texts.setdefault(event.request_id, []).append(event.token_id)
                elif ends is not None and isinstance(event, Finished):
                    ends.append(event)
            if not begin and len(texts) == len(prompts):
                begin, at_begin = time.perf_counter(), sum(map(len, texts.values()))
        seconds = time.perf_counter() - begin
        written = [texts[first + number] for number in range(len(prompts))]
        return (sum(map(len, written)) - at_begin) / seconds, written

    def new_visitor(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> str:
        """The name of a new visitor, for whom the prompts have been continued once."""
        self._visitors += 1
        visitor = f"visitor {self._visitors}"
        self.run(prompts, params, drafts=True, visitor=visitor)
        return visitor


def compare(
    timed: Timed,
    prompts: Sequence[Sequence[int]],
    params: SamplingParams,
    rounds: int,
    *,
    is_retry: bool = False,
) -> float:
    """Speed with drafts divided by speed without: the median of 2 * `rounds` pairs of runs.

    The engine that runs first alternates, because the second run is often a little slower. With
    `is_retry`, the same visitor has generated from the prompts before, with other seeds.
    """
    ratios = []
    for number in range(2 * rounds):
        visitor, seed = (timed.new_visitor(prompts, params), 1000) if is_retry else (None, 0)
        ran = {
            drafts: timed.run(prompts, params, drafts=drafts, seed=seed, visitor=visitor)
            for drafts in ((False, True), (True, False))[number % 2]
        }
        (without, expected), (with_drafts, written) = ran[False], ran[True]
        assert written == expected
        ratios.append(with_drafts / without)
    return median(ratios)


def measure_real_size(layers: int, tokens: int, rounds: int) -> dict[str, Any]:
    with random_model(gptj_6b(layers), "safetensors", "cpu") as folder:
        settings = Settings(model=str(folder), precision="int8", max_num_seqs=1)
        timed = Timed(settings)
    runner = timed.engine._runner
    passes = {str(count): pass_ms(runner, count) for count in PASS_TOKENS}
    prompt = random_prompt(random.Random(0), CONTEXT)
    params = SamplingParams(max_new_tokens=tokens, temperature=0.8, top_p=1.0)
    _, (text,) = timed.run([prompt], params, drafts=False)
    ratios: dict[str, float] = {}
    lengths: dict[str, int] = {}
    for acceptance in ACCEPTANCES:
        tried = {}
        for length in LENGTHS if acceptance else (0,):
            note(f"speculation: acceptance {acceptance}, {length} drafted")
            speculate(timed.engine, Known(text, runner.vocabulary, acceptance, length))
            timed.speculation = runner.speculation
            tried[length] = compare(timed, [prompt], params, rounds)
        best = max(tried, key=lambda length: tried[length])
        ratios[str(acceptance)], lengths[str(acceptance)] = tried[best], best
    return {"a pass, ms": passes, "speed, relative": ratios, "drafted a pass": lengths}


class Known(Scripted):
    """A drafter that knows one text, whatever the request's number is."""

    def __init__(self, text: list[int], vocabulary: int, acceptance: float, length: int) -> None:
        super().__init__(_Always(text), vocabulary, acceptance, length)


class _Always(dict[tuple[int, int], list[int]]):
    def __init__(self, text: list[int]) -> None:
        self._text = text

    def get(self, key: object, default: Any = None) -> Any:
        return self._text


def pass_ms(runner: Any, count: int) -> float:
    """Milliseconds of a pass over so many tokens of one sequence, the fastest of several."""
    batch = Batch(Rows([5] * count, range(CONTEXT, CONTEXT + count), [0] * count))
    times = []
    with torch.inference_mode():
        for _ in range(6):
            begin = time.perf_counter()
            runner.model.forward(runner.cache, batch)
            times.append(time.perf_counter() - begin)
    return 1e3 * min(times)


def measure_sample_model(tokens: int, rounds: int) -> dict[str, Any]:
    from tokenizers import Tokenizer

    with endless_model() as folder:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        timed = Timed(Settings(model=str(folder), max_num_seqs=max(STREAMS)))
    texts: dict[str, dict[str, float]] = {}
    for name, text in TEXTS.items():
        prompts = [tokenizer.encode(text).ids]
        for temperature in TEMPERATURES:
            note(f"speculation: {name} at temperature {temperature}")
            params = SamplingParams(max_new_tokens=tokens, temperature=temperature)
            is_retry = name == RETRY
            texts[f"{name}, temperature {temperature}"] = {
                "speed": compare(timed, prompts, params, rounds, is_retry=is_retry),
                "computed": tokens_of_passes(timed, prompts, params, is_retry=is_retry),
            }
    streams_of_prose: dict[str, float] = {}
    opening = tokenizer.encode(OPENING).ids
    for streams in STREAMS:
        note(f"speculation: prose, {streams} streams")
        prompts = [[*opening, 100 + number] for number in range(streams)]
        params = SamplingParams(max_new_tokens=tokens)
        streams_of_prose[str(streams)] = compare(timed, prompts, params, rounds)
    return {"row cost": timed.speculation.row_cost, "texts": texts, "prose": streams_of_prose}


def tokens_of_passes(
    timed: Timed, prompts: Sequence[Sequence[int]], params: SamplingParams, *, is_retry: bool
) -> float:
    """Tokens in the time of a pass over one token, computed for further tokens at ROW_COST."""
    before, timed.speculation.row_cost = timed.speculation.row_cost, ROW_COST
    visitor, seed = (timed.new_visitor(prompts, params), 1000) if is_retry else (None, 0)
    ends: list[Finished] = []
    timed.run(prompts, params, drafts=True, ends=ends, seed=seed, visitor=visitor)
    timed.speculation.row_cost = before
    drafted, accepted = drafted_by(ends, "lookup")
    tokens = sum(end.completion_tokens for end in ends)
    return tokens / (tokens - accepted + ROW_COST * drafted)


def measure_draft(draft: Path, tokens: int, rounds: int) -> dict[str, Any]:
    """The sample model with a draft model: its cost, how often it is right, and the speed."""
    from tokenizers import Tokenizer

    with endless_model() as folder:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        timed = Timed(Settings(model=str(folder), draft=str(draft), max_num_seqs=8))
    by_default = timed.speculation
    _, model = by_default._drafters
    figures: dict[str, Any] = {"a drafted token costs, passes": model.cost(1)}
    opening = tokenizer.encode(OPENING).ids
    params = SamplingParams(max_new_tokens=tokens)
    for streams in (1, 8):
        note(f"speculation: draft model, {streams} streams")
        prompts = [[*opening, 100 + number] for number in range(streams)]
        figures[f"prose, {streams} streams"] = compare(timed, prompts, params, rounds)
    for temperature in TEMPERATURES:
        note(f"speculation: draft model, temperature {temperature}")
        params = SamplingParams(max_new_tokens=tokens, temperature=temperature)
        figures[f"right at temperature {temperature}"] = rate_of(timed, model, opening, params)
    return figures


def rate_of(timed: Timed, drafter: Any, prompt: list[int], params: SamplingParams) -> float:
    """How often a drafted token is right if all tokens drafted before it are."""
    by_default, cost = timed.speculation, drafter._token_cost
    drafter._token_cost = 0.0
    speculate(timed.engine, drafter)
    timed.speculation = timed.engine._runner.speculation
    ends: list[Any] = []
    timed.run([prompt], params, drafts=True, ends=ends)
    timed.speculation, drafter._token_cost = by_default, cost
    _, accepted = drafted_by(ends, drafter.name)
    # each pass has one wrong drafted token, except the few with a draft that is right to its end
    return accepted / sum(end.completion_tokens for end in ends)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--layers", type=int, default=4, help="of 28; default 4")
    parser.add_argument("--tokens", type=int, default=48, help="at real size; default 48")
    parser.add_argument("--sample-tokens", type=int, default=400, help="default 400")
    parser.add_argument(
        "--draft", type=Path, default=SAMPLE_DRAFT, help="default: assets/sample-draft"
    )
    parser.add_argument("--only", choices=PARTS, help="leave the other parts out")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"layers": arguments.layers}
    parts = [arguments.only] if arguments.only else PARTS
    if "real" in parts:
        real = measure_real_size(arguments.layers, arguments.tokens, arguments.rounds)
        figures["int8 at real layer sizes"] = real
        print_table(
            f"int8, {arguments.layers} layers of 28: a pass over several tokens of a sequence",
            ["tokens", "ms", "relative"],
            [[n, ms, ms / real["a pass, ms"]["1"]] for n, ms in real["a pass, ms"].items()],
        )
        rows = [[a, real["drafted a pass"][a], x] for a, x in real["speed, relative"].items()]
        print_table("One stream", ["acceptance", "drafted a pass", "with / without"], rows)
    if "sample" in parts:
        sample = measure_sample_model(arguments.sample_tokens, arguments.rounds)
        figures["sample model, prompt lookup"] = sample
        print_table(
            f"Sample model, prompt lookup; one more token costs {sample['row cost']:.2f} of a pass",
            ["", "with / without", f"computed for {ROW_COST}"],
            [[text, *both.values()] for text, both in sample["texts"].items()],
        )
        print_table("Prose", ["streams", "with / without"], list(sample["prose"].items()))
    if "draft" in parts:
        drafting = measure_draft(arguments.draft, arguments.sample_tokens, arguments.rounds)
        figures["sample model, draft model"] = drafting
        print_table("Sample model, draft model", ["", "figure"], list(drafting.items()))
    machine = describe_machine("torch", "numba")
    finish("speculation", rounded(figures), machine, save=arguments.save)


if __name__ == "__main__":
    main()
