"""A person at the Compare view."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, expect

from .conftest import Visitor

PROMPT = "Once upon a time there was a"


def without_guard(field: str) -> str:
    """The text of a CSV field, without the mark that keeps it from being a formula."""
    return re.sub(r"^'(?=\s*[=+\-@|%]|[\t\r\n])", "", field)


class Comparer:
    """A person at the Compare view."""

    def __init__(self, person: Visitor) -> None:
        self.person = person
        self.page = person.page
        self.page.get_by_role("button", name="Compare", exact=True).first.click()
        expect(self.prompt).to_be_visible()

    @property
    def prompt(self) -> Locator:
        return self.page.get_by_label("Prompt or template")

    @property
    def cost(self) -> Locator:
        return self.page.locator(".compare-cost")

    @property
    def cells(self) -> Locator:
        return self.page.locator(".compare-cells .cell")

    @property
    def texts(self) -> list[str]:
        return self.page.locator(".compare-cells .cell-text").all_text_contents()

    @property
    def run_button(self) -> Locator:
        return self.page.locator('[data-action="run"]')

    def axis(self, name: str, control: str, values: str | None = None) -> None:
        self.page.get_by_label(f"What differs between the {name}").select_option(control)
        if values is not None:
            self.page.get_by_label(f"Values of the {name}", exact=True).fill(values)

    def values_of(self, name: str) -> Locator:
        return self.page.get_by_label(f"Values of {{{name}}}")

    def length(self, tokens: int | str) -> None:
        self.page.get_by_label("Tokens a cell, at most").fill(str(tokens))

    def finished(self) -> None:
        expect(self.run_button).to_be_visible()

    def run(self) -> None:
        """Press Compare and wait until all cells have ended."""
        self.run_button.click()
        self.finished()

    def export(self, kind: str) -> str:
        with self.page.expect_download() as download:
            self.page.get_by_role("button", name=kind, exact=True).click()
        return Path(download.value.path()).read_text(encoding="utf-8")

    def exported(self) -> list[dict[str, Any]]:
        return list(json.loads(self.export("JSON"))["cells"])
