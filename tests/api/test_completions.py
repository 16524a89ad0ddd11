"""POST /v1/completions byte by byte, without a client library."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import signal
from typing import Any

import httpx
import pytest

from tests.waiting import eventually, eventually_async

from .conftest import SLOTS, Playground

ENDLESS = {"max_tokens": 2000, "ignore_eos": True}


def events(response: httpx.Response) -> list[str]:
    return [line for line in response.iter_lines() if line]


def test_a_stream_has_the_format_of_server_sent_events(playground: Playground) -> None:
    body = {"prompt": "Once", "max_tokens": 3, "stream": True}
    with playground.http.stream("POST", "/v1/completions", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"
        lines = events(response)
    assert lines[-1] == "data: [DONE]"
    for line in lines[:-1]:
        chunk = json.loads(line.removeprefix("data: "))
        assert set(chunk) == {
            "id", "object", "created", "model", "system_fingerprint", "choices"
        }  # fmt: skip
        (choice,) = chunk["choices"]
        assert set(choice) == {"text", "index", "logprobs", "finish_reason"}


def test_a_silent_stream_is_kept_alive(playground: Playground) -> None:
    body = {"prompt": "Once", "stream": True, **ENDLESS}
    with playground.http.stream("POST", "/v1/completions", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        with playground.paused():
            assert next(line for line in lines if line.startswith(":")) == ": keep-alive"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_disconnects_while_queued_frees_its_place_in_the_queue(
    playground: Playground, stream: bool
) -> None:
    async def until_open(count: int) -> None:
        await eventually_async(lambda: playground.metrics()["gptj_requests_open"] == count)

    async def scenario() -> None:
        async with httpx.AsyncClient(base_url=playground.url, trust_env=False) as client:

            def post() -> asyncio.Task[httpx.Response]:
                body = {"prompt": "Once", "stream": stream, **ENDLESS}
                return asyncio.create_task(client.post("/v1/completions", json=body, timeout=None))

            others = [post() for _ in range(SLOTS + 3)]
            await until_open(SLOTS + 3)
            late = post()
            await until_open(SLOTS + 4)
            late.cancel()
            await until_open(SLOTS + 3)
            for other in others:
                other.cancel()
            await asyncio.gather(late, *others, return_exceptions=True)
            await until_open(0)

    playground.wait_until_idle()  # requests of earlier tests have ended
    playground.pause_engine()  # no request can end during the test
    try:
        asyncio.run(scenario())
    finally:
        playground.resume_engine()


def test_a_full_queue_is_429_with_retry_after() -> None:
    playground = Playground("--max-waiting", "1", "--max-num-seqs", "1")

    def ask_twice() -> None:
        for stream in (False, True):
            answer = playground.complete(stream=stream)
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]["code"] == "queue_full"

    async def scenario() -> None:
        async with httpx.AsyncClient(base_url=playground.url, trust_env=False) as client:
            body = {"prompt": "O", **ENDLESS}
            others = [
                asyncio.create_task(client.post("/v1/completions", json=body, timeout=None))
                for _ in range(2)
            ]
            await eventually_async(lambda: playground.metrics()["gptj_requests_open"] == 2)
            await asyncio.to_thread(ask_twice)
            for other in others:
                assert not other.done()  # the engine is paused
                other.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    try:
        playground.wait_until_ready()
        playground.pause_engine()
        asyncio.run(scenario())
        metrics = playground.wait_until_idle()
        assert metrics['gptj_requests_total{outcome="queue_full"}'] == 2
        playground.resume_engine()
        assert playground.complete().status_code == 200
    finally:
        playground.stop()


def test_request_ids_are_returned_or_generated(playground: Playground) -> None:
    given = {"X-Request-Id": "mine-42"}
    body = {"prompt": "Once", "max_tokens": 1}
    answer = playground.http.post("/v1/completions", json=body, headers=given)
    assert answer.headers["x-request-id"] == "mine-42"
    ids = {playground.complete(max_tokens=1).headers["x-request-id"] for _ in range(2)}
    assert len(ids) == 2
    hostile = {"X-Request-Id": "a b\x7f" + "c" * 200}
    answer = playground.http.post("/v1/completions", json=body, headers=hostile)
    assert answer.headers["x-request-id"].startswith("req_")
    assert playground.complete(temperature=9).headers["x-request-id"]


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "invalid_json"),
        (b"[]", "application/json", 400, "invalid_json"),
        (b"\xff\xfe", "application/json", 400, "invalid_json"),
        (b'{"prompt": "\\ud83d"}', "application/json", 400, None),
        (b'{"prompt": "x", "temperature": NaN}', "application/json", 400, None),
        (b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}", "application/json", 400, None),
        ('{"prompt": "x"}'.encode("utf-16"), "application/json", 400, "invalid_json"),
        ('{"prompt": "x", "n_predict": 1}'.encode("utf-16"), "application/json", 400, None),
        (b"[" * 100_000, "application/json", 400, "invalid_json"),
        (b'{"prompt": "x"}', "text/plain", 400, "invalid_content_type"),
        (b"{}", "application/json", 400, "missing_parameter"),
        (b" " * (5 * 2**20), "application/json", 413, None),
    ],
)
def test_invalid_bodies_are_refused_in_openais_format(
    playground: Playground, content: bytes, kind: str, status: int, code: str | None
) -> None:
    answer = playground.http.post(
        "/v1/completions", content=content, headers={"Content-Type": kind}
    )
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    if code is not None:
        assert error["code"] == code


def test_half_of_a_surrogate_pair_is_refused_at_its_field(playground: Playground) -> None:
    for path, content, param in (
        ("/v1/completions", b'{"prompt": "a\\ud800b"}', "prompt"),
        ("/v1/completions", b'{"prompt": "a", "stop": ["\\uDC00"]}', "stop"),
        ("/v1/completions", b'{"prompt": "a", "\\ud800": 1}', "\\ud800"),
        ("/tokenize", b'{"prompt": "a\\ud800b"}', "prompt"),
        ("/api/v1/generate", b'{"prompt": "a\\ud800b"}', "prompt"),
    ):
        answer = playground.http.post(
            path, content=content, headers={"Content-Type": "application/json"}
        )
        error = answer.json()["error"]
        assert answer.status_code == 400
        assert "an unpaired surrogate" in error["message"]
        assert error["param"] == param
    whole = b'{"prompt": "\\ud83d\\ude00", "max_tokens": 1}'
    answer = playground.http.post(
        "/v1/completions", content=whole, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 200


def test_a_compressed_body_is_refused_with_415(playground: Playground) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    content = gzip.compress(b'{"prompt": "x"}')
    for path in ("/v1/completions", "/tokenize", "/api/v1/generate"):
        answer = playground.http.post(path, content=content, headers=headers)
        assert answer.status_code == 415
        assert "Content-Encoding" in answer.json()["error"]["message"]
        assert answer.headers["x-request-id"]
    headers["Content-Encoding"] = "identity"
    answer = playground.http.post("/tokenize", content=b'{"prompt": "x"}', headers=headers)
    assert answer.status_code == 200


def test_a_body_may_begin_with_a_byte_order_mark(playground: Playground) -> None:
    for body in (b'{"prompt": "x", "max_tokens": 1}', b'{"prompt": "x", "n_predict": 1}'):
        answer = playground.http.post(
            "/v1/completions",
            content=b"\xef\xbb\xbf" + body,
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 200


def test_the_size_limit_applies_to_a_body_without_a_content_length(playground: Playground) -> None:
    def parts() -> Any:
        for _ in range(6):
            yield b" " * 2**20

    headers = {"Content-Type": "application/json"}
    answer = playground.http.post("/v1/completions", content=parts(), headers=headers)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"


def test_unknown_routes_are_404_or_405_in_openais_format(playground: Playground) -> None:
    answer = playground.http.post("/v1/chat/completions", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    answer = playground.http.get("/v1/completions")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert playground.http.delete("/tokenize").status_code == 405


def test_null_means_left_out(playground: Playground) -> None:
    plain = playground.choices(seed=3)
    nulls = {"suffix": None, "logprobs": None, "temperature": None, "stop": None, "n": None}
    assert playground.choices(seed=3, **nulls) == plain


def test_controls_that_openai_lacks_are_set_by_their_own_names(playground: Playground) -> None:
    greedy = playground.choices(top_k=1, temperature=1.5, seed=1)
    assert greedy == playground.choices(temperature=0)
    healed = playground.choices("Once upon a tim", token_healing=True, temperature=0, max_tokens=3)
    assert healed[0]["text"].startswith("e")
    prompt = [5] * 3000
    assert playground.complete(prompt, truncate="left", max_tokens=2).status_code == 200
    longest = playground.choices(ignore_eos=True, min_new_tokens=3, max_tokens=3)
    assert longest[0]["finish_reason"] == "length"


@pytest.mark.parametrize("version", [0, 2, "off", "2"])
def test_mirostat_accepts_the_version_numbers_of_llama_cpp(
    playground: Playground, version: int | str
) -> None:
    body = {"prompt": "Once", "max_tokens": 2, "mirostat": version}
    assert playground.http.post("/v1/completions", json=body).status_code == 200


def test_a_sampler_order_that_lacks_a_filter_is_refused_with_all_filter_names(
    playground: Playground,
) -> None:
    body = {"prompt": "Once", "max_tokens": 2, "sampler_order": ["top_k"]}
    response = playground.http.post("/v1/completions", json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == "sampler_order"
    assert "each of these exactly once: temperature, top_k, top_p" in error["message"]


def test_a_repeated_prompt_is_reported_as_cached(playground: Playground) -> None:
    prompt = "The old king of the north had seven sons, and each of them had a horse of his own."
    playground.complete(prompt, max_tokens=4)
    usage = playground.complete(prompt, max_tokens=4).json()["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    assert 8 <= cached < usage["prompt_tokens"]


def test_requests_before_the_model_is_ready_get_status_503() -> None:
    playground = Playground()
    try:
        playground.pause_engine_at_start()
        eventually(playground.is_up)
        answer = playground.complete()
        assert not playground.is_ready()
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert answer.json()["error"]["type"] == "server_error"
        assert playground.http.get("/v1/models").json()["data"] == []
        playground.resume_engine()
        eventually(playground.is_ready)
        assert playground.complete().status_code == 200
        # stopping the server ends an open stream
        with playground.http.stream(
            "POST", "/v1/completions", json={"prompt": "x", "stream": True, **ENDLESS}
        ) as response:
            lines = response.iter_lines()
            next(lines)
            playground.process.send_signal(signal.SIGINT)
            with contextlib.suppress(httpx.TransportError):
                for _ in lines:
                    pass
    finally:
        playground.stop()
