"""Comparisons with the sample model behind them: three slots for one visitor, two in the queue."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.waiting import eventually

from .comparer import PROMPT, Comparer, without_guard
from .conftest import Site, Visitor
from .writers import ATTEMPTS

Visit = Callable[..., Visitor]


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


def test_grid_cells_equal_single_requests(site: Site, five_by_three: Comparer) -> None:
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


def test_cells_are_shown_as_a_sorted_list_or_as_the_grid(five_by_three: Comparer) -> None:
    page = five_by_three.page
    arrange = page.locator("#view-compare").get_by_label("Arrange")
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
    texts = [without_guard(row["text"]) for row in rows]
    assert texts == [cell["text"] for cell in comparer.exported()]


A_CELL_HAS_WORDS = "[...document.querySelectorAll('.cell-text')].some((node) => node.textContent)"


def start_endless(site: Site, comparer: Comparer) -> None:
    """Start six cells and pause the engine while the first three run."""
    comparer.prompt.fill(PROMPT)
    comparer.axis("columns", "temperature", "0.01, 0.02, 0.03, 0.04, 0.05, 0.06")
    comparer.length(1500)
    for _ in range(ATTEMPTS):
        before = site.metrics()["gptj_requests_received_total"]
        comparer.run_button.click()
        comparer.page.wait_for_function(A_CELL_HAS_WORDS)
        site.pause_engine()
        metrics = site.metrics()
        sent = metrics["gptj_requests_received_total"] - before
        if sent == metrics["gptj_streams_running"] == 3:
            return
        site.resume_engine()  # a cell had ended before the pause
        comparer.page.keyboard.press("Escape")
        comparer.finished()
    pytest.fail(f"in {ATTEMPTS} comparisons a cell was complete before the pause")


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
    eventually(lambda: site.status()["streams_running"] + site.status()["streams_waiting"] == 0)


def test_another_visitor_is_served_while_a_comparison_runs(
    site: Site, comparer: Comparer, visit: Visit
) -> None:
    start_endless(site, comparer)
    other = visit(site.url)
    other.set_number("Length", "5")
    other.write("Mine")
    other.page.keyboard.press("Control+Enter")
    eventually(lambda: site.status()["streams_waiting"] > 0)
    site.resume_engine()
    other.finished()
    assert len(other.text) > len("Mine")
    comparer.page.keyboard.press("Escape")
    comparer.finished()


def test_a_contradictory_cell_shows_its_error_and_the_other_cells_run(comparer: Comparer) -> None:
    comparer.prompt.fill(PROMPT)
    comparer.axis("columns", "min_new_tokens", "0, 40")
    comparer.length(10)
    expect(comparer.cost).to_contain_text("1 cell cannot run")
    comparer.run()
    expect(comparer.cells.nth(1).locator(".card-end")).to_contain_text("which is more than Length")
    assert [cell["reason"] for cell in comparer.exported()][1] == "error"
    assert comparer.exported()[0]["text"]


def test_the_gradio_api_runs_comparisons(site: Site) -> None:
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


def test_back_and_forward_close_the_dialog_of_the_view_that_is_left(comparer: Comparer) -> None:
    person, page = comparer.person, comparer.page
    comparer.prompt.fill(PROMPT)
    comparer.length(4)
    comparer.run()
    comparer.cells.first.get_by_role("button", name="Expand").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.go_back()
    expect(person.prompt).to_be_visible()
    expect(page.locator("dialog[open]")).to_have_count(0)
    person.set_number("Length", "4")
    person.write(PROMPT)
    person.button("Generate").click()
    person.finished()
    expect(person.model_words).not_to_be_empty()
    person.button("Share").click()
    person.button("Link to this text").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.go_forward()
    expect(comparer.cells.first).to_be_visible()
    expect(page.locator("dialog[open]")).to_have_count(0)
    comparer.cells.first.get_by_role("button", name="Expand").click()
    expect(page.get_by_role("dialog")).to_contain_text(PROMPT)


def test_a_cell_without_words_says_so(visitor: Visitor) -> None:
    end = {"reason": "stop", "message": "The model ended its text here."}
    cell = {"row": 0, "column": 0, "prompt": 0, "settings": {}, "state": "done", "tokens": 0}
    cells = [cell | {"text": "", "end": end}]
    shape = {"rows": [[]], "columns": [[]], "prompts": ["P"], "controls": {}}
    kept = json.dumps({"version": 1, "grid": shape | {"cells": cells}})
    visitor.page.evaluate(
        "kept => localStorage.setItem('gptj-playground/compare-grid', kept)", kept
    )
    visitor.page.reload()
    comparer = Comparer(visitor)
    expect(comparer.cells).to_contain_text("No words came.")
    expect(comparer.cells.get_by_role("button", name="To editor")).to_be_disabled()


def test_cells_that_are_too_long_are_written_without_the_beginning_of_their_text(
    comparer: Comparer,
) -> None:
    notice = comparer.page.locator(".compare:not(.batch) .notice")
    comparer.prompt.fill("A {who} came.")
    comparer.values_of("who").fill("king\n" + "fox and crow " * 2000)
    comparer.axis("columns", "temperature", "0.5, 1")
    comparer.length(4)
    comparer.run()
    short = [cell["text"] for cell in comparer.exported() if cell["reason"] != "error"]
    assert len(short) == 2
    expect(notice).to_contain_text("let its beginning be left out")
    notice.get_by_role("button", name="Leave out the beginning and go on").click()
    expect(comparer.page.locator(".cell.is-broken")).to_have_count(0)
    comparer.finished()
    expect(notice).to_be_hidden()
    texts = [cell["text"] for cell in comparer.exported()]
    assert texts[:2] == short, "the same seed gives the same words"
    comparer.cells.last.get_by_role("button", name="Expand").click()
    expect(comparer.page.locator(".cell-settings")).to_contain_text("of the prompt left out")


def test_of_a_text_too_long_for_the_server_the_end_is_compared(comparer: Comparer) -> None:
    person, page = comparer.person, comparer.page
    notice = page.locator(".compare:not(.batch) .notice")
    text = "word " * 40_000 + PROMPT
    comparer.prompt.fill(text)
    comparer.axis("columns", "preset", "Greedy")
    comparer.length(4)
    expect(comparer.cost).to_contain_text("at most 200,000 are read")
    comparer.run()
    notice.get_by_role("button", name="Always do that").click()
    expect(page.locator(".cell.is-broken")).to_have_count(0)
    comparer.finished()
    expect(comparer.cost).to_contain_text("1 cell")
    cell = comparer.exported()[0]
    assert cell["prompt"] == text
    assert cell["completion_tokens"] == 4
    comparer.cells.first.get_by_role("button", name="To editor").click()
    expect(person.prompt).to_have_value(text + cell["text"])


def test_a_template_that_becomes_too_long_must_be_shortened(comparer: Comparer) -> None:
    comparer.prompt.fill("A {who} came.")
    comparer.values_of("who").fill("word " * 40_001)
    comparer.run_button.click()
    expect(comparer.cost).to_contain_text("With its values the template has 200,013 characters")
    expect(comparer.page.locator(".compare:not(.batch) .notice")).to_be_hidden()
