"""A page whose server was lost reconnects by itself and resumes its request."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from tests.processes import is_running
from tests.waiting import eventually

from .conftest import Site, Visitor
from .writers import pause_amid

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


def prepare(person: Visitor) -> None:
    """Set the controls of a text that is the same each time, and write its prompt."""
    person.open_group("Seed and completions")
    person.set_text("seed", "7")
    person.set_number("Length", LENGTH)
    person.write(PROMPT)


def lose_server(site: Site, person: Visitor, typed: str = "") -> None:
    """Kill the web process in the midst of a text, after typing these words."""
    pause_amid(site, person, prompt=PROMPT)
    person.page.keyboard.type(typed)
    engine = site.engine
    site.process.kill()
    site.process.wait()
    eventually(lambda: not is_running(engine))


def test_a_request_goes_on_after_the_server_was_replaced(own_site: Site, visit: Visit) -> None:
    alone = visit(own_site.url)
    prepare(alone)
    alone.generate()
    person = visit(own_site.url)
    prepare(person)
    lose_server(own_site, person)
    shown = person.text
    assert len(shown) < len(alone.text)
    own_site.restart()
    eventually(lambda: person.text == alone.text)
    assert shown == alone.text[: len(shown)]
    person.finished()
    expect(person.notice).to_be_hidden()


def test_text_typed_while_disconnected_is_kept(own_site: Site, visit: Visit) -> None:
    person = visit(own_site.url)
    prepare(person)
    lose_server(own_site, person)
    expect(person.prompt).to_be_editable()
    shown = person.text  # words were still on their way before
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
    prepare(alone)
    alone.generate()
    person = visit(own_site.url)
    prepare(person)
    lose_server(own_site, person, typed=" and mine")
    expect(person.notice).to_contain_text("goes on when the connection is back")
    with person.page.expect_navigation():  # the page loads itself anew
        own_site.restart()
    expect(person.prompt).to_have_value(alone.text + " and mine")
    expect(person.notice).to_be_hidden()
