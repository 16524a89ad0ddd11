"""Probabilities in the text: its colours, what is known of a token, and the road not taken."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from .conftest import Script, Visitor, ended, said
from .test_results import alternative, started, token, tokens

Scripted = tuple[Visitor, Script]
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "${alert(1)}{{value}}",
    "</script><script>alert(1)</script>",
    "\u202eright to left",
]

COLOURS = """() => Object.fromEntries([1, 2, 3, 4, 5].map((level) => [level, [
  ...CSS.highlights.get(`gptj-token-${level}`)].map((range) => {
    const live = document.createRange();
    live.setStart(range.startContainer, range.startOffset);
    live.setEnd(range.endContainer, range.endOffset);
    return live.toString();
  })]))"""


def colours(person: Visitor) -> dict[str, list[str]]:
    """The coloured words, by level: 1 is likely, 5 is not."""
    found = dict(person.page.evaluate(COLOURS))
    return {level: words for level, words in found.items() if words}


def show_tokens(person: Visitor) -> None:
    person.button("Tokens").click()
    expect(person.button("Tokens")).to_have_attribute("aria-pressed", "true")


def ask(person: Visitor, script: Script, batches: list[list[dict[str, Any]]]) -> None:
    script.send(batches)
    person.prompt.focus()
    person.page.keyboard.press("Control+Enter")
    person.finished()


def words(*given: tuple[str, float], **more: Any) -> list[dict[str, Any]]:
    """One batch: texts with their probabilities."""
    known = [token(text, math.log(share), **more) for text, share in given]
    return [said("".join(text for text, _ in given)), tokens(*known)]


def inspector(person: Visitor) -> Locator:
    return person.page.locator(".inspector")


def point_at(person: Visitor, offset: int) -> None:
    """Move the pointer onto a character of the model's words."""
    place = person.page.evaluate(
        """(offset) => { const range = document.createRange();
        const node = document.querySelector('.ink .by-model').firstChild;
        range.setStart(node, offset); range.setEnd(node, offset + 1);
        const { left, top, width, height } = range.getBoundingClientRect();
        return [left + width * 0.7, top + height / 2]; }""",
        offset,
    )
    person.page.mouse.move(0, 0)
    person.page.mouse.move(*place)


THREE = words(("one", 0.9), (" two", 0.3), (" three", 0.004))
OTHERS = [
    alternative(" two", math.log(0.3), math.log(0.5), token_id=1),
    alternative(" 2", math.log(0.2), math.log(0.25)),
    alternative(" zwei", math.log(0.1), None, removed_by="top_p"),
    alternative("\\xe2", math.log(0.05), math.log(0.05), kind=1),
    alternative("<|endoftext|>", math.log(0.01), math.log(0.01), kind=2),
]
WITH_OTHERS = words(("one", 0.9), (" two", 0.3), (" three", 0.004), alternatives=OTHERS)


# ---- colours


def test_words_are_coloured_by_probability_while_they_come(scripted: Scripted) -> None:
    person, script = scripted
    show_tokens(person)
    script.send([[started()], THREE])  # and no end
    person.write("P ")
    person.page.keyboard.press("Control+Enter")
    expect(person.model_words).to_have_text("one two three")
    assert colours(person) == {"1": ["one"], "2": [" two"], "5": [" three"]}
    expect(person.button("Stop")).to_be_visible()
    assert person.shown == person.text
    assert [asked["controls"] for asked in script.asked] == [{"logprobs": 5}]


def test_with_the_toggle_off_nothing_is_asked_and_nothing_coloured(scripted: Scripted) -> None:
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


def test_of_a_long_text_what_is_in_view_is_coloured(scripted: Scripted) -> None:
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


