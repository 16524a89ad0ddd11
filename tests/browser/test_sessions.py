"""Sessions: export, import, the list of them, and the browser's storage."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Locator, expect

from .branches import (
    HOSTILE,
    branches,
    bring,
    exported,
    generate,
    imported,
    node,
    notice,
    session,
    texts,
)
from .conftest import Script, Visitor
from .records import said
from .writers import write_before_the_end

Scripted = tuple[Visitor, Script]
Visit = Callable[..., Visitor]


def test_an_export_gives_the_same_tree_in_another_profile(
    scripted: Scripted, editor_site: tuple[str, Script], visit: Visit
) -> None:
    person, script = scripted
    person.write(f"Begin {HOSTILE} ```\n")
    generate(person, script, "one")
    script.say("\n````\ntwo 漢字 🦊")
    person.button("Retry").click()
    person.finished()
    expect(person.prompt).to_have_value(re.compile("two"))
    branches(person)
    person.page.get_by_text("Export", exact=True).click()
    with person.page.expect_download() as download:
        person.page.get_by_role("button", name="JSON").click()
    content = Path(download.value.path()).read_text(encoding="utf-8")
    other = visit(editor_site[0])
    imported(other, json.loads(content))
    expect(person.page.get_by_text("Export", exact=True)).to_be_focused()
    assert json.loads(content)["nodes"] == exported(person.page)["nodes"]
    assert exported(person.page) == exported(other.page)
    assert other.text == person.text
    assert other.dialogs == []
    markdown = str(person.page.evaluate("gptj.sessions.export('markdown').content"))
    assert f"`````text\n{person.text}\n`````" in markdown
    assert person.page.evaluate("gptj.sessions.export('text').content") == person.text


BAD_FILES = {
    "not JSON": (b"\x89PNG", "not JSON"),
    "not ours": ({"nodes": []}, "not a session of this playground"),
    "a list": ([], "not a session of this playground"),
    "null": (None, "not a session of this playground"),
    "another version": (session([], version=99), "its version is 99, and this page reads 2"),
    "huge": (b" " * (40 * 2**20 + 1), "at most 40 MB"),
    "no nodes": (session([], nodes={"length": 1}), "no list of nodes"),
    "node no object": (session([], nodes=[1]), "node 1 is not an object"),
    "own parent": (session([node("a", "a", 0, "x")]), "node 1 does not come after its parent"),
    "circle": (
        session([node("a", "b", 0, "x"), node("b", "a", 0, "x")]),
        "node 1 does not come after its parent",
    ),
    "prototype as parent": (session([node("a", "__proto__", 0, "x")]), "come after its parent"),
    "root again": (session([node("root", "root", 0, "x")]), "the id of another one"),
    "too much kept": (session([node("a", "root", 1, "x")]), "keeps more of its parent"),
    "negative": (session([node("a", "root", -1, "x")]), "not a count of characters"),
    "pieces": (session([node("a", "root", 0, "x", pieces=[["x", "0"]])]), "not [text, number]"),
    "kind": (session([node("a", "root", 0, "x", kind="<b>")]), "a kind that is none of"),
    "name": (session([node("a", "root", 0, "x", name={"toString": 1})]), "a name that is not"),
    "run": (session([node("a", "root", 0, "x", run=[])]), "the run of node 1 is not an object"),
    "seed": (
        session([node("a", "root", 0, "x", run={"prompt_length": 0, "seed": "1"})]),
        "the run of node 1 has a wrong seed",
    ),
    "control": (
        session(
            [node("a", "root", 0, "x", run={"prompt_length": 0, "controls": {"__proto__": 1}})]
        ),
        "the run of node 1 has a wrong control",
    ),
    "too many": (session([], nodes=[0] * 20_001), "20,001 nodes"),
}


def test_invalid_imports_are_refused_with_a_sentence_and_change_nothing(scripted: Scripted) -> None:
    person, _ = scripted
    person.write("Mine")
    branches(person)
    for given, sentence in BAD_FILES.values():
        bring(person, given)
        expect(notice(person)).to_contain_text(sentence)
        expect(notice(person)).to_contain_text("Your text is as it was.")
    assert person.text == "Mine"
    assert texts(person.page) == {"Mine": {}}


def test_hostile_values_in_a_sound_file_are_text(scripted: Scripted) -> None:
    person, _ = scripted
    run = {
        "prompt_length": 0, "controls": {"constructor": HOSTILE}, "model": HOSTILE,
        "reason": HOSTILE, "message": HOSTILE, "precision": HOSTILE, "__proto__": {"seed": 5},
    }  # fmt: skip
    nodes = [node("a b\"'<", "root", 0, HOSTILE, name=HOSTILE, run=run, kind="generate")]
    imported(person, session(nodes, name=HOSTILE, constructor=1))
    expect(person.page.locator(".tree-row .name")).to_have_text(HOSTILE)
    expect(person.page.locator(".facts")).to_contain_text(HOSTILE)
    expect(person.page.get_by_label("Name of this session")).to_have_value(HOSTILE)
    person.button("Use its settings").click()
    person.page.get_by_text("Sessions", exact=True).click()
    expect(person.page.locator(".session-title")).to_have_text([HOSTILE])
    assert person.page.locator(".branches :is(img, script)").count() == 0
    person.page.keyboard.press("Escape")
    person.button("Open in the editor").click()
    expect(person.prompt).to_have_value(HOSTILE)
    assert person.dialogs == []


def open_sessions(person: Visitor) -> Locator:
    branches(person)
    if not person.page.locator(".sessions-card").is_visible():
        person.page.get_by_text("Sessions", exact=True).click()
    return person.page.locator(".session-list li")


def test_sessions_are_listed_named_opened_duplicated_and_deleted(scripted: Scripted) -> None:
    person, script = scripted
    person.write("First text")
    generate(person, script, " goes on")
    branches(person)
    person.button("New").click()
    expect(person.prompt).to_have_value("")
    person.page.evaluate("gptj.show('write')")
    person.write("Second text")
    items = open_sessions(person)
    titles = items.locator(".session-title")
    expect(titles).to_have_text(["Second text", "First text goes on"])
    titles.first.click()  # the open one
    expect(person.page.locator(".sessions-card")).to_be_hidden()
    expect(notice(person)).to_be_hidden()
    open_sessions(person)
    expect(items.last).to_contain_text("2 branches")
    person.page.keyboard.press("Escape")
    name = person.page.get_by_label("Name of this session")
    name.fill("The second")
    name.press("Enter")
    expect(open_sessions(person).locator(".session-title").first).to_have_text("The second")
    person.page.get_by_role("button", name="First text goes on").first.click()
    expect(person.prompt).to_have_value("First text goes on")
    expect(name).to_have_value("")
    open_sessions(person)
    person.button("Duplicate “The second”").click()
    expect(person.prompt).to_have_value("Second text")
    expect(name).to_have_value("The second (copy)")
    expect(open_sessions(person)).to_have_count(3)
    person.button("Delete “The second (copy)”").click()
    expect(person.prompt).to_have_value("")
    expect(notice(person)).to_have_text("Deleted “The second (copy)”.")
    person.button("Undo").click()
    expect(person.prompt).to_have_value("Second text")
    expect(open_sessions(person)).to_have_count(3)


def test_a_text_saved_before_branches_existed_is_restored(
    scripted: Scripted,
) -> None:
    person, _ = scripted
    step = {
        "kind": "type", "at": 0, "removed": [], "inserted": [["Old", 0]], "before": [0, 0],
        "after": [3, 3], "time": 1,
    }  # fmt: skip
    old = {"version": 1, "time": 5, "runs": 1, "pieces": [["Old", 0], [" words", 1]]}
    saved = json.dumps({**old, "position": 1, "steps": [step]})
    person.page.evaluate(
        "saved => { localStorage['gptj-playground/text/old'] = saved;"
        " sessionStorage['gptj-playground/tab'] = 'old' }",
        saved,
    )
    person.page.reload()
    expect(person.prompt).to_have_value("Old words")
    expect(person.model_words).to_have_text(" words")
    assert texts(person.page) == {"Old words": {}}
    expect(person.button("Undo")).to_be_enabled()


def test_two_tabs_with_one_session_become_two_sessions(scripted: Scripted) -> None:
    person, script = scripted
    person.write("Shared")
    generate(person, script, " words")
    person.page.evaluate("gptj.sessions.save()")
    second = person.context.new_page()
    second.goto(person.url)
    prompt = second.get_by_label("Prompt", exact=True)
    expect(prompt).to_have_value("Shared words")
    prompt.fill("Shared words, second tab")
    second.evaluate("gptj.sessions.save()")
    person.write(", first tab")
    person.page.evaluate("gptj.sessions.save()")
    for page, text in ((second, "second"), (person.page, "first")):
        page.reload()
        expect(page.get_by_label("Prompt", exact=True)).to_have_value(f"Shared words, {text} tab")
    expect(open_sessions(person)).to_have_count(2)
    second.close()


def fill_storage(person: Visitor, free: int, kind: str = "localStorage") -> None:
    """Fill one of the page's storages until `free` characters are left."""
    person.page.evaluate(
        """([free, kind]) => {
          const put = Storage.prototype.setItem;
          Storage.prototype.setItem = function (key, value) {
            if (this === window[kind] && value.length > free)
              throw new DOMException("full", "QuotaExceededError");
            put.call(this, key, value);
          };
        }""",
        [free, kind],
    )


