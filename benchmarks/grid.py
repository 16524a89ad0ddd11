#!/usr/bin/env python3
"""A comparison's cells all at once, and the same cells one after another.

    python benchmarks/grid.py [--tokens 120]

Starts `app.py` and calls `/compare` for a grid of 5 temperatures by 3 values of top-p, then
`/generate` for each cell's prompt and settings in turn, on a model that never ends its text. The
texts must be equal. Prints a table, the machine and versions, and one line of JSON last.
"""

from __future__ import annotations

import time

from common import SAMPLE_MODEL, describe_machine, finish, make_parser, median, note, print_table
from gradio_client import Client
from workload import endless_model

from tests.browser.conftest import Site

PROMPT = "Once upon a time there was a"
AXES = ("temperature", "0.2 to 1.4 in 5 steps", "top_p", "0.8, 0.95, 1")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--tokens", type=int, default=120, help="of each cell; default 120")
    arguments = parser.parse_args()
    together, apart = [], []
    with endless_model(SAMPLE_MODEL) as model:
        site = Site(str(model), "--max-num-seqs", "32")
        try:
            site.wait_until_ready()
            client = Client(site.url, verbose=False)
            for turn in range(arguments.rounds):
                note(f"round {turn + 1} of {arguments.rounds}")
                controls = {"max_new_tokens": arguments.tokens, "seed": turn}
                begin = time.perf_counter()
                grid = client.predict(PROMPT, *AXES, controls=controls, api_name="/compare")
                together.append(time.perf_counter() - begin)
                begin = time.perf_counter()
                alone = [
                    client.predict(PROMPT, **cell["settings"], api_name="/generate")
                    for cell in grid["cells"]
                ]
                apart.append(time.perf_counter() - begin)
                assert alone == [cell["text"] for cell in grid["cells"]], "other words"
        finally:
            site.stop()
    cells = len(grid["cells"])
    figures = {
        "cells": cells,
        "tokens a cell": arguments.tokens,
        "seconds at once": round(median(together), 3),
        "seconds one after another": round(median(apart), 3),
        "times as fast": round(median(apart) / median(together), 2),
        "tokens a second at once": round(cells * arguments.tokens / median(together), 1),
    }
    print_table(f"{cells} cells", ["", ""], [[name, value] for name, value in figures.items()])
    finish("grid", figures, describe_machine("torch", "gradio"), save=arguments.save)


if __name__ == "__main__":
    main()
