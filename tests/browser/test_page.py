"""The page as people use it, with a real model behind it."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from gptj_demo.sampling import CONTROLS, FILTER_ORDER, PRESETS, control_named, write_value
from gptj_demo.texts import say
from gptj_demo.ui.controls import OPEN_GROUPS
from tests.processes import ROOT
from tests.waiting import eventually

from .conftest import Site, Visitor

Visit = Callable[..., Visitor]
EXAMPLES = json.loads((ROOT / "assets/views/write/examples.json").read_text(encoding="utf-8"))
CLOSED_GROUPS = [
    say(f"group.{group}")
    for group in dict.fromkeys(control.group for control in CONTROLS)
    if group not in OPEN_GROUPS
]


def start_endless(site: Site, person: Visitor, prompt: str = "Once upon a time") -> None:
    """A generation that has begun and, the engine paused, will not end of itself."""
    person.endless()
    person.write(prompt)
    person.page.keyboard.press("Control+Enter")
    expect(person.model_words.first).not_to_be_empty()
    site.pause_engine()


# ---- writing with the model


def test_generate_goes_on_from_the_end_of_the_text(visitor: Visitor) -> None:
    visitor.set_number("Length", "12")
    visitor.write("Once upon a time")
    visitor.generate()
    assert visitor.text.startswith("Once upon a time")
    assert len(visitor.text) > len("Once upon a time")
    assert visitor.text == visitor.shown
    expect(visitor.status_line).to_contain_text(
        re.compile(r"12 tokens you asked for|ended its text")
    )
    first = visitor.text
    visitor.button("Continue").click()
    visitor.finished()
    assert visitor.text.startswith(first)


def test_an_empty_text_is_a_prompt_too(visitor: Visitor) -> None:
    visitor.set_number("Length", "8")
    visitor.page.get_by_role("button", name="Generate").click()
    expect(visitor.model_words.first).not_to_be_empty()
    visitor.finished()


def test_stop_ends_the_generation_and_keeps_its_words(site: Site, visitor: Visitor) -> None:
    start_endless(site, visitor)
    expect(visitor.prompt).not_to_be_editable()
    expect(visitor.page.locator('[data-action="generate"]')).to_be_hidden()
    visitor.button("Stop").click()
    expect(visitor.status_line).to_contain_text("Stopping")
    site.resume_engine()
    visitor.finished()
    expect(visitor.status_line).to_contain_text("Stopped")
    assert len(visitor.text) > len("Once upon a time")
    expect(visitor.prompt).to_be_editable()


def test_undo_takes_a_generation_back_whole_also_after_a_reload(visitor: Visitor) -> None:
    visitor.set_number("Length", "10")
    visitor.write("The king")
    visitor.generate()
    whole = visitor.text
    visitor.button("Undo").click()
    expect(visitor.prompt).to_have_value("The king")
    visitor.page.reload()
    expect(visitor.prompt).to_have_value("The king")
    visitor.button("Redo").click()
    expect(visitor.prompt).to_have_value(whole)
    expect(visitor.model_words).to_have_count(1)


def seed_shown(person: Visitor) -> str:
    return person.page.locator('[data-action="keep-seed"]').inner_text().removeprefix("seed ")


def test_retry_takes_a_new_seed_and_a_kept_seed_gives_the_same_words(visitor: Visitor) -> None:
    visitor.set_number("Length", "30")
    visitor.write("One day the fox")
    visitor.generate()
    first, seed = visitor.text, seed_shown(visitor)
    visitor.page.locator('[data-action="keep-seed"]').click()
    visitor.open_group("Seed")
    expect(visitor.field("seed")).to_have_value(seed)
    visitor.button("Retry").click()
    visitor.finished()
    assert seed_shown(visitor) != seed
    visitor.button("Undo").click()
    expect(visitor.prompt).to_have_value(first)
    visitor.button("Undo").click()
    expect(visitor.prompt).to_have_value("One day the fox")
    visitor.generate()
    assert seed_shown(visitor) == seed
    assert visitor.text == first


def test_stop_strings_are_lines_and_know_line_breaks(visitor: Visitor) -> None:
    visitor.endless()
    visitor.open_group("Stopping")
    visitor.set_text("stop", "e\n\\n")
    visitor.write("Once upon a time")
    visitor.generate()
    added = visitor.text.removeprefix("Once upon a time")
    assert "e" not in added
    assert "\n" not in added
    expect(visitor.status_line).to_contain_text("Stopped before")


def test_example_replaces_the_text_as_one_step(site: Site, visitor: Visitor) -> None:
    visitor.write("Mine")
    is_sample = site.status()["model"]["is_sample"]
    example = EXAMPLES["sample" if is_sample else "gptj"][0]
    visitor.button(say(f"example.{example['key']}")).click()
    expect(visitor.prompt).to_have_value(example["text"])
    visitor.button("Undo").click()
    expect(visitor.prompt).to_have_value("Mine")


def test_examples_end_where_a_model_can_go_on() -> None:
    assert len(EXAMPLES["gptj"]) >= 12
    assert len(EXAMPLES["sample"]) >= 6
    for example in EXAMPLES["gptj"] + EXAMPLES["sample"]:
        assert not example["text"].endswith(" ")
    assert all(example["text"].isascii() for example in EXAMPLES["sample"])


# ---- controls


def number(person: Visitor, label: str) -> float:
    return float(person.page.get_by_label(f"number input for {label}").input_value())


def test_every_control_is_there_with_help_definition_and_default(visitor: Visitor) -> None:
    for group in CLOSED_GROUPS:
        visitor.open_group(group)
    for control in CONTROLS:
        block = visitor.page.locator(f"#control-{control.name}")
        expect(block).to_contain_text(control.label)
        expect(block).to_contain_text(control.help)
        if control.kind in ("integer", "number"):
            assert number(visitor, control.label) == control.default
        elif control.kind == "flag":
            expect(block.get_by_role("checkbox")).to_be_checked(checked=control.default)
        elif control.kind == "choice":
            expect(block.get_by_role("radio", name=control.default)).to_be_checked()
        else:
            written = write_value(control, control.default) if control.is_list else ""
            expect(visitor.field(control.name)).to_have_value(written)
    definition = visitor.page.get_by_text("Nucleus sampling")
    expect(definition).to_be_hidden()
    visitor.page.get_by_text("Definition of Top-p").click()
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


def test_what_is_off_looks_off(visitor: Visitor) -> None:
    top_k = visitor.page.locator("#control-top_k")
    expect(top_k).to_have_attribute("data-off", "")
    visitor.set_number("Top-k", "40")
    expect(top_k).not_to_have_attribute("data-off", "")
    visitor.open_group("Repetition")
    penalty = visitor.page.locator("#control-repetition_penalty")
    expect(penalty).to_have_attribute("data-off", "")


def test_a_closed_group_tells_how_many_of_its_controls_were_changed(visitor: Visitor) -> None:
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
    visitor.page.get_by_role("radio", name="left").check()
    expect(marked).to_have_count(2)
    assert [mark.get_attribute("data-changed") for mark in marked.all()] == [
        "2 changed",
        "3 changed",
    ]
    shown = marked.first.evaluate("node => getComputedStyle(node, '::after').content")
    assert "changed" in shown
    visitor.page.get_by_label("Token healing").uncheck()
    expect(marked.last).to_have_attribute("data-changed", "2 changed")
    visitor.button("Reset all controls").click()
    expect(marked).to_have_count(0)
    visitor.open_group("Repetition")
    assert number(visitor, "Presence penalty") == 0
    breakers = control_named("dry_sequence_breakers")
    expect(visitor.field(breakers.name)).to_have_value(write_value(breakers, breakers.default))
    expect(visitor.page.get_by_label("Score the prompt")).not_to_be_checked()
    expect(visitor.page.get_by_role("radio", name="error")).to_be_checked()


def test_the_order_of_the_filters_is_told_in_the_words_of_the_panel(visitor: Visitor) -> None:
    labels = ", ".join(control_named(name).label for name in FILTER_ORDER)
    expect(visitor.page.locator("#filter-order")).to_have_text(f"Applied in this order: {labels}.")


def test_lists_reach_the_model_as_they_are_written(visitor: Visitor) -> None:
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


def test_a_wrong_value_in_a_closed_group_is_shown_where_it_stands(visitor: Visitor) -> None:
    visitor.open_group("Words")
    visitor.set_text("logit_bias", "dragon")
    visitor.close_group("Words")
    visitor.write("Kept")
    visitor.page.keyboard.press("Control+Enter")
    expect(visitor.notice).to_contain_text("write a word, = and a number on each line")
    expect(visitor.page.locator("#control-logit_bias")).to_have_attribute("data-wrong", "")
    assert visitor.text == "Kept"


# ---- what a request gives besides the text


def ask_for(person: Visitor, **texts: str) -> None:
    """Fill in text fields of the group Seed and completions."""
    person.open_group("Seed and completions")
    for control, text in texts.items():
        person.set_text(control, text)


def test_several_completions_stream_side_by_side_and_one_can_be_taken(
    site: Site, visitor: Visitor
) -> None:
    visitor.endless()
    ask_for(visitor, seed="7")
    visitor.set_number("Completions", "3")
    visitor.set_number("Temperature", "1")
    visitor.write("Once upon a time")
    visitor.page.keyboard.press("Control+Enter")
    cards = visitor.page.locator(".card:visible")
    expect(cards).to_have_count(2)
    expect(visitor.model_words.first).not_to_be_empty()
    for card in cards.all():
        expect(card.locator(".card-text")).not_to_be_empty()
    site.pause_engine()
    expect(visitor.button("Stop")).to_be_visible()
    visitor.button("Stop").click()
    site.resume_engine()
    visitor.finished()
    expect(cards.locator(".card-name")).to_contain_text(["seed 8", "seed 9"])
    for end in cards.locator(".card-end").all():  # one may have ended by itself before
        expect(end).to_have_text(re.compile(r"^(Stopped|The model ended its text here)\.$"))
    first = visitor.text
    other = cards.first.locator(".card-text").inner_text()
    cards.first.get_by_role("button", name="Take this one").click()
    expect(visitor.prompt).to_have_value("Once upon a time" + other)
    visitor.button("Undo").click()
    expect(visitor.prompt).to_have_value(first)


def test_best_of_shows_the_likeliest_and_its_seed_gives_it_again(visitor: Visitor) -> None:
    visitor.set_number("Length", "20")
    ask_for(visitor, seed="7", best_of="4", logprobs="0")
    visitor.write("The king")
    visitor.generate()
    best, seed = visitor.text, seed_shown(visitor)
    assert seed in {"7", "8", "9", "10"}
    visitor.button("Undo").click()
    visitor.set_text("best_of", "")
    visitor.set_text("seed", seed)
    visitor.generate()
    assert visitor.text == best


def test_every_token_is_told_with_both_probabilities_and_what_removed_the_others(
    visitor: Visitor,
) -> None:
    visitor.set_number("Length", "15")
    visitor.set_number("Top-k", "2")
    ask_for(visitor, logprobs="3")
    visitor.write("The king and the")
    visitor.generate()
    visitor.page.locator('[data-of="completion"] summary').click()
    rows = visitor.page.locator('[data-of="completion"] tbody tr')
    expect(rows).to_have_count(15)
    first = rows.first.locator(".alternative")
    expect(first).to_have_count(3)
    expect(first.last).to_contain_text("Top-k")
    expect(rows.first.locator(".probability")).to_have_text([re.compile(r"^[\d.e-]+ %$")] * 2)


def test_a_prompt_can_be_scored_without_writing(visitor: Visitor) -> None:
    visitor.set_number("Length", "0")
    visitor.open_group("Prompt")
    visitor.page.get_by_label("Score the prompt").check()
    visitor.write("Once upon a time")
    visitor.page.keyboard.press("Control+Enter")
    score = visitor.page.locator(".score")
    expect(score).to_contain_text(re.compile(r"perplexity [\d.e+]+ · [\d.]+ bits per byte"))
    visitor.finished()
    assert visitor.text == "Once upon a time"
    visitor.page.get_by_text("Tokens of the prompt").click()
    tokens = visitor.page.locator('[data-of="prompt"] .token-table tbody tr td:first-child')
    expect(tokens.last).to_be_visible()
    shown = "".join(tokens.all_inner_texts())
    assert shown.replace("␣", " ") == "Once upon a time"


def test_a_space_at_the_end_is_noticed_and_healing_offered(visitor: Visitor) -> None:
    hint = visitor.page.locator(".hint")
    visitor.write("Once upon a ")
    expect(hint).to_contain_text("ends in a space")
    visitor.button("Turn on token healing").click()
    expect(hint).to_be_hidden()
    visitor.set_number("Length", "3")
    visitor.generate()
    expect(visitor.page.locator(".notes")).to_contain_text("taken back")
    visitor.button("Reset all controls").click()
    visitor.write(" ")
    expect(hint).to_contain_text("ends in a space")


def test_what_was_left_out_of_too_long_a_text_is_told(site: Site, visitor: Visitor) -> None:
    context = site.status()["context_length"]
    visitor.open_group("Prompt")
    visitor.page.get_by_role("radio", name="left").check()
    visitor.set_number("Length", "2")
    visitor.prompt.fill("one two three four five " * context)
    visitor.page.keyboard.press("Control+Enter")
    expect(visitor.page.locator(".notes")).to_contain_text(
        re.compile(r"The first [\d,]+ tokens of the text did not fit")
    )
    visitor.finished()


# ---- counts and refusals


def test_tokens_are_counted_as_one_types(site: Site, visitor: Visitor) -> None:
    context = site.status()["context_length"]
    count = visitor.page.locator(".count")
    expect(count).to_contain_text(f"0 of {context:,} tokens")
    visitor.write("Once upon a time")
    expect(count).to_contain_text(re.compile(rf"^[1-9]\d* of {context:,} tokens, room for "))


def test_too_long_a_prompt_is_refused_with_both_numbers_and_kept(
    site: Site, visitor: Visitor
) -> None:
    context = site.status()["context_length"]
    text = "one two three four five " * context
    visitor.prompt.fill(text)
    visitor.page.keyboard.press("Control+Enter")
    expect(visitor.notice).to_contain_text(f"reads {context:,} at most")
    expect(visitor.notice).to_contain_text(re.compile(r"The text has [\d,]+ tokens"))
    assert visitor.text == visitor.shown == text
    visitor.prompt.fill("Short")
    visitor.set_number("Length", "5")
    visitor.generate()
    expect(visitor.notice).to_be_hidden()


@pytest.mark.parametrize(
    ("text", "words"),
    [("x" * 300_000, "300,000 characters"), ("half \ud800 a pair", "surrogate")],
    ids=["too many characters", "lone surrogate"],
)
def test_what_cannot_be_read_is_refused_and_kept(visitor: Visitor, text: str, words: str) -> None:
    visitor.prompt.evaluate(
        "(area, text) => { area.value = JSON.parse(text); "
        "area.dispatchEvent(new InputEvent('input', {inputType: 'insertFromPaste'})); }",
        json.dumps(text),
    )
    visitor.page.keyboard.press("Control+Enter")
    expect(visitor.notice).to_contain_text(words)
    assert visitor.prompt.evaluate("area => area.value.length") == len(text)


def test_a_seed_out_of_range_is_refused_in_a_sentence(visitor: Visitor) -> None:
    visitor.write("Kept")
    visitor.open_group("Seed")
    visitor.set_text("seed", "-5")
    visitor.page.keyboard.press("Control+Enter")
    expect(visitor.notice).to_contain_text("must be a whole number from 0 to 4294967295")
    expect(visitor.page.locator("#control-seed")).to_have_attribute("data-wrong", "")
    assert visitor.text == "Kept"


def test_a_full_queue_refuses_politely(site: Site, visit: Visit) -> None:
    site.pause_engine()  # 4 slots and 2 places in line: the seventh finds no room
    people = [visit(site.url) for _ in range(7)]
    for ahead, person in enumerate(people[:6]):
        person.write("Once upon a time")
        person.page.keyboard.press("Control+Enter")
        eventually(lambda ahead=ahead: site.status()["streams_waiting"] == ahead + 1)
    expect(people[5].status_line).to_contain_text("In line, 5 ahead of you")
    people[6].write("Kept")
    people[6].page.keyboard.press("Control+Enter")
    expect(people[6].notice).to_contain_text("try again in a moment")
    assert people[6].text == "Kept"
    site.resume_engine()
    for person in people[:6]:
        expect(person.model_words.first).not_to_be_empty()
        person.finished()


# ---- many visitors, lost visitors, a lost engine


def test_two_visitors_write_side_by_side_and_stop_is_ones_own(site: Site, visit: Visit) -> None:
    first, second = visit(site.url), visit(site.url)
    for person in (first, second):
        person.endless()
        person.write("Once upon a time")
    first.page.keyboard.press("Control+Enter")
    second.page.keyboard.press("Control+Enter")
    expect(first.model_words.first).not_to_be_empty()
    expect(second.model_words.first).not_to_be_empty()
    site.pause_engine()
    assert site.status()["streams_running"] == 2
    first.page.keyboard.press("Escape")
    site.resume_engine()
    first.finished()
    expect(second.button("Stop")).to_be_visible()
    second.page.keyboard.press("Escape")
    second.finished()


def test_closing_the_tab_frees_the_slot(site: Site, visitor: Visitor) -> None:
    start_endless(site, visitor)
    assert site.status()["streams_running"] == 1
    visitor.page.close()
    eventually(lambda: site.status()["streams_running"] == 0)


def test_a_killed_engine_is_told_and_comes_back_by_itself(site: Site, visitor: Visitor) -> None:
    start_endless(site, visitor)
    kept = visitor.text
    killed = site.engine
    killed.send_signal(signal.SIGKILL)
    expect(visitor.notice).to_contain_text("It is being restarted")
    assert visitor.text.startswith(kept)
    expect(visitor.page.locator(".model-line")).to_contain_text(re.compile("estart|oad|tart"))
    visitor.button("Undo").click()
    expect(visitor.prompt).to_have_value("Once upon a time")
    visitor.set_number("Length", "6")
    visitor.page.keyboard.press("Control+Enter")  # waits in line until the model is back
    expect(visitor.model_words.first).not_to_be_empty()
    visitor.finished()
    expect(visitor.notice).to_be_hidden()
    expect(visitor.page.locator('.top[data-state="ready"]')).to_be_visible()
    assert not killed.is_running()


def test_one_can_write_and_press_generate_while_the_model_loads(model: str, visit: Visit) -> None:
    site = Site(model)
    try:
        site.pause_engine_at_start()
        eventually(site.is_up)
        person = visit(site.url)
        expect(person.page.locator(".model-progress")).to_be_visible()
        person.set_number("Length", "6")
        person.write("Once upon a time")
        person.page.keyboard.press("Control+Enter")
        expect(person.status_line).to_contain_text("Waiting for the model")
        site.resume_engine()
        expect(person.model_words.first).not_to_be_empty()
        person.finished()
        expect(person.page.locator(".model-progress")).to_be_hidden()
    finally:
        site.stop()
    assert site.process.returncode == 0


# ---- how it looks, and other ways to use it


def test_the_status_line_tells_the_model_and_what_it_is(site: Site, visitor: Visitor) -> None:
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


def test_the_keyboard_is_enough(visitor: Visitor) -> None:
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


def test_everything_that_can_be_used_has_a_name(visitor: Visitor) -> None:
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
def test_both_inks_can_be_read_by_day_and_by_night(site: Site, visit: Visit, scheme: str) -> None:
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
