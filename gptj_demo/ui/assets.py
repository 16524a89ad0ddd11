"""The page's files: markup, styles and data to build it, scripts and texts to serve.

The URL of each served file contains a hash of all of them. So browsers may cache the files for
good, and an update takes effect at once.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from gptj_demo.texts import catalogue, languages
from gptj_demo.ui.bundle import bundle
from gptj_demo.web.guard import NOTHING_HERE
from gptj_demo.web.surface import refusal

ASSETS = Path(__file__).resolve().parent.parent.parent / "assets"
FOLDERS = ("core", "components", "views")
MODULES = "modules.js"
"""The file with all ES modules."""
MEDIA_TYPES = {".js": "text/javascript; charset=utf-8", ".json": "application/json"}
ROUTE = "/page"  # Gradio's own files are at /assets
FOR_GOOD = "public, max-age=31536000, immutable"


def read_asset(name: str) -> str:
    """The text of one file of `assets/`."""
    return (ASSETS / name).read_text(encoding="utf-8")


def read_styles() -> str:
    """All styles: those of the whole page first, then those of components and views."""
    styles = (path for folder in FOLDERS for path in sorted((ASSETS / folder).rglob("*.css")))
    return "\n".join(path.read_text(encoding="utf-8") for path in (ASSETS / "page.css", *styles))


def read_modules() -> dict[str, str]:
    """The sources of all ES modules, by their path in `assets/`."""
    found = (path for folder in FOLDERS for path in (ASSETS / folder).rglob("*.js"))
    return {path.relative_to(ASSETS).as_posix(): path.read_text(encoding="utf-8") for path in found}


@cache
def served_files() -> Mapping[str, bytes]:
    """The contents of all files that the page loads, by name."""
    texts = {f"texts/{name}.json": read_asset(f"texts/{name}.json") for name in languages()}
    files = {MODULES: bundle(read_modules()), **texts}
    return {name: text.encode() for name, text in files.items()}


@cache
def version() -> str:
    """A short hash of the names and contents of all served files."""
    digest = hashlib.sha256()
    for name, content in served_files().items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]


def boot_script(views: Sequence[str]) -> str:
    """The script in the page's head that loads the modules; `views` are the names of all views."""
    config = {
        "base": f"{ROUTE}/{version()}/",
        "views": list(views),
        "languages": {name: _describe_language(name) for name in languages()},
    }
    return read_asset("boot.js").replace("CONFIG;", f"{json.dumps(config)};")


def _describe_language(name: str) -> dict[str, Any]:
    """What the boot script needs of a language before its texts are loaded."""
    texts = catalogue(name)
    return {
        "name": texts["language.name"],
        "direction": texts["language.direction"],
        "failed": texts["page.not_loaded"],
    }


def serve_assets(app: FastAPI) -> None:
    """Add the route of the page's files. It needs no login, as Gradio's own files do not."""

    @cache
    def packed(path: str) -> bytes:
        return gzip.compress(served_files()[path], mtime=0)

    async def asset(request: Request, asked_version: str, path: str) -> Response:
        content = served_files().get(path)
        if content is None:
            return refusal(404, NOTHING_HERE)
        # a page opened before an update may request files of the old version
        is_current = asked_version == version()
        headers = {
            "Cache-Control": FOR_GOOD if is_current else "no-store",
            "Vary": "Accept-Encoding",
        }
        if "gzip" in request.headers.get("accept-encoding", ""):
            content = packed(path)
            headers["Content-Encoding"] = "gzip"
        return Response(content, headers=headers, media_type=MEDIA_TYPES[Path(path).suffix])

    route: dict[str, Any] = {"methods": ["GET", "HEAD"], "include_in_schema": False}
    app.add_api_route(f"{ROUTE}/{{asked_version}}/{{path:path}}", asset, **route)
