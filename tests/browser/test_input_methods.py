"""Input methods and keyboards of other scripts."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image
from playwright.sync_api import CDPSession, expect

from .branches import SMALL, branches, chosen, imported, notice
from .conftest import Script, Visitor

Scripted = tuple[Visitor, Script]


def compose(session: CDPSession, text: str) -> None:
    place = {"selectionStart": len(text), "selectionEnd": len(text)}
    session.send("Input.imeSetComposition", {"text": text, **place})


def darkest(person: Visitor) -> int:
    """The darkest grey of the sheet, the caret aside."""
    person.prompt.evaluate("area => { area.style.caretColor = 'transparent' }")
    shot = person.page.locator(".sheet").screenshot()
    return Image.open(io.BytesIO(shot)).convert("L").crop((20, 20, 400, 100)).getextrema()[0]


def press(person: Visitor, key: str, code: str, *, shift: bool = False) -> None:
    """A key with Ctrl on a keyboard of another script."""
    modifiers = 2 + 8 * shift
    event: dict[str, Any] = {"key": key, "code": code, "modifiers": modifiers}
    session = person.context.new_cdp_session(person.page)
    session.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **event})
    session.send("Input.dispatchKeyEvent", {"type": "keyUp", **event})


def test_text_being_composed_is_legible_on_any_background(scripted: Scripted) -> None:
    person, _ = scripted
    person.prompt.focus()
    # input methods paint a background behind composed text in the textarea
    person.page.add_style_tag(content=".page textarea { background: white !important; }")
    session = person.context.new_cdp_session(person.page)
    compose(session, "きょう")
    assert person.shown == "きょう"
    assert darkest(person) < 128
    assert person.page.evaluate("String([...CSS.highlights.get('composed')])") == "きょう"
    session.send("Input.insertText", {"text": "京"})
    assert person.page.evaluate("CSS.highlights.has('composed')") is False


def test_generate_waits_for_the_end_of_a_composition(scripted: Scripted) -> None:
    person, script = scripted
    script.say("!")
    person.prompt.focus()
    session = person.context.new_cdp_session(person.page)
    compose(session, "きょう")
    person.page.evaluate("document.querySelector('[data-action=generate]').click()")
    assert script.asked == []
    session.send("Input.insertText", {"text": "京"})
    expect(person.prompt).to_have_value("京!")
    assert [asked["prompt"] for asked in script.asked] == ["京"]


def test_enter_that_confirms_a_candidate_closes_no_field(scripted: Scripted) -> None:
    person, _ = scripted
    imported(person, SMALL)
    name = person.page.get_by_label("Name of this branch")
    for field in (name, person.page.get_by_label("Name of this session")):
        expect(field).to_be_visible()
        field.focus()
        for key in ("Enter", "Escape"):
            field.evaluate(
                "(field, key) => field.dispatchEvent("
                "new KeyboardEvent('keydown', {key, isComposing: true, bubbles: true}))",
                key,
            )
            expect(field).to_be_focused()


def test_undo_and_redo_work_on_a_keyboard_of_another_script(scripted: Scripted) -> None:
    person, _ = scripted
    person.write("one")
    press(person, "я", "KeyZ")
    expect(person.prompt).to_have_value("")
    press(person, "Я", "KeyZ", shift=True)
    expect(person.prompt).to_have_value("one")
    press(person, "я", "KeyZ")
    press(person, "ى", "KeyY")
    expect(person.prompt).to_have_value("one")
    press(person, "z", "KeyY")  # German: the letter counts, not the position
    expect(person.prompt).to_have_value("")


def test_undo_works_after_a_reload_and_after_a_text_of_the_page(scripted: Scripted) -> None:
    person, _ = scripted
    person.write("one")
    person.page.evaluate("gptj.emit('text', 'From the page.')")
    expect(person.prompt).to_have_value("From the page.")
    person.button("Share").focus()
    person.page.keyboard.press("Control+z")
    expect(person.prompt).to_have_value("one")
    person.page.keyboard.press("Control+y")
    expect(person.prompt).to_have_value("From the page.")
    person.page.reload()
    expect(person.prompt).to_have_value("From the page.")
    person.page.evaluate("document.activeElement.blur()")
    person.page.keyboard.press("Control+z")
    expect(person.prompt).to_have_value("one")
    tree = branches(person)
    tree.focus()
    person.page.keyboard.press("Control+Shift+z")
    expect(chosen(person)).to_have_text("From the page.")
    person.page.keyboard.press("Control+z")
    expect(chosen(person)).to_have_text("one")


def test_undo_in_the_tree_first_restores_the_pruned_branch(scripted: Scripted) -> None:
    person, _ = scripted
    tree = imported(person, SMALL)
    tree.focus()
    person.page.keyboard.press("Delete")
    expect(notice(person)).to_contain_text("Pruned")
    press(person, "я", "KeyZ")
    expect(notice(person)).to_contain_text("is back")
