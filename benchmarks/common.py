"""Shared by all benchmarks: flags, the machine, tables, statistics, results.

A benchmark with peers alternates between the playground and them, for several rounds, on the same
checkpoint, and takes medians; the report names the exceptions. Each prints a table, the machine
with its versions, and one line of JSON last. `--save` stores that line in a folder of
`benchmarks/results/` for the processor. `report.py` makes docs/benchmarks.md from these folders.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SAMPLE_MODEL = ROOT / "assets" / "sample-model"
RESULTS = ROOT / "benchmarks" / "results"
POLL_SECONDS = 0.005
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
START_SECONDS = 300.0
NEVER = -1e4
"""A bias so low that a token is never sampled, within the range of float16."""

TEMPERATURE, TOP_P = 0.8, 0.95
"""The page's defaults, used by all contenders unless stated otherwise."""


# ---- command line, machine, results


class _Parser(argparse.ArgumentParser):
    """Refuses `--save` beside any other flag, since a trial would replace a complete result."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        arguments = super().parse_args(args, namespace)
        if getattr(arguments, "save", False):
            changed = [
                "--" + name.replace("_", "-")
                for name, value in vars(arguments).items()
                if name != "save" and value != self.get_default(name)
            ]
            if changed:
                self.error(
                    f"--save keeps complete results only, and {', '.join(changed)} changes what is "
                    "measured: leave out one or the other"
                )
        return arguments


def make_parser(
    description: str | None, rounds: int | None = 3, *, saves: bool = True
) -> argparse.ArgumentParser:
    """The flags of benchmarks; `description` is the module's docstring.

    `rounds` is None for a benchmark without rounds; `saves` is for those that the report has.
    """
    parser = _Parser(description=(description or "").split("\n", 1)[0])
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds, help=f"default {rounds}")
    if saves:
        help_ = "keep the JSON for the report; with no other flag"
        parser.add_argument("--save", action="store_true", help=help_)
    return parser


def describe_machine(*packages: str) -> dict[str, Any]:
    """Processor, cores, memory, date, commit, and the versions of Python and `packages`."""
    versions = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "processor": _processor(),
        "cores": CORES,
        "memory GB": round(psutil.virtual_memory().total / 1e9, 1),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "python": platform.python_version(),
        **versions,
    }


def _processor() -> str:
    described = subprocess.run(["lscpu"], capture_output=True, text=True, check=False).stdout
    names = [line.split(":")[1].strip() for line in described.splitlines() if "Model name" in line]
    return names[0] if names else platform.processor()


def folder_name(processor: str) -> str:
    """The folder for a processor's results: intel-xeon for "Intel(R) Xeon(R) Processor"."""
    words = re.sub(r"\((r|tm)\)|\b(processor|cpu)\b|@.*", " ", processor.lower())
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-") or "unknown"


def _commit() -> str:
    def git(*words: str) -> str:
        asked = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return asked.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "gptj_demo", "app.py")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if changed else "")


def finish(
    name: str, figures: Mapping[str, Any], machine: Mapping[str, Any], *, save: bool = False
) -> None:
    """Print the machine, then the result as one line of JSON; store it with `--save`."""
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.items()))
    line = json.dumps({"benchmark": name, "figures": figures, "machine": machine})
    if save:
        folder = RESULTS / folder_name(machine["processor"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(line + "\n", encoding="utf-8")
    print(line)


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Rows under a header, columns aligned, numbers rounded."""
    cells = [list(header), *([cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    print(f"\n{title}")
    for row in cells:
        first, *others = [
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join([first, *others]))


def print_ratios(title: str, measured: Mapping[str, Sequence[float]], base: str) -> dict[str, Any]:
    """Print and return medians in ms, and ratios to `base`; `measured` has seconds by round."""
    ratios = {
        name: median([one / plain for one, plain in zip(values, measured[base], strict=True)])
        for name, values in measured.items()
    }
    rows = [(name, median(measured[name]) * 1000, ratios[name]) for name in measured]
    print_table(title, ("", "ms", "ratio"), rows)
    return {name: {"ms": round(ms, 3), "ratio": round(r, 3)} for name, ms, r in rows}


def rounded(value: Any) -> Any:
    """A figure, or figures by name, with three places."""
    if isinstance(value, Mapping):
        return {name: rounded(part) for name, part in value.items()}
    return round(value, 3) if isinstance(value, float) else value


def cell(value: object, missing: str = "-") -> str:
    """A value as a table shows it."""
    if value is None:
        return missing
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def note(text: str) -> None:
    """Print what is being measured to standard error."""
    print(text, file=sys.stderr, flush=True)


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """The `percent` percentile of `values`."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def wait_for(condition: Callable[[], Any], every: float = POLL_SECONDS) -> float:
    """Seconds until `condition` holds, checked every `every` seconds."""
    begin = time.perf_counter()
    while not condition():
        if time.perf_counter() - begin > START_SECONDS:
            raise SystemExit(f"timed out after {START_SECONDS:.0f} s")
        time.sleep(every)
    return time.perf_counter() - begin
