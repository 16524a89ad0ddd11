"""`python -m gptj_demo`: words on standard output and nothing else, the rest on standard error."""

from __future__ import annotations

import asyncio
import itertools
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gptj_demo.__main__ import generate, parse_arguments, read_controls
from gptj_demo.client import Worker
from gptj_demo.sampling import CONTROLS
from gptj_demo.settings import Settings
from tests.engine.checkpoints import make_checkpoint

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("tiny"))


def terminal(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gptj_demo", *arguments],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_a_prompt_given_as_an_argument_or_piped_in_prints_the_same_text(
    folder: Path,
) -> None:
    options = ["--model", str(folder), "--max-new-tokens", "20", "--seed", "7"]
    first = terminal("The lamp", *options)
    second = terminal("-", *options, stdin="The lamp\n")
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert first.stdout.strip()
    assert "seed 7" in first.stderr
    assert "Wrote the 20 tokens" in first.stderr


def test_a_text_that_is_too_long_is_refused_with_both_numbers(folder: Path) -> None:
    ran = terminal("-", "--model", str(folder), stdin="lamp " * 100)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert "this model reads 64 at most" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x", "--temperature", "9"], 'must be a number from 0 to 2; it was "9"'),
        (["x", "--precision", "float12"], "--precision is float12"),
        (["x", "--no-such-flag"], "unrecognized arguments"),
        ([], "prompt"),
    ],
)
def test_wrong_arguments_end_with_one_sentence_and_code_2(arguments: list[str], said: str) -> None:
    ran = terminal(*arguments)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_missing_model_ends_with_one_sentence_and_code_2() -> None:
    ran = terminal("x", "--model", "/no/such/folder")
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert "/no/such/folder" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_flags_become_controls_of_every_kind() -> None:
    flags = [
        "x", "--top-k", "5", "--temperature", "0.5", "--best-of", "4", "--ignore-eos",
        "--truncate", "left", "--stop", "a,b", "--stop", r"\n\n", "--stop-token-ids", "1,2",
        "--stop-token-ids", "3", "--logit-bias", " king = -5", "--logit-bias", "464=2",
        "--dry-sequence-breakers", ".",
    ]  # fmt: skip
    params = read_controls(parse_arguments(flags))
    assert params.top_k == 5
    assert params.temperature == 0.5
    assert params.best_of == 4
    assert params.ignore_eos
    assert not params.echo
    assert params.truncate == "left"
    assert params.stop == ("a,b", "\n\n")
    assert params.stop_token_ids == (1, 2, 3)
    assert params.logit_bias == ((" king", -5.0), (464, 2.0))
    assert params.dry_sequence_breakers == (".",)


def test_help_lists_every_control_with_the_text_of_the_table() -> None:
    text = " ".join(terminal("--help").stdout.split())
    for control in CONTROLS:
        assert control.flag in text
        after = text.split(f" {control.flag} ", 2)[-1]
        assert control.help in after
        if isinstance(control.default, (int, float)) and control.kind != "flag":
            rest = after[after.index(control.help) + len(control.help) :]
            assert rest.startswith(f" Default: {control.default}.")


# ---- one process for many commands

Ran = tuple[str, str, int]  # standard output, standard error, exit code


@pytest.fixture(scope="module")
def worker(folder: Path) -> Iterator[Worker]:
    worker = Worker(Settings(model=str(folder)))
    worker.start()
    yield worker
    worker.stop()


