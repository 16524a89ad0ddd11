"""The editor by itself: who wrote what, steps back and forth, and text that looks like markup."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import expect

from .conftest import Script, Visitor
from .records import ended, said

Scripted = tuple[Visitor, Script]


def authors(person: Visitor) -> list[tuple[str, str]]:
    """The pieces on the backdrop: who wrote it, and what."""
    found = person.page.locator(".ink").evaluate(
        "ink => Array.from(ink.children, s => [s.className.replace('by-', ''), s.textContent])"
    )
    return [(author, text) for author, text in found]


def answer(person: Visitor, script: Script, *texts: str) -> None:
    script.say(*texts)
    person.generate()


def test_generated_text_has_another_colour_than_typed_text(scripted: Scripted) -> None:
    person, script = scripted
    person.write("One ")
    answer(person, script, "two ", "three")
    person.write(" four")
    assert authors(person) == [("person", "One "), ("model", "two three"), ("person", " four")]
    assert person.text == person.shown == "One two three four"
    colours = {
        person.page.locator(f".by-{author}").first.evaluate("s => getComputedStyle(s).color")
        for author in ("person", "model")
    }
    assert len(colours) == 2


def test_text_typed_within_generated_text_belongs_to_the_person(scripted: Scripted) -> None:
    person, script = scripted
    answer(person, script, "aaaa")
    person.prompt.focus()
    person.page.keyboard.press("Control+Home")
    person.page.keyboard.press("ArrowRight")
    person.page.keyboard.press("ArrowRight")
    person.page.keyboard.type("a")
    assert authors(person) == [("model", "aa"), ("person", "a"), ("model", "aa")]
    person.page.keyboard.press("Backspace")
    assert authors(person) == [("model", "aaaa")]


def test_backdrop_lies_exactly_under_the_letters(scripted: Scripted) -> None:
    person, script = scripted
    answer(person, script, "word " * 400, "\n\n\tTab, 漢字 and emoji 🦊\n" * 30, "end\n\n")
    heights = person.page.evaluate(
        "[document.querySelector('.ink').offsetHeight,"
        " document.querySelector('.page textarea').scrollHeight]"
    )
    assert heights[0] == heights[1]
    assert person.text == person.shown


LONG_PIECES = [
    "A line of some words.\n" * 150,  # of the person
    "the rest of a line\n\n" + "فتاة صغيرة تعيش في الغابة.\n\tTab, 漢字 and emoji 🦊\n" * 120 + "a",
    " line " * 500 + "\n" * 2500,
]


def test_a_long_text_is_laid_out_in_blocks_of_whole_lines(scripted: Scripted) -> None:
    """The browser lays out the whole block that contains a change, so no block is long."""
    person, script = scripted
    person.prompt.fill(LONG_PIECES[0])
    answer(person, script, *LONG_PIECES[1:])
    person.write("b\n")
    assert person.text == person.shown == "".join(LONG_PIECES) + "b\n"
    assert "".join(text for author, text in authors(person) if author.startswith("model")) == (
        "".join(LONG_PIECES[1:])
    )
    blocks = person.page.locator(".ink").evaluate(
        """ink => {
          const blocks = [""]; // what the browser lays out together
          for (const span of ink.children) {
            if (getComputedStyle(span).display === "block") blocks.push(span.textContent, "");
            else blocks[blocks.length - 1] += span.textContent;
          }
          return blocks.filter(Boolean);
        }"""
    )
    longest_line = max(map(len, "".join(LONG_PIECES).split("\n")))
    assert max(map(len, blocks)) <= 2 * 2000 + longest_line
    assert all(block.endswith("\n") for block in blocks)
    places = """() => {
      const ink = document.querySelector(".ink");
      const nodes = document.createTreeWalker(ink, NodeFilter.SHOW_TEXT);
      const found = [ink.offsetHeight];
      while (nodes.nextNode()) {
        const range = document.createRange();
        range.selectNode(nodes.currentNode);
        const { left, top } = range.getClientRects()[0];
        found.push([left, top]);
      }
      return found;
    }"""
    in_blocks = person.page.evaluate(places)
    assert in_blocks[0] == person.page.evaluate(
        "document.querySelector('.page textarea').scrollHeight"
    )
    person.page.add_style_tag(content=".gradio-container .ink .lines { display: inline; }")
    assert person.page.evaluate(places) == in_blocks


def test_undo_and_redo_walk_through_typing_and_generation(scripted: Scripted) -> None:
    person, script = scripted
    person.write("Hello world")
    answer(person, script, " and", " all")
    states = ["Hello world and all", "Hello world", "Hello ", ""]
    for state in states[1:]:
        person.page.keyboard.press("Control+z")
        expect(person.prompt).to_have_value(state)
    expect(person.button("Undo")).to_be_disabled()
    for state in reversed(states[:-1]):
        person.page.keyboard.press("Control+Shift+z")
        expect(person.prompt).to_have_value(state)
    expect(person.button("Redo")).to_be_disabled()
    assert authors(person) == [("person", "Hello world"), ("model", " and all")]
    person.button("Undo").click()
    expect(person.prompt).to_have_value("Hello world")
    assert person.shown == "Hello world"


def test_undo_restores_a_text_that_was_undone_and_then_overwritten(scripted: Scripted) -> None:
    person, script = scripted
    answer(person, script, "precious")
    person.button("Undo").click()
    person.write("x")
    seen = set()
    while person.button("Undo").is_enabled():
        person.button("Undo").click()
        seen.add(person.text)
    assert "precious" in seen


def test_text_and_history_survive_a_reload(scripted: Scripted) -> None:
    person, script = scripted
    person.write("Kept ")
    answer(person, script, "words")
    person.write("!")
    person.page.reload()
    expect(person.prompt).to_have_value("Kept words!")
    assert authors(person) == [("person", "Kept "), ("model", "words"), ("person", "!")]
    for state in ("Kept words", "Kept ", ""):
        person.button("Undo").click()
        expect(person.prompt).to_have_value(state)
    person.page.reload()
    person.button("Redo").click()
    expect(person.prompt).to_have_value("Kept ")


def test_two_tabs_do_not_write_over_each_other(scripted: Scripted) -> None:
    person, _ = scripted
    person.write("first tab")
    second = person.context.new_page()
    second.goto(person.url)
    second.get_by_label("Prompt", exact=True).fill("second tab")
    second.reload()
    expect(second.get_by_label("Prompt", exact=True)).to_have_value("second tab")
    person.page.reload()
    expect(person.prompt).to_have_value("first tab")


def test_the_editor_works_with_full_or_damaged_storage(scripted: Scripted) -> None:
    person, script = scripted
    person.page.evaluate(
        "() => { for (const key of Object.keys(localStorage)) localStorage[key] = '{\"version\":1';"
        " try { localStorage.filler = 'x'.repeat(5_242_800) } catch {} }"
    )
    person.page.reload()
    person.write("Still here")
    answer(person, script, " and writing")
    expect(person.prompt).to_have_value("Still here and writing")


@pytest.mark.parametrize("retries", [1, 2])
def test_retry_sends_the_same_prompt_and_undo_restores_the_old_completion(
    scripted: Scripted, retries: int
) -> None:
    person, script = scripted
    person.write("P")
    answer(person, script, "-0")
    for number in range(1, retries + 1):
        script.say(f"-{number}")
        person.button("Retry").click()
        expect(person.prompt).to_have_value(f"P-{number}")
        person.finished()
    assert [asked["prompt"] for asked in script.asked] == ["P"] * (retries + 1)
    assert [asked["retry"] for asked in script.asked] == [False] + [True] * retries
    for number in reversed(range(retries)):
        person.button("Undo").click()
        expect(person.prompt).to_have_value(f"P-{number}")


def test_text_generated_before_a_failure_is_kept(scripted: Scripted) -> None:
    person, script = scripted
    person.write("Begin")
    script.say(" half", reason="error", message="The model <b>stopped</b>.")
    person.page.keyboard.press("Control+Enter")
    expect(person.notice).to_contain_text("The model <b>stopped</b>.")
    assert person.text == "Begin half"
    person.button("Dismiss message").click()
    expect(person.notice).to_be_hidden()


def test_a_failed_retry_restores_the_old_completion(scripted: Scripted) -> None:
    person, script = scripted
    person.write("P")
    answer(person, script, " old words")
    script.send([[{"event": "refused", "kind": "queue_full", "message": "Too many."}]])
    person.button("Retry").click()
    expect(person.notice).to_contain_text("Too many.")
    assert person.text == person.shown == "P old words"


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</textarea></script><script>alert(1)</script>",
    "${alert(1)} {{value}} {{{value}}} `${alert(1)}`",
    "\u202eright to left\u202c &lt;b&gt; &#x27;",
    '{"event": "finished"}\n{"event": "text", "text": "forged"}\n',
]


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_generated_text_is_shown_as_text(scripted: Scripted, words: str) -> None:
    person, script = scripted
    person.write("x")
    answer(person, script, words[:7], words[7:])
    assert person.text == person.shown == "x" + words
    assert authors(person) == [("person", "x"), ("model", words)]
    person.page.reload()
    expect(person.prompt).to_have_value("x" + words)
    assert person.shown == "x" + words
    assert person.page.locator(".ink :not(span)").count() == 0
    assert person.dialogs == []


def test_pasted_line_ends_and_markup_are_text(scripted: Scripted) -> None:
    person, _ = scripted
    person.prompt.focus()
    person.page.keyboard.insert_text("a\n<b>bold</b>\n\n")
    assert person.text == person.shown == "a\n<b>bold</b>\n\n"


def test_text_composed_with_an_input_method_is_one_undo_step(scripted: Scripted) -> None:
    person, _ = scripted
    person.write("東")
    session = person.context.new_cdp_session(person.page)
    for composing in ("k", "きょ", "きょう"):
        session.send(
            "Input.imeSetComposition",
            {"text": composing, "selectionStart": len(composing), "selectionEnd": len(composing)},
        )
        assert person.shown == "東" + composing
    session.send("Input.insertText", {"text": "京"})
    assert person.text == person.shown == "東京"
    person.page.keyboard.press("Control+z")
    expect(person.prompt).to_have_value("東")


def test_a_text_of_50000_characters_can_be_edited(scripted: Scripted) -> None:
    person, script = scripted
    script.say(
        *["A line of some twenty words, which is about as long as a line of prose is.\n" * 70] * 10
    )
    person.page.keyboard.press("Control+Enter")
    person.finished()
    assert len(person.text) > 50_000
    person.write("typed")
    assert person.shown.endswith("typed")
    assert person.text == person.shown


def test_the_view_stays_where_the_person_scrolls_during_a_generation(scripted: Scripted) -> None:
    person, script = scripted
    sheet = person.page.locator(".sheet")
    answer(person, script, "line\n" * 200)
    person.wait_for_end_of_text()
    answer(person, script, "more\n" * 20, "and more\n" * 20)
    person.wait_for_end_of_text()
    sheet.evaluate(
        """sheet => new MutationObserver((_, observer) => {
          observer.disconnect();
          sheet.scrollTop = 0; // as soon as the first words have come
        }).observe(sheet.querySelector('.ink'), {subtree: true, childList: true})"""
    )
    answer(person, script, *["again\n" * 20] * 5)
    assert sheet.evaluate("s => s.scrollTop") == 0


def test_records_of_an_interrupted_request_are_not_added_to_the_next_one(
    scripted: Scripted,
) -> None:
    person, script = scripted
    script.send([[{"event": "waiting", "ahead": 3}], [said("stray")]])
    person.page.keyboard.press("Control+Enter")
    expect(person.model_words).to_have_text("stray")
    person.page.reload()
    expect(person.prompt).to_have_value("stray")
    answer(person, script, "!")
    expect(person.prompt).to_have_value("stray!")


def test_the_queue_position_is_shown(scripted: Scripted) -> None:
    person, script = scripted
    script.send([[{"event": "waiting", "ahead": 3}]])
    person.page.keyboard.press("Control+Enter")
    expect(person.status_line).to_contain_text("In line, 3 ahead of you")
    expect(person.button("Stop")).to_be_visible()
    expect(person.prompt).not_to_be_editable()


def test_silent_server_is_noticed_and_the_text_kept(scripted: Scripted) -> None:
    person, script = scripted
    person.page.clock.install()
    person.write("Mine")
    script.send([[said(" and its")]], falls_silent=True)
    person.page.keyboard.press("Control+Enter")
    expect(person.model_words).to_have_text(" and its")
    person.page.clock.run_for(20_000)
    expect(person.notice).to_contain_text("is lost")
    assert person.text == "Mine and its"
    expect(person.prompt).to_be_editable()


def test_a_request_goes_on_after_the_page_was_frozen(scripted: Scripted) -> None:
    person, script = scripted
    page = person.page
    page.clock.install()
    script.send([[said("Still")]])
    page.keyboard.press("Control+Enter")
    expect(person.model_words).to_have_text("Still")
    person.freeze()  # every due timer runs once before the received data is read
    expect(person.button("Stop")).to_be_visible()
    expect(person.notice).to_be_hidden()


def test_saved_text_is_json_with_every_step(scripted: Scripted) -> None:
    person, script = scripted
    person.write("a")
    answer(person, script, "b")
    find = "Object.keys(localStorage).find(key => key.startsWith('gptj-playground/text'))"
    saved = json.loads(person.page.evaluate(f"localStorage[{find}]"))
    assert saved["pieces"] == [["a", 0], ["b", 1]]
    assert [step["kind"] for step in saved["steps"]] == ["type", "generate"]
    assert re.fullmatch(r"\d+", str(saved["time"]))


def test_replacing_the_text_during_a_generation_is_refused_with_a_sentence(
    scripted: Scripted,
) -> None:
    person, script = scripted
    script.send([[{"event": "waiting", "ahead": 3}]])
    person.page.keyboard.press("Control+Enter")
    expect(person.button("Stop")).to_be_visible()
    person.page.evaluate("gptj.emit('text', 'Another')")
    expect(person.notice).to_contain_text("The model is writing")
    expect(person.prompt).to_have_value("")


def test_adding_the_label_of_the_next_turn_does_not_move_the_focus(scripted: Scripted) -> None:
    person, script = scripted
    page = person.page
    person.write("ANN: Hello.\nBEN:")
    page.evaluate(
        """gptj.sessions.current.scaffold =
          {text: 'ANN:', before: {}, values: {}, turns: ['\\nANN:', '\\nBEN:']}"""
    )
    page.evaluate("gptj.emit('memory', {text: 'x'})")
    page.locator(".memory summary").click()
    field = page.get_by_label("Memory: always read first")
    expect(field).to_be_visible()
    script.send([[{"event": "waiting", "ahead": 3}], [said(" Hi.")], [ended(reason="stop")]])
    page.keyboard.press("Control+Enter")
    field.focus()
    person.finished()
    expect(person.prompt).to_have_value("ANN: Hello.\nBEN: Hi.\nANN: ")
    expect(field).to_be_focused()
