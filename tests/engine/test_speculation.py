"""Speculation changes no text: drafts decide about speed only."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gptj_demo.client.likely import controls_of_a_tree
from gptj_demo.drafts import Drafts
from gptj_demo.engine import speculation
from gptj_demo.engine.model import Batch, Chunk, Rows
from gptj_demo.engine.model.cpu.threads import Threads
from gptj_demo.engine.sampling import RowSampler
from gptj_demo.engine.scheduler import Sequence
from gptj_demo.engine.speculation import MOST_DRAFTED, Drafter, Speculation, measure_passes
from gptj_demo.protocol import Expansion, Finished, Submit, Written
from gptj_demo.texts import message
from gptj_demo.ui.generation import tokens_a_pass
from tests.engine.bench import CONTEXT, DRAWN, NOT_A_NUMBER, TEXT_TOKENS, A, B, Bench, C, D, request
from tests.engine.checkpoints import make_checkpoint, make_model
from tests.engine.drafting import (
    EagerLookup,
    Scripted,
    Texts,
    alone,
    draft_model,
    drafted_by,
    in_a_storm,
    outcome,
    speculate,
    texts_of,
)
from tests.engine.forward import built
from tests.engine.test_int8 import load_quantized
from tests.engine.test_resumption import KINDS, PROMPT

MORE_KINDS: dict[str, dict[str, Any]] = {
    "stops": {"stop": ("A", "BC"), "include_stop_str_in_output": True},
    "biased": {"logit_bias": (((A,), 2.0), ((B, C), 3.0)), "bad_words": ((C, D),)},
    "loops": {"temperature": 0, "repetition_penalty": 0.5},
    "to the end of the context": {"max_new_tokens": 2 * CONTEXT},
}
DRAFTERS = ("lookup", "scripted, 0.9", "scripted, 0.5", "scripted, 0", "model", "lookup and model")


def make_requests() -> list[Submit]:
    """Three requests of each kind, with different prompts and seeds."""
    kinds = [*KINDS.values(), *MORE_KINDS.values()]
    prompts = (PROMPT, (B, *PROMPT[:4] * 4), (C,))
    return [
        request(number, prompt, **{**DRAWN, "max_new_tokens": 20, "seed": number, **kind})
        for number, (kind, prompt) in enumerate((k, p) for k in kinds for p in prompts)
    ]


def make_drafters(name: str, bench: Bench, texts: Texts) -> list[Drafter]:
    kind, _, acceptance = name.partition(", ")
    if kind == "scripted":
        return [Scripted(texts, TEXT_TOKENS, float(acceptance))]
    # of another shape and with a shorter context; NaN where it reads D, as a broken one might be
    small = make_model(seed=4, n_positions=CONTEXT // 2, n_layer=1)
    with torch.no_grad():
        small.transformer.wte.weight[D] = torch.nan
    model = draft_model(bench.engine, built(small))
    drafters = {"lookup": EagerLookup(), "model": model}
    return [drafters[one] for one in kind.split(" and ")]


@pytest.fixture(scope="module")
def expected() -> dict[int, list[Any]]:
    """The events of the requests without speculation, alone."""
    return alone(Bench(max_num_seqs=1).engine, make_requests())


@pytest.mark.parametrize("name", DRAFTERS)
def test_concurrent_requests_give_the_same_events_as_without_speculation(
    name: str, expected: dict[int, list[Any]]
) -> None:
    bench = Bench(max_num_seqs=6)
    speculate(bench.engine, *make_drafters(name, bench, texts_of(expected)))
    actual = in_a_storm(bench.engine, make_requests(), 8, random.Random(2))
    for number, events in expected.items():
        assert outcome(actual[number]) == outcome(events), number
    finished = [event for events in actual.values() for event in events]
    accepted = {kind: drafted_by(finished, kind)[1] for kind in ("lookup", "model", "scripted")}
    drafting = {kind for kind in accepted if kind in name and name != "scripted, 0"}
    assert {kind for kind, count in accepted.items() if count} == drafting


def test_each_step_accepts_all_drafted_tokens_and_adds_one() -> None:
    bench = Bench()
    texts = texts_of(alone(bench.engine, [request(0, PROMPT, max_new_tokens=17)]))
    bench = Bench()
    speculate(bench.engine, Scripted(texts, TEXT_TOKENS, 1.0, length=3))
    bench.submit(request(0, PROMPT, max_new_tokens=17))
    steps = 0
    while not bench.engine.is_idle:
        bench.step()
        steps += 1
    assert bench.tokens(0) == texts[0, 0]
    assert steps == 1 + 16 // 4  # the prompt's step gives the first token
    assert bench.end(0).drafts == (("scripted", 12, 12),)


def test_every_draft_of_a_draft_model_equal_to_the_model_is_accepted(
    expected: dict[int, list[Any]],
) -> None:
    """It draws with the model's own noise, so this holds for all controls and reused slots.

    Only what it drafts beyond the end of a text is rejected. Three requests run at a time.
    """
    bench = Bench(max_num_seqs=3)
    twin = draft_model(bench.engine, built(make_model(seed=4, n_positions=CONTEXT)))
    speculate(bench.engine, twin)
    requests = make_requests()[::3]
    again = [replace(one, request_id=one.request_id + 1000) for one in requests]
    for one in (*requests, *again):
        bench.submit(one)
        bench.step()
        bench.step()
        if one.request_id % 5 == 2:  # its slot goes to another one
            bench.cancel(one.request_id)
    while not bench.engine.is_idle:
        bench.step()
    whole = 0
    for number, events in bench.events.items():
        ends = [event for event in events if isinstance(event, Finished)]
        for end in ends:
            drafted, accepted = drafted_by([end], "model")
            whole += accepted
            beyond = 0 if end.reason == "length" else MOST_DRAFTED
            assert drafted - beyond <= accepted, (number, end.index)
        if number < 1000 and not any(end.reason == "cancelled" for end in ends):
            assert outcome(events) == outcome(expected[number])
    assert whole > 300


def test_rejected_tokens_are_in_no_cached_prefix() -> None:
    """Neither while the sequence runs nor after its end."""
    text = [A, B, C, D] * 4
    bench = Bench(max_num_seqs=2)
    speculate(bench.engine, Scripted({(0, 0): text}, TEXT_TOKENS, 1.0, length=8))
    bench.submit(request(0, PROMPT, **{**DRAWN, "max_new_tokens": 12}))
    for _ in range(4):
        bench.step()
    longer = (*PROMPT, *bench.tokens(0), *text)
    for number in (1, 2):
        bench.run(request(number, longer, max_new_tokens=4))
        fresh = Bench()
        fresh.run(request(number, longer, max_new_tokens=4))
        assert bench.tokens(number) == fresh.tokens(number)


def test_the_text_replaced_by_a_retry_is_drafted_for_its_visitor_only() -> None:
    bench = Bench()
    speculate(bench.engine, EagerLookup())
    retried = {**DRAWN, "max_new_tokens": 30}
    accepted = []
    for number, visitor in enumerate(("a", "b", None, "a")):
        bench.run(request(number, PROMPT, visitor=visitor, **retried))
        assert bench.tokens(number) == bench.tokens(0)
        accepted.append(drafted_by(bench.events[number], "lookup")[1])
    assert accepted[0] == accepted[1] == accepted[2]
    assert accepted[3] > 20


def test_a_tree_is_grown_without_drafts_and_replaces_no_text_of_its_visitor() -> None:
    bench = Bench(max_num_seqs=16)
    speculate(bench.engine, EagerLookup())
    text = request(0, PROMPT, visitor="a", **{**DRAWN, "max_new_tokens": 30})
    bench.run(text)
    for number in range(1, 4):
        paths = tuple(Written((A, token_id), (0.0, 0.0)) for token_id in range(9))
        expansion = Expansion(paths, (-99.0,) * 9, 5, after_controls=False)
        controls = controls_of_a_tree(text.params)
        bench.run(replace(text, request_id=number, params=controls, expansion=expansion))
        assert drafted_by(bench.events[number], "lookup") == (0, 0)
    bench.run(replace(text, request_id=9))
    assert bench.tokens(9) == bench.tokens(0)
    assert drafted_by(bench.events[9], "lookup")[1] > 20


def test_nan_after_a_rejected_draft_has_no_effect() -> None:
    """NaN logits after a drafted token have no effect if the token is rejected."""
    plain = Bench()
    plain.run(request(0, PROMPT, bad_words=((NOT_A_NUMBER,),)))
    bench = Bench(broken=True)
    speculate(bench.engine, Scripted({(0, 0): [NOT_A_NUMBER] * 10}, TEXT_TOKENS, 1.0))
    bench.run(request(0, PROMPT, bad_words=((NOT_A_NUMBER,),)))
    assert bench.tokens(0) == plain.tokens(0)
    drafted, accepted = drafted_by(bench.events[0], "scripted")
    assert drafted > accepted == 0


@pytest.mark.parametrize("backend", ["cpu-compiled", "cpu-int8"])
def test_logits_of_several_tokens_and_slots_equal_those_of_single_tokens(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit, with more rows than a thread or a product takes at a time.

    Threads take their parts in any order; here they take the last one first.
    """

    def run(
        self: Threads, kernel: Callable[..., None], total: int, part: int, *arguments: Any
    ) -> None:
        for begin in reversed(range(0, total, part)):
            kernel(*arguments, begin, min(begin + part, total))

    monkeypatch.setattr(Threads, "run", run)
    if backend == "cpu-int8":
        folder = make_checkpoint(tmp_path, dtype=torch.float16, n_embd=64, n_layer=2)
        model = built(load_quantized(folder, "cpu"), backend)
    else:
        model = built(make_model(seed=3), backend)
    assert model.verifies
    generator = random.Random(1)
    prompts = [generator.choices(range(TEXT_TOKENS), k=k) for k in (30, 1, 17, 9, 44)]
    texts = [generator.choices(range(TEXT_TOKENS), k=k) for k in (9, 1, 16, 2, 5)]
    together, singly = model.make_cache(5), model.make_cache(5)
    with torch.inference_mode():
        for cache in (together, singly):
            for slot, prompt in enumerate(prompts):
                model.forward(cache, Batch(chunks=[Chunk(prompt, slot, 0)]))
        places = [
            (token, len(prompt) + number, slot)
            for slot, (prompt, text) in enumerate(zip(prompts, texts, strict=True))
            for number, token in enumerate(text)
        ]
        tokens, positions, slots = (list(column) for column in zip(*places, strict=True))
        actual = model.forward(together, Batch(Rows(tokens, positions, slots)))
        expected = [model.forward(singly, Batch(Rows([t], [p], [s]))) for t, p, s in places]
    assert torch.equal(actual, torch.cat(expected))
    assert torch.equal(together.storage, singly.storage)


