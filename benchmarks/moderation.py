"""How long a filter holds text back: from the engine's event to the event that a reader gets.

`python benchmarks/moderation.py`: 16 streams of 200 tokens from the sample model, with 200
expressions that match nothing in them.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import common  # noqa: F401  # makes the package importable

from gptj_demo.client import RequestRefused, Stream, Worker
from gptj_demo.client.moderation.sentences import first_end
from gptj_demo.protocol import Finished, GenerationRequest, Passage, StreamEvent, TokenEvent
from gptj_demo.sampling import SamplingParams
from gptj_demo.settings import Settings

STREAMS, TOKENS = 16, 200
PATTERNS = [rf"\bword{number} (of|in|at) \w+\b" for number in range(200)]


class Arrivals:
    """Notes when each character of a stream arrives from the engine."""

    def __init__(self) -> None:
        self.times: defaultdict[int, list[float]] = defaultdict(list)

    def on_open(self, stream: Stream) -> None:
        pass

    def on_event(self, stream: Stream, event: StreamEvent | RequestRefused) -> None:
        if isinstance(event, TokenEvent | Finished):
            self.times[stream.request_id] += [time.perf_counter()] * len(event.text)

    def on_close(self, stream: Stream) -> None:
        pass


async def read(worker: Worker, seed: int) -> tuple[int, str, list[float]]:
    """The request's id, its text, and when each character could be taken."""
    params = SamplingParams(max_new_tokens=TOKENS, seed=seed)
    stream = worker.stream(GenerationRequest("Once upon a time", params))
    text, times = "", []
    async for event in stream:
        if isinstance(event, TokenEvent | Passage | Finished):
            text += event.text
            times += [time.perf_counter()] * len(event.text)
    return stream.request_id, text, times


async def measure(settings: Settings) -> None:
    worker = Worker(settings)
    worker.observer = arrivals = Arrivals()
    worker.start()
    try:
        while worker.status.state != "ready":
            await asyncio.sleep(0.05)
        await read(worker, 0)
        ended = await asyncio.gather(*(read(worker, 1 + i) for i in range(STREAMS)))
    finally:
        await asyncio.to_thread(worker.stop)
    held, checks, sentences = [], [], []
    for request_id, text, times in ended:
        came = arrivals.times[request_id]
        held += [1000 * (shown - at) for at, shown in zip(came, times, strict=True)]
        ends = [0]
        while (end := first_end(text[ends[-1] :])) is not None:
            ends.append(ends[-1] + end.mark)
        sentences += [b - a for a, b in pairwise(ends)]
        # a sentence's end is known when the next character arrives
        checks += [1000 * (times[end - 1] - came[end]) for end in ends[1:] if end < len(came)]
    print(f"{STREAMS} streams of {TOKENS} tokens, {len(PATTERNS)} expressions")
    print(f"{len(sentences)} sentences of {statistics.mean(sentences):.0f} characters on average")
    for name, values in (("a character is held", held), ("a check takes", checks)):
        print(
            f"{name} for {statistics.median(values):.1f} ms (median), "
            f"{statistics.quantiles(values, n=20)[-1]:.1f} ms (95 %), {max(values):.1f} ms (most)"
        )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "patterns.txt"
        path.write_text("\n".join(PATTERNS))
        asyncio.run(measure(Settings(model="sample", max_num_seqs=STREAMS, filter=str(path))))


if __name__ == "__main__":
    main()
