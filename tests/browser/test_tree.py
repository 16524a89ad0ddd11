"""What becomes a node of the tree of branches."""

from __future__ import annotations

from playwright.sync_api import expect

from .branches import (
    branches,
    current,
    exported,
    generate,
    texts,
)
from .conftest import Script, Visitor
from .records import ended, said

Scripted = tuple[Visitor, Script]


def test_each_generation_and_each_typed_text_between_two_is_a_node(scripted: Scripted) -> None:
    person, script = scripted
    person.write("One ")
    generate(person, script, "two ")
    person.write("three ")
    generate(person, script, "four")
    assert texts(person.page) == {
        "One ": {"One two ": {"One two three ": {"One two three four": {}}}}
    }
    assert current(person.page) == "One two three four"


def test_a_retry_is_a_sibling_and_neither_is_lost(scripted: Scripted) -> None:
    person, script = scripted
    person.write("P")
    generate(person, script, "-0")
    script.say("-1")
    person.button("Retry").click()
    expect(person.prompt).to_have_value("P-1")
    person.finished()
    assert texts(person.page) == {"P": {"P-0": {}, "P-1": {}}}
    kinds = [given["kind"] for given in exported(person.page)["nodes"]]
    assert kinds == ["write", "generate", "retry"]


def test_every_completion_is_a_node_and_the_chosen_one_is_continued(scripted: Scripted) -> None:
    person, script = scripted
    person.write("P ")
    script.send(
        [
            [{"event": "started", "prompt_tokens": 1, "dropped_tokens": 0, "healed": None,
              "n": 3, "candidates": 3}],
            [said(f"c{i}", index=i) for i in range(3)],
            [ended(index=i, seed=7 + i, mean_logprob=-0.5, last=i == 2) for i in range(3)],
        ]
    )  # fmt: skip
    person.page.keyboard.press("Control+Enter")
    person.finished()
    cards = person.page.locator(".card:visible")
    cards.last.get_by_role("button", name="Take this one").click()
    expect(person.prompt).to_have_value("P c2")
    generate(person, script, " on")
    assert texts(person.page) == {"P ": {"P c0": {}, "P c1": {}, "P c2": {"P c2 on": {}}}}
    seeds = [given["run"]["seed"] for given in exported(person.page)["nodes"] if given["run"]]
    assert seeds == [7, 8, 9, 1]


def test_cards_can_be_starred_and_pruned_and_put_back(scripted: Scripted) -> None:
    person, script = scripted
    started = {"event": "started", "prompt_tokens": 1, "dropped_tokens": 0, "healed": None, "n": 2}
    script.send(
        [[started], [said("a"), said("b", index=1)], [ended(last=False), ended(index=1)]],
    )
    person.page.keyboard.press("Control+Enter")
    person.finished()
    card = person.page.locator(".card:visible")
    card.get_by_role("button", name="Star completion 2").click()
    assert [given["starred"] for given in exported(person.page)["nodes"]] == [False, True]
    card.get_by_role("button", name="Prune").click()
    assert texts(person.page) == {"a": {}}
    card.get_by_role("button", name="Put back").click()
    assert texts(person.page) == {"a": {}, "b": {}}


def test_undo_and_redo_walk_the_tree(scripted: Scripted) -> None:
    person, script = scripted
    person.write("P")
    generate(person, script, "-0")
    generate(person, script, "-1")
    for state in ("P-0", "P"):
        person.button("Undo").click()
        expect(person.prompt).to_have_value(state)
        assert current(person.page) == state
    person.button("Redo").click()
    expect(person.prompt).to_have_value("P-0")
    assert current(person.page) == "P-0"
    generate(person, script, "-2")
    assert texts(person.page) == {"P": {"P-0": {"P-0-1": {}, "P-0-2": {}}}}


