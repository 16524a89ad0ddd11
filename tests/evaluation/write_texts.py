"""Let the sample model write the texts of the tasks: `python -m tests.evaluation.write_texts`."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

from gptj_demo.client import Worker
from gptj_demo.protocol import Finished, GenerationRequest, TokenEvent
from gptj_demo.sampling import SamplingParams
from gptj_demo.settings import Settings

FOLDER = Path(__file__).resolve().parent
BEGINNINGS = (
    "Once upon a time there was a king",
    "There was once a poor woodcutter who",
    "In the middle of the great forest",
    "The youngest of the three brothers",
    "A fox and a crow",
    "Long ago, by the sea,",
    "The old woman looked at the princess and said",
    "When the sun went down,",
)


async def write(worker: Worker, prompt: str, **params: Any) -> str:
    """A continuation by the sample model."""
    request = GenerationRequest(prompt, SamplingParams(**params))
    text = ""
    async with aclosing(worker.stream(request)) as stream:
        async for event in stream:
            if isinstance(event, TokenEvent | Finished):
                text += event.text
    return text


async def write_all(worker: Worker) -> None:
    stories, choices, sentences = [], [], []
    for seed, beginning in enumerate(BEGINNINGS):
        continuation = await write(
            worker, beginning, max_new_tokens=420, seed=seed, ignore_eos=True
        )
        story = (beginning + continuation).replace("<|endoftext|>", "\n")
        stories.append({"text": story})
        context = " ".join(story.split(" ")[:40])
        ends = [
            (await write(worker, context, max_new_tokens=12, seed=s, temperature=t)).rstrip()
            for s, t in enumerate((0.0, 0.8, 1.2, 1.6))
        ]
        gold = seed % 4
        ends[0], ends[gold] = ends[gold], ends[0]
        choices.append({"context": context, "choices": [end.strip() for end in ends], "gold": gold})
        greedy = await write(worker, context, max_new_tokens=24, temperature=0.0, stop=("\n",))
        sentences.append({"context": context, "continuation": greedy})
    for name, rows in (("stories", stories), ("choices", choices), ("sentences", sentences)):
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (FOLDER / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def main() -> None:
    worker = Worker(Settings(model="sample", max_num_seqs=2))
    worker.start()
    try:
        asyncio.run(write_all(worker))
    finally:
        worker.stop()


if __name__ == "__main__":
    main()