def test_an_edit_uncolours_what_stands_behind_it_and_undo_colours_it_again(
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
    assert lightness == sorted(lightness, reverse=theme == "light"), "told by lightness too"


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


def test_line_ends_are_those_of_the_textarea_also_where_a_record_cuts_them(
    scripted: Scripted,
) -> None:
    person, script = scripted
    show_tokens(person)
    batch = [tokens(token("a\r", 0.0), token("\nb", 0.0, length=1), token("c", -9.0))]
    ask(person, script, [[started()], [said("a\r")], [said("\nbc"), *batch], [ended()]])
    assert person.text == "a\nbc"
    assert colours(person) == {"1": ["a\n", "b"], "5": ["c"]}


def test_words_held_back_for_a_stop_string_wait_for_their_text(scripted: Scripted) -> None:
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


# ---- one token


def test_pointing_at_a_token_tells_all_that_is_known_of_it(scripted: Scripted) -> None:
    person, script = scripted
    show_tokens(person)
    ask(person, script, [[started()], WITH_OTHERS, [ended()]])
    point_at(person, 5)
    box = inspector(person)
    expect(box.locator("header .token")).to_have_text("␣two")
    expect(box.locator("dd")).to_have_text(["30.0 %", "60.7 %", "1"])
    expect(box.locator(".choices .token")).to_have_text(
        ["␣two", "␣2", "␣zwei", r"\xe2", "<|endoftext|>"]
    )
    expect(box.locator(".choices small")).to_have_text(
        ["✕ Top-p", "a part of a character", "ends the text"]
    )
    for place, name in enumerate(["disabled", "enabled", "enabled", "disabled", "disabled"]):
        button = box.locator(".choices button").nth(place)
        (expect(button).to_be_enabled if name == "enabled" else expect(button).to_be_disabled)()
    person.page.mouse.move(1, 1)
    expect(box).to_be_hidden()


def test_taking_an_alternative_goes_on_from_it_and_undo_brings_the_old_road_back(
    scripted: Scripted,
) -> None:
    person, script = scripted
    show_tokens(person)
    person.write("P ")
    ask(person, script, [[started()], WITH_OTHERS, [ended()]])
    script.send([[started()], words((" 3", 0.5)), [ended()]])
    point_at(person, 5)
    inspector(person).get_by_role("button", name="␣2").click()
    expect(person.prompt).to_have_value("P one 2 3")
    person.finished()
    assert script.asked[-1]["prompt"] == "P one 2"
    assert script.asked[-1]["retry"] is False
    assert person.shown == person.text
    expect(person.model_words.first).to_have_text("one")
    assert colours(person) == {"1": ["one", " 3"], "2": [" 2"]}
    person.button("Undo").click()
    expect(person.prompt).to_have_value("P one two three")
    person.button("Redo").click()
    expect(person.prompt).to_have_value("P one 2 3")
    script.send([[started()], words((" 4", 0.5)), [ended()]])
    person.button("Retry").click()
    expect(person.prompt).to_have_value("P one 2 4")  # what was chosen stays chosen


def test_where_the_other_road_cannot_be_taken_the_text_stays(scripted: Scripted) -> None:
    person, script = scripted
    show_tokens(person)
    ask(person, script, [[started()], WITH_OTHERS, [ended()]])
    script.send([[{"event": "refused", "kind": "queue_full", "message": "Too many."}]])
    point_at(person, 5)
    inspector(person).get_by_role("button", name="␣2").click()
    expect(person.notice).to_contain_text("Too many.")
    assert person.text == person.shown == "one two three"


def test_by_keys_alone(scripted: Scripted) -> None:
    person, script = scripted
    ask(person, script, [[started()], WITH_OTHERS, [ended()]])
    keys = person.page.keyboard
    keys.press("Alt+t")
    keys.press("Control+Home")
    expect(person.page.locator(".at-caret")).to_have_text("At the caret: one 90.0 %")
    keys.press("Alt+ArrowDown")
    token_shown = inspector(person).locator("header .token")
    expect(token_shown).to_have_text("one")
    keys.press("ArrowRight")
    expect(token_shown).to_have_text("␣two")
    keys.press("Escape")
    expect(inspector(person)).to_be_hidden()
    expect(person.prompt).to_be_focused()
    keys.press("Alt+ArrowDown")
    keys.press("ArrowRight")
    script.send([[started()], [said("!")], [ended()]])
    keys.press("ArrowDown")
    keys.press("Enter")
    expect(person.prompt).to_have_value("one zwei!")


def test_the_token_that_ended_the_text_can_be_looked_at(scripted: Scripted) -> None:
    person, script = scripted
    show_tokens(person)
    end = token("<|endoftext|>", math.log(0.4), kind=2, length=0, alternatives=OTHERS[1:3])
    last = ended(reason="stop", tokens=[end])
    ask(person, script, [[started()], THREE, [last]])
    script.send([[started()], [said("!")], [ended()]])
    person.button("The model ended here").click()
    expect(inspector(person)).to_contain_text("<|endoftext|>")
    expect(inspector(person)).to_contain_text("a sign to the model")
    inspector(person).get_by_role("button", name="␣2").click()
    expect(person.prompt).to_have_value("one two three 2!")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_tokens_are_shown_as_text(scripted: Scripted, text: str) -> None:
    person, script = scripted
    show_tokens(person)
    other = alternative(text, -1.0, None, removed_by=text)
    batch = [said(text), tokens(token(text, -0.1, alternatives=[other]))]
    ask(person, script, [[started()], batch, [ended()]])
    point_at(person, 1)
    signs = text.replace(" ", "␣").replace("\u202e", "U+202E")
    box = inspector(person)
    expect(box.locator(".token")).to_have_text([signs, signs, signs])
    assert box.locator("img, script").count() == 0
    script.send([[started()], [ended()]])
    box.locator(".choices button").first.click()
    person.finished()
    assert person.text == person.shown == text
    assert person.dialogs == []


# ---- the person's own words


def test_ones_own_text_is_scored_coloured_and_measured(scripted: Scripted) -> None:
    person, script = scripted
    person.write("My words")
    show_tokens(person)
    script.score(
        {
            "sum_logprob": -5.0,
            "perplexity": 12.1825,
            "bits_per_byte": 1.2345,
            "tokens": [token("My", None), token(" words", -5.0, sampled_logprob=None)],
        }
    )
    person.button("Score the whole text").click()
    measures = person.page.locator(".measures")
    expect(measures).to_have_text("2 tokens · perplexity 12.18 · 1.234 bits per byte")
    assert colours(person) == {"5": [" words"]}
    person.write("!")
    expect(measures).to_have_text("")
    assert colours(person) == {"5": [" words"]}
    script.score({"message": "The text is <b>too long</b>."})
    person.button("Score the whole text").click()
    expect(measures).to_have_text("The text is <b>too long</b>.")


def test_a_place_in_the_plot_leads_to_its_token(scripted: Scripted) -> None:
    person, script = scripted
    show_tokens(person)
    ask(person, script, [[started()], words(*[(" likely", 0.9)] * 40), [ended()]])
    plot = person.page.locator(".surprise svg")
    expect(person.page.locator(".surprise figcaption")).to_contain_text("0.2 bits a token")
    plot.click()
    expect(inspector(person)).to_contain_text("␣likely")
    assert 100 < person.prompt.evaluate("area => area.selectionStart") < 180


def test_the_real_model_colours_and_goes_another_way(visitor: Visitor) -> None:
    visitor.write("Once upon a time there was a naïve 🦊 and")
    show_tokens(visitor)
    visitor.button("Score the whole text").click()
    expect(visitor.page.locator(".measures")).to_contain_text("bits per byte")
    visitor.set_number("Length", "40")
    visitor.prompt.focus()
    visitor.generate()
    of_text = sum(len(word) for words in colours(visitor).values() for word in words)
    unknown = len("O") + len("nce")  # the first token has no probability
    assert len(visitor.text) - unknown <= of_text + 4
    point_at(visitor, 3)
    free = inspector(visitor).locator(".choices button:enabled")
    expect(free.first).to_be_visible()
    before = visitor.text
    free.last.click()
    visitor.finished()
    assert visitor.text != before
    visitor.button("Undo").click()
    expect(visitor.prompt).to_have_value(before)


# ---- the table as a file


def test_the_table_is_saved_as_csv_that_no_spreadsheet_runs(
    scripted: Scripted, tmp_path: Path
) -> None:
    person, script = scripted
    texts = ['a "quoted", word', "=1+1", "\n", "-2", "plain"]
    known = [token(text, -1.0, alternatives=[OTHERS[2]]) for text in texts]
    ask(person, script, [[started()], [said("x"), tokens(*known)], [ended()]])
    person.page.get_by_text("Token probabilities").last.click()
    with person.page.expect_download() as download:
        person.page.locator('[data-of="completion"]').get_by_role("button").click()
    path = tmp_path / "tokens.csv"
    download.value.save_as(path)
    data = path.read_bytes()
    assert data.endswith(b"\r\n")
    rows = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    assert [row["text"] for row in rows] == ['a "quoted", word', "'=1+1", "'\n", "'-2", "plain"]
    assert rows[0]["index"] == "0"
    assert rows[0]["logprob"] == "-1"
    assert rows[0]["alternative_1_text"] == " zwei"
    assert rows[0]["alternative_1_removed_by"] == "top_p"
