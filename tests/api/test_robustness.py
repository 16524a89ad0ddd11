"""No request causes a 5xx or stops the worker.

`GPTJ_API_CASES` says how many cases schemathesis makes; `make fuzz` makes 2,000.
"""

from __future__ import annotations

import json
import os
from typing import Any

import hypothesis
import schemathesis
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error

from gptj_demo.api.compatibility import ALIASES, NEUTRAL
from gptj_demo.sampling import CONTROLS
from tests.waiting import PATIENCE

from .conftest import Playground

CASES = int(os.environ.get("GPTJ_API_CASES", "150"))
PATIENT = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(hypothesis.HealthCheck),
}


LENGTHS = ["max_tokens", "response_length"]
LENGTHS += [name for name, ours in ALIASES.items() if ours == "max_tokens"]


def _bounded(body: Any) -> Any:
    """Limit the lengths in a body to 8 tokens, so that thousands of requests end in time."""
    if isinstance(body, dict):
        for name in LENGTHS:
            if type(body.get(name)) is int and (body[name] > 8 or body[name] == -1):
                body = {**body, name: 8}
    return body


def test_no_request_made_from_the_openapi_schema_causes_a_server_error(
    playground: Playground,
) -> None:
    schema = schemathesis.openapi.from_url(f"{playground.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 9
    operations.sort(key=lambda operation: operation.path == "/v1/completions")
    made = 0
    for operation in operations:
        is_last = operation is operations[-1]  # completions, which gets all remaining cases
        share = CASES - made if is_last else CASES // (2 * len(operations))
        strategy = operation.as_strategy()

        @hypothesis.settings(max_examples=share, **PATIENT)
        @hypothesis.given(case=strategy)
        def check(case: Any) -> None:
            nonlocal made
            made += 1
            case.body = _bounded(case.body)
            response = case.call(timeout=PATIENCE)
            case.validate_response(response, checks=[not_a_server_error])

        check()
    print(f"{made} cases, no 5xx")
    assert made >= CASES
    assert playground.complete(max_tokens=2).status_code == 200


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.text(max_size=20)
    | st.lists(st.integers(-2, 60_000) | st.text(max_size=5), max_size=5)
    | st.dictionaries(st.text(max_size=5), st.integers(-200, 200), max_size=3)
)
NAMES = st.sampled_from(
    ["max_tokens", "model", "stream", "stream_options", "suffix", "user", "stop"]
    + ["prompt_logprobs", "return_token_ids", "return_tokens_as_token_ids", "timings"]
    + ["truncate_prompt_tokens", *ALIASES, *sorted(NEUTRAL)]
    + [control.name for control in CONTROLS]
) | st.text(max_size=10)
PROMPTS = (
    st.text(max_size=60)
    | st.lists(st.text(max_size=10), max_size=3)
    | st.lists(st.integers(-1, 3000), max_size=40)
    | st.lists(st.lists(st.integers(0, 100), max_size=5), max_size=3)
    | VALUES
)


def test_no_body_kills_or_blocks_the_worker(playground: Playground) -> None:
    engine = playground.engine.pid

    @hypothesis.settings(max_examples=CASES, **PATIENT)
    @hypothesis.given(prompt=PROMPTS, body=st.dictionaries(NAMES, VALUES, max_size=4))
    def check(prompt: Any, body: dict[str, Any]) -> None:
        sent = _bounded({"max_tokens": 4, **body, "prompt": prompt})
        content = json.dumps(sent).encode()
        answer = playground.http.post(
            "/v1/completions", content=content, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code in (200, 400, 404, 422), answer.text
        if answer.status_code != 200:
            assert answer.json()["error"]["message"]

    check()
    assert playground.engine.pid == engine
    assert playground.complete(max_tokens=2).status_code == 200


def test_the_default_and_the_limits_of_each_control_are_accepted(playground: Playground) -> None:
    """The description's own defaults and limits are values that the API takes."""
    openapi = playground.http.get("/openapi.json").json()
    fields = openapi["components"]["schemas"]["CompletionRequest"]["properties"]
    others = {"max_tokens": 2, "n": 1, "echo": True}
    for control in CONTROLS:
        name = "max_tokens" if control.name == "max_new_tokens" else control.name
        limits = fields[name]["anyOf"][0]
        values = [fields[name]["default"], limits.get("minimum"), limits.get("maximum")]
        for value in values:
            if value is None or (name == "max_tokens" and value > 100):
                continue
            body = {**others, name: value}
            if name == "min_new_tokens":
                body["min_new_tokens"] = min(value, 2)
            if name in ("n", "best_of") and value > 4:
                body[name] = 4
            answer = playground.complete("Once", **body)
            assert answer.status_code == 200, (name, value, answer.text)
