"""The model reads the memory and the note; the page shows them, and keeps them in the session."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from .conftest import Script, Visitor
from .records import ended, said, started
from .test_accessibility import audit


def open_memory(person: Visitor) -> None:
    person.page.locator(".file-menu summary").click()
    person.page.get_by_role("button", name="Memory and note").click()


def test_memory_and_note_go_with_the_request_and_stay_with_the_session(
    scripted: tuple[Visitor, Script],
) -> None:
    person, script = scripted
    page = person.page
    person.write("One line.\nAnother line.\nThe king")
    open_memory(person)
    page.get_by_label("Memory: always read first").fill("The king is called Ann.")
    page.get_by_label("Note: read near the end").fill("She laughs.")
    page.get_by_label("The note stands").select_option("2")
    expect(page.locator(".memory-size")).to_have_text("36 tokens")  # the script counts characters
    page.get_by_role("button", name="Done", exact=True).first.click()
    expect(page.locator(".memory-text")).to_have_text("The king is called Ann.")
    mark = page.locator(".note-mark")
    expect(mark).to_have_text("She laughs.")
    lines = page.evaluate(
        "() => { const ink = document.querySelector('.ink').getBoundingClientRect();"
        " const top = document.querySelector('.note-mark').getBoundingClientRect().top;"
        " const style = getComputedStyle(document.querySelector('.ink'));"
        " return (top - ink.top - parseFloat(style.paddingTop)) / parseFloat(style.lineHeight); }"
    )
    assert 0.6 < lines < 1.4, lines  # above the second line
    script.send([[said(" sat", tokens=1, total=1)], [ended()]])
    page.keyboard.press("Control+Enter")
    person.finished()
    memory = {"text": "The king is called Ann.", "note": "She laughs.", "lines": 2}
    assert script.asked[-1]["memory"] == memory
    assert person.text == "One line.\nAnother line.\nThe king sat"
    page.wait_for_function("() => Object.values(localStorage).some((t) => t.includes('laughs'))")
    page.reload()
    expect(page.locator(".memory-text")).to_have_text("The king is called Ann.")
    page.evaluate("gptj.sessions.begin()")
    expect(page.locator(".memory")).to_be_hidden()


def test_the_model_reads_the_memory_and_its_tokens_are_counted(visitor: Visitor) -> None:
    page = visitor.page
    visitor.set_number("Length", "4")
    visitor.write("Once upon a time")
    count = page.locator(".status-line .count")
    expect(count).to_contain_text("4 of 1,024")
    open_memory(visitor)
    page.get_by_label("Memory: always read first").fill("There was a king.")
    expect(page.locator(".memory-size")).to_have_text("6 tokens")
    expect(count).to_contain_text("10 of 1,024")
    assert audit(page) == []
    page.keyboard.press("Escape")
    with page.expect_request(lambda request: "queue/join" in request.url) as asked:
        visitor.generate()
    assert "There was a king." in (asked.value.post_data or "")
    expect(count).to_contain_text("14 of 1,024")


@pytest.mark.parametrize("words", ["The king sat down and ", "جلس الملك على عرشه "])
@pytest.mark.parametrize("times", [0, 1, 3, 5])
def test_the_label_of_a_note_hides_no_letters(
    scripted: tuple[Visitor, Script], words: str, times: int
) -> None:
    person, _ = scripted
    page = person.page
    person.prompt.fill(f"First line.\n{words * times}\nThe king\nlaughed.")
    open_memory(person)
    page.get_by_label("Note: read near the end").fill("She laughs. " * 20)
    page.get_by_label("The note stands").select_option("2")
    page.get_by_role("button", name="Done", exact=True).first.click()
    expect(page.locator(".note-mark")).to_be_visible()
    hidden = page.evaluate(
        """() => {
          const label = document.querySelector(".note-mark span").getBoundingClientRect();
          const ink = document.querySelector(".ink");
          const texts = document.createTreeWalker(ink, NodeFilter.SHOW_TEXT);
          const found = [];
          for (const range = new Range(); texts.nextNode(); ) {
            const { data } = texts.currentNode;
            for (let at = 0; at < data.length; at++) {
              range.setStart(texts.currentNode, at);
              range.setEnd(texts.currentNode, at + 1);
              const { left, right, top, bottom, width } = range.getBoundingClientRect();
              const isBeside = right <= label.left || left >= label.right;
              const isAbove = top + 1 >= label.bottom || bottom - 1 <= label.top;
              if (width && data[at].trim() && !isBeside && !isAbove)
                found.push(data[at]);
            }
          }
          return found.join("");
        }"""
    )
    assert hidden == ""
    if times <= 1:
        expect(page.locator(".note-mark span")).to_be_in_viewport()


def test_escape_in_the_panel_drops_a_candidate_or_closes_it_and_the_model_goes_on(
    scripted: tuple[Visitor, Script],
) -> None:
    person, script = scripted
    page = person.page
    person.write("P")
    script.send([[started()], [said(" words")]])
    page.keyboard.press("Control+Enter")
    expect(person.model_words).to_have_text(" words")
    page.evaluate("""
        window.bubbled = 0;
        document.addEventListener('keydown', ({ key }) => { window.bubbled += key === 'Escape'; });
    """)
    open_memory(person)
    field = page.get_by_label("Memory: always read first")
    field.evaluate(
        "field => field.dispatchEvent(new KeyboardEvent('keydown',"
        " { key: 'Escape', isComposing: true, bubbles: true }))"
    )
    expect(field).to_be_visible()
    field.press("Escape")
    expect(field).to_be_hidden()
    assert page.evaluate("window.bubbled") == 0  # the editor stops the model on Escape
    expect(person.button("Stop")).to_be_visible()
