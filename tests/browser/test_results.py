"""What a request returns besides the text, with scripted records."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, expect

from .conftest import Script, Visitor
from .records import Record, alternative, ended, said, started, token, tokens

Scripted = tuple[Visitor, Script]
MINUS = "\N{MINUS SIGN}"
HOSTILE = "<img src=x onerror=alert(1)>${alert(1)}{{value}}"


def three(*texts: str) -> list[list[Record]]:
    """Three completions, a word of each at a time."""
    return [
        [started(n=3, candidates=3)],
        *[[said(words, index=i)] for words in zip(*map(str.split, texts), strict=True)
          for i, words in enumerate(words)],
        [ended(index=i, seed=7 + i, mean_logprob=-i - 0.5, last=i == 2, total=6)
         for i in range(3)],
    ]  # fmt: skip


def results(person: Visitor) -> Locator:
    return person.page.get_by_role("region", name="Results")


def cards(person: Visitor) -> Locator:
    return person.page.locator(".card:visible")


def ask(person: Visitor, script: Script, batches: list[list[Record]]) -> None:
    script.send(batches)
    person.page.keyboard.press("Control+Enter")
    person.finished()


def test_the_panel_is_hidden_after_a_single_completion_without_details(scripted: Scripted) -> None:
    person, script = scripted
    person.write("x")
    ask(person, script, [[started()], [said("y")], [ended()]])
    expect(results(person)).to_be_hidden()


# ---- completions


def test_the_other_completions_are_shown_beside_the_text(scripted: Scripted) -> None:
    person, script = scripted
    person.write("P ")
    ask(person, script, three("one two", "three four", "five six"))
    assert person.text == "P onetwo"
    expect(cards(person).locator(".card-text")).to_have_text(["threefour", "fivesix"])
    expect(cards(person).locator(".card-name")).to_have_text(
        [
            f"Completion 2 · seed 8 · log-probability {MINUS}1.50 a token",
            f"Completion 3 · seed 9 · log-probability {MINUS}2.50 a token",
        ]
    )
    expect(cards(person).locator(".card-end")).to_have_text(["Done."] * 2)
    expect(results(person).get_by_role("heading")).to_have_text("Completion 1 of 3 is in the text")
    expect(person.status_line).to_contain_text("6 tokens in 3 completions")


def test_completions_are_arranged_by_words_and_log_probability(scripted: Scripted) -> None:
    person, script = scripted
    batches = [
        [started(n=3, candidates=3)],
        [
            said(text, index=i)
            for i, text in enumerate(["A.", "It was it, it was.", "He's in, so."])
        ],
        [ended(index=i, mean_logprob=mean, last=i == 2) for i, mean in enumerate([-1, -2, -0.5])],
    ]
    ask(person, script, batches)
    figures = cards(person).locator(".card-figures")
    expect(figures).to_have_text(["5 words · 40 % distinct", "3 words · 100 % distinct"])
    arrange = results(person).get_by_label("Arrange")
    names = cards(person).locator(".card-text")
    for by, first in [
        ("by log-probability", "He's in, so."),
        ("by length", "It was it, it was."),
        ("by distinct words", "He's in, so."),
        ("as they came", "It was it, it was."),
    ]:
        arrange.select_option(by)
        expect(names.first).to_have_text(first)
    cards(person).last.get_by_role("button", name="Take this one").click()
    assert person.text == "He's in, so."


def test_completions_stream_together_and_can_be_chosen_once_all_have_ended(
    scripted: Scripted,
) -> None:
    person, script = scripted
    script.send(three("one two", "three four", "five six")[:4])
    person.page.keyboard.press("Control+Enter")
    expect(cards(person).locator(".card-text")).to_have_text(["three", "five"])
    expect(person.model_words).to_have_text("one")
    for take in cards(person).get_by_role("button").all():
        expect(take).to_be_disabled()


def test_choosing_a_completion_is_an_undo_step(scripted: Scripted) -> None:
    person, script = scripted
    person.write("P ")
    ask(person, script, three("one two", "three four", "five six"))
    cards(person).last.get_by_role("button", name="Take this one").click()
    expect(person.prompt).to_have_value("P fivesix")
    assert person.shown == "P fivesix"
    expect(person.model_words).to_have_text("fivesix")
    expect(person.prompt).to_be_focused()
    expect(cards(person).locator(".card-text")).to_have_text(["onetwo", "threefour"])
    cards(person).last.get_by_role("button", name="Take this one").click()
    expect(person.prompt).to_have_value("P threefour")
    for state in ("P fivesix", "P onetwo", "P "):
        person.button("Undo").click()
        expect(person.prompt).to_have_value(state)
    expect(cards(person)).to_have_count(3)
    cards(person).nth(1).get_by_role("button", name="Take this one").click()
    expect(person.prompt).to_have_value("P threefour")


def test_text_written_around_a_completion_is_kept(scripted: Scripted) -> None:
    person, script = scripted
    person.write("P ")
    ask(person, script, three("one two", "three four", "five six"))
    person.write(" after")
    person.page.keyboard.press("Control+Home")
    person.page.keyboard.type("before ")
    cards(person).first.get_by_role("button", name="Take this one").click()
    expect(person.prompt).to_have_value("before P threefour after")
    assert person.shown == person.text


def test_taking_a_completion_changes_nothing_if_its_place_is_gone(scripted: Scripted) -> None:
    person, script = scripted
    ask(person, script, three("one two", "three four", "five six"))
    person.prompt.fill("Something else")
    cards(person).first.get_by_role("button", name="Take this one").click()
    expect(person.notice).to_contain_text("no longer in the text")
    assert person.text == "Something else"


def test_an_empty_first_completion_can_be_replaced(scripted: Scripted) -> None:
    person, script = scripted
    person.write("P")
    last = ended(index=1, completion_tokens=1)
    ask(person, script, [[started(n=2)], [said("!", index=1)], [ended(last=False), last]])
    assert person.text == "P"
    cards(person).last.get_by_role("button", name="Take this one").click()
    expect(person.prompt).to_have_value("P!")


def test_the_card_of_a_completion_without_words_says_so_and_is_not_taken(
    scripted: Scripted,
) -> None:
    person, script = scripted
    person.write("P")
    ends = [ended(index=index, last=index == 2) for index in range(3)]
    words = [said("!"), said("\n", index=1), said("?", index=2)]
    ask(person, script, [[started(n=3)], words, ends])
    blank, full = cards(person).nth(0), cards(person).nth(1)
    expect(blank).to_contain_text("No words came.")
    expect(blank.get_by_role("button", name="Take this one")).to_be_hidden()
    expect(full).not_to_contain_text("No words came.")
    expect(full.get_by_role("button", name="Take this one")).to_be_visible()


def test_a_failed_completion_shows_its_error_and_the_other_stays(scripted: Scripted) -> None:
    person, script = scripted
    broken = ended(index=1, reason="error", message="It <b>broke</b>.", last=True)
    ask(
        person, script, [[started(n=2), said("a"), said("b", index=1)], [ended(last=False), broken]]
    )
    expect(cards(person).locator(".card-end")).to_have_text("It <b>broke</b>.")
    expect(person.notice).to_be_hidden()
    assert person.text == "a"


def test_drafts_are_counted_until_the_best_are_known(scripted: Scripted) -> None:
    person, script = scripted
    drafting = {"event": "drafting", "tokens": 133, "rate": 80.0}
    script.send([[started(candidates=5), drafting]])
    person.page.keyboard.press("Control+Enter")
    expect(person.status_line).to_contain_text("Drafting 5 completions: 133 tokens")


def test_the_next_request_clears_the_panel_and_closing_it_does_too(scripted: Scripted) -> None:
    person, script = scripted
    ask(person, script, three("one two", "three four", "five six"))
    person.button("Close results").click()
    expect(results(person)).to_be_hidden()
    expect(person.prompt).to_be_focused()
    ask(person, script, three("one two", "three four", "five six"))
    expect(cards(person)).to_have_count(2)
    ask(person, script, [[started()], [said("!")], [ended()]])
    expect(results(person)).to_be_hidden()
    expect(person.page.locator(".card")).to_have_count(0)


# ---- probabilities


def rows(person: Visitor, of: str = "completion") -> Locator:
    return person.page.locator(f'[data-of="{of}"] tbody tr')


def test_the_table_shows_both_probabilities_and_alternatives(
    scripted: Scripted,
) -> None:
    person, script = scripted
    removed = alternative(" a\n", -2.302585, None, removed_by="top_p")
    kept = alternative("the", -0.693147, 0.0, token_id=1)
    entry = token("the", -0.693147, sampled_logprob=0.0, rank=1234, alternatives=[kept, removed])
    ask(person, script, [[started(), said("the"), tokens(entry)], [ended()]])
    expect(rows(person)).to_have_count(0)
    person.page.get_by_text("Token probabilities").click()
    expect(rows(person)).to_have_count(1)
    expect(rows(person).locator("td")).to_have_text(
        ["the", "50.0 %", "100.0 %", "1,234", "the 50.0 % → 100.0 %␣a↵ 10.0 % ✕ Top-p"]
    )
    expect(rows(person).locator(".probability").first).to_have_attribute(
        "title", f"log-probability {MINUS}0.6931"
    )
    expect(rows(person).locator(".is-chosen")).to_have_count(1)


def test_rows_are_added_once_while_the_table_is_open(scripted: Scripted) -> None:
    person, script = scripted
    ask(person, script, [[started(), said("a"), tokens(token("a"))], [ended()]])
    person.page.get_by_text("Token probabilities").click()
    many = [token(f"w{i}") for i in range(250)]
    batches = [
        [started()],
        *[[said("w" * 50), tokens(*many[i : i + 50])] for i in range(0, 250, 50)],
    ]
    ask(person, script, [*batches, [ended()]])
    expect(rows(person)).to_have_count(250)
    assert rows(person).last.locator("td").first.inner_text() == "w249"


def test_the_tokens_of_each_completion_can_be_chosen(scripted: Scripted) -> None:
    person, script = scripted
    records = [tokens(token(f"t{i}"), index=i) for i in range(3)]
    batches = three("one", "three", "five")
    ask(person, script, [*batches[:-1], records, batches[-1]])
    person.page.get_by_text("Token probabilities").click()
    expect(rows(person).locator("td").first).to_have_text("t0")
    person.page.get_by_label("of completion").select_option("3")
    expect(rows(person).locator("td").first).to_have_text("t2")
    expect(rows(person)).to_have_count(1)


def test_the_score_of_the_prompt_and_its_tokens(scripted: Scripted) -> None:
    person, script = scripted
    scored = {
        "event": "scored", "sum_logprob": -12.5, "perplexity": 12.1825, "bits_per_byte": 1.2345,
        "tokens": [token("Once", None), token(" upon", -0.01)],
    }  # fmt: skip
    ask(person, script, [[started(), scored], [ended(completion_tokens=0, total=0)]])
    expect(person.page.locator(".score")).to_have_text(
        "The prompt, 2 tokens: 0.014 bits a token · perplexity 1.01 · 1.234 bits per byte · "
        f"sum of log-probabilities {MINUS}12.50"
    )
    person.page.get_by_text("Tokens of the prompt").click()
    expect(rows(person, "prompt")).to_have_count(2)
    expect(rows(person, "prompt").last.locator("td").nth(1)).to_have_text("99.0 %")


def test_a_score_of_one_token_has_no_perplexity(scripted: Scripted) -> None:
    person, script = scripted
    scored = {
        "event": "scored", "sum_logprob": 0.0, "perplexity": None, "bits_per_byte": None,
        "tokens": [token("Once", None)],
    }  # fmt: skip
    ask(person, script, [[started(), scored], [ended()]])
    expect(person.page.locator(".score")).to_have_text(
        "The prompt, 1 token: sum of log-probabilities 0.00"
    )


# ---- notes


@pytest.mark.parametrize(
    ("records", "said_"),
    [
        ([started(dropped_tokens=1234), ended()], "The first 1,234 tokens of the text"),
        ([started(healed=" "), ended()], "begin with its characters: ␣"),
        ([started(), ended(filtered_away=1)], "At 1 token the controls had left nothing"),
    ],
    ids=["truncated", "healed", "filtered away"],
)
def test_truncation_healing_and_emptied_rows_are_noted(
    scripted: Scripted, records: list[Record], said_: str
) -> None:
    person, script = scripted
    ask(person, script, [records])
    expect(person.page.locator(".notes li")).to_contain_text([said_])


def test_a_hint_of_the_server_is_shown_as_text_with_its_button(scripted: Scripted) -> None:
    person, _ = scripted
    person.write("Ends in a space ")
    expect(person.page.locator(".hint")).to_have_text("A <b>hint</b>.")
    expect(person.button("Turn on token healing")).to_be_visible()
    person.write("no more")
    expect(person.button("Turn on token healing")).to_be_hidden()


# ---- text that looks like markup


def test_hostile_text_is_shown_as_text_in_cards_tables_and_notes(scripted: Scripted) -> None:
    person, script = scripted
    other = alternative(HOSTILE, -1.0, None, removed_by=HOSTILE)
    ask(
        person,
        script,
        [
            [started(n=2, healed=HOSTILE)],
            [{"event": "scored", "sum_logprob": -1.0, "perplexity": 1.0, "bits_per_byte": 1.0,
              "tokens": [token(HOSTILE)]}],
            [said("x"), said(HOSTILE, index=1), tokens(token(HOSTILE, alternatives=[other]))],
            [ended(last=False), ended(index=1, message=HOSTILE)],
        ],
    )  # fmt: skip
    for summary in person.page.locator(".tokens summary").all():
        summary.click()
    expect(rows(person)).to_have_count(1)
    expect(cards(person).locator(".card-text")).to_have_text(HOSTILE)
    expect(cards(person).locator(".card-end")).to_have_text(HOSTILE)
    signs = HOSTILE.replace(" ", "␣")
    expect(person.page.locator(".token")).to_have_text([signs] * 4)
    expect(person.page.locator(".token-table small")).to_have_text(f"✕ {HOSTILE}")
    assert results(person).locator("img, script").count() == 0
    cards(person).get_by_role("button", name="Take this one").click()
    expect(person.prompt).to_have_value(HOSTILE)
    assert person.dialogs == []
