"""The help: theme, size of the text, language, shortcuts, and a tour that can be skipped."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from .conftest import Site, Visitor
from .test_accessibility import PHONE, WIDE, audit
from .writers import start_endless


def test_help_sets_text_size_and_theme_and_the_tour_is_offered_until_refused(
    visitor: Visitor,
) -> None:
    page = visitor.page
    visitor.prompt.focus()
    page.keyboard.type("Who?")
    expect(page.get_by_role("dialog")).to_have_count(0)  # a question mark in the text opens nothing
    size = visitor.prompt.evaluate("area => parseFloat(getComputedStyle(area).fontSize)")
    visitor.button("Help and shortcuts").click()
    help_ = page.get_by_role("dialog", name="Help")
    expect(help_).to_contain_text("write at the caret")
    help_.get_by_label("Size of the written text").select_option(label="Larger")
    help_.get_by_label("Light or dark").select_option("dark")
    expect(page.locator("body.dark")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(help_).to_be_hidden()
    larger = visitor.prompt.evaluate("area => parseFloat(getComputedStyle(area).fontSize)")
    assert larger == pytest.approx(1.5 * size)
    assert page.locator(".ink").evaluate("n => parseFloat(getComputedStyle(n).fontSize)") == larger
    page.locator(".top .themes").select_option("light")
    expect(page.locator("body.dark")).to_have_count(0)
    visitor.button("Help and shortcuts").click()
    expect(help_.get_by_label("Light or dark")).to_have_value("light")
    help_.get_by_label("Light or dark").select_option("system")
    expect(page.locator(".top .themes")).to_have_value("system")
    page.keyboard.press("Escape")
    visitor.button("No tour").click()
    expect(page.locator(".tour-offer")).to_be_hidden()
    page.reload()
    expect(visitor.button("Help and shortcuts")).to_be_visible()
    expect(page.locator(".tour-offer")).to_be_hidden()
    again = visitor.prompt.evaluate("area => parseFloat(getComputedStyle(area).fontSize)")
    assert again == larger


@pytest.mark.parametrize("screen", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_help_and_the_tour_have_no_accessibility_finding(
    site: Site, visit: Callable[..., Visitor], screen: dict[str, object]
) -> None:
    person = visit(site.url, **screen)
    page = person.page
    person.button("Take the tour").click()
    tour = page.get_by_role("dialog", name="Take the tour")
    for step in range(1, 6):
        expect(tour).to_contain_text(f"{step} of 5")
        expect(tour).to_be_in_viewport(ratio=1)
        if step in (1, 5):
            assert audit(page) == []
        page.get_by_role("button", name="Next" if step < 5 else "Begin to write").click()
    expect(tour).to_have_count(0)
    expect(page.locator(".is-toured")).to_have_count(0)
    page.keyboard.type("Begun")
    expect(person.prompt).to_have_value("Begun")
    page.locator('[data-goes-to="about"]').click()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Help")).to_be_visible()
    assert audit(page) == []


def test_escape_closes_a_dialog_or_menu_without_stopping_the_model(
    site: Site, visitor: Visitor
) -> None:
    start_endless(site, visitor)
    page = visitor.page
    page.locator('[data-help="open"]').first.click()
    dialog = page.get_by_role("dialog", name="Help")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    visitor.button("Share").click()
    expect(page.locator("#share-menu")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#share-menu")).to_be_hidden()
    expect(visitor.status_line).not_to_contain_text("topping")
    expect(visitor.button("Stop")).to_be_visible()
    page.keyboard.press("Escape")
    site.resume_engine()
    visitor.finished()


def test_a_mac_names_its_own_keys_in_the_help_on_buttons_and_in_texts(visitor: Visitor) -> None:
    page = visitor.page
    page.add_init_script(
        "Object.defineProperty(Navigator.prototype, 'platform', { get: () => 'MacIntel' })"
    )
    page.reload()
    expect(page.locator('[data-action="undo"]')).to_have_attribute("title", "Undo (⌘Z)")
    expect(page.locator('[data-action="generate"] kbd')).to_have_text("⌘⏎")
    expect(page.locator('[data-action="here"]')).to_have_attribute("title", re.compile("⌥Enter"))
    visitor.button("Help and shortcuts").click()
    keys = page.get_by_role("dialog", name="Help").locator("dt")
    expect(keys.nth(5)).to_have_text("⌘⇧Z")
    markup = page.locator(".gradio-container").evaluate("node => node.outerHTML")
    shown = re.sub(r'aria-keyshortcuts="[^"]*"', "", markup)  # these have standard names
    assert not re.findall(r"(?:Ctrl|Alt|Shift)[ +].{9}", shown)
