"""The text as a document: where it ends, copied, opened, saved, printed and checked."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.waiting import eventually

from .conftest import Script, Visitor
from .records import ended, said, started

Scripted = tuple[Visitor, Script]


def menu(person: Visitor, name: str) -> None:
    person.page.locator(".file-menu summary").click()
    person.page.locator(".file-menu").get_by_role("button", name=name).click()


def open_file(person: Visitor, name: str, content: bytes) -> None:
    file: Any = {"name": name, "mimeType": "text/plain", "buffer": content}
    person.page.locator(".open-file").set_input_files(file)


def test_a_text_can_end_with_a_whole_sentence(scripted: Scripted) -> None:
    person, script = scripted
    person.page.evaluate("localStorage['gptj-playground/ending'] = 'within'")
    person.page.evaluate("Object.assign(gptj.state.controls, {max_new_tokens: 6})")
    script.send(
        [
            [started(n=2, candidates=2)],
            [said(" One. Two", tokens=6), said(" It is. So", index=1, tokens=6)],
            [ended(last=False), ended(index=1)],
        ]
    )
    person.write("P.")
    person.generate()
    assert person.text == person.shown == "P. One."
    expect(person.page.locator(".run")).to_contain_text("Ended with a whole sentence.")
    tree = (
        "gptj.sessions.current.tree.toList().map(({ id }) => gptj.sessions.current.tree.textOf(id))"
    )
    assert person.page.evaluate(tree) == ["P.", "P. One.", "P. It is."]
    person.button("Take this one").last.click()
    expect(person.prompt).to_have_value("P. It is.")
    person.page.reload()
    expect(person.prompt).to_have_value("P. It is.")


def test_a_text_can_go_on_to_the_end_of_its_sentence(visitor: Visitor) -> None:
    visitor.open_group("Seed")
    visitor.set_text("seed", "1")  # other seeds may give a text without an end
    visitor.page.locator("#ending select").select_option("beyond")
    visitor.set_number("Length", "20")
    visitor.write("Once upon a time there was a king who had three sons.")
    visitor.generate()
    assert re.search(r"[.!?…][\"'\u201d\u2019]*\s*$", visitor.text)
    assert visitor.text == visitor.shown


def test_files_are_opened_as_sessions_of_their_own(scripted: Scripted) -> None:
    person, _ = scripted
    person.write("Mine")
    open_file(person, "story.txt", "Once upon\r\na time 🦊".encode())
    expect(person.prompt).to_have_value("Once upon\na time 🦊")
    session = person.page.evaluate("gptj.sessions.export('json').content")
    person.page.evaluate("gptj.sessions.begin()")
    expect(person.prompt).to_have_value("")
    open_file(person, "story.json", session.encode())
    expect(person.prompt).to_have_value("Once upon\na time 🦊")
    assert person.page.evaluate("gptj.sessions.list().length") >= 3


def test_files_of_other_programs_are_opened_through_the_menu(scripted: Scripted) -> None:
    person, _ = scripted
    mikupad = {
        "name": "Fox",
        "prompt": [{"type": "user", "content": "The fox"}, {"content": " ran."}],
    }
    kobold = {"prompt": "Once", "actions": [" upon a time."], "memory": "A castle."}
    branches = [{"text": " dark.", "meta": {"source": "AI"}}, {"text": " late."}]
    loom = {"root": {"text": "It was", "children": branches}}
    for given, text, nodes in [
        (mikupad, "The fox ran.", 2),
        (kobold, "Once upon a time.", 2),
        (loom, "It was dark.", 3),
    ]:
        person.page.locator(".file-menu summary").click()
        with person.page.expect_file_chooser() as chooser:
            person.page.locator(".file-menu").get_by_role("button", name="Open a file").click()
        content = json.dumps(given).encode()
        chooser.value.set_files({"name": "a.json", "mimeType": "", "buffer": content})
        expect(person.prompt).to_have_value(text)
        assert person.page.evaluate("gptj.sessions.current.tree.size") == nodes
        memory = person.page.evaluate("gptj.sessions.current.memory?.text ?? ''")
        assert memory == ("A castle." if given is kobold else "")
    person.page.evaluate("gptj.show('branches')")
    expect(person.page.get_by_role("tree", name="Branches").get_by_role("treeitem")).to_have_count(
        3
    )


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.txt", b"\xff\xfe\x00\x01", "not a text in UTF-8"),
        ("a.txt", b"a\0b", "not a text in UTF-8"),
        ("a.json", b'{"__proto__": {"x": 1}}', "not a session"),
        ("a.json", b'{"prompt": [{"content": 1}]}', "part 1 of the story is not a text"),
        ("a.json", b"[" * 100_000, "not JSON"),
    ],
    ids=["binary", "null", "prototype", "damaged", "deep"],
)
def test_a_file_of_another_kind_is_refused_and_the_text_is_kept(
    scripted: Scripted, name: str, content: bytes, why: str
) -> None:
    person, _ = scripted
    person.write("Mine")
    open_file(person, name, content)
    expect(person.notice).to_contain_text(why)
    assert person.text == "Mine"


def test_a_file_can_be_dropped_on_the_sheet(scripted: Scripted) -> None:
    person, _ = scripted
    person.page.evaluate(
        """() => { const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File(['Dropped'], 'a.md'));
        const event = new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true });
        document.querySelector('.page textarea').dispatchEvent(event); }"""
    )
    expect(person.prompt).to_have_value("Dropped")


def test_the_text_is_copied_saved_counted_and_checked(scripted: Scripted, tmp_path: Path) -> None:
    person, _ = scripted
    person.context.grant_permissions(["clipboard-read", "clipboard-write"])
    person.write("Don't say naïve things")
    expect(person.page.locator(".words")).to_have_text("4 words")
    menu(person, "Copy the text")
    eventually(lambda: person.clipboard == "Don't say naïve things")
    with person.page.expect_download() as download:
        menu(person, "Save as a text file")
    assert Path(download.value.path()).read_text(encoding="utf-8") == "Don't say naïve things"
    expect(person.prompt).to_have_attribute("spellcheck", "false")
    menu(person, "Check spelling")
    expect(person.prompt).to_have_attribute("spellcheck", "true")
    person.page.reload()
    expect(person.prompt).to_have_attribute("spellcheck", "true")
    menu(person, "New text")
    expect(person.prompt).to_have_value("")


def test_printing_includes_the_whole_text_and_nothing_else(scripted: Scripted) -> None:
    person, script = scripted
    script.say("line\n" * 120 + "end")
    person.generate()
    person.page.emulate_media(media="print")
    seen = """() => [...document.querySelectorAll('body *')]
      .filter((node) => !node.children.length && node.textContent.trim())
      .filter((node) => node.checkVisibility() && node.getBoundingClientRect().height > 1)
      .map((node) => node.textContent)"""
    texts = [text for text in person.page.evaluate(seen) if "{" not in text]
    assert "".join(texts) == person.text
    ink = "(() => { const { bottom } = document.querySelector('.ink').getBoundingClientRect();"
    fits = " return bottom <= document.documentElement.scrollHeight + 1; })()"
    assert person.page.evaluate(ink + fits)
    assert person.page.locator(".ink").evaluate("ink => ink.inert"), "find counts a word once"


SPEECH = """
window.said = [];
window.SpeechSynthesisUtterance = class { constructor(text) { this.text = text; } };
Object.defineProperty(window, 'speechSynthesis', { value: {
  speak: (one) => said.push(one),
  cancel() { const one = said.at(-1); setTimeout(() => one.onerror({ error: 'canceled' })); },
} });
"""
"""A browser's speech that ends a sentence when the test says so."""