def storage_warning(person: Visitor) -> Locator:
    return person.page.locator(".editor .storage")


def test_a_session_that_the_storage_has_no_space_for_outlasts_a_reload(scripted: Scripted) -> None:
    person, script = scripted
    person.write("Kept")
    person.page.evaluate("gptj.sessions.save()")
    fill_storage(person, 10)
    person.write(" and more")
    person.page.evaluate("gptj.sessions.save()")
    expect(storage_warning(person)).to_contain_text("lasts until the tab is closed")
    generate(person, script, " words")
    expect(storage_warning(person)).to_contain_text("lasts until the tab is closed")
    person.page.reload()
    expect(person.prompt).to_have_value("Kept and more words")
    person.page.evaluate("gptj.sessions.save()")  # the storage has space again
    stored = "localStorage[`gptj-playground/text/${gptj.sessions.current.id}`]"
    assert "words" in person.page.evaluate(stored)
    assert not person.page.evaluate(
        "Object.keys(sessionStorage).some(key => key.startsWith('gptj-playground/text/'))"
    )


def test_the_page_asks_before_it_leaves_a_session_that_is_stored_nowhere(
    scripted: Scripted,
) -> None:
    person, _ = scripted
    asks = "() => !dispatchEvent(new Event('beforeunload', { cancelable: true }))"
    person.write("Kept")
    assert not person.page.evaluate(asks)
    fill_storage(person, 10)
    fill_storage(person, 100, "sessionStorage")
    person.write(" and more")
    assert person.page.evaluate(asks)
    expect(storage_warning(person)).to_contain_text("a reload deletes it")
    assert "Kept and more" in person.page.evaluate("gptj.sessions.export('text').content")


