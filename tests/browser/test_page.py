"""How the page looks, and how it is used by keyboard, by touch and by screen readers."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from .conftest import Site, Visitor
from .writers import CLOSED_GROUPS

Visit = Callable[..., Visitor]


def test_the_status_line_shows_the_model_and_its_precision(site: Site, visitor: Visitor) -> None:
    model = site.status()["model"]
    line = visitor.page.locator(".model-line")
    expect(line).to_contain_text(model["precision"])
    expect(line).to_contain_text(model["device"])
    expect(line).to_contain_text("Sample model" if model["is_sample"] else model["name"])
    honest = visitor.page.locator(".honest")
    expect(honest).to_contain_text(
        "sample model, not GPT-J" if model["is_sample"] else "base model"
    )
    line.click()
    expect(visitor.page.get_by_text(model["why"])).to_be_visible()


def test_the_page_is_operated_by_keyboard(visitor: Visitor) -> None:
    keyboard = visitor.page.keyboard
    expect(visitor.prompt).to_be_focused()
    keyboard.type("The old woman")
    keyboard.press("Tab")
    expect(visitor.page.locator('[data-action="generate"]')).to_be_focused()
    keyboard.press("Enter")
    expect(visitor.model_words.first).not_to_be_empty()
    visitor.finished()
    expect(visitor.page.locator('[data-action="generate"]')).to_be_focused()
    keyboard.press("Tab")
    expect(visitor.page.get_by_label("Continuations at once")).to_be_focused()
    keyboard.press("Tab")
    expect(visitor.button("Retry")).to_be_focused()
    keyboard.press("Tab")
    expect(visitor.button("Undo")).to_be_focused()
    keyboard.press("Enter")
    expect(visitor.prompt).to_have_value("The old woman")
    for _ in range(40):
        keyboard.press("Tab")
        if (
            visitor.page.evaluate("document.activeElement?.ariaLabel")
            == "range slider for Temperature"
        ):
            break
    keyboard.press("ArrowRight")
    expect(visitor.page.get_by_label("number input for Temperature")).to_have_value("0.85")


def test_every_button_and_field_has_an_accessible_name(visitor: Visitor) -> None:
    for group in CLOSED_GROUPS:
        visitor.open_group(group)
    expect(visitor.page.locator("#control-seed")).to_be_visible()
    nameless = visitor.page.evaluate(
        """() => [...document.querySelectorAll('button, input, textarea, summary')]
            .filter((node) => node.checkVisibility() && !(node.ariaLabel || node.innerText?.trim()
                || node.labels?.length || node.title))
            .map((node) => node.outerHTML)"""
    )
    assert nameless == []


def test_a_phone_has_one_column_and_the_controls_in_a_drawer(site: Site, visit: Visit) -> None:
    person = visit(site.url, viewport={"width": 390, "height": 844}, has_touch=True)
    overflow = "document.documentElement.scrollWidth - innerWidth"
    temperature = person.page.get_by_label("number input for Temperature")
    expect(temperature).to_be_hidden()
    generate = person.page.locator('[data-action="generate"]').bounding_box()
    assert generate is not None
    assert generate["y"] + generate["height"] < 844
    assert generate["height"] >= 44
    assert person.page.evaluate(overflow) <= 0
    person.button("Controls").click()
    expect(temperature).to_be_visible()
    assert person.page.evaluate(overflow) <= 0
    person.set_number("Length", "12")
    person.button("Done").click()
    expect(temperature).to_be_hidden()
    person.prompt.tap()
    person.page.keyboard.type("Once upon a time")
    generating = person.page.locator('[data-action="generate"]')
    generating.tap()
    expect(person.model_words.first).not_to_be_empty()
    person.finished()
    assert person.page.evaluate(overflow) <= 0


def contrast(person: Visitor, text: str, ground: str) -> float:
    """Contrast ratio of two elements' colours, as WCAG defines it."""

    def luminance(colour: str) -> float:
        channels = [int(c) / 255 for c in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    ink = person.page.locator(text).first.evaluate("e => getComputedStyle(e).color")
    paper = person.page.locator(ground).first.evaluate("e => getComputedStyle(e).backgroundColor")
    light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_typed_and_generated_text_have_enough_contrast_in_both_themes(
    site: Site, visit: Visit, scheme: str
) -> None:
    person = visit(site.url, color_scheme=scheme)
    person.set_number("Length", "5")
    person.write("Once upon a time")
    person.generate()
    for ink in (".by-person", ".by-model"):
        assert contrast(person, ink, ".sheet") >= 7
    assert contrast(person, ".status-line", ".gradio-container") >= 4.5
    assert contrast(person, ".filled .name", ".filled") >= 4.5
    paper = person.page.locator(".sheet").evaluate("e => getComputedStyle(e).backgroundColor")
    assert (sum(int(c) for c in re.findall(r"\d+", paper)[:3]) < 200) is (scheme == "dark")


def test_the_page_asks_no_other_host(site: Site, visit: Visit) -> None:
    person = visit(site.url)
    hosts: set[str] = set()
    person.page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    person.page.reload()
    expect(person.prompt).to_be_visible()
    person.write("x")
    person.set_number("Length", "3")
    person.generate()
    assert {host for host in hosts if not host.startswith("127.0.0.1")} <= {""}
