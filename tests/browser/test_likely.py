"""The Likely view: a tree grows, is walked by keyboard, and writes into the editor."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from .conftest import Site, Visitor
from .test_accessibility import PHONE, WIDE, audit

TEXT = "Once upon a time there was a little girl"


def grow(person: Visitor, tokens: str) -> None:
    """Grow a tree behind the editor's text."""
    page = person.page
    page.locator('[data-goes-to="likely"]').click()
    page.get_by_label("Tokens in the tree").select_option(tokens)
    page.keyboard.press("Control+Enter")
    expect(page.locator(".likely-progress")).to_have_text(f"{tokens} tokens")


def test_a_tree_is_navigated_grown_and_its_continuation_inserted(visitor: Visitor) -> None:
    page = visitor.page
    visitor.write(TEXT)
    grow(visitor, "50")
    expect(page.locator(".likely-prompt")).to_have_text(TEXT)
    expect(page.locator(".likely-covered li").first).to_contain_text("%")
    rows = page.locator(".likely-row")
    count = rows.count()
    page.get_by_role("tree").focus()
    chosen = page.locator('.likely-row[aria-selected="true"]')
    expect(chosen).to_have_attribute("id", "likely-row-0")
    page.keyboard.press("ArrowLeft")  # closes the first way
    expect(chosen).to_have_attribute("aria-expanded", "false")
    assert rows.count() < count
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(chosen).to_have_attribute("aria-level", "2")
    continuation = page.locator(".likely-text .by-model").inner_text()
    page.get_by_role("button", name="Grow from here").click()
    expect(page.locator(".likely-progress")).to_have_text("50 tokens")
    expect(chosen).to_have_attribute("aria-expanded", "true")
    expect(page.locator('.likely-row[aria-level="4"]').first).to_be_visible()
    page.get_by_role("tree").focus()
    page.keyboard.press("Enter")
    expect(visitor.prompt).to_be_visible()
    assert visitor.text == TEXT + continuation
    expect(visitor.model_words).to_have_text(continuation)
    page.keyboard.press("Control+z")
    assert visitor.text == TEXT


def test_after_greedy_controls_one_path_has_all_the_probability(visitor: Visitor) -> None:
    page = visitor.page
    visitor.write(TEXT)
    visitor.page.get_by_role("radio", name="Greedy").check()
    page.locator('[data-goes-to="likely"]').click()
    page.locator('[data-field="whose"]').select_option(label="After the controls")
    page.get_by_label("Longest, in tokens").select_option("4")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".likely-progress")).to_have_text("4 tokens")
    expect(page.locator(".likely-covered li b")).to_have_text(["100.0 %"] * 4)


@pytest.mark.parametrize("screen", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("language", ["en", "ar"])
def test_the_tree_has_no_accessibility_finding_in_either_language(
    site: Site, visit: Callable[..., Visitor], language: str, screen: dict[str, object]
) -> None:
    scheme = "dark" if language == "ar" else "light"
    person = visit(site.url, color_scheme=scheme, locale=language, **screen)
    page = person.page
    page.locator('[data-goes-to="likely"]').click()
    page.locator('[data-field="nodes"]').select_option("50")
    page.locator('[data-action="grow"]').click()
    page.locator(".likely-row").first.click()
    expect(page.locator(".likely-chosen")).to_be_in_viewport()
    assert audit(page) == []
