"""Sizes, places and marks: what can be read, seen and reached, also in forced colours."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
from playwright.sync_api import expect

from .coloured import ask, show_tokens, words
from .conftest import Script, Site, Visitor
from .records import ended, said, started, token
from .test_accessibility import PHONE

Visit = Callable[..., Visitor]
Scripted = tuple[Visitor, Script]
SMALL_LETTERS = """() => [...document.querySelectorAll('#controls *')]
  .filter((node) => node.offsetParent)
  .filter(({ childNodes }) => [...childNodes].some((one) => one.nodeType === 3 && one.data.trim()))
  .filter((node) => !node.closest('.icon') && parseFloat(getComputedStyle(node).fontSize) < 12)
  .map((node) => node.outerHTML.slice(0, 80))"""


def test_help_texts_are_legible_and_arrows_are_beside_their_labels(visitor: Visitor) -> None:
    page = visitor.page
    assert page.evaluate(SMALL_LETTERS) == []
    gap = """() => [...document.querySelectorAll('.control-group .label-wrap')].map((title) => {
      const [label, arrow] = [title.querySelector('span'), title.querySelector('.icon')];
      return arrow.getBoundingClientRect().left - label.getBoundingClientRect().right; })"""
    assert max(page.evaluate(gap)) < 20
    assert page.get_by_role("button", name="Exact definitions").count() == 1
    assert page.locator("#controls summary:not(.own-presets summary)").count() == 0


def test_panels_leave_the_sheet_at_least_320_pixels(scripted: Scripted) -> None:
    person, script = scripted
    person.page.set_viewport_size({"width": 1024, "height": 600})
    show_tokens(person)
    many = [[said("words " * 40, index=i)] for i in range(3)]
    script.send([[started(n=3, candidates=3)], *many])
    person.page.keyboard.press("Control+Enter")
    expect(person.page.locator(".card").last).to_be_attached()
    sheet = "document.querySelector('.sheet').getBoundingClientRect().height"
    assert person.page.evaluate(sheet) >= 320


def test_the_hint_about_a_trailing_space_does_not_move_the_status_line(scripted: Scripted) -> None:
    person, _ = scripted
    bottom = "document.querySelector('.status-line').getBoundingClientRect().bottom"
    for width in (1280, 390):
        person.page.set_viewport_size({"width": width, "height": 800})
        person.prompt.fill("Word")
        expect(person.page.locator(".hint")).to_be_hidden()
        before = person.page.evaluate(bottom)
        person.write(" ")
        expect(person.page.locator(".hint")).to_be_visible()
        assert person.page.evaluate(bottom) == before


def test_branches_have_no_empty_column(scripted: Scripted) -> None:
    person, _ = scripted
    person.page.evaluate("gptj.show('branches')")
    widths = """() => ['.outline', '.branches-body'].map(
      (part) => document.querySelector(part).getBoundingClientRect().width)"""
    outline, body = person.page.evaluate(widths)
    assert outline == body


def test_neighbouring_tokens_of_one_colour_and_spaces_are_distinguishable(
    scripted: Scripted,
) -> None:
    person, script = scripted
    show_tokens(person)
    batch = words(("one", 0.9), (" two", 0.9), ("\n", 0.9), (" three", 0.9))
    ask(person, script, [[started()], batch, [ended()]])
    second = person.page.evaluate(
        """() => [...CSS.highlights.get('gptj-token-second')].map((range) => {
        const live = document.createRange();
        live.setStart(range.startContainer, range.startOffset);
        live.setEnd(range.endContainer, range.endOffset);
        return live.toString(); })"""
    )
    assert second == [" two", " three"]
    expect(person.page.locator(".marks text")).to_have_text("·↵·")
    places = person.page.evaluate(
        """() => { const range = document.createRange();
        const node = document.querySelector('.ink .by-model').firstChild;
        range.setStart(node, 3); range.setEnd(node, 4);
        const space = range.getBoundingClientRect();
        const layer = document.querySelector('.marks');
        const sign = layer.querySelector('text').getExtentOfChar(0);
        const { left, top } = layer.getBoundingClientRect();
        const middle = ({ x, y, width, height }) => [x + width / 2, y + height / 2];
        const [x, y] = middle(sign);
        return [middle(space), [left + x, top + y]]; }"""
    )
    for space, sign in zip(*places, strict=True):
        assert sign == pytest.approx(space, abs=3), "a sign stands in the middle of its space"
    person.button("Tokens").click()
    expect(person.page.locator(".marks text")).to_have_text("")


def test_token_colours_can_be_turned_on_during_a_stream(scripted: Scripted) -> None:
    person, script = scripted
    script.score({"tokens": [token("one", None), token(" two", math.log(0.3))], "after": 0})
    script.send([[started()], [said("one two")]])  # never ends
    person.page.keyboard.press("Control+Enter")
    expect(person.model_words).to_have_text("one two")
    show_tokens(person)
    person.page.wait_for_function("CSS.highlights.get('gptj-token-2').size === 1")
    expect(person.button("Stop")).to_be_visible()


def test_sliders_and_pressed_buttons_are_seen_in_forced_colours(visitor: Visitor) -> None:
    page = visitor.page
    page.emulate_media(forced_colors="active", reduced_motion="reduce")
    slider = page.get_by_label("range slider for Temperature")
    assert slider.evaluate("node => getComputedStyle(node).appearance") == "auto"
    visitor.button("Tokens").click()
    for pressed in ('[data-action="tokens"]', "#preset label.selected", ".views [aria-current]"):
        style = "node => getComputedStyle(node).outlineStyle"
        assert page.locator(pressed).evaluate(style) == "solid"
    page.emulate_media(forced_colors="none", reduced_motion="reduce")
    slider.focus()
    page.keyboard.press("ArrowRight")
    ring = slider.evaluate(
        """node => { const { outlineStyle, outlineWidth, outlineOffset } = getComputedStyle(node);
        const space = node.getBoundingClientRect().left
          - document.getElementById('controls').getBoundingClientRect().left;
        return [outlineStyle, parseFloat(outlineWidth) + parseFloat(outlineOffset) <= space]; }"""
    )
    assert ring == ["solid", True]
    moves = "node => getComputedStyle(node).transitionDuration"
    assert page.locator("#controls").evaluate(moves) in ("0s", "0.001s")


@pytest.mark.parametrize("locale", ["en", "ar"])
def test_the_buttons_stay_beside_the_panel(
    site: Site, visit: Callable[..., Visitor], locale: str
) -> None:
    person = visit(site.url, locale=locale)
    expect(person.page.locator(".gradio-container .bar .several")).to_be_visible()
    for width in (1400, 1280, 1271, 1270, 1181, 1180, 1061, 1060, 900, 861, 860, 600, 390):
        person.page.set_viewport_size({"width": width, "height": 800})
        beyond = person.page.evaluate(
            """() => {
              const bar = document.querySelector(".bar").getBoundingClientRect();
              return [...document.querySelectorAll(".bar :is(button, select, summary)")]
                .filter((one) => one.checkVisibility() && !one.closest(".menu"))
                .map((one) => [one.getBoundingClientRect(), one.textContent.trim()])
                .filter(([box]) => box.left < bar.left - 1 || box.right > bar.right + 1)
                .map(([, name]) => name);
            }"""
        )
        assert beyond == [], width


def test_the_content_below_the_text_fits_beside_the_panel_at_every_width(visitor: Visitor) -> None:
    person = visitor
    person.button("Tokens").click()
    person.write("Once upon a time")
    person.generate()
    person.prompt.press("ControlOrMeta+Home")
    person.prompt.press("ArrowRight")  # words follow, also where the model's end in a line break
    expect(person.page.locator('[data-action="here"]')).to_be_visible()
    expect(person.page.locator(".surprise svg")).to_be_visible()
    for width in (1400, 1181, 1180, 1000, 900, 861, 860):
        person.page.set_viewport_size({"width": width, "height": 800})
        beyond, plot = person.page.evaluate(
            """() => {
              const { left, right } = document.querySelector(".bar").getBoundingClientRect();
              const beyond = [...document.querySelectorAll(".status-line *, .surprise *")]
                .filter((one) => one.checkVisibility() && one.textContent.trim())
                .map((one) => [one.getBoundingClientRect(), one.textContent.trim()])
                .filter(([box]) => box.left < left - 1 || box.right > right + 1)
                .map(([, text]) => text);
              const plot = document.querySelector(".surprise svg").getBoundingClientRect();
              return [beyond, plot.width];
            }"""
        )
        assert beyond == [], width
        assert plot >= 150, width


def test_writing_at_the_caret_is_offered_on_a_phone_too(scripted: Scripted) -> None:
    person, script = scripted
    person.page.set_viewport_size({"width": 390, "height": 844})
    person.write("A text that is so long that the count of its words takes two digits.")
    script.say(
        " And so on", message="Wrote the 120 tokens you asked for, with all that is said then."
    )
    person.generate()
    person.prompt.evaluate("area => { area.focus(); area.setSelectionRange(6, 6); }")
    line = person.status_line.bounding_box()
    assert line
    for name in ("Write at the caret", "Fill in"):
        box = person.button(name).bounding_box()
        assert box
        assert box["y"] + box["height"] <= line["y"] + line["height"] + 1, name


def test_the_model_line_fits_on_a_phone(site: Site, visit: Visit) -> None:
    person = visit(site.url, **PHONE)
    line = person.page.locator(".model-line")
    expect(line).to_contain_text(site.status()["model"]["device"])
    assert line.evaluate("line => line.scrollWidth <= line.clientWidth")


def test_the_tabs_of_the_code_stand_beside_each_other_on_a_phone(site: Site, visit: Visit) -> None:
    person = visit(site.url, **PHONE)
    person.write("Once upon a time")
    person.button("Share").click()
    person.button("View code").click()
    expect(person.page.get_by_role("tab").first).to_be_visible()
    boxes = [tab.bounding_box() for tab in person.page.get_by_role("tab").all()]
    edges = [(box["x"], box["x"] + box["width"]) for box in boxes if box]
    assert len(edges) > 1
    assert all(end < start for (_, end), (start, _) in pairwise(edges))
    width = person.page.get_by_role("tab").first.evaluate(
        "tab => tab.scrollWidth - tab.clientWidth"
    )
    assert width <= 0


def test_a_view_is_shown_from_its_top(site: Site, visit: Visit) -> None:
    person = visit(site.url, **PHONE)
    page = person.page
    page.locator('[data-goes-to="compare"]').click()
    page.get_by_role("button", name="Change them").scroll_into_view_if_needed()
    page.evaluate("scrollTo(0, 300)")
    page.get_by_role("button", name="Change them").click()
    expect(person.prompt).to_be_visible()
    assert page.evaluate("scrollY") == 0


@pytest.mark.parametrize("language", ["en", "ar"])
def test_a_notice_with_buttons_can_be_read_on_a_phone(
    site: Site, visit: Visit, language: str
) -> None:
    page = visit(site.url, viewport={"width": 390, "height": 844}, locale=language).page
    shares = page.evaluate("""async () => {
      const { t } = await gptj.load("core/i18n.js");
      const { leaveOut, noticesOf } = await gptj.load("components/notice.js");
      const shares = {};
      for (const box of document.querySelectorAll(".view .notice")) {
        const view = box.closest(".view").id;
        gptj.show(view.replace("view-", ""));
        const root = box.parentElement;
        const kind = root.matches(".batch") ? "file" : "grid"; // which part of Compare is shown
        document.querySelector(`[data-kind="${kind}"]`).click();
        noticesOf(root).showNotice(t("editor.lost"), leaveOut(() => {}));
        const [sentence, whole] = [box.querySelector("p"), box];
        shares[`${view} ${root.className}`] = sentence.clientWidth / whole.clientWidth;
      }
      return shares;
    }""")
    assert len(shares) == 5
    assert all(share > 0.75 for share in shares.values()), shares
