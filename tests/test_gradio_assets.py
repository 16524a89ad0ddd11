"""How Gradio's own files are served: compressed once, kept by browsers, and nothing beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI
from gradio.route_utils import BUILD_PATH_LIB
from starlette.testclient import TestClient

from gptj_demo.ui.gradio_assets import MEDIA_TYPES, serve_gradio_assets

FILES = sorted(Path(BUILD_PATH_LIB).iterdir())


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI()
    serve_gradio_assets(app)
    return TestClient(app)


@pytest.mark.parametrize("suffix", [*MEDIA_TYPES])
def test_a_file_is_served_with_its_type_and_as_immutable(client: TestClient, suffix: str) -> None:
    path = next(path for path in FILES if path.suffix == suffix)
    for encoding in ("gzip", "identity"):
        for _ in range(2):
            answer = client.get(f"/assets/{path.name}", headers={"Accept-Encoding": encoding})
            assert answer.status_code == 200
            assert answer.headers["content-type"] == MEDIA_TYPES[suffix]
            assert "immutable" in answer.headers["cache-control"]
            assert answer.content == path.read_bytes()
    assert "content-encoding" not in answer.headers


def test_every_file_has_a_known_type_and_the_hash_of_its_contents_in_its_name() -> None:
    for path in FILES:
        assert path.suffix in MEDIA_TYPES, path.name
        assert len(path.stem.rpartition("-")[2]) >= 8 or path.stem[-9] == "-", path.name


def test_scripts_are_compressed(client: TestClient) -> None:
    path = max(
        (path for path in FILES if path.suffix == ".js"), key=lambda path: path.stat().st_size
    )
    answer = client.get(f"/assets/{path.name}", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) < path.stat().st_size / 2


@pytest.mark.parametrize("name", ["none.js", "../index.html", "..%2findex.html", ""])
def test_unknown_files_are_not_served(client: TestClient, name: str) -> None:
    assert client.get(f"/assets/{name}").status_code == 404
