"""Presets of one's own: saved, used, the default of new texts, deleted, exported, imported."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.sync_api import Locator, expect

from .conftest import Visitor
from .test_accessibility import audit
from .test_kept_settings import number


def presets(person: Visitor) -> Locator:
    person.page.locator(".own-presets summary").click()
    return person.page.locator(".own-presets")


def test_a_preset_is_saved_used_made_the_default_and_deleted(
    visitor: Visitor, tmp_path: Path
) -> None:
    own = presets(visitor)
    visitor.set_number("Temperature", "1.3")
    own.get_by_label("Name of a new preset").fill("Hot <b>")
    visitor.page.keyboard.press("Enter")
    expect(own.get_by_role("status")).to_have_text("Saved the present settings as Hot <b>.")
    use = own.get_by_role("button", name="Hot <b>", exact=True)
    expect(use).to_have_attribute("aria-pressed", "true")
    visitor.set_number("Temperature", "0.5")
    expect(use).to_have_attribute("aria-pressed", "false")
    use.click()
    expect(number(visitor, "Temperature")).to_have_value("1.3")
    own.get_by_role("button", name="Begin new texts with Hot <b>").click()
    assert audit(visitor.page) == []
    with visitor.page.expect_download() as downloading:
        own.get_by_role("button", name="Export").click()
    exported = tmp_path / "presets.json"
    downloading.value.save_as(exported)
    kept = json.loads(exported.read_text())
    assert kept["presets"] == [{"name": "Hot <b>", "controls": {"temperature": 1.3}}]
    # a new text begins with it, whatever the last one had, also after a reload
    visitor.set_number("Temperature", "0.5")
    visitor.page.evaluate("gptj.sessions.begin()")
    expect(number(visitor, "Temperature")).to_have_value("1.3")
    own.get_by_role("button", name="Delete Hot <b>").click()
    expect(use).to_have_count(0)
    own.get_by_role("button", name="Undo").click()
    expect(use).to_be_visible()
    own.get_by_role("button", name="Delete Hot <b>").click()
    own.locator("input[type=file]").set_input_files(exported)
    expect(own.get_by_role("status")).to_have_text("Imported 1 preset.")
    expect(use).to_be_visible()
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"__proto__": {"presets": [1]}, "presets": {}}')
    own.locator("input[type=file]").set_input_files(wrong)
    expect(own.get_by_role("status")).to_have_text(
        "The file holds no presets that were exported here. Choose another file."
    )
    expect(use).to_be_visible()


def test_presets_of_two_tabs_do_not_overwrite_each_other(visitor: Visitor) -> None:
    own = presets(visitor)
    name = own.get_by_label("Name of a new preset")
    name.fill("Here")
    name.press("Enter")
    other = visitor.context.new_page()
    other.goto(visitor.url)
    other.locator(".own-presets summary").click()
    theirs = other.locator(".own-presets").get_by_label("Name of a new preset")
    theirs.fill("There")
    theirs.press("Enter")
    expect(own.locator(".own-name")).to_have_text(["Here", "There"])
    own.get_by_role("button", name="Delete Here").click()
    expect(other.locator(".own-presets .own-name")).to_have_text(["There"])


def test_a_preset_that_was_pressed_keeps_the_focus(visitor: Visitor) -> None:
    own = presets(visitor)
    name = own.get_by_label("Name of a new preset")
    visitor.set_number("Temperature", "1.3")
    name.fill("Hot")
    name.press("Enter")
    visitor.set_number("Temperature", "0.5")
    use = own.get_by_role("button", name="Hot", exact=True)
    expect(use).to_have_attribute("aria-pressed", "false")
    use.focus()
    visitor.page.keyboard.press("Enter")
    expect(use).to_have_attribute("aria-pressed", "true")
    expect(use).to_be_focused()
