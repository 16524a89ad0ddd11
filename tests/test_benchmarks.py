"""The flags and helpers of benchmarks, and the report of older results."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import ROOT


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports a module of `benchmarks/`, and forgets it at the end."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield import_module
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(ROOT / "benchmarks")):
            del sys.modules[name]


def parser_with_flags(load: Any) -> Any:
    parser = load("common").make_parser("A benchmark.")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only-a-part", action="store_true")
    return parser


@pytest.mark.parametrize(
    "flags", [["--rounds", "1"], ["--streams", "1"], ["--only-a-part"]], ids=lambda flags: flags[0]
)
def test_a_trial_is_not_saved(
    load: Any, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    parser = parser_with_flags(load)
    with pytest.raises(SystemExit):
        parser.parse_args(["--save", *flags])
    assert f"{flags[0]} changes what is measured" in capsys.readouterr().err
    assert not parser.parse_args(flags).save


def test_a_complete_run_is_saved(load: Any) -> None:
    parser = parser_with_flags(load)
    assert parser.parse_args(["--save"]).save
    assert parser.parse_args(["--save", "--streams", "1", "2"]).save


@pytest.mark.parametrize(
    ("processor", "name"),
    [
        ("AMD EPYC", "amd-epyc"),
        ("Intel(R) Xeon(R) Processor", "intel-xeon"),
        ("Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz", "intel-xeon-platinum-8370c"),
        ("", "unknown"),
    ],
)
def test_results_lie_in_a_folder_for_the_processor(load: Any, processor: str, name: str) -> None:
    assert load("common").folder_name(processor) == name


def test_the_report_shows_one_processor_in_full_and_the_ratios_of_the_others(
    load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    common, report = load("common"), load("report")
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(report, "DOCS", tmp_path)
    monkeypatch.setattr(report, "PAGE", tmp_path / "benchmarks.md")
    for processor, ratio in (("B chip", 1.5), ("A chip", 2.5)):
        seconds = {"ours": {"page": 3.0 * ratio}}
        figures = {"seconds": seconds, "ratios": {"page s / the usual Space": ratio}}
        common.finish("start", figures, {"processor": processor}, save=True)
    report.main()
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    in_full, other = page.split("On another processor, ours / theirs:")
    assert "| page | 7.5 |" in in_full
    assert "Measured on: processor A chip." in in_full
    assert "| page s / the usual Space | 1.5 |" in other
    assert "Measured on: processor B chip." in other
    assert "| page |" not in other


@pytest.mark.parametrize(
    ("measure", "title"),
    [
        ("gap ms", "Time between arrivals ms, p95:"),
        ("longest silence ms", "Longest silence ms, p95:"),
    ],
)
def test_the_report_names_what_serving_measured(
    load: Any, monkeypatch: pytest.MonkeyPatch, measure: str, title: str
) -> None:
    pytest.importorskip("matplotlib")
    report = load("report")
    monkeypatch.setattr(report, "plot", lambda *_, **__: "")
    measures = {"tokens a second": 9.0, "first token ms, p95": 8.0, f"{measure}, p95": 7.0}
    section = report.serving(
        {
            "by clients": {"ours": {"1": measures}},
            "static batch, tokens a second": {},
            "ratios": {},
        }
    )
    assert title in section.splitlines()
    assert "| ours | 7 |" in section


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_anonymous_memory_counts_what_a_process_allocates(load: Any) -> None:
    read = load("programs").anonymous_memory
    # A process of its own: this one also frees what other tests allocated.
    program = "import sys; print(flush=True); sys.stdin.readline();"
    program += "held = b'x' * 50_000_000; print(flush=True); sys.stdin.readline()"
    command = [sys.executable, "-c", program]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "\n"
        before = read(child.pid)
        child.stdin.write("\n")
        assert child.stdout.readline() == "\n"
        assert 45e6 < read(child.pid) - before < 100e6
        child.stdin.write("\n")
    assert read(child.pid) == 0  # it has ended


def test_loading_compares_the_peak_with_the_measured_memory(load: Any) -> None:
    pytest.importorskip("matplotlib")
    one = {"stored": "float16", "layout": "bin", "stays": 5e6, "grown": 8e6, "peak": 12e6}
    section = load("report").loading({"limit": 1.35, "measured": [one]})
    assert "| float16, bin | 5 | 8 | 12 | 1.5 |" in section


def test_serving_leaves_out_a_peer_that_stops_answering(load: Any) -> None:
    pytest.importorskip("ctranslate2")
    serving = load("serving")

    async def answer(request: Any) -> Any:
        return serving.Answer(request.new_tokens, first=0.001, silence=0.0)

    async def stop(request: Any) -> Any:
        if request.new_tokens > 1:
            raise httpx.ReadTimeout("no byte")
        return await answer(request)

    def clients(new_tokens: int) -> list[Any]:
        return [serving.Client(0.0, [serving.Request("", new_tokens, seed=0)])]

    rounds = {(1, 0): clients(1), (2, 0): clients(2), (3, 0): clients(1)}
    askers = {serving.WORKER: answer, serving.SERVE_BATCHING: stop}
    figures = asyncio.run(serving.measure(askers, rounds, clients(1)))
    assert list(figures[serving.WORKER]) == ["1", "2", "3"]
    assert list(figures[serving.SERVE_BATCHING]) == ["1"]
    with pytest.raises(SystemExit, match="ours, over HTTP stopped answering"):
        asyncio.run(serving.measure({serving.HTTP: stop}, rounds, clients(1)))
