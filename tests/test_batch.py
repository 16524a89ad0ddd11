"""Parts of a batch: their cells, what is refused, and how they wait for a place in the queue."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import pytest

from gptj_demo.client import RequestRefused
from gptj_demo.texts import message
from gptj_demo.ui.batch import make_part, preview
from gptj_demo.ui.comparison import Comparison
from gptj_demo.ui.grid_errors import InvalidGrid
from tests.grids import grid_of
from tests.test_compare import SOMEBODY, ScriptedStream, ScriptedWorker

PART: dict[str, Any] = {
    "template": "{hero} and {{{ place }}}.",
    "names": ["place", "hero"],
    "rows": [[3, ["a mill", "Ann"]], [7, ["{hero}", "Bo"]]],
    "controls": {"temperature": 0.5, "max_new_tokens": 9, "n": 4, "stop": "a\nb"},
    "seed": 2**31,
}


def test_each_row_is_a_cell_with_a_seed_of_its_own() -> None:
    part = make_part(PART)
    assert [number for number, _ in part.rows] == [3, 7]
    assert [part.prompt(0), part.prompt(1)] == ["Ann and {a mill}.", "Bo and {{hero}}."]
    for cell, number in enumerate([3, 7]):
        params = part.params(cell)
        assert (params.n, params.temperature, params.stop) == (1, 0.5, ("a", "b"))
        assert params.seed == 2**31 + number


@pytest.mark.parametrize("template", ["{hero}", "x" * 1997 + "{hero}"])
def test_a_part_holds_no_prompts_and_settings(template: str) -> None:
    rows = [[number, ["a mill", "Ann"]] for number in range(1000)]
    tracemalloc.start()
    try:
        part = make_part(PART | {"template": template, "rows": rows})
        waiting = Comparison(ScriptedWorker(), part, SOMEBODY)  # type: ignore[arg-type]
        assert tracemalloc.get_traced_memory()[1] < 2**20  # the settings of all take 4 MB
    finally:
        tracemalloc.stop()
    assert len(waiting.outcomes) == 1000
    assert part.prompt(999) == template.replace("{hero}", "Ann")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"template": " "}, "Write a template first"),
        ({"template": "no names"}, "The template is the same for all rows."),
        ({"template": "{heroine}"}, 'no column "heroine". It has "place", "hero".'),
        ({"template": "{open"}, "never closed"),
        ({"rows": [[4, ["a mill", None]]]}, 'Row 5 has no text in the column "hero".'),
        ({"rows": [[4, ["a mill"]]]}, 'Row 5 has no text in the column "hero".'),
        ({"rows": [["4", []]]}, "Something went wrong"),
        ({"rows": [[1, ["", ""]]] * 1001}, "more than 1,000 rows"),
        ({"controls": {"temperature": "hot"}}, "Temperature"),
        ({"names": None, "rows": 3}, "no column"),
        ({"names": [[], "hero"]}, "The name of a column must be a text; [] was sent."),
        ({"names": [f"c{number}" for number in range(201)]}, "more than 200 columns"),
        ({"template": "{hero}" * 1001}, "more than 1,000 placeholders"),
        (
            {"template": "x" * 3998 + "{hero}", "rows": [[1, ["", "Ann"]]] * 500},
            "2,000,500 characters together; at most 2,000,000",
        ),
    ],
)
def test_an_invalid_batch_is_refused_with_a_sentence(changed: Any, sentence: str) -> None:
    with pytest.raises(InvalidGrid) as refused:
        make_part(PART | changed)
    assert sentence in str(refused.value)


def test_a_row_that_is_too_long_ends_with_an_error_and_the_others_run() -> None:
    rows = [[0, ["", "Ann"]], [1, ["", "x" * 250_000]], [2, ["", "Bo"]]]
    # nine such rows have more characters than a part, but none of them is tokenized
    part = make_part(PART | {"rows": rows + [[3 + n, rows[1][1]] for n in range(8)]})

    async def run() -> None:
        worker = ScriptedWorker()
        batch = Comparison(worker, part, SOMEBODY, is_patient=True)  # type: ignore[arg-type]
        async for _ in batch.updates():
            for stream in list(worker.open):
                stream.finish()
        ends = [outcome["end"] for outcome in batch.outcomes]
        assert [end["reason"] for end in ends[:4]] == ["length", "error", "length", "error"]
        assert ends[1]["code"] == "grid.template_too_long"
        assert ends[1]["values"] == {"characters": 250_008, "most": 200_000}

    asyncio.run(run())


def test_a_first_row_that_is_too_long_does_not_block_the_plan() -> None:
    texts, places = ["a ", "."], ["hero"]
    assert preview(texts, places, {"hero": "Ann"}) == "a Ann."
    assert preview(texts, places, {"hero": "x" * 250_000}) == ""
    with pytest.raises(InvalidGrid, match="200,001 characters"):
        preview(["x" * 200_000, "."], places, {"hero": "x" * 250_000})


def patient(worker: ScriptedWorker) -> Comparison:
    return Comparison(worker, grid_of(), SOMEBODY, is_patient=True)  # type: ignore[arg-type]


def test_a_batch_waits_for_a_place_in_the_queue() -> None:
    async def run() -> None:
        worker = ScriptedWorker()
        worker.refuses = 2
        batch = patient(worker)
        async for _ in batch.updates():
            for stream in list(worker.open):
                stream.finish()
        assert worker.refuses == 0
        assert batch.outcomes[0]["end"]["reason"] == "length"

    asyncio.run(run())


def test_a_batch_ends_where_no_request_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    async def closed(self: ScriptedStream, timeout: float | None = None) -> None:
        raise RequestRefused("unavailable", message("refused.draining"))

    monkeypatch.setattr(ScriptedStream, "drain", closed)
    monkeypatch.setattr(ScriptedStream, "is_over", True, raising=False)

    async def run() -> None:
        with pytest.raises(RequestRefused, match="takes no new requests"):
            async for _ in patient(ScriptedWorker()).updates():
                pass

    asyncio.run(run())
