"""The page for everybody: axe-core's audit of every view, the keyboard alone, less motion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, expect

from gptj_demo.sampling import CONTROLS
from gptj_demo.texts import say
from gptj_demo.ui.controls import OPEN_GROUPS
from gptj_demo.ui.page import VIEWS

from .conftest import Site, Visitor

Visit = Callable[..., Visitor]
WIDE = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
CLOSED_GROUPS = [
    say(f"group.{group}")
    for group in dict.fromkeys(control.group for control in CONTROLS)
    if group not in OPEN_GROUPS
]


def audit(page: Page) -> list[str]:
    """What axe-core finds serious or critical on what is shown, one line an element."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    return [
        f"{finding['id']}: {node['target']} {node['failureSummary']}"
        for finding in found
        if finding["impact"] in ("serious", "critical")
        for node in finding["nodes"]
    ]


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("screen", [WIDE, PHONE], ids=["wide", "phone"])
def test_no_view_has_a_serious_finding(
    site: Site, visit: Visit, scheme: str, screen: dict[str, Any]
) -> None:
    person = visit(site.url, color_scheme=scheme, **screen)
    expect(person.page.locator('.top[data-state="ready"]')).to_be_visible()
    for view in VIEWS:
        person.page.locator(f'[data-goes-to="{view}"]').click()
        expect(person.page.locator(f"#view-{view}")).to_be_visible()
        assert audit(person.page) == [], view


def test_no_opened_part_has_a_serious_finding(site: Site, visit: Visit, scheme: str) -> None:
    person = visit(site.url, color_scheme=scheme)
    person.set_number("Length", "10")
    for group in CLOSED_GROUPS:
        person.open_group(group)
    person.set_text("logprobs", "3")
    person.set_number("Completions", "2")
    person.page.get_by_label("Score the prompt").check()
    person.write("Once upon a time ")
    person.generate()
    for table in person.page.locator("details.tokens:visible > summary").all():
        table.click()
    person.page.locator("details.model > summary").click()
    assert audit(person.page) == []


@pytest.mark.parametrize("screen", [WIDE, PHONE], ids=["wide", "phone"])
def test_scaffold_forms_and_their_notices_have_no_serious_finding(
    site: Site, visit: Visit, scheme: str, screen: dict[str, Any]
) -> None:
    person = visit(site.url, color_scheme=scheme, **screen)
    expect(person.page.locator('.top[data-state="ready"]')).to_be_visible()
    person.button("Scaffolds").click()
    person.button("Few-shot list").click()
    expect(person.page.get_by_role("dialog")).to_be_visible()
    assert audit(person.page) == []
    person.button("Write it").click()
    expect(person.page.locator(".aside")).to_be_visible()
    assert audit(person.page) == []


