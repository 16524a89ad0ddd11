"""What a comparison consists of: templates, axes and the grid that they make."""

from __future__ import annotations

import asyncio
import itertools
import re
import string
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptj_demo.protocol import (
    Finished,
    GenerationRequest,
    Started,
    StreamEvent,
    TokenEvent,
    Waiting,
)
from gptj_demo.sampling import CONTROLS, MAX_SEED, PRESETS, SamplingParams
from gptj_demo.texts import message
from gptj_demo.ui.compare import read_form
from gptj_demo.ui.comparison import Comparison
from gptj_demo.ui.grid import (
    AXES,
    MAX_CELLS,
    PRESET,
    Grid,
    InvalidGrid,
    axis_values,
    distinct_words,
    make_grid,
    parse_template,
    placeholder_values,
    suggestion,
)
from gptj_demo.worker import RequestRefused

FIELDS = (
    "prompt", "is_template", "placeholders", "rows", "columns", "length", "seeds", "controls"
)  # fmt: skip
LETTERS = string.ascii_letters + " _0123456789äß漢"
NAMES = st.text(LETTERS, min_size=1, max_size=40).filter(str.strip)
ANYTHING: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def grid_of(
    prompt: str = "P",
    placeholders: dict[str, Sequence[str]] | None = None,
    rows: tuple[str, str] = ("", ""),
    columns: tuple[str, str] = ("", ""),
    controls: dict[str, Any] | None = None,
    same_seed: bool = True,
    seed: int = 7,
) -> Grid:
    return make_grid(
        prompt, placeholders, rows, columns, controls or {}, seed=seed, same_seed=same_seed
    )


def values_of(name: str, written: str) -> list[Any]:
    """The settings that an axis goes through."""
    return [value.settings[name] for value in axis_values("rows", name, written)]


# ---- templates


@given(st.text())
def test_a_text_with_its_braces_doubled_is_a_template_of_itself(text: str) -> None:
    doubled = text.replace("{", "{{").replace("}", "}}")
    assert parse_template(doubled) == ([text], [])


@given(st.lists(st.tuples(st.text(), NAMES), max_size=5), st.text())
def test_texts_and_names_of_a_template_are_found_again(
    parts: list[tuple[str, str]], last: str
) -> None:
    def quote(text: str) -> str:
        return text.replace("{", "{{").replace("}", "}}")

    written = "".join(f"{quote(text)}{{{name}}}" for text, name in parts) + quote(last)
    texts, names = parse_template(written)
    assert texts == [text for text, _ in parts] + [last]
    assert names == [name.strip() for _, name in parts]


@given(st.text("{}ab \n", max_size=30))
def test_any_template_is_read_or_refused_with_a_sentence(template: str) -> None:
    read = refusal = None
    try:
        read = parse_template(template)
    except InvalidGrid as wrong:
        refusal = wrong
    if read is not None:
        texts, names = read
        assert len(texts) == len(names) + 1
    else:
        assert refusal is not None
        assert refusal.field == "prompt"
        assert str(refusal).endswith(".")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("a {b", "The brace { at character 3 of the template is never closed. Write {{"),
        ("a b}", "The brace } at character 4 of the template is never opened. Write }}"),
        ("{{a}", "The brace } at character 4"),
        ("{}", "needs a name between its braces, such as {animal}. Write {{}}"),
        ("{a\nb}", "A placeholder's name is one line of at most 40 characters"),
        ("{" + "x" * 41 + "}", "A placeholder's name is one line of at most 40 characters"),
        ("{a\u202eb}", r'"a\u202eb"'),
    ],
)
def test_what_is_wrong_with_a_template_is_told(template: str, words: str) -> None:
    with pytest.raises(InvalidGrid, match=re.escape(words)):
        parse_template(template)


def test_values_are_lines_and_know_line_breaks() -> None:
    assert placeholder_values("a", ["one", "", " two", r"three\nfour"]) == [
        "one",
        " two",
        "three\nfour",
    ]


