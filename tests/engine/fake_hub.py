"""A model hub on loopback: the part of huggingface.co that finds and serves files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants


class FakeHub:
    """Serves folders as revisions of repositories, and records the requests."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self._server = server
        self.repositories: dict[str, dict[str, Path]] = {}
        self.requests: list[str] = []

    def publish(self, repository: str, revision: str, folder: Path) -> None:
        self.repositories.setdefault(repository, {})[revision] = folder

    @property
    def fetched(self) -> set[str]:
        """`commit/file` of every file whose bytes were sent."""
        return {
            line.split("/resolve/")[1]
            for line in self.requests
            if line.startswith("GET /") and "/resolve/" in line
        }

    def disconnect(self) -> None:
        """Stop answering at the hub's address."""
        self._server.shutdown()
        self._server.server_close()


def commit_of(repository: str, revision: str) -> str:
    """The commit a revision points at."""
    return hashlib.sha1(f"{repository}@{revision}".encode()).hexdigest()


@contextmanager
def serve_hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A running hub that `huggingface_hub` takes for the real one, with a cache of its own."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None: ...

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, with_body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            status, headers, body = _respond(hub, path)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub = FakeHub(server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    try:
        yield hub
    finally:
        hub.disconnect()
        thread.join()


def _respond(hub: FakeHub, path: str) -> tuple[int, dict[str, str], bytes]:
    parts = path.strip("/").split("/")
    if parts[:2] == ["api", "models"]:
        repository, rest = "/".join(parts[2:4]), parts[4:]
    else:
        repository, rest = "/".join(parts[:2]), parts[2:]
    revisions = hub.repositories.get(repository)
    if revisions is None:
        return 404, {"X-Error-Code": "RepoNotFound"}, b""
    asked = rest[1] if len(rest) > 1 else "main"
    found = [name for name in revisions if asked in (name, commit_of(repository, name))]
    if not found:
        return 404, {"X-Error-Code": "RevisionNotFound"}, b""
    folder, commit = revisions[found[0]], commit_of(repository, found[0])
    if rest[0] == "resolve":
        file = folder / "/".join(rest[2:])
        if not file.is_file():
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        body = file.read_bytes()
        headers = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": commit}
        return 200, headers, body
    if rest[0] == "tree":
        files = sorted(file for file in folder.iterdir() if file.is_file())
        return _json([_tree_entry(file) for file in files])
    return _json({"id": repository, "modelId": repository, "sha": commit, "siblings": []})


def _tree_entry(file: Path) -> dict[str, Any]:
    body = file.read_bytes()
    oid = hashlib.sha1(body).hexdigest()
    return {"type": "file", "path": file.name, "size": len(body), "oid": oid}


def _json(value: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()