def test_replaced_text_starts_a_branch_where_it_differs(scripted: Scripted) -> None:
    person, script = scripted
    person.write("There was a fox")
    generate(person, script, " who ran away")
    person.page.keyboard.press("Control+End")
    for _ in range(4):
        person.page.keyboard.press("Backspace")
    person.write("fast")
    generate(person, script, "!")
    assert texts(person.page) == {
        "There was a fox": {
            "There was a fox who ran away": {
                "There was a fox who ran fast": {"There was a fox who ran fast!": {}}
            }
        }
    }
    nodes = exported(person.page)["nodes"]
    assert [given["at"] for given in nodes] == [0, 15, 24, 28]
    assert [given["kind"] for given in nodes] == ["write", "generate", "edit", "generate"]
    person.prompt.fill("The king")
    generate(person, script, " died")
    assert list(texts(person.page)) == ["There was a fox", "The king"]


def test_continuing_a_shortened_text_starts_a_branch(
    scripted: Scripted,
) -> None:
    person, script = scripted
    generate(person, script, "one two")
    person.page.keyboard.press("Control+End")
    for _ in range(4):
        person.page.keyboard.press("Backspace")
    generate(person, script, " three")
    assert texts(person.page) == {"one two": {"one three": {}}}


def test_a_refused_request_adds_no_node_and_an_interrupted_one_does(scripted: Scripted) -> None:
    person, script = scripted
    person.write("P")
    script.send([[{"event": "refused", "kind": "queue_full", "message": "Too many."}]])
    person.page.keyboard.press("Control+Enter")
    expect(person.notice).to_contain_text("Too many.")
    assert texts(person.page) == {"P": {}}
    script.send([[said("-half"), {"event": "refused", "kind": "error", "message": "It broke."}]])
    person.page.keyboard.press("Control+Enter")
    expect(person.prompt).to_have_value("P-half")
    expect(person.notice).to_contain_text("It broke.")
    assert texts(person.page) == {"P": {"P-half": {}}}
    run = exported(person.page)["nodes"][-1]["run"]
    assert (run["reason"], run["message"]) == ("error", "It broke.")


def test_tree_survives_a_reload(scripted: Scripted) -> None:
    person, script = scripted
    person.write("P")
    generate(person, script, "-0")
    script.say("-1")
    person.button("Retry").click()
    expect(person.prompt).to_have_value("P-1")
    person.finished()
    before = exported(person.page)
    person.page.reload()
    expect(person.prompt).to_have_value("P-1")
    assert exported(person.page) == before


def test_a_node_records_settings_seed_model_and_finish_reason(visitor: Visitor) -> None:
    visitor.set_number("Length", "9")
    visitor.write("Once upon a time")
    visitor.generate()
    run = exported(visitor.page)["nodes"][-1]["run"]
    assert run["controls"] == {"max_new_tokens": 9}
    assert run["prompt_length"] == len("Once upon a time")
    assert run["reason"] == "length"
    assert run["tokens"] == 9
    assert run["model"]
    assert run["precision"] == "float32"
    assert isinstance(run["seed"], int)
    branches(visitor)
    expect(visitor.page.locator(".facts")).to_contain_text("Length 9")
    expect(visitor.page.locator(".facts")).to_contain_text(str(run["seed"]))
    visitor.page.evaluate("gptj.show('write')")
    visitor.button("Reset all controls").click()
    length = visitor.page.get_by_label("number input for Length")
    expect(length).to_have_value("120")
    branches(visitor)
    visitor.button("Use its settings").click()
    visitor.page.evaluate("gptj.show('write')")
    expect(length).to_have_value("9")


def test_four_continuations_at_once_are_one_choice_beside_generate(visitor: Visitor) -> None:
    visitor.set_number("Length", "6")
    visitor.page.get_by_label("Continuations at once").select_option("4")
    visitor.write("Once upon a time")
    visitor.page.keyboard.press("Control+Enter")
    expect(visitor.page.locator(".card:visible")).to_have_count(3)
    visitor.finished()
    nodes = exported(visitor.page)["nodes"]
    assert [given["kind"] for given in nodes] == ["write", *["generate"] * 4]
    assert all(given["run"]["controls"]["n"] == 4 for given in nodes[1:])