def test_a_placeholder_without_values_is_refused_by_its_name() -> None:
    with pytest.raises(InvalidGrid, match=r"\{animal\} has no values yet") as wrong:
        grid_of("A {animal}", {"animal": ["", " "]})
    assert wrong.value.field == "values of animal"


def test_placeholders_combine_in_the_order_in_which_they_stand() -> None:
    grid = grid_of("{b} {a} {b}", {"a": ["1", "2"], "b": ["x", "{a}"]})
    assert grid.prompts == ("x 1 x", "x 2 x", "{a} 1 {a}", "{a} 2 {a}")
    assert grid.rows[1] == (("b", "x"), ("a", "2"))
    assert [(cell.row, cell.column, cell.prompt) for cell in grid.cells] == [
        (0, 0, 0),
        (1, 0, 1),
        (2, 0, 2),
        (3, 0, 3),
    ]


def test_where_there_are_no_placeholders_braces_are_text() -> None:
    assert grid_of("{a} {{b}} {").prompts == ("{a} {{b}} {",)


# ---- axes


def test_a_range_has_both_ends_and_equal_steps() -> None:
    assert values_of("temperature", "0.2 to 1.4 in 5 steps") == [0.2, 0.5, 0.8, 1.1, 1.4]
    assert values_of("temperature", "1 to 0 in 3 steps") == [1.0, 0.5, 0.0]
    assert values_of("top_k", "0 to 100 in 3 steps, 500") == [0, 50, 100, 500]


@pytest.mark.parametrize(
    "written", ["0.8, 0.95, 1.0", "0.8/0.95/1", " 0.8;.95 ; 1e0,", "0.8\n0.95\n1"]
)
def test_values_may_be_written_in_several_ways(written: str) -> None:
    assert values_of("top_p", written) == [0.8, 0.95, 1.0]


@given(st.integers(0, 200), st.integers(0, 200), st.integers(2, MAX_CELLS))
def test_a_range_stays_between_its_ends(first: int, last: int, steps: int) -> None:
    written = f"{first / 100} to {last / 100} in {steps} steps"
    if first == last:
        with pytest.raises(InvalidGrid, match="two ends that differ"):
            values_of("temperature", written)
        return
    values = values_of("temperature", written)
    assert (values[0], values[-1], len(values)) == (first / 100, last / 100, steps)
    assert values == sorted(values, reverse=first > last)


def test_flags_choices_and_presets_are_axes_too() -> None:
    assert values_of("token_healing", "off, on") == [False, True]
    assert values_of("truncate", "error, left") == ["error", "left"]
    headings = [value.heading for value in axis_values("rows", PRESET, "greedy, Wild")]
    assert headings == [(("Preset", "Greedy"),), (("Preset", "Wild"),)]
    assert axis_values("rows", PRESET, "wild")[0].settings == PRESETS["Wild"]


@pytest.mark.parametrize("name", [PRESET, *AXES])
def test_what_is_suggested_can_be_compared(name: str) -> None:
    assert 2 <= len(grid_of(rows=(name, suggestion(name))).cells) <= 6


def test_every_control_with_single_values_is_an_axis() -> None:
    others = {"n", "logprobs", "echo"}
    assert set(AXES) == {c.name for c in CONTROLS if not c.is_list} - others


