"""Prompts in Why that are too long for the model or for the server: their beginning is left out."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from .conftest import Visitor
from .test_why import KING, Why


def test_prompts_that_are_too_long_are_scored_without_their_beginning(visitor: Visitor) -> None:
    why = Why(visitor).open()
    why.prompt.fill(f"{KING} " * 200)
    why.continuation.fill("king")
    for button, panel in (("score", "compare"), ("which parts mattered?", "parts")):
        visitor.page.get_by_role("button", name=re.compile(button, re.IGNORECASE)).first.click()
        expect(why.notice).to_contain_text("let the prompt's beginning be left out")
        why.notice.get_by_role("button", name="Leave out the beginning and go on").click()
        expect(visitor.page.locator(f'[data-panel="{panel}"] [role=option]').first).to_be_visible()
        expect(why.notice).to_be_hidden()


def test_prompts_too_long_for_the_server_are_scored_without_their_beginning(
    visitor: Visitor,
) -> None:
    why = Why(visitor).open()
    go_on = why.notice.get_by_role("button", name="Leave out the beginning and go on")
    end = f"{KING} " * 400
    long = ("one two three four five " * 10_000)[: 200_001 - len(end)] + end
    why.score(end, "king")
    go_on.click()
    expect(why.lines).to_have_count(1)
    why.done()
    why.score(long)
    expect(why.notice).to_contain_text("200,001 characters")
    go_on.click()
    expect(why.lines).to_have_count(2)
    why.done()
    sums = why.column(0)
    assert sums[0] == sums[1], "the model reads the same tokens"
    assert re.search(r"its first [\d,]+ tokens left out", why.lines.first.inner_text())
    expect(why.lines.last).to_contain_text("its beginning left out")
    why.attribute()
    expect(why.notice).to_contain_text("200,001 characters")
    why.notice.get_by_role("button", name="Always do that").click()
    expect(why.pieces("parts").first).to_be_visible()
    expect(why.page.locator(".why-says")).to_contain_text("the model reads only its end")
    expect(why.page.locator("#why-sizes")).to_contain_text("the model reads only its end")


def test_a_continuation_too_long_for_the_server_must_be_shortened(visitor: Visitor) -> None:
    why = Why(visitor).open()
    why.score("Once", " king" * 40_001)
    expect(why.notice).to_contain_text("200,005 characters")
    expect(why.notice.get_by_role("button", name="Leave out the beginning")).to_have_count(0)
