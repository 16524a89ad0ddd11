"""The outline of the branches: drawing, keys, mouse, marks."""

from __future__ import annotations

from playwright.sync_api import expect

from .branches import (
    HOSTILE,
    SMALL,
    branches,
    chosen,
    current,
    exported,
    generate,
    imported,
    large,
    node,
    notice,
    row,
    session,
    texts,
    written_by_model,
)
from .conftest import Script, Visitor

Scripted = tuple[Visitor, Script]


def test_two_hundred_nodes_are_rendered_on_demand_and_navigated_by_keyboard(
    scripted: Scripted,
) -> None:
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


def test_arrow_keys_select_close_and_open_branches(scripted: Scripted) -> None:
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


def test_a_key_takes_effect_before_an_imported_tree_is_drawn(scripted: Scripted) -> None:
    person, _ = scripted
    person.write("Mine")
    branches(person).evaluate(
        """tree => new MutationObserver((_, observer) => {
          const { textContent } = document.querySelector('.branches-notice p');
          if (!textContent.startsWith('Imported')) return;
          observer.disconnect();
          tree.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowUp', bubbles: true }));
        }).observe(
          document.querySelector('.branches-notice'), { subtree: true, childList: true })"""
    )
    imported(person, SMALL)
    expect(chosen(person)).to_have_text("a time")


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


def test_branches_are_starred_named_and_pruned_and_pruning_can_be_undone(
    scripted: Scripted,
) -> None:
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
    expect(notice(person)).to_have_text("Pruned 2 branches.")
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


def test_the_facts_of_the_chosen_node_are_shown(scripted: Scripted) -> None:
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