@pytest.mark.parametrize(
    ("name", "written", "words"),
    [
        ("temperature", "", r"Temperature \(temperature\) has no values yet"),
        ("temperature", "warm", 'must be a number from 0 to 2; it was "warm"'),
        ("temperature", "0.2, 9", 'must be a number from 0 to 2; it was "9"'),
        ("temperature", "0 to 9 in 3 steps", 'must be a number from 0 to 2; it was "9"'),
        ("temperature", "nan", "must be a number from 0 to 2"),
        ("temperature", "0 to 1 in 1 step", "2 steps or more"),
        ("temperature", "0 to 1 in 10000000000000 steps", "at most 36 cells"),
        ("temperature", "0.5, .50", 'the value "0.5" stands there twice'),
        ("temperature", "0," * 1001, "2,002 characters; at most 2,000"),
        ("top_k", "1.5", r"must be a whole number from 0 to 1000"),
        ("top_k", "1 to 3 in 5 steps", "only 3 from 1 to 3, not 5"),
        ("truncate", "left to right in 2 steps", "must be one of these: error, left"),
        ("token_healing", "1 to 0 in 2 steps", "has no ranges"),
        (PRESET, "", "Choose presets: Precise, Balanced, Wild, Greedy"),
        (PRESET, "Tame", 'There is no preset "Tame"; there are'),
        ("stop", "x", '"stop" cannot be compared'),
        ("n", "2", '"n" cannot be compared'),
        ("<script>", "1", '"<script>" cannot be compared'),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_axis_is_told(name: str, written: str, words: str) -> None:
    with pytest.raises(InvalidGrid, match=words) as wrong:
        grid_of(rows=(name, written))
    assert wrong.value.field == "rows"


# ---- the grid


def test_five_by_three() -> None:
    grid = grid_of(
        rows=("temperature", "0.2 to 1.4 in 5 steps"),
        columns=("top_p", "0.8/0.95/1.0"),
        controls={"max_new_tokens": "30", "min_p": 0.1, "stop": ["x"], "n": 4, "best_of": None},
    )
    assert (len(grid.rows), len(grid.columns)) == (5, 3)
    assert grid.rows[0] == (("Temperature", "0.2"),)
    for cell, (temperature, top_p) in zip(
        grid.cells, itertools.product([0.2, 0.5, 0.8, 1.1, 1.4], [0.8, 0.95, 1.0]), strict=True
    ):
        assert cell.params == SamplingParams(
            temperature=temperature, top_p=top_p, max_new_tokens=30, min_p=0.1, stop=("x",),
            seed=7, logprobs=0,
        )  # fmt: skip
    assert grid.most_tokens == 15 * 30


def test_seeds_are_the_same_or_go_upwards() -> None:
    axis = ("temperature", "0.1, 0.2, 0.3")
    assert [cell.settings["seed"] for cell in grid_of(rows=axis).cells] == [7, 7, 7]
    different = grid_of(rows=axis, same_seed=False, seed=MAX_SEED)
    assert [cell.settings["seed"] for cell in different.cells] == [MAX_SEED, 0, 1]
    axis = ("seed", "3, 5")
    assert [cell.settings["seed"] for cell in grid_of(rows=axis, same_seed=False).cells] == [3, 5]


def test_cells_with_contradictory_controls_say_so_and_the_others_run() -> None:
    grid = grid_of(rows=("min_new_tokens", "10, 100"), controls={"max_new_tokens": 50})
    runs, cannot = grid.cells
    assert runs.params is not None
    assert cannot.params is None
    assert cannot.message is not None
    assert "(min_new_tokens) is 100, which is more than Length" in str(cannot.message)
    assert grid.most_tokens == 50


def test_where_no_cell_can_run_the_grid_is_refused() -> None:
    with pytest.raises(InvalidGrid, match=r"is 90, which is more than Length"):
        grid_of(rows=("temperature", "0, 1"), controls={"max_new_tokens": 5, "min_new_tokens": 90})


@pytest.mark.parametrize(
    ("given_", "field", "words"),
    [
        ({"prompt": " \n"}, "prompt", "Write a prompt"),
        ({"controls": {"max_new_tokens": "many"}}, "length", "must be a whole number from 0 to"),
        ({"controls": {"top_p": 3}}, "controls", r"Top-p \(top_p\) must be"),
        (
            {"rows": ("temperature", "0, 1"), "columns": (PRESET, "Wild")},
            "columns",
            "both set Temperature",
        ),
        (
            {
                "rows": ("top_k", ",".join(map(str, range(1, 8)))),
                "columns": ("seed", "1,2,3,4,5,6"),
            },
            "size",
            "That is 7 \N{MULTIPLICATION SIGN} 6 = 42 cells; at most 36",
        ),
        (
            {
                "prompt": "{a} {b}",
                "placeholders": {n: [str(i) for i in range(100)] for n in "ab"},
            },
            "size",
            "100 \N{MULTIPLICATION SIGN} 100 = 10,000 cells; at most 36",
        ),
        ({"prompt": "a\ud800"}, "prompt", "half of a surrogate pair"),
        (
            {"prompt": "{a}", "placeholders": {"a": ["\udfff"]}},
            "values of a",
            "half of a surrogate pair",
        ),
        (
            {"prompt": "{a}" * 60_000, "placeholders": {"a": ["x" * 100_000]}},
            "prompt",
            "With its values the template has 6,000,000,000 characters; at most 200,000",
        ),
    ],
)
def test_what_is_wrong_with_a_comparison_is_told(
    given_: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(InvalidGrid, match=words) as wrong:
        grid_of(**given_)
    assert wrong.value.field == field


def test_the_form_is_read_as_the_page_writes_it() -> None:
    grid = read_form(
        {
            "prompt": "A {x}",
            "is_template": True,
            "placeholders": [["x", "1\n2"], ["__proto__", "3"]],
            "rows": {"control": "temperature", "values": "0.5"},
            "columns": {"control": "", "values": "left over"},
            "length": "12",
            "seeds": "different",
            "controls": {"seed": "40", "stop": "a\nb", "max_new_tokens": 120, "n": 3},
        },
        seed=1,
    )
    assert grid.prompts == ("A 1", "A 2")
    first, second = (cell.params for cell in grid.cells)
    assert first == SamplingParams(
        temperature=0.5, max_new_tokens=12, seed=40, stop=("a", "b"), logprobs=0
    )
    assert second is not None
    assert second.seed == 41


@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(FIELDS, ANYTHING),
    )
    | ANYTHING
)  # fmt: skip
def test_any_form_is_a_comparison_or_a_sentence(form: Any) -> None:
    try:
        grid = read_form(form, seed=0)
    except InvalidGrid as wrong:
        told = str(wrong)
    else:
        told = "a comparison"
        assert 1 <= len(grid.cells) <= MAX_CELLS
    assert told
    told.encode()  # what is not text could not be sent


def test_distinct_words_are_counted_without_capitals_and_signs() -> None:
    assert distinct_words("The fox, the FOX and the hen's egg") == 5 / 8
    assert distinct_words("... !") is None


# ---- running it, on a worker that answers as it is told


class ScriptedStream:
    """A request that a scripted worker answers at once, or refuses."""

    def __init__(self, worker: ScriptedWorker, request: GenerationRequest) -> None:
        self.worker, self.request = worker, request
        self.events: list[StreamEvent] = []
        self.is_open = self.is_over = False

    @property
    def has_events(self) -> bool:
        return bool(self.events) or self in self.worker.line

    @property
    def over(self) -> bool:
        return self.is_over

    async def drain(self, timeout: float | None = None) -> list[StreamEvent]:
        if not self.is_open:
            self.is_open = True
            if self.worker.refuses > 0:
                self.worker.refuses -= 1
                raise RequestRefused("queue_full", message("refused.queue_full", count=64))
            self.worker.line.append(self)
        if self in self.worker.line:
            if len(self.worker.open) == self.worker.slots_a_visitor:
                return [Waiting(0)]
            self.worker.line.remove(self)
            self.worker.open.append(self)
            return [Started(1, 1)]
        events, self.events = self.events, []
        return events

    def finish(self, reason: str = "length") -> None:
        seed = self.request.params.seed or 0
        self.events += [TokenEvent(1, 5, f" {self.request.params.temperature:g}")]
        self.events += [Finished(1, reason, message("end.model"), "", 1, 1, seed, sum_logprob=-2.0)]  # type: ignore[arg-type]
        self._leave()

    def _leave(self) -> None:
        self.is_over = True
        (self.worker.open if self in self.worker.open else self.worker.line).remove(self)

    def cancel(self) -> None:
        if not self.is_over:
            self.finish("cancelled")

    async def aclose(self) -> None:
        if not self.is_over:
            self._leave()


class ScriptedWorker:
    """Slots for three at once; those that are open are ended by the test."""

    slots_a_visitor = 3
    streams_waiting = 0

    def __init__(self) -> None:
        self.open: list[ScriptedStream] = []  # those that hold a slot
        self.line: list[ScriptedStream] = []
        self.refuses = 0

    @property
    def streams_running(self) -> int:
        return len(self.open)

    def stream(self, request: GenerationRequest) -> ScriptedStream:
        return ScriptedStream(self, request)


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptj_demo.ui.comparison.UPDATE_SECONDS", 0.0)


SEVEN = ("temperature", "0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7")


def comparison(worker: ScriptedWorker, **grid: Any) -> Comparison:
    return Comparison(worker, grid_of(**({"rows": SEVEN} | grid)), "somebody")  # type: ignore[arg-type]


def test_cells_take_the_visitors_slots_and_one_place_in_the_line() -> None:
    async def run() -> None:
        worker = ScriptedWorker()
        compared = comparison(worker)
        async for _ in compared.updates():
            assert {stream.request.visitor for stream in worker.open} <= {"somebody"}
            assert len(worker.line) <= 1  # the others' places in it are theirs
            for stream in list(worker.open):
                stream.finish()
        assert [one["text"] for one in compared.outcomes] == [f" 0.{i}" for i in range(1, 8)]
        assert {one["end"]["mean_logprob"] for one in compared.outcomes} == {-2.0}

    asyncio.run(run())


def test_what_is_new_adds_up_to_what_is_known() -> None:
    async def run() -> None:
        worker = ScriptedWorker()
        compared = comparison(worker)
        texts, ends = dict.fromkeys(range(7), ""), {}
        async for news in compared.updates():
            for told in news:
                texts[told["cell"]] += told.get("text", "")
                if "end" in told:
                    ends[told["cell"]] = told["end"]
            for stream in list(worker.open)[:1]:
                stream.finish()
        assert list(texts.values()) == [one["text"] for one in compared.outcomes]
        assert [ends[i] for i in range(7)] == [one["end"] for one in compared.outcomes]

    asyncio.run(run())


def test_stop_ends_all_cells_those_in_line_too() -> None:
    async def run() -> None:
        worker = ScriptedWorker()
        compared = comparison(worker)
        async for _ in compared.updates():
            compared.stop()
        assert {one["end"]["reason"] for one in compared.outcomes} == {"cancelled"}
        assert worker.open + worker.line == []

    asyncio.run(run())


def test_leaving_ends_the_work() -> None:
    async def run() -> None:
        worker = ScriptedWorker()
        updates = comparison(worker).updates()
        await anext(updates)
        assert worker.open
        await updates.aclose()
        assert worker.open + worker.line == []

    asyncio.run(run())


def test_a_full_line_refuses_at_first_and_is_waited_for_later() -> None:
    async def run() -> None:
        worker = ScriptedWorker()
        worker.refuses = 1
        compared = comparison(worker)
        async for _ in compared.updates():
            if len(worker.open) == 3:
                worker.refuses = 5  # others have filled it meanwhile
            for stream in list(worker.open):
                stream.finish()
        ends = [one["end"] for one in compared.outcomes]
        assert ends[0]["message"].startswith("64 requests are waiting already")
        assert [end["reason"] for end in ends] == ["error"] + ["length"] * 6

    asyncio.run(run())


def test_a_cell_that_cannot_run_ends_with_its_sentence_beside_the_others() -> None:
    async def run() -> None:
        worker = ScriptedWorker()
        compared = comparison(worker, rows=("min_new_tokens", "1, 500"))
        async for _ in compared.updates():
            for stream in list(worker.open):
                stream.finish()
        ends = [one["end"] for one in compared.outcomes]
        assert [end["reason"] for end in ends] == ["length", "error"]
        assert "which is more than Length" in ends[1]["message"]

    asyncio.run(run())
