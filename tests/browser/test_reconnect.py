"""A page whose server was lost reconnects by itself and resumes its request."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from tests.waiting import eventually

from .conftest import Site, Visitor

Visit = Callable[..., Visitor]
LENGTH = "1000"
PROMPT = "Once upon a time"


@pytest.fixture
def own_site(model: str) -> Iterator[Site]:
    """A playground whose web process the test may kill."""
    site = Site(model, "--max-num-seqs", "2")
    try:
        site.wait_until_ready()
        yield site
    finally:
        if site.process.poll() is None:
            site.resume_engine()
            site.stop()


def ask(person: Visitor, seed: str) -> None:
    """Ask for a text that is the same each time."""
    person.open_group("Seed and completions")
    person.set_text("seed", seed)
    person.set_number("Length", LENGTH)
    person.write(PROMPT)
    person.page.keyboard.press("Control+Enter")
    expect(person.model_words.first).not_to_be_empty()


def lose_server(site: Site, person: Visitor, typed: str = "") -> str:
    """Kill the web process in the midst of a text, after typing these words; returns the text."""
    engine = site.engine
    while True:
        site.pause_engine()
        if site.status()["streams_running"]:
            break
        site.resume_engine()  # the text had ended before the pause
        person.finished()
        person.button("Undo").click()
        expect(person.prompt).to_have_value(PROMPT)
        person.page.keyboard.press("Control+Enter")
        expect(person.model_words.first).not_to_be_empty()
    person.page.keyboard.type(typed)
    site.process.kill()
    site.process.wait()
    shown = person.text
    eventually(lambda: not engine.is_running() or engine.status() == "zombie")
    return shown


def test_a_request_goes_on_after_the_server_was_replaced(own_site: Site, visit: Visit) -> None:
    alone = visit(own_site.url)
    ask(alone, "7")
    alone.finished()
    person = visit(own_site.url)
    ask(person, "7")
    shown = lose_server(own_site, person)
    assert len(shown) < len(alone.text)
    own_site.restart()
    eventually(lambda: person.text == alone.text)
    assert shown == alone.text[: len(shown)]
    person.finished()
    expect(person.notice).to_be_hidden()


def test_text_typed_while_disconnected_is_kept(own_site: Site, visit: Visit) -> None:
    person = visit(own_site.url)
    ask(person, "7")
    shown = lose_server(own_site, person)
    expect(person.prompt).to_be_editable()
    person.write(" and mine")
    typed = person.text
    assert typed == shown + " and mine"
    with person.page.expect_navigation():  # the page loads itself anew
        own_site.restart()
    expect(person.page.locator('.top[data-state="ready"]')).to_be_visible()
    assert person.text == typed
    expect(person.page.get_by_label("number input for Length")).to_have_value(LENGTH)
    expect(person.notice).to_contain_text("A generation was interrupted and did not go on")


def test_words_typed_before_the_server_was_lost_follow_the_resumed_text(
    own_site: Site, visit: Visit
) -> None:
    alone = visit(own_site.url)
    ask(alone, "7")
    alone.finished()
    person = visit(own_site.url)
    ask(person, "7")
    lose_server(own_site, person, typed=" and mine")
    expect(person.notice).to_contain_text("goes on when the connection is back")
    with person.page.expect_navigation():  # the page loads itself anew
        own_site.restart()
    expect(person.prompt).to_have_value(alone.text + " and mine")
    expect(person.notice).to_be_hidden()
