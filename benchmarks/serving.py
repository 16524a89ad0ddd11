#!/usr/bin/env python3
"""Clients arriving at random, with prompts and outputs of mixed lengths; ours and the peers.

    python benchmarks/serving.py [--clients 1 8 32 64]

Clients arrive at random times: a Poisson process with a fixed seed. Each client sends its requests
one after another. Prompts have 20 to 400 tokens and outputs 20 to 200; all contenders get the same
requests. Ours over the worker's interface and over HTTP; the peer is `transformers serve`, with and
without `--continuous-batching`. Without it requests run one at a time, so it is not measured beyond
eight clients. OpenVINO GenAI batches continuously too, without HTTP: it takes and returns tokens.
CTranslate2 has no server: its figure is one static batch with a request of the mean length per
client.

Tokens a second count all generated tokens, from the first arrival to the last end. The time to the
first token starts with the request. The longest silence of a request is the longest time between
two updates that bring tokens. An update can bring several tokens at once, as many as suit the
contender, so times between tokens would not compare.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from common import (
    CORES,
    TEMPERATURE,
    TOP_P,
    describe_machine,
    finish,
    make_parser,
    median,
    note,
    percentile,
    print_table,
)
from openvino_client import OpenVINO, loaded_in_float32, versions
from peers import CTranslate2
from programs import free_port, running_playground, running_program
from tokenizers import Tokenizer
from workload import (
    Generation,
    Prompts,
    endless_model,
    generate,
    running_worker,
    sampling,
    write_texts,
)

from gptj_demo.client import Worker

PROMPT_TOKENS = (20, 400)
NEW_TOKENS = (20, 200)
ARRIVAL_SECONDS = 1 / 64  # between two clients, on average
LEAST_REQUESTS = 8
REQUESTS_EACH = 2
UNBATCHED_CLIENTS = 8
WARM_UP_CLIENTS = 4
SILENT_SECONDS = 120.0  # without a byte: the contender has stopped answering

WORKER = "ours, through the worker"
HTTP = "ours, over HTTP"
OURS = (WORKER, HTTP)
SERVE = "transformers serve"
SERVE_BATCHING = "transformers serve --continuous-batching"
OPENVINO = "OpenVINO GenAI, continuous batching"
CT2_BATCH = "CTranslate2, static batch"


@dataclass(frozen=True)
class Request:
    prompt: str
    new_tokens: int
    seed: int


@dataclass
class Answer:
    """Generated tokens, seconds to the first, and the longest time between two updates."""

    tokens: int
    first: float
    silence: float


Ask = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True)
class Client:
    """A client's arrival time in seconds and its requests in order."""

    arrives: float
    requests: list[Request]


