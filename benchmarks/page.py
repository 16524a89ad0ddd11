#!/usr/bin/env python3
"""Waiting times of the page in Chromium, from start to many visitors at once.

    python benchmarks/page.py [--visitors 32] [--model sample]

Starts `app.py` and measures the start of page and model, the first words after Generate, the time
until Stop or a closed tab frees the slot, many visitors at once, recovery after a `kill -9`, and
whether the page keeps up with 2,000 tokens with five alternatives each. Visitors' waiting times
come from a clock in the browser. Prints a table, the machine and versions, and one line of JSON
last.

Many visitors are measured twice: with one browser while the other visitors use the page's API,
which measures the playground, and with all visitors as pages of one Chromium, which shares the
cores with the playground.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import threading
import time

import httpx
from common import (
    START_SECONDS,
    describe_machine,
    finish,
    make_parser,
    percentile,
    print_table,
    wait_for,
)
from playwright.sync_api import Browser, Page, sync_playwright
from programs import answers, api_arguments

from tests.browser.conftest import CHROMIUM_FLAGS, Site
from tests.browser.install import find_chromium

PROMPT = "Once upon a time there was a"
WORDS = ".ink .by-model"

# records when Generate was pressed and when the model's first words appeared
WATCH = """words => {
  const times = window.benchmark = {pressed: null, first: null};
  document.addEventListener('click', event => {
    if (event.target.closest('[data-action=generate]')) times.pressed = performance.now();
  }, true);
  new MutationObserver(() => {
    if (times.pressed !== null && times.first === null &&
        [...document.querySelectorAll(words)].some(part => part.textContent.trim()))
      times.first = performance.now();
  }).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""


def open_page(browser: Browser, url: str) -> Page:
    """The page of a new visitor, with a prompt and a length of 900 tokens set."""
    page = browser.new_context().new_page()
    page.goto(url)
    page.get_by_label("Prompt", exact=True).fill(PROMPT)
    length = page.get_by_label("number input for Length")
    length.fill("900")
    length.press("Tab")
    page.evaluate(WATCH, WORDS)
    return page


# whether the editor accepts input; checked in every frame, because Playwright itself checks only
# twice a second
USABLE = """() => [...document.querySelectorAll('#editor textarea')]
  .some(field => field.checkVisibility({visibilityProperty: true}))"""


def press(page: Page, action: str) -> None:
    """Press a button at once: Playwright's click takes as long as the sample model's whole text."""
    page.evaluate(f"() => document.querySelector('[data-action={action}]').click()")


def first_words(page: Page) -> float:
    """Seconds from Generate to the model's first words, by the page's own clock."""
    page.wait_for_function("() => window.benchmark.first !== null", timeout=START_SECONDS * 1e3)
    return float(page.evaluate("() => (window.benchmark.first - window.benchmark.pressed) / 1000"))


async def ask_through_api(url: str, visitors: int, waits: list[float]) -> None:
    """Requests of many visitors at once, each with its own `X-Forwarded-For` address; adds the
    seconds until each one's first words."""
    data = api_arguments(url, prompt=PROMPT, max_new_tokens=900)
    call = f"{url}/gradio_api/call/generate"
    limits = httpx.Limits(max_connections=None)

    async def one(client: httpx.AsyncClient, number: int) -> None:
        address = {"X-Forwarded-For": f"198.51.100.{number}"}
        begin = time.perf_counter()
        asked = await client.post(call, json={"data": data}, headers=address)
        event = asked.json()["event_id"]
        waited = None
        async with client.stream("GET", f"{call}/{event}") as stream:
            async for line in stream.aiter_lines():
                if waited is None and line.startswith("data: ") and json.loads(line[6:])[0]:
                    waited = time.perf_counter() - begin
                    waits.append(waited)

    async with httpx.AsyncClient(limits=limits, timeout=START_SECONDS) as client:
        await asyncio.gather(*(one(client, number) for number in range(visitors)))


# records the milliseconds of each frame until `frames_.stop()`, which returns them
FRAMES = """() => {
  const times = []; let before = null; let on = true;
  const note = now => { if (before !== null) times.push(now - before); before = now;
                        if (on) requestAnimationFrame(note); };
  requestAnimationFrame(note);
  window.frames_ = {stop: () => { on = false; return times; }};
}"""

# scrolls the text to its beginning and back, `step` pixels a frame
SCROLL = """step => new Promise(done => {
  const sheet = document.querySelector('.sheet');
  let way = -step;
  const move = () => {
    sheet.scrollTop += way;
    if (sheet.scrollTop <= 0) way = step;
    const left = sheet.scrollHeight - sheet.clientHeight - sheet.scrollTop;
    if (way > 0 && left < 2) return done();
    requestAnimationFrame(move);
  };
  move();
})"""

# records which tokens have been coloured, and when the latest one was, by the system's clock, which
# Python also reads; only tokens near the visible part are coloured at any time
WATCH_TOKENS = """() => {
  const places = new Set();
  const times = window.shown = {last: 0, get tokens() { return places.size; }};
  const look = () => {
    const starts = new Map();
    let at = 0;
    for (const span of document.querySelectorAll('.ink span')) for (const node of span.childNodes) {
      starts.set(node, at);
      at += node.length;
    }
    const before = places.size;
    for (const level of [1, 2, 3, 4, 5])
      for (const range of CSS.highlights.get(`gptj-token-${level}`))
        places.add(starts.get(range.startContainer) + range.startOffset);
    if (places.size !== before) times.last = Date.now();
    requestAnimationFrame(look);
  };
  look();
}"""


def measure_tokens(browser: Browser, site: Site, tokens: int = 2000) -> dict[str, float]:
    """Whether the page keeps up with tokens at the engine's speed, in milliseconds.

    The text is longer than the sample model's context, so it takes several runs, each of which
    reads the end of the text so far. The figures are those of the last run, on the full page.
    """
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.goto(site.url)
    page.get_by_label("Prompt", exact=True).fill(PROMPT)
    page.get_by_role("button", name="Tokens", exact=True).click()
    controls = {"max_new_tokens": 2000, "truncate": "left", "ignore_eos": True}
    page.evaluate("values => gptj.useControls(values)", controls)
    page.wait_for_function("() => gptj.state.controls.truncate === 'left'")
    page.evaluate(WATCH_TOKENS)
    figures: dict[str, float] = {}
    while page.evaluate("() => window.shown.tokens") < tokens:
        page.evaluate(FRAMES)
        press(page, "generate")
        wait_for(lambda: running(site) == 1)
        wait_for(lambda: running(site) == 0)
        ended = time.time()
        page.locator('[data-action="generate"]').wait_for(state="visible")
        page.wait_for_timeout(500)  # wait for remaining updates
        streaming = page.evaluate("() => window.frames_.stop()")
        last = page.evaluate("() => window.shown.last") / 1000
        figures["tokens with five alternatives on the page"] = page.evaluate("window.shown.tokens")
        figures["last token shown after the engine's end, ms"] = 1000 * (last - ended)
        figures["frames while they stream, 95 of 100 within ms"] = percentile(streaming, 95)
        figures["longest frame while they stream, ms"] = max(streaming)
    page.evaluate(FRAMES)
    page.evaluate(SCROLL, 60)
    scrolling = page.evaluate("() => window.frames_.stop()")
    figures["frames while scrolling, median, ms"] = statistics.median(scrolling)
    figures["frames while scrolling, 95 of 100 within ms"] = percentile(scrolling, 95)
    figures["longest frame while scrolling, ms"] = max(scrolling)
    page.context.close()
    return figures


def running(site: Site) -> int:
    return int(site.status()["streams_running"])


def measure_tokens_alone(browser: Browser, model: str) -> dict[str, float]:
    """`measure_tokens` at a site of its own."""
    site = Site(model)
    try:
        site.wait_until_ready()
        return measure_tokens(browser, site)
    finally:
        site.stop()


def measure(browser: Browser, model: str, visitors: int, rounds: int) -> dict[str, float]:
    """All figures in seconds."""
    figures: dict[str, float] = {}
    begin = time.perf_counter()
    slots = str(max(32, visitors))
    site = Site(model, "--max-num-seqs", slots, "--trusted-proxies", "127.0.0.1")
    try:
        wait_for(lambda: answers(site.url))
        page = browser.new_context().new_page()
        page.goto(site.url)
        page.wait_for_function(USABLE, polling="raf", timeout=START_SECONDS * 1e3)
        figures["page interactive after start"] = time.perf_counter() - begin
        wait_for(lambda: site.status()["state"] == "ready")
        figures["model ready after start"] = time.perf_counter() - begin
        page.context.close()

        samples: dict[str, list[float]] = {"first": [], "stop": [], "close": []}
        for _ in range(rounds):
            page = open_page(browser, site.url)
            press(page, "generate")
            samples["first"].append(first_words(page))
            begin = time.perf_counter()
            press(page, "stop")
            wait_for(lambda: running(site) == 0)
            samples["stop"].append(time.perf_counter() - begin)
            page.context.close()

            page = open_page(browser, site.url)
            press(page, "generate")
            first_words(page)
            begin = time.perf_counter()
            page.context.close()
            wait_for(lambda: running(site) == 0)
            samples["close"].append(time.perf_counter() - begin)
        figures["first words after Generate"] = statistics.median(samples["first"])
        figures["engine idle after Stop"] = statistics.median(samples["stop"])
        figures["slot free after the tab is closed"] = statistics.median(samples["close"])

        page = open_page(browser, site.url)
        waits: list[float] = []
        others = threading.Thread(
            target=lambda: asyncio.run(ask_through_api(site.url, visitors - 1, waits))
        )
        others.start()
        press(page, "generate")
        figures[f"first words, one browser among {visitors} visitors"] = first_words(page)
        wait_for(lambda: len(waits) == visitors - 1)
        figures["streams side by side"] = running(site)
        others.join()
        figures[f"first words, the {visitors - 1} others, median"] = statistics.median(waits)
        figures[f"first words, the {visitors - 1} others, last"] = max(waits)
        page.context.close()

        pages = [open_page(browser, site.url) for _ in range(visitors)]
        for page in pages:
            press(page, "generate")
        waits = [first_words(page) for page in pages]
        figures[f"first words, {visitors} pages of one Chromium, median"] = statistics.median(waits)
        figures[f"first words, {visitors} pages of one Chromium, last"] = max(waits)
        for page in pages:
            page.context.close()

        page = open_page(browser, site.url)
        press(page, "generate")
        first_words(page)
        site.engine.kill()
        begin = time.perf_counter()
        written = len(page.get_by_label("Prompt", exact=True).input_value())
        page.wait_for_function(
            "written => document.querySelector('.sheet textarea').value.length > written + 20",
            arg=written,
            timeout=START_SECONDS * 1e3,
        )
        figures["words go on after kill -9"] = time.perf_counter() - begin
        return figures
    finally:
        site.stop()


def main() -> None:
    parser = make_parser(__doc__, rounds=5)
    parser.add_argument("--visitors", type=int, default=32)
    parser.add_argument("--model", default="sample")
    parser.add_argument("--tokens", action="store_true", help="only the 2,000 tokens")
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_FLAGS)
        figures = {}
        if not arguments.tokens:
            figures = measure(browser, arguments.model, arguments.visitors, arguments.rounds)
        of_tokens = measure_tokens_alone(browser, arguments.model)
        chromium = browser.version
        browser.close()
    machine = {**describe_machine("torch", "gradio"), "chromium": chromium}
    if figures:
        print_table("Seconds", ["", "s"], [[name, value] for name, value in figures.items()])
    print_table("2,000 tokens", ["", ""], [[name, value] for name, value in of_tokens.items()])
    rounded = {name: round(value, 4) for name, value in (figures | of_tokens).items()}
    finish("page", rounded, machine, save=arguments.save)


if __name__ == "__main__":
    main()
