"""What the benchmarks share: the machine, the model, the playground's processes, the results.

Every benchmark runs the playground and its peers in turn, several rounds of each, on the same
checkpoint; takes medians; and prints a table, the machine with its versions, and one line of JSON
last. With `--save` that line is kept in `benchmarks/results/`, from which `report.py` makes the
page of results.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

from gptj_demo.client import Worker  # noqa: E402
from gptj_demo.protocol import (  # noqa: E402
    EngineStatus,
    Finished,
    GenerationRequest,
    TokenEvent,
)
from gptj_demo.sampling import SamplingParams  # noqa: E402
from gptj_demo.settings import Settings  # noqa: E402

SAMPLE_MODEL = ROOT / "assets" / "sample-model"
RESULTS = ROOT / "benchmarks" / "results"
POLL_SECONDS = 0.005
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
START_SECONDS = 300.0
NEVER = -1e4
"""A bias with which a token is never sampled, within the range of float16."""

TEMPERATURE, TOP_P = 0.8, 0.95
"""The page's own defaults, with which everybody samples where nothing else is said."""


# ---- command line, machine, results


def make_parser(description: str | None, rounds: int = 3) -> argparse.ArgumentParser:
    """The flags that all benchmarks have; `description` is the module's docstring."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=rounds, help=f"default {rounds}")
    parser.add_argument("--save", action="store_true", help="keep the JSON for the report")
    return parser


def describe_machine(*packages: str) -> dict[str, Any]:
    """Processor, cores, memory, date, commit, and the versions of Python and `packages`."""
    versions = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "processor": _processor(),
        "cores": CORES,
        "memory GB": round(psutil.virtual_memory().total / 1e9, 1),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "python": platform.python_version(),
        **versions,
    }


def _processor() -> str:
    described = subprocess.run(["lscpu"], capture_output=True, text=True, check=False).stdout
    names = [line.split(":")[1].strip() for line in described.splitlines() if "Model name" in line]
    return names[0] if names else platform.processor()


def _commit() -> str:
    def git(*words: str) -> str:
        asked = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return asked.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "gptj_demo", "app.py")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if changed else "")


def finish(
    name: str, figures: Mapping[str, Any], machine: Mapping[str, Any], *, save: bool
) -> None:
    """Print the machine, then the result as one line of JSON; keep that if asked to."""
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.items()))
    line = json.dumps({"benchmark": name, "figures": figures, "machine": machine})
    if save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(line + "\n", encoding="utf-8")
    print(line)


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Rows under a header, columns aligned; numbers as short as they can be read."""
    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    print(f"\n{title}")
    for row in cells:
        first, *others = [
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join([first, *others]))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def note(text: str) -> None:
    """What is being measured now, on standard error."""
    print(text, file=sys.stderr, flush=True)


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def wait_for(condition: Callable[[], Any], every: float = POLL_SECONDS) -> float:
    """Seconds until `condition` holds, which is looked at `every` so many seconds."""
    begin = time.perf_counter()
    while not condition():
        if time.perf_counter() - begin > START_SECONDS:
            raise SystemExit(f"not so within {START_SECONDS:.0f} s")
        time.sleep(every)
    return time.perf_counter() - begin


# ---- the checkpoint and its texts


@contextlib.contextmanager
def endless_model(source: Path = SAMPLE_MODEL) -> Iterator[Path]:
    """A copy of a checkpoint that never ends its text, so that everybody writes equally long.

    The biases of the end of text and of the embedding's padding are so low that no sampler takes
    them. Removed at the end.
    """
    import torch
    from safetensors.torch import load_file, save_file

    with tempfile.TemporaryDirectory(prefix="gptj-benchmark-") as folder:
        target = Path(folder) / source.name
        shutil.copytree(source, target)
        config = json.loads((target / "config.json").read_text(encoding="utf-8"))
        text_tokens = Tokenizer.from_file(str(target / "tokenizer.json")).get_vocab_size()
        for path in target.glob("*.safetensors"):
            tensors = load_file(path)
            if (bias := tensors.get("lm_head.bias")) is not None:
                bias[config["eos_token_id"]] = NEVER
                bias[text_tokens:] = torch.tensor(NEVER)
                save_file(tensors, path, metadata={"format": "pt"})
        yield target


class Prompts:
    """Prompts of any length out of long texts that the model wrote itself; no two begin alike."""

    def __init__(self, texts: Sequence[Sequence[int]], seed: int) -> None:
        self._texts = texts
        self._random = random.Random(seed)

    def take(self, length: int) -> tuple[int, ...]:
        """`length` token ids."""
        text = self._random.choice(self._texts)
        start = self._random.randrange(len(text) - length + 1)
        return tuple(text[start : start + length])


def write_texts(worker: Worker, texts: int = 8) -> list[tuple[int, ...]]:
    """Long texts for `Prompts`, nearly as long as the context, by the worker itself."""
    assert worker.context_length is not None
    length = worker.context_length - 8

    async def write() -> list[Generation]:
        requests = [
            generate(worker, (seed + 1,), sampling(length, seed=seed)) for seed in range(texts)
        ]
        return await asyncio.gather(*requests)

    return [tuple(written.token_ids) for written in asyncio.run(write())]


def sampling(
    max_new_tokens: int, *, top_p: float = TOP_P, seed: int | None = None
) -> SamplingParams:
    """The page's default sampling, so many tokens of it."""
    return SamplingParams(
        max_new_tokens=max_new_tokens, temperature=TEMPERATURE, top_p=top_p, seed=seed
    )


