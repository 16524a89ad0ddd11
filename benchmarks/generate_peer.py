"""transformers' `generate` in this process. Needs nothing beyond requirements.txt."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from common import TEMPERATURE, TOP_P
from transformers import AutoTokenizer, GPTJForCausalLM, TextIteratorStreamer
from transformers.generation.streamers import BaseStreamer

transformers.logging.set_verbosity_error()

Prompt = Sequence[int]


class Stopwatch(BaseStreamer):
    """Records when each step of `generate` returned its tokens; works for batches too."""

    def __init__(self) -> None:
        self.begin = time.perf_counter()
        self.times: list[float] = []
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        if self._prompt_seen:
            self.times.append(time.perf_counter())
        self._prompt_seen = True

    def end(self) -> None: ...


class Transformers:
    """`GPTJForCausalLM.generate`; `top_p` may be changed at any time."""

    def __init__(self, model: GPTJForCausalLM, tokenizer: Any = None) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.top_p = TOP_P

    @classmethod
    def load(cls, folder: Path) -> Transformers:
        """In float32, with its tokenizer."""
        model = GPTJForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return cls(model, AutoTokenizer.from_pretrained(folder))

    @torch.inference_mode()
    def batch(
        self, prompts: Sequence[Prompt], tokens: int, streamer: BaseStreamer | None = None
    ) -> None:
        """A static batch of prompts of one length; each gets `tokens` new tokens."""
        ids = torch.tensor(list(prompts), device=self.model.device)
        output = self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            do_sample=True,
            temperature=TEMPERATURE,
            top_p=self.top_p,
            top_k=0,
            pad_token_id=0,
            streamer=streamer,
        )
        assert output.shape[1] == ids.shape[1] + tokens

    def stream(self, prompt: Prompt, tokens: int) -> None:
        """One stream of text, as in a typical Space: `generate` in a thread, read here."""
        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True)
        thread = threading.Thread(target=self.batch, args=([prompt], tokens, streamer))
        thread.start()
        for _ in streamer:
            pass
        thread.join()

    def step_times(self, prompts: Sequence[Prompt], steps: int) -> list[float]:
        """Seconds of each decode step after the first token."""
        stopwatch = Stopwatch()
        self.batch(prompts, steps + 1, stopwatch)
        return differences(stopwatch.times)


def differences(times: Sequence[float]) -> list[float]:
    """The seconds between neighbouring times."""
    return [later - earlier for earlier, later in itertools.pairwise(times)]