@pytest.mark.parametrize("screen", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_why_view_with_results_has_no_serious_finding(
    site: Site, visit: Visit, scheme: str, screen: dict[str, Any]
) -> None:
    page = visit(site.url, color_scheme=scheme, **screen).page
    page.locator('[data-goes-to="why"]').click()
    page.get_by_label("Prompt to try").fill("The king was old. Once upon a time")
    page.get_by_label("Continuation, kept fixed").fill(" there was a king.")
    page.get_by_role("button", name="Score", exact=True).click()
    expect(page.locator(".why-table tbody tr").first).to_be_visible()
    page.get_by_role("button", name="Which parts mattered?").click()
    expect(page.locator('[data-panel="parts"]')).to_be_visible()
    page.locator('[data-ribbon="parts"] [role="option"]').first.click()
    assert audit(page) == []


def test_no_refusal_has_a_serious_finding(site: Site, visit: Visit, scheme: str) -> None:
    person = visit(site.url, color_scheme=scheme, **PHONE)
    person.write("Kept")
    person.button("Controls").click()
    person.open_group("Stopping")
    person.set_number("Minimum length", "200")
    assert audit(person.page) == []
    person.button("Done").click()
    person.page.keyboard.press("Control+Enter")
    expect(person.notice).to_contain_text("which is more than")
    assert audit(person.page) == []


# ---- the keyboard alone


def press_until(person: Visitor, key: str, focused: str, most: int = 60) -> None:
    """Press a key until the focused element matches a selector."""
    for _ in range(most):
        person.page.keyboard.press(key)
        if person.page.evaluate("s => document.activeElement.matches(s)", focused):
            return
    pytest.fail(f"{key} does not come to {focused}")


def test_the_text_the_groups_and_every_view_are_reachable_by_keyboard(
    site: Site, visit: Visit
) -> None:
    visitor = visit(site.url, has_touch=True)  # on touch screens nothing takes the focus
    expect(visitor.page.locator('.top[data-state="ready"]')).to_be_visible()  # all is mounted
    keyboard = visitor.page.keyboard
    keyboard.press("Tab")
    skip = visitor.page.get_by_role("link", name="Skip to the text")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    keyboard.press("Enter")
    expect(visitor.prompt).to_be_focused()
    keyboard.type("Once upon a time")
    press_until(visitor, "Tab", '[aria-label="number input for Length"]')
    keyboard.press("Control+a")
    keyboard.type("8")
    keyboard.press("Control+Enter")
    expect(visitor.model_words.first).not_to_be_empty()
    visitor.finished()
    group = visitor.group("Repetition")
    press_until(visitor, "Tab", "#group-repetition > button")
    expect(group.locator("> button")).to_have_attribute("aria-expanded", "false")
    keyboard.press("Enter")
    expect(group.locator("> button")).to_have_attribute("aria-expanded", "true")
    expect(group.locator(".control").first).to_be_visible()
    for view in [*list(VIEWS)[1:], "write"]:
        press_until(visitor, "Shift+Tab", f'[data-goes-to="{view}"]', most=200)
        keyboard.press("Enter")
        expect(visitor.page.locator(f"#view-{view}")).to_be_visible()
        press_until(visitor, "Tab", f"#view-{view} *")


def test_skip_leads_to_the_view_that_is_shown(visitor: Visitor) -> None:
    visitor.page.locator('[data-goes-to="about"]').click()
    expect(visitor.page.locator("#view-about")).to_be_visible()
    visitor.page.locator(".skip").focus()
    visitor.page.keyboard.press("Enter")
    assert visitor.page.evaluate("Boolean(document.activeElement.closest('#view-about'))")
    expect(visitor.page.locator("#view-about")).to_be_visible()
    visitor.page.locator('[data-goes-to="compare"]').click()
    expect(visitor.page.locator("#view-compare")).to_be_visible()
    visitor.page.locator(".skip").focus()
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.get_by_label("Prompt or template")).to_be_focused()


def test_the_focused_element_has_a_visible_outline(visitor: Visitor) -> None:
    visitor.page.evaluate("document.activeElement.blur()")
    unseen = []
    for _ in range(40):
        visitor.page.keyboard.press("Tab")
        shown = visitor.page.evaluate(
            """() => {
                const at = document.activeElement;
                if (at === document.body || at.tagName === "TEXTAREA") return true; // the caret
                const lines = [at, at.parentElement, at.closest("label")].filter(Boolean)
                    .map((node) => getComputedStyle(node));
                return lines.some((l) => l.outlineStyle !== "none" && parseFloat(l.outlineWidth)
                    || l.boxShadow !== "none" || at.type === "range") || at.outerHTML;
            }"""
        )
        if shown is not True:
            unseen.append(shown[:200])
    assert unseen == []


def test_reduced_motion_disables_animations(site: Site, visit: Visit) -> None:
    person = visit(site.url, reduced_motion="reduce", **PHONE)
    moving = person.page.evaluate(
        """() => [...document.querySelectorAll('.gradio-container *')].filter((node) => {
            const { transitionDuration, animationDuration } = getComputedStyle(node);
            return [transitionDuration, animationDuration].join(', ').split(', ')
                .some((duration) => parseFloat(duration) > 0.01);
        }).map((node) => node.outerHTML.slice(0, 120))"""
    )
    assert moving == []
