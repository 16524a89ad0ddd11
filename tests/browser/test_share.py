"""Sharing: links that restore and replay, and links that are broken or hostile."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from .conftest import Site, Visitor
from .writers import start_endless

Visit = Callable[..., Visitor]
PROMPT = "The old king said,"
HOSTILE = "<img src=x onerror=alert(1)>${alert(1)}{{value}}</script>\u202eabc\u202c"
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True}


def brought(person: Visitor) -> Locator:
    """The notice about an opened link and its replay."""
    return person.page.locator(".brought")


def menu(person: Visitor, item: str) -> None:
    person.button("Share").click()
    person.button(item).click()


def share(person: Visitor, version: int = 2) -> str:
    """Ask for a link and close the dialog; the link."""
    written = person.page.locator(".address input")
    written.evaluate("field => { field.value = ''; }")  # else the previous link is read
    menu(person, "Link to this text")
    field = person.page.get_by_label("Link", exact=True)
    expect(field).to_have_value(re.compile(f"#share={version}\\."))
    link = field.input_value()
    person.page.keyboard.press("Escape")
    return link


def write_with_seed(person: Visitor, seed: str = "7", text: str = PROMPT) -> None:
    person.set_number("Length", "30")
    person.open_group("Seed and completions")
    person.set_text("seed", seed)
    person.write(text)
    person.generate()


def unpacked(link: str) -> dict[str, Any]:
    packed = link.partition("#share=2.")[2]
    return dict(json.loads(zlib.decompress(base64.urlsafe_b64decode(packed + "=="))))


def packed(content: Any, version: int = 2) -> str:
    written = content if isinstance(content, bytes) else json.dumps(content).encode()
    encoded = base64.urlsafe_b64encode(zlib.compress(written)).decode()
    return f"#share={version}.{encoded.rstrip('=')}"


def replay(person: Visitor) -> None:
    person.button("Replay and compare").click()
    expect(brought(person)).to_contain_text(re.compile("dentical|same words|could not"))


# ---- a link restores and replays


def test_another_person_opens_a_link_and_replays_an_identical_text(
    site: Site, visitor: Visitor, visit: Visit
) -> None:
    visitor.set_number("Temperature", "1.15")
    visitor.open_group("Stopping")
    visitor.set_text("stop", "never\n\\nso")
    visitor.close_group("Stopping")
    write_with_seed(visitor)
    link = share(visitor)
    assert link.startswith(site.url + "/#share=2.")

    friend = visit(link)
    expect(friend.prompt).to_have_value(visitor.text)
    expect(friend.model_words).to_have_text(visitor.text.removeprefix(PROMPT))
    expect(brought(friend)).to_contain_text("Temperature 1.15")
    expect(brought(friend)).to_contain_text("sample model, float32")
    expect(friend.page.get_by_label("number input for Temperature")).to_have_value("1.15")
    friend.open_group("Stopping")
    expect(friend.field("stop")).to_have_value("never\n\\nso")
    assert "share=" not in friend.page.url  # a reload does not bring it once more
    replay(friend)
    expect(brought(friend)).to_contain_text("Identical")
    assert friend.text == visitor.text


def test_the_replay_of_a_continuation_goes_on_from_the_whole_text(
    visitor: Visitor, visit: Visit
) -> None:
    write_with_seed(visitor)
    first = visitor.text
    visitor.generate()
    link = share(visitor)
    assert unpacked(link)["text"] == first
    friend = visit(link)
    replay(friend)
    expect(brought(friend)).to_contain_text("Identical")
    assert friend.text == visitor.text


def test_a_link_to_a_local_address_warns_that_it_works_on_this_computer_only(
    visitor: Visitor,
) -> None:
    visitor.write(PROMPT)
    menu(visitor, "Link to this text")
    dialog = visitor.page.get_by_role("dialog", name="Share a link")
    expect(dialog).to_contain_text("begins with 127.0.0.1, so it works on this computer alone")


def test_one_completion_of_several_is_shared_with_its_own_seed(
    visitor: Visitor, visit: Visit
) -> None:
    visitor.open_group("Seed and completions")
    visitor.set_number("Completions", "3")
    visitor.set_text("best_of", "4")
    visitor.close_group("Seed and completions")
    write_with_seed(visitor)
    visitor.page.get_by_role("button", name="Take this one").last.click()
    content = unpacked(share(visitor))
    assert content["of"] == [3, 3]
    assert "n" not in content["controls"]
    friend = visit(share(visitor))
    replay(friend)
    expect(brought(friend)).to_contain_text("Identical")
    assert friend.text == visitor.text


def test_a_replay_reports_a_changed_setting_or_model(
    site: Site, visitor: Visitor, visit: Visit
) -> None:
    write_with_seed(visitor)
    content = unpacked(share(visitor))
    content["controls"]["temperature"] = 1.9
    other = visit(site.url + packed(content))
    replay(other)
    expect(brought(other)).to_contain_text("Not the same words")
    expect(brought(other)).to_contain_text(re.compile("the link has “.+” and the replay “"))
    expect(brought(other)).to_contain_text("were changed afterwards")
    other.button("Undo").click()
    assert other.text == visitor.text

    content["model"] |= {"name": HOSTILE, "precision": "int8", "software": "0"}
    other = visit(site.url + packed(content))
    replay(other)
    message = brought(other)
    expect(message).to_contain_text("the precision (int8 there, float32 here)")
    expect(message).to_contain_text(f"the model ({HOSTILE[:39]}… there, sample model here)")
    expect(message).to_contain_text("the version of the playground")
    assert other.dialogs == []


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en-GB", "earlier version of the playground: the same seed gives other words"),
        ("ar", "أقدم"),
    ],
)
def test_a_link_of_an_earlier_version_shows_a_note(
    site: Site, visitor: Visitor, visit: Visit, language: str, said: str
) -> None:
    write_with_seed(visitor)
    content = unpacked(share(visitor))
    friend = visit(site.url + packed(content, version=1), locale=language)
    expect(brought(friend)).to_contain_text(said)
    if language != "ar":
        expect(friend.prompt).to_have_value(visitor.text)
        assert share(friend, version=1).partition("#")[2].startswith("share=1.")
        content["words"] += " and more"
        friend = visit(site.url + packed(content, version=1))
        replay(friend)
        expect(brought(friend)).to_contain_text("What differs: the version of the playground.")


def test_the_replay_of_a_stopped_completion_begins_with_it(
    site: Site, visitor: Visitor, visit: Visit
) -> None:
    write_with_seed(visitor)
    content = unpacked(share(visitor)) | {"ended": "cancelled"}
    content["words"] = content["words"][:20]
    friend = visit(site.url + packed(content))
    replay(friend)
    expect(brought(friend)).to_contain_text("Identical as far as the link goes, 20 characters")
    expect(brought(friend)).to_contain_text("stopped by hand")


def test_an_edited_text_is_shared_in_its_present_form(visitor: Visitor, visit: Visit) -> None:
    write_with_seed(visitor)
    visitor.write(" And so on.")
    content = unpacked(share(visitor))
    assert content["text"] == visitor.text
    assert "words" not in content
    friend = visit(visitor.url + packed(content))
    expect(friend.prompt).to_have_value(visitor.text)
    expect(brought(friend)).to_be_visible()
    expect(friend.button("Replay and compare")).to_have_count(0)


def test_a_text_too_long_for_a_link_loses_its_beginning(visitor: Visitor, visit: Visit) -> None:
    noise = "".join(chr(0x4E00 + (i * i * 7919 + i * 104729) % 20000) for i in range(4200))
    content: dict[str, Any]
    visitor.prompt.fill(noise)
    menu(visitor, "Link to this text")
    dialog = visitor.page.get_by_role("dialog", name="Share a link")
    expect(dialog).to_contain_text(re.compile("are left out:.*the first [0-9,]+ characters"))
    link = visitor.page.get_by_label("Link", exact=True).input_value()
    assert 7900 < len(link) <= 8000
    content = unpacked(link)
    assert noise.endswith(content["text"])
    friend = visit(link)
    expect(friend.prompt).to_have_value(content["text"])


def test_a_long_links_fingerprint_shows_whether_a_replay_is_equal(
    site: Site, visitor: Visitor, visit: Visit
) -> None:
    write_with_seed(visitor)
    content = unpacked(share(visitor))
    words = content.pop("words")
    content |= {"hash": fnv1a(words), "length": len(words)}
    friend = visit(site.url + packed(content))
    expect(friend.prompt).to_have_value(PROMPT)
    replay(friend)
    expect(brought(friend)).to_contain_text("Identical")
    assert friend.text == visitor.text
    content["hash"] = "0" * 16
    friend = visit(site.url + packed(content))
    replay(friend)
    expect(brought(friend)).to_contain_text("Not the same words")


def fnv1a(text: str) -> str:
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


# ---- the visitor's own text


def test_the_visitors_own_text_stays_in_undo(visitor: Visitor) -> None:
    visitor.write("My own words.")
    link = packed({"text": "Another's words.", "controls": {}})
    visitor.page.goto(visitor.url + "/" + link)  # only the fragment differs: no reload
    expect(visitor.prompt).to_have_value("Another's words.")
    expect(brought(visitor)).to_contain_text("Undo brings your own text back")
    visitor.button("Undo").click()
    expect(visitor.prompt).to_have_value("My own words.")


def test_a_link_that_comes_while_the_model_writes_waits_for_its_end(
    site: Site, visitor: Visitor
) -> None:
    start_endless(site, visitor, prompt=PROMPT)
    link = packed({"text": "Another's words.", "controls": {}})
    visitor.page.evaluate("fragment => { location.hash = fragment; }", link)
    visitor.page.keyboard.press("Escape")
    expect(visitor.status_line).to_contain_text("Stopping")
    assert visitor.text.startswith(PROMPT)
    site.resume_engine()
    expect(visitor.prompt).to_have_value("Another's words.")


# ---- broken and hostile links


UNREADABLE = [
    ("#share=", "damaged"),
    ("#share=3.abcd", "another version of the playground (3)"),
    (f"#share={HOSTILE}", "damaged"),
    ("#share=2.a%20b", "damaged"),
    (packed({"text": "words " * 50, "controls": {}})[:-9], "damaged"),
    (packed({"text": "words", "controls": {}})[:-2] + "AA", "damaged"),
    ("#share=2." + "A" * 9000, "longer than a link can be"),
    (packed(b" " * 3_000_000), "unpacks to more than"),
    (packed(b"\xff\xfe"), "damaged"),
    (packed(b"not JSON"), "does not hold a text"),
    (packed([1, 2]), "does not hold a text"),
    (packed({"text": 7, "controls": {}}), "does not hold a text"),
    (packed({"text": "a", "controls": []}), "does not hold a text"),
    (
        packed({"text": "a", "controls": {}, "words": {"a": 1}}),
        "does not hold a text",
    ),
    (packed({"text": "a", "controls": {}, "model": {"name": [1]}}), "does not hold a text"),
    (packed({"text": "a", "controls": {}, "hash": "0"}), "does not hold a text"),
]


def test_an_unreadable_link_is_reported_and_changes_nothing(visitor: Visitor) -> None:
    visitor.write("My own words.")
    for fragment, said in UNREADABLE:
        visitor.page.evaluate("fragment => { location.hash = fragment; }", fragment)
        expect(visitor.notice, fragment[:100]).to_contain_text(said)
        assert visitor.text == "My own words."
        assert "share=" not in visitor.page.url
        visitor.notice.locator('[data-action="dismiss"]').click()
    assert visitor.dialogs == []


def test_invalid_settings_of_a_link_are_reported_and_get_their_defaults(
    site: Site, visit: Visit
) -> None:
    controls = {
        "temperature": 7,
        "top_p": "much",
        "stop": 5,
        "seed": -1,
        "n": None,
        "top_k": 40,
        "constructor": 1,
        HOSTILE: 2,
    }
    link = packed({"text": PROMPT, "words": " and", "controls": controls})
    person = visit(site.url + link)
    expect(person.prompt).to_have_value(PROMPT + " and")
    expect(person.notice).to_contain_text("Temperature (temperature) must be a number from 0 to 2")
    for said in ("Top-p", "Stop at (stop)", "Seed (seed)", "Completions (n)", '"constructor"'):
        expect(person.notice).to_contain_text(said)
    expect(person.page.get_by_label("number input for Temperature")).to_have_value("0.8")
    expect(person.page.get_by_label("number input for Top-k")).to_have_value("40")
    replay(person)
    expect(brought(person)).to_contain_text("the setting Temperature")


def test_hostile_texts_of_a_link_are_shown_as_text(site: Site, visit: Visit) -> None:
    controls = {"stop": HOSTILE, "bad_words": "\u202eabc"}
    text = HOSTILE + "\r\n\ud800"
    link = packed({"text": text, "words": HOSTILE, "controls": controls, "ended": HOSTILE})
    person = visit(site.url + link)
    expect(person.prompt).to_have_value(HOSTILE + "\n\ufffd" + HOSTILE)
    assert person.shown == person.text
    expect(brought(person)).to_contain_text("Stop at <img src=x onerror=alert(1)>")
    replay(person)
    menu(person, "View code")
    expect(person.page.get_by_role("tabpanel")).to_contain_text("<img src=x onerror=alert(1)>")
    assert person.page.locator(".editor img, .share-dialog img, .editor script").count() == 0
    assert person.dialogs == []


# ---- a small screen


def test_all_buttons_are_within_a_phone(site: Site, visit: Visit) -> None:
    person = visit(site.url, **PHONE)
    person.write(PROMPT)
    person.generate()
    for button in person.page.locator(".bar button:visible").all():
        box = button.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 390
    person.button("Share").click()
    box = person.page.locator("#share-menu").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
