"""The colours of tokens in the text, and where each token stands."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from playwright.sync_api import expect

from .coloured import (
    THREE,
    ask,
    colours,
    inspector,
    point_at,
    show_tokens,
    words,
)
from .conftest import Script, Visitor
from .records import ended, said, started, token, tokens

Scripted = tuple[Visitor, Script]


# ---- colours


def test_tokens_are_coloured_by_probability_as_they_stream(scripted: Scripted) -> None:
    person, script = scripted
    show_tokens(person)
    script.send([[started()], THREE])  # never ends
    person.write("P ")
    person.page.keyboard.press("Control+Enter")
    expect(person.model_words).to_have_text("one two three")
    assert colours(person) == {"1": ["one"], "2": [" two"], "5": [" three"]}
    expect(person.button("Stop")).to_be_visible()
    assert person.shown == person.text
    assert [asked["controls"] for asked in script.asked] == [{"logprobs": 5}]


def test_with_the_toggle_off_no_logprobs_are_requested_and_no_token_is_coloured(
    scripted: Scripted,
) -> None:
    person, script = scripted
    ask(person, script, [[started()], THREE, [ended()]])
    assert colours(person) == {}
    assert script.asked[0]["controls"] == {}
    person.page.keyboard.press("Alt+t")
    assert sum(map(len, colours(person).values())) == 3, "they had come nevertheless"
    person.page.keyboard.press("Alt+t")
    assert colours(person) == {}


def test_the_colours_leave_the_letters_where_they_are(scripted: Scripted) -> None:
    person, script = scripted
    many = [(f" word{i}", 0.9 / (i % 7 + 1)) for i in range(150)]
    ask(person, script, [[started()], words(*many), [ended()]])
    measure = "document.querySelector('.ink').getBoundingClientRect().height"
    before = person.page.evaluate(measure)
    show_tokens(person)
    assert sum(map(len, colours(person).values())) == 150
    assert person.page.evaluate(measure) == before
    assert person.page.locator(".ink :not(span)").count() == 0


def test_only_the_visible_tokens_of_a_long_text_are_coloured(scripted: Scripted) -> None:
    person, script = scripted
    show_tokens(person)
    many = [(f" word{i}", 0.9) for i in range(2000)]
    ask(
        person,
        script,
        [[started()], *(words(*many[i : i + 100]) for i in range(0, 2000, 100)), [ended()]],
    )
    assert person.shown == person.text
    coloured = colours(person)["1"]
    assert coloured[-1] == " word1999", "the end is in view, for the words were followed"
    assert coloured == [text for text, _ in many][-len(coloured) :]
    assert len(coloured) < 1000
    person.page.locator(".sheet").evaluate("sheet => { sheet.scrollTop = 0; }")
    expect_first = "() => [...CSS.highlights.get('gptj-token-1')][0]?.startOffset === 0"
    person.page.wait_for_function(expect_first)
    coloured = colours(person)["1"]
    assert coloured == [text for text, _ in many][: len(coloured)]
    point_at(person, 2)
    expect(inspector(person)).to_be_visible()
    person.page.set_viewport_size({"width": 500, "height": 1600})
    person.page.wait_for_function(
        "before => CSS.highlights.get('gptj-token-1').size > before", arg=len(coloured)
    )


def test_an_edit_removes_colours_after_it_and_undo_restores_them(
    scripted: Scripted,
) -> None:
    person, script = scripted
    show_tokens(person)
    ask(person, script, [[started()], THREE, [ended()]])
    person.prompt.evaluate("area => area.setSelectionRange(5, 5)")
    person.page.keyboard.type("X")
    assert person.text == "one tXwo three"
    assert colours(person) == {"1": ["one"]}
    person.button("Undo").click()
    assert colours(person) == {"1": ["one"], "2": [" two"], "5": [" three"]}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_ink_on_every_colour_can_be_read(scripted: Scripted, theme: str) -> None:
    person, _ = scripted
    person.page.goto(f"{person.url}?__theme={theme}")
    expect(person.prompt).to_be_visible()
    show_tokens(person)
    lightness = []
    for ground in person.page.locator(".scale [data-level]").all():
        colour = ground.evaluate("s => getComputedStyle(s).backgroundColor")
        lightness.append(luminance(colour))
        for ink in ("--token-person-ink", "--token-model-ink"):
            of_ink = person.page.evaluate(
                """(name) => { const probe = document.body.appendChild(document.createElement('i'));
                probe.style.color = `var(${name})`;
                const colour = getComputedStyle(probe).color; probe.remove(); return colour; }""",
                ink,
            )
            assert contrast(luminance(of_ink), luminance(colour)) >= 4.5
    assert lightness == sorted(lightness, reverse=theme == "light"), "they differ in lightness too"
    least = {"light": 1.1, "dark": 1.2}[theme]
    for one, other in pairwise(lightness):
        assert contrast(one, other) >= least, "neighbouring steps differ"


def luminance(colour: str) -> float:
    parts = colour[colour.index("(") + 1 : -1].replace(",", " ").split()
    channels = [int(part) / 255 for part in parts[:3]]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


# ---- places


def test_a_character_of_several_tokens_is_one_place(scripted: Scripted) -> None:
    person, script = scripted
    show_tokens(person)
    parts = [
        token(r"\xf0\x9f", math.log(0.5), kind=1, length=0),
        token(r"\xa6", math.log(0.5), kind=1, length=0),
        token(r"\x8a", math.log(0.5), kind=1, length=2),
    ]
    batch = [said("a🦊b"), tokens(token("a", 0.0), *parts, token("b", 0.0))]
    ask(person, script, [[started()], batch, [ended()]])
    assert colours(person) == {"1": ["a", "b"], "3": ["🦊"]}
    point_at(person, 1)
    expect(inspector(person)).to_contain_text("Part 1 of the 3 tokens that make “🦊”")


def test_line_ends_match_the_textarea_across_records(
    scripted: Scripted,
) -> None:
    person, script = scripted
    show_tokens(person)
    batch = [tokens(token("a\r", 0.0), token("\nb", 0.0, length=1), token("c", -9.0))]
    ask(person, script, [[started()], [said("a\r")], [said("\nbc"), *batch], [ended()]])
    assert person.text == "a\nbc"
    assert colours(person) == {"1": ["a\n", "b"], "5": ["c"]}


def test_tokens_held_back_for_a_stop_string_are_cut_with_their_text(scripted: Scripted) -> None:
    person, script = scripted
    show_tokens(person)
    batches = [
        [said("one"), tokens(token("one", 0.0), token(" st", 0.0), token("op", -9.0))],
        [said(" s", reason="stop"), ended()],
    ]
    ask(person, script, [[started()], *batches])
    assert colours(person) == {"1": ["one", " s"]}, "cut where the text was cut"


def test_a_healed_token_begins_in_the_prompt(scripted: Scripted) -> None:
    person, script = scripted
    show_tokens(person)
    person.write("Hell")
    healed = started(healed="ell", healed_length=3)
    batch = [said("o there"), tokens(token("ello", 0.0, length=1), token(" there", 0.0))]
    ask(person, script, [[healed], batch, [ended()]])
    assert colours(person) == {"1": ["ello", " there"]}
