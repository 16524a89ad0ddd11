"""Coloured tokens: how a test asks for them, points at them and reads their colours."""

from __future__ import annotations

import math
from typing import Any

from playwright.sync_api import Locator, expect

from .conftest import Script, Visitor
from .records import alternative, said, token, tokens

COLOURS = """() => Object.fromEntries([1, 2, 3, 4, 5].map((level) => [level, [
  ...CSS.highlights.get(`gptj-token-${level}`)].map((range) => {
    const live = document.createRange();
    live.setStart(range.startContainer, range.startOffset);
    live.setEnd(range.endContainer, range.endOffset);
    return live.toString();
  })]))"""


def colours(person: Visitor) -> dict[str, list[str]]:
    """The coloured words, by level: 1 is likely, 5 is not."""
    found = dict(person.page.evaluate(COLOURS))
    return {level: words for level, words in found.items() if words}


def show_tokens(person: Visitor) -> None:
    person.button("Tokens").click()
    expect(person.button("Tokens")).to_have_attribute("aria-pressed", "true")


def ask(person: Visitor, script: Script, batches: list[list[dict[str, Any]]]) -> None:
    script.send(batches)
    person.prompt.focus()
    person.page.keyboard.press("Control+Enter")
    person.finished()


def words(*given: tuple[str, float], **more: Any) -> list[dict[str, Any]]:
    """One batch: texts with their probabilities."""
    known = [token(text, math.log(share), **more) for text, share in given]
    return [said("".join(text for text, _ in given)), tokens(*known)]


def inspector(person: Visitor) -> Locator:
    return person.page.locator(".inspector")


def point_at(person: Visitor, offset: int) -> None:
    """Move the pointer onto a character of the model's words."""
    place = person.page.evaluate(
        """(offset) => { const range = document.createRange();
        const node = document.querySelector('.ink .by-model').firstChild;
        range.setStart(node, offset); range.setEnd(node, offset + 1);
        const { left, top, width, height } = range.getBoundingClientRect();
        return [left + width * 0.7, top + height / 2]; }""",
        offset,
    )
    person.page.mouse.move(0, 0)
    person.page.mouse.move(*place)


THREE = words(("one", 0.9), (" two", 0.3), (" three", 0.004))
OTHERS = [
    alternative(" two", math.log(0.3), math.log(0.5), token_id=1),
    alternative(" 2", math.log(0.2), math.log(0.25)),
    alternative(" zwei", math.log(0.1), None, removed_by="top_p"),
    alternative("\\xe2", math.log(0.05), math.log(0.05), kind=1),
    alternative("<|endoftext|>", math.log(0.01), math.log(0.01), kind=2),
]
WITH_OTHERS = words(("one", 0.9), (" two", 0.3), (" three", 0.004), alternatives=OTHERS)
