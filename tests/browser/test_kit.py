"""Help with a base model: scaffolds, loops, text outside the context window, and About."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from gptj_demo.texts import catalogue, languages
from tests.processes import ROOT
from tests.waiting import eventually

from .conftest import Script, Site, Visitor
from .records import said
from .writers import start_endless

Visit = Callable[..., Visitor]
Scripted = tuple[Visitor, Script]
LOOP = " The cat sat on the mat."


def remark(person: Visitor) -> Locator:
    """The line under the text."""
    return person.page.locator(".aside")


# ---- scaffolds


def controls_of(person: Visitor, *names: str) -> list[Any]:
    return [person.page.evaluate(f"gptj.state.controls.{name}") for name in names]


def write_scaffold(person: Visitor, name: str, **values: str) -> None:
    person.button("Scaffolds").click()
    person.page.locator(".examples").get_by_role("button", name=name, exact=True).click()
    for field, value in values.items():
        person.page.locator(f'.scaffold [name="{field}"]').fill(value)
    person.button("Write it").click()


def test_a_scaffold_sets_text_and_controls_and_can_be_undone(
    visitor: Visitor,
) -> None:
    visitor.write("Mine")
    visitor.set_number("Temperature", "1.3")
    write_scaffold(visitor, "Q&A", question="Who <b>are</b> you?")
    expect(visitor.prompt).to_have_value(re.compile(r"\n\nQ: Who <b>are</b> you\?\nA:$"))
    expect(visitor.prompt).to_be_focused()
    expect(remark(visitor)).to_contain_text("stops at a new line beginning “Q:”")
    expect(visitor.page.get_by_label("number input for Temperature")).to_have_value("0.4")
    visitor.open_group("Stopping")
    expect(visitor.field("stop")).to_have_value("\\nQ:")
    remark(visitor).get_by_role("button", name="Undo").click()
    expect(visitor.prompt).to_have_value("Mine")
    expect(remark(visitor)).to_be_hidden()
    expect(visitor.page.get_by_label("number input for Temperature")).to_have_value("1.3")
    expect(visitor.field("stop")).to_have_value("")


def test_the_next_scaffold_or_example_resets_a_scaffolds_settings(visitor: Visitor) -> None:
    write_scaffold(visitor, "Q&A")
    eventually(lambda: controls_of(visitor, "stop", "max_new_tokens") == ["\\nQ:", 100])
    write_scaffold(visitor, "Article")
    eventually(lambda: controls_of(visitor, "stop", "max_new_tokens") == ["", 300])
    visitor.set_number("Length", "7")
    visitor.button("Examples").click()
    visitor.page.locator(".examples ul button").first.click()
    eventually(lambda: controls_of(visitor, "temperature", "max_new_tokens") == [0.8, 7])
    expect(remark(visitor)).to_be_hidden()


def test_generation_from_a_scaffold_ends_at_its_stop_string(visitor: Visitor) -> None:
    write_scaffold(visitor, "Few-shot list")
    before = visitor.text
    visitor.generate()
    assert "\n" not in visitor.text.removeprefix(before)


def test_the_label_of_the_next_speaker_is_added_to_a_dialogue(scripted: Scripted) -> None:
    person, script = scripted
    person.page.evaluate(
        "gptj.sessions.current.scaffold ="
        " {text: 'ANN: Hello.\\nBEN:', before: {}, values: {}, turns: ['\\nANN:', '\\nBEN:']}"
    )
    person.write("ANN: Hello.\nBEN:")
    script.say(" Good day.", reason="stop")
    person.generate()
    expect(person.prompt).to_have_value("ANN: Hello.\nBEN: Good day.\nANN: ")
    expect(person.status_line).to_contain_text("Done.")
    person.write("Is it late?")
    script.forget()
    script.say(" Yes", reason="length")
    person.generate()
    said = "ANN: Hello.\nBEN: Good day.\nANN: Is it late?\nBEN:"
    assert [asked["prompt"] for asked in script.asked] == [said]
    expect(person.prompt).to_have_value(f"{said} Yes")
    script.say(" No", reason="stop")
    person.button("Retry").click()
    expect(person.prompt).to_have_value(f"{said} No\nANN: ")


def test_the_two_speakers_of_the_form_have_turns(visitor: Visitor) -> None:
    write_scaffold(visitor, "Two speakers", second="BEN")
    visitor.page.wait_for_function("gptj.sessions.current.scaffold?.turns?.[1] === '\\nBEN:'")


def test_a_scaffolds_form_is_used_by_keyboard_and_left_by_escape(visitor: Visitor) -> None:
    keyboard = visitor.page.keyboard
    form = visitor.page.get_by_role("dialog", name="Poem")
    visitor.button("Scaffolds").focus()
    keyboard.press("Enter")
    opener = visitor.page.locator(".examples").get_by_role("button", name="Poem")
    opener.focus()
    keyboard.press("Enter")
    expect(visitor.page.get_by_label("Title")).to_be_focused()
    keyboard.press("Escape")
    expect(form).to_be_hidden()
    expect(opener).to_be_focused()
    keyboard.press("Enter")
    keyboard.type("Snow")
    keyboard.press("Enter")
    expect(form).to_be_hidden()
    expect(visitor.prompt).to_have_value(re.compile("^Snow\n\nHe left the river"))
    expect(visitor.prompt).to_be_focused()


def test_scaffolds_warn_that_the_sample_model_is_too_small(site: Site, visitor: Visitor) -> None:
    visitor.button("Scaffolds").click()
    visitor.page.locator(".examples").get_by_role("button", name="Table").click()
    warning = visitor.page.locator(".scaffold .of-sample")
    expect(warning).to_be_visible(visible=site.status()["model"]["is_sample"])


# ---- loops


def test_a_loop_is_shown_and_cut_and_continued_as_one_step(scripted: Scripted) -> None:
    person, script = scripted
    person.write("Once.")
    script.say(" It was so.", *[LOOP] * 8)
    person.generate()
    looped = person.text
    expect(remark(person)).to_contain_text("begun to repeat itself")
    expect(remark(person)).to_contain_text("The cat sat on the mat.")
    script.forget()
    script.say(" And then?")
    remark(person).get_by_role("button", name="Cut back and go on").click()
    expect(person.prompt).to_have_value("Once. It was so." + LOOP + " And then?")
    person.finished()
    assert [asked["prompt"] for asked in script.asked] == ["Once. It was so." + LOOP]
    person.button("Undo").click()
    expect(person.prompt).to_have_value(looped)


def test_a_press_on_a_remark_counts_if_the_model_ends_meanwhile(scripted: Scripted) -> None:
    person, script = scripted
    script.send([[said(LOOP * 8)]])
    person.page.keyboard.press("Control+Enter")
    remark(person).get_by_role("button", name="Cut back and go on").hover()
    person.page.mouse.down()
    person.page.keyboard.press("Escape")
    expect(remark(person).get_by_role("button", name="Stop here")).to_be_hidden()
    script.say(" And then?")
    person.page.mouse.up()
    expect(person.prompt).to_have_value(LOOP + " And then?")


def test_the_persons_own_repetitions_are_ignored(scripted: Scripted) -> None:
    person, script = scripted
    person.prompt.fill("Once." + LOOP * 8)
    script.say(LOOP)
    person.generate()
    expect(remark(person)).to_be_hidden()


def test_a_dismissed_loop_is_not_shown_until_the_next_run(scripted: Scripted) -> None:
    person, script = scripted
    script.say(*[LOOP] * 8)
    person.generate()
    remark(person).get_by_role("button", name="Dismiss remark").click()
    expect(remark(person)).to_be_hidden()
    expect(person.prompt).to_be_focused()
    person.generate()
    expect(remark(person)).to_be_visible()
    person.button("Undo").click()
    person.button("Undo").click()
    expect(remark(person)).to_be_hidden()


def test_a_loop_is_shown_during_the_run_and_can_be_stopped(scripted: Scripted) -> None:
    person, script = scripted
    script.send([[said(LOOP * 8)]])
    person.page.keyboard.press("Control+Enter")
    expect(remark(person)).to_contain_text("begun to repeat itself")
    expect(person.button("Stop")).to_be_visible()
    remark(person).get_by_role("button", name="Stop here").click()
    expect(person.status_line).to_contain_text("Stopped.")
    expect(remark(person).get_by_role("button", name="Cut back and go on")).to_be_visible()
    expect(remark(person).get_by_role("button", name="Stop here")).to_be_hidden()


def test_a_loop_in_the_last_tokens_before_a_pause_is_shown(scripted: Scripted) -> None:
    person, script = scripted
    script.send([[said(" It was so.")], [said(LOOP * 8)]])
    person.page.keyboard.press("Control+Enter")
    expect(remark(person).get_by_role("button", name="Stop here")).to_be_visible()


def test_cutting_back_while_the_model_writes_stops_it_and_raises_a_control(
    visitor: Visitor,
) -> None:
    visitor.endless()
    visitor.open_group("Repetition")
    visitor.set_number("Repetition penalty", "1")
    visitor.write("Once upon a time")
    visitor.page.keyboard.press("Control+Enter")
    expect(remark(visitor)).to_contain_text("begun to repeat itself")
    looped = len(visitor.text)
    visitor.set_number("Length", "5")
    remark(visitor).get_by_role("button", name="Cut back and go on").click()
    expect(visitor.page.get_by_label("number input for DRY multiplier")).to_have_value("0.8")
    visitor.finished()
    eventually(lambda: len(visitor.text) < looped)


def test_setting_a_control_keeps_a_value_typed_just_before(visitor: Visitor) -> None:
    length = visitor.page.get_by_label("number input for Length", exact=True)
    expect(length).not_to_have_value("7")
    length.evaluate(
        """(field) => {
            field.value = "7";
            field.dispatchEvent(new Event("input", { bubbles: true }));
            field.dispatchEvent(new Event("change", { bubbles: true }));
            gptj.useControls({ top_k: 9 });
            gptj.useControls({ temperature: 0.5 });
        }"""
    )
    expect(visitor.page.get_by_label("number input for Temperature", exact=True)).to_have_value(
        "0.5"
    )
    expect(visitor.page.get_by_label("number input for Top-k", exact=True)).to_have_value("9")
    expect(length).to_have_value("7")


# ---- what the model does not read


def grey(person: Visitor) -> str:
    """The letters that are painted as not read."""
    return str(
        person.page.evaluate("[...(CSS.highlights.get('unread') ?? [])].map(String).join('')")
    )


def test_text_that_will_be_truncated_is_grey_and_follows_the_length(
    site: Site, visitor: Visitor
) -> None:
    context = site.status()["context_length"]
    text = "".join(f"{i} fox and crow é 🦊 " for i in range(context // 4)) + "end"
    visitor.prompt.fill(text)
    count = visitor.page.locator(".count")
    expect(count).to_contain_text("no room left")
    tokens = int(count.inner_text().split(" of ")[0].replace(",", ""))
    assert grey(visitor) == ""
    visitor.open_group("Prompt")
    visitor.page.get_by_role("radio", name="Leave out its beginning").check()
    visitor.set_number("Length", "10")
    dropped = tokens - (context - 10)
    expect(count).to_contain_text(f"the first {dropped:,}, in grey, will not be read")
    short = grey(visitor)
    assert text.startswith(short)
    visitor.set_number("Length", "300")
    eventually(lambda: len(grey(visitor)) > len(short))
    visitor.set_number("Length", "10")
    eventually(lambda: grey(visitor) == short)
    visitor.page.keyboard.press("Control+Enter")
    expect(visitor.model_words.first).not_to_be_empty()
    visitor.finished()
    notes = visitor.page.locator(".notes").inner_text()
    assert re.search(r"first ([\d,]+) tokens", notes)
    visitor.prompt.fill("Short again")
    eventually(lambda: grey(visitor) == "")


def test_grey_text_ends_where_the_truncated_prompt_begins(site: Site, visitor: Visitor) -> None:
    context = site.status()["context_length"]
    text = " and" * (context + 50)
    visitor.prompt.fill(text)
    visitor.open_group("Prompt")
    visitor.page.get_by_role("radio", name="Leave out its beginning").check()
    visitor.set_number("Length", "24")
    eventually(lambda: grey(visitor) == " and" * 74)


# ---- About


def test_about_shows_the_status_and_updates_it(site: Site, visit: Visit, visitor: Visitor) -> None:
    visitor.button("About").click()
    about = visitor.page.locator(".about")
    model = site.status()["model"]
    expect(about.locator('[data-of="parameters"]')).to_have_text(f"{model['parameters']:,}")
    expect(about.locator('[data-of="precision"]')).to_have_text(model["precision"])
    expect(about.locator('[data-of="memory"]')).to_contain_text(re.compile(r"[1-9]\d* [MG]B of we"))
    streams = about.locator('[data-of="streams"]')
    expect(streams).to_have_text(f"0 of {model['max_num_seqs']}")
    reserved = about.locator('[data-of="reserved"]')
    expect(reserved).to_have_text(f"0 of {model['max_tokens']:,}")
    other = visit(site.url)
    start_endless(site, other)
    expect(streams).to_have_text(f"1 of {model['max_num_seqs']}")
    expect(reserved).not_to_have_text(re.compile("^0 of"))
    site.resume_engine()
    expect(about.locator('[data-of="rate"]')).to_have_text(re.compile(r"^[1-9][\d.]* tokens a sec"))
    other.finished()
    expect(streams).to_have_text(f"0 of {model['max_num_seqs']}")


def test_about_has_an_address_and_links_to_the_apis(site: Site, visitor: Visitor) -> None:
    visitor.page.goto(site.url + "#about")
    about = visitor.page.locator(".about")
    expect(about).to_be_visible()
    with visitor.context.expect_page() as opened:
        about.get_by_role("link", name="The HTTP API").click()
    expect(opened.value.get_by_text("/v1/completions").first).to_be_visible()
    about.get_by_role("button", name="Gradio's API").click()
    expect(visitor.page.get_by_text("/complete").first).to_be_visible()


def test_about_polls_only_while_shown(visitor: Visitor) -> None:
    page = visitor.page
    page.clock.install()
    page.reload()  # earlier timers would not use the clock
    expect(page.locator('.top[data-state="ready"]')).to_be_visible()
    visitor.freeze()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.post_data or ""))

    def status_requests() -> int:
        """How often the page requests the model's status in 20 seconds of the clock."""
        asked.clear()
        page.clock.run_for(20_000)
        return len([body for body in asked if '"status"' in body])

    assert status_requests() < 6  # the status line polls every five seconds
    visitor.button("About").click()
    expect(page.locator(".about")).to_be_visible()
    assert status_requests() >= 10


@pytest.mark.parametrize("language", languages())
def test_about_has_the_figures_of_the_sample_models_card(language: str) -> None:
    about = (ROOT / "assets/views/about/about.html").read_text(encoding="utf-8")
    section = about[about.index('id="about-sample"') : about.index('id="about-gptj"')]
    texts = [catalogue(language)[key] for key in re.findall(r'data-text="([^"]+)"', section)]
    cells = re.findall(r"<td>([^<]+)</td>", section)
    card = (ROOT / "assets/sample-model/README.md").read_text(encoding="utf-8")
    # the context is 1,024 for a reader and 1024 in the card; "CC0 1.0" is no figure
    figures = set(re.findall(r"\d[\d,.]*\d", " ".join(map(str, texts + cells)))) - {"1,024", "1.0"}
    assert len(figures) > 6
    assert [figure for figure in figures if figure not in card] == []
