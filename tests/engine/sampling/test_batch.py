"""Rows of all kinds in one batch: no row depends on other rows or pays for their controls."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from gptj_demo.engine.sampling import SamplerBatch
from gptj_demo.sampling import CONTROL_ORDER
from tests.engine.sampling.reference import Row, follow, mirostat_left
from tests.engine.sampling.rows import (
    ANY_SEED,
    BATCHES,
    CPU,
    OFF,
    ON,
    SPREADS,
    VOCABULARIES,
    batch_of,
    control,
    random_logits,
    rows,
)

# ---- rows and their neighbours


@settings(BATCHES, max_examples=60)
@given(data=st.data(), vocabulary=VOCABULARIES, spread=SPREADS, seed=ANY_SEED)
def test_a_row_draws_the_same_alone_and_beside_rows_of_all_kinds(
    data: st.DataObject, vocabulary: int, spread: float, seed: int
) -> None:
    """To the last bit: logits after the controls, token, and probabilities."""
    names = st.sets(st.sampled_from(CONTROL_ORDER), max_size=6).map(
        lambda some: tuple(sorted(some))
    )
    row = names.flatmap(lambda some: rows(vocabulary, some))
    batch = data.draw(st.lists(row, min_size=2, max_size=8))
    logits = random_logits(len(batch), vocabulary, seed, spread)
    together = batch_of(batch, vocabulary)
    controlled, sampled = together.controlled(logits), together.sample(logits)
    for number, one in enumerate(batch):
        single = batch_of([one], vocabulary)
        own = logits[number : number + 1]
        alone = single.controlled(own)
        assert torch.equal(alone.adjusted[0], controlled.adjusted[number])
        if alone.scaled is not None:
            assert controlled.scaled is not None
            assert torch.equal(alone.scaled[0], controlled.scaled[number])
        assert single.sample(own)[0] == sampled[number]


def test_a_row_draws_the_same_alone_also_where_torch_uses_several_threads() -> None:
    """With GPT-J's vocabulary, torch splits a sum over one row, but not a sum over many rows."""
    values = {"top_p": 0.95, "typical_p": 0.9, "eta_cutoff": 0.0003, "logprobs": 20}
    batch = [Row(values, seed=seed) for seed in range(8)]
    logits = random_logits(len(batch), 50_400, seed=2)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        together = batch_of(batch, 50_257).sample(logits)
        for number, row in enumerate(batch):
            own = logits[number : number + 1]
            assert batch_of([row], 50_257).sample(own)[0] == together[number]
    finally:
        torch.set_num_threads(threads)


def test_penalties_count_sampled_tokens() -> None:
    """Between tokens, a row moves to other batches and keeps its state."""
    logits = torch.tensor([[3.0, 2.0, -1.0]])
    row = Row({"temperature": 0, "repetition_penalty": 2.0}, prompt=(2,)).sampler()
    other = Row({"repetition_penalty": 1.5, "presence_penalty": 1.0}).sampler()
    chosen = []
    for batch in ([row], [other, row], [row, other], [row]):
        both = logits.expand(len(batch), -1)
        sampled = SamplerBatch(batch, 3, CPU).sample(both)
        chosen.append(sampled[batch.index(row)].token_id)
    assert chosen == [0, 1, 0, 0]  # 3, 2, -1; then 1.5, 2, -2; then 1.5, 1, -2 from there on


@pytest.mark.parametrize("reach", [1, 2, 5])
def test_tokens_outside_the_penalty_range_are_not_penalised(reach: int) -> None:
    """Each step equals the reference, which gets the last tokens only, also beside other rows."""
    settings = {"temperature": 0, "repetition_penalty": 2.0, "repetition_penalty_range": reach}
    logits = random_logits(12, 6, seed=reach)
    row = Row(settings, prompt=(1, 3, 1))
    sampler = row.sampler()
    other = Row({"repetition_penalty": 1.5, "repetition_penalty_range": 3}).sampler()
    for step, own in enumerate(logits):
        batch = [other, sampler] if step % 3 else [sampler]
        sampled = SamplerBatch(batch, 6, CPU).sample(own.expand(len(batch), -1))
        expected = int(follow(row, own).adjusted.argmax())
        assert sampled[-1].token_id == expected, step
        row = replace(row, generated=(*row.generated, expected))