@pytest.fixture
def run(worker: Worker, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """The same command in this process: prompt and flags."""

    def run(*arguments: str) -> Ran:
        given = parse_arguments([*arguments])
        code = asyncio.run(generate(worker, given.prompt, read_controls(given)))
        said = capsys.readouterr()
        return said.out, said.err.split("\r")[-1], code

    return run


LENGTH = ("--max-new-tokens", "6")


def test_several_completions_are_printed_in_order_and_equal_single_ones(
    run: Callable[..., Ran],
) -> None:
    out, err, code = run("The lamp", *LENGTH, "--seed", "7", "--n", "3")
    alone = [run("The lamp", *LENGTH, "--seed", str(seed))[0] for seed in (7, 8, 9)]
    assert code == 0
    assert out == "\n".join(alone)
    assert re.findall(r"^completion .*$", err, re.MULTILINE) == [
        "completion 2 of 3, seed 8",
        "completion 3 of 3, seed 9",
    ]
    assert re.findall(r"seed (\d+)(?: \||\])", err) == ["7", "8", "9"]


def test_best_of_prints_the_most_probable_completions_in_order(run: Callable[..., Ran]) -> None:
    flags = ("The lamp", *LENGTH, "--temperature", "2")
    out, err, _ = run(*flags, "--seed", "7", "--best-of", "4", "--n", "2")
    means = [float(mean) for mean in re.findall(r"mean log-probability (\S+)\]", err)]
    seeds = re.findall(r"seed (\d+) \|", err)
    assert len(means) == 2
    assert means == sorted(means, reverse=True)
    assert set(seeds) < {"7", "8", "9", "10"}
    assert out == "\n".join(run(*flags, "--seed", seed)[0] for seed in seeds)


def test_probabilities_come_as_a_table_on_standard_error(run: Callable[..., Ran]) -> None:
    flags = ("The lamp", *LENGTH, "--seed", "7", "--top-k", "1")
    out, err, _ = run(*flags, "--logprobs", "2")
    assert out == run(*flags)[0]
    head, *rows = itertools.takewhile(lambda line: line[0] != "[", err.splitlines())
    assert head.split() == ["token", "model", "controls", "rank", "alternatives"]
    assert len(rows) == 6
    for row in rows:
        assert re.fullmatch(
            r'".*" +\S+%  +100\.00%  +1  ".*" \S+% > 100\.00%, ".*" \S+% > top_k', row
        )


def test_a_prompt_can_be_scored_without_writing(run: Callable[..., Ran]) -> None:
    out, err, code = run("The lamp", "--echo", "--max-new-tokens", "0")
    assert (out, code) == ("", 0)
    assert err.splitlines()[0].split() == ["token", "model", "rank", "alternatives"]
    measures = re.search(
        r"\[(\d+) tokens of prompt \| sum (\S+) \| perplexity (\S+) \| \S+ bits per byte\]", err
    )
    assert measures is not None
    tokens, total, perplexity = map(float, measures.groups())
    assert perplexity == pytest.approx(math.exp(-total / (tokens - 1)), rel=1e-3)


def test_notes_about_the_prompt_are_printed(run: Callable[..., Ran]) -> None:
    assert "The text ends in a space" in run("The lamp ", *LENGTH)[1]
    healed = run("The lamp ", *LENGTH, "--token-healing")[1]
    assert "ends in a space" not in healed
    assert 'The last token, " ", was taken back' in healed
    long = "lamp " * 100 + "lamp"
    assert "tokens of the text were left out." in run(long, *LENGTH, "--truncate", "left")[1]


def test_control_characters_are_escaped_in_tables(run: Callable[..., Ran]) -> None:
    _, err, _ = run("a\x1b[31m\nb", "--echo", "--max-new-tokens", "0")
    assert "\x1b" not in err
    assert r"\x1b" in err
    assert r"\n" in err


def test_an_unknown_token_id_is_refused_in_a_sentence(run: Callable[..., Ran]) -> None:
    out, err, code = run("x", "--stop-token-ids", "99999")
    assert (out, code) == ("", 2)
    assert "token id 99999 is not in the vocabulary" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("is_text", [True, False], ids=["text", "messages"])
def test_a_full_disk_is_reported_and_costs_no_text(folder: Path, is_text: bool) -> None:
    options = ["--model", str(folder), "--max-new-tokens", "5", "--seed", "7"]
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "gptj_demo", "The lamp", *options],
            cwd=ROOT,
            stdout=full if is_text else subprocess.PIPE,
            stderr=subprocess.PIPE if is_text else full,
            text=True,
            timeout=240,
            check=False,
        )
    if is_text:
        assert ran.returncode == 1
        assert "Traceback" not in ran.stderr
        last = ran.stderr.splitlines()[-1]
        assert last == "The text cannot be written to standard output: No space left on device."
    else:
        assert ran.returncode == 0
        assert ran.stdout.strip()
