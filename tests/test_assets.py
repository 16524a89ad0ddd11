"""How the page's modules are served: addresses, caching, what is not served."""

from __future__ import annotations

import re

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from gptj_demo.ui.assets import ASSETS, boot_script, serve_assets, served_files, version


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI()
    serve_assets(app)
    return TestClient(app)


def test_every_module_is_served_as_javascript_and_may_be_kept_for_good(client: TestClient) -> None:
    modules = [name for name in served_files() if name.endswith(".js")]
    assert len(modules) > 10
    for name in modules:
        answer = client.get(f"/page/{version()}/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/javascript")
        assert "immutable" in answer.headers["cache-control"]
        assert answer.content == (ASSETS / name).read_bytes()


def test_a_client_that_reads_no_gzip_gets_the_file_as_it_is(client: TestClient) -> None:
    answer = client.get(f"/page/{version()}/core/text.js", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in answer.headers
    assert answer.content == (ASSETS / "core/text.js").read_bytes()


def test_a_page_of_another_version_gets_files_that_it_does_not_keep(client: TestClient) -> None:
    answer = client.get("/page/000000000000/core/text.js")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    ["core/none.js", "page.css", "sample-model/config.json", "../app.py", "..%2fapp.py", "core"],
)
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    assert client.get(f"/page/{version()}/{path}").status_code == 404


def test_every_import_leads_to_a_file_and_no_view_imports_another() -> None:
    for name, content in served_files().items():
        if not name.endswith(".js"):
            continue
        for target in re.findall(r'(?:from|import) "([^"]+)"', content.decode()):
            path = (ASSETS / name).parent.joinpath(target).resolve().relative_to(ASSETS).as_posix()
            assert path in served_files(), f"{name} imports {target}"
            layers = {"texts": 0, "core": 0, "components": 1, "views": 2}
            of, to = name.split("/"), path.split("/")
            assert layers[to[0]] <= layers[of[0]], f"{name} imports {path}"
            if to[0] == "views":
                assert to[1] == of[1], f"{name} imports another view: {path}"


def test_the_boot_script_names_all_modules_and_views() -> None:
    script = boot_script(["write", "about"])
    assert f'"base": "/page/{version()}/"' in script
    assert '"views": ["write", "about"]' in script
    assert "CONFIG;" not in script
