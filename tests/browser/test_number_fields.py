"""Number fields, presets, scaffolds, and what the panel shows of controls that are off."""

from __future__ import annotations

from playwright.sync_api import Locator, expect

from .conftest import Visitor


def number(person: Visitor, label: str) -> Locator:
    return person.page.get_by_label(f"number input for {label}")


def type_into(person: Visitor, field: Locator, text: str) -> None:
    field.focus()
    field.select_text()
    person.page.keyboard.press("Delete")
    person.page.keyboard.type(text)
    field.press("Tab")


def held(person: Visitor, control: str) -> object:
    return person.page.evaluate("name => gptj.state.controls[name]", control)


def test_a_field_is_corrected_to_a_valid_number_of_its_control(visitor: Visitor) -> None:
    temperature, length = number(visitor, "Temperature"), number(visitor, "Length")
    for text, value in (("", "0.8"), ("abc", "0.8"), ("0,7", "0.7"), ("99", "2"), ("-1", "0")):
        type_into(visitor, temperature, text)
        expect(temperature).to_have_value(value)
        visitor.page.wait_for_function(
            "value => String(gptj.state.controls.temperature) === value", arg=value
        )
    expect(visitor.notice).to_contain_text("Temperature goes from 0 to 2: -1 was changed to 0.")
    temperature.press("ArrowUp")
    expect(visitor.notice).to_be_hidden()
    type_into(visitor, length, "1,200")
    expect(length).to_have_value("1200")
    visitor.open_group("Seed")
    for text, value in (("12", "12"), ("abc", "12"), ("-5", "0"), ("", "")):
        visitor.set_text("seed", text)
        expect(visitor.field("seed")).to_have_value(value)
    length.focus()
    length.select_text()
    visitor.page.keyboard.type("9999")
    visitor.page.keyboard.press("Control+Enter")  # the field still has the focus
    expect(visitor.model_words.first).not_to_be_empty()
    visitor.finished()
    expect(visitor.notice).to_be_hidden()
    assert held(visitor, "max_new_tokens") == 2048


def test_the_greedy_preset_changes_temperature_and_top_p_only(visitor: Visitor) -> None:
    visitor.page.get_by_role("radio", name="Greedy").check()
    visitor.page.wait_for_function("gptj.state.controls.temperature === 0")
    changed = visitor.page.evaluate(
        "Object.keys(gptj.state.defaults).filter((name) => "
        "String(gptj.state.controls[name] ?? '') !== String(gptj.state.defaults[name] ?? ''))"
    )
    assert changed == ["temperature", "top_p"], "and no filter, of which none has an effect"


def test_replacing_a_scaffolds_text_resets_its_stop_strings(visitor: Visitor) -> None:
    page = visitor.page
    visitor.button("Scaffolds").click()
    visitor.button("Two speakers").click()
    visitor.button("Write it").click()
    page.wait_for_function("gptj.state.controls.stop === '\\\\nCUSTOMER:'")
    visitor.write(" Yes, I can.")
    page.wait_for_function("Object.keys(gptj.sessions.current.controls ?? {}).length > 0")
    page.evaluate("gptj.sessions.save()")
    page.reload()
    page.wait_for_function("globalThis.gptj?.state?.controls.stop === '\\\\nCUSTOMER:'")
    visitor.prompt.fill("Another text")
    page.wait_for_function("gptj.state.controls.stop === ''")
    assert held(visitor, "max_new_tokens") == 120


def test_settings_are_shown_as_they_are_typed(visitor: Visitor) -> None:
    visitor.open_group("Stopping")
    visitor.set_text("stop", "\\nCUSTOMER:")
    visitor.set_number("Length", "3")
    visitor.write("Once")
    visitor.generate()
    visitor.page.evaluate("gptj.show('branches')")
    expect(visitor.page.locator(".facts")).to_contain_text("Stop at \\nCUSTOMER:")


def test_the_detail_controls_of_dry_are_marked_as_off_while_dry_is_off(visitor: Visitor) -> None:
    visitor.open_group("Repetition")
    for name in ("dry_base", "dry_allowed_length", "dry_sequence_breakers"):
        expect(visitor.page.locator(f"#control-{name}")).to_have_attribute("data-off", "")
    visitor.set_number("DRY multiplier", "0.8")
    for name in ("dry_base", "dry_allowed_length", "dry_sequence_breakers"):
        expect(visitor.page.locator(f"#control-{name}")).not_to_have_attribute("data-off", "")
