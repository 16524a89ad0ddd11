"""Keys and limits: the rules by themselves, and at a running playground."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from starlette.requests import Request

from gptj_demo.api.access import Access, Admitted, read_keys, read_login
from gptj_demo.api.errors import ApiError
from gptj_demo.protocol import Visitor
from gptj_demo.settings import InvalidSettings, Settings

from .conftest import Playground

KEYS = "first-key-of-ours,second-key"
LONG = "word " * 60
"""More tokens than `--max-prompt-tokens` below: it is refused as soon as it has been tokenized."""


def request(authorization: str | None = None, host: str = "192.0.2.7") -> Request:
    headers = [] if authorization is None else [(b"authorization", authorization.encode())]
    return Request({"type": "http", "headers": headers, "client": (host, 1)})


def caller(name: str) -> Visitor:
    return Visitor(name, "192.0.2.7")


@contextmanager
def reserved(access: Access, name: str, tokens: int) -> Iterator[Admitted]:
    """A request that runs and holds so many tokens."""
    with access.admit(caller(name)) as admitted:
        admitted.reserve(tokens)
        yield admitted


def settings(**values: Any) -> Settings:
    return Settings(**values)


def test_without_keys_each_caller_is_identified_by_its_address() -> None:
    access = Access(settings())
    assert not access.needs_key
    assert access.identify(request()).name == "address 192.0.2.7"
    assert access.identify(request("Bearer anything")).name == "address 192.0.2.7"


def test_each_key_identifies_a_caller_whose_name_does_not_contain_the_key() -> None:
    access = Access(settings(api_keys=KEYS))
    names = {access.identify(request(f"Bearer {key}")).name for key in KEYS.split(",")}
    assert len(names) == 2
    assert not any(key in name for key in KEYS.split(",") for name in names)


@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer wrong", "Basic second-key", "Bearer second-key2", "ä"]
)
def test_a_missing_or_wrong_key_is_401(given: str | None) -> None:
    with pytest.raises(ApiError) as refused:
        Access(settings(api_keys=KEYS)).identify(request(given))
    assert refused.value.status == 401
    assert "wrong" not in refused.value.message


def test_keys_come_from_a_file_too(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\nthird-key\n\n")
    assert read_keys(settings(api_keys=KEYS, api_keys_file=file)) == (
        "first-key-of-ours", "second-key", "third-key",
    )  # fmt: skip
    with pytest.raises(InvalidSettings, match="cannot be read"):
        read_keys(settings(api_keys_file=tmp_path / "none"))
    with pytest.raises(InvalidSettings, match="GPTJ_API_KEYS contains no key: add one"):
        read_keys(settings(api_keys=" , "))


@pytest.mark.parametrize(
    "written", ["\ufeff# ours\r\none\r\n  # more\r\ntwo\r\n", "one\n\n two \n"]
)
def test_a_key_file_may_have_a_byte_order_mark_and_any_line_ends(
    tmp_path: Path, written: str
) -> None:
    file = tmp_path / "keys"
    file.write_bytes(written.encode())
    assert read_keys(settings(api_keys_file=file)) == ("one", "two")


def test_a_login_without_keys_closes_the_api() -> None:
    closed = settings(login="anna:secret,ben:also")
    assert read_login(closed) == [("anna", "secret"), ("ben", "also")]
    with pytest.raises(ApiError):
        Access(closed).identify(request("Bearer "))
    with pytest.raises(InvalidSettings, match="name:password") as wrong:
        read_login(settings(login="anna"))
    assert "anna" not in str(wrong.value)


def test_open_requests_are_limited_for_each_caller() -> None:
    access = Access(settings(requests_per_caller=2))
    with access.admit(caller("a")), access.admit(caller("a")):
        with pytest.raises(ApiError) as refused, access.admit(caller("a")):
            pass
        assert refused.value.status == 429
        assert refused.value.headers["Retry-After"] == "1"
        with access.admit(caller("b")):
            pass
    with access.admit(caller("a")):
        pass


def test_tokens_a_minute_are_limited_for_each_caller() -> None:
    access = Access(settings(tokens_per_minute=100))
    for _ in range(2):
        with access.admit(caller("a")) as admitted:
            admitted.used_tokens = 60
    sentence = "You have used the 100 tokens that a caller has a minute."
    with pytest.raises(ApiError, match=sentence) as refused, access.admit(caller("a")):
        pass
    assert refused.value.status == 429
    assert 1 <= int(refused.value.headers["Retry-After"]) <= 60
    with access.admit(caller("b")):
        pass


def test_a_request_that_can_use_more_tokens_than_a_minute_has_is_refused() -> None:
    access = Access(settings(tokens_per_minute=100))
    sentence = "This request can use 101 tokens or more, and a caller has 100 a minute."
    with pytest.raises(ApiError, match=sentence) as refused, reserved(access, "a", 101):
        pass
    assert (refused.value.status, refused.value.code) == (400, "request_too_large")
    assert "Retry-After" not in refused.value.headers
    with reserved(access, "a", 100):
        pass


def test_requests_that_run_together_cannot_use_more_than_a_minute_has() -> None:
    access = Access(settings(tokens_per_minute=100))
    sentence = "This request can use 60 tokens, and 40 of the 100 that a caller has a minute are"
    with reserved(access, "a", 60) as first:
        with pytest.raises(ApiError, match=sentence) as refused, reserved(access, "a", 60):
            pass
        assert refused.value.status == 429
        assert 1 <= int(refused.value.headers["Retry-After"]) <= 60
        with reserved(access, "a", 40), reserved(access, "b", 100):
            pass
        first.used_tokens = 10
    with reserved(access, "a", 90):
        pass


def test_a_request_that_fails_gives_its_tokens_back() -> None:
    access = Access(settings(tokens_per_minute=100))
    for _ in range(3):
        with pytest.raises(KeyError), reserved(access, "a", 100):
            raise KeyError


def test_one_setting_turns_all_limits_on_and_single_settings_override_them() -> None:
    assert Access(settings()).requests_per_caller is None
    assert Access(settings(limits="public")).requests_per_caller == 8
    assert Access(settings(limits="public", requests_per_caller=3)).requests_per_caller == 3


def test_a_playground_enforces_keys_login_and_limits_and_prints_no_secret(
    capfd: pytest.CaptureFixture[str],
) -> None:
    playground = Playground(
        "--requests-per-caller", "2", "--tokens-per-minute", "3000", "--max-prompt-tokens", "50",
        "--login", "anna:secret-word",
        environment={"GPTJ_API_KEYS": KEYS},
    )  # fmt: skip
    try:
        playground.wait_until_ready()
        url = f"{playground.url}/v1"
        options: dict[str, Any] = {"model": "sample model", "prompt": "Once", "max_tokens": 4}
        with openai.OpenAI(base_url=url, api_key="wrong", max_retries=0) as stranger:
            with pytest.raises(openai.AuthenticationError):
                stranger.completions.create(**options)
            with pytest.raises(openai.AuthenticationError):
                stranger.models.list()
        assert playground.http.get("/metrics").status_code == 401
        assert playground.http.post("/mcp", json={}).status_code == 401
        assert playground.http.get("/healthz").status_code == 200
        with openai.OpenAI(base_url=url, api_key="second-key", max_retries=0) as ours:
            assert ours.completions.create(**options).choices[0].text
            with pytest.raises(openai.BadRequestError, match="50 at most"):
                ours.completions.create(**{**options, "prompt": LONG})
            streams = [
                ours.completions.create(
                    **{**options, "max_tokens": 2000}, stream=True, extra_body={"ignore_eos": True}
                )
                for _ in range(2)
            ]
            with playground.paused():
                with pytest.raises(openai.RateLimitError, match="2 requests running"):
                    ours.completions.create(**{**options, "prompt": LONG})
                for stream in streams:
                    stream.close()
            playground.http.headers["Authorization"] = "Bearer second-key"
            playground.wait_until_idle()
            with pytest.raises(openai.BadRequestError, match="a caller has 3,000 a minute"):
                ours.completions.create(**{**options, "max_tokens": 200}, n=16)
            text = {"text": "word " * 4000}  # its tokens are counted though they exceed the limit
            assert playground.http.post("/v1/internal/token-count", json=text).is_success
            with pytest.raises(openai.RateLimitError, match="3,000 tokens") as refused:
                ours.completions.create(**options)
            assert int(refused.value.response.headers["retry-after"]) >= 1
            for path, body in (
                ("/tokenize", {"prompt": "Once"}),
                ("/detokenize", {"tokens": [5]}),
                ("/v1/internal/token-count", {"text": "Once"}),
                ("/v1/completions", {"prompt": LONG}),
                ("/v1/completions", {"prompt": LONG, "echo": True, "logprobs": 1}),
                ("/v1/score", {"prompt": LONG, "continuations": ["a"]}),
                ("/v1/likely", {"prompt": LONG}),
                ("/v2/runs", {"data": [LONG]}),
                ("/api/v1/generate", {"prompt": LONG}),
            ):
                assert playground.http.post(path, json=body).status_code == 429, path
            for name, arguments in (
                ("generate", {"prompt": LONG}),
                ("score", {"prompt": LONG, "continuations": ["a"]}),
                ("alternatives", {"prompt": LONG}),
                ("compare", {"prompts": [LONG], "continuation": "a"}),
            ):
                tool = {"name": name, "arguments": arguments}
                asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": tool}
                accept = {"Accept": "application/json, text/event-stream"}
                answer = playground.http.post("/mcp", json=asked, headers=accept)
                assert "3,000 tokens" in answer.text, name
                assert '"isError":true' in answer.text
        with openai.OpenAI(base_url=url, api_key="first-key-of-ours", max_retries=0) as other:
            assert other.completions.create(**options).choices[0].text
        # the page asks for its own name and password
        assert playground.http.post("/gradio_api/call/status", json={"data": []}).status_code == 401
        login = {"username": "anna", "password": "secret-word"}
        assert playground.http.post("/login", data=login).status_code == 200
        assert playground.http.post("/gradio_api/call/status", json={"data": []}).status_code == 200
    finally:
        playground.stop()
    printed = "".join(capfd.readouterr())
    assert not any(secret in printed for secret in (*KEYS.split(","), "secret-word"))


def test_the_address_that_a_proxy_forwards_is_used_only_if_the_proxy_is_trusted() -> None:
    """Each forwarded address then has a token limit of its own."""
    forwarded = {"X-Forwarded-For": "198.51.100.1"}
    body = {"prompt": "Once", "max_tokens": 60, "ignore_eos": True}
    for trusted, second_is_refused in ((None, True), ("127.0.0.1", False)):
        flags = ["--tokens-per-minute", "100"]
        if trusted is not None:
            flags += ["--trusted-proxies", trusted]
        playground = Playground(*flags)
        try:
            playground.wait_until_ready()
            first = playground.http.post("/v1/completions", json=body)
            assert first.status_code == 200
            second = playground.http.post("/v1/completions", json=body, headers=forwarded)
            assert (second.status_code == 429) is second_is_refused
        finally:
            playground.stop()
