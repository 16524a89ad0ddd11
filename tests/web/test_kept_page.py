"""The page is built once for each address, and depends on nothing else of a request."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from gradio import routes

from gptj_demo.web import kept_page
from gptj_demo.web.kept_page import KEPT, MAX_ANSWERS

from .conftest import build_site

OTHERS = {
    "Accept-Language": "ar",
    "Cookie": "access-token=x; theme=dark",
    "User-Agent": "another",
    "Authorization": "Bearer x",
    "Referer": "http://localhost:7860/?view=why",
    "X-Forwarded-For": "192.0.2.9",
}


def count_pages(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A list that grows with each page that Gradio builds."""
    built: list[Any] = []
    build = routes.templates.TemplateResponse

    def count(*given: Any, **named: Any) -> Any:
        built.append(named.get("name"))
        return build(*given, **named)

    monkeypatch.setattr(routes.templates, "TemplateResponse", count)
    return built


def test_the_page_is_built_once_for_each_address(monkeypatch: pytest.MonkeyPatch) -> None:
    site = build_site()
    built = count_pages(monkeypatch)
    here = [site.ask("GET", "/", headers=headers) for headers in ({}, {}, OTHERS)]
    assert len(built) == 1
    assert {page.text for page in here} == {here[0].text}
    assert len({page.headers["content-security-policy"] for page in here}) == 1
    assert site.ask("HEAD", "/").headers["content-length"] == str(len(here[0].content))
    there = site.ask("GET", "/", base_url="http://[::1]:7861")
    assert len(built) == 2
    assert "http://[::1]:7861" in there.text
    assert "http://[::1]:7861" not in here[0].text


def test_visitors_who_come_together_wait_for_one_page(monkeypatch: pytest.MonkeyPatch) -> None:
    site = build_site()
    built = count_pages(monkeypatch)

    async def come() -> list[httpx.Response]:
        transport = httpx.ASGITransport(site.application)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await asyncio.gather(*(client.get("/") for _ in range(8)))

    pages = asyncio.run(come())
    assert len(built) == 1
    assert {(page.status_code, page.text) for page in pages} == {(200, pages[0].text)}


@pytest.mark.parametrize("path", KEPT)
def test_an_answer_depends_on_the_address_only(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    site = build_site(trusted_proxies="127.0.0.1")
    monkeypatch.setattr(kept_page, "KEPT", ())  # Gradio builds each answer
    plain, other = (site.ask("GET", path, headers=headers) for headers in ({}, OTHERS))
    assert plain.text == other.text
    assert plain.headers == other.headers
    assert "set-cookie" not in plain.headers
    monkeypatch.undo()
    for headers in ({}, OTHERS):
        kept = site.ask("GET", path, headers=headers)
        assert kept.text == plain.text
        assert kept.headers == plain.headers


def test_the_page_is_built_for_each_request_where_a_login_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = build_site(login="somebody:secret")
    built = count_pages(monkeypatch)
    assert "auth_required" in site.ask("GET", "/").text
    assert "auth_required" in site.ask("GET", "/").text
    assert len(built) == 2


def test_the_kept_answers_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    site = build_site()
    asked = count_pages(monkeypatch)
    for port in range(2 * MAX_ANSWERS):
        site.ask("GET", "/", base_url=f"http://localhost:{7000 + port}")
    assert len(asked) == 2 * MAX_ANSWERS
    site.ask("GET", "/", base_url=f"http://localhost:{7000 + 2 * MAX_ANSWERS - 1}")
    assert len(asked) == 2 * MAX_ANSWERS
    site.ask("GET", "/", base_url="http://localhost:7000")
    assert len(asked) == 2 * MAX_ANSWERS + 1
