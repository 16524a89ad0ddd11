"""Requests under foreign names and from other sites' pages, and the headers of answers."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Any

import pytest

from gptj_demo.settings import InvalidSettings, Settings
from gptj_demo.web.answers import hash_source, page_policy
from gptj_demo.web.forwarded import Forwarded
from gptj_demo.web.hosts import Hosts
from gptj_demo.web.site import protect
from gptj_demo.web.surface import OPEN

from .conftest import WholeSite, build_site

CALL = "/gradio_api/call/tokenize"
POSTS = [path for method, path in OPEN if method == "POST" and "{" not in path] + [
    CALL, "/v1/completions", "/v2/runs", "/tokenize", "/detokenize", "/mcp",
]  # fmt: skip
OURS = ["localhost", "localhost:7860", "127.0.0.1:7860", "[::1]:7860", "192.168.1.20:7860",
        "10.0.0.5", "[fe80::1]:80", "my-box:7860", "my-box.local:7860", "app.localhost",
        "playground.internal", "LOCALHOST:7860", "localhost.:7860", ""]  # fmt: skip
FOREIGN = ["evil.example:7860", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example",
           "127.0.0.1.nip.io:7860", "local.evil.example", "evil.example#localhost"]  # fmt: skip


def accepts(host: str, **settings: Any) -> bool:
    return asyncio.run(Hosts(Settings(**settings)).accepts(host))


@pytest.mark.parametrize("host", OURS)
def test_own_names_addresses_and_local_names_are_accepted(host: str) -> None:
    assert accepts(host)
    assert accepts(host, server_name="0.0.0.0")
    assert accepts(host, allowed_hosts="play.example.org")


@pytest.mark.parametrize("host", FOREIGN)
def test_foreign_host_names_are_refused_unless_a_proxy_or_setting_allows_them(host: str) -> None:
    assert not accepts(host)
    assert not accepts(host, server_name="0.0.0.0")
    assert not accepts(host, allowed_hosts="play.example.org", trusted_proxies="10.0.0.0/8")
    assert accepts(host, trusted_proxies="10.0.0.0/8")  # the proxy checks the names
    assert accepts(host, allowed_hosts="*")


@pytest.mark.parametrize("root", ["playground", "http://[::1", "https://", "ftp://example.org/"])
def test_a_root_path_that_is_no_path_is_refused(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_ROOT_PATH", root)
    with pytest.raises(InvalidSettings, match=r"GRADIO_ROOT_PATH is .* must be a path such as"):
        Hosts(Settings())


def test_names_of_the_deployer_and_the_machine_are_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    allowed = "play.example.org, *.Example.net"
    for host in ("play.example.org:443", "PLAY.example.org", "a.example.net", "a.b.example.net"):
        assert accepts(host, allowed_hosts=allowed)
    for host in ("example.net", "aexample.net", "xplay.example.org"):
        assert not accepts(host, allowed_hosts=allowed)
    assert accepts(socket.gethostname())
    assert accepts("gpu.example.org", server_name="gpu.example.org")
    assert not accepts("someone-gptj.hf.space")
    monkeypatch.setenv("SPACE_HOST", "someone-gptj.hf.space")
    monkeypatch.setenv("GRADIO_ROOT_PATH", "https://example.org/play")
    assert accepts("someone-gptj.hf.space")
    assert accepts("example.org:7860")


def test_a_foreign_name_gets_a_sentence_on_every_route(site: WholeSite) -> None:
    for method, path in [("GET", "/"), ("GET", "/config"), ("POST", CALL), ("GET", "/v1/models"),
                         ("POST", "/v1/completions"), ("GET", "/metrics"), ("GET", "/docs"),
                         ("GET", "/page/x/core/run.js"), ("GET", "/gradio_api/x")]:  # fmt: skip
        answer = site.ask(method, path, headers={"Host": "evil.example:7860"})
        assert answer.status_code == 403, path
        assert "evil.example" in answer.text
        assert "GPTJ_ALLOWED_HOSTS" in answer.text
    for path in ("/healthz", "/readyz"):
        assert site.ask("GET", path, headers={"Host": "evil.example"}).status_code != 403


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},  # another program on the same machine
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
    ids=str,
)
def test_a_post_of_another_sites_page_is_refused(
    site: WholeSite, path: str, headers: dict[str, str]
) -> None:
    answer = site.ask("POST", path, json={"data": ["x"], "prompt": "x"}, headers=headers)
    assert answer.status_code == 403
    assert "other sites" in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {},  # a program
        {"Origin": "http://localhost:7860"},
        {"Origin": "http://localhost:7860", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://play.example.org", "Sec-Fetch-Site": "same-origin"},  # behind a proxy
    ],
    ids=str,
)
def test_the_page_and_programs_may_post(site: WholeSite, headers: dict[str, str]) -> None:
    answer = site.ask("POST", CALL, json={"data": []}, headers=headers)
    assert (answer.status_code, "takes 1 input" in answer.text) == (400, True)


def test_only_the_page_itself_may_log_out(site: WholeSite) -> None:
    assert site.ask("GET", "/logout", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert site.ask("GET", "/logout", headers={"Sec-Fetch-Site": "same-origin"}).is_redirect


def test_allowed_origins_may_post_and_read() -> None:
    site = build_site(cors_origins="https://Example.org/")  # browsers send it in lower case
    for origin, status in (("https://example.org", 400), ("https://example.com", 403)):
        headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
        answer = site.ask("POST", CALL, json={"data": []}, headers=headers)
        assert answer.status_code == status
        for read in (answer, site.ask("GET", "/config", headers=headers)):
            readable = read.headers.get("access-control-allow-origin") == origin
            assert readable == (status == 400)


def test_every_answer_can_be_read_by_allowed_origins() -> None:
    site = build_site(cors_origins="https://example.org", max_body_bytes=1000)
    from_there = {"Origin": "https://example.org"}
    asked = "authorization,content-type,x-stainless-os,x-stainless-retry-count"
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": asked}
    answer = site.ask("OPTIONS", "/v1/completions", headers=from_there | preflight)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-headers"] == asked

    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError

    broken = WholeSite(site.page, site.routes, protect(breaks, site.page, Settings(
        cors_origins="https://example.org"
    )))  # fmt: skip
    large = {"prompt": "x" * 2000, "data": ["x" * 2000]}
    for where, path, status in [
        (site, "/v1/completions", 413), (site, CALL, 413), (site, "/v1/nothing", 404),
        (site, "/nothing", 404), (broken, "/v1/completions", 500), (broken, CALL, 500),
    ]:  # fmt: skip
        answer = where.ask("POST", path, json=large if status == 413 else {}, headers=from_there)
        if (where, path) == (broken, CALL):
            answer = where.ask("POST", path, json={"data": ["x"]}, headers=from_there)
        assert answer.status_code == status, path
        assert answer.headers["access-control-allow-origin"] == "https://example.org"
        exposed = answer.headers["access-control-expose-headers"]
        assert exposed == "X-Request-Id, Retry-After"


def test_no_other_site_may_read_by_default(site: WholeSite) -> None:
    for host in ("localhost:7860", "192.168.1.20:7860"):  # Gradio allows every site on the latter
        headers = {"Origin": "https://evil.example", "Host": host}
        for path in ("/config", "/gradio_api/info", "/v1/models", "/"):
            answer = site.ask("GET", path, headers=headers)
            assert "access-control-allow-origin" not in answer.headers
        headers["Access-Control-Request-Method"] = "POST"
        preflight = site.ask("OPTIONS", CALL, headers=headers)
        assert preflight.status_code == 400
        assert "access-control-allow-origin" not in preflight.headers


def test_only_a_trusted_proxy_names_another_host() -> None:
    headers = {"X-Forwarded-Host": "play.example.org", "X-Forwarded-Proto": "https"}
    plain, behind = build_site(), build_site(trusted_proxies="10.0.0.0/8")
    for site, peer, root in (
        (plain, "127.0.0.1", "http://localhost:7860"),
        (behind, "127.0.0.1", "http://localhost:7860"),
        (behind, "10.1.2.3", "https://play.example.org"),
    ):
        assert site.ask("GET", "/config", peer, headers=headers).json()["root"] == root
    forged = {"X-Gradio-Server": "https://evil.example", "Forwarded": "host=evil.example"}
    assert "evil" not in plain.ask("GET", "/config", headers=forged).text
    posts = {"Origin": "https://play.example.org", **headers}
    for site, peer, status in ((plain, "127.0.0.1", 403), (behind, "10.1.2.3", 400)):
        assert site.ask("POST", CALL, peer, json={"data": []}, headers=posts).status_code == status
    only = build_site(trusted_proxies="10.0.0.0/8", allowed_hosts="play.example.org")
    assert only.ask("GET", "/config", "10.1.2.3", headers=headers).status_code == 200
    headers["X-Forwarded-Host"] = "evil.example"
    assert only.ask("GET", "/config", "10.1.2.3", headers=headers).status_code == 403


def test_every_answer_has_the_security_headers(site: WholeSite) -> None:
    for method, path in [("GET", "/"), ("GET", "/config"), ("GET", "/docs"), ("GET", "/nothing"),
                         ("POST", CALL), ("GET", "/v1/nothing"), ("GET", "/favicon.ico"),
                         ("GET", "/healthz"), ("POST", "/gradio_api/upload")]:  # fmt: skip
        headers = site.ask(method, path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        policy = headers["content-security-policy"]
        ancestors = "frame-ancestors 'self' https://huggingface.co https://*.hf.space"
        assert policy.endswith(ancestors)
        assert "script-src 'self'" in policy if path == "/" else "default-src 'none'" in policy
    other = build_site(frame_origins="https://example.org")
    policy = other.ask("GET", "/").headers["content-security-policy"]
    assert policy.endswith("frame-ancestors 'self' https://example.org")


@pytest.mark.parametrize("coding", ["gzip, br", "identity"])
def test_the_page_runs_no_inline_script_that_is_not_its_own(site: WholeSite, coding: str) -> None:
    answer = site.ask("GET", "/", headers={"Accept-Encoding": coding})
    policy = answer.headers["content-security-policy"]
    scripts = policy.partition("script-src ")[2].partition(";")[0].split()
    assert "'unsafe-inline'" not in scripts
    inline = re.findall(r"<script(?![^>]* src=)[^>]*>(.*?)</script>", answer.text, re.DOTALL)
    assert inline
    assert {hash_source(script) for script in inline} < set(scripts)
    assert len(scripts) == len(set(inline)) + 3  # 'self', 'unsafe-eval', and the script of the head


def test_a_policy_lists_the_inline_scripts_of_the_page() -> None:
    html = '<script>a</script><script src="x.js"></script><SCRIPT type="module">\nb\n</SCRIPT>'
    policy = page_policy(html.replace("SCRIPT", "script"), ["c"], [])
    for script in ("a", "\nb\n", "c"):
        assert hash_source(script) in policy
    assert hash_source("") not in policy


@pytest.mark.parametrize(
    ("peer", "seen"),
    [
        ("10.0.0.5", "198.51.100.7"),
        ("::ffff:10.0.0.5", "198.51.100.7"),  # from a socket for IPv4 and IPv6
        ("10.1.0.5", "10.1.0.5"),
        ("::ffff:10.1.0.5", "10.1.0.5"),
        ("2001:db8::5", "2001:db8::5"),
    ],
)
def test_a_proxy_is_trusted_by_its_address_in_either_form(peer: str, seen: str) -> None:
    clients: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        clients.append(scope["client"][0])

    headers = [(b"x-forwarded-for", b"198.51.100.7")]
    scope = {"type": "http", "client": (peer, 4711), "headers": headers}
    served = Forwarded(application, "10.0.0.0/24")
    asyncio.run(served(scope, None, None))  # type: ignore[arg-type]
    assert clients == [seen]
