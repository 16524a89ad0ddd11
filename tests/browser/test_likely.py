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
    count = rows.count()
    page.get_by_role("button", name="Grow from here").click()
    expect(rows).not_to_have_count(count)
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


def pieces(person: Visitor) -> dict[str, float]:
    """Edges of the chosen row, of the panel, and of the panel's text and chosen words."""
    return dict(
        person.page.evaluate(
            """() => {
              const box = (selector) => document.querySelector(selector).getBoundingClientRect();
              return {
                row: box('.likely-row[aria-selected="true"]').bottom,
                panel: box(".likely-chosen").top,
                text: box(".likely-text").bottom,
                words: box(".likely-text .by-model").bottom,
              };
            }"""
        )
    )


@pytest.mark.parametrize("screen", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_panel_shows_the_chosen_words_after_a_long_text(
    site: Site, visit: Callable[..., Visitor], screen: dict[str, object]
) -> None:
    person = visit(site.url, **screen)
    person.prompt.fill("\n\n".join([f"{TEXT}."] * 12))
    grow(person, "50")
    person.page.locator(".likely-row", has_text="Once").first.click()
    edges = pieces(person)
    assert edges["words"] <= edges["text"] + 1


def test_a_chosen_row_is_not_hidden_by_the_panel_of_a_phone(
    site: Site, visit: Callable[..., Visitor]
) -> None:
    person = visit(site.url, **PHONE)
    person.write(TEXT)
    grow(person, "50")
    page = person.page
    lowest = page.locator(".likely-row").last
    lowest.evaluate("row => row.scrollIntoView({block: 'end'})")
    lowest.click()
    expect(lowest).to_have_attribute("aria-selected", "true")
    edges = pieces(person)
    assert edges["row"] <= edges["panel"]


def test_the_end_of_a_long_text_is_shown_where_a_continuation_was_put(visitor: Visitor) -> None:
    visitor.prompt.fill("\n\n".join([f"{TEXT}."] * 30))
    grow(visitor, "50")
    visitor.page.get_by_role("tree").focus()
    visitor.button("Write it in the editor").click()
    expect(visitor.prompt).to_be_focused()
    expect(visitor.model_words).to_be_in_viewport()


def test_a_tree_of_another_text_says_that_it_replaces_the_editors(visitor: Visitor) -> None:
    page = visitor.page
    visitor.write(TEXT)
    grow(visitor, "50")
    page.get_by_role("tree").focus()
    expect(visitor.button("Write it in the editor")).to_be_visible()
    words = page.locator(".likely-text .by-model").inner_text()
    page.locator('[data-goes-to="write"]').click()
    page.locator(".file-menu summary").click()
    visitor.button("New text").click()
    own = "My own new story."
    visitor.write(own)
    page.locator('[data-goes-to="likely"]').click()
    expect(page.locator(".likely-progress")).to_contain_text("another text than the editor's")
    visitor.button("Replace the editor's text").click()
    assert visitor.text == TEXT + words
    remark = page.locator(".remark.aside")
    expect(remark).to_contain_text("The editor had another text.")
    remark.get_by_role("button", name="Undo").click()
    expect(visitor.prompt).to_have_value(own)


def test_a_tree_grows_after_the_end_of_a_text_that_is_too_long(visitor: Visitor) -> None:
    page = visitor.page
    visitor.prompt.fill(f"{TEXT}. " * 400)
    page.locator('[data-goes-to="likely"]').click()
    page.get_by_label("Tokens in the tree").select_option("50")
    page.keyboard.press("Control+Enter")
    notice = page.locator("#likely .notice")
    expect(notice).to_contain_text("let its beginning be left out")
    notice.get_by_role("button", name="Leave out the beginning and go on").click()
    expect(page.locator(".likely-progress")).to_have_text("50 tokens")
    expect(notice).to_be_hidden()
    rows = page.locator(".likely-row")
    rows.first.click()
    expect(rows.first).to_have_attribute("aria-selected", "true")
    count = rows.count()
    page.get_by_role("button", name="Grow from here").click()
    expect(rows).not_to_have_count(count)
    expect(page.locator(".likely-progress")).to_have_text("50 tokens")
    expect(page.locator('.likely-row[aria-level="3"]').first).to_be_visible()
    expect(notice).to_be_hidden()
