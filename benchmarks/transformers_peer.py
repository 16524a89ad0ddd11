"""transformers' `generate` on one checkpoint, in a process of its own; one line of JSON at the end.

    python benchmarks/transformers_peer.py FOLDER {bfloat16,float16,float32,int8} [--device cpu]

Its own process, so that its memory can be watched from outside and is given back. `int8` is
bitsandbytes' LLM.int8. Used by `real_size.py` and `gpu.py`.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from typing import Any

import torch
from generate_peer import Stopwatch, Transformers
from transformers import BitsAndBytesConfig, GPTJForCausalLM

DECODE_PROMPT_TOKENS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("model")
    parser.add_argument("precision", choices=("bfloat16", "float16", "float32", "int8"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--tokens", type=int, default=16, help="new tokens a stream")
    parser.add_argument("--prompts", type=int, nargs="*", default=[100], help="lengths to read")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    begin = time.perf_counter()
    options: dict[str, Any] = {}
    if arguments.precision == "int8":  # bitsandbytes computes in the device's fast dtype
        options["quantization_config"] = BitsAndBytesConfig(load_in_8bit=True)
        options["dtype"] = torch.bfloat16 if arguments.device == "cpu" else torch.float16
    else:
        options["dtype"] = getattr(torch, arguments.precision)
    model = GPTJForCausalLM.from_pretrained(
        arguments.model, device_map={"": arguments.device}, **options
    )
    peer = Transformers(model)
    peer.top_p = 1.0  # random weights have flat distributions
    load_seconds = time.perf_counter() - begin
    generator = random.Random(0)

    def prompt(length: int) -> list[int]:
        return [generator.randrange(1, 4000) for _ in range(length)]

    def run(prompts: Sequence[Sequence[int]], tokens: int) -> Stopwatch:
        stopwatch = Stopwatch()
        peer.batch(prompts, tokens, stopwatch)
        return stopwatch

    run([prompt(8)], 4)  # a warm-up
    first: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        for length in arguments.prompts:
            stopwatch = run([prompt(length)], 1)
            first.setdefault(str(length), []).append(stopwatch.times[0] - stopwatch.begin)
        for count in arguments.streams:
            prompts = [prompt(DECODE_PROMPT_TOKENS) for _ in range(count)]
            times = run(prompts, arguments.tokens).times
            rate = count * (len(times) - 1) / (times[-1] - times[0])
            rates.setdefault(str(count), []).append(rate)
    figures = {
        "load s": load_seconds,
        "first token s": first,
        "tokens a second": rates,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
