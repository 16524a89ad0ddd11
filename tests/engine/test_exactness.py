"""The engine against `GPTJForCausalLM`: the same greedy tokens and logits, in every batch.

On the CPU, and with `make test-gpu` on CUDA too.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import GPTJForCausalLM

from gptj_demo.engine.engine import Engine
from gptj_demo.engine.load import SAMPLE_MODEL
from gptj_demo.engine.runner import Runner
from gptj_demo.engine.vocabulary import EngineVocabulary
from gptj_demo.protocol import Submit, TokenEvent
from gptj_demo.sampling import SamplingParams
from tests.engine.checkpoints import make_model
from tests.engine.devices import NO_GPU
from tests.engine.forward import built, is_exact, logits_of

NEW_TOKENS = 24
STREAMS = 16


@dataclass(frozen=True)
class Case:
    """A model, made anew at each call since the engine takes it over, and its real vocabulary."""

    make: Callable[[], GPTJForCausalLM]
    vocabulary: int


def load_sample_model() -> GPTJForCausalLM:
    return GPTJForCausalLM.from_pretrained(Path(SAMPLE_MODEL), dtype=torch.float32).eval()


def odd_shape(**config: object) -> Callable[[], GPTJForCausalLM]:
    return lambda: make_model(seed=5, n_positions=128, **config)


CASES = {
    "sample model": Case(load_sample_model, 4096),
    "rotary on the whole head": Case(odd_shape(n_embd=40, n_head=5, rotary_dim=8, n_layer=3), 320),
    "padded vocabulary, odd heads": Case(
        odd_shape(
            n_embd=27, n_head=3, rotary_dim=6, vocab_size=173, bos_token_id=0, eos_token_id=0
        ),
        101,
    ),
    "one layer, one head, own d_ff": Case(
        odd_shape(n_embd=16, n_head=1, rotary_dim=2, n_layer=1, n_inner=37), 300
    ),
    "an activation that is not compiled": Case(odd_shape(activation_function="relu"), 300),
}


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(
    params=[
        "cpu",
        pytest.param("cuda", marks=NO_GPU),
    ],
    scope="module",
)
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def make_engine(case: Case, device: str, prefill_budget: int = 16) -> Engine:
    runner = Runner(built(case.make().to(device)), STREAMS, case.vocabulary)
    return Engine(runner, words(case.vocabulary), prefill_budget)


def words(size: int) -> EngineVocabulary:
    """A vocabulary of one letter, in which no id ends a text."""
    return EngineVocabulary([b"x"] * size, size, 1 << 20, bos_token_id=0, eos_token_ids=())


def make_prompts(case: Case) -> list[tuple[int, ...]]:
    """Sixteen prompts of 1 to 90 tokens, the long ones longer than a prefill chunk."""
    generator = random.Random(11)
    lengths = [1, 2, 16, 17, 90, *(generator.randrange(3, 60) for _ in range(STREAMS - 5))]
    return [tuple(generator.choices(range(case.vocabulary), k=length)) for length in lengths]


def reference(model: GPTJForCausalLM, prompt: tuple[int, ...], vocabulary: int) -> list[int]:
    unused = list(range(vocabulary, model.config.vocab_size)) or None
    ids = torch.tensor([prompt], device=model.device)
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        suppress_tokens=unused,
        eos_token_id=None,
        pad_token_id=0,
    )
    return output[0, len(prompt) :].tolist()


def greedy(number: int, prompt: tuple[int, ...]) -> Submit:
    params = SamplingParams(temperature=0, max_new_tokens=NEW_TOKENS)
    return Submit(number, prompt, params, seed=0)


def collect(engine: Engine, tokens: dict[int, list[int]]) -> None:
    for event in engine.step():
        if isinstance(event, TokenEvent):
            tokens.setdefault(event.request_id, []).append(event.token_id)


def test_greedy_tokens_are_those_of_generate_alone_and_in_a_batch(case: Case, device: str) -> None:
    model = case.make().to(device)
    prompts = make_prompts(case)
    expected = [reference(model, prompt, case.vocabulary) for prompt in prompts]

    alone: dict[int, list[int]] = {}
    engine = make_engine(case, device)
    for number, prompt in enumerate(prompts):
        engine.submit(greedy(number, prompt))
        while not engine.is_idle:
            collect(engine, alone)
    assert [alone[number] for number in range(STREAMS)] == expected

    together: dict[int, list[int]] = {}
    generator = random.Random(3)
    waiting = list(enumerate(prompts))
    while waiting or not engine.is_idle:
        if waiting and generator.random() < 0.4:
            engine.submit(greedy(*waiting.pop()))
        collect(engine, together)
    assert [together[number] for number in range(STREAMS)] == expected


def test_logits_are_those_of_the_reference_in_prefill_chunks_and_decode(
    case: Case, device: str
) -> None:
    reference_model = case.make().to(device)
    ids = torch.tensor(make_prompts(case)[4], device=device)  # 90 tokens
    with torch.inference_mode():
        expected = reference_model(ids[None]).logits[0]
    actual = logits_of(built(case.make().to(device)), ids, chunks=(50, 20))
    assert torch.allclose(actual, expected, atol=2e-5 * expected.abs().max().item(), rtol=0)


def test_on_the_cpu_logits_do_not_depend_on_how_the_prompt_is_chunked(case: Case) -> None:
    """In one chunk, in several, or token by token, so that cached prefixes can be reused."""
    ids = torch.tensor(make_prompts(case)[4])
    model = built(case.make())
    if not is_exact(model):
        pytest.skip("this is promised of small models only, and of GPT-J's activation")
    whole = logits_of(model, ids, chunks=(90,))
    for chunks in ((50, 20), (1,), (33, 1, 31), (2, 80)):
        assert torch.equal(logits_of(model, ids, chunks), whole)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_weights_give_nearly_the_logits_of_the_reference(
    dtype: torch.dtype, device: str
) -> None:
    exact, half = make_model(seed=2).to(device), make_model(seed=2).to(device, dtype)
    ids = torch.arange(40, device=device)
    with torch.inference_mode():
        expected = exact(ids[None]).logits[0]
        theirs = (half(ids[None]).logits[0].float() - expected).abs().mean()
    model = built(make_model(seed=2).to(device, dtype))
    ours = (logits_of(model, ids, chunks=(30,)) - expected).abs().mean()
    assert ours < 1.5 * theirs


def test_ids_past_the_vocabulary_are_never_chosen() -> None:
    """A head whose bias makes the unused rows by far the likeliest."""
    model = make_model(seed=1)
    with torch.no_grad():
        model.lm_head.bias[300:] += 1000.0
    engine = Engine(Runner(built(model), 2, 300), words(300), 16)
    for number, temperature in enumerate((0.0, 2.0)):
        params = SamplingParams(temperature=temperature, top_p=1.0, max_new_tokens=40)
        engine.submit(Submit(number, (1, 2), params, seed=number))
    tokens: dict[int, list[int]] = {}
    while not engine.is_idle:
        collect(engine, tokens)
    assert len(tokens[0]) == len(tokens[1]) == 40
    assert max(tokens[0] + tokens[1]) < 300


def test_building_the_forward_model_empties_the_source_model() -> None:
    """Each layer is released once it is fused: there are never two copies of the weights."""
    model = make_model()
    built(model)
    assert not list(model.transformer.h.parameters())
