"""The Compare view, with the sample model behind it: three slots for one visitor, two in line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.waiting import eventually

from .conftest import Site, Visitor

Visit = Callable[..., Visitor]
PROMPT = "Once upon a time there was a"
RTL = "\N{RIGHT-TO-LEFT OVERRIDE}"
HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(1)</script>${alert(1)}{{value}}"


class Comparer:
    """A person at the Compare view."""

    def __init__(self, person: Visitor) -> None:
        self.person = person
        self.page = person.page
        self.page.get_by_role("button", name="Compare", exact=True).first.click()
        expect(self.prompt).to_be_visible()

    @property
    def prompt(self) -> Locator:
        return self.page.get_by_label("Prompt or template")

    @property
    def cost(self) -> Locator:
        return self.page.locator(".compare-cost")

    @property
    def cells(self) -> Locator:
        return self.page.locator(".compare-cells .cell")

    @property
    def texts(self) -> list[str]:
        return self.page.locator(".compare-cells .cell-text").all_text_contents()

    @property
    def run_button(self) -> Locator:
        return self.page.locator('[data-action="run"]')

    def axis(self, name: str, control: str, values: str | None = None) -> None:
        self.page.get_by_label(f"What the {name} go through").select_option(control)
        if values is not None:
            self.page.get_by_label(f"Values of the {name}", exact=True).fill(values)

    def values_of(self, name: str) -> Locator:
        return self.page.get_by_label(f"Values of {{{name}}}")

    def length(self, tokens: int | str) -> None:
        self.page.get_by_label("Tokens a cell, at most").fill(str(tokens))

    def finished(self) -> None:
        expect(self.run_button).to_be_visible()

    def run(self) -> None:
        """Press Compare and wait until all cells have ended."""
        self.run_button.click()
        self.finished()

    def export(self, kind: str) -> str:
        with self.page.expect_download() as download:
            self.page.get_by_role("button", name=kind, exact=True).click()
        return Path(download.value.path()).read_text(encoding="utf-8")

    def exported(self) -> list[dict[str, Any]]:
        return list(json.loads(self.export("JSON"))["cells"])


@pytest.fixture
def comparer(visitor: Visitor) -> Comparer:
    return Comparer(visitor)


@pytest.fixture
def five_by_three(comparer: Comparer) -> Comparer:
    """A finished comparison of temperature by top-p."""
    comparer.prompt.fill(PROMPT)
    comparer.axis("rows", "temperature")  # 0.2 to 1.4 in 5 steps is suggested
    comparer.axis("columns", "top_p")
    comparer.length(12)
    expect(comparer.cost).to_have_text(
        "15 cells (5 \N{MULTIPLICATION SIGN} 3) · at most 180 tokens · 3 at a time · "
        "nobody is waiting"
    )
    comparer.run()
    return comparer


def test_a_grid_gives_what_each_of_its_settings_gives_alone(
    site: Site, five_by_three: Comparer
) -> None:
    from gradio_client import Client

    table = five_by_three.page.get_by_role("table")
    expect(table.get_by_role("columnheader")).to_have_text(["Top-p 0.8", "Top-p 0.95", "Top-p 1"])
    expect(table.get_by_role("rowheader")).to_have_text(
        [f"Temperature {value}" for value in ("0.2", "0.5", "0.8", "1.1", "1.4")]
    )
    cells = five_by_three.exported()
    assert len(cells) == 15
    client = Client(site.url, verbose=False)
    for cell, shown in zip(cells, five_by_three.texts, strict=True):
        assert set(cell["settings"]) == {"temperature", "top_p", "seed", "max_new_tokens"}
        alone = client.predict(PROMPT, **cell["settings"], api_name="/generate")
        assert cell["text"] == alone
        assert shown == alone.lstrip()
        assert cell["reason"] in ("length", "stop")
        assert cell["mean_logprob"] < 0
        assert 0 < cell["distinct_words"] <= 1
        assert 0 < cell["completion_tokens"] <= 12
    assert len({cell["settings"]["seed"] for cell in cells}) == 1
    expect(five_by_three.page.locator(".compare-state")).to_contain_text("15 cells")


def test_sorting_makes_a_list_and_the_grid_comes_back(five_by_three: Comparer) -> None:
    page = five_by_three.page
    arrange = page.get_by_label("Arrange")
    arrange.select_option("mean_logprob")
    figures = [cell["mean_logprob"] for cell in five_by_three.exported()]
    assert figures == sorted(figures, reverse=True)
    expect(page.get_by_role("table")).to_have_count(0)
    expect(five_by_three.cells.first.get_by_role("heading")).to_contain_text("Temperature")
    page.get_by_role("button", name="Highest first").click()
    assert [cell["mean_logprob"] for cell in five_by_three.exported()] == sorted(figures)
    arrange.select_option("grid")
    expect(page.get_by_role("table")).to_be_visible()
    expect(five_by_three.cells).to_have_count(15)


def test_a_cell_is_expanded_and_taken_to_the_editor_with_its_settings(
    five_by_three: Comparer,
) -> None:
    person, page = five_by_three.person, five_by_three.page
    cells = five_by_three.exported()
    five_by_three.cells.nth(4).get_by_role("button", name="Expand").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading")).to_have_text("Temperature 0.5Top-p 0.95")
    assert dialog.locator(".cell-whole").text_content() == PROMPT + cells[4]["text"]
    page.keyboard.press("ArrowRight")
    assert dialog.locator(".cell-whole").text_content() == PROMPT + cells[5]["text"]
    dialog.get_by_role("button", name="Go on in the editor").click()
    expect(person.prompt).to_have_value(PROMPT + cells[5]["text"])
    expect(page.get_by_label("number input for Temperature")).to_have_value("0.5")
    expect(page.get_by_label("number input for Top-p")).to_have_value("1")
    expect(page.get_by_label("number input for Length")).to_have_value("12")
    person.open_group("Seed")
    expect(person.field("seed")).to_have_value(str(cells[5]["settings"]["seed"]))
    person.button("Undo").click()
    expect(person.prompt).to_have_value("")
    person.prompt.fill(PROMPT)
    person.page.keyboard.press("Control+End")
    person.generate()
    assert person.text == PROMPT + cells[5]["text"]


def test_a_template_is_filled_with_every_combination(comparer: Comparer) -> None:
    comparer.prompt.fill("A {who} said: {{{what}}}")
    expect(comparer.cost).to_have_text("{who} has no values yet. Write one on each line.")
    comparer.values_of("who").fill("king\nfox")
    expect(comparer.cost).to_have_text("{what} has no values yet. Write one on each line.")
    comparer.values_of("what").fill("yes\nno\n\n")
    comparer.axis("columns", "preset", "Greedy, Wild")
    comparer.length(3)
    expect(comparer.cost).to_contain_text("8 cells (4 \N{MULTIPLICATION SIGN} 2)")
    comparer.run()
    expect(comparer.page.get_by_role("rowheader")).to_have_text(
        [f"who {who}what {what}" for who in ("king", "fox") for what in ("yes", "no")]
    )
    rows = list(csv.DictReader(io.StringIO(comparer.export("CSV"))))
    assert [row["prompt"] for row in rows[::2]] == [
        f"A {who} said: {{{what}}}" for who in ("king", "fox") for what in ("yes", "no")
    ]
    assert [(row["who"], row["Preset"], row["temperature"]) for row in rows[:2]] == [
        ("king", "Greedy", "0"),
        ("king", "Wild", "1.2"),
    ]
    assert [row["text"] for row in rows] == [cell["text"] for cell in comparer.exported()]


def start_endless(site: Site, comparer: Comparer) -> None:
    """Cells that have begun and, the engine paused, will not end of themselves."""
    comparer.prompt.fill(PROMPT)
    comparer.axis("columns", "temperature", "0, 0.01, 0.02, 0.03, 0.04, 0.05")
    comparer.length(1500)
    comparer.run_button.click()
    expect(comparer.page.locator(".cell-text").first).not_to_be_empty()
    site.pause_engine()


def test_stop_stops_all_cells_and_keeps_what_they_have(site: Site, comparer: Comparer) -> None:
    start_endless(site, comparer)
    comparer.person.button("Stop").filter(visible=True).click()
    expect(comparer.page.locator(".compare-state")).to_contain_text("Stopping")
    site.resume_engine()
    comparer.finished()
    expect(comparer.cells.locator(".card-end")).to_have_text(["Stopped."] * 6)
    assert comparer.texts[0]
    eventually(lambda: site.status()["streams_running"] + site.status()["streams_waiting"] == 0)


def test_closing_the_tab_cancels_all_cells(site: Site, comparer: Comparer) -> None:
    start_endless(site, comparer)
    comparer.page.close()
    site.resume_engine()
    eventually(lambda: site.status()["streams_running"] + site.status()["streams_waiting"] == 0)


def test_others_are_served_while_a_comparison_runs(
    site: Site, comparer: Comparer, visit: Visit
) -> None:
    start_endless(site, comparer)
    other = visit(site.url)
    other.set_number("Length", "5")
    other.write("Mine")
    site.resume_engine()
    other.generate()
    assert len(other.text) > len("Mine")
    comparer.page.keyboard.press("Escape")
    comparer.finished()


def test_a_cell_that_contradicts_itself_says_so_and_the_others_run(comparer: Comparer) -> None:
    comparer.prompt.fill(PROMPT)
    comparer.axis("columns", "min_new_tokens", "0, 40")
    comparer.length(10)
    expect(comparer.cost).to_contain_text("1 cell cannot run")
    comparer.run()
    expect(comparer.cells.nth(1).locator(".card-end")).to_contain_text("which is more than Length")
    assert [cell["reason"] for cell in comparer.exported()][1] == "error"
    assert comparer.exported()[0]["text"]


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
def test_what_is_wrong_is_a_sentence_and_nothing_is_lost(
    comparer: Comparer, prompt: str, values: str, length: str, words: str
) -> None:
    comparer.prompt.fill(prompt)
    comparer.axis("columns", "temperature", values)
    comparer.length(length)
    expect(comparer.cost).to_contain_text(words)
    comparer.run()
    expect(comparer.person.notice).to_contain_text(words)
    expect(comparer.page.locator("[data-wrong]").first).to_be_visible()
    expect(comparer.prompt).to_have_value(prompt)
    expect(comparer.cells).to_have_count(0)


def test_hostile_text_is_text_everywhere(comparer: Comparer) -> None:
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
def test_what_lies_in_the_storage_and_is_not_ours_does_no_harm(
    comparer: Comparer, stored: str
) -> None:
    for key in ("compare", "compare-grid"):
        comparer.page.add_init_script(
            f"localStorage.setItem('gptj-playground/{key}', {json.dumps(stored)})"
        )
    comparer.page.reload()
    comparer.prompt.fill(PROMPT)
    expect(comparer.cost).to_contain_text("at most")


def test_without_a_storage_one_can_compare_all_the_same(site: Site, visit: Visit) -> None:
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


def test_the_keyboard_is_enough_and_leaves_the_editor_alone(comparer: Comparer) -> None:
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


def test_the_api_compares_too(site: Site) -> None:
    from gradio_client import Client

    client = Client(site.url, verbose=False)
    described = client.view_api(print_info=False, return_format="dict")
    parameters = described["named_endpoints"]["/compare"]["parameters"]
    assert [parameter["parameter_name"] for parameter in parameters] == [
        "prompt", "columns", "column_values", "rows", "row_values", "placeholders", "same_seed",
        "controls",
    ]  # fmt: skip
    answer = client.predict(
        "A {who}",
        "temperature",
        "0.2 to 1 in 2 steps",
        placeholders={"who": ["king", "fox"]},
        controls={"max_new_tokens": 5, "seed": 3},
        api_name="/compare",
    )
    assert answer["prompts"] == ["A king", "A fox"]
    assert answer["rows"] == [[["who", "king"]], [["who", "fox"]]]
    assert answer["columns"] == [[["Temperature", "0.2"]], [["Temperature", "1"]]]
    for cell in answer["cells"]:
        prompt = answer["prompts"][cell["prompt"]]
        assert cell["settings"]["seed"] == 3
        alone = client.predict(prompt, **cell["settings"], api_name="/generate")
        assert cell["text"] == alone
        assert cell["end"]["reason"] in ("length", "stop")
    with pytest.raises(Exception, match="at most 36 are compared"):
        client.predict(
            "x", "seed", "1 to 36 in 36 steps", "temperature", "0, 1", api_name="/compare"
        )
