"""Constraints on a text are checked before the engine gets them."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from gptj_demo import guidance
from gptj_demo.control_values import ContradictoryControls, InvalidControl, make_params
from gptj_demo.guidance import MAX_RULES, DeepStackPool, check, read_choices
from gptj_demo.ui.axes import axis_values
from gptj_demo.ui.share import check as link_settings


def said_of(kind: str, text: str) -> str:
    with pytest.raises(InvalidControl) as refusal:
        asyncio.run(check(make_params({"must_match": kind, "must_match_text": text})))
    assert refusal.value.name == "must_match_text"
    return str(refusal.value)


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("regex", "[a-z", "unclosed character class"),
        ("regex", "(?=a)b", "look-around"),
        ("regex", r"(a)\1", "backreferences are not supported"),
        ("regex", r"\bab\b", "lookarounds not supported"),
        ("regex", r"[^\s\S]", "no text can match"),
        ("json", "{", "Expecting property name"),
        ("json", "[1]", "a JSON schema is a JSON object"),
        ("json", '{"minimum": NaN}', "NaN is not JSON"),
        ("json", '{"not": {"type": "string"}}', "Unimplemented keys"),
        ("json", '{"allOf": [{"type": "string"}, {"type": "integer"}]}', "Unsatisfiable schema"),
        ("json", '{"type": "integer", "multipleOf": 999983}', "at most 100,000, and 999983 makes"),
        ("json", '{"type": "number", "multipleOf": 12345.67}', "12345.67 makes it larger"),
        ("json", '{"multipleOf": 997, "allOf": [{"multipleOf": 991}]}', "997 makes it larger"),
        (
            "json",
            '{"properties": {"a": {"multiple\\u004ff": 99991}, "b": {"multipleOf": 7}}}',
            "7 makes it larger",
        ),
        ("json", '{"multipleOf": 999983, "multipleOf": 1}', "999983 makes it larger"),
        ("json", '{"type": "integer", "multipleOf": true}', "Expected f64"),
        ("json", "{} {}", "Extra data"),
        (
            "grammar",
            'start: "a" %json {"type": "integer", "multipleOf": 999983}',
            "999983 makes it larger",
        ),
        ("json", '{"$ref": "http://127.0.0.1:9/x.json"}', "does not fetch resources"),
        ("json", '{"$ref": "file:///etc/passwd"}', "does not fetch resources"),
        ("grammar", "start: foo", 'line 1, column 8: unknown name: "foo"'),
        ("grammar", 'start: "a" b\nb: c', 'line 2, column 4: unknown name: "c"'),
        ("grammar", "root ::= foo", "Rule 'foo' not found"),
        ("grammar", "start: start", "no text can match"),
        ("choices", "[]", "at least one choice"),
        ("choices", "\n".join(map(str, range(1025))), "at most 1,024"),
    ],
)
def test_an_invalid_constraint_is_refused_with_the_reason(kind: str, text: str, said: str) -> None:
    assert said in said_of(kind, text)


@pytest.mark.parametrize("value", ["0.01", "86400", "1e6", "-5", "1000000000", "0.05"])
def test_a_schema_can_ask_for_multiples_of_usual_numbers(value: str) -> None:
    text = f'{{"type": "number", "multipleOf": {value}}}'
    asyncio.run(check(make_params({"must_match": "json", "must_match_text": text})))


CHAIN = "\n".join(["start: r0", *(f'r{n}: "a" r{n + 1}' for n in range(5000)), 'r5000: "b"'])


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("grammar", CHAIN[:50_000]),
        ("grammar", "start: " + "(" * 20_000 + '"a"' + ")" * 20_000),
        ("grammar", "root ::= " + "(" * 20_000 + '"a"' + ")" * 20_000),
        ("regex", "(" * 20_000 + "a" + ")" * 20_000),
        ("json", '{"items":' * 5000 + "{}" + "}" * 5000),
        ("json", json.dumps({"anyOf": [{"$ref": "#"}] * 1500})),
    ],
)
def test_grammars_that_are_too_deep_or_too_large_are_refused(kind: str, text: str) -> None:
    said_of(kind, text)


def test_the_longest_chain_of_rules_can_be_used() -> None:
    rules = [f'r{n}: "a" r{n + 1}' for n in range(MAX_RULES - 2)]
    text = "\n".join(["start: r0", *rules, f'r{MAX_RULES - 2}: "b"'])
    asyncio.run(check(make_params({"must_match": "grammar", "must_match_text": text})))


def test_a_panic_of_the_library_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Panic(BaseException):
        pass

    def fail(*of: object) -> None:
        raise Panic("with the text that was sent")

    monkeypatch.setattr(guidance, "compile_grammar", fail)
    said = said_of("regex", "a panic")
    assert "Panic" in said
    assert "that was sent" not in said


def test_a_kind_without_a_text_is_refused() -> None:
    with pytest.raises(ContradictoryControls, match="is empty"):
        make_params({"must_match": "regex"})
    make_params({"must_match_text": "("})  # it has no effect


def test_a_link_and_an_axis_can_set_the_kind_alone() -> None:
    linked = link_settings({"must_match": "json"})
    assert (linked["problems"], linked["values"]["must_match"]) == ([], "json")
    values = axis_values("rows", "must_match", "off, regex")
    assert [value.settings["must_match"] for value in values] == ["off", "regex"]


def test_choices_are_lines_or_a_json_list() -> None:
    assert read_choices("yes\n\n no\nand\\nmore") == ["yes", " no", "and\nmore"]
    assert read_choices(json.dumps(["a\\nb", "", "c\nd"])) == ["a\\nb", "", "c\nd"]
    assert read_choices("[a]\n[1]") == ["[a]", "[1]"]


def test_checks_do_not_hold_up_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(guidance, "_problem", lambda kind, text: go_on.wait(60) and None)

    async def both() -> None:
        params = make_params({"must_match": "regex", "must_match_text": "a"})
        checking = asyncio.create_task(check(params))
        await asyncio.sleep(0)
        go_on.set()
        await checking

    asyncio.run(both())


def test_other_threads_keep_the_size_of_their_stack() -> None:
    before = threading.stack_size()
    DeepStackPool(1).submit(int).result()
    assert threading.stack_size() == before