def test_a_text_is_read_aloud_sentence_by_sentence(scripted: Scripted) -> None:
    person, _ = scripted
    page = person.page
    page.add_init_script(SPEECH)
    page.reload()

    def spoken() -> Any:
        """What was given to the browser's speech, and what is highlighted now."""
        page.evaluate("new Promise((done) => setTimeout(done))")
        highlighted = "[...CSS.highlights.get('spoken') ?? []].map(String)"
        return page.evaluate(f"[said.map((one) => one.text), {highlighted}]")

    end = "said.at(-1).onend()"
    person.write("Who is there? asked he. No one.")
    menu(person, "Read aloud")
    assert spoken() == [["Who is there?"], ["Who is there?"]]
    assert page.evaluate("said[0].lang") == "en"
    page.evaluate(end)
    assert spoken()[1] == ["asked he."]
    person.write(" She went.")
    page.evaluate(end)
    page.evaluate(end)
    assert spoken()[0] == ["Who is there?", "asked he.", "No one.", "She went."]
    page.evaluate(end)
    expect(page.locator(".reading")).to_be_hidden()
    assert spoken()[1] == []

    person.prompt.evaluate("area => area.setSelectionRange(14, 23)")
    menu(person, "Read aloud")
    assert spoken()[1] == ["asked he."]
    assert page.evaluate("said.length") == 5
    page.evaluate(end)
    expect(page.locator(".reading")).to_be_hidden()
    assert page.evaluate("said.length") == 5, "only the selection is read"

    menu(person, "Read aloud")
    page.keyboard.press("Escape")
    expect(page.locator(".reading")).to_be_hidden()
    menu(person, "Read aloud")
    person.prompt.fill("Another text")  # the text being read is replaced
    expect(page.locator(".reading")).to_be_hidden()
    menu(person, "Read aloud")
    page.evaluate("said.at(-1).onerror({ error: 'synthesis-failed' })")
    expect(person.notice).to_contain_text("synthesis-failed")
    assert spoken()[1] == []


def test_generated_text_is_read_aloud_when_its_sentence_is_complete(
    scripted: Scripted,
) -> None:
    person, script = scripted
    page = person.page
    page.add_init_script(SPEECH)
    page.reload()
    person.write("One.")
    menu(person, "Read aloud")
    script.send([[started()], [said(" Two")], [said(" three. Fo")], [said("ur"), ended()]])
    person.generate()
    for _ in range(3):
        page.evaluate("said.at(-1).onend()")
    assert page.evaluate("said.map((one) => one.text)") == ["One.", "Two three.", "Four"]
