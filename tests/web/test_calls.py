"""Malformed calls are refused with a sentence; no text of a request reaches the log."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gptj_demo.web.calls import MAX_VALUES, Calls
from tests.api.conftest import Playground
from tests.waiting import PATIENCE

from .conftest import WholeSite

API = "/gradio_api"
MARKER = "TheVisitorsSecretWords"
FILE = {"path": f"http://{MARKER}.example/x", "meta": {"_type": "gradio.FileData"}}
SESSION = "abc123"


def fn_index(site: WholeSite, name: str) -> int:
    return next(number for number, fn in site.page.fns.items() if fn.api_name == name)


def as_json(body: Any) -> dict[str, Any]:
    """A request's content; unlike with httpx's own `json`, texts need not be valid Unicode."""
    return {"content": json.dumps(body), "headers": {"Content-Type": "application/json"}}


def malformed(join: int, server: int) -> list[tuple[str, Any]]:
    """Calls that are wrong in one way each, with the marker in every text."""
    return [
        (f"{API}/call/tokenize", {"data": []}),
        (f"{API}/call/tokenize", {"data": [MARKER, MARKER]}),
        (f"{API}/call/generate", {"data": []}),
        (f"{API}/call/compare_prompts", {"data": [MARKER]}),
        (f"{API}/call/tokenize", {"data": MARKER}),
        (f"{API}/call/tokenize", {MARKER: MARKER}),
        (f"{API}/call/tokenize", [MARKER]),
        (f"{API}/call/tokenize", MARKER),
        (f"{API}/call/tokenize", {"data": [FILE]}),
        (f"{API}/call/tokenize", {"data": [{"deep": [{"er": FILE}]}]}),
        (f"{API}/call/tokenize", {"data": [MARKER], "session_hash": MARKER + "/../" + MARKER}),
        (f"{API}/call/tokenize", {"data": [MARKER], "session_hash": [MARKER]}),
        (f"{API}/call/{MARKER}", {"data": [MARKER]}),
        (f"{API}/call/editor_generate", {"data": [MARKER]}),
        (f"{API}/call/v2/tokenize", {}),
        (f"{API}/call/v2/tokenize", {"text": MARKER, MARKER: MARKER}),
        (f"{API}/call/v2/tokenize", {"text": MARKER, "\ud800": MARKER}),
        (f"{API}/call/v2/tokenize", {"text": FILE}),
        (f"{API}/call/v2/{MARKER}", {"text": MARKER}),
        (f"{API}/call/tokenize", {"data": [[MARKER] * (MAX_VALUES + 1)]}),
        (f"{API}/call/v2/tokenize", {"text": [{MARKER: 1}] * MAX_VALUES}),
        (f"{API}/queue/join", {"data": [MARKER], "fn_index": join}),
        (f"{API}/queue/join", {"data": [MARKER], "fn_index": join, "session_hash": SESSION}),
        (f"{API}/queue/join", {"data": [MARKER], "fn_index": 10**9, "session_hash": SESSION}),
        (f"{API}/queue/join", {"data": [MARKER], "fn_index": MARKER, "session_hash": SESSION}),
        (f"{API}/queue/join", {"data": [MARKER], "session_hash": SESSION}),
        (
            f"{API}/queue/join",
            {"data": [], "fn_index": join, "session_hash": SESSION, "batched": True},
        ),
        (
            f"{API}/queue/join",
            {"data": [], "fn_index": join, "session_hash": SESSION, "trigger_id": MARKER},
        ),
        (
            f"{API}/component_server/",
            {"data": MARKER, "component_id": server, "fn_name": MARKER, "session_hash": SESSION},
        ),
        (
            f"{API}/component_server/",
            {"data": MARKER, "component_id": MARKER, "fn_name": "plan", "session_hash": SESSION},
        ),
        (
            f"{API}/component_server/",
            {
                "data": MARKER,
                "component_id": server,
                "fn_name": "__init__",
                "session_hash": SESSION,
            },
        ),
        (
            f"{API}/component_server/",
            {
                "data": MARKER,
                "component_id": server,
                "fn_name": [MARKER],
                "session_hash": SESSION,
            },
        ),
        (f"{API}/component_server/", {"data": MARKER}),
    ]


def test_a_malformed_call_is_refused_with_a_sentence(site: WholeSite) -> None:
    calls = malformed(fn_index(site, "editor_generate"), 1)
    for path, body in calls:
        answer = site.ask("POST", path, **as_json(body))
        assert 400 <= answer.status_code < 500, (path, body, answer.text)
        sentence = answer.json()["detail"]
        assert isinstance(sentence, str), sentence
        assert sentence.endswith(".")
        assert len(sentence) < 250


def test_null_and_missing_inputs_of_functions_get_their_defaults(site: WholeSite) -> None:
    calls = Calls(site.page)
    parameters = site.ask("GET", f"{API}/info").json()["named_endpoints"]["/generate"]["parameters"]
    defaults = ["Once", *(one["parameter_default"] for one in parameters[1:])]
    join = {"fn_index": fn_index(site, "generate"), "session_hash": SESSION}
    for data in (["Once"], ["Once", None], ["Once", *[None] * (len(parameters) - 1)], defaults):
        assert calls.check(f"{API}/call/{{api_name}}", "generate", {"data": data}) == {
            "data": defaults
        }
        assert calls.check(f"{API}/queue/join", None, {"data": data, **join})["data"] == defaults
    given = calls.check(f"{API}/call/{{api_name}}", "generate", {"data": ["Once", 3]})["data"]
    assert given == ["Once", 3, *defaults[2:]]
    named = {"prompt": "Once", parameters[1]["parameter_name"]: None, "seed": 3}
    checked = calls.check(f"{API}/call/v2/{{api_name}}", "generate", named)
    assert checked == {"prompt": "Once", "seed": 3}


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'{"data": ["x"]}', "text/plain", 415),
        (b'{"data": ["x"]}', "application/x-www-form-urlencoded", 415),
        (b'{"data": ["x"]}', "multipart/form-data; boundary=x", 415),
        (b'{"data": ["x"]}', None, 415),
        (b"{", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b" " * (5 * 2**20), "application/json", 413),
    ],
)
def test_only_json_of_a_bounded_size_is_read(
    site: WholeSite, content: bytes, kind: str | None, status: int
) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    for path in ("call/tokenize", "queue/join", "cancel", "reset", "component_server/"):
        answer = site.ask("POST", f"{API}/{path}", content=content, headers=headers)
        assert (answer.status_code, "detail" in answer.json()) == (status, True)


def test_a_large_body_is_refused_though_its_length_is_not_given(site: WholeSite) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * 2**20

    headers = {"Content-Type": "application/json"}
    assert (
        site.ask("POST", f"{API}/queue/join", content=parts(), headers=headers).status_code == 413
    )


def test_no_text_of_a_request_reaches_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    """Send a marker in every field of every route, in malformed bodies, and in failing calls.

    The marker is neither in the output and access log of the program nor in the metrics.
    """
    playground = Playground(environment={"GPTJ_ACCESS_LOG": "json"})
    try:
        playground.wait_until_ready()
        config = playground.http.get("/config").json()
        fns = {fn["api_name"]: fn for fn in config["dependencies"]}
        servers = [c for c in config["components"] if c["props"].get("server_fns")]
        generate = fns["editor_generate"]["id"]
        for path, body in malformed(generate, servers[0]["id"]):
            answer = playground.http.post(path, **as_json(body))
            assert 400 <= answer.status_code < 500, (path, body, answer.text)
        for name, fn in fns.items():
            inputs = [MARKER] * len(fn["inputs"])
            for data in (inputs, [[MARKER]] * len(inputs), [{MARKER: MARKER}] * len(inputs)):
                body = {
                    "data": data, "fn_index": fn["id"], "session_hash": SESSION,
                    "event_data": {MARKER: MARKER}, "trigger_id": None,
                }  # fmt: skip
                joined = playground.http.post(f"{API}/queue/join", json=body)
                if joined.status_code == 200:
                    read_events(playground, f"{API}/queue/data?session_hash={SESSION}")
                if fn["api_visibility"] == "public":
                    event = playground.http.post(f"{API}/call/{name}", json={"data": data})
                    read_events(playground, f"{API}/call/{name}/{event.json()['event_id']}")
        for component in servers:
            for name in component["props"]["server_fns"]:
                for data in (MARKER, [MARKER], {MARKER: MARKER}, None, {"id": MARKER}):
                    body = {
                        "data": data, "component_id": component["id"], "fn_name": name,
                        "session_hash": SESSION,
                    }  # fmt: skip
                    playground.http.post(f"{API}/component_server/", json=body)
        for path in (f"/{MARKER}", f"/config?{MARKER}=1&deep_link={MARKER}", f"/?page={MARKER}",
                     f"{API}/queue/data?session_hash={MARKER}", f"{API}/call/score/{MARKER}",
                     f"/v1/{MARKER}", f"/assets/{MARKER}", f"/page/{MARKER}/{MARKER}"):  # fmt: skip
            playground.http.get(path, headers={"X-Request-Id": "own-id", "Cookie": f"a={MARKER}"})
        playground.http.post("/login", data={"username": MARKER, "password": MARKER})
        playground.http.get("/", headers={"Host": f"{MARKER}.example.org"})
        for body in ({"prompt": MARKER, "model": MARKER}, {MARKER: 1}, {"prompt": {MARKER: 1}}):
            playground.http.post("/v1/completions", json=body)
            playground.http.post("/v2/runs", json=body)
            playground.http.post("/tokenize", json=body)
            for path in ("v1/generate", "extra/generate/stream", "extra/abort"):
                own = {"genkey": MARKER, "sampler_order": [MARKER]}
                playground.http.post(f"/api/{path}", json=body | own)
            playground.http.post("/v1/score", json=body | {"continuations": [MARKER, [MARKER]]})
            playground.http.post("/v1/likely", json=body)
            playground.http.post("/v1/internal/token-count", json=body | {"text": MARKER})
        for method, named in (("tools/call", "generate"), ("tools/call", MARKER), (MARKER, MARKER)):
            for arguments in ({"prompt": MARKER}, {"prompt": MARKER, MARKER: MARKER}, [MARKER]):
                params = {"name": named, "arguments": arguments, "_meta": {"a": MARKER}}
                message = {"jsonrpc": "2.0", "id": MARKER, "method": method, "params": params}
                for version in ("2025-06-18", "2026-07-28", MARKER):
                    headers = {
                        "Accept": "application/json, text/event-stream",
                        "MCP-Protocol-Version": version,
                        "Mcp-Method": MARKER,
                    }
                    playground.http.post("/mcp", json=message, headers=headers)
        options = {"logprobs": 2, "prompt_logprobs": 2, "stop": [MARKER], "ignore_eos": True}
        for stream in (False, True):
            playground.complete(MARKER, echo=True, max_tokens=4, stream=stream, **options)
        assert MARKER not in playground.http.get("/metrics").text
        assert playground.http.get("/readyz").status_code == 200
    finally:
        playground.stop()
    printed = "".join(capfd.readouterr())
    assert MARKER.lower() not in printed.lower(), printed
    assert "Traceback" not in printed, printed
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith('{"time"')]
    assert {line["status"] for line in lines} >= {200, 400, 404}
    assert any(line["request_id"] == "own-id" and line["path"] == "other" for line in lines)
    written = [line for line in lines if line.get("predicted_n") == 4]
    assert len(written) == 2
    assert all(line["path"] == "/v1/completions" and line["prompt_n"] for line in written)
    assert all(line["ms"] >= line["prompt_ms"] + line["predicted_ms"] for line in written)


def read_events(playground: Playground, path: str) -> str:
    """All events of a stream, which ends by itself."""
    return playground.http.get(path).text


def test_an_event_is_ended_by_its_own_session_only() -> None:
    playground = Playground()
    try:
        playground.wait_until_ready()
        config = playground.http.get("/config").json()
        fns = {fn["api_name"]: fn["id"] for fn in config["dependencies"]}
        count = len(
            playground.http.get(f"{API}/info").json()["named_endpoints"]["/generate"]["parameters"]
        )
        info = playground.http.get(f"{API}/info").json()["named_endpoints"]["/generate"]
        wanted = {"prompt": "Once upon a time", "max_new_tokens": 2000, "ignore_eos": True}
        data = [
            wanted.get(p["parameter_name"], p.get("parameter_default")) for p in info["parameters"]
        ]
        assert len(data) == count
        posted = playground.http.post(f"{API}/call/generate", json={"data": data})
        event = posted.json()["event_id"]
        seen: list[str] = []
        first = threading.Event()

        def read() -> None:
            with playground.http.stream("GET", f"{API}/call/generate/{event}") as answer:
                for line in answer.iter_lines():
                    seen.append(line)
                    if line.startswith("data:") and len(line) > 20:
                        first.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        assert first.wait(PATIENCE)
        with playground.paused():
            for session in (SESSION, str(uuid.uuid4())):
                forged = {"event_id": event, "session_hash": session, "fn_index": fns["generate"]}
                answer = playground.http.post(f"{API}/cancel", json=forged)
                # the same answer whether there is such an event or not
                assert answer.json() == {"success": True}
                assert playground.http.post(f"{API}/reset", json={"event_id": event}).is_success
                assert playground.http.post(f"{API}/stream/{event}/close").status_code == 404
            count_then = len(seen)
            playground.http.get(f"{API}/queue/data?session_hash={SESSION}")
            assert reader.is_alive()
            own = {"event_id": event, "session_hash": event, "fn_index": fns["generate"]}
            assert playground.http.post(f"{API}/cancel", json=own).is_success
        reader.join(PATIENCE)
        assert not reader.is_alive()
        assert len(seen) >= count_then
        assert playground.wait_until_idle()
    finally:
        playground.stop()
