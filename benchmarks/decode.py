#!/usr/bin/env python3
"""Tokens a second at 1 to 32 streams, step time over context length, against the peers.

    python benchmarks/decode.py [--streams 1 2 4 8 16 32] [--tokens 128]

The playground twice: through the worker's interface, with the engine in its own process, as page
and API use it; and the engine alone, stepped in this process. The peers: transformers' `generate`
with a `TextIteratorStreamer` (one stream) and in a static batch, CTranslate2's `generate_tokens`
(one stream) and `generate_batch`, OpenVINO GenAI's continuous batching. All on the sample model, in
float32, changed so that it never ends its text. Each peer gets its best number of threads, found
beforehand for each batch size, and for step times for each context length too.

Sampling is by temperature alone, which is fastest for CTranslate2; a second table has the page's
defaults, with top-p. CTranslate2 and OpenVINO take and return tokens; the others return text.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from common import CORES, TOP_P, describe_machine, finish, make_parser, median, note, print_table
from generate_peer import Transformers
from openvino_client import OpenVINO, loaded_in_float32, versions
from peers import CTranslate2
from workload import (
    Prompts,
    endless_model,
    generate,
    load_engine,
    running_worker,
    sampling,
    write_texts,
)

from gptj_demo.client import Worker
from gptj_demo.engine.model.cpu.compiled import CompiledModel
from gptj_demo.engine.sampling import SamplerBatch
from gptj_demo.protocol import Submit, TokenEvent
from gptj_demo.settings import Settings

Prompt = Sequence[int]
ByContext = dict[str, dict[str, dict[str, float]]]  # by rows, contender and context length

PROMPT_TOKENS = 32
CONTEXTS = (64, 128, 256, 512, 768, 1000)
CONTEXT_ROWS = (1, 8)
CONTEXT_STEPS = 16
CONTINUE_AFTER = 400  # tokens of prompt
TIMED_TOKENS = 128
ONE_STREAM_ROUNDS = 8  # a factor: runs of one stream are short, so their times vary most
CHECKED_TEXTS, CHECKED_TOKENS = 8, 16
THREADS = sorted({1, CORES})
"""The numbers of threads that each peer tries."""

WORKER = "ours, through the worker"
ENGINE = "ours, engine alone"
STREAMER = "generate, with a streamer"
GENERATE = "generate, static batch"
CT2_TOKENS = "CTranslate2, generate_tokens"
CT2_BATCH = "CTranslate2, generate_batch"
OPENVINO = "OpenVINO GenAI, continuous batching"

PARTS = {
    "the forward pass": (CompiledModel, "forward"),
    "sampling": (SamplerBatch, "sample"),
}


class Bench:
    """All contenders, loaded; each is a function of prompts and a number of tokens."""

    def __init__(
        self,
        model: Path,
        worker: Worker,
        converted: Path,
        openvino: dict[int, OpenVINO],
        most_streams: int,
    ) -> None:
        """`openvino` has a peer by number of threads, or none where it is not installed."""
        self.worker = worker
        self.engine = load_engine(Settings(model=str(model), max_num_seqs=most_streams))
        self.engine_threads = torch.get_num_threads()
        self.transformers = Transformers.load(model)
        self.ctranslate2 = {n: CTranslate2(converted, n) for n in THREADS}
        self.openvino = openvino
        self.prompts = Prompts(write_texts(worker), seed=1)
        self._request_id = 0
        self.top_p = 1.0

    def set_top_p(self, top_p: float) -> None:
        self.top_p = self.transformers.top_p = top_p
        for generator in (*self.ctranslate2.values(), *self.openvino.values()):
            generator.top_p = top_p

    # ---- ours

    def worker_batch(self, prompts: Sequence[Prompt], tokens: int) -> None:
        async def all_at_once() -> list[Any]:
            params = sampling(tokens, top_p=self.top_p)
            requests = [generate(self.worker, tuple(prompt), params) for prompt in prompts]
            return await asyncio.gather(*requests)

        written = asyncio.run(all_at_once())
        assert all(len(one.token_ids) == tokens for one in written)

    def submit(self, prompts: Sequence[Prompt], tokens: int) -> None:
        for prompt in prompts:
            self._request_id += 1
            self.engine.submit(
                Submit(
                    request_id=self._request_id,
                    prompt_token_ids=tuple(prompt),
                    params=sampling(tokens, top_p=self.top_p),
                    seed=self._request_id,
                )
            )

    def drain(self) -> int:
        """Tokens of all submitted requests."""
        tokens = 0
        while not self.engine.is_idle:
            tokens += sum(isinstance(event, TokenEvent) for event in self.engine.step())
        return tokens

    def engine_batch(self, prompts: Sequence[Prompt], tokens: int) -> None:
        torch.set_num_threads(self.engine_threads)
        self.submit(prompts, tokens)
        assert self.drain() == tokens * len(prompts)

    def engine_step_times(self, prompts: Sequence[Prompt], steps: int) -> list[float]:
        torch.set_num_threads(self.engine_threads)
        self.submit(prompts, 1)  # caches the prompts, so that all streams begin together
        self.drain()
        self.submit(prompts, steps + 1)
        begun = sum(isinstance(event, TokenEvent) for event in self.engine.step())
        assert begun == len(prompts)
        times = []
        while not self.engine.is_idle:
            begin = time.perf_counter()
            self.engine.step()
            times.append(time.perf_counter() - begin)
        return times

    # ---- peers

    def with_threads(self, threads: int, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            torch.set_num_threads(threads)
            return function(*arguments)

        return call

    def contenders(self, streams: int) -> dict[str, Callable[[Sequence[Prompt], int], Any]]:
        """The contenders at a number of streams; peers with their best number of threads."""
        tried: dict[str, list[Callable[..., Any]]] = {
            WORKER: [self.worker_batch],
            ENGINE: [self.engine_batch],
            GENERATE: [self.with_threads(n, self.transformers.batch) for n in THREADS],
            CT2_BATCH: [self.ctranslate2[n].batch for n in THREADS],
        }
        if self.openvino:
            tried[OPENVINO] = [self.openvino[n].batch for n in THREADS]
        if streams == 1:
            tried[STREAMER] = [
                self.with_threads(n, lambda p, t: self.transformers.stream(p[0], t))
                for n in THREADS
            ]
            tried[CT2_TOKENS] = [
                lambda p, t, one=self.ctranslate2[n]: one.stream(p[0], t) for n in THREADS
            ]
        prompts = [self.prompts.take(PROMPT_TOKENS) for _ in range(streams)]

        def seconds(run: Callable[..., Any]) -> float:
            begin = time.perf_counter()
            run(prompts, 32)
            return time.perf_counter() - begin

        return {name: variants[_fastest(variants, seconds)] for name, variants in tried.items()}

    def steppers(self) -> dict[str, list[Callable[[Sequence[Prompt], int], list[float]]]]:
        """What returns the times of decode steps: ours, and each peer by number of threads."""
        peers = {
            GENERATE: [self.with_threads(n, self.transformers.step_times) for n in THREADS],
            CT2_BATCH: [self.ctranslate2[n].step_times for n in THREADS],
        }
        if self.openvino:
            peers[OPENVINO] = [self.openvino[n].step_times for n in THREADS]
        return {ENGINE: [self.engine_step_times], **peers}


def _fastest(
    variants: Sequence[Callable[..., Any]], seconds: Callable[[Callable[..., Any]], float]
) -> int:
    """The place of the variant that takes the fewest seconds."""

    def best(place: int) -> float:
        seconds(variants[place])  # a warm-up
        return min(seconds(variants[place]) for _ in range(2))

    return min(range(len(variants)), key=best) if len(variants) > 1 else 0


def check_openvino(bench: Bench) -> None:
    """Exit unless OpenVINO's greedy tokens equal transformers', so that both do the same work."""
    prompts = torch.tensor([bench.prompts.take(PROMPT_TOKENS) for _ in range(CHECKED_TEXTS)])
    options = {"max_new_tokens": CHECKED_TOKENS, "do_sample": False, "pad_token_id": 0}
    expected = bench.transformers.model.generate(
        prompts, attention_mask=torch.ones_like(prompts), **options
    )
    for peer in bench.openvino.values():
        written = peer.batch(prompts.tolist(), CHECKED_TOKENS, temperature=0.0)
        if [one.token_ids for one in written] != expected[:, PROMPT_TOKENS:].tolist():
            raise SystemExit(f"{OPENVINO} does not take the same likeliest tokens")


def measure_rates(
    bench: Bench, streams: Sequence[int], tokens: int, rounds: int
) -> dict[str, dict[str, float]]:
    """Tokens a second, prefill included, by contender and streams."""
    rates: dict[str, dict[str, float]] = {}
    for count in streams:
        note(f"decode: {count} streams, top-p {bench.top_p}")
        contenders = bench.contenders(count)
        samples: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds * ONE_STREAM_ROUNDS if count == 1 else rounds):
            prompts = [bench.prompts.take(PROMPT_TOKENS) for _ in range(count)]
            for name, run in contenders.items():
                begin = time.perf_counter()
                run(prompts, tokens)
                samples[name].append(count * tokens / (time.perf_counter() - begin))
        for name, values in samples.items():
            rates.setdefault(name, {})[str(count)] = round(median(values), 1)
    return rates


def measure_contexts(bench: Bench, rounds: int) -> tuple[ByContext, ByContext]:
    """Milliseconds of a decode step, and the numbers of threads that the peers got."""
    figures: ByContext = {}
    threads: ByContext = {}
    for rows in CONTEXT_ROWS:
        for context in CONTEXTS:
            note(f"decode: step time at {context} tokens, {rows} rows")
            prompts = [bench.prompts.take(context) for _ in range(rows)]
            contenders = {}
            for name, variants in bench.steppers().items():
                place = _fastest(variants, lambda run, p=prompts: median(run(p, CONTEXT_STEPS)))
                contenders[name] = variants[place]
                if name != ENGINE:
                    by_context = threads.setdefault(str(rows), {}).setdefault(name, {})
                    by_context[str(context)] = THREADS[place]
            samples: dict[str, list[float]] = {name: [] for name in contenders}
            for _ in range(rounds):
                prompts = [bench.prompts.take(context) for _ in range(rows)]
                for name, run in contenders.items():
                    samples[name] += run(prompts, CONTEXT_STEPS)
            for name, times in samples.items():
                by_context = figures.setdefault(str(rows), {}).setdefault(name, {})
                by_context[str(context)] = round(1e3 * median(times), 3)
    return figures, threads


def measure_continue(bench: Bench, rounds: int) -> dict[str, float]:
    """Milliseconds to the first token of a long prompt, and of its continued text."""
    cold, warm = [], []
    for _ in range(3 * rounds):
        prompt = bench.prompts.take(CONTINUE_AFTER)
        first = asyncio.run(generate(bench.worker, prompt, sampling(24)))
        then = asyncio.run(generate(bench.worker, (*prompt, *first.token_ids), sampling(24)))
        cold.append(first.first)
        warm.append(then.first)
    return {
        "cold ms": round(1e3 * median(cold), 2),
        "continued ms": round(1e3 * median(warm), 2),
        "share": round(median(warm) / median(cold), 3),
    }


def time_parts(bench: Bench, rates: dict[str, dict[str, float]]) -> dict[str, float]:
    """Microseconds per token at one stream, by part."""
    spent = dict.fromkeys(PARTS, 0.0)

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            begin = time.perf_counter()
            result = function(*arguments, **named)
            spent[part] += time.perf_counter() - begin
            return result

        return run

    torch.set_num_threads(bench.engine_threads)
    bench.submit([bench.prompts.take(PROMPT_TOKENS)], TIMED_TOKENS)
    bench.engine.step()  # prefills the prompt
    with contextlib.ExitStack() as stack:
        for part, (owner, name) in PARTS.items():
            function = timed(part, getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, function))
        begin = time.perf_counter()
        steps = 0
        while not bench.engine.is_idle:
            bench.engine.step()
            steps += 1
        wall = time.perf_counter() - begin
    parts = {part: 1e6 * time / steps for part, time in spent.items()}
    parts["the rest of a step"] = 1e6 * wall / steps - sum(parts.values())
    through_worker, alone = 1e6 / rates[WORKER]["1"], 1e6 / rates[ENGINE]["1"]
    parts["worker and its messages"] = through_worker - alone
    parts["ours, all"] = through_worker
    parts["CTranslate2, all"] = 1e6 / rates[CT2_TOKENS]["1"]
    return {name: round(time, 1) for name, time in parts.items()}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--tokens", type=int, default=128, help="new tokens a stream; default 128")
    arguments = parser.parse_args()
    streams = sorted({1, *arguments.streams})
    # all prompts of a measurement in OpenVINO's first step, so that only decoding is left
    batched = max(CONTEXT_ROWS) * CONTEXTS[-1]
    most = max(*CONTEXT_ROWS, *streams)
    flags = ("--streams", most, "--batched-tokens", batched)
    with (
        endless_model() as model,
        tempfile.TemporaryDirectory() as folder,
        loaded_in_float32(model, *flags, threads=THREADS) as openvino,
        running_worker(model=str(model), max_num_seqs=max(streams)) as worker,
    ):
        converted = CTranslate2.convert(model, Path(folder) / "model")
        bench = Bench(model, worker, converted, openvino, most)
        check_openvino(bench)
        bench.set_top_p(1.0)
        rates = measure_rates(bench, streams, arguments.tokens, arguments.rounds)
        parts = time_parts(bench, rates)
        contexts, context_threads = measure_contexts(bench, arguments.rounds)
        bench.set_top_p(TOP_P)
        ends = sorted({1, max(streams)})
        page_rates = measure_rates(bench, ends, arguments.tokens, arguments.rounds)
        continued = measure_continue(bench, arguments.rounds)

    def show(title: str, shown: dict[str, dict[str, float]], columns: Sequence[int]) -> None:
        rows = [[name, *(by.get(str(n)) for n in columns)] for name, by in shown.items()]
        print_table(title, ["", *map(str, columns)], rows)

    show("Tokens a second by streams, sampled by temperature", rates, streams)
    show(f"The same with the page's defaults (top-p {TOP_P})", page_rates, ends)
    for rows, by_contender in contexts.items():
        show(f"Milliseconds a step by context, {rows} rows", by_contender, CONTEXTS)
        show(f"Threads of the peers, {rows} rows", context_threads[rows], CONTEXTS)
    print_table("One stream: microseconds a token", ["part", "µs"], list(parts.items()))
    title = f"First token after {CONTINUE_AFTER} tokens"
    print_table(title, ["", "value"], list(continued.items()))
    last = str(max(streams))
    ours = [rates[WORKER][str(n)] for n in streams]
    ratios = {
        "one stream / generate with a streamer": rates[WORKER]["1"] / rates[STREAMER]["1"],
        "one stream / CTranslate2 generate_tokens": rates[WORKER]["1"] / rates[CT2_TOKENS]["1"],
        f"{last} streams / generate": rates[WORKER][last] / rates[GENERATE][last],
        f"{last} streams / CTranslate2": rates[WORKER][last] / rates[CT2_BATCH][last],
        "more streams / fewer streams, ours, lowest": min(
            (after / before for before, after in itertools.pairwise(ours)), default=1.0
        ),
        **{
            f"step at full context / at {CONTEXTS[0]}, {rows} rows": by[ENGINE][str(CONTEXTS[-1])]
            / by[ENGINE][str(CONTEXTS[0])]
            for rows, by in contexts.items()
        },
        f"continued / cold first token after {CONTINUE_AFTER} tokens": continued["share"],
    }
    if OPENVINO in rates:
        mine, theirs = rates[WORKER], rates[OPENVINO]
        ratios |= {f"{n} streams / OpenVINO GenAI": mine[n] / theirs[n] for n in ("1", last)}
    ratios = {name: round(value, 3) for name, value in ratios.items()}
    print_table("Ratios", ["", "ours / theirs"], list(ratios.items()))
    figures = {
        "tokens a second": rates,
        "tokens a second, page's defaults": page_rates,
        "step ms by rows and context": contexts,
        "step threads by rows and context": context_threads,
        "microseconds a token": parts,
        "continue": continued,
        "ratios": ratios,
    }
    machine = describe_machine("torch", "transformers", "ctranslate2") | versions()
    finish("decode", figures, machine, save=arguments.save)


if __name__ == "__main__":
    main()