def test_no_token_is_drafted_if_its_expected_cost_exceeds_its_gain() -> None:
    """With more rows, a token must be likelier; if a row costs a full pass, none is drafted."""

    class Asked(Drafter):
        name = "asked"
        least: float | None = None

        def chance(self, row: Any, sampler: Any) -> float:
            return 1.0

        def draft(self, rows: Any, samplers: Any, most: Any, least: float) -> list[list[int]]:
            self.least = least
            return [[] for _ in rows]

    def asked(row_cost: float, rows: int, temperature: float = 0.8) -> float | None:
        drafter = Asked()
        running = [Sequence(number, (A,)) for number in range(rows)]
        one = request(1, (A,), max_new_tokens=9, temperature=temperature)
        samplers = [RowSampler(one, 0, [])] * rows
        Speculation([drafter], row_cost).draft(running, samplers, CONTEXT)
        return drafter.least

    cheap, more, many = asked(0.05, 1), asked(0.05, 8), asked(0.05, 16)
    assert cheap is not None
    assert more is not None
    assert many is not None
    assert cheap < 0.15 < more < many
    assert asked(1.0, 1) is None
    # a sampled token is harder to predict than a greedy one
    assert asked(0.55, 1) is None
    assert asked(0.55, 1, temperature=0.0) is not None


def test_the_measured_cost_of_a_row_is_at_least_the_minimum_of_the_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if a busy machine distorts the measurement."""
    model = built(make_model(seed=3), "cpu-compiled")
    clock = SimpleNamespace(perf_counter=itertools.count().__next__)
    monkeypatch.setattr(speculation, "time", clock)
    assert measure_passes(model, model.make_cache(1)).row == model.least_row_cost > 0


def test_tokens_per_pass_are_computed_from_the_accepted_drafts() -> None:
    drafts = Drafts("lookup", 20, 8), Drafts("model", 20, 10)
    end = Finished(1, "length", message("end.model"), "", 8, 40, 0, drafts=drafts)
    assert tokens_a_pass(end) == round(40 / 22, 2)
    assert tokens_a_pass(replace(end, drafts=())) == 1
    assert tokens_a_pass(replace(end, drafts=(), completion_tokens=0)) == 0
