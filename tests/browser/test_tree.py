"""Branches and sessions: what becomes a node, walking the tree, keeping, exporting, importing."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect

from .conftest import Script, Visitor, ended, said

Scripted = tuple[Visitor, Script]
Visit = Callable[..., Visitor]
Node = dict[str, Any]
HOSTILE = "<img src=x onerror=alert(1)>${alert(1)}{{value}}</script>\u202e"
SETTINGS = {"temperature": 1.1, "top_k": 40}


def node(name: str, parent: str, at: int, text: str, /, **more: Any) -> Node:
    """A node as it is exported."""
    return {
        "id": name, "parent": parent, "at": at, "pieces": [[text, 0]], "kind": "write",
        "name": "", "starred": False, "time": 1_700_000_000_000, "run": None, **more,
    }  # fmt: skip


def written_by_model(name: str, parent: str, at: int, text: str, /, **more: Any) -> Node:
    run = {
        "prompt_length": at, "controls": SETTINGS, "seed": 7, "model": "GPT-J", "revision": "main",
        "precision": "int8", "reason": "length", "message": "Wrote all.", "tokens": 3,
        "mean_logprob": -1.5,
    }  # fmt: skip
    return node(
        name, parent, at, text, **{"pieces": [[text, 1]], "kind": "generate", "run": run, **more}
    )


def session(nodes: list[Node], /, **more: Any) -> dict[str, Any]:
    """A session as it is exported."""
    current = nodes[-1]["id"] if nodes else "root"
    return {
        "format": "gptj-playground/session", "version": 2, "name": "Brought", "time": 1,
        "current": current, "nodes": nodes, **more,
    }  # fmt: skip


SMALL = session(
    [
        node("w", "root", 0, "Once upon"),
        written_by_model("a", "w", 9, " a time"),
        written_by_model("b", "w", 9, " a hill", starred=True, name="The hill"),
        written_by_model("c", "b", 11, " mountain", kind="alternative"),
    ],
    current="b",
)


def large(count: int) -> dict[str, Any]:
    """A tree as people make them: runs, and several continuations of many nodes."""
    chance = random.Random(5)
    nodes = [node("n0", "root", 0, "Once upon a time")]
    lengths = {"n0": 16}
    while len(nodes) < count:
        parent = chance.choice(nodes[-8:])["id"]
        for _ in range(min(chance.choice([1, 1, 2, 4]), count - len(nodes))):
            name, at = f"n{len(nodes)}", lengths[parent]
            text = f" and so it went on, for the {len(nodes)}th time"
            nodes.append(written_by_model(name, parent, at, text))
            lengths[name] = at + len(text)
    return session(nodes)


def generate(person: Visitor, script: Script, *texts: str) -> None:
    script.say(*texts)
    person.generate()


def texts(page: Page) -> dict[str, Any]:
    """The full text of every node, with what hangs on it: {text: {...}}."""
    return dict(
        page.evaluate(
            """() => {
              const { tree } = gptj.sessions.current;
              const below = (id) => Object.fromEntries(
                tree.childrenOf(id).map((child) => [tree.textOf(child), below(child)]));
              return below("root");
            }"""
        )
    )


def current(page: Page) -> str:
    return str(
        page.evaluate("gptj.sessions.current.tree.textOf(gptj.sessions.current.tree.current)")
    )


def exported(page: Page) -> dict[str, Any]:
    """What an export holds, but for when it was saved."""
    whole = dict(json.loads(page.evaluate("gptj.sessions.export('json').content")))
    assert whole.pop("time") > 0
    return whole


def bring(person: Visitor, given: Any) -> None:
    """Choose a file to import: the JSON of `given`, or it itself where it is bytes."""
    content = given if isinstance(given, bytes) else json.dumps(given).encode()
    file = {"name": "session.json", "mimeType": "application/json", "buffer": content}
    person.page.locator(".import-file").set_input_files(file)


def branches(person: Visitor) -> Locator:
    """Go to the view; the outline."""
    person.page.evaluate("gptj.show('branches')")
    return person.page.get_by_role("tree", name="Branches")


def row(person: Visitor, text: str) -> Locator:
    return person.page.get_by_role("treeitem").filter(has_text=text)


def chosen(person: Visitor) -> Locator:
    return person.page.locator('.tree-row[aria-selected="true"] .words')


def told(person: Visitor) -> Locator:
    return person.page.locator(".told p")


def imported(person: Visitor, given: dict[str, Any]) -> Locator:
    outline = branches(person)
    bring(person, given)
    expect(told(person)).to_have_text("Imported session.json as a session of its own.")
    return outline


# ---- what becomes a node


def test_each_generation_and_what_was_written_between_two_is_a_node(scripted: Scripted) -> None:
    person, script = scripted
    person.write("One ")
    generate(person, script, "two ")
    person.write("three ")
    generate(person, script, "four")
    assert texts(person.page) == {
        "One ": {"One two ": {"One two three ": {"One two three four": {}}}}
    }
    assert current(person.page) == "One two three four"


def test_a_retry_is_a_sibling_and_neither_is_lost(scripted: Scripted) -> None:
    person, script = scripted
    person.write("P")
    generate(person, script, "-0")
    script.say("-1")
    person.button("Retry").click()
    expect(person.prompt).to_have_value("P-1")
    person.finished()
    assert texts(person.page) == {"P": {"P-0": {}, "P-1": {}}}
    kinds = [given["kind"] for given in exported(person.page)["nodes"]]
    assert kinds == ["write", "generate", "retry"]


def test_every_completion_is_a_node_and_the_one_that_is_taken_goes_on(scripted: Scripted) -> None:
    person, script = scripted
    person.write("P ")
    script.send(
        [
            [{"event": "started", "prompt_tokens": 1, "dropped_tokens": 0, "healed": None,
              "n": 3, "candidates": 3}],
            [said(f"c{i}", index=i) for i in range(3)],
            [ended(index=i, seed=7 + i, mean_logprob=-0.5, last=i == 2) for i in range(3)],
        ]
    )  # fmt: skip
    person.page.keyboard.press("Control+Enter")
    person.finished()
    cards = person.page.locator(".card:visible")
    cards.last.get_by_role("button", name="Take this one").click()
    expect(person.prompt).to_have_value("P c2")
    generate(person, script, " on")
    assert texts(person.page) == {"P ": {"P c0": {}, "P c1": {}, "P c2": {"P c2 on": {}}}}
    seeds = [given["run"]["seed"] for given in exported(person.page)["nodes"] if given["run"]]
    assert seeds == [7, 8, 9, 1]


def test_cards_can_be_starred_and_pruned_and_put_back(scripted: Scripted) -> None:
    person, script = scripted
    started = {"event": "started", "prompt_tokens": 1, "dropped_tokens": 0, "healed": None, "n": 2}
    script.send(
        [[started], [said("a"), said("b", index=1)], [ended(last=False), ended(index=1)]],
    )
    person.page.keyboard.press("Control+Enter")
    person.finished()
    card = person.page.locator(".card:visible")
    card.get_by_role("button", name="Star completion 2").click()
    assert [given["starred"] for given in exported(person.page)["nodes"]] == [False, True]
    card.get_by_role("button", name="Prune").click()
    assert texts(person.page) == {"a": {}}
    card.get_by_role("button", name="Put back").click()
    assert texts(person.page) == {"a": {}, "b": {}}


def test_undo_and_redo_walk_the_tree(scripted: Scripted) -> None:
    person, script = scripted
    person.write("P")
    generate(person, script, "-0")
    generate(person, script, "-1")
    for state in ("P-0", "P"):
        person.button("Undo").click()
        expect(person.prompt).to_have_value(state)
        assert current(person.page) == state
    person.button("Redo").click()
    expect(person.prompt).to_have_value("P-0")
    assert current(person.page) == "P-0"
    generate(person, script, "-2")
    assert texts(person.page) == {"P": {"P-0": {"P-0-1": {}, "P-0-2": {}}}}


def test_words_in_the_place_of_others_branch_off_where_they_differ(scripted: Scripted) -> None:
    person, script = scripted
    person.write("There was a fox")
    generate(person, script, " who ran away")
    person.page.keyboard.press("Control+End")
    for _ in range(4):
        person.page.keyboard.press("Backspace")
    person.write("fast")
    generate(person, script, "!")
    assert texts(person.page) == {
        "There was a fox": {
            "There was a fox who ran away": {
                "There was a fox who ran fast": {"There was a fox who ran fast!": {}}
            }
        }
    }
    nodes = exported(person.page)["nodes"]
    assert [given["at"] for given in nodes] == [0, 15, 24, 28]
    assert [given["kind"] for given in nodes] == ["write", "generate", "edit", "generate"]
    person.prompt.fill("The king")
    generate(person, script, " died")
    assert list(texts(person.page)) == ["There was a fox", "The king"]


def test_from_a_text_whose_end_was_cut_off_the_model_goes_on_in_a_branch(
    scripted: Scripted,
) -> None:
    person, script = scripted
    generate(person, script, "one two")
    person.page.keyboard.press("Control+End")
    for _ in range(4):
        person.page.keyboard.press("Backspace")
    generate(person, script, " three")
    assert texts(person.page) == {"one two": {"one three": {}}}


def test_what_was_refused_is_no_node_and_what_was_cut_off_is_one(scripted: Scripted) -> None:
    person, script = scripted
    person.write("P")
    script.send([[{"event": "refused", "kind": "queue_full", "message": "Too many."}]])
    person.page.keyboard.press("Control+Enter")
    expect(person.notice).to_contain_text("Too many.")
    assert texts(person.page) == {"P": {}}
    script.send([[said("-half"), {"event": "refused", "kind": "error", "message": "It broke."}]])
    person.page.keyboard.press("Control+Enter")
    expect(person.prompt).to_have_value("P-half")
    expect(person.notice).to_contain_text("It broke.")
    assert texts(person.page) == {"P": {"P-half": {}}}
    run = exported(person.page)["nodes"][-1]["run"]
    assert (run["reason"], run["message"]) == ("error", "It broke.")


def test_tree_survives_a_reload(scripted: Scripted) -> None:
    person, script = scripted
    person.write("P")
    generate(person, script, "-0")
    script.say("-1")
    person.button("Retry").click()
    expect(person.prompt).to_have_value("P-1")
    person.finished()
    before = exported(person.page)
    person.page.reload()
    expect(person.prompt).to_have_value("P-1")
    assert exported(person.page) == before


def test_a_node_knows_settings_seed_model_and_how_it_ended(visitor: Visitor) -> None:
    visitor.set_number("Length", "9")
    visitor.write("Once upon a time")
    visitor.generate()
    run = exported(visitor.page)["nodes"][-1]["run"]
    assert run["controls"] == {"max_new_tokens": 9}
    assert run["prompt_length"] == len("Once upon a time")
    assert run["reason"] == "length"
    assert run["tokens"] == 9
    assert run["model"]
    assert run["precision"] == "float32"
    assert isinstance(run["seed"], int)
    branches(visitor)
    expect(visitor.page.locator(".facts")).to_contain_text("Length 9")
    expect(visitor.page.locator(".facts")).to_contain_text(str(run["seed"]))
    visitor.page.evaluate("gptj.show('write')")
    visitor.button("Reset all controls").click()
    length = visitor.page.get_by_label("number input for Length")
    expect(length).to_have_value("120")
    branches(visitor)
    visitor.button("Use its settings").click()
    visitor.page.evaluate("gptj.show('write')")
    expect(length).to_have_value("9")


def test_four_continuations_at_once_are_one_choice_beside_generate(visitor: Visitor) -> None:
    visitor.set_number("Length", "6")
    visitor.page.get_by_label("Continuations at once").select_option("4")
    visitor.write("Once upon a time")
    visitor.page.keyboard.press("Control+Enter")
    expect(visitor.page.locator(".card:visible")).to_have_count(3)
    visitor.finished()
    nodes = exported(visitor.page)["nodes"]
    assert [given["kind"] for given in nodes] == ["write", *["generate"] * 4]
    assert all(given["run"]["controls"]["n"] == 4 for given in nodes[1:])


# ---- the outline


def test_two_hundred_nodes_are_drawn_as_one_scrolls_and_walked_by_keys(scripted: Scripted) -> None:
    person, _ = scripted
    outline = imported(person, large(200))
    expect(person.page.locator(".how-many")).to_have_text("200 branches")
    assert person.page.get_by_role("treeitem").count() < 60
    outline.focus()
    page = person.page
    page.keyboard.press("Home")
    expect(chosen(person)).to_have_text("Once upon a time")
    seen = 1
    last = "document.querySelector('.tree-row:last-child').ariaSelected === 'true'"
    while not page.evaluate(last):
        page.keyboard.press("ArrowDown")
        seen += 1
        assert seen <= 200
    assert seen == 200
    page.keyboard.press("Home")
    expect(chosen(person)).to_be_in_viewport()
    active = outline.get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").get_attribute("aria-selected") == "true"


def test_keys_walk_close_and_open_branches(scripted: Scripted) -> None:
    person, _ = scripted
    outline = imported(person, SMALL)
    press = person.page.keyboard.press
    expect(chosen(person)).to_have_text("a hill")
    outline.focus()
    for key, words in [
        ("ArrowRight", "…Once upon a mountain"),
        ("ArrowLeft", "a hill"),
        ("ArrowUp", "a time"),
        ("ArrowLeft", "Once upon"),
    ]:
        press(key)
        expect(chosen(person)).to_have_text(words)
    rows = person.page.get_by_role("treeitem")
    expect(rows).to_have_count(4)
    press("ArrowLeft")
    expect(rows).to_have_count(1)
    expect(rows).to_have_attribute("aria-expanded", "false")
    expect(rows).to_contain_text("+3")
    press("ArrowRight")
    expect(rows).to_have_count(4)
    press("End")
    expect(chosen(person)).to_have_text("…Once upon a mountain")


def test_enter_puts_the_text_into_the_editor_as_a_step(scripted: Scripted) -> None:
    person, script = scripted
    person.write("Mine, not yet a branch")
    outline = branches(person)
    generate_first = texts(person.page)
    assert generate_first == {"Mine, not yet a branch": {}}
    imported(person, SMALL)
    outline.focus()
    person.page.keyboard.press("ArrowUp")
    person.page.keyboard.press("Enter")
    expect(person.prompt).to_have_value("Once upon a time")
    expect(person.model_words).to_have_text(" a time")
    assert current(person.page) == "Once upon a time"
    person.button("Undo").click()
    expect(person.prompt).to_have_value("Once upon a hill")
    person.button("Redo").click()
    generate(person, script, ", there was")
    assert "Once upon a time, there was" in texts(person.page)["Once upon"]["Once upon a time"]


def test_mouse_chooses_opens_and_closes(scripted: Scripted) -> None:
    person, _ = scripted
    imported(person, SMALL)
    row(person, "a time").click()
    expect(person.page.locator(".chosen-text")).to_have_text("Once upon a time")
    row(person, "Once upon").first.locator("svg").click()
    expect(person.page.get_by_role("treeitem")).to_have_count(1)
    row(person, "Once upon").locator("svg").click()
    row(person, "a time").dblclick()
    expect(person.prompt).to_have_value("Once upon a time")


def test_star_name_and_prune_and_pruning_is_undone(scripted: Scripted) -> None:
    person, _ = scripted
    outline = imported(person, SMALL)
    before = texts(person.page)
    outline.focus()
    press = person.page.keyboard.press
    press("s")
    expect(row(person, "a hill").locator(".star")).to_have_count(0)
    press("F2")
    expect(person.page.get_by_label("Name of this branch")).to_be_focused()
    person.page.keyboard.type(HOSTILE)
    press("Enter")
    expect(outline).to_be_focused()
    expect(row(person, "a hill").locator(".name")).to_have_text(HOSTILE)
    press("Delete")
    expect(told(person)).to_have_text("Pruned 2 branches.")
    assert texts(person.page) == {"Once upon": {"Once upon a time": {}}}
    expect(chosen(person)).to_have_text("a time")
    person.button("Undo").click()
    assert texts(person.page) == before
    press("Delete")
    press("Control+z")
    assert texts(person.page) == before
    given = next(given for given in exported(person.page)["nodes"] if given["id"] == "b")
    assert (given["starred"], given["name"]) == (False, HOSTILE)
    assert person.dialogs == []


def test_a_long_run_is_folded_into_a_line_and_opened(scripted: Scripted) -> None:
    person, _ = scripted
    run = [node("0", "root", 0, "a" * 10)]
    run += [written_by_model(str(i), str(i - 1), 10 * i, f"step {i:05}") for i in range(1, 30)]
    outline = imported(person, session(run))
    expect(person.page.get_by_role("treeitem")).to_have_count(3)
    fold = row(person, "28 steps, step 00001step 00002")
    expect(fold).to_have_attribute("aria-expanded", "false")
    outline.focus()
    person.page.keyboard.press("ArrowUp")
    expect(chosen(person)).to_have_text("step 00028")
    expect(fold).to_have_count(0)
    expect(row(person, "step 00027")).to_be_visible()


def test_what_a_node_knows_is_beside_the_outline(scripted: Scripted) -> None:
    person, _ = scripted
    imported(person, SMALL)
    facts = person.page.locator(".facts")
    for fact in ("Wrote all.", "Temperature 1.1, Top-k 40", "7", "GPT-J", "main", "int8", "4.48"):
        expect(facts).to_contain_text(fact)
    person.page.get_by_text("Prompt, 9 characters").click()
    expect(person.page.locator(".chosen-prompt p")).to_have_text("Once upon")
    row(person, "Once upon").first.click()
    expect(facts).to_contain_text("Written by you")
    expect(person.button("Use its settings")).to_be_disabled()


# ---- sessions


def test_what_is_exported_and_imported_in_another_profile_is_the_same_tree(
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
    "huge": (b" " * (5 * 2**20 + 1), "at most 5 MB"),
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


def test_what_cannot_be_imported_gets_a_sentence_and_costs_nothing(scripted: Scripted) -> None:
    person, _ = scripted
    person.write("Mine")
    branches(person)
    for given, sentence in BAD_FILES.values():
        bring(person, given)
        expect(told(person)).to_contain_text(sentence)
        expect(told(person)).to_contain_text("Your text is as it was.")
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
    expect(told(person)).to_have_text("Deleted “The second (copy)”.")
    person.button("Undo").click()
    expect(person.prompt).to_have_value("Second text")
    expect(open_sessions(person)).to_have_count(3)


def test_a_text_that_was_saved_before_there_were_branches_is_taken_over(
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


def fill_storage(person: Visitor, room: int) -> None:
    """Leave so many characters of room in the browser's storage of this page."""
    person.page.evaluate(
        """room => {
          const put = Storage.prototype.setItem;
          Storage.prototype.setItem = function (key, value) {
            if (this === localStorage && value.length > room)
              throw new DOMException("full", "QuotaExceededError");
            put.call(this, key, value);
          };
        }""",
        room,
    )


def test_full_storage_is_said_and_nothing_is_dropped(scripted: Scripted) -> None:
    person, script = scripted
    person.write("Kept whole")
    for _ in range(4):
        generate(person, script, " and on and on")
    expect(person.notice).to_be_hidden()
    saved = person.page.evaluate(
        "localStorage[`gptj-playground/text/${gptj.sessions.current.id}`].length"
    )
    fill_storage(person, saved)
    person.write(".")
    person.page.evaluate("gptj.sessions.save()")
    expect(person.notice).to_contain_text("the single steps to undo are not")
    generate(person, script, "x" * 2000)
    expect(person.notice).to_contain_text("lasts until the tab is closed")
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


def test_without_storage_the_page_works_and_says_that_it_keeps_nothing(
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
    # before the next action, which may put another notice in its place
    expect(person.notice).to_contain_text("This browser keeps nothing for this page")
    generate(person, script, " too")
    branches(person)
    person.button("New").click()
    expect(person.prompt).to_have_value("")
    open_sessions(person)
    person.page.get_by_role("button", name="Works too").first.click()
    expect(person.prompt).to_have_value("Works too")
