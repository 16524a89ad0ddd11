"""The status line describes the text on the screen, and the view follows new text."""

from __future__ import annotations

import math
import re

from playwright.sync_api import expect

from .coloured import OTHERS, inspector, point_at, show_tokens, words
from .conftest import Script, Site, Visitor
from .records import ended, said, started

Scripted = tuple[Visitor, Script]


def seed(person: Visitor) -> str:
    button = person.page.locator('[data-action="keep-seed"]')
    return button.inner_text() if button.is_visible() else ""


def test_the_end_and_the_seed_are_those_of_the_text_on_the_screen(scripted: Scripted) -> None:
    person, script = scripted
    run = person.page.locator(".run")
    person.write("P")
    for number in (7, 8):
        script.say(f"-{number}", seed=number, message=f"Ended {number}.")
        person.generate()
    assert seed(person) == "seed 8"
    person.button("Undo").click()
    expect(run).to_contain_text("Ended 7.")
    assert seed(person) == "seed 7"
    person.write("!")
    expect(run).to_be_empty()
    assert seed(person) == ""
    for said_ in ("Ended 7.", "Ended 8.", "Ended 7."):  # each Undo shows an earlier end
        person.button("Undo").click()
        expect(run).to_contain_text(said_)
    person.button("Undo").click()
    expect(person.prompt).to_have_value("P")
    expect(run).to_be_empty()


def test_another_completion_brings_its_own_end_and_seed(scripted: Scripted) -> None:
    person, script = scripted
    script.send(
        [
            [started(n=2, candidates=2)],
            [said("one"), said("two", index=1)],
            [
                ended(seed=7, message="First.", last=False),
                ended(index=1, seed=8, message="Second."),
            ],
        ]
    )
    person.page.keyboard.press("Control+Enter")
    person.finished()
    assert seed(person) == "seed 7"
    person.button("Take this one").last.click()
    expect(person.page.locator(".run")).to_contain_text("Second.")
    assert seed(person) == "seed 8"


def test_an_outdated_token_count_is_hidden(scripted: Scripted) -> None:
    person, _ = scripted
    count = person.page.locator(".count")
    person.write("abc")
    expect(count).to_have_text("3 tokens")
    person.page.clock.install()
    person.freeze()
    person.page.keyboard.insert_text("defghi")
    expect(count).to_be_hidden()
    person.page.clock.resume()
    expect(count).to_have_text("9 tokens")
    expect(count).to_be_visible()


def test_the_word_count_is_updated_when_a_generation_ends(scripted: Scripted) -> None:
    person, script = scripted
    person.write("One")
    expect(person.page.locator(".words")).to_have_text("1 word")
    person.page.evaluate(
        """() => {
          window.shown = [];
          const words = document.querySelector(".words");
          const text = document.querySelector(".editor .page textarea");
          new MutationObserver(() => {
            if (words.checkVisibility({visibilityProperty: true}))
              window.shown.push([words.textContent, text.value]);
          }).observe(document.querySelector(".status-line"), {
            subtree: true, childList: true, characterData: true, attributes: true,
          });
        }"""
    )
    script.say(" two", " three")
    person.generate()
    expect(person.page.locator(".words")).to_have_text("3 words")
    shown = person.page.evaluate("window.shown")
    assert shown
    assert [one for one in shown if int(one[0].split()[0]) != len(one[1].split())] == []


def test_a_continuation_from_an_alternative_reports_the_rest_of_the_length(
    scripted: Scripted,
) -> None:
    person, script = scripted
    show_tokens(person)
    person.page.evaluate("Object.assign(gptj.state.controls, {max_new_tokens: 120})")
    batch = words(("one", 0.9), (" two", 0.3), alternatives=OTHERS)
    script.send([[started()], batch, [ended(code="end.length", message="Wrote the 120 tokens.")]])
    person.prompt.focus()
    person.page.keyboard.press("Control+Enter")
    person.finished()
    point_at(person, 5)
    rest = ended(code="end.length", message="Wrote the 118 tokens you asked for.", total=118)
    script.send([[started()], [said("!")], [rest]])
    inspector(person).locator(".choices button:enabled").first.click()
    person.finished()
    expect(person.page.locator(".run")).to_have_text(
        "Wrote 118 tokens, the rest of the length you asked for"
    )


def test_the_view_follows_the_generated_text_until_the_person_scrolls_away(
    scripted: Scripted,
) -> None:
    person, script = scripted
    sheet, to_end = person.page.locator(".sheet"), person.button("Go to the end ↓")
    script.say("line\n" * 200)
    person.generate()
    sheet.evaluate("s => { s.scrollTop = 0 }")
    script.send([[started()], [said("more\n" * 20)], [said("and more\n" * 20)]])  # never ends
    person.page.keyboard.press("Control+Enter")
    expect(person.model_words.last).to_contain_text("and more")
    person.wait_for_end_of_text()  # Generate scrolls to the end
    expect(to_end).to_be_hidden()
    sheet.evaluate("s => { s.scrollTop = 0 }")
    expect(to_end).to_be_visible()
    to_end.click()
    person.wait_for_end_of_text()
    expect(to_end).to_be_hidden()


