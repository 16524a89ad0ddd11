"""Starts OpenVINO GenAI in an environment of its own and sends it requests.

`make .venv/openvino.done` builds the environment `.venv/openvino`. It is separate because the
exporter, optimum-intel, needs an older transformers than the playground. If it is not installed,
the benchmarks leave this peer out. `openvino_peer.py` is the program that it runs.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from common import ROOT, TEMPERATURE, TOP_P, note
from workload import Generation

PYTHON = ROOT / ".venv" / "openvino" / "bin" / "python"
DONE = ROOT / ".venv" / "openvino.done"
PROGRAM = ROOT / "benchmarks" / "openvino_peer.py"
NAME = "OpenVINO GenAI"
PACKAGES = ("openvino-genai", "optimum-intel")


def is_installed() -> bool:
    """Whether the environment is complete; says so if it is not."""
    if not (there := DONE.exists()):
        note(f"{NAME} is left out: `make .venv/openvino.done` installs it")
    return there


def versions() -> dict[str, str]:
    """The versions of its packages; empty if it is not installed."""
    folders = PYTHON.parent.parent.glob("lib/python*/site-packages")
    found = {one.name: one.version for one in distributions(path=[str(one) for one in folders])}
    return {package: found[package] for package in PACKAGES if package in found}


class Exporting:
    """optimum-intel's export of a checkpoint, running in a process of its own."""

    def __init__(self, source: Path, target: Path, weights: str) -> None:
        """`weights` is a format of optimum-cli's: `fp32` or `int8` (weights alone)."""
        self._target = target
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `wait`)
        options = ["--task", "text-generation-with-past", "--weight-format", weights]
        cli = ["-m", "optimum.commands.optimum_cli", "export", "openvino", "--model", str(source)]
        self.process = subprocess.Popen(
            [str(PYTHON), *cli, *options, "--disable-convert-tokenizer", str(target)],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=subprocess.STDOUT,
        )

    def wait(self) -> Path:
        """The exported folder."""
        with self._said:
            if self.process.wait():
                raise SystemExit(f"{NAME}: the export failed:\n{_tail(self._said)}")
        return self._target


class OpenVINO:
    """A model that generates, once it is loaded; `top_p` may be changed at any time.

    It takes and returns token ids. All requests that run at a time share one batch, whichever call
    sent them.
    """

    def __init__(self, folder: Path, *flags: str) -> None:
        self.top_p = TOP_P
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `close`)
        self.process = subprocess.Popen(
            [str(PYTHON), str(PROGRAM), str(folder), *flags],
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._waiting: dict[str, tuple[int, Generation, Future[Generation]]] = {}

    def wait_until_loaded(self) -> None:
        """Wait until the model is loaded; call it before the first request."""
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            raise SystemExit(f"{NAME} did not start:\n{_tail(self._said)}")
        threading.Thread(target=self._read, daemon=True).start()

    def close(self) -> None:
        """End the program."""
        self.process.terminate()
        self.process.wait()
        self._said.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            for number, tokens in json.loads(line).items():
                asked, generation, future = self._waiting[number]
                for token in tokens:
                    generation.add(token)
                if len(generation.token_ids) == asked:
                    del self._waiting[number]
                    future.set_result(generation)
        with self._lock:
            for _, _, future in self._waiting.values():
                future.set_exception(RuntimeError(f"{NAME} ended:\n{_tail(self._said)}"))

    def submit(
        self,
        prompts: Sequence[Sequence[int]],
        tokens: int,
        *,
        temperature: float = TEMPERATURE,
        seed: int = 0,
    ) -> list[Future[Generation]]:
        """Begin one request for each prompt, all in one step; each gets `tokens` new tokens."""
        requests = []
        futures = []
        with self._lock:
            for prompt in prompts:
                number = next(self._numbers)
                future: Future[Generation] = Future()
                self._waiting[str(number)] = (tokens, Generation(), future)
                futures.append(future)
                request = {"id": number, "prompt": list(prompt), "tokens": tokens}
                sampling = {"temperature": temperature, "top_p": self.top_p, "seed": seed + number}
                requests.append(request | sampling)
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps(requests) + "\n")
            self.process.stdin.flush()
        return futures

    def batch(
        self, prompts: Sequence[Sequence[int]], tokens: int, **options: Any
    ) -> list[Generation]:
        """The tokens of all prompts, when all are complete."""
        return [future.result() for future in self.submit(prompts, tokens, **options)]

    def step_times(self, prompts: Sequence[Sequence[int]], steps: int) -> list[float]:
        """Seconds of each decode step after the first token; prompts must fit into one step."""
        return self.batch(prompts, steps + 1)[0].gaps


@contextlib.contextmanager
def running_openvino(folder: Path, *flags: str) -> Iterator[OpenVINO]:
    """A model that loads, ended on exit."""
    peer = OpenVINO(folder, *flags)
    try:
        yield peer
    finally:
        peer.close()


@contextlib.contextmanager
def loaded_in_float32(
    model: Path, *flags: object, threads: Sequence[int] = (0,)
) -> Iterator[dict[int, OpenVINO]]:
    """A checkpoint in float32, loaded once for each number of threads; 0 is one a core.

    Empty where the peer is not installed.
    """
    with contextlib.ExitStack() as stack:
        loaded: dict[int, OpenVINO] = {}
        if is_installed():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "model"
            Exporting(model, folder, "fp32").wait()
            for number in threads:
                given = map(str, ("--precision", "f32", "--threads", number, *flags))
                loaded[number] = stack.enter_context(running_openvino(folder, *given))
                loaded[number].wait_until_loaded()
        yield loaded


def _environment() -> dict[str, str]:
    """The environment variables of the peer, without access to the hub and without telemetry."""
    hub = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {**os.environ, **hub, "PYTHONPATH": "", "TQDM_DISABLE": "1"}


def _tail(said: Any) -> str:
    said.seek(0)
    return str(said.read()[-2000:], errors="replace")
