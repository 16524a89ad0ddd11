"""Plots and tables of the report, from figures by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt
from common import ROOT, cell

DOCS = ROOT / "docs"

COLOURS = {"ours": "#1b6e5a", "other": ("#b0632a", "#4a6fa5", "#8a8a8a", "#9c5b8f", "#c2a23a")}

Series = Mapping[str, Mapping[str, float]]  # by name and by x value


def plot(
    name: str, series: Series, across: str, value: str, *, log: bool = True, log_value: bool = False
) -> str:
    """Draw lines into docs/NAME.svg; returns Markdown that shows the picture."""
    # reproducible bytes
    with plt.rc_context({"svg.hashsalt": name, "font.size": 9, "svg.fonttype": "none"}):
        figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
        others = iter(COLOURS["other"] * 2)
        for label, values in series.items():
            ours = label.startswith("ours")
            points = sorted((float(x), y) for x, y in values.items())
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                label=label,
                color=COLOURS["ours"] if ours else next(others),
                linestyle="--" if ours and "alone" in label else "-",
                linewidth=2.2 if ours else 1.4,
                marker="o",
                markersize=4,
            )
        if log:
            axes.set_xscale("log", base=2)
        if log_value:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        ticks = sorted({float(x) for values in series.values() for x in values})
        axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
        axes.minorticks_off()
        axes.set_xlabel(across)
        axes.set_ylabel(value)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
        figure.savefig(DOCS / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)
    return f"![{value} by {across}]({name}.svg)\n"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    joined = (" | ".join(cell(one, missing="") for one in line) for line in lines)
    return "\n".join(f"| {line} |" for line in joined) + "\n"


def series_table(series: Series) -> str:
    columns = sorted({x for values in series.values() for x in values}, key=float)
    return table(
        ["", *columns], [[name, *(by.get(x) for x in columns)] for name, by in series.items()]
    )


def ratios_table(ratios: Mapping[str, float], title: str = "Ratios, ours / theirs") -> str:
    return f"{title}:\n\n" + table(["", "ratio"], list(ratios.items()))


def picked(by_name: Mapping[str, Mapping[str, Mapping[str, float]]], what: str) -> Series:
    """One of several measures, by name and count."""
    return {name: {n: by[what] for n, by in counts.items()} for name, counts in by_name.items()}
