#!/usr/bin/env python3
"""Write the table of controls in docs/decoding.md anew, from `gptj_demo/sampling.py`.

    python tools/controls_table.py

Replaces the text between the two HTML comments that mark the table. A test fails if the table is
out of date.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from gptj_demo.control import Control  # noqa: E402
from gptj_demo.control_values import write_value  # noqa: E402
from gptj_demo.sampling import CONTROL_ORDER, CONTROLS  # noqa: E402

PAGE = ROOT / "docs" / "decoding.md"
BEGIN = "<!-- controls: made by tools/controls_table.py -->"
END = "<!-- end of controls -->"


def make_table() -> str:
    """The order of the controls and a table of them all, in Markdown."""
    order = " → ".join(f"`{name}`" for name in CONTROL_ORDER)
    lines = [order, "", "| control | range, default | what it does |", "| --- | --- | --- |"]
    lines += [
        f"| `{one.name}` | {_range(one)} | {_cell(one.help)} {_cell(one.definition)} |"
        for one in CONTROLS
    ]
    return "\n".join(lines)


def _range(control: Control) -> str:
    if control.is_list:
        written = ", ".join(write_value(control, control.default).splitlines())
        default = f"`{written}`" if written else "none"
        return f"a list; {default}"
    if control.kind == "text":
        return "a text; empty"
    if control.kind == "flag":
        return "off"
    if control.choices:
        return " or ".join(control.choices) + f"; {control.default}"
    default = "empty" if control.default is None else f"{control.default:g}"
    return f"{control.minimum:g} to {control.maximum:.10g}; {default}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<").replace("**", "\\*\\*")


def with_table(page: str) -> str:
    """The page with an updated table."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{make_table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
