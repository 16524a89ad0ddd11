"""Run each client's script against a playground of its own: `make clients`.

    python -m tests.clients.run FOLDER

Each folder in `FOLDER` is an environment that `make clients` has built; a script runs in each one
that has its client. Exits 1 if a script fails or no environment has its client. The clients of npm
are skipped where their registry could not be reached.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.api.conftest import Playground
from tests.clients import javascript
from tests.clients.outcome import Outcome
from tests.processes import ROOT, free_port

PYTHON = {
    "openai_client.py": "openai",
    "langchain_client.py": "langchain_openai",
    "litellm_client.py": "litellm",
    "llm_client.py": "llm",
    "inspect_client.py": "inspect_ai",
    "llama_index_client.py": "llama_index.llms.openai_like",
    "guidellm_client.py": "guidellm",
}
"""Each script, and the module of its client."""
SCRIPTS = ROOT / "tests" / "clients" / "scripts"
JAVASCRIPT = sorted(SCRIPTS.glob("*.mjs"))
SECONDS = 300


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    port = free_port()  # of the other site
    failed = []
    playground = Playground("--cors-origins", f"http://127.0.0.1:{port}")
    try:
        playground.wait_until_ready()
        for name, outcome in outcomes(folder, playground.url, port):
            print(f"{name}: {'ok,' if outcome.succeeded else 'failed:'} {outcome.said}", flush=True)
            if not outcome.succeeded:
                failed.append(name)
    finally:
        playground.stop()
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def outcomes(folder: Path, url: str, port: int) -> Iterator[tuple[str, Outcome]]:
    """The outcome of each client, by name, as they end."""
    pythons = sorted(folder.glob("*/bin/python"))
    for script, module in PYTHON.items():
        able = [python for python in pythons if has(python, module)]
        if not able:
            yield script, Outcome(False, f"no environment has {module}")
        for python in able:
            yield script, in_python(python, script, url)
    npm, promptfoo = folder / "npm", folder / "promptfoo"
    if (npm / "node_modules").is_dir():
        for path in JAVASCRIPT:
            yield f"{path.name} in node", javascript.in_node(path, url, npm)
            yield f"{path.name} in Chromium", javascript.in_chromium(path, url, npm, port)
    if (promptfoo / "node_modules").is_dir():
        yield "promptfoo", javascript.promptfoo(url, promptfoo)


def has(python: Path, module: str) -> bool:
    """Whether an environment has a module."""
    find = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", find], stderr=subprocess.DEVNULL).returncode == 0


def in_python(python: Path, script: str, url: str) -> Outcome:
    """Run a script in an environment."""
    ran = subprocess.run(
        [python, SCRIPTS / script, url], capture_output=True, text=True, timeout=SECONDS
    )
    return Outcome.of(ran)


if __name__ == "__main__":
    main()
