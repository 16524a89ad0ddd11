"""The form of the Compare view: what it refuses, keeps and shows."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from .comparer import PROMPT, Comparer
from .conftest import Site, Visitor

Visit = Callable[..., Visitor]
RTL = "\N{RIGHT-TO-LEFT OVERRIDE}"
HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(1)</script>${alert(1)}{{value}}"


@pytest.fixture
def comparer(visitor: Visitor) -> Comparer:
    return Comparer(visitor)


def test_empty_fields_are_not_marked_as_wrong(comparer: Comparer) -> None:
    expect(comparer.cost).to_contain_text("Write a prompt, or take the text from the editor.")
    expect(comparer.page.locator("#view-compare [data-wrong]")).to_have_count(0)
    expect(comparer.page.locator("#view-compare [aria-invalid]")).to_have_count(0)
    comparer.prompt.fill("A {x")
    expect(comparer.page.locator("#view-compare [data-wrong] textarea")).to_have_count(1)
    # the option beside the field is not what is wrong
    expect(comparer.page.locator("[type=checkbox][aria-invalid]")).to_have_count(0)


@pytest.mark.parametrize(
    ("prompt", "values", "length", "words"),
    [
        (" ", "0.2, 0.5", "5", "Write a prompt, or take the text from the editor."),
        ("A {x", "0.2, 0.5", "5", "The brace { at character 3 of the template is never closed."),
        ("P", "0.2, 9", "5", 'Temperature (temperature) must be a number from 0 to 2; it was "9".'),
        ("P", "warm", "5", "Temperature (temperature) must be a number from 0 to 2"),
        ("P", "0 to 2 in 10000 steps", "5", "10,000 steps are too many: at most 36 cells"),
        ("P", "0.2", "lots", "Length (max_new_tokens) must be a whole number from 0 to 2048"),
    ],
)
def test_wrong_input_is_refused_with_a_sentence_and_kept(
    comparer: Comparer, prompt: str, values: str, length: str, words: str
) -> None:
    comparer.prompt.fill(prompt)
    comparer.axis("columns", "temperature", values)
    comparer.length(length)
    expect(comparer.cost).to_contain_text(words)
    comparer.run()
    wrong = comparer.page.locator("[data-wrong]")
    expect(wrong.locator("textarea, input").first).to_be_focused()
    expect(comparer.cost).to_contain_text(words)
    expect(comparer.person.notice).to_have_count(0)
    expect(comparer.prompt).to_have_value(prompt)
    expect(comparer.cells).to_have_count(0)


def test_hostile_text_is_shown_as_text_in_the_form_and_the_grid(comparer: Comparer) -> None:
    person, page = comparer.person, comparer.page
    quoted = HOSTILE.replace("{", "{{").replace("}", "}}")
    comparer.prompt.fill(f"{quoted}{RTL} {{<b onclick=alert(1)>}}")
    comparer.values_of("<b onclick=alert(1)>").fill(f"{HOSTILE}\n{RTL}abc\n__proto__")
    comparer.axis("columns", "temperature", "0.5")
    comparer.length(4)
    comparer.run()
    expect(page.get_by_role("rowheader")).to_have_text(
        [f"<b onclick=alert(1)> {value}" for value in (HOSTILE, f"{RTL}abc", "__proto__")]
    )
    comparer.cells.first.get_by_role("button", name="Expand").click()
    expect(page.get_by_role("dialog").locator(".cell-prompt")).to_have_text(
        f"{HOSTILE}{RTL} {HOSTILE}"
    )
    page.keyboard.press("Escape")
    page.reload()
    expect(comparer.cells).to_have_count(3)
    assert page.locator(".compare :is(img, script, b)").count() == 0
    comparer.axis("columns", "temperature", HOSTILE)
    expect(comparer.cost).to_contain_text('it was "<img src=x onerror')
    assert person.dialogs == []


def test_form_and_grid_survive_a_reload(comparer: Comparer) -> None:
    comparer.prompt.fill("A {x}")
    comparer.values_of("x").fill("1\n2")
    comparer.axis("columns", "top_k", "3, 7")
    comparer.axis("rows", "seed", "5")
    comparer.page.get_by_label("Another in each").check()
    comparer.length(4)
    comparer.run()
    texts = comparer.texts
    comparer.page.reload()
    expect(comparer.prompt).to_have_value("A {x}")
    expect(comparer.values_of("x")).to_have_value("1\n2")
    expect(comparer.page.get_by_label("Values of the columns")).to_have_value("3, 7")
    expect(comparer.page.get_by_label("Values of the rows")).to_have_value("5")
    expect(comparer.page.get_by_label("Another in each")).to_be_checked()
    expect(comparer.cost).to_contain_text("4 cells")
    assert comparer.texts == texts


@pytest.mark.parametrize(
    "stored", ["not JSON", '{"version":1,"form":7,"grid":{"cells":[{}]}}', "[]", "null"]
)
def test_foreign_values_in_the_storage_are_ignored(comparer: Comparer, stored: str) -> None:
    for key in ("compare", "compare-grid"):
        comparer.page.add_init_script(
            f"localStorage.setItem('gptj-playground/{key}', {json.dumps(stored)})"
        )
    comparer.page.reload()
    comparer.prompt.fill(PROMPT)
    expect(comparer.cost).to_contain_text("at most")


def test_a_comparison_runs_without_local_storage(site: Site, visit: Visit) -> None:
    person = visit(site.url)
    person.page.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new Error('none') }})"
    )
    person.page.reload()
    comparer = Comparer(person)
    comparer.prompt.fill(PROMPT)
    comparer.axis("columns", "temperature", "0, 1")
    comparer.length(3)
    comparer.run()
    expect(comparer.cells).to_have_count(2)


def test_the_editors_text_is_taken_with_its_braces(comparer: Comparer) -> None:
    person = comparer.person
    person.page.get_by_role("button", name="Write", exact=True).click()
    person.write("int main() { return 0; }")
    person.page.get_by_role("button", name="Compare", exact=True).first.click()
    expect(comparer.prompt).to_have_value("int main() { return 0; }")
    expect(comparer.page.get_by_label("Fill in placeholders")).not_to_be_checked()
    expect(comparer.cost).to_contain_text("5 cells")


def test_a_comparison_is_run_by_keyboard_and_leaves_the_editor_unchanged(
    comparer: Comparer,
) -> None:
    comparer.prompt.fill(PROMPT)
    comparer.axis("columns", "temperature", "0, 1")
    comparer.length(3)
    expect(comparer.cost).to_contain_text("2 cells")
    comparer.page.keyboard.press("Control+Enter")
    expect(comparer.cells).to_have_count(2)
    comparer.finished()
    comparer.page.get_by_role("button", name="Write", exact=True).click()
    assert comparer.person.text == ""


def test_a_phone_shows_the_cells_one_below_the_other(site: Site, visit: Visit) -> None:
    comparer = Comparer(visit(site.url, viewport={"width": 390, "height": 844}))
    comparer.prompt.fill(PROMPT)
    comparer.axis("columns", "temperature", "0, 1")
    comparer.length(3)
    comparer.run()
    expect(comparer.cells.get_by_role("heading")).to_have_text(["Temperature 0", "Temperature 1"])
    boxes = [comparer.cells.nth(i).bounding_box() for i in range(2)]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[1]["y"] >= boxes[0]["y"] + boxes[0]["height"]
    assert comparer.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
