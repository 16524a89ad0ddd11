#!/usr/bin/env python3
"""Compile the engine's code for this processor, so that the first start does not have to.

    python tools/compile_engine.py

Loads the sample model and generates a few tokens with it. Numba caches the compiled code in the
engine's folder or in NUMBA_CACHE_DIR. Each version of the engine has its own cache.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gptj_demo.engine.load import Refusal  # noqa: E402
from gptj_demo.engine.loop import load  # noqa: E402
from gptj_demo.settings import Settings  # noqa: E402


def main() -> None:
    logging.disable(logging.INFO)
    print("Compiling the engine's code for this processor, once", flush=True)
    for name in [name for name in os.environ if name.startswith("GPTJ_")]:
        del os.environ[name]  # the playground's settings; they could need no compiled code
    begin = time.perf_counter()
    try:
        load(Settings(model="sample"), lambda message: None)
    except Refusal as refusal:  # the playground says so itself when it starts
        print(f"Nothing was compiled: {refusal}")
        return
    print(f"Compiled in {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
