"""Gradio's scripts, styles and fonts, compressed once and kept by browsers.

Gradio itself reads and compresses each file again for every request, and sends no Cache-Control.
The names of the files contain a hash of their contents, so browsers may cache them for good.
"""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from gradio.route_utils import BUILD_PATH_LIB
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from gptj_demo.ui.assets import FOR_GOOD
from gptj_demo.web.guard import NOTHING_HERE
from gptj_demo.web.surface import refusal

ROUTE = "/assets"  # Gradio's
MEDIA_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".ttf": "font/ttf",
}
COMPRESSED = (".js", ".css", ".svg", ".ttf")


def serve_gradio_assets(app: FastAPI) -> None:
    """Add the route of Gradio's files, before Gradio's own route. It needs no login."""
    files = {path.name: path for path in Path(BUILD_PATH_LIB).iterdir() if path.is_file()}

    @cache  # at most all of Gradio's files, 6 MB
    def packed(name: str) -> bytes:
        return gzip.compress(files[name].read_bytes(), mtime=0)

    async def asset(request: Request, name: str) -> Response:
        if name not in files:
            return refusal(404, NOTHING_HERE)
        suffix = files[name].suffix
        headers = {"Cache-Control": FOR_GOOD, "Vary": "Accept-Encoding"}
        media_type = MEDIA_TYPES.get(suffix)
        if suffix in COMPRESSED and "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            return Response(packed(name), headers=headers, media_type=media_type)
        return FileResponse(files[name], headers=headers, media_type=media_type)

    route: dict[str, Any] = {"methods": ["GET", "HEAD"], "include_in_schema": False}
    app.add_api_route(f"{ROUTE}/{{name}}", asset, **route)
