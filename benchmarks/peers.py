"""The peers in this process: transformers' `generate` and CTranslate2, on the same checkpoint."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from common import TEMPERATURE, TOP_P
from ctranslate2 import GenerationStepResult, Generator
from ctranslate2.converters import TransformersConverter
from ctranslate2.converters import transformers as ctranslate2_transformers
from tokenizers import Tokenizer
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
        return _differences(stopwatch.times)


class _GPTJLoader(ctranslate2_transformers.GPTJLoader):
    """Names the padding rows of the embedding, which the converter requires."""

    def get_vocabulary(self, model: Any, tokenizer: Any) -> list[str]:
        tokens: list[str] = super().get_vocabulary(model, tokenizer)
        padding = model.config.vocab_size - len(tokens)
        return tokens + [f"<|extratoken_{number}|>" for number in range(1, padding + 1)]


class CTranslate2:
    """CTranslate2 in float32; `top_p` may be changed at any time."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._generator = Generator(
            str(folder), device="cpu", compute_type="float32", intra_threads=threads
        )
        self.top_p = TOP_P
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    @staticmethod
    def convert(source: Path, target: Path) -> Path:
        """A checkpoint of transformers' in CTranslate2's format, in `target`."""
        ctranslate2_transformers._MODEL_LOADERS["GPTJConfig"] = _GPTJLoader()
        TransformersConverter(str(source), copy_files=["tokenizer.json"]).convert(
            str(target), quantization="float32"
        )
        return target

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "sampling_topk": 0,
            "sampling_topp": self.top_p,
            "sampling_temperature": TEMPERATURE,
        }

    def _names(self, prompt: Prompt) -> list[str]:
        names = [self._tokenizer.id_to_token(token) for token in prompt]
        assert None not in names
        return names

    def batch(
        self,
        prompts: Sequence[Prompt],
        tokens: int,
        callback: Callable[[GenerationStepResult], bool] | None = None,
    ) -> list[list[int]]:
        """A static batch of prompts; each gets `tokens` new tokens, which are returned."""
        results = self._generator.generate_batch(
            [self._names(prompt) for prompt in prompts],
            max_length=tokens,
            include_prompt_in_result=False,
            callback=callback,
            **self._options,
        )
        assert all(len(result.sequences_ids[0]) == tokens for result in results)
        return [result.sequences_ids[0] for result in results]

    def stream(self, prompt: Prompt, tokens: int) -> None:
        """One stream of tokens, as they are generated."""
        names = self._names(prompt)
        steps = self._generator.generate_tokens(names, max_length=tokens, **self._options)
        assert sum(1 for _ in steps) == tokens

    def step_times(self, prompts: Sequence[Prompt], steps: int) -> list[float]:
        """Seconds of each decode step after the first token."""
        times: list[float] = []

        def note_time(result: GenerationStepResult) -> bool:
            if result.batch_id == 0:
                times.append(time.perf_counter())
            return False

        self.batch(prompts, steps + 1, note_time)
        return _differences(times)


def _differences(times: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]
