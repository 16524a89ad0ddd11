"""The page under a finger."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from .coloured import WITH_OTHERS, ask, inspector, show_tokens
from .conftest import Script, Site, Visitor
from .records import ended, started

Visit = Callable[..., Visitor]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
SMALL_TARGETS = """() => [...document.querySelectorAll(
    'button, summary, select, a, input, textarea, [role="button"], [role="tab"]')]
  .filter((node) => node.offsetParent && !node.matches('.skip, [type="file"]'))
  .filter((node) => !node.closest('.sr-only, [aria-hidden="true"], p, li span'))
  .map((node) => ({ node, box: (node.closest('label') ?? node).getBoundingClientRect() }))
  .filter(({ box }) => box.width > 0 && (box.width < 24 || box.height < 24))
  .map(({ node, box }) => `${node.outerHTML.slice(0, 80)} ${box.width}x${box.height}`)"""
SMALL_FIELDS = """() => [...document.querySelectorAll(
    'select, textarea, input:not([type=checkbox], [type=radio], [type=range], [type=file])')]
  .filter((node) => node.offsetParent && parseFloat(getComputedStyle(node).fontSize) < 16)
  .map((node) => node.outerHTML.slice(0, 80))"""


def test_a_tap_opens_a_token_and_it_stays(editor_site: tuple[str, Script], visit: Visit) -> None:
    url, script = editor_site
    script.forget()
    person = visit(url, **PHONE)
    person.prompt.focus()
    show_tokens(person)
    ask(person, script, [[started()], WITH_OTHERS, [ended()]])
    place = person.page.evaluate(
        """() => { const range = document.createRange();
        const node = document.querySelector('.ink .by-model').firstChild;
        range.setStart(node, 5); range.setEnd(node, 6);
        const { left, top, width, height } = range.getBoundingClientRect();
        return [left + width * 0.7, top + height / 2]; }"""
    )
    person.page.clock.install()
    person.page.touchscreen.tap(*place)
    expect(inspector(person)).to_contain_text("two")
    person.page.clock.run_for(2000)
    expect(inspector(person)).to_be_visible()
    bars = (
        inspector(person)
        .locator(".of-model")
        .evaluate_all("bars => bars.map((bar) => Number(bar.style.getPropertyValue('--share')))")
    )
    assert bars[0] == pytest.approx(0.6, abs=0.01), "relative to the largest, 50 %"
    assert bars == sorted(bars, reverse=True)


def test_every_target_is_large_enough_for_a_finger(site: Site, visit: Visit) -> None:
    person: Visitor = visit(site.url, **PHONE)
    person.write("Once upon a time")
    person.button("Tokens").click()
    for view in ("write", "branches", "compare", "likely", "why", "about"):
        person.page.evaluate("view => gptj.show(view)", view)
        expect(person.page.locator(f"#view-{view}")).to_be_visible()
        assert person.page.evaluate(SMALL_TARGETS) == [], view
        assert person.page.evaluate(SMALL_FIELDS) == [], view
    person.page.evaluate("gptj.show('write')")
    person.button("Controls").click()
    person.open_group("Stopping")
    assert person.page.evaluate(SMALL_TARGETS) == []
    assert person.page.evaluate(SMALL_FIELDS) == []
    # the panel paints nothing over the button at its lower edge
    covered = person.page.locator("#close-controls").evaluate(
        """button => { const { left, right, top, bottom } = button.getBoundingClientRect();
        const places = [...Array(20).keys()].map((i) => left + 1 + i * (right - left - 2) / 19);
        const middle = (top + bottom) / 2;
        return places.filter((x) => document.elementFromPoint(x, middle) !== button); }"""
    )
    assert covered == []
    overflow = "document.documentElement.scrollWidth - innerWidth"
    assert person.page.evaluate(overflow) <= 0
