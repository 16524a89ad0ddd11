#!/usr/bin/env python3
"""Peak memory of loading in int8, for each stored precision and layout of the weights.

A random GPT-J whose weights take 1 GB in float16 is written in fp32, fp16 and bf16, as safetensors
and .bin, whole and sharded, and in torch's old format; each is loaded by a process of its own.
Memory is anonymous memory: pages of mapped files, which the system can reclaim, are not counted.
The limit of the peak is 1.35 times the memory of the loaded model.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from common import describe_machine, finish, make_parser, note, print_table
from programs import anonymous_memory

LIMIT = 1.35
STORED = ("bfloat16", "float16", "float32")
SHAPE = {"n_embd": 2048, "n_layer": 9, "n_head": 16, "rotary_dim": 64, "vocab_size": 16384}
"""0.52 billion parameters, of which the blocks have 0.45."""
POLL_SECONDS = 0.001


def measure(folder: str, warm: str) -> None:
    """Print, as JSON, the peak of loading `folder`, the loaded model's memory and the plan's.

    `warm` is a small checkpoint that is loaded first, to exclude imports.
    """
    import gc

    from gptj_demo.engine import load as loading
    from gptj_demo.engine.machine import return_freed_memory
    from gptj_demo.settings import Settings

    def ignore(*_: object) -> None:
        pass

    loading.load_model(loading.make_plan(Settings(model=warm, precision="int8")), ignore)
    plan = loading.make_plan(Settings(model=folder, precision="int8"))
    gc.collect()
    return_freed_memory()
    own = os.getpid()
    before = peak = anonymous_memory(own)
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(POLL_SECONDS):
            peak = max(peak, anonymous_memory(own))

    watcher = threading.Thread(target=watch)
    watcher.start()
    model = loading.load_model(plan, ignore)
    ended.set()
    watcher.join()
    return_freed_memory()
    loaded = anonymous_memory(own)
    del model
    figures = {
        "peak": max(peak, loaded) - before,  # the last reading may be from before the end
        "grown": loaded - before,
        "stays": loading.weight_bytes(plan.config, "int8"),
    }
    print(json.dumps(figures))


def measure_all() -> list[dict[str, Any]]:
    """Bytes at the peak, loaded and planned, for each stored precision and layout."""
    import torch
    from transformers import GPTJForCausalLM

    from tests.engine.checkpoints import LAYOUTS, make_checkpoint, make_config, write_weights

    with torch.device("meta"):
        shapes = GPTJForCausalLM(make_config(**SHAPE)).state_dict()
    weights = {name: torch.rand(one.shape) - 0.5 for name, one in shapes.items()}
    measured = []
    with tempfile.TemporaryDirectory() as place:
        warm = make_checkpoint(Path(place) / "warm")
        for stored in STORED:
            tensors = {name: one.to(getattr(torch, stored)) for name, one in weights.items()}
            for layout in reversed(LAYOUTS):
                with tempfile.TemporaryDirectory(dir=place) as folder:
                    shutil.copy(warm / "tokenizer.json", folder)
                    make_config(**SHAPE).save_pretrained(folder)
                    write_weights(Path(folder), tensors, layout)
                    command = [sys.executable, __file__, "--measure", folder, str(warm)]
                    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                one = json.loads(ran.stdout.splitlines()[-1])
                measured.append({"stored": stored, "layout": layout, **one})
                note(f"loading: {stored}, {layout}: {one['peak'] / one['grown']:.3f}")
    return measured


def read_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, rounds=None)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = read_arguments()
    if arguments.measure:
        measure(*arguments.measure)
        return
    measured = measure_all()
    rows = [
        [
            f"{one['stored']}, {one['layout']}",
            one["stays"] / 1e6,
            one["grown"] / 1e6,
            one["peak"] / 1e6,
            one["peak"] / one["grown"],
        ]
        for one in measured
    ]
    header = ["stored", "planned", "loaded", "peak", "peak / loaded"]
    print_table("Loading in int8, megabytes of the process", header, rows)
    worst = max(one["peak"] / one["grown"] for one in measured)
    print(f"\nworst ratio {worst:.3f}, limit {LIMIT}")
    figures = {"limit": LIMIT, "worst": worst, "measured": measured}
    machine = describe_machine("torch", "transformers", "bitsandbytes", "safetensors")
    finish("loading", figures, machine, save=arguments.save)
    if worst > LIMIT:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
