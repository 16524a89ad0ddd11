"""Many visitors, visitors who leave, and an engine that is lost or still loading."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

from playwright.sync_api import expect

from tests.waiting import eventually

from .conftest import Site, Visitor
from .writers import start_endless

Visit = Callable[..., Visitor]


def test_stop_ends_only_the_generation_of_its_visitor(site: Site, visit: Visit) -> None:
    first, second = visit(site.url), visit(site.url)
    start_endless(site, first, second)
    first.page.keyboard.press("Escape")
    expect(first.status_line).to_contain_text("Stopping")
    site.resume_engine()
    first.finished()
    expect(first.status_line).to_contain_text("Stopped.")
    second.finished()  # ends by itself
    expect(second.status_line).to_contain_text("context of 1,024 tokens is full")


def test_closing_the_tab_frees_the_slot(site: Site, visitor: Visitor) -> None:
    start_endless(site, visitor)
    assert site.status()["streams_running"] == 1
    visitor.page.close()
    eventually(lambda: site.status()["streams_running"] == 0)


def test_a_killed_engine_is_replaced_and_the_text_goes_on(site: Site, visitor: Visitor) -> None:
    start_endless(site, visitor)
    kept = visitor.text
    killed = site.engine
    killed.send_signal(signal.SIGKILL)
    expect(visitor.status_line).to_contain_text("Reconnecting")
    expect(visitor.page.locator(".model-line")).to_contain_text(re.compile("estart|oad|tart"))
    eventually(lambda: len(visitor.text) > len(kept))
    assert visitor.text.startswith(kept)
    expect(visitor.notice).to_be_hidden()
    visitor.page.keyboard.press("Escape")
    visitor.finished()
    expect(visitor.page.locator('.top[data-state="ready"]')).to_be_visible()


def test_generate_can_be_pressed_while_the_model_loads(model: str, visit: Visit) -> None:
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