def make_clients(prompts: Prompts, tokenizer: Tokenizer, clients: int, seed: int) -> list[Client]:
    """The clients of one round, the same for all contenders."""
    generator = random.Random(seed)
    each = max(REQUESTS_EACH, LEAST_REQUESTS // clients)
    arrives = 0.0
    made = []
    for _ in range(clients):
        requests = [
            Request(
                tokenizer.decode(prompts.take(generator.randint(*PROMPT_TOKENS))),
                generator.randint(*NEW_TOKENS),
                generator.randrange(2**31),
            )
            for _ in range(each)
        ]
        made.append(Client(arrives, requests))
        arrives += generator.expovariate(1 / ARRIVAL_SECONDS)
    return made


async def serve_clients(clients: Sequence[Client], ask: Ask) -> dict[str, Any]:
    """Run all clients; tokens a second, and the times of every request."""
    begin = time.perf_counter()

    async def one(client: Client) -> list[Answer]:
        await asyncio.sleep(max(0.0, begin + client.arrives - time.perf_counter()))
        return [await ask(request) for request in client.requests]

    tasks = [asyncio.ensure_future(one(client)) for client in clients]
    try:
        by_client = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()  # gather does not cancel the other tasks when one fails
    seconds = time.perf_counter() - begin
    answers = [answer for answers in by_client for answer in answers]
    return {
        "rate": sum(answer.tokens for answer in answers) / seconds,
        "first": [answer.first for answer in answers],
        "silence": [answer.silence for answer in answers],
    }


# ---- contenders


def ask_worker(worker: Worker) -> Ask:
    async def ask(request: Request) -> Answer:
        params = sampling(request.new_tokens, seed=request.seed)
        written: Generation = await generate(worker, request.prompt, params)
        assert len(written.token_ids) == request.new_tokens
        return Answer(len(written.token_ids), written.first, max(written.gaps, default=0.0))

    return ask


def ask_openvino(peer: OpenVINO, tokenizer: Tokenizer) -> Ask:
    async def ask(request: Request) -> Answer:
        prompt = tokenizer.encode(request.prompt).ids
        future = peer.submit([prompt], request.new_tokens, seed=request.seed)[0]
        written = await asyncio.wrap_future(future)
        return Answer(len(written.token_ids), written.first, max(written.gaps, default=0.0))

    return ask


def ask_http(client: httpx.AsyncClient, url: str, model: str) -> Ask:
    """OpenAI's completions, streamed."""

    async def ask(request: Request) -> Answer:
        body = {
            "model": model,
            "prompt": request.prompt,
            "max_tokens": request.new_tokens,
            "temperature": TEMPERATURE,
            "top_p": TOP_P,
            "stream": True,
        }
        begin = time.perf_counter()
        times = []
        async with client.stream("POST", f"{url}/v1/completions", json=body) as response:
            if response.status_code != 200:
                detail = (await response.aread())[:200].decode(errors="replace")
                raise SystemExit(f"{url} answered {response.status_code}: {detail}")
            async for chunk in _server_sent(response.aiter_bytes()):
                if "error" in chunk:
                    raise SystemExit(f"{url} answered {chunk['error']}")
                if chunk.get("choices") and chunk["choices"][0].get("text"):
                    times.append(time.perf_counter())
        gaps = (later - earlier for earlier, later in itertools.pairwise(times))
        # end-of-text is never sampled, so all requested tokens are generated
        return Answer(request.new_tokens, times[0] - begin, max(gaps, default=0.0))

    return ask


async def _server_sent(parts: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    rest = b""
    async for part in parts:
        *events, rest = (rest + part).split(b"\n\n")
        for event in events:
            if event.startswith(b"data: ") and event != b"data: [DONE]":
                yield json.loads(event[6:])


@contextlib.contextmanager
def running_serve(model: Path, *flags: str) -> Iterator[str]:
    """`transformers serve`; the address at which it answers."""
    port = free_port()
    command = ("-m", "transformers.cli.transformers", "serve", str(model), "--port", str(port))
    offline = {"HF_HUB_OFFLINE": "1"}
    with running_program(*command, "--host", "127.0.0.1", *flags, **offline) as program:
        url = f"http://127.0.0.1:{port}"
        program.wait_until_up(f"{url}/health")
        yield url


# ---- the measurement


async def measure(
    askers: dict[str, Ask],
    rounds: dict[tuple[int, int], list[Client]],
    warm_up: list[Client],
) -> dict[str, dict[str, dict[str, float]]]:
    """Figures by contender and number of clients; `rounds` has the clients by (count, round).

    A peer that stops answering gets no figures for this number of clients or for larger ones.
    """
    stopped: set[str] = set()
    samples: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for name, ask in askers.items():
        note(f"serving: warming up {name}")
        await serve_clients(warm_up, ask)
    for (count, number), clients in rounds.items():
        note(f"serving: {count} clients, round {number + 1}")
        for name, ask in askers.items():
            if name in stopped or (name == SERVE and count > UNBATCHED_CLIENTS):
                continue
            try:
                measured_round = await serve_clients(clients, ask)
            except httpx.TransportError as error:
                if name in OURS:
                    raise SystemExit(f"{name} stopped answering: {error!r}") from error
                note(f"serving: {name} stopped answering and is left out: {error!r}")
                stopped.add(name)
                samples.pop((name, count), None)
                continue
            samples.setdefault((name, count), []).append(measured_round)
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for (name, count), measured in samples.items():
        firsts = [first for one in measured for first in one["first"]]
        silences = [silence for one in measured for silence in one["silence"]]
        figures.setdefault(name, {})[str(count)] = {
            "tokens a second": round(median([one["rate"] for one in measured]), 1),
            "first token ms, median": round(1e3 * median(firsts), 1),
            "first token ms, p95": round(1e3 * percentile(firsts, 95), 1),
            "longest silence ms, median": round(1e3 * median(silences), 2),
            "longest silence ms, p95": round(1e3 * percentile(silences, 95), 2),
        }
    return figures


def measure_ctranslate2(
    model: Path, prompts: Prompts, counts: Sequence[int], rounds: int
) -> dict[str, dict[str, float]]:
    """Tokens a second of a static batch, with its best number of threads."""
    rates: dict[str, dict[str, float]] = {}
    prompt_tokens, new_tokens = sum(PROMPT_TOKENS) // 2, sum(NEW_TOKENS) // 2
    with tempfile.TemporaryDirectory() as folder:
        converted = CTranslate2.convert(model, Path(folder) / "model")
        generators = [CTranslate2(converted, threads) for threads in sorted({1, CORES})]
        for top_p in (TOP_P, 1.0):
            for count in counts:
                batches = [
                    [prompts.take(prompt_tokens) for _ in range(count)] for _ in range(rounds)
                ]

                def rate(generator: CTranslate2, batch: Sequence[Sequence[int]]) -> float:
                    begin = time.perf_counter()
                    generator.batch(batch, new_tokens)
                    return len(batch) * new_tokens / (time.perf_counter() - begin)

                for generator in generators:
                    generator.top_p = top_p
                best = max(generators, key=lambda generator: rate(generator, batches[0]))
                name = CT2_BATCH if top_p == TOP_P else f"{CT2_BATCH}, no top-p"
                measured = [rate(best, batch) for batch in batches]
                rates.setdefault(name, {})[str(count)] = round(median(measured), 1)
    return rates


async def measure_all(
    model: Path,
    worker: Worker,
    tokenizer: Tokenizer,
    rounds: dict[tuple[int, int], list[Client]],
    warm_up: list[Client],
    streams: int,
) -> dict[str, dict[str, dict[str, float]]]:
    limits = httpx.Limits(max_connections=None)
    with ExitStack() as programs:
        askers: dict[str, Ask] = {WORKER: ask_worker(worker)}
        async with AsyncExitStack() as clients:
            client = await clients.enter_async_context(
                httpx.AsyncClient(limits=limits, timeout=SILENT_SECONDS)
            )
            playground = running_playground(model, "--max-num-seqs", streams)
            url = programs.enter_context(playground).url
            askers[HTTP] = ask_http(client, url, str(model))
            for name, flags in ((SERVE, ()), (SERVE_BATCHING, ("--continuous-batching",))):
                url = programs.enter_context(running_serve(model, *flags))
                askers[name] = ask_http(client, url, str(model))
            peers = programs.enter_context(loaded_in_float32(model, "--streams", streams))
            for peer in peers.values():
                askers[OPENVINO] = ask_openvino(peer, tokenizer)
            return await measure(askers, rounds, warm_up)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32, 64])
    arguments = parser.parse_args()
    counts = sorted(arguments.clients)
    streams = max(32, *counts)
    with (
        endless_model() as model,
        running_worker(model=str(model), max_num_seqs=streams) as worker,
    ):
        tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        prompts = Prompts(write_texts(worker), seed=2)
        rounds = {
            (count, number): make_clients(prompts, tokenizer, count, seed=1000 * count + number)
            for count in counts
            for number in range(arguments.rounds)
        }
        warm_up = make_clients(prompts, tokenizer, WARM_UP_CLIENTS, seed=0)
        figures = asyncio.run(measure_all(model, worker, tokenizer, rounds, warm_up, streams))
        static = measure_ctranslate2(model, prompts, counts, arguments.rounds)

    for measure_name in next(iter(figures[WORKER].values())):
        rows = [
            [name, *(by.get(str(n), {}).get(measure_name) for n in counts)]
            for name, by in figures.items()
        ]
        if measure_name == "tokens a second":
            rows += [[name, *(by[str(n)] for n in counts)] for name, by in static.items()]
        print_table(f"{measure_name}, by clients", ["", *map(str, counts)], rows)
    ratios: dict[str, float] = {}
    for ours in OURS:
        for count in counts:
            mine = figures[ours][str(count)]
            rate, first = "tokens a second", "first token ms, p95"
            for name in (SERVE_BATCHING, OPENVINO):
                if theirs := figures.get(name, {}).get(str(count)):
                    ratios[f"{ours}: {rate} / {name}, {count}"] = mine[rate] / theirs[rate]
                    ratios[f"{ours}: {first} / {name}, {count}"] = mine[first] / theirs[first]
            for name, by in static.items():
                ratios[f"{ours}: {rate} / {name}, {count}"] = mine[rate] / by[str(count)]
    ratios = {name: round(value, 3) for name, value in ratios.items()}
    print_table("Ratios", ["", "ours / theirs"], list(ratios.items()))
    machine = describe_machine("torch", "transformers", "ctranslate2") | versions()
    result = {"by clients": figures, "static batch, tokens a second": static, "ratios": ratios}
    finish("serving", result, machine, save=arguments.save)


if __name__ == "__main__":
    main()
