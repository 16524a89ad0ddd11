"""Hundreds of hostile texts at every place of the page that shows a text: none becomes markup.

Each place gets all of them, as names, texts, words of the model and messages.
Where a place takes one text at a time and asks the server, several texts go together.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.hostile import CANARY, SOUND, TEXTS
from tests.waiting import PATIENCE

from .branches import node, session
from .conftest import Site
from .records import alternative, ended, said, started, token, tokens

WATCH = """
window.seen = [];
window.executed = (number) => window.seen.push(`executed ${number}`);
addEventListener("securitypolicyviolation", (event) =>
  window.seen.push(`stopped ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
window.look = (place) => {
  for (const found of document.querySelectorAll("[data-hostile]"))
    window.seen.push(`${place}: ${found.outerHTML.slice(0, 100)}`);
  if ({}.polluted !== undefined) window.seen.push(`${place}: prototype`);
};
window.frame = () => new Promise((done) => requestAnimationFrame(() => done()));
"""
GROUP = 10


def groups(count: int = GROUP) -> list[str]:
    """The texts, `count` joined into one."""
    return [" ".join(SOUND[i : i + count]) for i in range(0, len(SOUND), count)]


@pytest.fixture
def language() -> str:
    return "en"


in_both_languages = pytest.mark.parametrize("language", ["en", "ar"])


@pytest.fixture
def watched(site: Site, chromium: Browser, language: str) -> Iterator[Page]:
    """A page that records every effect of a text; the test fails if there was one."""
    context = chromium.new_context(locale=language, viewport={"width": 1280, "height": 800})
    context.add_init_script(WATCH)
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    noticed: list[str] = []
    page.on("dialog", lambda dialog: (noticed.append(f"dialog {dialog.message}"), dialog.accept()))
    page.on("request", lambda r: noticed.append(r.url) if CANARY in r.url else None)
    page.on("pageerror", lambda error: noticed.append(f"error {error}"))
    page.goto(site.url)
    expect(page.locator('.top[data-state="ready"]')).to_be_visible()
    expect(page.locator(".editor[data-ready]")).to_be_visible()
    assert page.evaluate("gptj.language") == language
    yield page
    page.evaluate("look('at the end')")
    assert page.evaluate("window.seen") == []
    assert noticed == []
    page.unroute_all(behavior="ignoreErrors")  # the page may ask for its status at any time
    context.close()


@in_both_languages
def test_hostile_texts_are_inert_in_the_editor_and_its_messages(watched: Page) -> None:
    watched.evaluate(
        """async (texts) => {
          for (const [number, text] of texts.entries()) {
            gptj.emit("text", text);
            gptj.emit("text", {text, words: text});
            gptj.emit("notice", text);
            gptj.emit("aside", {message: text, controls: {}});
            gptj.emit("keeping", text);
            if (number % 10 === 0) await frame();
            look("editor");
          }
        }""",
        TEXTS,
    )
    prompt = watched.locator(".editor textarea")
    for text in ("<img data-hostile src=x onerror=executed(0)>", "${executed(0)}{{executed(0)}}"):
        prompt.fill(text)
        assert watched.locator(".ink").evaluate("ink => ink.textContent") == text


def test_hostile_texts_are_inert_in_the_events_of_a_request(watched: Page) -> None:
    """Hostile texts in the engine's events: notes, cards, tokens, alternatives, reasons."""
    for start in range(0, len(SOUND), 100):
        texts = SOUND[start : start + 100]
        records: list[dict[str, Any]] = [
            {"event": "begin", "sent": texts[0], "controls": {}, "kind": "generate", "run": 1,
             "before": [], "prompt": [[texts[0], 0]], "at": len(texts[0])},
            started(n=len(texts), healed=texts[1], candidates=len(texts)),
        ]  # fmt: skip
        for index, text in enumerate(texts):
            other = alternative(text, -1.0, -2.0, removed_by=text)
            records += [
                said(text, index=index),
                tokens(token(text, alternatives=[other]), index=index),
                ended(index=index, message=text, reason=text, last=index == len(texts) - 1),
            ]
        records += [
            {"event": "scored", "sum_logprob": -1.0, "perplexity": 1.0, "bits_per_byte": 1.0,
             "tokens": [token(text) for text in texts]},
            {"event": "refused", "message": texts[2], "kind": "control", "control": texts[3]},
            {"event": "end", "message": texts[4]},
        ]  # fmt: skip
        watched.evaluate(
            """async (records) => {
              const { readTokens } = await gptj.load("core/tokens.js");
              for (const record of records) {
                if (Array.isArray(record.tokens)) record.tokens = readTokens(record.tokens);
                gptj.emit("record", record);
              }
              for (const open of document.querySelectorAll(".results details")) open.open = true;
              const which = document.querySelector(".results .which select");
              for (const option of which?.options ?? []) {
                which.value = option.value;
                which.dispatchEvent(new Event("change", {bubbles: true}));
              }
              await frame();
              look("results");
            }""",
            records,
        )
    assert watched.locator(".card").count() >= 2


def test_hostile_texts_are_inert_in_the_branches_of_an_imported_session(watched: Page) -> None:
    nodes = []
    for number, text in enumerate(SOUND):
        run = {
            "prompt_length": 0, "controls": {"stop": text[:500], "constructor": text[:50]},
            "model": text[:900], "revision": text[:900], "precision": text[:900], "seed": 1,
            "reason": text[:900], "message": text[:900], "tokens": 1, "mean_logprob": -1.0,
        }  # fmt: skip
        nodes.append(
            node(f"n{number} {text[:40]}", "root", 0, text, name=text[:200], run=run,
                 kind="generate", pieces=[[text, number % 3]])
        )  # fmt: skip
    given = session(nodes, name=SOUND[0][:200], current=nodes[0]["id"])
    watched.evaluate("gptj.show('branches')")
    file = {"name": "<img data-hostile>.json", "mimeType": "application/json"}
    content = json.dumps(given).encode()
    watched.locator(".import-file").set_input_files({**file, "buffer": content})
    expect(watched.locator(".tree-row").first).to_be_visible()
    chosen = watched.evaluate(
        """async () => {
          const box = document.querySelector(".tree");
          const names = new Set();
          for (let top = 0; top < box.scrollHeight; top += box.clientHeight / 2) {
            box.scrollTop = top;
            await frame();
            const rows = [...box.querySelectorAll(".tree-row")];
            const some = rows.filter((_, i) => i % 5 === 0); // a click lays the whole outline out
            for (const { top } of some.map((row) => row.getBoundingClientRect())) {
              box.firstElementChild.dispatchEvent(
                new MouseEvent("click", {bubbles: true, clientY: top + 2}));
              names.add(document.querySelector(".chosen-name").value);
            }
            look("branches");
          }
          return names.size;
        }"""
    )
    assert chosen > 60
    for bad in (b"[1", json.dumps({**given, "version": "<img data-hostile>"}).encode(),
                json.dumps({**given, "nodes": [{"id": "<img>"}]}).encode()):  # fmt: skip
        watched.locator(".import-file").set_input_files({**file, "buffer": bad})
        expect(watched.locator(".branches-notice p")).not_to_be_empty()
        watched.evaluate("look('file')")


@in_both_languages
def test_hostile_texts_are_inert_in_links_and_their_dialogs(watched: Page) -> None:
    """Text, words, model and settings of a link, and the dialogs made of them."""
    for number, text in enumerate(groups(25)):
        name = SOUND[number][:100]
        content = {
            "text": text, "words": text, "ended": name, "hash": name, "length": 1,
            "controls": {name: 1, "stop": text[:500], "temperature": name},
            "model": {"name": name, "precision": name, "revision": name, "software": name,
                      "device": name},
        }  # fmt: skip
        packed = base64.urlsafe_b64encode(zlib.compress(json.dumps(content).encode())).decode()
        if len(packed) > 7000:
            continue
        watched.evaluate("(hash) => { location.hash = hash; }", f"share=2.{packed.rstrip('=')}")
        watched.wait_for_function("!location.hash")
        watched.evaluate("look('link')")
    assert watched.locator(".brought").is_visible()
    for damaged in ("share=<img data-hostile>", "share=2.<img data-hostile>", "share=99.a"):
        watched.evaluate("(hash) => { location.hash = hash; }", damaged)
        watched.wait_for_function("!location.hash")
    for text in groups(60):
        watched.evaluate("(text) => gptj.emit('text', text)", text)
        watched.evaluate("document.querySelector('[data-share=code]').click()")
        expect(watched.locator(".code code")).to_contain_text(text.rpartition("(")[2][:4])
        watched.evaluate("document.querySelector('[data-share=link]').click()")
        expect(watched.locator("#share-link")).to_be_visible()
        watched.evaluate(
            "look('dialogs'); for (const d of document.querySelectorAll('dialog')) d.close()"
        )


def test_hostile_texts_are_inert_in_a_stored_batch(watched: Page) -> None:
    """Hostile texts in a stored batch: file name, columns, templates, rows, texts, ends."""
    file = {"name": SOUND[0], "form": "csv", "separator": ",", "header": SOUND[1], "lineEnd": "x",
            "hasMark": False, "columns": SOUND[:20],
            "rows": [{"written": text, "values": [text] * 20} for text in SOUND]}  # fmt: skip
    results = [
        {"text": text, "mean_logprob": -1, "completion_tokens": 1, "seed": 1, "reason": text,
         "message": text}
        for text in SOUND
    ]  # fmt: skip
    asked = {"template": " ".join(SOUND[:9]), "names": SOUND[:5], "controls": {}, "seed": 1}
    kept = {"version": 1, "asked": asked, "results": results}
    watched.evaluate(
        """([file, kept]) => {
          sessionStorage.setItem("gptj-playground/batch-file", JSON.stringify(file));
          sessionStorage.setItem("gptj-playground/batch", JSON.stringify(kept));
        }""",
        [file, kept],
    )
    watched.reload()
    expect(watched.locator(".batch-rows li")).to_have_count(len(SOUND))
    watched.evaluate("gptj.show('compare')")
    expect(watched.locator(".batch-cost")).to_have_class(re.compile("is-wrong"))
    with watched.expect_download():
        watched.locator('[data-batch="download"]').click()
    watched.evaluate("look('batch')")


def test_hostile_texts_are_inert_in_the_status_line_and_about(watched: Page) -> None:
    """A model's name, its device and the messages of loading, as a deployer could name them."""
    state: dict[str, Any] = {"text": "", "real": None}

    def answer(route: Route) -> None:
        asked = route.request.post_data_json
        if asked["fn_name"] != "status":
            route.continue_()
            return
        if state["real"] is None:
            state["real"] = route.fetch().json()
        text, real = state["text"], state["real"]
        detail = {"code": text, "values": {"why": text}, "message": text}
        status = {
            **real,
            "detail": text,
            "software": text,
            "texts": {"detail": detail, "why": detail},
        }
        if state["loads"]:
            status |= {"state": "loading", "progress": 0.5}
        names = ("name", "revision", "licence", "precision", "device", "device_name", "why")
        strange = {**dict.fromkeys(names, text), "adapters": [text]}
        status["model"] = {**real["model"], "is_sample": False, **strange}
        route.fulfill(json=status)

    watched.route("**/component_server/", answer)
    watched.evaluate("gptj.show('about')")
    for number, text in enumerate(SOUND):
        state |= {"text": text, "loads": number % 2 == 0}
        with watched.expect_response("**/component_server/"):
            watched.evaluate("gptj.emit('refresh-status')")
        if number % 25 == 0:
            watched.evaluate("frame().then(() => look('status'))")
