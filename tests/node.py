"""Runs the page's modules without a browser, with the node that Playwright brings."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from playwright._impl._driver import compute_driver_executable

ROOT = Path(__file__).resolve().parent.parent
CALL = """
import { readFileSync } from "node:fs";
const { [process.argv[2]]: called } = await import(process.argv[1]);
const answer = await called(...JSON.parse(readFileSync(0, "utf8")));
process.stdout.write(JSON.stringify(answer) ?? "null");
"""


def node(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run node in the repository's root."""
    executable = compute_driver_executable()[0]
    return subprocess.run(
        [executable, *arguments],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
    )


def call(module: str, function: str, *arguments: Any) -> Any:
    """What an exported function of a module of `assets/` returns."""
    address = (ROOT / "assets" / module).as_uri()
    ended = node("--input-type=module", "-e", CALL, address, function, stdin=json.dumps(arguments))
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)
