"""A session keeps its settings, and the page tells the visitor when a generation was lost."""

from __future__ import annotations

import json
from collections.abc import Callable

from playwright.sync_api import Locator, expect

from .conftest import Script, Site, Visitor


def number(person: Visitor, label: str) -> Locator:
    return person.page.get_by_label(f"number input for {label}")


def saved_settings(person: Visitor) -> None:
    """Wait until the browser has the settings of the open session."""
    person.page.wait_for_function(
        "() => Object.values(localStorage).some((text) => text.includes('\"temperature\":1.3'))"
    )


def test_settings_survive_a_reload_and_belong_to_their_session(visitor: Visitor) -> None:
    visitor.set_number("Temperature", "1.3")
    visitor.open_group("Stopping")
    visitor.set_text("stop", "\\nEND\nfin")
    saved_settings(visitor)
    visitor.page.reload()
    expect(number(visitor, "Temperature")).to_have_value("1.3")
    visitor.open_group("Stopping")
    expect(visitor.field("stop")).to_have_value("\\nEND\nfin")
    expect(visitor.page.locator("#preset .selected")).to_have_count(0)
    first = visitor.page.evaluate("gptj.sessions.current.id")
    visitor.page.evaluate("gptj.sessions.begin()")
    expect(number(visitor, "Temperature")).to_have_value("1.3")
    visitor.set_number("Temperature", "0.5")
    visitor.page.evaluate("id => gptj.sessions.open(id)", first)
    expect(number(visitor, "Temperature")).to_have_value("1.3")
    expect(visitor.field("stop")).to_have_value("\\nEND\nfin")


def test_settings_are_in_an_exported_file_and_wrong_ones_are_left_out(visitor: Visitor) -> None:
    visitor.set_number("Temperature", "1.3")
    saved_settings(visitor)
    whole = json.loads(visitor.page.evaluate("gptj.sessions.export('json').content"))
    assert whole["controls"] == {"temperature": 1.3}
    whole["controls"] = {"top_k": 7, "temperature": "<b>hot</b>", "unknown": 1}
    visitor.page.evaluate(
        "text => gptj.sessions.import(new File([text], 's.json'))", json.dumps(whole)
    )
    expect(number(visitor, "Top-k")).to_have_value("7")
    expect(number(visitor, "Temperature")).to_have_value("0.8")


def test_a_lost_generation_is_reported(scripted: tuple[Visitor, Script]) -> None:
    person, script = scripted
    person.page.clock.install()
    person.write("Mine")
    script.send([[{"event": "waiting", "ahead": 3}]], falls_silent=True)
    person.page.keyboard.press("Control+Enter")
    person.page.clock.run_for(20_000)
    expect(person.notice).to_contain_text("goes on when the connection is back")
    person.write("!")
    person.page.evaluate("gptj.emit('status', {state: 'ready', texts: {}, context_length: 99})")
    expect(person.notice).to_contain_text("A generation was interrupted and did not go on")
    assert person.text == "Mine!"


def test_a_theme_and_another_language_keep_the_settings(
    site: Site, visit: Callable[..., Visitor]
) -> None:
    person = visit(site.url)
    expect(number(person, "Temperature")).to_have_value("0.8")
    person.set_number("Temperature", "1.3")
    saved_settings(person)
    person.page.get_by_label("Theme", exact=True).select_option("dark")
    expect(number(person, "Temperature")).to_have_value("1.3")
    with person.page.expect_navigation():
        person.page.get_by_label("Language", exact=True).select_option("ar")
    expect(person.page.locator('#control-temperature input[type="number"]')).to_have_value("1.3")
