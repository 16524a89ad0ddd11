"""The page's pure modules: their own tests, and what they make of texts and scaffolds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gptj_demo.control_values import make_params, read_written
from gptj_demo.sampling import control_named
from gptj_demo.tokenization import prompt_hint
from tests.node import ROOT, call, node

SCAFFOLDS = json.loads((ROOT / "assets/views/write/scaffolds.json").read_text(encoding="utf-8"))
LOOP = " The cat sat on the mat."


def test_the_javascript_tests_pass() -> None:
    ended = node("--test", *map(str, sorted((ROOT / "tests" / "js").glob("*.test.js"))))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "fail 0" in ended.stdout


# ---- scaffolds


def fill(scaffold: dict[str, Any], **values: str) -> dict[str, Any]:
    usual = {field["name"]: field["value"] for field in scaffold["fields"]}
    return dict(call("core/scaffolds.js", "fillScaffold", scaffold, usual | values))


def scaffold_named(name: str) -> dict[str, Any]:
    return next(scaffold for scaffold in SCAFFOLDS if scaffold["key"] == name)


@pytest.mark.parametrize("scaffold", SCAFFOLDS, ids=lambda scaffold: scaffold["key"])
def test_every_scaffold_makes_a_text_a_model_can_go_on_with(scaffold: dict[str, Any]) -> None:
    filled = fill(scaffold)
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


def test_names_of_speakers_go_into_the_text_and_the_stop_strings() -> None:
    filled = fill(scaffold_named("two_speakers"), first="Ann {second}", second="Bo")
    assert filled["text"].endswith("\nBo:")
    assert "Ann {second}: Good evening.\nBo: Good evening." in filled["text"]
    assert filled["controls"]["stop"] == "\\nAnn {second}:"


def test_pairs_become_inputs_and_outputs_and_columns_a_table() -> None:
    pairs = fill(scaffold_named("few_shot_list"), examples="hot => cold\nno arrow\n a => b => c ")
    assert "Input: hot\nOutput: cold\n\nInput: a\nOutput: b => c\n\nInput:" in pairs["text"]
    assert "no arrow" not in pairs["text"]
    table = fill(scaffold_named("table"), columns="A ,B|x", row=" 1,2 ")
    assert table["text"].endswith("\n\n| A | B x |\n| --- | --- |\n| 1 | 2 |\n|")


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
def test_a_loop_is_found_and_cut_behind_its_first_round(text: str, kept: str | None) -> None:
    loop = call("core/loops.js", "findLoop", text)
    units = text.encode("utf-16-le", "surrogatepass")
    cut = units[: 2 * loop["cut"]].decode("utf-16-le")  # and not through a character
    assert not cut.endswith(" ")
    assert units.decode("utf-16-le").startswith(cut)
    assert loop["times"] >= 3
    assert loop["start"] < loop["cut"] <= loop["start"] + 2 * loop["period"]
    if kept is not None:
        assert cut == kept
    assert call("core/loops.js", "findLoop", cut) is None


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
def test_lists_refrains_and_tables_are_no_loops(text: str) -> None:
    assert call("core/loops.js", "findLoop", text) is None


def test_a_repetitive_text_without_a_loop_is_searched_quickly() -> None:
    text = ("ab" * 3000 + "c") * 40  # a search that compares each period by itself takes minutes
    assert call("core/loops.js", "findLoop", text) is None
