"""Pages of other sites in Chromium: posts, DNS rebinding, frames; and what the policy stops."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.processes import App
from tests.waiting import eventually

from .conftest import CHROMIUM_FLAGS, Site, Visitor
from .install import find_chromium

NAMES = ("evil.example", "friend.example", "rebound.example")
CALLS = {
    "/gradio_api/call/tokenize": '{"data": ["x"]}',
    "/gradio_api/queue/join": '{"data": ["x"], "fn_index": 0, "session_hash": "abc"}',
    "/v1/completions": '{"prompt": "x", "max_tokens": 1}',
    "/tokenize": '{"prompt": "x"}',
}
POST = """async ([url, body, options]) => {
  try {
    const answer = await fetch(url, {method: "POST", body, ...options});
    return [answer.type, answer.status, answer.type === "opaque" ? "" : await answer.text()];
  } catch (error) {
    return ["error", 0, String(error)];
  }
}"""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    """Another site: any path is an empty page. Its port."""

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>elsewhere</title>")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Empty)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def browser(chromium: Browser) -> Iterator[Browser]:
    """A Chromium for which the names of other sites lead to this machine."""
    rules = ",".join(f"MAP {name} 127.0.0.1" for name in NAMES)
    flags = [*CHROMIUM_FLAGS, f"--host-resolver-rules={rules}"]
    opened = chromium.browser_type.launch(executable_path=find_chromium(), args=flags)
    yield opened
    opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def open_site(elsewhere: int) -> Iterator[App]:
    """A playground that a deployer opened for one other site, to read and to frame."""
    friend = f"http://friend.example:{elsewhere}"
    app = App("--model", "sample", "--cors-origins", friend, "--frame-origins", friend)
    eventually(app.is_up)
    yield app
    app.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_another_sites_fetch_and_form_do_nothing(
    site: Site, page: Page, elsewhere: int, host: str
) -> None:
    url = site.url.replace("127.0.0.1", host)
    before = site.metrics()["gptj_requests_received_total"]
    page.goto(f"http://evil.example:{elsewhere}/")
    statuses: list[tuple[str, int]] = []
    page.on("response", lambda r: statuses.append((r.request.method, r.status)))
    for path, body in CALLS.items():
        for options in (
            {"mode": "no-cors", "headers": {"Content-Type": "text/plain"}},
            {"mode": "cors", "headers": {"Content-Type": "text/plain"}},
            {"mode": "cors", "headers": {"Content-Type": "application/json"}},
            {"mode": "no-cors", "credentials": "include"},
        ):
            kind, _, text = page.evaluate(POST, [url + path, body, options])
            assert kind in ("opaque", "error"), (path, options, text)
    for path in CALLS:
        page.goto(f"http://evil.example:{elsewhere}/")
        # name and value of a text/plain field together make a JSON body
        page.evaluate(
            """(url) => {
              const form = Object.assign(document.createElement("form"),
                {method: "post", action: url, enctype: "text/plain"});
              const field = Object.assign(document.createElement("input"),
                {name: '{"data": ["x"], "prompt": "x", "a": "', value: '"}'});
              form.append(field);
              document.body.append(form);
              form.submit();
            }""",
            url + path,
        )
        page.wait_for_url(url + path)
        assert "other sites" in page.content()
    posts = [status for method, status in statuses if method == "POST"]
    assert posts
    assert set(posts) == {403}
    assert site.metrics()["gptj_requests_received_total"] == before


def test_another_program_on_the_same_machine_is_another_site(
    site: Site, page: Page, elsewhere: int
) -> None:
    page.goto(f"http://127.0.0.1:{elsewhere}/")  # "same-site", since ports do not count there
    for path, body in CALLS.items():
        kind, _, _ = page.evaluate(POST, [site.url + path, body, {"mode": "no-cors"}])
        assert kind == "opaque"
    assert page.request.get(f"{site.url}/healthz").ok
    read = page.evaluate(
        "(url) => fetch(url).then(() => 'read', () => 'refused')", f"{site.url}/config"
    )
    assert read == "refused"


def test_a_page_whose_name_was_rebound_to_this_server_is_refused(
    site: Site, browser: Browser
) -> None:
    """DNS rebinding: the other site's own name leads to the playground.

    The attacker's page is loaded before the name changes and has no policy of ours, so the test
    bypasses the policy of the refusal.
    """
    context = browser.new_context(bypass_csp=True)
    page = context.new_page()
    port = site.url.rpartition(":")[2]
    own = f"http://rebound.example:{port}"
    answer = page.goto(f"{own}/")
    assert answer is not None
    assert answer.status == 403
    assert "GPTJ_ALLOWED_HOSTS" in page.content()
    for path, body in CALLS.items():
        options = {"headers": {"Content-Type": "application/json"}}
        kind, status, _ = page.evaluate(POST, [own + path, body, options])
        assert (kind, status) == ("basic", 403)
        got = page.evaluate("(url) => fetch(url).then((answer) => answer.status)", own + "/config")
        assert got == 403
    context.close()


def test_an_allowed_site_calls_and_reads(open_site: App, page: Page, elsewhere: int) -> None:
    eventually(open_site.is_ready)
    page.goto(f"http://friend.example:{elsewhere}/")
    options = {"headers": {"Content-Type": "application/json"}}
    body = CALLS["/v1/completions"]
    kind, status, text = page.evaluate(POST, [f"{open_site.url}/v1/completions", body, options])
    assert (kind, status) == ("cors", 200), text
    body = CALLS["/gradio_api/call/tokenize"]
    url = f"{open_site.url}/gradio_api/call/tokenize"
    kind, status, text = page.evaluate(POST, [url, body, options])
    assert (kind, status) == ("cors", 200), text
    page.goto(f"http://evil.example:{elsewhere}/")
    assert page.evaluate(POST, [url, body, options])[0] == "error"


def framed(page: Page, host: str, port: int, url: str) -> bool:
    """Whether the page in a frame of `host` works: an allowed frame shows the editor."""
    page.goto(f"http://{host}:{port}/")
    page.evaluate(
        """(src) => new Promise((onload) => document.body.append(
          Object.assign(document.createElement("iframe"), {src, onload, width: 1200, height: 700})))
          .then(() => null)""",
        url,
    )
    frame = page.frames[-1]
    ends = (url, "chrome-error:")
    frame.wait_for_url(lambda now: now.startswith(ends), wait_until="commit")
    if not frame.url.startswith(url):
        assert frame.url.startswith("chrome-error:")
        return False
    editor = page.frame_locator("iframe").get_by_label("Prompt", exact=True)
    expect(editor).to_be_visible()
    editor.fill("Once upon a time")
    page.frame_locator("iframe").locator('[data-action="generate"]').click()
    words = page.frame_locator("iframe").locator(".ink .by-model")
    expect(words.first).not_to_be_empty()
    return True


def test_only_an_allowed_site_may_frame_the_page(
    open_site: App, site: Site, page: Page, elsewhere: int
) -> None:
    eventually(open_site.is_ready)
    assert framed(page, "friend.example", elsewhere, f"{open_site.url}/")
    assert not framed(page, "evil.example", elsewhere, f"{open_site.url}/")
    assert not framed(page, "friend.example", elsewhere, f"{site.url}/")


def test_no_view_or_dialog_violates_the_content_security_policy(visitor: Visitor) -> None:
    """Every view, its dialogs and a generation, without one violation in the console."""
    page = visitor.page
    console: list[str] = []
    page.on("console", lambda message: console.append(message.text))
    missing: list[str] = []
    page.on("response", lambda r: missing.append(r.url) if r.status in (403, 404, 415) else None)
    page.reload()
    expect(page.locator(".editor textarea")).to_be_visible()
    expect(page.locator('.top[data-state="ready"]')).to_be_visible()
    visitor.write("Once upon a time")
    visitor.generate()
    for view in page.evaluate("gptj.views"):
        page.evaluate("(view) => gptj.show(view)", view)
        expect(page.locator(f"#view-{view}")).to_be_visible()
    page.evaluate("gptj.show('write')")
    visitor.button("Share").click()
    visitor.button("View code").click()
    expect(page.locator(".code code")).to_contain_text("import")
    page.keyboard.press("Escape")
    assert not [text for text in console if "Content Security Policy" in text]
    assert not missing


def test_an_injected_script_does_not_run(visitor: Visitor) -> None:
    """The policy stops scripts even if a text were inserted as markup."""
    ran = visitor.page.evaluate(
        """async () => {
          window.ran = [];
          const box = document.createElement("div");
          document.body.append(box);
          box.innerHTML = `<img src="data:x" onerror="ran.push('attribute')">
            <a href="javascript:ran.push('address')">x</a>
            <iframe srcdoc="<script>parent.ran.push('frame')</script>"></iframe>`;
          box.querySelector("a").click();
          const script = document.createElement("script");
          script.textContent = "ran.push('inline')";
          box.append(script);
          const other = document.createElement("script");
          other.src = "http://127.0.0.1:1/x.js";
          const failed = new Promise((done) => (other.onerror = done));
          box.append(other);
          await failed;
          await new Promise((done) => setTimeout(done, 200));
          return window.ran;
        }"""
    )
    assert ran == []
