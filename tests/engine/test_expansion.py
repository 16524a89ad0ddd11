"""The tree of the most probable continuations, by the engine: against `GPTJForCausalLM`."""

from __future__ import annotations

import itertools
import math
from functools import cache

import pytest
import torch
from transformers import (
    GPTJForCausalLM,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from gptj_demo.client.likely import LikelyTree, Limits, Node, covered
from gptj_demo.engine.engine import Engine
from gptj_demo.engine.runner import Runner
from gptj_demo.engine.vocabulary import EngineVocabulary
from gptj_demo.protocol import Expanded, Expansion, Finished, Submit, Written
from gptj_demo.sampling import SamplingParams
from tests.engine.checkpoints import make_model
from tests.engine.forward import built
from tests.engine.test_exactness import CASES, Case

CLOSE = 1e-4
PROMPT = (3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7)
WORDS = 12
"""The size of the tiny vocabulary; the head has four rows more."""


def tiny() -> GPTJForCausalLM:
    torch.manual_seed(2)
    model = make_model(seed=2, n_positions=64, vocab_size=16, bos_token_id=0, eos_token_id=0)
    model.lm_head.weight.data.normal_(std=0.8)  # some tokens are much likelier than others
    return model


def grown(
    case: Case,
    limits: Limits,
    prompt: tuple[int, ...],
    params: SamplingParams | None = None,
    streams: int = 8,
) -> LikelyTree:
    """A tree grown to its end; a step expands up to 12 paths, also if there are fewer slots."""
    model = built(case.make())
    runner = Runner(model, max_num_seqs=streams, vocabulary=case.vocabulary)
    vocabulary = EngineVocabulary(
        [b"x"] * case.vocabulary,
        case.vocabulary,
        model.shape.context_length,
        bos_token_id=0,
        eos_token_ids=(),
    )
    engine = Engine(runner, vocabulary, prefill_budget=8)
    tree = LikelyTree(limits)
    for number in itertools.count():
        batch = tree.batch(12)
        if tree.is_done:
            return tree
        paths = tuple(
            Written(ids_of(node), tuple(one.logprob for one in node.path())) for node in batch
        )
        floors = tuple(tree.floor - node.total for node in batch)
        expansion = Expansion(paths, floors, limits.nodes, params is not None)
        given = params or SamplingParams()
        engine.submit(Submit(number, prompt, given, 0, expansion=expansion))
        ended = 0
        while not engine.is_idle:
            for event in engine.step():
                if isinstance(event, Expanded):
                    tree.add(batch[event.index], event.children)
                ended += isinstance(event, Finished)
        assert ended == len(batch)
        engine._scheduler.check_integrity()
        tree.take()
    raise AssertionError


@cache
def after(model: GPTJForCausalLM, tokens: tuple[int, ...]) -> torch.Tensor:
    """Log-probabilities [rows of the head] of the token after these."""
    with torch.inference_mode():
        return model(torch.tensor([tokens])).logits[0, -1].log_softmax(dim=-1)


def ids_of(node: Node) -> tuple[int, ...]:
    return tuple(one.token_id for one in node.path())


@pytest.mark.comparison
def test_the_best_paths_of_depth_three_equal_those_of_an_exhaustive_search() -> None:
    case, model = Case(tiny, WORDS), tiny()
    tree = grown(case, Limits(nodes=400, depth=3), PROMPT)
    found = [node for node in tree.taken if node.depth == 3][:20]
    paths = list(itertools.product(range(WORDS), repeat=3))
    texts = torch.tensor([PROMPT + path for path in paths])
    with torch.inference_mode():
        logprobs = model(texts).logits[:, len(PROMPT) - 1 : -1].log_softmax(dim=-1)
    totals = logprobs.gather(2, texts[:, len(PROMPT) :, None]).sum(dim=(1, 2))
    best = totals.sort(descending=True)
    assert [ids_of(node) for node in found] == [paths[i] for i in best.indices[:20]]
    differences = torch.tensor([node.total for node in found]) - best.values[:20]
    assert differences.abs().max() < CLOSE


@pytest.mark.comparison
def test_the_tree_has_the_most_probable_continuations_with_the_models_probabilities() -> None:
    case = CASES["sample model"]
    model = case.make()
    prompt = tuple(range(40, 70))
    tree = grown(case, Limits(nodes=150, depth=9), prompt)
    totals = [node.total for node in tree.taken]
    assert len(totals) == 150
    assert totals == sorted(totals, reverse=True)
    for node in tree.taken:
        assert node.parent is not None
        assert node.parent is tree.root or node.parent.number < node.number
        expected = after(model, prompt + ids_of(node.parent))[node.token_id]
        assert abs(node.logprob - float(expected)) < CLOSE
    # nothing outside it is more probable than its last node
    inside = {ids_of(node) for node in tree.taken}
    for node in [tree.root, *tree.taken]:
        if node.depth == 9:
            continue
        own = after(model, prompt + ids_of(node))[: case.vocabulary]
        better = (own + node.total > totals[-1] + CLOSE).nonzero().flatten().tolist()
        assert {(*ids_of(node), token) for token in better} <= inside
    shares = covered(tree.taken)
    first = sum(math.exp(node.total) for node in tree.taken if node.depth == 1)
    assert shares[0] == pytest.approx(first)
    assert shares == sorted(shares, reverse=True)


@pytest.mark.comparison
def test_after_the_controls_the_tree_has_the_probabilities_used_for_sampling() -> None:
    case, model = Case(tiny, WORDS), tiny()
    params = SamplingParams(temperature=0.7, top_p=0.8, repetition_penalty=1.4)
    tree = grown(case, Limits(nodes=60, depth=4), PROMPT, params)
    controls = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(1.4),
            TemperatureLogitsWarper(0.7),
            TopPLogitsWarper(0.8),
        ]
    )
    for node in tree.taken:
        assert node.parent is not None
        before = torch.tensor([PROMPT + ids_of(node.parent)])
        with torch.inference_mode():
            logits = model(before).logits[:, -1, :WORDS]
        expected = controls(before, logits)[0].log_softmax(dim=-1)[node.token_id]
        assert abs(node.logprob - float(expected)) < CLOSE


def test_greedy_decoding_leaves_one_path() -> None:
    params = SamplingParams(temperature=0.0)
    tree = grown(Case(tiny, WORDS), Limits(nodes=60, depth=4), PROMPT, params)
    assert [node.depth for node in tree.taken] == [1, 2, 3, 4]
    assert {node.total for node in tree.taken} == {0.0}


def test_the_tree_does_not_depend_on_the_number_of_slots() -> None:
    limits = Limits(nodes=60, depth=4)
    few, many = (grown(Case(tiny, WORDS), limits, PROMPT, streams=n) for n in (1, 16))
    assert [ids_of(node) for node in few.taken] == [ids_of(node) for node in many.taken]


def test_a_continuation_that_ended_counts_at_each_later_length() -> None:
    tree = LikelyTree(Limits(nodes=10, depth=2), ends=frozenset({7}))
    tree.add(tree.root, [(1, math.log(0.6)), (7, math.log(0.3)), (2, math.log(0.1))])
    assert [node.token_id for node in tree.take()] == [1]
    assert [node.token_id for node in tree.batch()] == [1, 2]  # 7 ends the text
    tree.add(tree.taken[0], [(3, math.log(0.45)), (4, math.log(0.35))])
    assert [node.token_id for node in tree.take()] == [7, 3, 4, 2]
    assert covered(tree.taken) == pytest.approx([1.0, 0.78])
