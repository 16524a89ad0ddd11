"""The Why view in a browser, answered by the model: the numbers are those of the OpenAI route."""

from __future__ import annotations

import json
import math
import re
import urllib.request
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, expect

from tests.waiting import PATIENCE

from .conftest import Site, Visitor

HOSTILE = "<img src=x onerror=alert(1)>${alert(1)}{{value}}</script>"
OVERRIDE = "\u202e"
KING = "Once upon a time there was a king who had a daughter. The"
FOX = "Once upon a time there was a fox who had a daughter. The"


def logprobs_of(site: Site, text: str, last: str) -> list[float]:
    """Log-probabilities of the tokens of `last`, the end of `text`, from the OpenAI route."""
    body = {"prompt": text, "max_tokens": 0, "echo": True, "logprobs": 0}
    request = urllib.request.Request(
        f"{site.url}/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        logprobs = json.load(answer)["choices"][0]["logprobs"]
    start = len(text) - len(last)
    pairs = zip(logprobs["text_offset"], logprobs["token_logprobs"], strict=True)
    return [logprob for offset, logprob in pairs if offset >= start]


class Why:
    """Drives the Why view and reads its results."""

    def __init__(self, person: Visitor) -> None:
        self.person = person
        self.page = person.page
        self.prompt = self.page.get_by_label("Prompt to try")
        self.continuation = self.page.get_by_label("Continuation, kept fixed")
        self.lines = self.page.locator(".why-table tbody")
        self.notice = self.page.get_by_role("alert")
        self.detail = self.page.locator('[data-panel="compare"] .why-detail')

    def open(self) -> Why:
        self.page.get_by_role("button", name="Why", exact=True).click()
        expect(self.prompt).to_be_visible()
        return self

    def pieces(self, ribbon: str) -> Locator:
        return self.page.locator(f'[data-ribbon="{ribbon}"] [role=option]')

    def score(self, prompt: str, continuation: str | None = None) -> None:
        self.prompt.fill(prompt)
        if continuation is not None:
            self.continuation.fill(continuation)
        self.person.button("Score").click()
        self.done()

    def done(self) -> None:
        expect(self.page.locator('.why [data-action="compare"]')).to_be_visible()
        expect(self.page.locator('.why [data-action="stop"]')).to_be_hidden()

    def attribute(self) -> None:
        self.person.button("Which parts mattered?").click()
        self.done()

    def column(self, place: int) -> list[float]:
        """Numbers of the table: sums (0), means (1) or bits a byte (2), in the order shown."""
        cells = self.lines.locator("tr:last-child").all()
        texts = [row.locator("td").nth(place).inner_text() for row in cells]
        return [float(text.replace("\N{MINUS SIGN}", "-")) for text in texts]

    def title(self) -> str:
        return self.page.locator('[data-panel="compare"] h3').inner_text()


@pytest.fixture
def why(visitor: Visitor) -> Why:
    return Why(visitor).open()


def factor(text: str) -> float:
    """The number of "3.2 times as likely", below 1 where it is "less likely"."""
    found = re.search(r"([\d.,]+) times (as|less) likely", text)
    assert found, text
    number = float(found[1].replace(",", ""))
    return number if found[2] == "as" else 1 / number


# ---- what if


def test_a_continuation_is_taken_from_the_editor_and_an_edit_of_the_prompt_compared(
    visitor: Visitor, site: Site
) -> None:
    visitor.set_number("Length", "12")
    visitor.prompt.fill(KING)
    visitor.generate()
    written = visitor.text[len(KING) :]
    why = Why(visitor).open()
    visitor.button("Take from the editor").click()
    why.done()
    expect(why.prompt).to_have_value(KING)
    expect(why.continuation).to_have_value(written)
    expect(why.lines).to_have_count(1)
    before = logprobs_of(site, KING + written, written)
    assert why.column(0) == [pytest.approx(sum(before), abs=0.01)]
    shown = why.page.locator('[data-ribbon="compared"]').evaluate("box => box.textContent")
    assert shown.replace("↵", "") == written

    why.score(FOX)
    expect(why.lines).to_have_count(2)
    after = logprobs_of(site, FOX + written, written)
    assert why.column(0)[1] == pytest.approx(sum(after), abs=0.01)
    assert why.column(1)[1] == pytest.approx(sum(after) / len(after), abs=0.002)
    bits = -sum(after) / math.log(2) / len(written.encode())
    assert why.column(2)[1] == pytest.approx(bits, abs=0.002)
    change = sum(after) - sum(before)
    if abs(change) > 0.01:
        assert factor(why.title()) == pytest.approx(math.exp(change), rel=0.1)
    expect(why.lines.last.locator("del")).to_have_text("king ")
    expect(why.lines.last.locator("ins")).to_have_text("fox ")

    pieces = why.pieces("compared")
    expect(pieces).to_have_count(len(after))
    changes = [new - old for new, old in zip(after, before, strict=True)]
    for place, delta in enumerate(changes):
        if abs(delta) > 0.001:
            name = re.compile(r"\bis-more\b" if delta > 0 else r"\bis-less\b")
            expect(pieces.nth(place)).to_have_class(name)
    most = max(range(len(changes)), key=lambda i: abs(changes[i]))
    pieces.nth(most).hover()
    detail = why.detail.inner_text()
    assert factor(detail) == pytest.approx(math.exp(changes[most]), rel=0.1)
    colours = pieces.evaluate_all("all => all.map((one) => getComputedStyle(one).backgroundColor)")
    assert colours[most] != "rgba(0, 0, 0, 0)"


def test_generated_tokens_are_used_if_the_editor_has_them(visitor: Visitor) -> None:
    visitor.set_number("Length", "8")
    visitor.open_group("Seed and completions")
    visitor.set_text("logprobs", "1")
    visitor.prompt.fill(KING)
    visitor.generate()
    why = Why(visitor).open()
    visitor.button("Take from the editor").click()
    progress = why.page.locator(".why-progress")
    expect(progress).to_contain_text("those that the model wrote")
    why.page.get_by_role("button", name="Write", exact=True).click()
    visitor.generate()  # the editor now has another request and text
    why.open()
    why.score(FOX)
    expect(why.lines).to_have_count(2)
    expect(progress).to_contain_text("those that the model wrote")
    assert "times" in why.title() or "just as likely" in why.title()


def test_several_edits_are_kept_and_any_can_be_the_reference_or_be_removed(why: Why) -> None:
    for prompt in (KING, FOX, ""):
        why.score(prompt, " king was glad.")
    expect(why.lines).to_have_count(3)
    expect(why.lines.nth(2)).to_contain_text("nothing: the text begins here")
    first = factor(why.lines.nth(1).locator(".why-change").inner_text())
    why.lines.nth(1).get_by_role("button", name="Compare with Prompt 2").click()
    again = factor(why.lines.nth(0).locator(".why-change").inner_text())
    assert again == pytest.approx(1 / first, rel=0.1)
    why.lines.nth(0).locator(".why-pick").click()
    assert why.title().startswith("After Prompt 1 the continuation is")
    why.lines.nth(2).get_by_role("button", name="Edit Prompt 3").click()
    expect(why.prompt).to_have_value("")
    why.lines.nth(2).get_by_role("button", name="Remove Prompt 3").click()
    expect(why.lines).to_have_count(2)
    why.score(FOX)
    expect(why.lines).to_have_count(2)
    why.score(KING, " fox")  # another continuation: all are scored again
    expect(why.pieces("compared").first).to_have_text(" fox")
    assert len(why.column(0)) == 2


# ---- which parts


def test_each_part_is_left_out_in_turn(why: Why, site: Site) -> None:
    prompt, last = "Once upon a time there was", " a king"
    why.prompt.fill(prompt)
    why.continuation.fill(last)
    expect(why.page.locator(".cost")).to_contain_text("6 parts: the model reads about")
    why.attribute()
    parts = why.pieces("parts")
    expect(parts).to_have_count(6)
    assert [one.evaluate("e => e.textContent") for one in parts.all()] == re.findall(
        r"\s*\S+", prompt
    )
    whole = logprobs_of(site, prompt + last, last)
    without = logprobs_of(site, "Once upon a time there" + last, last)
    detail = why.page.locator('[data-panel="parts"] .why-detail')
    parts.last.hover()
    expect(detail).to_contain_text("Without")
    assert factor(detail.inner_text()) == pytest.approx(
        math.exp(sum(without) - sum(whole)), rel=0.1
    )
    parts.last.click()
    expect(parts.last).to_have_attribute("aria-selected", "true")
    tokens = why.pieces("attributed")
    for place, (new, old) in enumerate(zip(without, whole, strict=True)):
        if abs(new - old) > 0.01:
            name = re.compile(r"\bis-less\b" if new > old else r"\bis-more\b")
            expect(tokens.nth(place)).to_have_class(name)
    tokens.last.click()
    expect(tokens.last).to_have_attribute("aria-selected", "true")
    expect(parts.last).to_have_attribute("aria-selected", "false")
    parts.last.hover()
    ratio = factor(detail.inner_text())
    assert ratio == pytest.approx(math.exp(without[-1] - whole[-1]), rel=0.1)
    why.page.get_by_label("Leave out in turn").select_option("sentences")
    why.attribute()
    expect(parts).to_have_count(1)


# ---- ranking


def test_prompts_are_ranked_best_first(why: Why, site: Site) -> None:
    prompts = ["The fox ran. There", "Once upon a time there was", "Two\\nlines"]
    why.continuation.fill(" a king")
    why.page.get_by_text("Rank several prompts").click()
    several = why.page.get_by_label(r"Prompts, one a line (\n stands for a line break)")
    several.fill("\n".join([*prompts, "", prompts[0]]))
    why.person.button("Rank them").click()
    why.done()
    expect(why.lines).to_have_count(3)
    sums = why.column(0)
    assert sums == sorted(sums, reverse=True)
    expect(why.lines.first).to_contain_text("Prompt 2")
    real = [prompt.replace("\\n", "\n") for prompt in prompts]
    wanted = [sum(logprobs_of(site, prompt + " a king", " a king")) for prompt in real]
    assert sums == [pytest.approx(one, abs=0.01) for one in sorted(wanted, reverse=True)]
    why.page.get_by_label("Best first").uncheck()
    expect(why.lines.first).to_contain_text("Prompt 1")


# ---- bad input, keeping, keyboard


def test_hostile_texts_are_shown_as_text_and_survive_a_reload(why: Why) -> None:
    prompt, continuation = f"{HOSTILE}\n{OVERRIDE}abc", f" {HOSTILE}{OVERRIDE}"
    why.score(prompt, continuation)
    why.score(f"x {prompt}")
    why.attribute()
    expect(why.lines).to_have_count(2)
    expect(why.page.locator(".why-excerpt").first).to_contain_text(HOSTILE)
    shown = why.page.locator('[data-ribbon="compared"]').inner_text()
    assert OVERRIDE not in why.page.locator(".why-results").inner_text()
    assert shown.startswith(f" {HOSTILE[:10]}") or HOSTILE[:10] in shown
    for ribbon in ("compared", "parts", "attributed"):
        why.pieces(ribbon).first.hover()
    assert why.page.locator(".why img, .why script").count() == 0
    why.page.reload()
    expect(why.prompt).to_have_value(f"x {prompt}")
    expect(why.continuation).to_have_value(continuation)
    expect(why.lines).to_have_count(2)
    expect(why.lines.first).to_contain_text("not scored")
    why.person.button("Score").click()
    why.done()
    assert len(why.column(0)) == 2
    assert why.person.dialogs == []


@pytest.mark.parametrize(
    ("prompt", "continuation", "said"),
    [
        ("Once", "", "There is no continuation"),
        ("word " * 3000, " x", "tokens together; this model reads"),
        ("x", " word" * 3000, "Shorten the continuation"),
    ],
    ids=["no continuation", "long prompt", "long continuation"],
)
def test_unscorable_input_is_reported_and_kept(
    why: Why, prompt: str, continuation: str, said: str
) -> None:
    why.score("Before", " this")
    why.score(prompt, continuation)
    expect(why.notice).to_contain_text(said)
    expect(why.prompt).to_have_value(prompt)
    expect(why.continuation).to_have_value(continuation)
    why.attribute()
    expect(why.notice).to_contain_text(said)
    expect(why.lines).to_have_count(1)
    why.score("After", " this")
    expect(why.notice).to_be_hidden()
    expect(why.lines).to_have_count(2)
    assert len(why.column(0)) == 2


def test_the_browsers_undo_restores_fields_that_were_replaced(visitor: Visitor) -> None:
    visitor.prompt.fill(KING)
    visitor.generate()
    why = Why(visitor).open()
    for field in (why.prompt, why.continuation):
        field.fill("typed")
    visitor.button("Take from the editor").click()
    expect(why.prompt).to_have_value(KING)
    for field in (why.prompt, why.continuation):
        field.press("Control+z")
        expect(field).to_have_value("typed")
    visitor.page.get_by_title("Put this prompt into the field").first.click()
    expect(why.prompt).to_have_value(KING)
    why.prompt.press("Control+z")
    expect(why.prompt).to_have_value("typed")


def test_taking_from_an_empty_editor_shows_a_notice(why: Why) -> None:
    why.person.button("Take from the editor").click()
    expect(why.notice).to_contain_text("has written nothing yet")


def test_prompts_are_scored_without_local_storage(
    site: Site, visit: Callable[..., Visitor]
) -> None:
    person = visit(site.url)
    person.page.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new Error('no'); } });"
    )
    person.page.reload()
    why = Why(person).open()
    why.score("Once", " upon")
    expect(why.lines).to_have_count(1)
    assert math.isfinite(why.column(0)[0])


