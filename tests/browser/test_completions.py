"""What a generation gives besides its text: completions, probabilities, scores, notes."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from .conftest import Site, Visitor
from .writers import pause_amid, seed_shown


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
    pause_amid(site, visitor, prompt="Once upon a time", completions=3)
    cards = visitor.page.locator(".card:visible")
    expect(cards).to_have_count(2)
    visitor.button("Stop").click()
    expect(visitor.status_line).to_contain_text("Stopping")
    site.resume_engine()
    visitor.finished()
    expect(cards.locator(".card-name")).to_contain_text(["seed 8", "seed 9"])
    expect(cards.locator(".card-end")).to_have_text(["Stopped.", "Stopped."])
    first = visitor.text
    other = cards.first.locator(".card-text").inner_text()
    cards.first.get_by_role("button", name="Take this one").click()
    expect(visitor.prompt).to_have_value("Once upon a time" + other)
    visitor.button("Undo").click()
    expect(visitor.prompt).to_have_value(first)


def test_best_of_shows_the_most_probable_completion_and_its_seed(visitor: Visitor) -> None:
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


def test_the_token_table_shows_both_probabilities_and_filtered_alternatives(
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
    expect(score).to_contain_text(
        re.compile(r"bits a token · perplexity [\d.,]+ · [\d.]+ bits per byte")
    )
    visitor.finished()
    assert visitor.text == "Once upon a time"
    visitor.page.get_by_text("Tokens of the prompt").click()
    tokens = visitor.page.locator('[data-of="prompt"] .token-table tbody tr td:first-child')
    expect(tokens.last).to_be_visible()
    shown = "".join(tokens.all_inner_texts())
    assert shown.replace("␣", " ") == "Once upon a time"


def test_a_trailing_space_shows_a_hint_that_offers_token_healing(visitor: Visitor) -> None:
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


def test_truncation_of_a_long_text_is_reported(site: Site, visitor: Visitor) -> None:
    context = site.status()["context_length"]
    visitor.open_group("Prompt")
    visitor.page.get_by_role("radio", name="Leave out its beginning").check()
    visitor.set_number("Length", "2")
    visitor.prompt.fill("one two three four five " * context)
    visitor.page.keyboard.press("Control+Enter")
    expect(visitor.page.locator(".notes")).to_contain_text(
        re.compile(r"The first [\d,]+ tokens of the text did not fit")
    )
    visitor.finished()
