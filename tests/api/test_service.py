"""The routes beside completions, and all of them as on a Space."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gptj_demo.sampling import CONTROLS

from .conftest import Playground

TEXT = "Once upon a 漢字 🦊.\n"


def test_detokenize_inverts_tokenize(playground: Playground) -> None:
    answer = playground.http.post("/tokenize", json={"prompt": TEXT}).json()
    assert answer["count"] == len(answer["tokens"]) == len(answer["token_strs"])
    assert answer["max_model_len"] >= 512
    assert answer["byte_offsets"][0] == 0
    assert answer["byte_offsets"] == sorted(answer["byte_offsets"])
    back = playground.http.post("/detokenize", json={"tokens": answer["tokens"]}).json()
    assert back == {"prompt": TEXT}
    half = playground.http.post("/detokenize", json={"tokens": answer["tokens"][:-3]}).json()
    assert "\ufffd" in half["prompt"] or TEXT.startswith(half["prompt"])
    wrong = playground.http.post("/detokenize", json={"tokens": [10**9]})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "tokens")
    assert playground.http.post("/tokenize", json={"text": "x"}).status_code == 400


def test_the_site_is_healthy_and_the_model_ready(playground: Playground) -> None:
    assert playground.http.get("/healthz").json() == {"status": "ok"}
    assert playground.http.get("/readyz").json()["status"] == "ready"


def test_metrics_count_every_request_and_token(playground: Playground) -> None:
    before = playground.metrics()
    playground.complete("Once upon a time", max_tokens=5, n=2, ignore_eos=True)
    playground.complete(temperature=9)
    playground.complete([5] * 3000)
    after = playground.wait_until_idle()
    growth = {name: after[name] - before.get(name, 0) for name in after}
    assert growth["gptj_requests_received_total"] == 2  # temperature=9 is refused first
    assert growth['gptj_requests_total{outcome="finished"}'] == 1
    assert growth['gptj_requests_total{outcome="too_long"}'] == 1
    assert growth['gptj_completions_total{reason="length"}'] == 2
    assert growth["gptj_completion_tokens_total"] == 10
    for drafter in ("lookup", "model"):
        labels = f'{{drafter="{drafter}"}}'
        accepted = growth[f"gptj_accepted_tokens_total{labels}"]
        assert accepted <= growth[f"gptj_drafted_tokens_total{labels}"]
    assert growth["gptj_prompt_tokens_total"] == 4
    assert growth["gptj_first_token_seconds_count"] == 1
    assert growth["gptj_token_gap_seconds_count"] == 8
    assert growth['gptj_http_responses_total{path="/v1/completions",status="200"}'] == 1
    assert growth['gptj_http_responses_total{path="/v1/completions",status="400"}'] == 2
    assert after["gptj_kv_cache_tokens"] == after["gptj_kv_cache_tokens_reserved"] == 0
    assert after["gptj_kv_cache_tokens_max"] >= 1024  # at least a whole context
    families = text_string_to_metric_families(playground.http.get("/metrics").text)
    assert all(family.documentation for family in families)


def test_the_page_is_counted_too(playground: Playground) -> None:
    from gradio_client import Client

    before = playground.metrics()["gptj_requests_received_total"]
    client = Client(playground.url, verbose=False)
    assert client.predict("Once", max_new_tokens=3, api_name="/generate")
    assert playground.metrics()["gptj_requests_received_total"] == before + 1


def test_every_control_is_described_from_the_table(playground: Playground) -> None:
    openapi = playground.http.get("/openapi.json").json()
    fields = openapi["components"]["schemas"]["CompletionRequest"]["properties"]
    page = playground.http.get("/docs").text
    for control in CONTROLS:
        name = "max_tokens" if control.name == "max_new_tokens" else control.name
        assert fields[name]["description"] == f"{control.help} {control.definition}"
        if control.kind in ("integer", "number"):
            limits = fields[name]["anyOf"][0]
            assert (limits["minimum"], limits["maximum"]) == (control.minimum, control.maximum)
        assert f"<code>{name}</code>" in page
    assert all(field.get("description") for field in fields.values())
    assert set(openapi["paths"]) >= {
        "/v1/completions", "/v1/models", "/tokenize", "/detokenize", "/v2/runs",
        "/healthz", "/readyz", "/metrics",
    }  # fmt: skip
    assert "http" not in page.replace("https://json-schema", "")  # asks no other host


def test_scripts_of_other_sites_may_not_read_answers_by_default(
    playground: Playground,
) -> None:
    origin = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    for headers in ({"Origin": "https://example.org"}, origin):
        answer = playground.http.options("/v1/completions", headers=headers)
        assert "access-control-allow-origin" not in answer.headers
    answer = playground.http.get("/v1/models", headers=origin)
    assert "access-control-allow-origin" not in answer.headers


def test_all_routes_answer_in_the_environment_of_a_space() -> None:
    playground = Playground(
        "--cors-origins",
        "https://example.org",
        environment={"SYSTEM": "spaces", "GRADIO_SSR_MODE": "True", "SPACE_ID": "someone/gptj"},
    )
    try:
        playground.wait_until_ready()
        page = playground.http.get("/")
        assert page.status_code == 200
        assert "<title>GPT-J Playground" in page.text or "GPT-J Playground" in page.text
        assert playground.choices(max_tokens=2)[0]["text"]
        assert playground.http.get("/v1/models").json()["data"]
        assert "gptj_requests_total" in playground.http.get("/metrics").text
        assert playground.http.get("/docs").text.startswith("<!doctype html>")
        assert playground.http.get("/healthz").status_code == 200
        config = playground.http.get("/config").json()
        assert config["title"] == "GPT-J Playground"
        origin = {"Origin": "https://example.org"}
        answer = playground.http.get("/v1/models", headers=origin)
        assert answer.headers["access-control-allow-origin"] == "https://example.org"
        other = playground.http.get("/v1/models", headers={"Origin": "https://example.com"})
        assert "access-control-allow-origin" not in other.headers
    finally:
        playground.stop()


def test_pipeline_clouds_requests_are_answered_in_its_shape(playground: Playground) -> None:
    prompt = "I met a traveller from an antique land, who said"

    def run(**parameters: object) -> httpx.Response:
        body = {"pipeline_id": "pipeline_d7502b78", "data": [prompt, parameters]}
        return playground.http.post("/v2/runs", json=body)

    answer = run(response_length=64, remove_input=False, temperature=0.9, top_k=50, seed=1)
    result = answer.json()
    assert answer.status_code == 200, answer.text
    assert result["run_state"] == "completed"
    text = result["result_preview"][0][0]
    assert text.startswith(prompt)
    assert len(text) > len(prompt) + 64
    continued = run(response_length=64, remove_input=True, temperature=0.9, top_k=50, seed=1)
    assert prompt + continued.json()["result_preview"][0][0] == text
    several = run(response_length=5, num_return_sequences=3, seed=1).json()["result_preview"]
    assert len(several[0]) == 3
    greedy = [run(max_length=20, do_sample=False).json()["result_preview"] for _ in range(2)]
    assert greedy[0] == greedy[1]
    for wrong in ({"num_beams": 4}, {"nonsense": 1}, {"max_length": 2}, {"remove_input": 1}):
        answer = run(**wrong)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == f"data.1.{next(iter(wrong))}"
    assert playground.http.post("/v2/runs", json={"data": [1]}).status_code == 400


@pytest.mark.parametrize(
    ("parameters", "param", "said"),
    [
        ({"response_length": 2, "max_new_tokens": 50}, "max_new_tokens", "different things"),
        ({"response_length": 2, "max_length": 50}, "max_length", "different things"),
        ({"min_new_tokens": 2, "min_length": 50}, "min_length", "different things"),
        ({"n": 3, "num_return_sequences": 2}, "num_return_sequences", "different things"),
        ({"penalty": 1.2, "repetition_penalty": 1.1}, "repetition_penalty", "different things"),
        ({"eos_token_id": 5, "stop_token_ids": [6]}, "stop_token_ids", "different things"),
        ({"include_input": True, "remove_input": True}, "remove_input", "both are true"),
        ({"include_input": False, "remove_input": False}, "remove_input", "both are false"),
        ({"early_stopping": "banana"}, "early_stopping", 'or false; it was "banana".'),
        ({"use_cache": 1}, "use_cache", "true or false; it was 1."),
        ({"pad_token_id": "x"}, "pad_token_id", 'from 0; it was "x".'),
        ({"response_length": 5000}, "response_length", "(response_length) must be a whole number"),
        ({"penalty": 9}, "penalty", "(penalty) must be a number from 0.5 to 2"),
    ],
)
def test_pipeline_clouds_contradictions_are_refused(
    playground: Playground, parameters: dict[str, object], param: str, said: str
) -> None:
    answer = playground.http.post("/v2/runs", json={"data": ["Once", parameters]})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == f"data.1.{param}"
    assert said in error["message"]


def test_pipeline_clouds_parameters_that_agree_are_accepted(playground: Playground) -> None:
    def texts(**parameters: object) -> list[str]:
        body = {"data": ["Once", {"seed": 1, **parameters}]}
        return list(playground.http.post("/v2/runs", json=body).json()["result_preview"][0])

    plain = texts(response_length=6, n=2)
    same = {"max_new_tokens": 6, "num_return_sequences": 2, "early_stopping": True}
    same |= {"use_cache": True, "pad_token_id": 0, "include_input": False, "remove_input": True}
    assert texts(response_length=6, n=2, **same) == plain
