"""Words that are typed while the model writes: kept, and inserted when the request is over."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import expect

from .conftest import Script, Visitor
from .records import ended, said, started

Scripted = tuple[Visitor, Script]


def write_and_type_ahead(person: Visitor, script: Script, typed: str, **options: Any) -> None:
    """Generate after "P" without an end, and type these words meanwhile."""
    person.write("P")
    script.send([[started()], [said(" words")]], **options)
    person.page.keyboard.press("Control+Enter")
    expect(person.model_words).to_have_text(" words")
    person.page.keyboard.type(typed)


def reconnect(person: Visitor) -> None:
    """Report a ready server to the page, which then makes a lost request again."""
    expect(person.page.locator(".editor[data-ready]")).to_be_visible()
    person.page.evaluate("gptj.emit('status', {state: 'ready', texts: {}, context_length: 99})")


def test_text_typed_during_a_generation_is_inserted_after_it(scripted: Scripted) -> None:
    person, script = scripted
    write_and_type_ahead(person, script, " mine,, ")
    person.page.keyboard.press("Backspace")
    person.page.keyboard.press("Backspace")
    expect(person.status_line).to_contain_text("Put in when the model has ended: mine,")
    assert person.text == "P words"
    person.page.keyboard.press("Escape")
    expect(person.prompt).to_have_value("P words mine,")
    assert person.text == person.shown
    person.button("Undo").click()
    expect(person.prompt).to_have_value("P words")
    script.send([[started()], [said("!")], [ended()]])
    person.generate()
    assert person.text == "P words!"


def test_typed_words_follow_the_text_that_a_reload_interrupted(scripted: Scripted) -> None:
    person, script = scripted
    write_and_type_ahead(person, script, " mine")
    person.page.reload()
    expect(person.status_line).to_contain_text("Put in when the model has ended: mine")
    expect(person.prompt).to_be_visible()
    person.prompt.focus()
    person.page.keyboard.type(" too")  # before the request is made again
    assert person.text == "P words"
    script.send([[started()], [said(" words and more")], [ended()]])
    reconnect(person)
    expect(person.prompt).to_have_value("P words and more mine too")
    person.page.reload()
    reconnect(person)
    expect(person.prompt).to_have_value("P words and more mine too")
    assert len(script.asked) == 2


def test_typed_words_are_inserted_before_the_text_after_the_caret(scripted: Scripted) -> None:
    person, script = scripted
    person.write("P end.")
    person.prompt.evaluate("area => area.setSelectionRange(1, 1)")
    script.send([[started()], [said(" words")]])
    person.page.keyboard.press("Alt+Enter")
    expect(person.model_words).to_have_text(" words")
    person.page.keyboard.type(" mine")
    person.page.reload()
    script.send([[started()], [said(" words")], [ended()]])
    reconnect(person)
    expect(person.prompt).to_have_value("P words mine end.")


def test_typed_words_are_inserted_after_a_reload_that_followed_a_stop(scripted: Scripted) -> None:
    person, script = scripted
    write_and_type_ahead(person, script, " mine", falls_silent=True)
    person.page.keyboard.press("Escape")  # never answered
    person.page.reload()
    reconnect(person)
    expect(person.prompt).to_have_value("P words mine")


def test_typed_words_wait_until_a_lost_request_was_made_again(scripted: Scripted) -> None:
    person, script = scripted
    person.page.clock.install()
    write_and_type_ahead(person, script, " mine", falls_silent=True)
    person.page.clock.run_for(20_000)
    expect(person.notice).to_contain_text("goes on when the connection is back")
    person.page.keyboard.type(" too")
    assert person.text == "P words"
    expect(person.notice).to_be_visible()
    expect(person.status_line).to_contain_text("Put in when the model has ended: mine too")
    script.send([[started()], [said(" words and more")], [ended()]])
    reconnect(person)
    expect(person.prompt).to_have_value("P words and more mine too")
    expect(person.notice).to_be_hidden()


def test_typed_words_are_inserted_when_a_changed_text_ends_a_lost_request(
    scripted: Scripted,
) -> None:
    person, script = scripted
    person.page.clock.install()
    write_and_type_ahead(person, script, " mine", falls_silent=True)
    person.page.clock.run_for(20_000)
    person.button("Undo").click()
    expect(person.prompt).to_have_value("P")
    reconnect(person)
    expect(person.prompt).to_have_value("P mine")
    expect(person.notice).to_contain_text("A generation was interrupted and did not go on")


def test_the_message_of_a_failed_request_stays_when_typed_words_are_inserted(
    scripted: Scripted,
) -> None:
    person, script = scripted
    write_and_type_ahead(person, script, " mine")
    person.page.reload()
    script.send([[{"event": "refused", "code": "refused.too_long", "message": ""}]])
    reconnect(person)
    expect(person.prompt).to_have_value("P words mine")
    expect(person.notice).to_contain_text("Shorten the text")
    expect(person.button("Leave out the beginning and go on")).to_be_visible()
