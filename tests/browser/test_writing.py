"""Writing with the model: generating, stopping, undoing, retrying, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from gptj_demo.texts import say
from tests.processes import ROOT
from tests.waiting import eventually

from .conftest import Site, Visitor
from .writers import seed_shown, start_endless

Visit = Callable[..., Visitor]
EXAMPLES = json.loads((ROOT / "assets/views/write/examples.json").read_text(encoding="utf-8"))


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


def test_stop_ends_the_generation_and_keeps_its_text(site: Site, visitor: Visitor) -> None:
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


def test_undo_removes_a_whole_generation_and_redo_works_after_a_reload(visitor: Visitor) -> None:
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


def test_retry_uses_a_new_seed_and_a_kept_seed_gives_the_same_text(visitor: Visitor) -> None:
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


def test_stop_strings_are_given_one_per_line_and_may_contain_line_breaks(visitor: Visitor) -> None:
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


def test_no_example_ends_with_a_space() -> None:
    assert len(EXAMPLES["gptj"]) >= 12
    assert len(EXAMPLES["sample"]) >= 6
    for example in EXAMPLES["gptj"] + EXAMPLES["sample"]:
        assert not example["text"].endswith(" ")
    assert all(example["text"].isascii() for example in EXAMPLES["sample"])


def test_tokens_are_counted_while_typing(site: Site, visitor: Visitor) -> None:
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
def test_an_unreadable_prompt_is_refused_and_kept(visitor: Visitor, text: str, words: str) -> None:
    visitor.prompt.evaluate(
        "(area, text) => { area.value = JSON.parse(text); "
        "area.dispatchEvent(new InputEvent('input', {inputType: 'insertFromPaste'})); }",
        json.dumps(text),
    )
    visitor.page.keyboard.press("Control+Enter")
    expect(visitor.notice).to_contain_text(words)
    assert visitor.prompt.evaluate("area => area.value.length") == len(text)


def test_controls_that_contradict_each_other_are_refused_in_a_sentence(visitor: Visitor) -> None:
    visitor.write("Kept")
    visitor.open_group("Stopping")
    visitor.set_number("Minimum length", "200")
    visitor.page.keyboard.press("Control+Enter")
    expect(visitor.notice).to_contain_text("is 200, which is more than")
    expect(visitor.page.locator("#control-min_new_tokens")).to_have_attribute("data-wrong", "")
    assert visitor.text == "Kept"


def test_a_full_queue_refuses_a_request_and_keeps_its_text(site: Site, visit: Visit) -> None:
    site.pause_engine()  # 4 slots and 2 places in the queue: the seventh is refused
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
