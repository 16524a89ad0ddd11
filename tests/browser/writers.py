"""What the tests of the Write view share."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from gptj_demo.sampling import CONTROLS
from gptj_demo.texts import say
from gptj_demo.ui.controls import OPEN_GROUPS

from .conftest import Script, Site, Visitor
from .records import said, started

CLOSED_GROUPS = [
    say(f"group.{group}")
    for group in dict.fromkeys(control.group for control in CONTROLS)
    if group not in OPEN_GROUPS
]


ATTEMPTS = 30
"""How often to start texts until one is paused before its end."""
HAVE_WORDS = """(cards) => {
  const shown = [...document.querySelectorAll(".card-text")].filter((node) =>
    node.textContent && node.checkVisibility());
  return document.querySelector(".ink .by-model")?.textContent && shown.length >= cards;
}"""


def start_endless(site: Site, *people: Visitor, prompt: str = "Once upon a time") -> None:
    """Start a generation for each person and pause the engine, so that none ends by itself."""
    for person in people:
        person.endless()
        person.write(prompt)
    pause_amid(site, *people, prompt=prompt)


def pause_amid(site: Site, *people: Visitor, prompt: str, completions: int = 1) -> None:
    """Generate after `prompt`, and pause the engine when all have words and none has ended."""
    for _ in range(ATTEMPTS):
        for person in people:
            person.page.keyboard.press("Control+Enter")
        for person in people:  # looks at each frame, which `expect` does not
            person.page.wait_for_function(HAVE_WORDS, arg=completions - 1)
        site.pause_engine()
        if site.status()["streams_running"] == len(people) * completions:
            return
        site.resume_engine()  # a text was complete before the pause
        for person in people:
            person.finished()
            person.button("Undo").click()
            expect(person.prompt).to_have_value(prompt)
    pytest.fail(f"of {ATTEMPTS} texts each was complete before the pause")


def seed_shown(person: Visitor) -> str:
    return person.page.locator('[data-action="keep-seed"]').inner_text().removeprefix("seed ")


def write_before_the_end(person: Visitor, script: Script) -> None:
    """Let the model write " words" between "P" and " end."; the request stays open."""
    person.write("P end.")
    person.prompt.evaluate("area => area.setSelectionRange(1, 1)")
    script.send([[started()], [said(" words")]])
    person.page.keyboard.press("Alt+Enter")
    expect(person.model_words).to_have_text(" words")


def save_as_scaffold(person: Visitor, name: str) -> None:
    """Ask to save the text as a scaffold of the visitor's own."""
    person.button("Scaffolds").click()
    person.button("+ Save this text").click()
    person.page.get_by_role("dialog").get_by_label("Name").fill(name)
    person.page.keyboard.press("Enter")
