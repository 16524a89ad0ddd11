"""Decoding by captured graphs, and the next step queued ahead: the same tokens as without.

Where there is no GPU, what stands in for a captured graph is the forward pass itself, run again at
each launch over the same tensors: so buckets, padding and the order of things are tried everywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import GPTJForCausalLM

from gptj_demo.engine.engine import Engine, EngineVocabulary
from gptj_demo.engine.model import Chunk, Rows
from gptj_demo.engine.model.cuda import kernels as torch_kernels
from gptj_demo.engine.model.cuda.graphs import Capture, CudaCapture, DecodeGraphs, Forward, buckets
from gptj_demo.engine.model.cuda.model import CudaLinear, CudaModel, GraphModel
from gptj_demo.engine.model.linear import PackedLinear
from gptj_demo.engine.runner import Runner
from gptj_demo.protocol import EngineEvent, Finished, Submit, TokenEvent
from gptj_demo.sampling import SamplingParams
from gptj_demo.tokenization import token_bytes
from tests.engine.checkpoints import TEXT_TOKENS, make_model, make_tokenizer
from tests.engine.devices import DEVICE, NO_GPU, NO_TRITON
from tests.engine.forward import built

TABLE = token_bytes(make_tokenizer().to_str())
CONTEXT = 64
NOT_A_NUMBER = TABLE.index(b"~")  # the token whose embedding is one, in some tests


class Recorder:
    """Stands in for `CudaCapture`, or counts what that does: captures and launches."""

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
    """An engine with graphs, or without, and what it told."""

    def __init__(
        self,
        *,
        capture: Capture | None = None,
        kernels: Any = torch_kernels,
        streams: int = 5,
        broken: bool = False,
        n_positions: int = CONTEXT,
    ) -> None:
        model = make_model(seed=4, n_positions=n_positions)
        if broken:
            with torch.no_grad():
                model.transformer.wte.weight[NOT_A_NUMBER] = torch.nan
        model = model.to(DEVICE)
        plain = built(model, "eager" if DEVICE == "cuda" else "auto") if capture is None else None
        self.model = plain or graph_model(model, capture, kernels)
        self.runner = Runner(self.model, streams, TEXT_TOKENS)
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
    def told(self) -> dict[tuple[int, int], tuple[list[int], str, str]]:
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
    """`prompt` gives its tokens, or how many there are of some that only this number has."""
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
        request(16, request(0, 40).prompt_token_ids),  # nothing of its prompt is left to be read
    ]


def test_buckets_double_up_to_the_number_of_streams() -> None:
    assert buckets(1) == [1]
    assert buckets(8) == [1, 2, 4, 8]
    assert buckets(9) == [1, 2, 4, 8, 9]
    assert buckets(2048, 256) == [256, 512, 1024, 2048]
    assert buckets(96, 256) == [96]


def test_every_kind_of_request_gets_what_it_gets_without_graphs(kernels: Any) -> None:
    plain, graphs = Bench(), Bench(capture=recorder(), kernels=kernels)
    for bench in (plain, graphs):
        waiting = all_kinds()
        generator = random.Random(2)
        while waiting or not bench.engine.is_idle:
            if waiting and generator.random() < 0.3:
                bench.submit(waiting.pop(0))
            bench.step()
    assert len(plain.told) == len(all_kinds()) + 2
    assert graphs.told == plain.told
    assert graphs.graphs.failure is None


def test_each_number_of_rows_is_captured_once_and_what_is_missing_is_padded() -> None:
    recorded = recorder()
    bench = Bench(capture=recorded, streams=6)
    bench.run(*(request(n, 4) for n in range(3)))  # at most three rows
    assert recorded.captured == [4]
    assert set(recorded.launched) == {4}
    # a step reads sixteen tokens, so that four rows begin, six go on, and two are left at the end
    bench.run(*(request(n, 4) for n in range(6)))
    assert recorded.captured == [4, 6, 2]
    bench.run(request(0, 4))
    assert recorded.captured == [4, 6, 2, 1]


def test_preparing_captures_all_and_reports() -> None:
    recorded, told = recorder(), list[tuple[str, float | None]]()
    bench = Bench(capture=recorded, streams=6)
    before = bench.runner.cache.storage.clone()
    assert (
        bench.runner.prepare(lambda detail, progress: told.append((str(detail), progress))) is None
    )
    assert recorded.captured == [6, 4, 2, 1]
    assert told[1] == ("Capturing graphs, 1 of 4", 0.25)
    assert torch.equal(bench.runner.cache.storage, before)
    bench.run(*(request(n, 4) for n in range(6)))
    assert len(recorded.captured) == 4


def test_without_triton_a_graph_is_for_rows_of_about_a_length() -> None:
    recorded = recorder()
    bench = Bench(capture=recorded, streams=1, n_positions=600)
    bench.run(request(0, 250, max_new_tokens=20))
    assert recorded.captured == [1, 1]  # up to 256 positions and up to 512
    bench.run(request(1, 560, max_new_tokens=2))
    assert recorded.captured == [1, 1, 1]
    plain = Bench(streams=1, n_positions=600)
    plain.run(request(0, 250, max_new_tokens=20), request(1, 560, max_new_tokens=2))
    assert bench.told == plain.told


def test_rows_that_pad_the_batch_store_nothing(kernels: Any) -> None:
    bench = Bench(capture=recorder(), kernels=kernels, streams=8)
    storage = bench.runner.cache.storage
    storage.copy_(torch.randn(storage.shape, generator=torch.Generator().manual_seed(0)))
    before = storage.clone()
    bench.graphs.launch(Rows([5, 6, 7], [9, 0, 30], [6, 2, 3]))
    touched = (storage != before).flatten(4).any(dim=4).any(dim=2).nonzero().tolist()
    expected = [[layer, *p] for layer in range(2) for p in ([2, 0], [3, 30], [6, 9])]
    assert touched == expected


def test_logits_are_the_callers_own() -> None:
    bench = Bench(capture=recorder())
    first = bench.graphs.launch(Rows([5], [0], [0]))
    assert first is not None
    kept = first.clone()
    bench.graphs.launch(Rows(torch.tensor([6], device=DEVICE), [1], [0]))
    assert torch.equal(first, kept)


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float16, marks=NO_GPU)])
def test_logits_of_a_graph_are_those_of_the_plain_pass(kernels: Any, dtype: torch.dtype) -> None:
    """At the first and the last position, and where plain torch goes over to longer graphs."""
    model = larger_model(dtype)
    cache = model.make_cache(4)
    generator = torch.Generator().manual_seed(1)
    cache.storage.copy_(torch.randn(cache.storage.shape, generator=generator))
    graphs = DecodeGraphs(model, cache, recorder(), kernels)
    slots, tokens = [0, 1, 3], [7, 8, 9]
    for positions in ([0, 1, 2], [4, 255, 0], [256, 3, 130], [511, 20, 511]):
        rows = Rows(tokens, positions, slots)
        expected = model.logits(model.decode(cache, rows))
        actual = graphs.launch(rows)
        assert actual is not None
        limit = 1e-5 if dtype == torch.float32 else 1e-2
        assert (actual - expected).abs().max() < limit * expected.abs().max()


# ---- ahead


def test_the_next_step_is_queued_before_the_tokens_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []
    recorded = recorder()
    bench = Bench(capture=recorded)
    launch = bench.graphs.launch

    def noted_launch(rows: Rows) -> Any:
        order.append("launch")
        return launch(rows)

    def noted_download(values: torch.Tensor) -> Callable[[], list[int]]:
        def read() -> list[int]:
            order.append("read")
            return values.tolist()

        return read

    monkeypatch.setattr(bench.graphs, "launch", noted_launch)
    monkeypatch.setattr("gptj_demo.engine.runner.download", noted_download)
    bench.run(request(0, 5, max_new_tokens=5))
    # a prompt of five is read in a chunk; four tokens are decoded, the last one with none after it
    assert order == ["launch", "read"] * 4
    assert len(recorded.launched) == 4


def test_nothing_is_launched_for_a_row_that_is_known_to_end_and_once_for_one_that_is_not() -> None:
    wanted = Bench(capture=(plain := recorder()))
    wanted.run(request(0, 5, max_new_tokens=6))
    assert len(plain.launched) == 5
    full = Bench(capture=(plain := recorder()))
    full.run(request(0, CONTEXT - 4, max_new_tokens=20))
    assert len(plain.launched) == 3
    tokens = wanted.told[0, 0][0]
    stopped = Bench(capture=(recorded := recorder()))
    stopped.run(request(0, 5, max_new_tokens=20, stop_token_ids=(tokens[3],)))
    assert stopped.told[0, 0][0] == tokens[: tokens.index(tokens[3])]
    assert len(recorded.launched) == tokens.index(tokens[3]) + 1


def test_a_row_with_probabilities_does_not_keep_steps_from_being_queued() -> None:
    plain, graphs = Bench(), Bench(capture=(recorded := recorder()))
    for bench in (plain, graphs):
        bench.run(request(0, 5, max_new_tokens=6, logprobs=1), request(1, 9, max_new_tokens=6))
    assert graphs.told == plain.told
    assert len(recorded.launched) == 5  # each step once: none was computed again


def test_a_row_that_joins_with_its_prompt_known_already_does_not_disturb_the_others() -> None:
    prompt = request(0, 20).prompt_token_ids
    late = request(1, prompt, temperature=1.0)
    plain, graphs = Bench(), Bench(capture=recorder())
    for bench in (plain, graphs):
        bench.submit(request(0, prompt, max_new_tokens=15))
        for _ in range(6):
            bench.step()
        bench.run(late)
    assert graphs.told == plain.told


def test_after_a_cancelled_one_the_slot_serves_the_next() -> None:
    plain, graphs = Bench(streams=2), Bench(capture=recorder(), streams=2)
    for bench in (plain, graphs):
        bench.submit(request(0, 10, max_new_tokens=30), request(1, 12, max_new_tokens=30))
        for _ in range(5):
            bench.step()
        bench.events += bench.engine.cancel(0)
        bench.run(request(2, (*request(0, 10).prompt_token_ids, 1, 2), max_new_tokens=20))
    assert graphs.told == plain.told


@pytest.mark.filterwarnings("ignore:invalid value")  # of numpy, in Triton's interpreter
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_numbers_that_break_down_touch_nobody_else(kernels: Any, temperature: float) -> None:
    plain = Bench(broken=True, streams=2)
    graphs = Bench(capture=recorder(), kernels=kernels, broken=True, streams=2)
    for bench in (plain, graphs):
        bench.submit(request(0, 10, max_new_tokens=30))
        bias = (((NOT_A_NUMBER,), 200.0),)
        bench.run(request(1, 7, temperature=temperature, logit_bias=bias))
        for number in range(2, 8):  # whoever gets the slot then
            bench.run(request(number, number), request(10 + number, 30))
    assert graphs.told == plain.told
    assert "broke down" in str(graphs.told[1, 0][2])
    assert not graphs.runner.cache.storage.isnan().any()


# ---- where capturing fails


def failing(forward: Forward) -> tuple[Callable[[], None], torch.Tensor]:
    forward()
    raise RuntimeError("operation not permitted when stream is capturing.\nCompile with ...")


def test_where_capture_fails_decoding_goes_on_without_and_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plain, failed = Bench(), Bench(capture=failing)
    sentence = failed.runner.prepare(lambda detail, progress: None)
    reason = "(operation not permitted when stream is capturing)"
    assert str(sentence) == (
        f"Decoding is slower than it could be: CUDA graphs cannot be captured {reason}."
    )
    assert reason in caplog.text
    for bench in (plain, failed):
        bench.run(*all_kinds())
    assert failed.told == plain.told


def test_where_a_later_capture_fails_nothing_is_lost() -> None:
    recorded = recorder()

    def capture(forward: Forward) -> tuple[Callable[[], None], torch.Tensor]:
        return failing(forward) if recorded.captured else recorded(forward)

    plain, failed = Bench(), Bench(capture=capture)
    for bench in (plain, failed):
        bench.submit(request(0, 8, max_new_tokens=30))
        for _ in range(4):
            bench.step()
        bench.run(request(1, 8), request(2, 30))
    assert recorded.captured == [1]
    assert failed.told == plain.told


# ---- on a GPU


@NO_GPU
def test_on_a_gpu_graphs_are_captured_without_being_asked_for() -> None:
    model = built(make_model().to("cuda"))
    assert isinstance(model, CudaModel)
    assert Runner(model, 4, TEXT_TOKENS).prepare(lambda detail, progress: None) is None
    assert model.queues_ahead


@NO_GPU
@NO_TRITON
def test_on_a_gpu_a_row_gets_the_same_bits_in_any_company_of_the_same_size() -> None:
    model = larger_model(torch.float16)
    cache = model.make_cache(8)
    for slot in range(8):
        ids = random.Random(slot).choices(range(300), k=30 + 60 * slot)
        model.prefill(cache, Chunk(ids, slot, 0))
    graphs = DecodeGraphs(model, cache)
    tokens, slots = [*range(8)], [*range(8)]
    positions = [30 + 60 * slot for slot in slots]
    whole = graphs.launch(Rows(tokens, positions, slots))
    assert whole is not None
    for order in ([7, 6, 5, 4, 3, 2, 1, 0], [3, 1, 4, 0, 5], [2, 7, 0, 6, 4, 5]):
        part = graphs.launch(Rows(*([x[n] for n in order] for x in (tokens, positions, slots))))
        assert part is not None
        assert torch.equal(part, whole[order])


@NO_GPU
def test_where_the_gpu_refuses_to_capture_decoding_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forward = DecodeGraphs._forward

    def waits(self: DecodeGraphs, inputs: torch.Tensor, longest: int) -> torch.Tensor:
        inputs.tolist()  # waiting for the device cannot be captured
        return forward(self, inputs, longest)

    monkeypatch.setattr(DecodeGraphs, "_forward", waits)
    plain, failed = Bench(), Bench(capture=CudaCapture())
    for bench in (plain, failed):
        bench.run(*all_kinds())
    assert failed.graphs.failure is not None
    assert failed.told == plain.told
