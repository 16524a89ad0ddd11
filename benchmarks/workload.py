"""What the benchmarks ask of a worker: checkpoints, prompts, requests, and when each token came."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common import NEVER, SAMPLE_MODEL, TEMPERATURE, TOP_P, note, wait_for
from tokenizers import Tokenizer

from gptj_demo.client import Worker
from gptj_demo.protocol import EngineStatus, Finished, GenerationRequest, TokenEvent
from gptj_demo.sampling import SamplingParams
from gptj_demo.settings import Settings

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
