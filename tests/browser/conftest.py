"""One playground and one Chromium for all tests of the page; each test has its own visitor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Dialog,
    Locator,
    Page,
    expect,
    sync_playwright,
)

from tests.browser.install import find_chromium
from tests.browser.records import ended, said
from tests.processes import ROOT, App, free_port, http_status
from tests.waiting import PATIENCE, eventually

SAMPLE_MODEL = ROOT / "assets" / "sample-model"
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
expect.set_options(timeout=PATIENCE * 1000)


class Site(App):
    """A playground in a process of its own."""

    def __init__(self, model: str, *flags: str) -> None:
        super().__init__("--model", model, *flags)

    def status(self) -> dict[str, Any]:
        """What the page's own API reports about the model."""
        call = f"{self.url}/gradio_api/call/status"
        request = urllib.request.Request(
            call, b'{"data": []}', {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            event = json.load(answer)["event_id"]
        with urllib.request.urlopen(f"{call}/{event}", timeout=PATIENCE) as answer:
            data = next(line for line in answer if line.startswith(b"data: "))
        return dict(json.loads(data[6:])[0])


@pytest.fixture(scope="package")
def model() -> str:
    """A small GPT-J, as the setting names it: the sample model, or the one in GPTJ_MODEL."""
    named = os.environ.get("GPTJ_MODEL", "sample")
    assert named != "sample" or SAMPLE_MODEL.is_dir(), (
        "assets/sample-model is missing: set GPTJ_MODEL to a folder with a small GPT-J"
    )
    return named


@pytest.fixture(scope="package")
def running_site(model: str) -> Iterator[Site]:
    site = Site(model, "--max-num-seqs", "4", "--max-waiting", "2")
    try:
        site.wait_until_ready()
        yield site
    finally:
        site.stop()


@pytest.fixture
def site(running_site: Site) -> Iterator[Site]:
    """The playground; its engine is ready before the test, and no request is open after it."""
    eventually(running_site.is_ready)
    yield running_site
    running_site.resume_engine()
    eventually(lambda: running_site.count_open() == 0)


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """An installed Chromium or Chrome, else Playwright's own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


class Visitor:
    """A person with a browser profile of their own, and what is on their screen."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context = context
        self.url = url
        self.page: Page = context.new_page()
        self.dialogs: list[str] = []
        self.page.on("dialog", self._note_dialog)
        self.page.set_default_timeout(PATIENCE * 1000)
        self.page.goto(url)
        expect(self.page.locator(".editor textarea")).to_be_visible()

    def _note_dialog(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.accept()

    @property
    def prompt(self) -> Locator:
        return self.page.get_by_label("Prompt", exact=True)

    @property
    def model_words(self) -> Locator:
        return self.page.locator(".ink .by-model")

    @property
    def notice(self) -> Locator:
        return self.page.get_by_role("alert")

    @property
    def status_line(self) -> Locator:
        return self.page.locator(".status-line")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    @property
    def text(self) -> str:
        return self.prompt.input_value()

    @property
    def clipboard(self) -> str:
        """What was copied; pages copy asynchronously, so wait for it."""
        return str(self.page.evaluate("navigator.clipboard.readText()"))

    @property
    def shown(self) -> str:
        """What the backdrop shows."""
        return str(self.page.locator(".ink").evaluate("ink => ink.textContent"))

    def write(self, text: str) -> None:
        """Type at the end of the text."""
        expect(self.prompt).to_be_visible()  # a hidden field cannot take the focus
        self.prompt.focus()
        self.page.keyboard.press("Control+End")
        self.page.keyboard.type(text)

    def wait_for_end_of_text(self) -> None:
        """Wait until the end of the text is in view.

        A remark below the sheet makes the sheet smaller, and the next frame scrolls it."""
        distance = "s.scrollHeight - s.scrollTop - s.clientHeight"
        self.page.wait_for_function(f"(s => {distance} < 2)(document.querySelector('.sheet'))")

    def set_number(self, label: str, value: str) -> None:
        field = self.page.get_by_label(f"number input for {label}", exact=True)
        field.fill(value)
        field.press("Tab")

    def group(self, name: str) -> Locator:
        """A group of controls that can be opened."""
        title = self.page.locator(f'button:has-text("{name}")')
        return self.page.locator(".control-group").filter(has=title)

    def field(self, control: str) -> Locator:
        """The text field of a control in an open group."""
        return self.page.locator(f"#control-{control} :is(input, textarea)")

    def set_text(self, control: str, value: str) -> None:
        self.field(control).fill(value)
        self.field(control).press("Tab")

    def open_group(self, name: str) -> None:
        """Open a group of controls, and wait until Gradio has put their values in."""
        group = self.group(name)
        group.locator("> button").click()
        expect(group.locator(".control").first).to_be_visible()
        frames = "requestAnimationFrame(() => requestAnimationFrame(done))"
        self.page.evaluate(f"new Promise((done) => {frames})")

    def close_group(self, name: str) -> None:
        """Close a group of controls."""
        group = self.group(name)
        group.locator("> button").click()
        expect(group.locator(".control").first).to_be_hidden()

    def endless(self) -> None:
        """Let the sample model write until its context is full.

        At so low a temperature it never ends its text. Greedy decoding would be twice as fast.
        """
        self.set_number("Temperature", "0.03")
        self.set_number("Length", "2000")

    def generate(self) -> None:
        """Press Generate and wait until the model has ended."""
        before = self.text
        self.page.keyboard.press("Control+Enter")
        self.finished()
        assert self.text.startswith(before)

    def freeze(self) -> None:
        """Pause the page's installed clock, as if the page had been frozen for an hour."""
        self.page.clock.pause_at(self.page.evaluate("Date.now() / 1000 + 3600"))

    def finished(self) -> None:
        expect(self.button("Stop")).to_be_hidden()
        expect(self.page.locator('[data-action="generate"]')).to_be_visible()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Callable[..., Visitor]]:
    """Opens pages: `visit(url, **context options)`; each call is another person."""
    contexts: list[BrowserContext] = []

    def open_page(url: str, **options: Any) -> Visitor:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        return Visitor(context, url)

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def visitor(site: Site, visit: Callable[..., Visitor]) -> Visitor:
    """One person on the playground, with the model's name on the screen."""
    person = visit(site.url)
    expect(person.page.locator('.top[data-state="ready"]')).to_be_visible()
    return person


class Script:
    """The records that an editor without a model gets, in batches."""

    def __init__(self, folder: Path) -> None:
        self._batches = folder / "batches.json"
        self._asked = folder / "asked.jsonl"
        self._score = folder / "score.json"
        self._silent = folder / "silent"

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The requests so far."""
        return [json.loads(line) for line in self._asked.read_text().splitlines()]

    def forget(self) -> None:
        self._asked.write_text("")

    def send(self, batches: list[list[dict[str, Any]]], *, falls_silent: bool = False) -> None:
        """Answer the following requests with these records.

        If no record ends the request, it runs until it is stopped. With `falls_silent`, the server
        sends nothing more, and the page reports a lost connection some seconds later.
        """
        self._batches.write_text(json.dumps(batches))
        self._silent.unlink(missing_ok=True)
        if falls_silent:
            self._silent.touch()

    def score(self, answer: dict[str, Any]) -> None:
        """Answer requests for a text's score with this."""
        self._score.write_text(json.dumps(answer))

    def say(self, *texts: str, **finished: Any) -> None:
        """Answer the next request with these texts, one batch each."""
        self.send(
            [[said(text, tokens=i + 1, total=i + 1)] for i, text in enumerate(texts)]
            + [[ended(completion_tokens=len(texts), total=len(texts)) | finished]]
        )


@pytest.fixture(scope="package")
def editor_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Script]]:
    """The editor alone, answered by a script."""
    folder = tmp_path_factory.mktemp("script")
    port = free_port()
    program = [sys.executable, "-m", "tests.browser.scripted_editor", str(port), str(folder)]
    process = subprocess.Popen(program, cwd=ROOT)
    try:
        eventually(lambda: http_status(f"http://127.0.0.1:{port}") == 200)
        yield f"http://127.0.0.1:{port}", Script(folder)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def scripted(
    editor_site: tuple[str, Script], visit: Callable[..., Visitor]
) -> tuple[Visitor, Script]:
    """A person at the editor alone, and its script."""
    url, script = editor_site
    script.forget()
    return visit(url), script
