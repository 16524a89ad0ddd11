"""Scaffolds of one's own: a text with placeholders is saved, filled in, kept, and deleted."""

from __future__ import annotations

from playwright.sync_api import expect

from .conftest import Visitor
from .test_accessibility import audit
from .writers import save_as_scaffold

TEXT = "{hero} came to {the old house}. <b>{hero}</b> knocked."


def test_a_text_becomes_a_scaffold_with_fields(visitor: Visitor) -> None:
    page = visitor.page
    visitor.write(TEXT)
    visitor.button("Scaffolds").click()
    visitor.button("+ Save this text").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("such as {hero}")
    dialog.get_by_label("Name").fill("House <i>")
    page.keyboard.press("Enter")
    expect(page.locator(".aside")).to_contain_text("House <i>")
    page.reload()
    visitor.button("Scaffolds").click()
    visitor.button("House <i>").click()
    expect(page.locator(".scaffold .of-sample")).to_be_hidden()  # only for built-in scaffolds
    assert audit(page) == []
    dialog.get_by_label("hero").fill("Ann {the old house}")
    dialog.get_by_label("the old house").fill("a mill")
    visitor.button("Write it").click()
    expect(visitor.prompt).to_have_value(
        "Ann {the old house} came to a mill. <b>Ann {the old house}</b> knocked."
    )
    page.keyboard.press("Control+z")
    expect(visitor.prompt).to_have_value(TEXT)
    visitor.button("House <i>").click()
    visitor.button("Delete").click()
    expect(visitor.button("House <i>")).to_have_count(0)
    page.locator(".aside").get_by_role("button", name="Undo").click()
    expect(visitor.button("House <i>")).to_be_visible()
    expect(visitor.prompt).to_have_value(TEXT)  # Undo puts the scaffold back, not the text
    visitor.button("House <i>").click()
    visitor.button("Delete").click()
    expect(visitor.button("House <i>")).to_have_count(0)
    expect(visitor.button("Few-shot list")).to_be_visible()


def test_a_text_that_is_too_long_for_a_scaffold_is_refused(visitor: Visitor) -> None:
    page = visitor.page
    page.evaluate("gptj.emit('text', 'x'.repeat(20001))")
    save_as_scaffold(visitor, "Long")
    expect(visitor.notice).to_contain_text("has 20,001 characters; a scaffold has at most 20,000")
    expect(page.locator(".aside")).to_be_hidden()
    expect(visitor.button("Long")).to_have_count(0)
