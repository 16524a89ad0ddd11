#!/usr/bin/env python3
"""Take the README's pictures, and the page in its other states to look at.

python tools/take_screenshots.py                 # writes screenshot.png and compare.png to assets/
python tools/take_screenshots.py --all FOLDER    # phone, dark, streaming, loading, error too
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Browser, Page, sync_playwright  # noqa: E402

from tests.browser.conftest import CHROMIUM_FLAGS, Site, Visitor  # noqa: E402
from tests.browser.install import find_chromium  # noqa: E402
from tests.waiting import eventually  # noqa: E402

DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
PROMPT = "The old lighthouse keeper opened the letter and read it twice."


def visit(browser: Browser, site: Site, **options: Any) -> Visitor:
    visitor = Visitor(browser.new_context(**options), site.url)
    visitor.page.locator('.top[data-state="ready"]').wait_for()
    return visitor


def write(visitor: Visitor, seed: str) -> None:
    """A prompt and its continuation, the same words each time."""
    visitor.open_group("Seed and completions")
    visitor.set_text("seed", seed)
    visitor.close_group("Seed and completions")
    visitor.page.locator("#controls").evaluate("panel => panel.scrollTo(0, 0)")
    visitor.write(PROMPT)
    visitor.generate()


def write_several(visitor: Visitor) -> None:
    """Several completions, with the probabilities of their tokens and the prompt's score."""
    visitor.open_group("Prompt")
    visitor.page.get_by_label("Score the prompt").check()
    visitor.close_group("Prompt")
    visitor.open_group("Seed and completions")
    visitor.set_number("Completions", "4")
    visitor.set_text("logprobs", "4")
    visitor.close_group("Seed and completions")
    visitor.set_number("Length", "60")
    visitor.write(PROMPT)
    visitor.generate()


def point_at_token(visitor: Visitor) -> None:
    """Colour the words, and open the inspector at one of the last, which are in view."""
    visitor.button("Tokens").click()
    visitor.write(PROMPT)
    visitor.generate()
    place = visitor.model_words.last.evaluate(
        """(words) => {
          const range = document.createRange();
          range.selectNodeContents(words.lastChild);
          const boxes = range.getClientRects();
          const box = boxes[boxes.length - 1];
          return [box.x + box.width / 2, box.y + box.height / 2];
        }""",
    )
    if visitor.page.evaluate("navigator.maxTouchPoints"):
        visitor.page.touchscreen.tap(*place)
    else:
        visitor.page.mouse.move(*place)
    visitor.page.locator(".inspector").wait_for()


def compare(visitor: Visitor) -> None:
    """Three temperatures by two values of top-p."""
    page = visitor.page
    page.locator(".views").get_by_role("button", name="Compare").click()
    page.get_by_label("Prompt or template").fill(PROMPT)
    page.get_by_label("What differs between the rows").select_option("temperature")
    page.get_by_label("Values of the rows", exact=True).fill("0.2, 0.8, 1.4")
    page.get_by_label("What differs between the columns").select_option("top_p")
    page.get_by_label("Values of the columns", exact=True).fill("0.8, 1")
    page.get_by_label("Tokens a cell, at most").fill("40")
    page.locator('[data-action="run"]').click()
    page.locator(".compare-state").get_by_text(re.compile("^6 cells")).wait_for()


def ask_why(visitor: Visitor) -> None:
    """Which sentences of the prompt made its continuation likely."""
    visitor.write(f"{PROMPT} The sea was rough that night.")
    visitor.set_number("Length", "30")
    visitor.generate()
    page = visitor.page
    page.locator(".views").get_by_role("button", name="Why").click()
    page.get_by_role("button", name="Take from the editor").click()
    page.get_by_role("button", name="Which parts mattered?").click()
    page.get_by_role("button", name="Stop", exact=True).last.wait_for(state="hidden")


def take(page: Page, path: Path) -> None:
    page.screenshot(path=path)
    print(path)


def take_others(browser: Browser, folder: Path) -> None:
    """The other states: loading, streaming, phone, dark, and after the model was killed."""
    folder.mkdir(parents=True, exist_ok=True)
    site = Site("sample")
    try:
        eventually(site.is_up)
        loading = Visitor(browser.new_context(**DESKTOP), site.url)
        take(loading.page, folder / "loading.png")
        site.wait_until_ready()
        for name, options in {
            "phone": PHONE,
            "phone-dark": {**PHONE, "color_scheme": "dark"},
            "dark": {**DESKTOP, "color_scheme": "dark"},
        }.items():
            visitor = visit(browser, site, **options)
            visitor.write(PROMPT)
            visitor.generate()
            take(visitor.page, folder / f"{name}.png")
            if "phone" in name:
                visitor.button("Controls").click()
            visitor.open_group("Repetition")
            take(visitor.page, folder / f"{name}-controls.png")
            if "phone" in name:
                visitor.button("Done").click()
        for name, options in {
            "completions": DESKTOP,
            "completions-dark": {**DESKTOP, "color_scheme": "dark"},
        }.items():
            visitor = visit(browser, site, **options)
            write_several(visitor)
            take(visitor.page, folder / f"{name}.png")
            visitor.page.locator(".tokens summary").last.click()
            visitor.page.locator(".token-table tbody tr").first.wait_for()
            visitor.page.screenshot(path=folder / f"{name}-tokens.png", full_page=True)
        for name, options in {
            "": DESKTOP,
            "-dark": {**DESKTOP, "color_scheme": "dark"},
            "-phone": PHONE,
        }.items():
            for state, reach in {
                "inspector": point_at_token,
                "compare": compare,
                "why": ask_why,
            }.items():
                visitor = visit(browser, site, **options)
                reach(visitor)
                visitor.page.wait_for_timeout(300)
                take(visitor.page, folder / f"{state}{name}.png")
        visitor = visit(browser, site, **DESKTOP)
        visitor.write(PROMPT)
        visitor.set_number("Length", "900")
        visitor.page.keyboard.press("Control+Enter")
        visitor.model_words.first.wait_for()
        visitor.page.wait_for_timeout(700)
        take(visitor.page, folder / "streaming.png")
        site.engine.kill()
        visitor.notice.wait_for()
        take(visitor.page, folder / "error.png")
    finally:
        site.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seed", default="7", help="seed of the README's picture")
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="the other states, to look at")
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_FLAGS)
        site = Site("sample")
        try:
            site.wait_until_ready()
            visitor = visit(browser, site, **DESKTOP)
            write(visitor, arguments.seed)
            take(visitor.page, ROOT / "assets" / "screenshot.png")
            visitor = visit(browser, site, **DESKTOP)
            compare(visitor)
            take(visitor.page, ROOT / "assets" / "compare.png")
        finally:
            site.stop()
        if arguments.all is not None:
            take_others(browser, arguments.all)
        browser.close()


if __name__ == "__main__":
    main()
