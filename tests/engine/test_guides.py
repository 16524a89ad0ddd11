"""A continuation that must match something: what can follow, where it ends, and why."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from llguidance import LLParserLimits

from gptj_demo import guidance
from gptj_demo.engine.sampling.guides import Guide, Guides
from gptj_demo.protocol import Expanded, Expansion, Finished, Submit, TokenEvent, Written
from gptj_demo.sampling import SamplingParams
from tests.engine import matching
from tests.engine.bench import DRAWN, END, TABLE, A, B, Bench, C, request
from tests.engine.checkpoints import TEXT_TOKENS


def regex(pattern: str, **values: Any) -> dict[str, Any]:
    """Settings of a drawn continuation that must match a regular expression."""
    own = {"max_new_tokens": 40, "ignore_eos": False, "must_match": "regex"}
    return {**DRAWN, **own, "must_match_text": pattern, **values}


def guide_of(
    pattern: str,
    tokens: Iterable[int] = (),
    *,
    table: list[bytes] = TABLE,
    never: Iterable[int] = (),
    **values: Any,
) -> Guide:
    guides = Guides(table, len(table), [END], never)
    params = SamplingParams(**regex(pattern, **values))
    return guides.start(params, {0: Written(tuple(tokens))}, b"", ()).result()[0]


def allowed(guide: Guide) -> set[int]:
    return set(np.flatnonzero(guide.added == 0).tolist())


def test_a_token_is_allowed_exactly_where_its_bytes_can_follow() -> None:
    pattern = "(B|BC|é){2}"
    texts = [one + other for one in ("B", "BC", "é") for other in ("B", "BC", "é")]
    prefixes = {text.encode()[:n] for text in texts for n in range(1, 9)}
    written: list[int] = []
    for token in (B, *(TABLE.index(bytes([byte])) for byte in "é".encode())):
        so_far = b"".join(TABLE[one] for one in written)
        expected = {i for i, data in enumerate(TABLE) if data and so_far + data in prefixes}
        expected -= {END}
        assert allowed(guide_of(pattern, written)) == expected
        written.append(token)
    assert guide_of(pattern, written).ended is not None


def test_the_end_is_allowed_exactly_where_the_text_matches() -> None:
    assert END not in allowed(guide_of("AB*"))
    assert END in allowed(guide_of("AB*", [A]))
    assert END not in allowed(guide_of("AB*", [A], ignore_eos=True))
    ends = {END, C} & allowed(guide_of("AB*C?", [A, B], stop_token_ids=(C,)))
    assert ends == {END, C}
    ended = guide_of("AC", [A], stop_token_ids=(C,)).ended
    assert ended is not None
    assert ended.reason == "unmet"


def test_special_tokens_and_unused_ids_do_not_match_as_text() -> None:
    table = [*TABLE, b"<|pad|>", b"<", b"AB", b"AB"]
    pad, left, one, other = range(len(TABLE), len(table))
    found = allowed(guide_of(".*", table=table, never=[pad, one]))
    assert not {pad, one, END} & (found - {END})
    assert {left, other, A} <= found


def test_tokens_with_the_same_bytes_are_both_allowed() -> None:
    table = [*TABLE, b"A", b"A"]
    assert {A, len(TABLE), len(TABLE) + 1} <= allowed(guide_of("A+", table=table))


def test_a_text_ends_where_nothing_can_follow() -> None:
    bench = Bench()
    bench.run(request(1, **regex("(A|B)C{3}")))
    assert re.fullmatch("(A|B)C{3}", bench.text(1))
    end = bench.end(1)
    assert (end.reason, end.end_token_id) == ("stop", None)
    assert "complete" in str(end.message)


@pytest.mark.parametrize(
    ("kind", "text", "matches"),
    [
        ("choices", "ABC\nA C\\nB\né", lambda text: text in ("ABC", "A C\nB", "é")),
        ("choices", json.dumps(["a\\nb", '"', ""]), lambda text: text in ("a\\nb", '"', "")),
        ("regex", "[^ -~]{2}|é+[0-9]", lambda text: re.fullmatch("[^ -~]{2}|é+[0-9]", text)),
        (
            "json",
            '{"type": "object", "properties": {"a": {"enum": [1, null]}}, "required": ["a"],'
            ' "additionalProperties": false}',
            lambda text: json.loads(text)["a"] in (1, None),
        ),
        ("grammar", 'start: N ("+" N)?\nN: /[0-9]/', lambda text: re.fullmatch(r"\d(\+\d)?", text)),
        ("grammar", 'root ::= "x" [0-3]', lambda text: re.fullmatch("x[0-3]", text)),
    ],
)
def test_completions_match_every_kind_of_constraint(kind: str, text: str, matches: Any) -> None:
    bench = Bench()
    values = {**regex(""), "must_match": kind, "must_match_text": text}
    bench.run(*(request(seed, seed=seed, **values) for seed in range(6)))
    for seed in range(6):
        assert bench.end(seed).reason == "stop"
        assert matches(bench.text(seed)) is not False
        assert matches(bench.text(seed)) is not None


def test_completions_match_random_expressions_and_schemas() -> None:
    """`python -m tests.engine.matching` does the same with more of them."""
    assert matching.run(24, seed=3) == []


def test_a_constrained_request_does_not_change_the_other_rows() -> None:
    plain = [request(n, (A, B), seed=n, **DRAWN) for n in range(3)]
    alone = Bench()
    alone.run(*plain)
    beside = Bench(max_num_seqs=5)
    beside.run(request(9, **regex("[A-Z]{12}")), *plain, request(8, **regex("(AB)*")))
    assert [beside.tokens(n) for n in range(3)] == [alone.tokens(n) for n in range(3)]


def test_each_of_several_completions_has_a_guide_of_its_own() -> None:
    bench = Bench()
    bench.run(request(1, n=4, **regex("[AB]{1,3}[CD]{2}")))
    texts = {bench.text(1, index) for index in range(4)}
    assert all(re.fullmatch("[AB]{1,3}[CD]{2}", text) for text in texts)
    assert len(texts) > 1


def test_a_minimum_length_keeps_a_text_from_ending_where_it_matches() -> None:
    bench = Bench()
    bench.run(request(1, **regex("A*", min_new_tokens=7, max_new_tokens=9)))
    assert bench.end(1).completion_tokens >= 7
    bench.run(request(2, **regex("A{1,3}", min_new_tokens=7)))  # nothing can follow AAA
    assert (bench.end(2).reason, bench.text(2)[:3]) == ("stop", "AAA"[: len(bench.text(2))])


def test_the_match_overrides_bad_words_and_reports_it() -> None:
    bench = Bench()
    bench.run(request(1, bad_words=((A,),), **regex("AB")))
    assert bench.text(1) == "AB"
    assert bench.token_events(1)[0].filtered_away
    assert bench.end(1).reason == "stop"


@pytest.mark.parametrize("only", [(C,), (B,)])
def test_controls_that_leave_nothing_end_the_text_with_a_reason(only: tuple[int, ...]) -> None:
    bench = Bench()
    bench.run(request(1, **regex("BA", allowed_token_ids=only)), request(2, **DRAWN))
    end = bench.end(1)
    assert (end.reason, bench.text(1)) == ("unmet", "" if only == (C,) else "B")
    assert "Must match (must_match)" in str(end.message)
    assert bench.end(2).reason == "length"


def test_a_grammar_that_gets_too_complex_ends_the_text_with_a_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = LLParserLimits(max_items_in_row=4, verbose_errors=False)
    monkeypatch.setattr(guidance, "limits", lambda: few)
    bench = Bench()
    rules = 'start: a b c d\na: "A"?\nb: "A"?\nc: "A"?\nd: "A"? "B"'
    grammar = {"must_match": "grammar", "must_match_text": rules}
    bench.run(request(1, **{**regex(""), **grammar}), request(2, **DRAWN))
    assert bench.end(1).reason == "unmet"
    assert "too complex" in str(bench.end(1).message)
    assert bench.end(2).reason == "length"


def test_a_healed_token_is_not_part_of_the_match() -> None:
    bench = Bench()
    prompt = (C, TABLE.index(b"t"))
    bench.run(request(1, prompt, token_healing=True, **regex("he [A-D]|hat")))
    assert re.fullmatch("he [A-D]|hat", bench.text(1))


def test_a_request_that_is_cancelled_while_its_grammar_is_compiled_ends() -> None:
    bench = Bench()
    bench.submit(request(1, n=2, **regex("A{4}")))
    assert [end.reason for end in bench.cancel(1)] == ["cancelled"] * 2
    bench.run(request(2, **regex("B{4}")))
    assert bench.text(2) == "BBBB"
    assert not any(isinstance(event, TokenEvent) for event in bench.events[1])


def test_a_grammar_that_cannot_be_compiled_ends_the_request() -> None:
    """The web process refuses it first; with some tokenizers, compiling may still fail here."""
    bench = Bench()
    bench.run(request(1, **regex("(")))
    assert bench.end(1).reason == "unmet"
    assert "unclosed group" in str(bench.end(1).message)


def test_other_requests_go_on_while_a_grammar_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    never: Future[dict[int, Guide]] = Future()
    monkeypatch.setattr(Guides, "start", lambda *of: never)
    bench = Bench()
    bench.submit(request(1, **regex("A")), request(2, **DRAWN))
    while not any(isinstance(event, Finished) for event in bench.events.get(2, ())):
        bench.step()
    assert not bench.engine.is_idle
    assert [end.reason for end in bench.cancel(1)] == ["cancelled"]


def test_the_tree_of_likely_continuations_has_only_matching_tokens() -> None:
    paths = tuple(Written(path) for path in ((), (A,), (A, B)))
    expansion = Expansion(paths, (-math.inf,) * 3, 50, after_controls=True)
    what = replace(request(1, **regex("AB|AC", top_p=1.0)), expansion=expansion)
    bench = Bench()
    bench.run(what)
    children = {e.index: e.children for e in bench.events[1] if isinstance(e, Expanded)}
    assert {token for token, _ in children[0] or ()} >= {A}
    assert {token for token, _ in children[1] or ()} == {B, C}
    assert children[2] == ()


def test_a_prompt_that_is_only_scored_needs_no_grammar() -> None:
    bench = Bench()
    what: Submit = request(1, (A, B), **{**regex("("), "max_new_tokens": 0, "echo": True})
    bench.run(what)
    assert bench.end(1).reason == "length"


def test_a_guide_covers_no_ids_past_the_vocabulary() -> None:
    assert guide_of("A").added.shape == (len(TABLE),)
    assert len(TABLE) >= TEXT_TOKENS
