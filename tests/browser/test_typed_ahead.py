"""Words that are typed while the model writes: kept, and inserted when the request is over."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import expect

from .conftest import Script, Visitor
from .records import ended, said, started
from .writers import write_before_the_end

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
    expect(person.prompt).to_have_value("P words mine")
    person.prompt.focus()
    person.page.keyboard.type(" too")  # before the request is made again
    script.send([[started()], [said(" words and more")], [ended()]])
    reconnect(person)
    expect(person.prompt).to_have_value("P words and more mine too")
    person.finished()
    person.page.reload()
    reconnect(person)
    expect(person.prompt).to_have_value("P words and more mine too")
    assert len(script.asked) == 2


def test_typed_words_are_inserted_before_the_text_after_the_caret(scripted: Scripted) -> None:
    person, script = scripted
    write_before_the_end(person, script)
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


def test_a_lost_request_goes_on_before_the_words_that_were_typed(scripted: Scripted) -> None:
    person, script = scripted
    person.page.clock.install()
    write_and_type_ahead(person, script, " mine", falls_silent=True)
    person.page.clock.run_for(20_000)
    expect(person.notice).to_contain_text("goes on when the connection is back")
    assert person.text == "P words mine"
    person.page.keyboard.type(" too")
    assert person.text == "P words mine too"
    script.send([[started()], [said(" words and more")], [ended()]])
    reconnect(person)
    expect(person.prompt).to_have_value("P words and more mine too")
    expect(person.notice).to_be_hidden()


def test_typed_words_stay_when_a_changed_text_ends_a_lost_request(
    scripted: Scripted,
) -> None:
    person, script = scripted
    person.page.clock.install()
    write_and_type_ahead(person, script, " mine", falls_silent=True)
    person.page.clock.run_for(20_000)
    expect(person.prompt).to_have_value("P words mine")
    person.prompt.evaluate("area => area.setSelectionRange(0, 0)")
    person.page.keyboard.type("A ")
    reconnect(person)
    expect(person.prompt).to_have_value("A P words mine")
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


def test_words_typed_without_a_connection_are_in_the_saved_text(scripted: Scripted) -> None:
    person, script = scripted
    person.page.clock.install()
    write_and_type_ahead(person, script, " ", falls_silent=True)
    person.page.clock.run_for(20_000)
    expect(person.prompt).to_have_value("P words ")
    person.page.keyboard.type("A whole paragraph that is typed in a train.")
    text = "P words A whole paragraph that is typed in a train."
    expect(person.prompt).to_have_value(text)
    person.page.evaluate("gptj.sessions.save()")
    second = person.context.new_page()
    second.goto(person.url)
    expect(second.get_by_label("Prompt", exact=True)).to_have_value(text)
    second.close()


def test_words_typed_in_a_request_made_again_follow_those_typed_before(scripted: Scripted) -> None:
    person, script = scripted
    write_before_the_end(person, script)
    person.page.keyboard.type(" mine")
    for text in (" words mine", " words and more mine too"):
        person.page.reload()
        expect(person.prompt).to_have_value(f"P{text} end.")
        script.send([[started()], [said(" words and more")]])
        reconnect(person)
        expect(person.prompt).to_have_value(re.compile("^P words and more mine.* end\\.$"))
        if text == " words mine":
            person.page.keyboard.type(" too")
    person.button("Stop").click()
    person.finished()
    assert person.text == "P words and more mine too end."


def test_a_request_made_again_reads_the_memory_that_it_read_before(scripted: Scripted) -> None:
    person, script = scripted
    person.write("P")
    memory = {"text": "Old", "note": "", "lines": 3}
    person.page.evaluate("memory => gptj.emit('memory', memory)", memory)
    script.send([[started()], [said(" words")]])
    person.page.keyboard.press("Control+Enter")
    expect(person.model_words).to_have_text(" words")
    person.page.evaluate("memory => gptj.emit('memory', memory)", {**memory, "text": "New"})
    person.page.reload()
    script.send([[started()], [said(" words")], [ended()]])
    reconnect(person)
    person.finished()
    script.send([[started()], [said(" more")], [ended()]])
    person.generate()
    assert [asked["memory"]["text"] for asked in script.asked] == ["Old", "Old", "New"]
