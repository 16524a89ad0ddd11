"""What opening a link leaves unchanged, and how its replay is judged."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect

from .conftest import Site, Visitor
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
    expect(brought(visitor)).to_contain_text("Your own text and its memory are under Branches")
    assert visitor.page.evaluate("gptj.sessions.current.memory") is None
    kept = visitor.page.evaluate("gptj.sessions.list().map(({ id, words }) => [id, words])")
    assert [words for _, words in kept] == ["Theirs", "Mine"]
    visitor.page.evaluate("id => gptj.sessions.open(id)", kept[1][0])
    expect(visitor.prompt).to_have_value("Mine")
    assert visitor.page.evaluate("gptj.sessions.current.memory.text") == "Ann is a queen."


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
