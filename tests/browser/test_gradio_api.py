"""The named functions for probabilities return the numbers of the OpenAI route."""

from __future__ import annotations

import json
import math
import urllib.request
from typing import Any

import pytest

from tests.waiting import PATIENCE

from .conftest import Site

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


def openai_logprobs(site: Site, prompt: str, **more: Any) -> dict[str, Any]:
    """What the OpenAI-compatible route says of a prompt's tokens."""
    body = {"prompt": prompt, "max_tokens": 0, "echo": True, "logprobs": 3, **more}
    request = urllib.request.Request(
        f"{site.url}/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return dict(json.load(answer)["choices"][0]["logprobs"])


def test_the_api_scores_a_text_as_the_openai_route_does(site: Site) -> None:
    from gradio_client import Client

    client = Client(site.url, verbose=False)
    text = "Once upon a time there was a king. <b>${x}</b> 漢"
    score = client.predict(text, count=3, api_name="/score")
    logprobs = openai_logprobs(site, text)
    assert "logprob" not in score["tokens"][0]
    assert logprobs["token_logprobs"][0] is None
    ours = [token["logprob"] for token in score["tokens"][1:]]
    assert ours == pytest.approx(logprobs["token_logprobs"][1:], abs=1e-4)
    assert score["sum_logprob"] == pytest.approx(sum(ours), abs=1e-3)
    assert score["perplexity"] == pytest.approx(math.exp(-sum(ours) / len(ours)), rel=1e-4)
    first = len(score["tokens"][0]["text"].encode())
    bits = -sum(ours) / math.log(2) / (len(text.encode()) - first)
    assert score["bits_per_byte"] == pytest.approx(bits, rel=1e-4)
    for token in score["tokens"][1:]:
        assert len(token["alternatives"]) == 3
        if token["rank"] <= 3:
            assert token["alternatives"][token["rank"] - 1]["token_id"] == token["token_id"]
    assert client.predict("", api_name="/score")["tokens"] == []
    for bad, said in (({"count": 21}, "from 0 to 20"), ({"truncate": "right"}, "error, left")):
        with pytest.raises(Exception, match=said):
            client.predict("x", **bad, api_name="/score")
    with pytest.raises(Exception, match="reads"):
        client.predict("word " * 3000, api_name="/score")


def test_alternatives_lists_next_tokens_and_the_filters_that_removed_them(site: Site) -> None:
    from gradio_client import Client

    client = Client(site.url, verbose=False)
    prompt = "Once upon a time there was a"
    controls = {"temperature": 0.5, "top_k": 2, "bad_words": ["king"]}
    answer = client.predict(prompt, count=6, **controls, api_name="/alternatives")
    others = answer["alternatives"]
    assert len(others) == 6
    probabilities = [other["probability"] for other in others]
    assert probabilities == sorted(probabilities, reverse=True)
    left = [other for other in others if other["removed_by"] is None]
    assert len(left) == 2
    assert sum(other["sampled_probability"] for other in left) == pytest.approx(1, abs=1e-4)
    ratio = (left[0]["probability"] / left[1]["probability"]) ** 2  # temperature 0.5
    after = left[0]["sampled_probability"] / left[1]["sampled_probability"]
    assert after == pytest.approx(ratio, rel=1e-3)
    for other in others:
        assert math.exp(other["logprob"]) == pytest.approx(other["probability"], rel=1e-4)
        if other["removed_by"]:
            assert other["sampled_probability"] == 0
    removed = {other["text"]: other["removed_by"] for other in others}
    assert removed.get(" king", "bad_words") == "bad_words"
    assert "top_k" in removed.values()
    logprobs = openai_logprobs(site, prompt + others[0]["text"], logprobs=6)
    assert logprobs["token_logprobs"][-1] == pytest.approx(others[0]["logprob"], abs=1e-4)
    for count in (0, 21):
        with pytest.raises(Exception, match="count must be a whole number from 1 to 20"):
            client.predict(prompt, count=count, api_name="/alternatives")


def test_an_answer_with_too_many_log_probabilities_is_refused(site: Site) -> None:
    from gradio_client import Client

    client = Client(site.url, verbose=False)
    large = {"n": 16, "max_new_tokens": 2000, "logprobs": 20}
    with pytest.raises(Exception, match="672,000 log-probabilities; an answer has 100,000"):
        client.predict("Once", **large, api_name="/complete")


def test_the_api_ranks_prompts_and_attributes_parts(site: Site) -> None:
    from gradio_client import Client

    client = Client(site.url, verbose=False)
    prompts = ["The fox ran into the forest. There", "Once upon a time there was", ""]
    ranked = client.predict(prompts, " a king", api_name="/compare_prompts")
    assert ranked[0]["prompt"] == prompts[1]
    sums = [one["sum_logprob"] for one in ranked]
    assert sums == sorted(sums, reverse=True)
    assert sorted(one["index"] for one in ranked) == [0, 1, 2]
    for one in (one for one in ranked if one["prompt"]):
        length = len(one["tokens"])
        expected = openai_logprobs(site, one["prompt"] + " a king")["token_logprobs"][-length:]
        assert [token["logprob"] for token in one["tokens"]] == pytest.approx(expected, abs=1e-4)
        assert one["mean_logprob"] == pytest.approx(sum(expected) / length, abs=1e-4)
        bits = -sum(expected) / math.log(2) / len(" a king")
        assert one["bits_per_byte"] == pytest.approx(bits, abs=1e-4)

    answer = client.predict(prompts[1], " a king", api_name="/attribute")
    assert [part["text"] for part in answer["parts"]] == ["Once", " upon", " a", " time", " there",
                                                          " was"]  # fmt: skip
    shorter = client.predict(["Once upon a time there"], " a king", api_name="/compare_prompts")
    part = answer["parts"][-1]
    lost = answer["sum_logprob"] - shorter[0]["sum_logprob"]
    assert part["influence"] == pytest.approx(lost, abs=1e-4)
    assert part["influence"] == pytest.approx(sum(part["tokens"]), abs=1e-4)
    for call, given, said in (
        ("/compare_prompts", (["x"], ""), "There is no continuation"),
        ("/compare_prompts", (["x"] * 65, " a"), "there were 65"),
        ("/compare_prompts", ([1], " a"), "must be a text"),
        (
            "/compare_prompts",
            (["x"] * 64, " a" * 100, 20),
            "log-probabilities; an answer has 100,000",
        ),
        ("/attribute", ("", " a"), "no prompt whose parts"),
        ("/tokenize", ("🙂" * 50_000,), "tokens; at most 50,000 are listed"),
    ):
        with pytest.raises(Exception, match=said):
            client.predict(*given, api_name=call)
