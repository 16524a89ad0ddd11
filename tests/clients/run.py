"""Run each client's script against a playground of its own: `make clients`.

    python -m tests.clients.run PYTHON...

Each `PYTHON` is the interpreter of an environment with some of the clients; a script runs with each
one that has its client. Exits 1 if a script fails or none of the interpreters has its client.
"""

from __future__ import annotations

import subprocess
import sys

from tests.api.conftest import Playground
from tests.processes import ROOT

SCRIPTS = {
    "openai_client.py": "openai",
    "langchain_client.py": "langchain_openai",
    "litellm_client.py": "litellm",
    "llm_client.py": "llm",
}
"""Each script, and the module of its client."""
FOLDER = ROOT / "tests" / "clients" / "scripts"
SECONDS = 300


def main() -> None:
    failed = []
    playground = Playground()
    try:
        playground.wait_until_ready()
        for script, module in SCRIPTS.items():
            pythons = [python for python in sys.argv[1:] if has(python, module)]
            ran = [run(python, script, playground.url) for python in pythons]
            if not ran or not all(ran):
                failed.append(script)
    finally:
        playground.stop()
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def has(python: str, module: str) -> bool:
    """Whether an environment has a module."""
    find = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", find]).returncode == 0


def run(python: str, script: str, url: str) -> bool:
    """Whether a script succeeds; prints the version of its client, or what it wrote."""
    ran = subprocess.run(
        [python, str(FOLDER / script), url], capture_output=True, text=True, timeout=SECONDS
    )
    said = ran.stdout.strip().splitlines()[-1:] if ran.returncode == 0 else [ran.stderr[-2000:]]
    print(f"{script}: {'ok, version' if ran.returncode == 0 else 'failed:'} {' '.join(said)}")
    return ran.returncode == 0


if __name__ == "__main__":
    main()
