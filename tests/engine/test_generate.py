"""Greedy decoding with every deterministic control is `generate` with the same arguments.

Token for token on three hundred prompts, which run through the engine with different settings side
by side: prompts of random ids on two tiny models, and texts that the sample model wrote.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from transformers import GPTJForCausalLM

from gptj_demo.engine.engine import Engine
from gptj_demo.engine.runner import Runner
from gptj_demo.engine.vocabulary import EngineVocabulary
from gptj_demo.protocol import Finished, Submit, TokenEvent
from gptj_demo.sampling import SamplingParams
from tests.conftest import Record
from tests.engine.forward import built
from tests.engine.test_exactness import CASES, Case

NEW_TOKENS = 24
PROMPTS_OF_A_SETTING = 8

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Setting:
    """Controls by the names of the engine; `generate` takes them by its own."""

    params: dict[str, Any] = field(default_factory=dict)
    logit_bias: dict[Ids, float] = field(default_factory=dict)
    bad_words: tuple[Ids, ...] = ()

    def submit(self, number: int, prompt: Ids) -> Submit:
        params = SamplingParams(**{"max_new_tokens": NEW_TOKENS, "temperature": 0, **self.params})
        return Submit(
            number,
            prompt,
            params,
            seed=0,
            logit_bias=tuple(self.logit_bias.items()),
            bad_words=self.bad_words,
        )

    def arguments(self, end_of_text: int) -> dict[str, Any]:
        params = dict(self.params)
        ends = [*params.pop("stop_token_ids", ())]
        if not params.pop("ignore_eos", False):
            ends.append(end_of_text)
        given: dict[str, Any] = {"max_new_tokens": NEW_TOKENS, **params}
        given["eos_token_id"] = ends or None
        if self.logit_bias:
            given["sequence_bias"] = self.logit_bias
        if self.bad_words:
            given["bad_words_ids"] = [list(word) for word in self.bad_words]
        return given


def make_settings(usual: Ids, pairs: list[Ids], end: int) -> list[Setting]:
    """Each control and several at once; `usual` tokens and `pairs` are what the model writes."""
    a, b, c, d, e, *others = usual
    bias = {(a,): -6.0, (e,): 1.5, pairs[0]: -5.0, (*pairs[1], c): 4.0}
    words = ((a,), (d,), pairs[0], pairs[1], (*pairs[2], a))
    return [
        Setting(),
        Setting({"repetition_penalty": 1.3}),
        Setting({"repetition_penalty": 0.8}),
        Setting({"no_repeat_ngram_size": 1}),
        Setting({"no_repeat_ngram_size": 2}),
        Setting({"no_repeat_ngram_size": 3}),
        Setting(logit_bias=bias),
        Setting(bad_words=words),
        Setting({"stop_token_ids": (b, c)}),
        Setting({"min_new_tokens": 10, "stop_token_ids": (a, b)}),
        Setting({"min_new_tokens": NEW_TOKENS}, logit_bias={(end,): 100.0}),
        Setting({"repetition_penalty": 1.2, "no_repeat_ngram_size": 2}, bad_words=words),
        Setting(
            {
                "repetition_penalty": 1.15,
                "no_repeat_ngram_size": 3,
                "min_new_tokens": 7,
                "stop_token_ids": (b, others[0]),
            },
            bias,
            words,
        ),
    ]


def make_prompts(name: str, model: GPTJForCausalLM, vocabulary: int) -> list[list[Ids]]:
    """One list of prompts of the same length for each setting."""
    generator = random.Random(name)
    count = len(make_settings((0,) * 6, [(0, 0)] * 3, 0))
    lengths = [generator.randrange(1, 40) for _ in range(count)]
    if name != "sample model":
        return [
            [
                tuple(generator.choices(range(vocabulary), k=length))
                for _ in range(PROMPTS_OF_A_SETTING)
            ]
            for length in lengths
        ]
    # the first tokens of texts that the model wrote
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(5)
        begin = torch.full((PROMPTS_OF_A_SETTING, 1), model.config.bos_token_id)
        written = model.generate(
            begin,
            attention_mask=torch.ones_like(begin),
            max_new_tokens=max(lengths) + 20,
            do_sample=True,
            pad_token_id=0,
            eos_token_id=None,
            suppress_tokens=list(range(vocabulary, model.config.vocab_size)),
        ).tolist()
    return [
        [tuple(text[place : place + length]) for place, text in enumerate(written, start=1)]
        for length in lengths
    ]


def generate(
    model: GPTJForCausalLM, prompts: list[Ids], vocabulary: int, arguments: dict[str, Any]
) -> list[list[int]]:
    """What `generate` writes after each prompt, without the token that ended it."""
    ids = torch.tensor(prompts)
    unused = list(range(vocabulary, model.config.vocab_size)) or None
    with torch.inference_mode():
        written = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            pad_token_id=0,
            suppress_tokens=unused,
            **arguments,
        )[:, ids.shape[1] :].tolist()
    ends = arguments["eos_token_id"] or ()
    cut = []
    for tokens in written:
        place = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
        cut.append(tokens[:place])
    return cut


def usual_tokens(model: GPTJForCausalLM, prompts: list[Ids], vocabulary: int) -> list[list[int]]:
    """The continuations without any control; the settings are made of their tokens."""
    return generate(
        model, prompts, vocabulary, {"max_new_tokens": NEW_TOKENS, "eos_token_id": None}
    )


def run(case: Case, end_of_text: int, requests: list[Submit]) -> dict[int, list[int]]:
    runner = Runner(built(case.make()), max_num_seqs=16, vocabulary=case.vocabulary)
    table = [b"x"] * case.vocabulary
    vocabulary = EngineVocabulary(
        table, case.vocabulary, 1 << 20, bos_token_id=0, eos_token_ids=[end_of_text]
    )
    engine = Engine(runner, vocabulary, prefill_budget=32)
    tokens: dict[int, list[int]] = {request.request_id: [] for request in requests}
    for request in requests:
        engine.submit(request)
    while not engine.is_idle:
        for event in engine.step():
            if isinstance(event, TokenEvent):
                assert not event.filtered_away
                tokens[event.request_id].append(event.token_id)
            elif isinstance(event, Finished):
                assert event.reason in ("stop", "length")
    return tokens


@pytest.mark.comparison
@pytest.mark.parametrize(
    "name", ["sample model", "padded vocabulary, odd heads", "one layer, one head, own d_ff"]
)
def test_greedy_with_deterministic_controls_is_generate(record: Record, name: str) -> None:
    case = CASES[name]
    model = case.make()
    end_of_text = model.config.eos_token_id
    prompts = make_prompts(name, model, case.vocabulary)
    expected: list[list[int]] = []
    plain: list[list[int]] = []
    requests: list[Submit] = []
    for place, group in enumerate(prompts):
        continuations = usual_tokens(model, group, case.vocabulary)
        written = [token for tokens in continuations for token in tokens if token != end_of_text]
        usual = sorted(set(written), key=lambda token: (-written.count(token), token))
        usual += [token for token in range(1, 20) if token not in usual]
        pairs = [tuple(tokens[3:5]) for tokens in continuations[:3]]
        settings = make_settings(tuple(usual[:6]), pairs, end_of_text)
        setting = settings[place]
        expected += generate(model, group, case.vocabulary, setting.arguments(end_of_text))
        plain += continuations
        requests += [setting.submit(len(requests) + n, prompt) for n, prompt in enumerate(group)]
    random.Random(1).shuffle(requests)
    tokens = run(case, end_of_text, requests)
    different = sum(tokens[number] != expected[number] for number in range(len(expected)))
    record("prompts whose tokens differ from generate's", different, 0, len(expected))
    # the controls have an effect: most texts differ from those without them
    changed = sum(mine != theirs for mine, theirs in zip(expected, plain, strict=True))
    assert changed > len(expected) / 2
    assert len({len(one) for one in expected}) > 3