def test_invalid_values_in_the_storage_are_ignored(visitor: Visitor) -> None:
    for kept in (
        "not JSON",
        "{}",
        json.dumps({"version": 1, "lines": [1, {"name": 2}], "names": "x"}),
    ):
        visitor.page.evaluate("kept => localStorage.setItem('gptj-playground/why', kept)", kept)
        visitor.page.goto(f"{visitor.url}#why")
        visitor.page.reload()
        why = Why(visitor)
        expect(why.prompt).to_have_value("")
        expect(why.lines).to_have_count(0)


def test_the_view_is_operated_by_keyboard(why: Why) -> None:
    keyboard = why.page.keyboard
    why.prompt.focus()
    keyboard.type("Once upon a time there was")
    keyboard.press("Tab")
    keyboard.type(" a king who")
    keyboard.press("Control+Enter")
    expect(why.lines).to_have_count(1)
    why.done()
    assert why.person.text == ""  # the editor did not get the keys
    why.prompt.focus()
    keyboard.press("Control+End")
    keyboard.type(" not")
    keyboard.press("Control+Enter")
    expect(why.lines).to_have_count(2)
    why.done()
    pieces = why.pieces("compared")
    expect(pieces.first).to_be_visible()
    pieces.first.focus()
    keyboard.press("ArrowRight")
    expect(pieces.nth(1)).to_be_focused()
    expect(why.detail).to_contain_text("king")
    expect(pieces.nth(1)).to_have_attribute("aria-label", re.compile(r"^ king: .*likely, now"))
    keyboard.press("End")
    expect(pieces.last).to_be_focused()
    keyboard.press("Home")
    expect(pieces.first).to_be_focused()
    assert [one.get_attribute("tabindex") for one in pieces.all()].count("0") == 1
    pick = why.lines.first.locator(".why-pick")
    pick.focus()
    keyboard.press("Enter")
    expect(pick).to_be_focused()
    expect(pick).to_have_attribute("aria-pressed", "true")


def test_a_request_can_be_stopped(why: Why, site: Site) -> None:
    why.prompt.fill("Once upon a time. " * 40)
    why.continuation.fill(" there was")
    expect(why.page.locator(".cost")).to_contain_text("parts")
    site.pause_engine()
    why.person.button("Which parts mattered?").click()
    stop = why.page.locator('.why [data-action="stop"]')
    expect(stop).to_be_visible()
    why.page.keyboard.press("Escape")
    expect(stop).to_be_hidden()
    expect(why.page.locator(".why-progress")).to_contain_text("Stopped")
    site.resume_engine()
    why.score("Once", " upon")
    expect(why.lines).to_have_count(1)