# ---- the playground


@contextlib.contextmanager
def running_worker(**settings: Any) -> Iterator[Worker]:
    """A worker whose model is ready, in an engine process of its own."""
    worker = Worker(Settings(**settings))
    worker.start()
    try:
        wait_for(lambda: worker.status.state in ("ready", "failed"))
        if worker.status.state == "failed":
            raise SystemExit(str(worker.status.detail))
        yield worker
    finally:
        worker.stop()


class Generation:
    """The tokens of one request and when each reached the one who asked, by `perf_counter`."""

    def __init__(self) -> None:
        self.begin = time.perf_counter()
        self.token_ids: list[int] = []
        self.times: list[float] = []

    def add(self, token_id: int) -> None:
        self.token_ids.append(token_id)
        self.times.append(time.perf_counter())

    @property
    def first(self) -> float:
        """Seconds to the first token."""
        return self.times[0] - self.begin

    @property
    def gaps(self) -> list[float]:
        """Seconds between one token and the next."""
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]


async def generate(
    worker: Worker,
    prompt: str | tuple[int, ...],
    params: SamplingParams,
    into: Generation | None = None,
) -> Generation:
    """One request over the worker's interface, to its end; `into` may be watched meanwhile."""
    generation = into or Generation()
    async with contextlib.aclosing(worker.stream(GenerationRequest(prompt, params))) as stream:
        async for event in stream:
            if isinstance(event, TokenEvent):
                generation.add(event.token_id)
            elif isinstance(event, Finished) and event.reason == "error":
                raise SystemExit(event.message)
    return generation


async def generate_all(
    worker: Worker, prompts: Sequence[tuple[int, ...]], tokens: int
) -> list[Generation]:
    """Requests at the same time, each of so many new tokens, sampled by temperature alone.

    For models of random weights, whose flat distributions would make top-p keep tens of thousands
    of tokens, as no real model's do.
    """
    params = sampling(tokens, top_p=1.0)
    return await asyncio.gather(*(generate(worker, prompt, params) for prompt in prompts))


def decode_rate(generations: Sequence[Generation]) -> float:
    """Tokens a second of all, from when the last of them has begun until the first one ends."""
    begin = max(one.times[0] for one in generations)
    end = min(one.times[-1] for one in generations)
    tokens = sum(begin < moment <= end for one in generations for moment in one.times)
    return tokens / (end - begin)


def random_prompt(generator: random.Random, length: int) -> tuple[int, ...]:
    """Token ids for a model of random weights, to which all texts are alike."""
    return tuple(generator.randrange(1, 4000) for _ in range(length))


def load_engine(settings: Settings) -> Any:
    """The engine in this process, with no worker around it: `submit`, `step`, `is_idle`."""
    from gptj_demo.engine.loop import load

    def ignore(message: object) -> None:
        if isinstance(message, EngineStatus) and message.progress is None:
            note(f"engine: {message.detail}")

    return load(settings, ignore)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    """Whether a server is up."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


class Program:
    """A program of Python's in a process of its own; what it says is kept, in case it fails."""

    def __init__(self, *command: str, **environment: str) -> None:
        self._command = command
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `end`)
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", **environment},
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=subprocess.STDOUT,
        )

    def wait_for(self, condition: Callable[[], Any], every: float = POLL_SECONDS) -> float:
        """Seconds until `condition` holds; exits with what the program said where it has ended."""

        def holds() -> bool:
            if self.process.poll() is not None:
                self._said.seek(0)
                said = self._said.read()[-2000:].decode(errors="replace")
                raise SystemExit(f"{' '.join(self._command)} ended:\n{said}")
            try:
                return bool(condition())
            except (OSError, HTTPException):  # its server is not up yet, or just coming up
                return False

        return wait_for(holds, every)

    def wait_until_up(self, url: str) -> float:
        """Seconds until its server answers."""
        return self.wait_for(lambda: answers(url))

    def wait_until_ready(self, url: str) -> float:
        """Seconds until a playground's model answers."""
        return self.wait_for(lambda: gradio_status(url)["state"] == "ready", every=0.05)

    def end(self) -> None:
        """End it and its children."""
        children = []
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        self._said.close()


@contextlib.contextmanager
def running_program(*command: str, **environment: str) -> Iterator[Program]:
    """A program of Python's, ended when left."""
    program = Program(*command, **environment)
    try:
        yield program
    finally:
        program.end()


def gradio_status(url: str) -> dict[str, Any]:
    """The playground's own account of itself, through the page's API."""
    call = f"{url}/gradio_api/call/status"
    request = urllib.request.Request(call, b'{"data": []}', {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{call}/{event}", timeout=10) as answer:
        lines = [line for line in answer if line.startswith(b"data: [")]
    if not lines:
        raise ConnectionError(f"{url} did not tell its status")
    return dict(json.loads(lines[-1][6:])[0])


def api_arguments(url: str, **given: Any) -> list[Any]:
    """What a site's `/generate` takes, in order: what is given, the defaults of the rest."""
    with urllib.request.urlopen(f"{url}/gradio_api/info", timeout=10) as answer:
        parameters = json.load(answer)["named_endpoints"]["/generate"]["parameters"]
    return [given.get(p["parameter_name"], p.get("parameter_default")) for p in parameters]
