"""The code dialog: what it writes, the keyboard, copying."""

from __future__ import annotations

import json

from playwright.sync_api import expect

from tests.waiting import eventually

from .conftest import Visitor
from .test_share import PROMPT, menu, share, write_with_seed


def test_the_code_dialog_is_operated_by_keyboard(visitor: Visitor) -> None:
    write_with_seed(visitor)
    page = visitor.page
    visitor.button("Share").focus()
    page.keyboard.press("Enter")
    expect(visitor.button("Link to this text")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="View code")
    panel = dialog.get_by_role("tabpanel")
    expect(panel).to_contain_text('prompt = "The old king said,"')
    expect(panel).to_contain_text("seed=7")
    dialog.get_by_role("tab", name="Python, openai").focus()
    page.keyboard.press("ArrowRight")
    expect(dialog.get_by_role("tab", name="curl", exact=True)).to_be_focused()
    expect(panel).to_contain_text(f"curl '{visitor.url}/v1/completions'")
    dialog.get_by_label("What comes next").check()
    body = json.dumps(visitor.text, ensure_ascii=False).replace("'", "'\\''")
    expect(panel).to_contain_text(f'"prompt": {body},')
    for _ in range(12):
        page.keyboard.press("Tab")
        # while the browser's own bars have the focus, the active element is the body
        focused = page.evaluate_handle("document.activeElement")
        assert focused.evaluate("node => node === document.body || !!node.closest('dialog')")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(visitor.button("Share")).to_be_focused()


def test_links_and_code_are_copied_with_and_without_the_clipboard_api(visitor: Visitor) -> None:
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visitor.write(PROMPT)
    link = share(visitor)
    eventually(lambda: visitor.clipboard == link)
    menu(visitor, "View code")
    panel = visitor.page.get_by_role("tabpanel")
    expect(panel).to_contain_text("OpenAI")
    refuses = "() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }"
    visitor.page.evaluate(refuses)
    visitor.page.get_by_role("dialog").get_by_role("button", name="Copy").click()
    expect(visitor.page.get_by_role("button", name="Copied")).to_be_visible()
    assert visitor.clipboard.rstrip() == (panel.text_content() or "").rstrip()


def test_the_code_dialog_shows_an_invalid_control(visitor: Visitor) -> None:
    visitor.write(PROMPT)
    visitor.open_group("Words")
    visitor.set_text("logit_bias", "dragon")
    menu(visitor, "View code")
    expect(visitor.page.get_by_role("tabpanel")).to_contain_text("write a word, = and a number")
