"""OpenVINO GenAI's continuous batching on one exported model, in an environment of its own.

    .venv/openvino/bin/python benchmarks/openvino_peer.py FOLDER [--threads 2] [--precision f32]

Started by `openvino_client.py`. The first line on standard output says that the model is loaded.
From then on each line on standard input is a list of requests that begin together, each
`{"id", "prompt", "tokens", "temperature", "top_p", "seed"}`; `prompt` is a list of token ids, and
temperature 0 takes the likeliest tokens. A request may be sent while others run: it joins their
batch at the next step. After each step, a line `{"ID": [token ids], ...}` holds the new tokens. All
requests get exactly `tokens` tokens. The end of standard input ends the program.

Imports nothing of the playground: its packages are not in this environment.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import openvino_genai
from openvino import Tensor
from openvino_genai import ContinuousBatchingPipeline, GenerationConfig, SchedulerConfig


def load(folder: Path, arguments: argparse.Namespace) -> ContinuousBatchingPipeline:
    """The pipeline; OpenVINO chooses what the flags leave open."""
    scheduler = SchedulerConfig()
    scheduler.cache_size = arguments.cache_gb
    scheduler.max_num_seqs = arguments.streams
    scheduler.max_num_batched_tokens = arguments.batched_tokens
    scheduler.dynamic_split_fuse = True  # prompts are read in the steps that decode
    scheduler.enable_prefix_caching = arguments.prefix_caching
    properties = {"INFERENCE_NUM_THREADS": arguments.threads}
    if arguments.precision is not None:
        properties["INFERENCE_PRECISION_HINT"] = arguments.precision
        properties["KV_CACHE_PRECISION"] = arguments.precision
    return ContinuousBatchingPipeline(folder, scheduler, "CPU", properties)


class Server:
    """Adds the requests that arrive to the pipeline's batch, and writes the new tokens."""

    def __init__(self, pipeline: ContinuousBatchingPipeline, output: TextIO) -> None:
        self._pipeline = pipeline
        self._output = output
        self._arrived: queue.SimpleQueue[list[dict[str, Any]] | None] = queue.SimpleQueue()
        self._running: dict[int, Any] = {}
        self._left: dict[int, int] = {}

    def say(self, message: object) -> None:
        """Write one line of JSON."""
        self._output.write(json.dumps(message) + "\n")
        self._output.flush()

    def serve(self) -> None:
        """Serve requests until the end of standard input."""
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            while not self._running or not self._arrived.empty():
                requests = self._arrived.get()
                if requests is None:
                    return
                for request in requests:
                    self._add(**request)
            self._pipeline.step()
            if written := dict(self._new_tokens()):
                self.say(written)

    def _read(self) -> None:
        for line in sys.stdin:
            self._arrived.put(json.loads(line))
        self._arrived.put(None)

    def _add(
        self,
        id: int,
        prompt: list[int],
        tokens: int,
        temperature: float,
        top_p: float,
        seed: int,
    ) -> None:
        config = GenerationConfig(max_new_tokens=tokens, ignore_eos=True)
        if temperature:
            config.update_generation_config(
                do_sample=True, temperature=temperature, top_p=top_p, rng_seed=seed
            )
        handle = self._pipeline.add_request(id, Tensor(np.array([prompt], np.int64)), config)
        self._running[id], self._left[id] = handle, tokens

    def _new_tokens(self) -> Iterator[tuple[int, list[int]]]:
        """Yield each request with its new tokens, if it has any; forget requests that ended."""
        running = openvino_genai.GenerationStatus.RUNNING
        for number, handle in list(self._running.items()):
            ended = handle.get_status() != running
            tokens: list[int] = []
            while handle.can_read():
                for output in handle.read().values():
                    tokens += output.generated_ids
            self._left[number] -= len(tokens)
            if ended:
                del self._running[number]
                if left := self._left.pop(number):
                    raise SystemExit(f"request {number} ended {left} tokens early")
            if tokens:
                yield number, tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("model", type=Path, help="a folder that optimum-cli has exported")
    parser.add_argument("--threads", type=int, default=0, help="default: one a core")
    parser.add_argument("--streams", type=int, default=64, help="most requests in a batch")
    parser.add_argument("--precision", choices=("f32", "bf16"), help="of all but the weights")
    parser.add_argument("--cache-gb", type=int, default=1, help="memory of the KV cache")
    parser.add_argument("--batched-tokens", type=int, default=256, help="most tokens in a step")
    parser.add_argument("--prefix-caching", action="store_true")
    arguments = parser.parse_args()
    # what libraries print goes to standard error, so it cannot disturb the protocol
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    server = Server(load(arguments.model, arguments), output)
    server.say("loaded")
    server.serve()


if __name__ == "__main__":
    main()
