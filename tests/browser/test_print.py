"""What is on paper: black text on white, and nothing that is cut off."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from gptj_demo.ui.page import VIEWS
from tests.waiting import eventually

from .comparer import PROMPT, Comparer
from .conftest import Script, Site, Visitor
from .test_likely import grow

CLEAR = "rgba(0, 0, 0, 0)"


def background(page: Page, selector: str, highlight: str | None = None) -> str:
    """The colour behind an element, or behind a highlight in it."""
    style = "([name, mark]) => getComputedStyle(document.querySelector(name), mark).backgroundColor"
    return str(page.evaluate(style, [selector, highlight]))


def cut_off(page: Page, selector: str) -> list[int]:
    """The pixels of each element that are outside of its box."""
    hidden = "boxes => boxes.map((box) => box.scrollHeight - box.clientHeight)"
    return [pixels for pixels in page.locator(selector).evaluate_all(hidden) if pixels > 1]


def test_a_dark_text_with_coloured_tokens_is_printed_black_on_white(
    site: Site, visit: Callable[..., Visitor]
) -> None:
    person = visit(site.url, color_scheme="dark")
    page = person.page
    person.write("Once upon a time")
    page.locator('[data-action="tokens"]').click()
    levels = [f"::highlight(gptj-token-{level})" for level in range(1, 6)]
    assert CLEAR not in [background(page, ".ink", level) for level in levels]
    page.emulate_media(media="print")
    assert [background(page, ".ink", level) for level in levels] == [CLEAR] * 5
    for part in ("body", "gradio-app", ".gradio-container", ".sheet", ".page", ".ink"):
        assert background(page, part) == CLEAR, part
    colour = page.locator(".ink").evaluate("ink => getComputedStyle(ink).color")
    assert colour == "rgb(0, 0, 0)"


def brightness(page: Page, variable: str) -> float:
    """Of a colour of the theme: 0 is black, 1 is white."""
    resolved = """(variable) => {
      const probe = document.body.appendChild(document.createElement("i"));
      probe.style.color = `var(${variable})`;
      const colour = getComputedStyle(probe).color;
      probe.remove();
      return colour;
    }"""
    red, green, blue, *_ = map(float, re.findall(r"[\d.]+", page.evaluate(resolved, variable)))
    return (red + green + blue) / 765


@pytest.mark.parametrize("chosen", ["system", "dark"])
def test_every_view_of_the_dark_page_is_printed_in_dark_ink_on_white(
    site: Site, visit: Callable[..., Visitor], chosen: str
) -> None:
    page = visit(site.url, color_scheme="dark" if chosen == "system" else "light").page
    page.evaluate("theme => gptj.setTheme(theme)", chosen)
    for view in VIEWS:
        page.evaluate("view => gptj.show(view)", view)
        eventually(
            lambda: brightness(page, "--sheet") < 0.2 < 0.8 < brightness(page, "--person-ink")
        )
        page.emulate_media(media="print")
        for part in ("html", "body", "gradio-app", ".gradio-container"):
            assert background(page, part) == CLEAR, (view, part)
        eventually(
            lambda: brightness(page, "--person-ink") < 0.2 < 0.8 < brightness(page, "--sheet")
        )
        expect(page.locator(".top")).to_be_hidden()
        page.emulate_media(media="screen")


def test_a_whole_comparison_is_printed(visitor: Visitor) -> None:
    comparer = Comparer(visitor)
    comparer.prompt.fill(PROMPT)
    comparer.axis("rows", "temperature")
    comparer.axis("columns", "top_p")
    comparer.length(150)
    comparer.run()
    page = visitor.page
    boxes = ".compare-cells, .compare-cells .cell-text"
    assert cut_off(page, boxes)
    page.emulate_media(media="print")
    assert cut_off(page, boxes) == []


def test_a_whole_tree_of_the_likely_is_printed(visitor: Visitor) -> None:
    visitor.write(PROMPT)
    grow(visitor, "100")
    page = visitor.page
    assert cut_off(page, ".likely-tree")
    page.emulate_media(media="print")
    assert cut_off(page, ".likely-tree") == []


def test_a_whole_text_of_a_branch_is_printed(scripted: tuple[Visitor, Script]) -> None:
    visitor, script = scripted
    script.say("words\n\n" * 60)
    visitor.generate()
    page = visitor.page
    page.evaluate("gptj.show('branches')")
    assert cut_off(page, ".chosen-text")
    page.emulate_media(media="print")
    assert cut_off(page, ".chosen-text") == []