def test_full_storage_is_reported_and_loses_nothing(scripted: Scripted) -> None:
    person, script = scripted
    person.write("Kept whole")
    for _ in range(4):
        generate(person, script, " and on and on")
    expect(storage_warning(person)).to_be_hidden()
    saved = person.page.evaluate(
        "localStorage[`gptj-playground/text/${gptj.sessions.current.id}`].length"
    )
    fill_storage(person, saved)
    person.write(".")
    person.page.evaluate("gptj.sessions.save()")
    expect(storage_warning(person)).to_contain_text("the single steps to undo are not")
    generate(person, script, "x" * 2000)
    expect(storage_warning(person)).to_contain_text("lasts until the tab is closed")
    branches(person)
    expect(person.page.locator(".not-kept")).to_contain_text("lasts until the tab is closed")
    assert len(exported(person.page)["nodes"]) == 7
    person.button("New").click()
    expect(person.prompt).to_have_value("")
    open_sessions(person)
    person.page.get_by_role("button", name="Kept whole and on").first.click()
    expect(person.prompt).to_have_value(re.compile("^Kept whole and on.*x{2000}$"))
    person.page.evaluate("gptj.show('write')")
    person.button("Undo").click()
    expect(person.prompt).to_have_value("Kept whole" + " and on and on" * 4 + ".")


def test_without_storage_the_page_works_and_warns(
    editor_site: tuple[str, Script], visit: Visit
) -> None:
    url, script = editor_site
    person = visit(url)
    person.context.add_init_script(
        "Object.defineProperty(window, 'localStorage',"
        " { get() { throw new DOMException('denied', 'SecurityError') } })"
    )
    person.page.goto(url)
    expect(person.prompt).to_be_visible()
    person.write("Works")
    expect(storage_warning(person)).to_contain_text("This browser keeps nothing for this page")
    generate(person, script, " too")
    expect(storage_warning(person)).to_be_visible()
    person.page.reload()
    expect(person.prompt).to_have_value("Works too")
    expect(storage_warning(person)).to_contain_text("This browser keeps nothing for this page")
    branches(person)
    person.button("New").click()
    expect(person.prompt).to_have_value("")
    open_sessions(person)
    person.page.get_by_role("button", name="Works too").first.click()
    expect(person.prompt).to_have_value("Works too")


def test_an_export_while_the_model_writes_adds_no_branch(scripted: Scripted) -> None:
    person, script = scripted
    write_before_the_end(person, script)
    content = str(person.page.evaluate("gptj.sessions.export('json').content"))
    assert "".join(text for text, _ in json.loads(content)["pieces"]) == "P words end."
    person.button("Stop").click()
    person.finished()
    kinds = person.page.evaluate("gptj.sessions.current.tree.toList().map(({ kind }) => kind)")
    assert kinds == ["write", "generate"]


def test_the_session_cannot_be_replaced_during_a_generation(scripted: Scripted) -> None:
    person, script = scripted
    person.write("First text")
    open_sessions(person)
    person.button("Delete “First text”").click()
    expect(notice(person)).to_have_text("Deleted “First text”.")
    person.page.evaluate("gptj.show('write')")
    person.write("Second")
    script.send([[{"event": "waiting", "ahead": 3}], [said(" arrives")]])
    person.page.keyboard.press("Control+Enter")
    expect(person.model_words).to_have_text(" arrives")
    branches(person)
    person.button("Undo").click()
    expect(notice(person)).to_contain_text("The model is writing")
    whole = person.page.evaluate("gptj.sessions.export('json').content")
    refused = person.page.evaluate(
        "text => gptj.sessions.import(new File([text], 'a.json')).catch(({ message }) => message)",
        whole,
    )
    assert "The model is writing" in refused
    expect(person.prompt).to_have_value("Second arrives")
    person.page.evaluate("gptj.show('write')")
    person.button("Stop").click()
    person.finished()
    branches(person)
    person.button("Undo").click()
    expect(person.prompt).to_have_value("First text")
