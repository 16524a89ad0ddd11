"""Writing inside a text: at the caret, before the text that follows, and filling in."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import expect

from .conftest import Script, Visitor
from .records import ended, said, started
from .test_accessibility import audit

BEFORE, AFTER = "The old king", " went home and slept."


def put_caret(person: Visitor, at: int) -> None:
    person.prompt.evaluate("(area, at) => { area.focus(); area.setSelectionRange(at, at); }", at)


def write_around_caret(person: Visitor) -> None:
    """Write a text and put the caret between BEFORE and AFTER."""
    person.write(BEFORE + AFTER)
    put_caret(person, len(BEFORE))


def test_text_is_generated_at_the_caret_and_recorded_in_the_tree(
    scripted: tuple[Visitor, Script],
) -> None:
    person, script = scripted
    person.write(BEFORE + AFTER)
    here = person.button("Write at the caret")
    expect(here).to_be_hidden()
    put_caret(person, len(BEFORE) + 1)  # behind the space
    script.send([[said(" of", tokens=1, total=1)], [said(" Spain,", tokens=2, total=2)], [ended()]])
    here.click()
    person.finished()
    assert script.asked[-1]["prompt"] == BEFORE
    assert person.text == f"{BEFORE} of Spain,{AFTER}"
    assert person.shown.rstrip("\n") == person.text
    expect(person.model_words).to_have_text(" of Spain,")
    assert person.prompt.evaluate("area => area.selectionEnd") == len(BEFORE) + len(" of Spain,")
    tree = person.page.evaluate(
        "gptj.sessions.current.tree.textOf(gptj.sessions.current.tree.current)"
    )
    assert tree == person.text
    person.page.keyboard.press("Control+z")
    assert person.text == BEFORE + AFTER
    put_caret(person, len(BEFORE))
    script.send([[said(" and", tokens=1, total=1)], [ended()]])
    person.page.keyboard.press("Alt+Enter")
    person.finished()
    assert person.text == f"{BEFORE} and{AFTER}"


def test_fill_in_inserts_a_draft_and_offers_the_next_best_drafts(visitor: Visitor) -> None:
    person = visitor
    person.set_number("Length", "6")
    person.write("Once upon a time there was a king." + AFTER)
    put_caret(person, len("Once upon a time there was a king"))
    fill = person.button("Fill in")
    expect(fill).to_have_attribute("title", re.compile("re-ranking"))
    assert audit(person.page) == []
    fill.click()
    person.finished()
    words = person.model_words.inner_text()
    assert words
    assert person.text == f"Once upon a time there was a king{words}.{AFTER}"
    expect(person.status_line).to_contain_text("Ranked 1 of 8 drafts")
    expect(person.page.locator(".results .notes")).to_contain_text("Re-ranking, not infilling")
    cards = person.page.locator(".results .card")
    expect(cards).to_have_count(3)
    second = cards.nth(1)
    text = second.locator(".card-text").inner_text()
    second.get_by_role("button", name="Take this one").click()
    expect(person.model_words).to_contain_text(text.strip())
    assert person.text.endswith(f".{AFTER}")


def test_equal_drafts_share_their_place(visitor: Visitor) -> None:
    person = visitor
    person.set_number("Length", "6")
    person.set_number("Temperature", "0")
    write_around_caret(person)
    person.button("Fill in").click()
    person.finished()
    expect(person.status_line).to_contain_text("Ranked 1 of 8 drafts")
    expect(person.page.locator(".results .card")).to_have_count(3)


def test_the_text_after_the_caret_is_kept_for_every_ending(
    scripted: tuple[Visitor, Script],
) -> None:
    person, script = scripted
    drafts = [" went out. He met", " saw it. Then", " slept. Or"]
    several: list[dict[str, Any]] = [started(n=3, candidates=8)]
    for index, draft in enumerate(drafts):
        several.append(said(draft, index=index, tokens=8, total=8))
        several.append(ended(index=index, total=24, last=index == 2))
    person.write(BEFORE + AFTER)
    person.page.evaluate("gptj.state.controls.max_new_tokens = 8")
    for ending in ("", "within", "beyond"):
        person.page.evaluate(
            "ending => localStorage.setItem('gptj-playground/ending', ending)", ending
        )
        for name in ("Write at the caret", "Fill in", "Generate"):
            before, after = (BEFORE + AFTER, "") if name == "Generate" else (BEFORE, AFTER)
            put_caret(person, len(before))
            script.send([several])
            person.button(name).click()
            person.finished()
            whole = not ending or name == "Fill in"  # its drafts are ranked by their whole text
            words = drafts[0] if whole else " went out."
            assert person.text == before + words + after, (ending, name)
            assert person.shown.rstrip("\n") == person.text
            person.page.keyboard.press("Control+z")
            assert person.text == BEFORE + AFTER
            assert person.shown.rstrip("\n") == person.text


def test_a_draft_that_was_interrupted_is_filled_in_again(scripted: tuple[Visitor, Script]) -> None:
    person, script = scripted
    write_around_caret(person)
    script.send([[{"event": "waiting", "ahead": 3}]])
    person.button("Fill in").click()
    expect(person.status_line).to_contain_text("In line")
    person.page.reload()
    expect(person.page.locator(".editor[data-ready]")).to_be_visible()
    person.page.evaluate("gptj.emit('status', {state: 'ready', texts: {}, context_length: 99})")
    expect(person.status_line).to_contain_text("In line")
    first, again = script.asked
    assert first["fill"] == again["fill"] == AFTER


def test_retry_rewrites_the_words_that_were_written_at_the_caret_and_nothing_else(
    scripted: tuple[Visitor, Script],
) -> None:
    person, script = scripted
    person.write("Once")
    script.say(" a king slept.")
    person.generate()
    put_caret(person, len("Once a king"))
    script.say(" of Spain")
    person.button("Write at the caret").click()
    expect(person.prompt).to_have_value("Once a king of Spain slept.")
    person.finished()
    last = {"prompt": "Once a king", "continuation": " of Spain"}
    assert person.page.evaluate("gptj.state.lastRun()") == last
    script.say(" of France")
    person.button("Retry").click()
    expect(person.prompt).to_have_value("Once a king of France slept.")
    person.finished()
    assert person.shown.rstrip("\n") == person.text
    assert script.asked[-1]["prompt"] == "Once a king"
    assert script.asked[-1]["retry"] is True
    kinds = person.page.evaluate("gptj.sessions.current.tree.toList().map(({ kind }) => kind)")
    assert kinds[-1] == "retry"
    for text in ("Once a king of Spain slept.", "Once a king slept.", "Once"):
        person.button("Undo").click()
        expect(person.prompt).to_have_value(text)


def test_retry_keeps_a_persons_text_that_follows(scripted: tuple[Visitor, Script]) -> None:
    person, script = scripted
    person.write(BEFORE)
    script.say(" sang,")
    person.generate()
    person.write(AFTER)
    expect(person.button("Generate")).to_be_visible()  # it does not continue the model's words
    script.send([[{"event": "refused", "kind": "queue_full", "message": "Too many."}]])
    person.button("Retry").click()
    expect(person.notice).to_contain_text("Too many.")
    assert person.text == f"{BEFORE} sang,{AFTER}"
    script.say(" danced,")
    person.button("Retry").click()
    expect(person.prompt).to_have_value(f"{BEFORE} danced,{AFTER}")
    person.finished()
    assert script.asked[-1]["prompt"] == BEFORE
    assert "fill" not in script.asked[-1]


def test_retry_fills_in_again(scripted: tuple[Visitor, Script]) -> None:
    person, script = scripted
    write_around_caret(person)
    for name, words in (("Fill in", " sang,"), ("Retry", " danced,")):
        script.say(words)
        person.button(name).click()
        expect(person.prompt).to_have_value(BEFORE + words + AFTER)
        person.finished()
        assert script.asked[-1]["prompt"] == BEFORE
        assert script.asked[-1]["fill"] == AFTER


def test_a_request_that_goes_on_after_a_reload_is_one_run_in_text_and_tree(
    scripted: tuple[Visitor, Script],
) -> None:
    person, script = scripted
    person.write("P")
    script.send([[said(" words")]])  # never ends
    person.page.keyboard.press("Control+Enter")
    expect(person.model_words).to_have_text(" words")
    person.page.reload()
    expect(person.page.locator(".editor[data-ready]")).to_be_visible()
    script.say(" words and more")
    person.page.evaluate("gptj.emit('status', {state: 'ready', texts: {}, context_length: 99})")
    expect(person.prompt).to_have_value("P words and more")
    person.finished()
    tree = person.page.evaluate(
        "(({ tree }) => tree.toList().map(({ id }) => tree.textOf(id)))(gptj.sessions.current)"
    )
    assert tree == ["P", "P words", "P words and more"]
    script.say(" again")
    person.button("Retry").click()
    expect(person.prompt).to_have_value("P again")
    person.finished()
    assert script.asked[-1]["prompt"] == "P"


TOO_LONG = [[{"event": "refused", "code": "refused.too_long", "message": ""}]]
GO_ON = "Leave out the beginning and go on"


@pytest.mark.parametrize("name", ["Write at the caret", "Fill in"])
def test_without_the_beginning_of_the_text_the_words_arrive_at_the_caret_too(
    scripted: tuple[Visitor, Script], name: str
) -> None:
    person, script = scripted
    write_around_caret(person)
    script.send(TOO_LONG)
    person.button(name).click()
    expect(person.notice).to_contain_text("Shorten the text")
    assert person.text == BEFORE + AFTER
    script.say(" of Spain")
    person.button(GO_ON).click()
    expect(person.prompt).to_have_value(f"{BEFORE} of Spain{AFTER}")
    person.finished()
    first, again = script.asked
    assert again["prompt"] == first["prompt"] == BEFORE
    assert again.get("fill") == first.get("fill")
    assert again["controls"] == first["controls"] | {"truncate": "left"}


def test_words_typed_while_a_request_at_the_caret_is_refused_come_before_the_models(
    scripted: tuple[Visitor, Script],
) -> None:
    person, script = scripted
    write_around_caret(person)
    script.send([[{"event": "waiting", "ahead": 3}]])
    person.page.keyboard.press("Alt+Enter")
    expect(person.status_line).to_contain_text("In line")
    person.page.keyboard.type(" of Spain")
    person.page.reload()
    expect(person.page.locator(".editor[data-ready]")).to_be_visible()
    script.send(TOO_LONG)
    person.page.evaluate("gptj.emit('status', {state: 'ready', texts: {}, context_length: 99})")
    expect(person.button(GO_ON)).to_be_visible()
    expect(person.prompt).to_have_value(f"{BEFORE} of Spain{AFTER}")
    script.say(" and France")
    person.button(GO_ON).click()
    expect(person.prompt).to_have_value(f"{BEFORE} of Spain and France{AFTER}")
    assert script.asked[-1]["prompt"] == f"{BEFORE} of Spain"


def test_a_retry_inside_the_text_is_repeated_without_the_beginning(
    scripted: tuple[Visitor, Script],
) -> None:
    person, script = scripted
    write_around_caret(person)
    script.say(" of Spain")
    person.button("Write at the caret").click()
    expect(person.prompt).to_have_value(f"{BEFORE} of Spain{AFTER}")
    script.send(TOO_LONG)
    person.button("Retry").click()
    expect(person.notice).to_contain_text("Shorten the text")
    assert person.text == f"{BEFORE} of Spain{AFTER}"
    script.say(" of France")
    person.button(GO_ON).click()
    expect(person.prompt).to_have_value(f"{BEFORE} of France{AFTER}")
    assert script.asked[-1]["retry"] is True


def test_a_replay_is_repeated_with_its_prompt_and_controls(
    scripted: tuple[Visitor, Script],
) -> None:
    person, script = scripted
    person.write(BEFORE + AFTER)
    script.send(TOO_LONG)
    person.page.evaluate(
        "prompt => gptj.emit('replay', { prompt, controls: { temperature: 0.5 } })", BEFORE
    )
    expect(person.notice).to_contain_text("Shorten the text")
    script.say(" of Spain")
    person.button(GO_ON).click()
    expect(person.prompt).to_have_value(f"{BEFORE} of Spain")
    assert script.asked[-1]["prompt"] == BEFORE
    assert script.asked[-1]["controls"] == {"temperature": 0.5, "truncate": "left"}


def test_words_at_the_caret_that_fill_the_context_are_gone_on_with_there(
    scripted: tuple[Visitor, Script],
) -> None:
    person, script = scripted
    write_around_caret(person)
    script.say(" of Spain", code="end.context")
    person.button("Write at the caret").click()
    remark = person.page.locator(".remark.aside")
    expect(remark).to_be_visible()
    assert person.text == f"{BEFORE} of Spain{AFTER}"
    script.say(" and France")
    remark.get_by_role("button", name=GO_ON).click()
    expect(person.prompt).to_have_value(f"{BEFORE} of Spain and France{AFTER}")
    assert script.asked[-1]["prompt"] == f"{BEFORE} of Spain"
