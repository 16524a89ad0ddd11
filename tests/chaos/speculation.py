"""Mixed requests with and without drafts: every event must be the same to the last bit.

    python -m tests.chaos.speculation [--requests 300] [--draft FOLDER]

Requests of every kind run once alone on the sample model without speculation. Then they run 16 at a
time, among others that are cancelled in their midst: with drafts by prompt lookup, by a draft
model, by both, and with drafts that are right with a chance of 0.9, 0.5 and 0. The draft model is a
folder, by default that of the sample model. Texts, token ids, reasons and all
log-probabilities are compared exactly. Prints the numbers, and one line of JSON last; the exit code
is 1 where anything differs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from pathlib import Path
from typing import Any

from gptj_demo.client.prompt import Ready, build_submit
from gptj_demo.engine.load import load_model, make_plan
from gptj_demo.engine.loop import load
from gptj_demo.engine.model import build_model
from gptj_demo.engine.speculation import Drafter
from gptj_demo.protocol import Submit, TokenizerReady
from gptj_demo.settings import Settings
from gptj_demo.tokenization import Vocabulary
from tests.chaos.survival import make_requests
from tests.engine.drafting import (
    EagerLookup,
    Scripted,
    alone,
    draft_model,
    drafted_by,
    in_a_storm,
    outcome,
    speculate,
    texts_of,
)
from tests.processes import ROOT

STREAMS = 16
ACCEPTANCES = (0.9, 0.5, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--draft", type=Path, default=ROOT / "assets" / "sample-draft")
    arguments = parser.parse_args()
    count: int = arguments.requests
    tokenizers: list[TokenizerReady] = []

    def send(message: object) -> None:
        if isinstance(message, TokenizerReady):
            tokenizers.append(message)

    engine = load(Settings(model="sample", max_num_seqs=STREAMS, speculation="off"), send)
    ready = as_ready(tokenizers[0])

    async def build() -> list[Submit]:
        requests = enumerate(make_requests(count))
        seeds = random.Random(3)
        return [await build_submit(n, one, seeds.randrange(2**32), ready) for n, one in requests]

    submits = asyncio.run(build())
    expected = alone(engine, submits)
    texts = texts_of(expected)
    scripted = {f"scripted, {a}": Scripted(texts, ready.vocabulary.size, a) for a in ACCEPTANCES}
    plan = make_plan(Settings(model=str(arguments.draft), speculation="off"))
    model = draft_model(engine, build_model(load_model(plan, lambda *_: None))[0])
    drafters: dict[str, list[Drafter]] = {
        "lookup": [EagerLookup()],
        "draft model": [model],
        "lookup and draft model": [EagerLookup(), model],
        **{name: [drafter] for name, drafter in scripted.items()},
    }
    figures: dict[str, dict[str, Any]] = {}
    for name, own_drafters in drafters.items():
        speculate(engine, *own_drafters)
        actual = in_a_storm(engine, submits, STREAMS + 4, random.Random(4))
        equal = sum(outcome(actual[n]) == outcome(own) for n, own in expected.items())
        ends = [event for own in actual.values() for event in own]
        figures[name] = {"equal": equal, "of": count}
        for drafter in own_drafters:
            drafted, accepted = drafted_by(ends, drafter.name)
            figures[name][drafter.name] = {"drafted": drafted, "accepted": accepted}
        print(f"{name}: {figures[name]}", flush=True)
    print(json.dumps({"speculation": figures}))
    sys.exit(any(one["equal"] != count for one in figures.values()))


def as_ready(tokenizer: TokenizerReady) -> Ready:
    """What the web process knows of a model."""
    return Ready(Vocabulary.of(tokenizer), tokenizer.context_length)


if __name__ == "__main__":
    main()
