"""The peer CTranslate2 in this process, on the same checkpoint; needs requirements-bench.txt."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common import TEMPERATURE, TOP_P
from ctranslate2 import GenerationStepResult, Generator
from ctranslate2.converters import TransformersConverter
from ctranslate2.converters import transformers as ctranslate2_transformers
from generate_peer import Prompt, differences
from tokenizers import Tokenizer


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
        return differences(times)
