"""What is on paper: black text on white, and nothing that is cut off."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page

from .comparer import PROMPT, Comparer
from .conftest import Site, Visitor
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
