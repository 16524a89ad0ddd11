"""A file of rows in Compare: rows are generated, cancelled, gone on with, and downloaded."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import FilePayload, Locator, expect

from .comparer import without_guard
from .conftest import Site, Visitor
from .test_accessibility import PHONE, WIDE, audit
from .writers import ATTEMPTS, save_as_scaffold

Visit = Callable[..., Visitor]
TEMPLATE = "Once upon a time {hero} came to {place}"
ADDED = ["text", "mean_logprob", "completion_tokens", "seed", "reason", "message"]
HOSTILE = "<img data-hostile src=x onerror=alert(1)>"


def table(rows: int) -> str:
    lines = [f'{i};"Ann; ""{i}"" {HOSTILE if i == 1 else ""}";the mill' for i in range(rows)]
    return "\r\n".join(["\ufeffid;hero;place", *lines, ""])


class Batcher:
    """A person with a file of rows."""

    def __init__(self, person: Visitor) -> None:
        self.person, self.page = person, person.page
        person.set_number("Length", "4")
        self.page.locator('[data-goes-to="compare"]').click()
        self.page.locator('[data-kind="file"]').click()
        self.template.fill(TEMPLATE)

    @property
    def template(self) -> Locator:
        return self.page.locator("#batch-template")

    @property
    def state(self) -> Locator:
        return self.page.locator(".batch-state")

    @property
    def rows(self) -> Locator:
        return self.page.locator(".batch-rows li")

    def press(self, action: str) -> None:
        self.page.locator(f'[data-batch="{action}"]').click()

    def open(self, text: str, name: str = "tales.csv") -> None:
        file = FilePayload(name=name, mimeType="text/csv", buffer=text.encode())
        self.page.locator(".batch input[type=file]").set_input_files(file)

    def download(self) -> tuple[str, str]:
        with self.page.expect_download() as download:
            self.press("download")
        path = Path(download.value.path())
        return download.value.suggested_filename, path.read_bytes().decode()


@pytest.fixture
def batcher(visitor: Visitor) -> Batcher:
    return Batcher(visitor)


def test_every_row_gets_a_continuation_and_the_results_are_downloaded(batcher: Batcher) -> None:
    page = batcher.page
    batcher.open(table(6))
    expect(page.locator(".batch-first p")).to_contain_text('time Ann; "0"  came to the mill')
    expect(page.locator(".batch-cost")).to_contain_text("6 rows · at most 24 tokens · 3 at a time")
    page.keyboard.press("Control+Enter")
    expect(batcher.state).to_have_text("6 of 6 rows done · 24 tokens")
    expect(batcher.rows).to_have_count(6)
    expect(batcher.rows.nth(1)).to_contain_text(HOSTILE)
    assert page.locator("[data-hostile]").count() == 0
    name, text = batcher.download()
    assert name == "tales-results.csv"
    given, got = table(6).split("\r\n"), text.split("\r\n")
    assert [line[: len(old)] for line, old in zip(got, given, strict=True)] == given
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), delimiter=";"))
    assert list(rows[0]) == ["id", "hero", "place", *ADDED]
    for row, shown in zip(rows, batcher.rows.all(), strict=True):
        assert (row["completion_tokens"], row["reason"]) == ("4", "length")
        assert float(row["mean_logprob"]) < 0
        text_shown = shown.locator(".batch-text").inner_text().strip()
        assert without_guard(row["text"]).strip() == text_shown
    seeds = [int(row["seed"]) for row in rows]
    assert seeds == list(range(seeds[0], seeds[0] + 6))
    page.reload()
    expect(batcher.state).to_have_text("6 of 6 rows done · 24 tokens")
    assert batcher.download()[1] == text


def pause_amid_rows(site: Site, batcher: Batcher, rows: str) -> None:
    """Run a file, and pause the engine when a row is done and others are not."""
    for _ in range(ATTEMPTS):
        batcher.open(rows, "tales.jsonl")
        expect(batcher.page.locator(".batch-cost")).to_contain_text("12 rows")
        batcher.press("run")
        batcher.page.wait_for_function("document.querySelector('.batch-rows li')")
        site.pause_engine()
        if site.count_open():
            return
        site.resume_engine()  # all rows were done before the pause
        expect(batcher.state).to_contain_text("12 of 12 rows done")
    pytest.fail(f"each of {ATTEMPTS} batches was done before the pause")


def test_a_batch_is_cancelled_goes_on_and_survives_a_reload(site: Site, batcher: Batcher) -> None:
    page, person = batcher.page, batcher.person
    page.locator('[data-goes-to="write"]').click()
    person.set_number("Length", "200")
    page.locator('[data-goes-to="compare"]').click()
    rows = "".join(f'{{"hero": "{i}", "place": 1.50}}\n' for i in range(12))
    pause_amid_rows(site, batcher, rows)
    page.keyboard.press("Escape")
    expect(batcher.state).to_contain_text("Stopping")
    site.resume_engine()
    run = page.locator('[data-batch="run"]')
    expect(run).to_contain_text("Go on with")
    partial = [json.loads(line) for line in batcher.download()[1].splitlines()]
    done = {row["hero"]: row for row in partial if row["reason"] in ("length", "stop")}
    assert 0 < len(done) < 12
    assert {row["reason"] for row in partial} <= {"length", "stop", "cancelled", None}
    site.pause_engine()
    batcher.press("run")
    expect(page.locator('[data-batch="cancel"]')).to_be_visible()
    page.reload()
    site.resume_engine()
    expect(batcher.state).to_contain_text("12 of 12 rows done")
    name, text = batcher.download()
    assert name == "tales-results.jsonl"
    for line in text.splitlines():
        row = json.loads(line)
        assert line.startswith(f'{{"hero": "{row["hero"]}", "place": 1.50, "text": ')
        assert done.get(row["hero"], row) == row


BAD_FILES = {
    "hero,place\nAnn\n": "Row 1, on line 2 of the file, has 1 fields",
    "x" * (2**21 + 1): "The file has 3 MB; at most 2 MB are read.",
    "hero\n\0": "The file is not a text in UTF-8.",
    "": "The file is empty.",
}


def test_before_a_file_is_chosen_only_a_faulty_template_is_marked_as_wrong(
    batcher: Batcher,
) -> None:
    wrong = batcher.page.locator(".batch [data-wrong] textarea")
    line = batcher.page.locator(".batch-cost")
    batcher.template.fill("Once upon a time")
    expect(line).to_contain_text("Write the name of a column in braces")
    expect(wrong).to_have_count(0)
    batcher.template.fill("Once upon a {time")
    expect(line).to_contain_text("is never closed")
    expect(wrong).to_have_count(1)


def test_a_file_that_cannot_be_read_changes_nothing(batcher: Batcher) -> None:
    batcher.open(table(2))
    expect(batcher.page.locator(".batch-first p")).to_contain_text("Ann")
    for text, sentence in BAD_FILES.items():
        batcher.open(text, "bad.csv")
        expect(batcher.person.notice).to_contain_text(f"bad.csv was not opened. {sentence}")
        batcher.press("dismiss")
    expect(batcher.page.locator(".batch-facts")).to_have_text("tales.csv · 2 rows")
    expect(batcher.template).to_have_value(TEMPLATE)
    batcher.open("hero,town\na,b\n", "other.csv")
    expect(batcher.page.locator(".batch-cost")).to_have_text(
        'The file has no column "place". It has "hero", "town".'
    )


def test_a_scaffold_of_the_visitor_becomes_the_template_for_a_file(visitor: Visitor) -> None:
    page = visitor.page
    visitor.write("{hero} said: {")
    save_as_scaffold(visitor, "Speech")
    visitor.button("Speech").click()
    visitor.button("For a file of rows…").click()
    template = page.locator("#batch-template")
    expect(template).to_have_value("{hero} said: {{")
    page.locator('[data-kind="grid"]').click()
    expect(template).to_be_hidden()
    expect(page.get_by_label("Prompt or template")).to_be_visible()


def test_the_browsers_undo_restores_a_template_that_was_replaced(visitor: Visitor) -> None:
    page = visitor.page
    visitor.write("The {editor} text.")
    page.locator('[data-goes-to="compare"]').click()
    for kind, name in (("grid", "#compare-prompt"), ("file", "#batch-template")):
        page.locator(f'[data-kind="{kind}"]').click()
        field = page.locator(name)
        field.fill("My typed {hero} template")
        page.get_by_role("button", name="Take the editor's text").click()
        expect(field).not_to_have_value("My typed {hero} template")
        page.keyboard.press("Control+z")
        expect(field).to_have_value("My typed {hero} template")
    page.reload()
    page.locator('[data-goes-to="compare"]').click()
    page.locator('[data-kind="file"]').click()
    expect(page.locator("#batch-template")).to_have_value("My typed {hero} template")


@pytest.mark.parametrize(
    ("language", "screen"), [("en", WIDE), ("ar", PHONE)], ids=["wide", "phone"]
)
def test_the_batch_view_has_no_accessibility_finding_in_either_language(
    site: Site, visit: Visit, language: str, screen: dict[str, object]
) -> None:
    scheme = "dark" if language == "ar" else "light"
    page = visit(site.url, color_scheme=scheme, locale=language, **screen).page
    page.locator('[data-goes-to="compare"]').click()
    page.locator('[data-kind="file"]').click()
    page.locator("#batch-template").fill(TEMPLATE)
    file = FilePayload(name="tales.csv", mimeType="text/csv", buffer=table(2).encode())
    page.locator(".batch input[type=file]").set_input_files(file)
    expect(page.locator(".batch-first p")).to_be_visible()
    page.locator('[data-batch="run"]').click()
    expect(page.locator(".batch-rows li")).to_have_count(2)
    expect(page.locator('[data-batch="run"]')).to_be_visible()
    assert audit(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_rows_that_are_too_long_are_written_without_the_beginning_of_their_text(
    batcher: Batcher,
) -> None:
    page = batcher.page
    notice = page.locator(".batch .notice")
    long = "fox and crow " * 2000
    batcher.open(f"hero,place\nAnn,the mill\n{long},the mill\n")
    batcher.press("run")
    expect(notice).to_contain_text("let its beginning be left out")
    expect(batcher.state).to_contain_text("1 of 2 rows done · 1 failed")
    done = batcher.rows.first.locator(".batch-text").inner_text()
    notice.get_by_role("button", name="Leave out the beginning and go on").click()
    expect(batcher.state).to_contain_text("2 of 2 rows done")  # the second can end early
    expect(notice).to_be_hidden()
    assert batcher.rows.first.locator(".batch-text").inner_text() == done
