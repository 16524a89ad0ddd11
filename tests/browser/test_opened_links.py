"""What opening a link leaves unchanged, and how its replay is judged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from .conftest import Site, Visitor
from .test_accessibility import audit
from .test_share import PHONE, PROMPT, brought, packed, replay, share, unpacked, write_with_seed

Visit = Callable[..., Visitor]
ENDS_WITHIN = "localStorage.setItem('gptj-playground/ending', 'within')"


def test_a_replay_begins_with_a_linked_text_cut_after_a_whole_sentence(
    site: Site, visitor: Visitor, visit: Visit
) -> None:
    visitor.page.evaluate(ENDS_WITHIN)
    visitor.set_number("Length", "60")
    visitor.write(PROMPT)
    for _ in range(10):  # until the model writes beyond a sentence
        visitor.generate()
        content = unpacked(share(visitor))
        if "ended" in content:
            break
    assert content["ended"] == "sentence"
    friend = visit(site.url + packed(content))
    replay(friend)
    expect(brought(friend)).to_contain_text("Identical as far as the link goes")
    expect(brought(friend)).to_contain_text("end with a whole sentence, as its writer had chosen")


def test_a_replay_ignores_the_readers_choice_to_end_with_a_sentence(
    site: Site, visitor: Visitor, visit: Visit
) -> None:
    write_with_seed(visitor)
    friend = visit(site.url)
    friend.page.evaluate(ENDS_WITHIN)
    friend.page.goto(share(visitor))
    replay(friend)
    expect(brought(friend)).to_contain_text("Identical")
    assert friend.text == visitor.text


def test_opening_a_link_keeps_the_visitors_memory_in_its_own_session(visitor: Visitor) -> None:
    visitor.write("Mine")
    visitor.page.evaluate("gptj.emit('memory', {text: 'Ann is a queen.'})")
    visitor.page.goto(visitor.url + packed({"text": "Theirs", "controls": {}}))
    expect(visitor.prompt).to_have_value("Theirs")
    expect(brought(visitor)).to_contain_text(
        "Your own text, its memory and its settings are under Branches"
    )
    assert visitor.page.evaluate("gptj.sessions.current.memory") is None
    kept = visitor.page.evaluate("gptj.sessions.list().map(({ id, words }) => [id, words])")
    assert [words for _, words in kept] == ["Theirs", "Mine"]
    visitor.page.evaluate("id => gptj.sessions.open(id)", kept[1][0])
    expect(visitor.prompt).to_have_value("Mine")
    assert visitor.page.evaluate("gptj.sessions.current.memory.text") == "Ann is a queen."


@pytest.mark.parametrize(
    "content",
    [{"memory": {"text": "Bob is a king.", "note": "Short."}}, {"controls": {"seed": "7"}}],
    ids=["memory", "settings"],
)
def test_a_links_memory_and_settings_do_not_stay_on_the_visitors_own_text(
    visitor: Visitor, content: dict[str, Any]
) -> None:
    page = visitor.page
    visitor.write("Mine")
    page.goto(visitor.url + packed({"text": "Theirs", "controls": {}} | content))
    expect(visitor.prompt).to_have_value("Theirs")
    expect(brought(visitor)).to_contain_text("settings are under Branches")
    expect(brought(visitor)).not_to_contain_text("Undo")
    if "controls" in content:
        page.wait_for_function("gptj.state.controls.seed === '7'")
    visitor.button("Undo").click()
    expect(visitor.prompt).to_have_value("")
    page.evaluate("gptj.sessions.open(gptj.sessions.list().find((one) => !one.isOpen).id)")
    expect(visitor.prompt).to_have_value("Mine")
    assert page.evaluate("gptj.sessions.current.memory") is None
    page.wait_for_function("gptj.state.controls.seed === ''")
    expect(brought(visitor)).to_be_hidden()


def test_a_links_message_is_shown_only_with_its_text(visitor: Visitor) -> None:
    visitor.write("Mine")
    visitor.page.goto(visitor.url + packed({"text": "Theirs", "words": " too", "controls": {}}))
    expect(visitor.button("Replay and compare")).to_be_visible()
    visitor.write(" and more")
    expect(brought(visitor)).to_be_visible()
    visitor.prompt.fill("A new story")
    expect(brought(visitor)).to_be_hidden()
    visitor.button("Undo").click()
    expect(visitor.prompt).to_have_value("Theirs too and more")
    expect(brought(visitor)).to_be_visible()
    visitor.page.evaluate("gptj.sessions.begin()")
    expect(brought(visitor)).to_be_hidden()
    visitor.write("Theirs too")  # in another session it is not the link's text
    expect(brought(visitor)).to_be_hidden()


def test_a_replay_with_a_changed_memory_gives_that_as_the_reason(
    site: Site, visitor: Visitor, visit: Visit
) -> None:
    write_with_seed(visitor)
    friend = visit(share(visitor))
    expect(brought(friend)).to_be_visible()
    friend.page.evaluate("gptj.emit('memory', {text: 'Ann is a queen. '.repeat(20)})")
    replay(friend)
    expect(brought(friend)).to_contain_text("What differs: the memory or the note.")


def test_the_buttons_of_a_long_verdict_are_visible_on_a_phone(
    site: Site, visitor: Visitor, visit: Visit
) -> None:
    write_with_seed(visitor)
    content = unpacked(share(visitor))
    content["words"] = content["words"][:5] + " something else that the model did not write"
    content["model"] |= {"name": "another model " * 3, "precision": "int8", "software": "0"}
    friend = visit(site.url + packed(content), **PHONE)
    replay(friend)
    again = friend.button("Replay and compare")
    box, page_box = again.bounding_box(), brought(friend).bounding_box()
    assert box is not None
    assert page_box is not None
    assert page_box["y"] <= box["y"] <= page_box["y"] + page_box["height"] - box["height"]
    assert audit(friend.page) == []


def test_a_completion_written_with_another_memory_is_not_shared_for_a_replay(
    visitor: Visitor,
) -> None:
    write_with_seed(visitor)
    assert "words" in unpacked(share(visitor))
    visitor.page.evaluate("gptj.emit('memory', {text: 'Ann is a queen.'})")
    assert "words" not in unpacked(share(visitor))


def test_a_links_settings_are_kept_when_it_replaces_a_scaffolds_text(visitor: Visitor) -> None:
    visitor.button("Scaffolds").click()
    visitor.page.locator(".examples li button").first.click()
    visitor.page.locator('.scaffold [type="submit"]').click()
    wrote = visitor.page.evaluate("Object.entries(gptj.sessions.current.scaffold.values)")
    changed = {name: value for name, value in wrote if name in ("temperature", "max_new_tokens")}
    assert changed
    link = packed({"text": "Something else", "controls": changed})
    visitor.page.goto(visitor.url + link)
    expect(visitor.prompt).to_have_value("Something else")
    expect(brought(visitor)).to_be_visible()
    for name, value in changed.items():
        field = visitor.page.locator(f"#control-{name} input[type=number]")
        expect(field).to_have_value(str(value))


def test_a_long_linked_text_is_shown_from_its_top_with_the_caret_at_its_end(
    site: Site, visit: Visit
) -> None:
    text = "\n\n".join(f"Paragraph {number}." for number in range(80))
    other = visit(site.url + packed({"text": text, "controls": {}}), **PHONE)
    expect(brought(other)).to_be_visible()
    assert other.page.locator(".sheet").evaluate("box => box.scrollTop") == 0
    other.page.keyboard.type(" End")
    assert other.text == text + " End"
