"""What helps with a base model: scaffolds, loops, what is out of the model's sight, and About."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from gptj_demo.sampling import control_named, make_params, read_written
from gptj_demo.tokenization import prompt_hint
from tests.processes import ROOT
from tests.waiting import eventually

from .conftest import Script, Site, Visitor, said

Visit = Callable[..., Visitor]
Scripted = tuple[Visitor, Script]
SCAFFOLDS = json.loads((ROOT / "assets/views/write/scaffolds.json").read_text(encoding="utf-8"))
LOOP = " The cat sat on the mat."


@pytest.fixture(scope="module")
def blank(chromium: Browser) -> Iterator[Page]:
    """A page with nothing on it, to run single functions in."""
    page = chromium.new_page()
    yield page
    page.close()


def call(page: Page, asset: str, function: str, *arguments: Any) -> Any:
    """What a function of a script without a page gives."""
    module = f"import({json.dumps(module_address(asset))})"
    return page.evaluate(f"async (given) => (await {module}).{function}(...given)", arguments)


def module_address(asset: str) -> str:
    """A module that imports nothing, as an address."""
    source = (ROOT / "assets" / "core" / asset).read_text(encoding="utf-8")
    return f"data:text/javascript,{urllib.parse.quote(source)}"


def remark(person: Visitor) -> Locator:
    """The line under the text."""
    return person.page.locator(".aside")


# ---- scaffolds


def fill(page: Page, scaffold: dict[str, Any], **values: str) -> dict[str, Any]:
    usual = {field["name"]: field["value"] for field in scaffold["fields"]}
    return dict(call(page, "scaffolds.js", "fillScaffold", scaffold, usual | values))


def scaffold_named(name: str) -> dict[str, Any]:
    return next(scaffold for scaffold in SCAFFOLDS if scaffold["name"] == name)


@pytest.mark.parametrize("scaffold", SCAFFOLDS, ids=lambda scaffold: scaffold["name"])
def test_every_scaffold_makes_a_text_a_model_can_go_on_with(
    blank: Page, scaffold: dict[str, Any]
) -> None:
    filled = fill(blank, scaffold)
    assert prompt_hint(filled["text"]) is None
    for field in scaffold["fields"]:
        first_words = field["value"].split(",")[0].split("=>")[0].strip()
        assert first_words in filled["text"]
    assert "{" not in filled["text"]
    assert "{" not in filled["done"]
    controls = filled["controls"]
    params = make_params(
        controls | {"stop": read_written(control_named("stop"), controls["stop"].split("\n"))}
    )
    assert ("stops" in filled["done"]) is bool(params.stop)


def test_names_of_speakers_go_into_the_text_and_the_stop_strings(blank: Page) -> None:
    filled = fill(blank, scaffold_named("Two speakers"), first="Ann {second}", second="Bo")
    assert filled["text"].endswith("\nBo:")
    assert "Ann {second}: Good evening.\nBo: Good evening." in filled["text"]
    assert filled["controls"]["stop"] == "\\nAnn {second}:"


def test_pairs_become_inputs_and_outputs_and_columns_a_table(blank: Page) -> None:
    pairs = fill(
        blank, scaffold_named("Few-shot list"), examples="hot => cold\nno arrow\n a => b => c "
    )
    assert "Input: hot\nOutput: cold\n\nInput: a\nOutput: b => c\n\nInput:" in pairs["text"]
    assert "no arrow" not in pairs["text"]
    table = fill(blank, scaffold_named("Table"), columns="A ,B|x", row=" 1,2 ")
    assert table["text"].endswith("\n\n| A | B x |\n| --- | --- |\n| 1 | 2 |\n|")


def controls_of(person: Visitor, *names: str) -> list[Any]:
    return [person.page.evaluate(f"gptj.state.controls.{name}") for name in names]


def write_scaffold(person: Visitor, name: str, **values: str) -> None:
    person.button("Scaffolds").click()
    person.page.locator(".examples").get_by_role("button", name=name, exact=True).click()
    for field, value in values.items():
        person.page.locator(f'.scaffold [name="{field}"]').fill(value)
    person.button("Write it").click()


def test_a_scaffold_writes_the_text_sets_the_controls_says_so_and_can_be_undone(
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


def test_what_one_scaffold_set_does_not_linger_in_the_next_beginning(visitor: Visitor) -> None:
    write_scaffold(visitor, "Q&A")
    eventually(lambda: controls_of(visitor, "stop", "max_new_tokens") == ["\\nQ:", 100])
    write_scaffold(visitor, "Article")
    eventually(lambda: controls_of(visitor, "stop", "max_new_tokens") == ["", 300])
    visitor.set_number("Length", "7")
    visitor.button("Examples").click()
    visitor.page.locator(".examples ul button").first.click()
    eventually(lambda: controls_of(visitor, "temperature", "max_new_tokens") == [0.8, 7])
    expect(remark(visitor)).to_be_hidden()


def test_a_scaffold_can_be_generated_from_and_stops_where_it_says(visitor: Visitor) -> None:
    write_scaffold(visitor, "Few-shot list")
    before = visitor.text
    visitor.generate()
    assert "\n" not in visitor.text.removeprefix(before)


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


def test_the_sample_model_is_told_to_be_too_small_for_scaffolds(
    site: Site, visitor: Visitor
) -> None:
    visitor.button("Scaffolds").click()
    visitor.page.locator(".examples").get_by_role("button", name="Table").click()
    warning = visitor.page.locator(".scaffold .of-sample")
    expect(warning).to_be_visible(visible=site.status()["model"]["is_sample"])


# ---- loops


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Once. The dog ran." + LOOP * 6, "Once. The dog ran." + LOOP),
        ("Once. The dog ran." + LOOP * 6 + " The cat", "Once. The dog ran." + LOOP),
        ("So it went" + " on and on" * 20, "So it went on and on"),
        ('He said:\n\n"Yes," said he.\n' + '"No," said she.\n"Yes," said he.\n' * 9, None),
        ("🦊 " + "🦊🦉 tu-whit " * 20, None),
        ("a" * 500, None),
        ("=" * 500, None),
    ],
)
def test_a_loop_is_found_and_cut_behind_its_first_round(
    blank: Page, text: str, kept: str | None
) -> None:
    loop = call(blank, "loops.js", "findLoop", text)
    units = text.encode("utf-16-le", "surrogatepass")
    cut = units[: 2 * loop["cut"]].decode("utf-16-le")  # and not through a character
    assert not cut.endswith(" ")
    assert units.decode("utf-16-le").startswith(cut)
    assert loop["times"] >= 3
    assert loop["start"] < loop["cut"] <= loop["start"] + 2 * loop["period"]
    if kept is not None:
        assert cut == kept
    assert call(blank, "loops.js", "findLoop", cut) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The cat sat on the mat. " * 2,
        "No, no, no, no, no, no, no, no, no!",
        "".join(f"{i}. Wash the dishes and put them away.\n" for i in range(1, 30)),
        "| " + "Name | " * 9 + "\n|" + " --- |" * 9,
        "-" * 120,
        "[" + "0, " * 60,
        "\n" * 1000,
        "".join(
            f"The {what} went by, and never said goodbye.\nRow, row, row the boat,\n" * 1
            for what in ("fox", "owl", "bear", "hen", "dog", "cat", "cow", "pig")
        ),
        "Hey, ho, the wind and the rain,\n" * 3,
        "".join(f"{'the cat sat ' * 2}{i} " for i in range(50)),
        ("Once upon a time there was a king. " * 20) + "But that is over now.",
    ],
    ids=range(12),
)
def test_lists_refrains_and_tables_are_no_loops(blank: Page, text: str) -> None:
    assert call(blank, "loops.js", "findLoop", text) is None


def test_looking_for_a_loop_takes_no_time_that_one_notices(blank: Page) -> None:
    text = ("ab" * 3000 + "c") * 40  # hard for a search that compares each period by itself
    assert call(blank, "loops.js", "findLoop", text) is None
    took = blank.evaluate(
        f"""async (text) => {{
          const {{ findLoop }} = await import({json.dumps(module_address("loops.js"))});
          const began = performance.now();
          findLoop(text);
          return performance.now() - began;
        }}""",
        text,
    )
    print(f"a look at {len(text):,} characters took {took:.1f} ms")


def test_a_loop_is_told_and_cut_back_and_written_on_as_one_step(scripted: Scripted) -> None:
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


def test_the_persons_own_repetitions_are_nobodys_business(scripted: Scripted) -> None:
    person, script = scripted
    person.prompt.fill("Once." + LOOP * 8)
    script.say(LOOP)
    person.generate()
    expect(remark(person)).to_be_hidden()


def test_a_loop_that_was_dismissed_is_not_told_again_until_the_next_run(scripted: Scripted) -> None:
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


def test_a_loop_is_told_while_it_runs_and_can_be_stopped(scripted: Scripted) -> None:
    person, script = scripted
    script.send([[said(LOOP * 8)]])
    person.page.keyboard.press("Control+Enter")
    expect(remark(person)).to_contain_text("begun to repeat itself")
    expect(remark(person).get_by_role("button", name="Stop here")).to_be_visible()
    expect(person.button("Stop")).to_be_visible()


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


# ---- what the model does not read


def grey(person: Visitor) -> str:
    """The letters that are painted as not read."""
    return str(
        person.page.evaluate("[...(CSS.highlights.get('unread') ?? [])].map(String).join('')")
    )


def test_what_falls_out_of_the_window_is_grey_and_follows_the_length(
    site: Site, visitor: Visitor
) -> None:
    context = site.status()["context_length"]
    text = "".join(f"{i} fox and crow é 🦊 " for i in range(context // 4)) + "end"
    visitor.prompt.fill(text)
    expect(visitor.page.locator(".count")).to_contain_text("no room left")
    assert grey(visitor) == ""
    visitor.open_group("Prompt")
    visitor.page.get_by_role("radio", name="left").check()
    visitor.set_number("Length", "10")
    count = visitor.page.locator(".count")
    expect(count).to_contain_text(re.compile(r"the first [\d,]+, in grey, will not be read"))
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


def test_grey_ends_where_the_model_begins_to_read(site: Site, visitor: Visitor) -> None:
    context = site.status()["context_length"]
    text = " and" * (context + 50)
    visitor.prompt.fill(text)
    visitor.open_group("Prompt")
    visitor.page.get_by_role("radio", name="left").check()
    visitor.set_number("Length", "24")
    eventually(lambda: grey(visitor) == " and" * 74)


# ---- About


def test_about_tells_what_is_running_and_keeps_telling(
    site: Site, visit: Visit, visitor: Visitor
) -> None:
    visitor.button("About").click()
    about = visitor.page.locator(".about")
    model = site.status()["model"]
    expect(about.locator('[data-of="parameters"]')).to_have_text(f"{model['parameters']:,}")
    expect(about.locator('[data-of="precision"]')).to_have_text(model["precision"])
    expect(about.locator('[data-of="memory"]')).to_contain_text(re.compile(r"[1-9]\d* [MG]B of we"))
    streams = about.locator('[data-of="streams"]')
    expect(streams).to_have_text(f"0 of {model['max_streams']}")
    other = visit(site.url)
    other.endless()
    other.write("Once upon a time")
    other.page.keyboard.press("Control+Enter")
    expect(other.model_words.first).not_to_be_empty()
    site.pause_engine()
    expect(streams).to_have_text(f"1 of {model['max_streams']}")
    site.resume_engine()
    expect(about.locator('[data-of="rate"]')).to_have_text(re.compile(r"^[1-9][\d.]* tokens a sec"))
    other.finished()
    expect(streams).to_have_text(f"0 of {model['max_streams']}")


def test_about_has_an_address_and_links_to_what_programs_use(site: Site, visitor: Visitor) -> None:
    visitor.page.goto(site.url + "#about")
    about = visitor.page.locator(".about")
    expect(about).to_be_visible()
    with visitor.context.expect_page() as opened:
        about.get_by_role("link", name="The HTTP API").click()
    expect(opened.value.get_by_text("/v1/completions").first).to_be_visible()
    about.get_by_role("button", name="Gradio's API").click()
    expect(visitor.page.get_by_text("/complete").first).to_be_visible()


def test_nobody_who_does_not_look_asks_for_news(visitor: Visitor) -> None:
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))
    visitor.page.clock.install()
    visitor.page.clock.run_for(4_000)  # less than the status line's own five seconds
    assert [url for url in asked if "component_server" in url] == []


def test_abouts_figures_of_the_sample_model_are_those_of_its_card() -> None:
    about = (ROOT / "assets/views/about/about.html").read_text()
    section = about[about.index('id="about-sample"') : about.index('id="about-gptj"')]
    card = " ".join((ROOT / "assets" / "sample-model" / "README.md").read_text().split())
    figures = set(re.findall(r"\d[\d,.]*\d", section)) - {"1,024", "1.0"}
    assert len(figures) > 6
    assert [figure for figure in figures if figure not in card] == []
