"""The page in Arabic: chosen by the browser or by the visitor, right to left, and complete."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from gptj_demo.texts import catalogue
from gptj_demo.ui.page import VIEWS

from .conftest import Site, Visitor
from .test_accessibility import PHONE, WIDE, audit

Visit = Callable[..., Visitor]
ARABIC = catalogue("ar")
LATIN = r"""() => {
  const isSentence = (text) => /[A-Za-z][a-z']+,? [a-z']{2,}/.test(text);
  const own = "script, style, pre, code, kbd, option[lang], [dir=auto], #compare-prompt, bdi, "
    + ".by-person, .by-model, .card-text, .as-written, .words, .session-title";
  const isOwn = (node) => node.closest(own);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const { parentElement: node, data } = walker.currentNode;
    if (isSentence(data) && node.checkVisibility() && !isOwn(node)) found.push(data.trim());
  }
  for (const node of document.querySelectorAll("[aria-label], [title], [placeholder], [alt]")) {
    for (const name of ["aria-label", "title", "placeholder", "alt"]) {
      const text = node.getAttribute(name) ?? "";
      if (isSentence(text) && node.checkVisibility() && !isOwn(node)) found.push(text);
    }
  }
  return found;
}"""


def ready(page: Page) -> None:
    expect(page.locator('.top[data-state="ready"]')).to_be_visible()
    expect(page.locator("#control-temperature")).to_contain_text(
        str(ARABIC["control.temperature.label"])
    )


@pytest.fixture
def arab(site: Site, visit: Visit) -> Visitor:
    """A visitor whose browser prefers Arabic."""
    person = visit(site.url, locale="ar")
    ready(person.page)
    return person


def test_the_page_uses_the_language_of_the_browser(arab: Visitor) -> None:
    root = arab.page.locator("html")
    expect(root).to_have_attribute("lang", "ar")
    expect(root).to_have_attribute("dir", "rtl")
    generate = arab.page.locator('[data-action="generate"]')
    expect(generate).to_contain_text(str(ARABIC["editor.generate"]))
    assert generate.evaluate("node => getComputedStyle(node).direction") == "rtl"


def test_the_page_is_english_if_the_browsers_language_has_no_catalogue(
    site: Site, visit: Visit
) -> None:
    page = visit(site.url, locale="fr").page
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.get_by_role("button", name="Generate")).to_be_visible()


def test_a_chosen_language_is_remembered_and_the_text_is_kept(site: Site, visit: Visit) -> None:
    page = visit(site.url).page
    editor = page.locator(".editor textarea")
    editor.fill("Once upon a time")
    page.get_by_label("Language").select_option("ar")
    ready(page)
    expect(editor).to_have_value("Once upon a time")
    page.reload()
    ready(page)
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    expect(page.locator("html")).to_have_attribute("lang", "ar")
    page.get_by_label(str(ARABIC["language.choose"])).select_option("en")
    expect(page.get_by_role("button", name="Generate")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("dir", "ltr")


def test_a_text_keeps_its_own_direction(arab: Visitor) -> None:
    edges = """() => {
      const sheet = document.querySelector(".page").getBoundingClientRect();
      const text = document.createRange();
      text.selectNodeContents(document.querySelector(".ink .by-person"));
      const { left, right } = text.getBoundingClientRect();
      return [left - sheet.left, sheet.right - right];
    }"""
    editor = arab.page.locator(".editor textarea")
    editor.fill("Once upon a time")
    left, right = arab.page.evaluate(edges)
    assert left < right
    editor.fill("كان يا ما كان")
    left, right = arab.page.evaluate(edges)
    assert left > right


def test_server_messages_are_arabic(arab: Visitor) -> None:
    page = arab.page
    arab.page.locator(".editor textarea").fill("Once upon a time there was")
    page.locator("#control-max_new_tokens input[type=number]").fill("3")
    page.locator("#control-max_new_tokens input[type=number]").press("Tab")
    page.locator('[data-action="generate"]').click()
    expect(page.locator(".status-line .run")).to_contain_text("كتب النموذج 3 رموز كما طلبت")
    page.locator("#controls .control-group > button").filter(
        has_text=str(ARABIC["group.stopping"])
    ).click()
    page.locator("#control-min_new_tokens input[type=number]").fill("9")
    page.locator("#control-min_new_tokens input[type=number]").press("Tab")
    page.locator('[data-action="generate"]').click()
    notice = page.locator(".editor .notice")
    expect(notice).to_contain_text(str(ARABIC["control.min_new_tokens.label"]))


def test_sizes_quotation_marks_and_names_of_copies_are_arabic(arab: Visitor) -> None:
    page = arab.page
    page.locator(".editor textarea").fill("Once upon a time")
    page.locator('[data-goes-to="branches"]').click()
    page.get_by_text(str(ARABIC["branches.sessions"]), exact=True).click()
    row = page.locator(".session-list li").first
    expect(row).to_contain_text(re.compile("1.? كيلوبايت"))
    copy = row.locator('[data-action="duplicate-session"]')
    expect(copy).to_have_attribute("aria-label", re.compile("«.?Once upon a time.?»$"))
    copy.click()
    expect(page.get_by_label(str(ARABIC["branches.name_of_this_session"]))).to_have_value(
        "Once upon a time (نسخة)"
    )


def test_the_headings_of_a_comparison_are_arabic_and_follow_the_language(arab: Visitor) -> None:
    page = arab.page
    page.locator('[data-goes-to="compare"]').click()
    page.locator("#compare-prompt").fill("A {who}")
    page.locator('[data-name="who"]').fill("king")
    for axis, control, values in (("rows", "token_healing", "on"), ("columns", "preset", "Wild")):
        page.locator(f'[data-axis="{axis}"]').select_option(control)
        page.locator(f'[data-values="{axis}"]').fill(values)
    page.locator("#compare-length").fill("3")
    page.locator('#view-compare [data-action="run"]').click()
    headings = page.locator(".compare-cells th")
    expect(page.locator(".compare-cells .card-end")).to_contain_text("3")
    for language in ("ar", "en"):
        texts = catalogue(language)
        keys = ("panel.preset", "preset.wild", "control.token_healing.label", "text.on")
        preset, wild, healing, on = (str(texts[key]) for key in keys)
        expect(headings).to_have_text([f"{preset} {wild}", f"who king{healing} {on}"])
        page.locator(".languages").select_option("en")
        expect(page.locator("html")).to_have_attribute("lang", "en")
    page.get_by_role("button", name="Expand").click()
    expect(page.locator(".cell-settings")).to_contain_text("Temperature 1.2")


def latin(page: Page) -> set[str]:
    """The Latin sentences that are visible on the page, or named to screen readers.

    Code, keys, what the visitor or the model wrote (these keep their own direction) and the names
    of languages are left out.
    """
    return set(page.evaluate(LATIN))


def test_no_latin_sentence_is_left(site: Site, arab: Visitor) -> None:
    page = arab.page
    for title in page.locator("#controls .control-group > button").all():
        title.click()
    expect(page.locator("#control-seed")).to_contain_text(str(ARABIC["control.seed.label"]))
    page.locator("#control-max_new_tokens input[type=number]").fill("4")
    page.locator("#control-n input[type=number]").fill("2")
    page.locator("#control-logprobs input").fill("2")
    page.locator("#control-logprobs input").press("Tab")
    page.locator(".editor textarea").fill("Once upon a time there was")
    page.locator('[data-action="generate"]').click()
    expect(page.locator(".card:visible .card-end")).not_to_be_empty()
    expect(page.locator("#editor .is-running")).to_have_count(0)
    for view in VIEWS:
        page.locator(f'[data-goes-to="{view}"]').click()
        expect(page.locator(f"#view-{view}")).to_be_visible()
        assert latin(page) <= {site.status()["model"]["name"]}, view


def test_the_search_for_latin_sentences_finds_them_on_the_english_page(
    site: Site, visit: Visit
) -> None:
    page = visit(site.url).page
    help_text = str(catalogue("en")["control.top_p.help"])
    expect(page.get_by_text(help_text)).to_be_visible()
    found = latin(page)
    assert str(catalogue("en")["editor.write_the_last_continuation"]) in found
    assert help_text in found


@pytest.mark.parametrize(
    ("scheme", "screen"), [("light", WIDE), ("dark", PHONE)], ids=["light-wide", "dark-phone"]
)
def test_no_view_has_a_serious_finding_in_arabic(
    site: Site, visit: Visit, scheme: str, screen: dict[str, Any]
) -> None:
    page = visit(site.url, locale="ar", color_scheme=scheme, **screen).page
    expect(page.locator('.top[data-state="ready"]')).to_be_visible()
    for view in VIEWS:
        page.locator(f'[data-goes-to="{view}"]').click()
        expect(page.locator(f"#view-{view}")).to_be_visible()
        assert audit(page) == [], view
        width, available = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width <= available, view


def test_arrow_keys_and_arrows_of_branches_follow_the_arabic_direction(arab: Visitor) -> None:
    arab.page.locator("#control-max_new_tokens input[type=number]").fill("4")
    arab.page.keyboard.press("Tab")
    arab.page.locator(".editor .page textarea").fill("Once upon a time")
    arab.page.keyboard.press("Control+Enter")
    expect(arab.model_words.first).not_to_be_empty()
    expect(arab.page.locator(".editor.is-running")).to_have_count(0)
    arab.page.locator('[data-goes-to="branches"]').click()
    rows = arab.page.get_by_role("treeitem")
    expect(rows).to_have_count(2)
    arab.page.get_by_role("tree").focus()
    arab.page.keyboard.press("Home")
    arab.page.keyboard.press("ArrowLeft")
    expect(rows.last).to_have_attribute("aria-selected", "true")
    arab.page.keyboard.press("ArrowRight")
    expect(rows.first).to_have_attribute("aria-selected", "true")
    assert rows.last.locator("svg").evaluate("svg => getComputedStyle(svg).transform") != "none"


def test_english_texts_and_negative_numbers_are_in_order_on_an_arabic_page(
    site: Site, visit: Callable[..., Visitor]
) -> None:
    page = visit(site.url, locale="ar").page
    page.locator('[data-goes-to="why"]').click()
    page.locator("#why-prompt").fill("Once upon a time there was a king. The")
    page.locator("#why-continuation").fill(" king had a stone.")
    page.locator('[data-action="compare"]').click()
    places = """node => {
      const texts = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
      const left = [];
      for (const range = new Range(); texts.nextNode(); ) {
        for (let at = 0; at < texts.currentNode.length; at++) {
          range.setStart(texts.currentNode, at);
          range.setEnd(texts.currentNode, at + 1);
          const box = range.getBoundingClientRect();
          if (box.width) left.push(box.left);
        }
      }
      return left;
    }"""
    expect(page.locator('[data-ribbon="compared"] [role=option]').first).to_be_visible()
    parts = ('[data-ribbon="compared"]', ".why-excerpt", ".why-table tbody td:first-child")
    for part in parts:
        left = page.locator(part).evaluate(places)
        assert left == sorted(left), part


def test_each_line_of_a_text_field_has_its_own_direction(visitor: Visitor) -> None:
    """`dir="auto"` would do that too, but Chromium then takes 20 seconds for 100,000 lines."""
    fields = """fields => fields.filter(({ dir }) => !dir || dir === "auto")
      .filter((field) => field.dir || getComputedStyle(field).unicodeBidi !== "plaintext")
      .map(({ outerHTML }) => outerHTML)"""
    areas = visitor.page.locator("textarea")
    assert areas.count() > 5
    assert areas.evaluate_all(fields) == []


def test_a_sentence_that_begins_with_a_latin_word_keeps_the_direction_of_the_page(
    arab: Visitor,
) -> None:
    sentence = str(ARABIC["why.float32"])
    assert sentence.startswith("float32")
    joined = arab.page.evaluate("""() => gptj.load("core/i18n.js").then(({ messageText }) => {
      const [first, second] = ["why.asked", "why.float32"].map((code) => ({ code, values: {} }));
      return messageText({ code: "text.joined", values: { first, second } });
    })""")
    assert f"\u2067{sentence}\u2069" in joined, "an isolate from right to left"


def test_an_english_field_of_a_scaffold_is_read_from_left_to_right(arab: Visitor) -> None:
    arab.page.locator('.examples [data-kind="scaffolds"]').click()
    arab.page.locator(".examples ul button").first.click()
    field = arab.page.locator(".scaffold-fields input").first
    expect(field).to_have_value("Each order is made into a polite request.")
    expect(field).to_have_css("direction", "ltr")