@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_mirostat_steers_the_surprise_as_llama_cpp_does(temperature: float) -> None:
    """Each row has its own mu, which it takes along to other batches."""
    settings_ = {"mirostat": "2", "temperature": temperature, "mirostat_eta": 0.3}
    rows_ = [Row({**settings_, "mirostat_tau": tau}, seed=7) for tau in (1.0, 3.0, 6.0)]
    samplers = [row.sampler() for row in rows_]
    mus = [2 * row.params.mirostat_tau for row in rows_]
    for step in range(40):
        beside = [Row().sampler()] * (step % 3)
        batch = SamplerBatch([*beside, *samplers], 200, CPU)
        logits = random_logits(1, 200, seed=step).expand(len(batch.rows), -1)
        scaled = batch.controlled(logits).scaled
        assert scaled is not None
        sampled = batch.sample(logits)[len(beside) :]
        for number, (row, one) in enumerate(zip(rows_, sampled, strict=True)):
            left = mirostat_left(logits[0] / temperature, mus[number])
            kept = scaled[len(beside) + number] > -math.inf
            assert torch.equal(kept, left > -math.inf)
            assert one.token_id is not None
            surprise = -float(left.double().softmax(0).log2()[one.token_id])
            mus[number] -= row.params.mirostat_eta * (surprise - row.params.mirostat_tau)


def test_temperature_zero_takes_the_most_probable_token_with_any_filters() -> None:
    logits = torch.tensor([[0.0, 3.0, 2.9], [5.0, 1.0, 1.0]])
    filters = {"top_k": 2, "top_p": 0.5, "typical_p": 0.1, "xtc_probability": 1.0}
    greedy, sampled = Row({"temperature": 0, **filters}), Row(seed=1)
    assert [one.token_id for one in batch_of([greedy] * 2, 3).sample(logits)] == [1, 0]
    assert batch_of([greedy, sampled], 3).sample(logits)[0].token_id == 1


def test_ids_past_the_vocabulary_are_never_drawn() -> None:
    logits = torch.full((2, 8), 50.0)
    logits[:, :5] = 0.0
    tokens = []
    for seed in range(50):
        rows = [Row(seed=seed), Row({"temperature": 0})]
        tokens += [one.token_id for one in batch_of(rows, 5).sample(logits)]
    assert set(tokens) == set(range(5))


# ---- rows with no token left, and rows with NaN


def test_a_row_with_no_token_left_takes_the_likeliest_and_reports_it() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0]] * 3)
    everything = ((0,), (1,), (2,))
    drawn, greedy = Row(bad_words=everything), Row({"temperature": 0}, bad_words=everything)
    sampled = batch_of([drawn, Row({"temperature": 0}), greedy], 3).sample(logits)
    assert [one.token_id for one in sampled] == [1, 1, 1]
    assert [one.filtered_away for one in sampled] == [True, False, True]


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 6])
def test_a_row_with_nan_or_infinity_gets_no_token_and_changes_no_other_row(
    value: float, place: int
) -> None:
    values = {"logprobs": 3, "top_p": 0.9, "typical_p": 0.9, "eta_cutoff": 0.1, "top_k": 4}
    penalties = {"repetition_penalty": 1.5, "frequency_penalty": 1.0, "dry_multiplier": 1.0}
    batch = [Row({**values, **penalties, "no_repeat_ngram_size": 2}, seed=n) for n in range(3)]
    batch.append(Row({"temperature": 0, "logprobs": 2}))
    logits = random_logits(4, 7, seed=0)
    sound = batch_of(batch, 7).sample(logits)
    for broken in range(4):
        spoiled = logits.clone()
        spoiled[broken, place] = value
        sampled = batch_of(batch, 7).sample(spoiled)
        assert sampled[broken].token_id is None
        assert sampled[broken].logprobs is None
        neighbours = [number for number in range(4) if number != broken]
        assert [sampled[n] for n in neighbours] == [sound[n] for n in neighbours]