def test_a_sheet_that_shrinks_as_it_scrolls_to_its_end_stays_there(scripted: Scripted) -> None:
    person, script = scripted
    script.say("line\n" * 200)
    person.generate()
    person.wait_for_end_of_text()
    sheet = person.page.locator(".sheet")
    sheet.evaluate("s => { s.scrollTop = 0 }")
    shrunk = sheet.evaluate(
        """s => {
          const { clientHeight } = s;
          s.scrollTop = s.scrollHeight;
          s.parentElement.style.paddingBlockEnd = '160px';
          return clientHeight - s.clientHeight;
        }"""
    )
    assert shrunk > 100
    person.wait_for_end_of_text()


def test_results_below_the_window_are_brought_into_view(site: Site, visitor: Visitor) -> None:
    page = visitor.page
    page.set_viewport_size({"width": 390, "height": 700})
    page.evaluate("gptj.show('why')")
    page.locator("#why-prompt").fill("Once upon a time")
    page.locator("#why-continuation").fill(" there was a king")
    page.locator('[data-action="compare"]').click()
    expect(page.locator(".why-table tbody").first).to_be_visible()
    panel = page.locator('[data-panel="compare"]')
    page.wait_for_function(
        "panel => panel.getBoundingClientRect().top < innerHeight - 200",
        arg=panel.element_handle(),
    )


def test_one_button_truncates_the_text_when_the_context_is_full(
    site: Site, visitor: Visitor
) -> None:
    context = site.status()["context_length"]
    visitor.set_number("Length", "4")
    visitor.prompt.fill("one two three four five " * context)
    visitor.page.keyboard.press("Control+Enter")
    expect(visitor.notice).to_contain_text("let its beginning be left out")
    visitor.button("Leave out the beginning and go on").click()
    expect(visitor.model_words.first).not_to_be_empty()
    visitor.finished()
    expect(visitor.notice).to_be_hidden()
    visitor.page.keyboard.press("Control+Enter")
    visitor.button("Always do that").click()
    visitor.finished()
    expect(visitor.page.get_by_role("radio", name="Leave out its beginning")).to_be_checked()
    visitor.generate()


def test_a_text_too_long_for_the_server_goes_on_without_its_beginning(
    site: Site, visitor: Visitor
) -> None:
    page = visitor.page
    context = site.status()["context_length"]
    page.get_by_role("radio", name="Greedy").check()
    visitor.set_number("Length", "4")
    end = "Once upon a time there was a little girl. " * context
    visitor.prompt.fill(end)
    page.keyboard.press("Control+Enter")
    visitor.button("Leave out the beginning and go on").click()
    expect(visitor.model_words.first).not_to_be_empty()
    visitor.finished()
    words = visitor.text.removeprefix(end)
    long = ("one two three four five " * 10_000)[: 200_001 - len(end)] + end
    visitor.prompt.fill(long)
    page.keyboard.press("Control+Enter")
    expect(visitor.notice).to_contain_text("200,001 characters")
    visitor.button("Leave out the beginning and go on").click()
    visitor.finished()
    assert visitor.text == long + words, "the model reads the same tokens"
    expect(page.locator(".notes li")).to_contain_text("read only the end of the text")
    expect(visitor.status_line).not_to_contain_text("did not fit")  # their number is unknown
    visitor.prompt.fill(long)
    page.keyboard.press("Control+Enter")
    visitor.button("Always do that").click()
    visitor.finished()
    expect(visitor.status_line.locator(".count")).to_have_text(
        re.compile(r"^The first 19\d,\d\d\d characters, in grey, will not be read$")
    )
    show_tokens(visitor)
    visitor.button("Score the whole text").click()
    expect(page.locator(".measures")).to_contain_text("perplexity")


def test_notices_disappear_when_their_text_is_replaced(site: Site, visitor: Visitor) -> None:
    context = site.status()["context_length"]
    visitor.prompt.fill("one two three four five " * context)
    visitor.page.keyboard.press("Control+Enter")
    expect(visitor.notice).to_contain_text("let its beginning be left out")
    expect(visitor.page.locator('.editor .sr-only[role="status"]')).to_be_empty()
    visitor.prompt.fill("The fox ran home.")
    expect(visitor.notice).to_be_hidden()


def test_perplexity_is_two_to_the_power_of_the_bits_per_token(visitor: Visitor) -> None:
    visitor.prompt.fill("Once upon a time there was a naïve 🦊 king who zxq.\n\nThe end")
    show_tokens(visitor)
    visitor.button("Score the whole text").click()
    measures = visitor.page.locator(".measures")
    expect(measures).to_contain_text("perplexity")
    found = re.search(r"([\d.]+) bits a token · perplexity ([\d.,]+)", measures.inner_text())
    assert found
    bits, perplexity = float(found[1]), float(found[2].replace(",", ""))
    assert math.isclose(2**bits, perplexity, rel_tol=0.006)
    expect(visitor.page.locator(".surprise figcaption")).to_contain_text("2 to the power of")
