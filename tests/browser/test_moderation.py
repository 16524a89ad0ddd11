"""The page of a playground with a filter, and the report of a text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from gptj_demo.texts import joined, message

from .conftest import Script, Site, Visitor
from .records import ended, said

LEFT_OUT = str(message("filter.left_out"))


@pytest.fixture(scope="module")
def filtered(tmp_path_factory: pytest.TempPathFactory, model: str) -> Iterator[tuple[Site, Path]]:
    """A playground whose filter flags every sentence with a common letter, and takes reports."""
    folder = tmp_path_factory.mktemp("filter")
    (folder / "patterns.txt").write_text("[aeiou]")
    reports = folder / "reports.jsonl"
    site = Site(model, "--filter", str(folder / "patterns.txt"), "--reports", str(reports))
    try:
        site.wait_until_ready()
        yield site, reports
    finally:
        site.stop()


def test_the_page_omits_flagged_sentences_and_shows_that_a_filter_is_on(
    filtered: tuple[Site, Path], visit: Callable[..., Visitor]
) -> None:
    visitor = visit(filtered[0].url)
    visitor.write("Once upon a time")
    # a drawn text can end in a quotation mark, which the filter does not flag
    visitor.page.get_by_role("radio", name="Greedy").check()
    visitor.button("Tokens").click()
    visitor.generate()
    expect(visitor.model_words.first).to_have_text(LEFT_OUT)
    expect(visitor.status_line).to_contain_text("left out")
    visitor.page.locator('[data-goes-to="about"]').click()
    expect(visitor.page.locator(".about-filter")).to_contain_text("is left out")


def test_a_report_shows_what_it_sends_and_needs_consent(
    filtered: tuple[Site, Path], visit: Callable[..., Visitor]
) -> None:
    site, reports = filtered
    visitor = visit(site.url)
    visitor.write("A <b>bad</b> text.")
    visitor.button("Share").click()
    visitor.page.get_by_role("button", name="Report this text").click()
    shown = json.loads(visitor.page.locator("#report-sent").inner_text())
    assert shown["text"] == "A <b>bad</b> text."
    send = visitor.page.locator('[data-report="send"]')
    expect(send).to_be_disabled()
    visitor.page.locator("#report-dialog .check").click()
    send.click()
    expect(visitor.page.locator("#report-dialog .quiet-note")).to_contain_text("was sent")
    (line,) = reports.read_text().splitlines()
    report = json.loads(line)
    assert {name: report[name] for name in ("text", "controls", "model")} == shown


def test_without_a_filter_the_page_mentions_no_filter_and_offers_no_report(
    visitor: Visitor,
) -> None:
    expect(visitor.page.locator(".about-filter")).to_be_hidden()
    expect(visitor.page.locator('[data-report="open"]')).to_be_hidden()
    assert visitor.page.locator("#report-dialog").count() == 0


def test_flagged_sentences_are_underlined_where_they_stand(
    scripted: tuple[Visitor, Script],
) -> None:
    person, script = scripted
    marked = {"event": "marked", "index": 0, "text": " A <i>bad</i> one."}
    why = joined(message("end.model"), message("end.marked", number=1)).described()
    script.send([[said("Fine. A <i>bad</i> one. Fine."), marked], [ended(**why)]])
    person.generate()
    expect(person.page.locator(".aside")).to_contain_text("flagged")
    ranges = "[...CSS.highlights.get('flagged')].map(range => range.toString())"
    assert person.page.evaluate(ranges) == ["A <i>bad</i> one."]