def test_logits_of_minus_infinity_do_not_break_the_filters() -> None:
    logits = torch.tensor([[-math.inf, 0.0, -math.inf]])
    row = Row({"typical_p": 0.9, "eta_cutoff": 0.1, "repetition_penalty": 0.5, "top_p": 0.9})
    assert batch_of([row], 3).sample(logits)[0].token_id == 1


# ---- compiled code, and torch's operations, which CUDA uses


@pytest.fixture
def without_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptj_demo.engine.sampling.numba_code._compiled", lambda: None)


def leaves_and_draws(batch: list[Row], logits: torch.Tensor) -> tuple[torch.Tensor, list[Any]]:
    """The logits of the rows after the controls, and what was sampled."""
    scaled = control(batch, logits).scaled
    assert scaled is not None
    return scaled, batch_of(batch, logits.shape[1]).sample(logits)


@pytest.mark.parametrize("vocabulary", [3, 50, 4096])
def test_torch_code_and_compiled_code_filter_and_draw_the_same_tokens(
    vocabulary: int, request: pytest.FixtureRequest
) -> None:
    limits: dict[str, tuple[Any, ...]] = {
        "temperature": (0.0, 1e-40, 0.5, 1.0, 2.0),
        "top_k": (0, 1, 2, 40, min(vocabulary, 1000)),
        "top_p": (0.0, 0.3, 0.95, 0.99, 1.0),
        "min_p": (0.0, 0.01, 0.5, 1.0),
        "typical_p": (0.2, 0.9, 1.0, 1.0),
    }
    choose = random.Random(vocabulary).choice
    batch = [
        Row({name: choose(values) for name, values in limits.items()}, seed=n) for n in range(200)
    ]
    logits = random_logits(200, vocabulary, seed=1)
    logits[:50] = logits[:50].round()  # many are equal
    logits[100:150, 1:] = -math.inf
    compiled = leaves_and_draws(batch, logits)
    request.getfixturevalue("without_compiled_code")
    by_torch = leaves_and_draws(batch, logits)
    assert torch.equal(by_torch[0], compiled[0])
    assert by_torch[1] == compiled[1]


# ---- unused controls cost nothing


class Operations(TorchDispatchMode):
    """Notes the names of the operations of torch that are carried out."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def operations(batch: list[Row]) -> list[str]:
    sampler, logits = batch_of(batch, 50), random_logits(len(batch), 50, seed=0)
    with Operations() as done:
        sampler.sample(logits)
    return done.names


@pytest.mark.usefixtures("without_compiled_code")
def test_a_batch_without_controls_runs_only_the_operations_of_a_draw() -> None:
    plain = operations([Row(), Row()])
    assert operations([Row(OFF), Row(OFF)]) == plain
    assert not {"topk", "sort", "_log_softmax", "index_put_"} & set(plain)
    assert plain.count("_softmax") == plain.count("log_") == 1
    assert "log_" not in operations([Row({"temperature": 0})])


@pytest.mark.usefixtures("without_compiled_code")
@pytest.mark.parametrize("name", CONTROL_ORDER)
def test_a_control_costs_only_where_a_row_uses_it(name: str) -> None:
    plain, used = operations([Row(), Row()]), operations([ON[name], Row()])
    assert len(used) > len(plain)
    unused = [row for other, row in ON.items() if other != name]
    others = operations(unused)
    assert len(operations([*unused, ON[name]])) > len(others)


@pytest.mark.usefixtures("without_compiled_code")
def test_every_row_that_uses_a_control_shares_its_operations() -> None:
    """No operation for each row: as many for sixteen rows as for two."""
    for name, row in ON.items():
        if name != "token_healing":  # takes one operation a request, in its first step
            assert len(operations([row] * 16)) == len(operations([row] * 2)), name
