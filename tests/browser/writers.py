"""What the tests of the Write view share."""

from __future__ import annotations

from playwright.sync_api import expect

from gptj_demo.sampling import CONTROLS
from gptj_demo.texts import say
from gptj_demo.ui.controls import OPEN_GROUPS

from .conftest import Site, Visitor

CLOSED_GROUPS = [
    say(f"group.{group}")
    for group in dict.fromkeys(control.group for control in CONTROLS)
    if group not in OPEN_GROUPS
]


def start_endless(site: Site, *people: Visitor, prompt: str = "Once upon a time") -> None:
    """Start a generation for each person and pause the engine, so that none ends by itself."""
    for person in people:
        person.endless()
        person.write(prompt)
    pause_amid(site, *people, prompt=prompt)


def pause_amid(site: Site, *people: Visitor, prompt: str, completions: int = 1) -> None:
    """Generate after `prompt`, and pause the engine when all have words and none has ended."""
    while True:
        for person in people:
            person.page.keyboard.press("Control+Enter")
        for person in people:
            expect(person.model_words.first).not_to_be_empty()
            for card in range(completions - 1):
                text = person.page.locator(".card:visible .card-text").nth(card)
                expect(text).not_to_be_empty()
        site.pause_engine()
        if site.status()["streams_running"] == len(people) * completions:
            return
        site.resume_engine()  # a text was complete before the pause
        for person in people:
            person.finished()
            person.button("Undo").click()
            expect(person.prompt).to_have_value(prompt)


def seed_shown(person: Visitor) -> str:
    return person.page.locator('[data-action="keep-seed"]').inner_text().removeprefix("seed ")
