"""The controls: their values, presets, groups and errors."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from gptj_demo.control_values import write_value
from gptj_demo.sampling import CONTROL_ORDER, CONTROLS, PRESETS, control_named
from gptj_demo.texts import say

from .conftest import Visitor
from .writers import CLOSED_GROUPS


def expect_number(person: Visitor, label: str, value: float) -> None:
    """Wait until the control has this value; Gradio fills in the fields of an opened group."""
    field = person.page.get_by_label(f"number input for {label}", exact=True)
    expect(field).to_have_value(f"{value:g}")


def test_every_control_is_there_with_help_definition_and_default(visitor: Visitor) -> None:
    for group in CLOSED_GROUPS:
        visitor.open_group(group)
    for control in CONTROLS:
        block = visitor.page.locator(f"#control-{control.name}")
        expect(block).to_contain_text(control.label)
        expect(block).to_contain_text(control.help)
        if control.kind in ("integer", "number"):
            expect_number(visitor, control.label, control.default)
        elif control.kind == "flag":
            expect(block.get_by_role("checkbox")).to_be_checked(checked=control.default)
        elif control.kind == "choice":
            expect(
                block.get_by_role("radio", name=say(f"choice.{control.default}"))
            ).to_be_checked()
        else:
            written = write_value(control, control.default) if control.is_list else ""
            expect(visitor.field(control.name)).to_have_value(written)
    definition = visitor.page.get_by_text("Nucleus sampling")
    expect(definition).to_be_hidden()
    visitor.button("Exact definitions").click()
    expect(definition).to_be_visible()


def test_presets_set_the_controls_and_reset_puts_them_back(visitor: Visitor) -> None:
    chosen = visitor.page.locator("#preset .selected")
    for name in ("Greedy", "Wild"):
        visitor.page.get_by_role("radio", name=name).check()
        for control, label in (("temperature", "Temperature"), ("top_p", "Top-p")):
            expected = re.compile(rf"^{PRESETS[name][control]:g}$")
            expect(visitor.page.get_by_label(f"number input for {label}")).to_have_value(expected)
    visitor.set_number("Temperature", "1.5")
    expect(chosen).to_have_count(0)
    visitor.set_number("Length", "9")
    visitor.button("Reset all controls").click()
    expect(visitor.page.get_by_label("number input for Length")).to_have_value("120")
    expect(visitor.page.get_by_label("number input for Temperature")).to_have_value("0.8")
    expect(chosen).to_have_text("Balanced")


def test_controls_that_are_off_are_marked_as_off(visitor: Visitor) -> None:
    top_k = visitor.page.locator("#control-top_k")
    expect(top_k).to_have_attribute("data-off", "")
    visitor.set_number("Top-k", "40")
    expect(top_k).not_to_have_attribute("data-off", "")
    visitor.open_group("Repetition")
    penalty = visitor.page.locator("#control-repetition_penalty")
    expect(penalty).to_have_attribute("data-off", "")


def test_a_closed_group_shows_the_number_of_changed_controls(visitor: Visitor) -> None:
    titles = visitor.page.locator(".control-group > button > span:first-child")
    marked = visitor.page.locator(".control-group > button > [data-changed]")
    expect(titles).to_have_text(CLOSED_GROUPS)
    expect(marked).to_have_count(0)
    visitor.open_group("Repetition")
    visitor.set_number("Presence penalty", "0.5")
    visitor.set_text("dry_sequence_breakers", r"\n")
    visitor.close_group("Repetition")
    visitor.open_group("Prompt")
    visitor.page.get_by_label("Token healing").check()
    visitor.page.get_by_label("Score the prompt").check()
    visitor.page.get_by_role("radio", name="Leave out its beginning").check()
    expect(marked).to_have_count(2)
    expect(marked.first).to_have_attribute("data-changed", "2 changed")
    expect(marked.last).to_have_attribute("data-changed", "3 changed")
    shown = marked.first.evaluate("node => getComputedStyle(node, '::after').content")
    assert "changed" in shown
    visitor.page.get_by_label("Token healing").uncheck()
    expect(marked.last).to_have_attribute("data-changed", "2 changed")
    visitor.button("Reset all controls").click()
    expect(marked).to_have_count(0)
    visitor.open_group("Repetition")
    expect_number(visitor, "Presence penalty", 0)
    breakers = control_named("dry_sequence_breakers")
    expect(visitor.field(breakers.name)).to_have_value(write_value(breakers, breakers.default))
    expect(visitor.page.get_by_label("Score the prompt")).not_to_be_checked()
    expect(visitor.page.get_by_role("radio", name="Refuse the text")).to_be_checked()


def test_the_filter_order_is_shown_with_the_panels_names(visitor: Visitor) -> None:
    labels = ", ".join(control_named(name).label for name in CONTROL_ORDER)
    expect(visitor.page.locator("#filter-order")).to_have_text(f"Usual order: {labels}.")


def test_lists_of_biases_and_bad_words_affect_the_completion(visitor: Visitor) -> None:
    visitor.endless()
    visitor.set_number("Length", "12")
    visitor.open_group("Words")
    visitor.set_text("logit_bias", '"x" = 100')
    visitor.write("Once upon a time")
    visitor.generate()
    assert visitor.text == "Once upon a time" + "x" * 12
    visitor.set_text("bad_words", "x")
    visitor.button("Retry").click()
    visitor.finished()
    assert "x" not in visitor.text.removeprefix("Once upon a time")


def test_an_invalid_value_in_a_closed_group_is_shown(visitor: Visitor) -> None:
    visitor.open_group("Words")
    visitor.set_text("logit_bias", "dragon")
    visitor.close_group("Words")
    visitor.write("Kept")
    visitor.page.keyboard.press("Control+Enter")
    expect(visitor.notice).to_contain_text("write a word, = and a number on each line")
    expect(visitor.page.locator("#control-logit_bias")).to_have_attribute("data-wrong", "")
    assert visitor.text == "Kept"


def test_a_completion_matches_its_constraint_and_errors_are_shown_at_the_field(
    visitor: Visitor,
) -> None:
    visitor.open_group("Words")
    kind = visitor.page.locator("#control-must_match")
    kind.get_by_role("radio", name="regular expression").check()
    visitor.set_text("must_match_text", " [a-d]{3}\\.")
    visitor.write("Once upon a time")
    visitor.generate()
    assert re.fullmatch(r"Once upon a time [a-d]{3}\.", visitor.text)
    expect(visitor.status_line).to_contain_text("The text is complete")
    visitor.set_text("allowed_token_ids", "5")
    visitor.page.keyboard.press("Control+Enter")
    expect(visitor.notice).to_contain_text("leave no token here")
    expect(visitor.page.locator("#control-must_match")).to_have_attribute("data-wrong", "")
    visitor.set_text("allowed_token_ids", "")
    visitor.set_text("must_match_text", "[a-d")
    visitor.close_group("Words")
    visitor.page.keyboard.press("Control+Enter")
    expect(visitor.notice).to_contain_text("unclosed character class")
    expect(visitor.page.locator("#control-must_match_text")).to_have_attribute("data-wrong", "")


def test_a_constraint_survives_a_reload_and_is_shown_as_off_or_on(visitor: Visitor) -> None:
    visitor.open_group("Words")
    field = visitor.page.locator("#control-must_match_text")
    expect(field).to_have_attribute("data-off", "")
    kind = visitor.page.locator("#control-must_match")
    kind.get_by_role("radio", name="choices").check()
    visitor.set_text("must_match_text", "yes\nno")
    expect(field).not_to_have_attribute("data-off", "")
    visitor.page.reload()
    visitor.open_group("Words")
    expect(kind.get_by_role("radio", name="choices")).to_be_checked()
    expect(visitor.field("must_match_text")).to_have_value("yes\nno")
