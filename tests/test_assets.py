"""How the page's scripts and texts are served: addresses, caching, what is not served."""

from __future__ import annotations

import graphlib
import posixpath
import re

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from gptj_demo.ui.assets import (
    ASSETS,
    MODULES,
    boot_script,
    read_modules,
    serve_assets,
    served_files,
    version,
)


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI()
    serve_assets(app)
    return TestClient(app)


@pytest.mark.parametrize("name", sorted(served_files()))
def test_every_file_is_served_as_immutable(client: TestClient, name: str) -> None:
    answer = client.get(f"/page/{version()}/{name}")
    assert answer.status_code == 200
    assert "immutable" in answer.headers["cache-control"]
    assert answer.content == served_files()[name]


def test_the_modules_are_served_as_one_file_of_javascript(client: TestClient) -> None:
    answer = client.get(f"/page/{version()}/{MODULES}")
    assert answer.headers["content-type"].startswith("text/javascript")
    assert all(f'modules["{name}"]' in answer.text for name in read_modules())


def test_a_client_that_reads_no_gzip_gets_the_file_as_it_is(client: TestClient) -> None:
    answer = client.get(f"/page/{version()}/{MODULES}", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in answer.headers
    assert answer.content == served_files()[MODULES]


def test_files_requested_for_another_version_are_not_cached(client: TestClient) -> None:
    answer = client.get(f"/page/000000000000/{MODULES}")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "core/none.js",
        "core/text.js",
        "page.css",
        "sample-model/config.json",
        "../app.py",
        "..%2fapp.py",
        "core",
    ],
)
def test_unknown_paths_are_not_served(client: TestClient, path: str) -> None:
    assert client.get(f"/page/{version()}/{path}").status_code == 404


def test_every_import_leads_to_a_file_and_no_view_imports_another() -> None:
    modules = read_modules()
    for name, source in modules.items():
        for target in re.findall(r'(?:from|import) "([^"]+)"', source):
            path = (ASSETS / name).parent.joinpath(target).resolve().relative_to(ASSETS).as_posix()
            assert path in modules, f"{name} imports {target}"
            layers = {"core": 0, "components": 1, "views": 2}
            of, to = name.split("/"), path.split("/")
            assert layers[to[0]] <= layers[of[0]], f"{name} imports {path}"
            if to[0] == "views":
                assert to[1] == of[1], f"{name} imports another view: {path}"


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    imports = {
        name: {
            posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
            for target in re.findall(r'(?:from|import) "([^"]+)"', source)
        }
        for name, source in read_modules().items()
    }
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError


def test_the_boot_script_names_all_views() -> None:
    script = boot_script(["write", "about"])
    assert f'"base": "/page/{version()}/"' in script
    assert '"views": ["write", "about"]' in script
    assert "CONFIG;" not in script
