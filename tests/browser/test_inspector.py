"""The details of a token, taking an alternative, and the score of a text."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest
from playwright.sync_api import expect

from .coloured import (
    OTHERS,
    THREE,
    WITH_OTHERS,
    ask,
    colours,
    inspector,
    point_at,
    show_tokens,
    words,
)
from .conftest import Script, Visitor
from .records import alternative, ended, said, started, token, tokens

Scripted = tuple[Visitor, Script]
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "${alert(1)}{{value}}",
    "</script><script>alert(1)</script>",
    "\u202eright to left",
]


# ---- one token


def test_pointing_at_a_token_shows_its_details(scripted: Scripted) -> None:
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


def test_an_alternative_is_continued_and_undo_restores_the_old_text(
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
    expect(person.prompt).to_have_value("P one 2 4")  # the chosen alternative is kept


def test_the_text_is_kept_if_an_alternative_is_refused(scripted: Scripted) -> None:
    person, script = scripted
    show_tokens(person)
    ask(person, script, [[started()], WITH_OTHERS, [ended()]])
    script.send([[{"event": "refused", "kind": "queue_full", "message": "Too many."}]])
    point_at(person, 5)
    inspector(person).get_by_role("button", name="␣2").click()
    expect(person.notice).to_contain_text("Too many.")
    assert person.text == person.shown == "one two three"


def test_tokens_are_inspected_and_replaced_by_keyboard(scripted: Scripted) -> None:
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
    expect(inspector(person)).to_contain_text("a sign for the model")
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


def test_typed_text_is_scored_coloured_and_measured(scripted: Scripted) -> None:
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
    expect(measures).to_have_text(
        "1 token · 7.213 bits a token · perplexity 148 · 1.202 bits per byte"
    )
    assert colours(person) == {"5": [" words"]}
    person.write("!")
    expect(measures).to_have_text("")
    assert colours(person) == {"5": [" words"]}
    script.score({"message": "The text is <b>too long</b>."})
    person.button("Score the whole text").click()
    expect(measures).to_have_text("The text is <b>too long</b>.")


def test_a_score_that_waits_can_be_stopped(scripted: Scripted) -> None:
    person, script = scripted
    person.write("My words")
    show_tokens(person)
    score, stop = (person.button(name) for name in ("Score the whole text", "Stop scoring"))
    measures = person.page.locator(".measures")
    script.score({"waits": True, "message": "Stopped."})
    for end in (stop, person.button("Tokens")):
        score.click()
        expect(measures).to_contain_text("Reading the text")
        with person.page.expect_request(lambda asked: '"stop"' in (asked.post_data or "")):
            end.click()
        expect(stop).to_be_hidden()
    show_tokens(person)
    expect(measures).to_have_text("")
    script.score({"message": "The text is too long."})
    score.click()
    expect(measures).to_have_text("The text is too long.")


def test_a_place_in_the_plot_leads_to_its_token(scripted: Scripted) -> None:
    person, script = scripted
    show_tokens(person)
    ask(person, script, [[started()], words(*[(" likely", 0.9)] * 40), [ended()]])
    plot = person.page.locator(".surprise svg")
    expect(person.page.locator(".measures")).to_contain_text("0.152 bits a token · perplexity 1.11")
    plot.click()
    expect(inspector(person)).to_contain_text("␣likely")
    assert 100 < person.prompt.evaluate("area => area.selectionStart") < 180


def test_the_real_model_colours_tokens_and_continues_from_an_alternative(visitor: Visitor) -> None:
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


def test_the_token_table_is_saved_as_csv_without_formulas(
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
