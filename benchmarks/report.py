#!/usr/bin/env python3
"""Makes docs/benchmarks.md and its plots from the saved results of the benchmarks.

    python benchmarks/report.py

Reads `benchmarks/results/*/*.json`, which `--save` writes, in one folder for each processor. For
each benchmark, all figures of the first processor are shown, then the ratios of the others. Missing
benchmarks are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from common import RESULTS, ROOT
from report_parts import DOCS, picked, plot, ratios_table, series_table, table

PAGE = DOCS / "benchmarks.md"

UPDATES = {
    "longest silence ms, median": ", the longest time between two updates of a request",
    "gap ms, median": ". Over HTTP an arrival is an update, with one token or several; elsewhere "
    "it is a token, and several can arrive at once",
}
WAYS = ("inverse CDF", "Gumbel-max")  # to draw a token

INTRODUCTION = """# Benchmarks

Made by `make bench` from its measurements in `benchmarks/results/`. A benchmark with peers
alternates between the playground and them, in one run, on the same checkpoint. The exceptions are
CTranslate2 in serving and transformers at the size of GPT-J 6B, which run after the others. Figures
are medians unless their row says otherwise. Absolute figures depend on the machine, so compare the
ratios. The machine is named below each benchmark's figures. If there are results of several
processors, all figures of the first one are shown, but only the ratios of the others. The
end-of-text token of the sample model is disabled, so each output has the requested length. OpenVINO
GenAI has its own environment, built by `make bench` or by `make .venv/openvino.done`. Without it,
this peer is left out.
"""


def decode(figures: Mapping[str, Any]) -> str:
    rates, page_rates = figures["tokens a second"], figures["tokens a second, page's defaults"]
    parts = [
        "## Decoding, sample model\n",
        "Tokens a second of all streams together, by the number of streams. Prompts have 32 "
        "tokens, whose prefill is part of the time; temperature is the only control. OpenVINO "
        "GenAI batches continuously, the other peers statically.\n",
        plot("decode", rates, "streams", "tokens a second"),
        series_table(rates),
        "With the page's defaults, which have top-p 0.95:\n",
        series_table(page_rates),
    ]
    for rows, by_contender in figures["step ms by rows and context"].items():
        number = "One row" if rows == "1" else f"{rows} rows"
        parts += [
            f"{number}: milliseconds of a decode step, by context length in tokens.\n",
            plot(f"decode-context-{rows}", by_contender, "tokens", "ms a step", log=False),
            series_table(by_contender),
        ]
        if threads := figures.get("step threads by rows and context", {}).get(rows):
            parts += ["Threads of each peer, its fastest number:\n", series_table(threads)]
        else:  # results from before each peer had its fastest number
            parts.append("Here CTranslate2 and OpenVINO had one thread a core.\n")
    parts += [
        "Microseconds per token at one stream:\n",
        table(["part", "µs"], list(figures["microseconds a token"].items())),
        "First token of a long prompt, and of its continued text:\n",
        table(["", "value"], list(figures["continue"].items())),
        ratios_table(figures["ratios"]),
    ]
    return "\n".join(parts)


def serving(figures: Mapping[str, Any]) -> str:
    by_clients = figures["by clients"]
    rates = dict(picked(by_clients, "tokens a second"))
    parts = [
        "## Serving, sample model\n",
        "Clients arrive at random; prompts of 20 to 400 tokens, outputs of 20 to 200. CTranslate2, "
        "which has no server, gets no arrivals and no mixed lengths: it generates one batch of "
        "requests of the mean lengths, one for each client, after the others have run.\n",
        plot("serving", rates, "clients", "tokens a second"),
        series_table({**rates, **figures["static batch, tokens a second"]}),
    ]
    measures = next(iter(next(iter(by_clients.values())).values()))
    for what in measures:
        if what == "tokens a second":
            continue
        # results saved before the longest silence was measured
        title = what.replace("gap ms", "time between arrivals ms")
        parts.append(f"{title[0].upper()}{title[1:]}{UPDATES.get(what, '')}:\n")
        if what == "first token ms, p95":
            shown = picked(by_clients, what)
            parts.append(plot("serving-first", shown, "clients", what, log_value=True))
        parts.append(series_table(picked(by_clients, what)))
    return "\n".join([*parts, ratios_table(figures["ratios"])])


def visitors(figures: Mapping[str, Any]) -> str:
    by_visitors = figures["by visitors"]
    words = "words a second, all"
    parts = [
        "## Visitors, sample model\n",
        "All visitors at once through the page's API with gradio_client; measured in the clients. "
        "The usual Space is a Gradio function over `generate` of transformers and a streamer: with "
        "Gradio's default of one visitor at a time, and without that limit. "
        + ("" if figures.get("in turns") else "Here the sites were measured one after another.")
        + "\n",
        plot("visitors", picked(by_visitors, words), "visitors", "words a second"),
    ]
    for what in by_visitors["ours"].get("1", ()):
        parts += [f"{what[0].upper()}{what[1:]}:\n", series_table(picked(by_visitors, what))]
    return "\n".join([*parts, ratios_table(figures["ratios"])])


def _by_contender(by_contender: Mapping[str, Mapping[str, Any]]) -> str:
    names = list(by_contender)
    whats = dict.fromkeys(what for by in by_contender.values() for what in by)
    rows: list[list[object]] = []
    for what in whats:
        values = [by_contender[name].get(what) for name in names]
        found = next(value for value in values if value is not None)
        if isinstance(found, dict):
            rows += [
                [f"{what}, {count} streams", *(None if v is None else v.get(count) for v in values)]
                for count in found
            ]
        else:
            rows.append([what, *values])
    return table(["", *names], rows)


def real_size(figures: Mapping[str, Any]) -> str:
    by_contender = figures["by contender"]
    rates = {name: by["tokens a second"] for name, by in by_contender.items()}
    return "\n".join(
        [
            "## GPT-J 6B on a CPU\n",
            f"Random weights, {figures['layers']} layers, loaded from float16 checkpoints in "
            "safetensors and .bin files. The processor reads memory at "
            f"{figures['bandwidth GB a second']} GB a second. Our engine and OpenVINO took turns; "
            "transformers was measured afterwards, one precision after the other. Peak memory is "
            "the anonymous memory of the process, without the page cache.\n",
            plot("real-size", rates, "streams", "tokens a second"),
            _by_contender(by_contender),
            ratios_table(figures["ratios"]),
        ]
    )


def gpu(figures: Mapping[str, Any]) -> str:
    by_contender = figures["by contender"]
    rates = {name: by["tokens a second"] for name, by in by_contender.items()}
    return "\n".join(
        [
            "## GPT-J 6B on a GPU\n",
            f"Random weights. Memory is copied at {figures['bandwidth GB a second']:,} GB a second."
            f" The run took {figures['seconds']} s.\n",
            plot("gpu", rates, "streams", "tokens a second"),
            _by_contender(by_contender),
            table(["target", "value"], list(figures["checks"].items())),
        ]
    )


def loading(figures: Mapping[str, Any]) -> str:
    rows: list[list[object]] = []
    for one in figures["measured"]:
        planned, loaded, peak = (one[what] / 1e6 for what in ("stays", "grown", "peak"))
        peak = max(peak, loaded)  # older results can miss the last moments of loading
        rows.append([f"{one['stored']}, {one['layout']}", planned, loaded, peak, peak / loaded])
    return "\n".join(
        [
            "## Loading in int8\n",
            "Anonymous memory in MB while loading a model of 1 GB in float16, by stored precision "
            f"and layout. The limit of the peak is {figures['limit']} times the loaded model.\n",
            table(["stored", "planned", "loaded", "peak", "peak / loaded"], rows),
        ]
    )


def start(figures: Mapping[str, Any]) -> str:
    return "\n".join(
        [
            "## Start, sample model\n",
            "Seconds from the command until the page answers, until the model is ready, and until "
            "the first words of a text requested as soon as the page answers.\n",
            _by_contender(figures["seconds"]),
            ratios_table(figures["ratios"]),
        ]
    )


def api(figures: Mapping[str, Any]) -> str:
    rates = figures["tokens a second"]
    waits = {name: value for name, value in figures.items() if name.startswith("first words")}
    return "\n".join(
        [
            "## The API, sample model\n",
            f"Tokens a second of {figures['streams']} clients that each send one request after "
            "another, over the worker's interface and over HTTP:\n",
            table(
                ["over", "tokens a second", "of the worker's"],
                [[name, rate, rate / rates["worker"]] for name, rate in rates.items()],
            ),
            f"A visitor of the page, alone and while a caller has {figures['queued']} requests in "
            "the queue:\n",
            table(["", "ms"], [[name.replace(" ms", ""), ms] for name, ms in waits.items()]),
        ]
    )


def ratios(measured: Mapping[str, Mapping[str, float]]) -> str:
    rows = [[name, by["ms"], by["ratio"]] for name, by in measured.items()]
    return table(["", "ms", "ratio"], rows)


def guidance(figures: Mapping[str, Any]) -> str:
    return "\n".join(
        [
            "## Texts that must match, sample model\n",
            "A decode step of 16 rows, by what all of them must match:\n",
            ratios(figures["step"]),
            "From a request alone, with a grammar that is new, to its first token:\n",
            ratios(figures["first_token"]),
        ]
    )


def speculation(figures: Mapping[str, Any]) -> str:
    parts = ["## Speculation\n"]
    if real := figures.get("int8 at real layer sizes"):
        speeds, drafted = real["speed, relative"], real["drafted a pass"]
        title = (
            f"One stream in int8, with {figures['layers']} of GPT-J 6B's 28 layers and random "
            "weights. A simulated drafter proposes the known text. Acceptance is the "
            "probability that a drafted token is right. "
        )
        rows = [[chance, drafted[chance], speed] for chance, speed in speeds.items()]
        parts.append(title + "Speed without drafts is 1:\n")
        parts.append(table(["acceptance", "drafted a pass", "speed"], rows))
    if sample := figures.get("sample model, prompt lookup"):
        parts += [
            "Sample model with prompt lookup, whose drafts are real; speed without drafts is 1. "
            f"One more token costs {sample['row cost']:.2f} of a pass of one. In int8 at the sizes "
            "of 6B it costs about 0.05. The last column is computed for that, from the same "
            "texts:\n",
            table(
                ["text", "speed", "computed for 6B"],
                [[text, *both.values()] for text, both in sample["texts"].items()],
            ),
            "Prose:\n",
            table(["streams", "speed"], list(sample["prose"].items())),
        ]
    if draft := figures.get("sample model, draft model"):
        parts += [
            "Sample model with a draft model. Speed is relative to no drafts, with the default "
            "settings. The share of correct tokens is measured with drafts in each pass:\n",
            table(["", "figure"], list(draft.items())),
        ]
    return "\n".join(parts)


def controls(figures: Mapping[str, Any]) -> str:
    return "\n".join(
        [
            "## Controls, sample model\n",
            "A decode step of all rows, by the controls they use:\n",
            ratios(figures["step"]),
            "From a prompt of 400 tokens to the first token of all completions:\n",
            ratios(figures["first_tokens"]),
        ]
    )


def draws(figures: Mapping[str, Any]) -> str:
    header = ["logits changed by", "overlap", "inverse CDF, before", "Gumbel-max, now"]
    rows = [
        [name, by["overlap"], by["inverse CDF, all"], by["Gumbel-max, all"]]
        for name, by in figures["kept"].items()
    ]
    some = [
        [name, by["could change"], *(by[f"{way}, of those that could change"] for way in WAYS)]
        for name, by in figures["kept"].items()
    ]
    return "\n".join(
        [
            "## Draws under changed logits, sample model\n",
            "Share of draws that keep their token when noise is added to the logits, before and "
            "after tokens were drawn by Gumbel-max. The overlap of the two distributions is the "
            f"upper bound for any way to draw. {figures['positions']:,} positions, "
            f"{figures['seeds']} seeds:\n",
            table(header, rows),
            "Among draws that at least one method changes:\n",
            table([header[0], "share of draws", *header[2:]], some),
        ]
    )


def page(figures: Mapping[str, Any]) -> str:
    return "\n".join(
        [
            "## The page in a browser, sample model\n",
            "Waiting times in seconds, by a clock in the browser. Rows that end with ms are in "
            "milliseconds; two rows are counts.\n",
            table(["", "s"], list(figures.items())),
        ]
    )


def grid(figures: Mapping[str, Any]) -> str:
    return "\n".join(
        [
            "## A comparison's cells at once, sample model\n",
            "The grid of the Compare view through the page's API, and the same cells one after "
            "another; the texts are equal.\n",
            table(["", ""], list(figures.items())),
        ]
    )


def prefixes(figures: Mapping[str, Any]) -> str:
    shared, apart, ratios = (figures[key] for key in ("prefix shared", "prefix apart", "ratios"))
    rows = [[key, shared[key], apart[key], ratios[key]] for key in shared]
    return "\n".join(
        [
            "## Prompts that begin alike, sample model\n",
            f"{figures['clients']} requests at once, each with a prefix of "
            f"{figures['prefix tokens']} tokens: the same one, or each its own. Memory is what the "
            "process grows by.\n",
            table(["", "the same", "its own", "its own / the same"], rows),
        ]
    )


SECTIONS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "decode": decode,
    "serving": serving,
    "visitors": visitors,
    "api": api,
    "controls": controls,
    "guidance": guidance,
    "speculation": speculation,
    "draws": draws,
    "real_size": real_size,
    "gpu": gpu,
    "loading": loading,
    "start": start,
    "page": page,
    "grid": grid,
    "prefixes": prefixes,
}


def measured_on(result: Mapping[str, Any]) -> str:
    machine = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    return f"Measured on: {machine}.\n"


def results_of(name: str) -> list[dict[str, Any]]:
    """The results of a benchmark, one for each processor, in the order of their folders."""
    return [
        json.loads(file.read_text(encoding="utf-8"))
        for file in sorted(RESULTS.glob(f"*/{name}.json"))
    ]


def main() -> None:
    DOCS.mkdir(exist_ok=True)
    parts = [INTRODUCTION]
    shown = 0
    for name, section in SECTIONS.items():
        for number, result in enumerate(results_of(name)):
            figures = result["figures"]
            if number == 0:
                parts.append(section(figures))
                shown += 1
            elif "ratios" in figures:
                parts.append(ratios_table(figures["ratios"], "On another processor, ours / theirs"))
            else:
                continue
            parts.append(measured_on(result))
    PAGE.write_text("\n".join(parts), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {shown} benchmarks")


if __name__ == "__main__":
    main()
