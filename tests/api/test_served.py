"""A playground that uses another playground as its completions server returns the same text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gptj_demo.client import RequestRefused, Worker
from gptj_demo.client.backends.local import describe_exit
from gptj_demo.protocol import Finished, PromptScored, TokenEvent
from gptj_demo.served import LOST
from gptj_demo.settings import Settings
from tests.client.requests import collect, everything, request, run, until

from .conftest import Playground

PROMPT = "Once upon a time there was"


@pytest.fixture(scope="module")
def served(running_playground: Playground) -> Iterator[Worker]:
    worker = Worker(Settings(backend="openai", url=f"{running_playground.url}/v1"))
    worker.start()
    run(until(lambda: worker.status.state in ("ready", "failed")))
    yield worker
    worker.stop()


GUIDED = {"must_match": "regex", "must_match_text": "( [a-z]+){4}"}


@pytest.mark.parametrize(
    "controls",
    [
        {"temperature": 0.0, "stop": ["he"]},
        {"temperature": 1.2, "top_p": 0.9, "typical_p": 0.8, "dry_multiplier": 0.8},
        {"temperature": 0.8, "top_p": 1.0, **GUIDED},
    ],
)
def test_the_texts_equal_those_of_the_playground_that_serves_the_model(
    served: Worker, playground: Playground, controls: dict[str, Any]
) -> None:
    events = run(everything(served, request(PROMPT, max_new_tokens=24, n=2, **controls)))
    texts = ["", ""]
    for event in events:
        if isinstance(event, TokenEvent | Finished):
            texts[event.index] += event.text
    choices = playground.choices(PROMPT, max_tokens=24, n=2, seed=1, **controls)
    assert texts == [choice["text"] for choice in choices]
    ends = sorted((event.index, event.reason) for event in events if isinstance(event, Finished))
    assert ends == [(choice["index"], choice["finish_reason"]) for choice in choices]


def test_prompt_logprobs_equal_those_of_the_playground_that_serves_the_model(
    served: Worker, playground: Playground
) -> None:
    asked = request(PROMPT, max_new_tokens=0, echo=True, logprobs=2)
    (scored,) = [e for e in run(everything(served, asked)) if isinstance(e, PromptScored)]
    (choice,) = playground.choices(PROMPT, max_tokens=0, echo=True, logprobs=2)
    found = [None if one is None else one.logprob for one in scored.logprobs]
    assert found == choice["logprobs"]["token_logprobs"]


def test_the_model_description_names_the_server_and_the_controls_that_it_lacks(
    served: Worker, playground: Playground
) -> None:
    model = served.model
    assert model is not None
    assert model.served is not None
    assert playground.url.endswith(model.served.server)
    assert model.served.lacks == ("token_healing",)
    assert "reduced mode" in str(model.why)
    with pytest.raises(RequestRefused, match="token_healing"):
        run(collect(served, request(token_healing=True)))


def test_the_exit_of_an_engine_that_lost_its_server_is_reported_as_such() -> None:
    assert describe_exit(LOST).code == "exit.server_lost"
