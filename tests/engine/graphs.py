"""What the tests of captured graphs share: an engine with graphs or without, and its requests.

Without a GPU, each launch of a captured graph runs the forward pass again over the same tensors.
So buckets, padding and the order of steps are tested on every machine.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from transformers import GPTJForCausalLM

from gptj_demo.engine.engine import Engine
from gptj_demo.engine.model.cuda import kernels as torch_kernels
from gptj_demo.engine.model.cuda.graphs import Capture, CudaCapture, DecodeGraphs, Forward
from gptj_demo.engine.model.cuda.model import CudaLinear, GraphModel
from gptj_demo.engine.model.linear import PackedLinear
from gptj_demo.engine.runner import Runner
from gptj_demo.engine.vocabulary import EngineVocabulary
from gptj_demo.protocol import EngineEvent, Finished, Submit, TokenEvent
from gptj_demo.sampling import SamplingParams
from gptj_demo.tokenization import token_bytes
from tests.engine.checkpoints import TEXT_TOKENS, make_model, make_tokenizer
from tests.engine.devices import DEVICE
from tests.engine.forward import built

TABLE = token_bytes(make_tokenizer().to_str())
CONTEXT = 64
NOT_A_NUMBER = TABLE.index(b"~")  # in some tests, its embedding is NaN


class Recorder:
    """Replaces or wraps `CudaCapture`, and counts captures and launches."""

    def __init__(self, capture: Capture | None = None) -> None:
        self._capture = capture or self._pretend
        self.captured: list[int] = []  # rows
        self.launched: list[int] = []

    @staticmethod
    def _pretend(forward: Forward) -> tuple[Callable[[], None], torch.Tensor]:
        output = forward()

        def replay() -> None:
            output.copy_(forward())

        return replay, output

    def __call__(self, forward: Forward) -> tuple[Callable[[], None], torch.Tensor]:
        replay, output = self._capture(forward)
        rows = output.shape[0]
        self.captured.append(rows)

        def counted() -> None:
            self.launched.append(rows)
            replay()

        return counted, output


def recorder() -> Recorder:
    return Recorder(CudaCapture() if DEVICE == "cuda" else None)


class Bench:
    """An engine with or without graphs, and its events."""

    def __init__(
        self,
        *,
        capture: Capture | None = None,
        kernels: Any = torch_kernels,
        streams: int = 5,
        broken: bool = False,
        n_positions: int = CONTEXT,
        max_tokens: int | None = None,
    ) -> None:
        model = make_model(seed=4, n_positions=n_positions)
        if broken:
            with torch.no_grad():
                model.transformer.wte.weight[NOT_A_NUMBER] = torch.nan
        model = model.to(DEVICE)
        plain = built(model, "eager" if DEVICE == "cuda" else "auto") if capture is None else None
        self.model = plain or graph_model(model, capture, kernels)
        self.runner = Runner(self.model, streams, TEXT_TOKENS, max_tokens=max_tokens)
        if isinstance(self.model, GraphModel):
            self.model.graphs = DecodeGraphs(self.model, self.runner.cache, capture, kernels)
        self.engine = Engine(
            self.runner,
            EngineVocabulary(TABLE, TEXT_TOKENS, n_positions, bos_token_id=0, eos_token_ids=()),
            16,
        )
        self.events: list[EngineEvent] = []

    def submit(self, *requests: Submit) -> None:
        for request in requests:
            self.engine.submit(request)

    def run(self, *requests: Submit) -> None:
        self.submit(*requests)
        while not self.engine.is_idle:
            self.step()

    def step(self) -> None:
        self.events += self.engine.step()

    @property
    def graphs(self) -> DecodeGraphs:
        assert isinstance(self.model, GraphModel)
        assert self.model.graphs is not None
        return self.model.graphs

    @property
    def results(self) -> dict[tuple[int, int], tuple[list[int], str, str]]:
        """By request and completion: tokens, text, why it ended."""
        tokens: dict[tuple[int, int], list[int]] = {}
        texts: dict[tuple[int, int], str] = {}
        ends = {}
        for event in self.events:
            if isinstance(event, TokenEvent | Finished):
                key = event.request_id, event.index
                texts[key] = texts.get(key, "") + event.text
            if isinstance(event, TokenEvent):
                tokens.setdefault(key, []).append(event.token_id)
            if isinstance(event, Finished):
                ends[key] = event.message
        return {key: (tokens.get(key, []), texts[key], end) for key, end in ends.items()}


def request(number: int, prompt: int | tuple[int, ...] = 5, **settings: Any) -> Submit:
    """A greedy request; `prompt` is its tokens, or a count of random ones seeded by `number`."""
    if isinstance(prompt, int):
        prompt = tuple(random.Random(number).choices(range(256), k=prompt))
    given = {name: settings.pop(name) for name in ("logit_bias", "seed") if name in settings}
    params = SamplingParams(**{"max_new_tokens": 12, "temperature": 0, **settings})
    return Submit(number, prompt, params, **{"seed": number, **given})


def graph_model(model: GPTJForCausalLM, capture: Capture | None, kernels: Any) -> GraphModel:
    linear = CudaLinear if DEVICE == "cuda" else PackedLinear
    return GraphModel(model, capture=capture, kernels=kernels, linear=linear)


def larger_model(dtype: torch.dtype) -> GraphModel:
    model = make_model(seed=3, n_positions=512, n_embd=128, n_head=2, rotary_dim=32)
    return graph_model(model.to(DEVICE, dtype), None, torch_kernels)


def is_interpreted(kernels: Any) -> bool:
    """Whether the kernels run in Triton's interpreter, which is a hundred times slower."""
    return DEVICE == "cpu" and kernels is not torch_kernels


def all_kinds() -> list[Submit]:
    """Requests of every kind that a step queued ahead might disturb."""
    return [
        request(0, 40, max_new_tokens=20),
        request(1, 1, temperature=1.0, top_p=1.0),
        request(2, 17, temperature=1.2, top_p=0.9, top_k=20),
        request(3, 3, max_new_tokens=1),
        request(4, 60, max_new_tokens=50),  # fills the context
        request(5, 63),  # has room for one token
        request(6, 9, temperature=1.0, repetition_penalty=1.3, no_repeat_ngram_size=2),
        request(7, 9, temperature=0.8, dry_multiplier=0.8, presence_penalty=0.5),
        request(8, 20, temperature=1.0, logprobs=3),
        request(9, 12, temperature=1.0, n=3),
        request(10, 6, temperature=1.0, stop=("e", "t", "a"), max_new_tokens=40),
        request(11, 6, temperature=1.0, min_new_tokens=4, stop_token_ids=tuple(range(0, 256, 4))),
        request(12, 30, echo=True, logprobs=1),
        request(13, 40, max_new_tokens=0, echo=True, logprobs=0),
        request(14, 25, temperature=1.0, xtc_probability=0.5, xtc_threshold=0.01),
        request(15, (*request(0, 40).prompt_token_ids, 7), temperature=1.0),
        request(16, request(0, 40).prompt_token_ids),  # its prompt is cached
    ]
