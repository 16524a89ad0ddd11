"""The real `openai` client against a running playground."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.waiting import eventually

from .conftest import Playground

PROMPT = "Once upon a time there was"


@pytest.fixture
def client(playground: Playground) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{playground.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def model(client: openai.OpenAI) -> str:
    return client.models.list().data[0].id


def complete(client: openai.OpenAI, model: str, prompt: Any = PROMPT, **body: Any) -> Any:
    return client.completions.create(
        model=model, prompt=prompt, **{"max_tokens": 12, "seed": 7, **body}
    )


def test_a_completion_has_the_fields_of_openais_response(client: openai.OpenAI, model: str) -> None:
    answer = complete(client, model)
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.model == model
    assert answer.system_fingerprint.startswith("fp_")
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "length", None)
    assert choice.text
    usage = answer.usage
    assert usage.completion_tokens == 12
    assert usage.total_tokens == usage.prompt_tokens + 12
    assert usage.prompt_tokens_details.cached_tokens <= usage.prompt_tokens


def test_the_models_are_listed_and_found(client: openai.OpenAI, model: str) -> None:
    assert client.models.retrieve(model).id == model
    with pytest.raises(openai.NotFoundError, match="no-such-model"):
        client.models.retrieve("no-such-model")


def test_the_same_seed_gives_the_same_text_and_another_seed_another(
    client: openai.OpenAI, model: str
) -> None:
    texts = [complete(client, model, seed=seed).choices[0].text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_a_streams_chunks_add_up_and_report_usage(client: openai.OpenAI, model: str) -> None:
    long = {"max_tokens": 400, "extra_body": {"ignore_eos": True}}  # more than one chunk
    whole = complete(client, model, **long)
    options = {"include_usage": True}
    chunks = list(complete(client, model, **long, stream=True, stream_options=options))
    *texts, last = chunks
    assert "".join(chunk.choices[0].text for chunk in texts) == whole.choices[0].text
    assert len(texts) > 1
    assert [chunk.choices[0].finish_reason for chunk in texts][-1] == "length"
    assert all(chunk.choices[0].finish_reason is None for chunk in texts[:-1])
    assert all(chunk.usage is None for chunk in texts)
    assert last.choices == []
    assert last.usage.completion_tokens == 400
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].system_fingerprint == whole.system_fingerprint
    without = list(complete(client, model, stream=True))
    assert without[-1].choices[0].finish_reason == "length"


def test_streamed_logprobs_equal_those_of_a_whole_response(
    client: openai.OpenAI, model: str
) -> None:
    options = {"max_tokens": 30, "logprobs": 3, "n": 2, "echo": True}
    whole = complete(client, model, **options).choices
    for index in (0, 1):
        parts = [
            choice
            for chunk in complete(client, model, stream=True, **options)
            for choice in chunk.choices
            if choice.index == index
        ]
        for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            added = [one for part in parts for one in getattr(part.logprobs, name)]
            assert added == getattr(whole[index].logprobs, name)
        assert "".join(part.text for part in parts) == whole[index].text


def test_several_completions_each_have_the_seed_after_the_one_before(
    client: openai.OpenAI, model: str
) -> None:
    answer = complete(client, model, n=3, seed=10)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    alone = [complete(client, model, seed=10 + i).choices[0].text for i in range(3)]
    assert [choice.text for choice in answer.choices] == alone
    assert answer.usage.completion_tokens == 36


def test_best_of_returns_the_most_probable_candidate(client: openai.OpenAI, model: str) -> None:
    candidates = complete(client, model, n=4, logprobs=0).choices
    means = {
        choice.text: sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs)
        for choice in candidates
    }
    answer = complete(client, model, n=1, best_of=4)
    assert answer.choices[0].text == max(means, key=lambda text: means[text])
    assert answer.usage.completion_tokens == 48  # all candidates were written
    streamed = list(complete(client, model, n=1, best_of=4, stream=True))
    assert "".join(chunk.choices[0].text for chunk in streamed) == answer.choices[0].text


def test_each_token_has_a_log_probability_alternatives_and_an_offset(
    client: openai.OpenAI, model: str
) -> None:
    choice = complete(client, model, logprobs=5, temperature=0).choices[0]
    logprobs = choice.logprobs
    assert "".join(logprobs.tokens) == choice.text
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset) == 12
    for token, logprob, top in zip(
        logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True
    ):
        assert top[token] == logprob == max(top.values())  # greedy takes the likeliest
        assert len(top) == 5
        assert sum(map(math.exp, top.values())) <= 1.0001
    for token, offset in zip(logprobs.tokens, logprobs.text_offset, strict=True):
        assert (PROMPT + choice.text)[offset:].startswith(token)


def test_echo_gives_the_prompt_and_its_probabilities(client: openai.OpenAI, model: str) -> None:
    plain = complete(client, model).choices[0]
    echoed = complete(client, model, echo=True).choices[0]
    assert echoed.text == PROMPT + plain.text
    scored = complete(client, model, echo=True, logprobs=2).choices[0]
    assert "".join(scored.logprobs.tokens) == scored.text == PROMPT + plain.text
    assert scored.logprobs.token_logprobs[0] is None
    assert scored.logprobs.text_offset[0] == 0
    assert all(one < 0 for one in scored.logprobs.token_logprobs[1:])


def test_a_text_is_scored_without_generating_tokens(client: openai.OpenAI, model: str) -> None:
    answer = complete(client, model, echo=True, logprobs=0, max_tokens=0)
    choice = answer.choices[0]
    assert choice.text == PROMPT
    assert "".join(choice.logprobs.tokens) == PROMPT
    assert answer.usage.completion_tokens == 0
    longer = complete(client, model, echo=True, logprobs=0, max_tokens=1).choices[0]
    assert longer.logprobs.token_logprobs[:-1] == pytest.approx(
        choice.logprobs.token_logprobs, abs=1e-5, nan_ok=True
    ) or longer.logprobs.token_logprobs[1:-1] == pytest.approx(
        choice.logprobs.token_logprobs[1:], abs=1e-5
    )


def test_a_logit_bias_by_token_id_or_text_changes_the_completion(
    client: openai.OpenAI, model: str
) -> None:
    dragon = client.post("../tokenize", body={"prompt": " a"}, cast_to=object)
    token = dragon["tokens"][0]  # type: ignore[index]
    for bias in ({str(token): 100}, {" a": 100}):
        text = complete(client, model, logit_bias=bias, max_tokens=4).choices[0].text
        assert text == " a" * 4
    banned = complete(client, model, logit_bias={str(token): -100}, temperature=0, max_tokens=40)
    assert " a " not in banned.choices[0].text


def test_a_stop_string_ends_the_text_and_the_tokens_before_it(
    client: openai.OpenAI, model: str
) -> None:
    text = complete(client, model, max_tokens=40).choices[0].text
    stop = text[12:16]
    for stops in (stop, ["@@@", stop]):
        cut = complete(client, model, max_tokens=40, stop=stops, logprobs=0).choices[0]
        assert cut.text == text[: text.index(stop)]
        assert cut.finish_reason == "stop"
        assert all(offset < len(PROMPT + cut.text) for offset in cut.logprobs.text_offset)
        streamed = list(complete(client, model, max_tokens=40, stop=stops, stream=True))
        assert "".join(chunk.choices[0].text for chunk in streamed) == cut.text
        assert streamed[-1].choices[0].finish_reason == "stop"


def test_logprobs_include_the_token_that_ended_the_text(client: openai.OpenAI, model: str) -> None:
    end = client.post("../tokenize", body={"prompt": "<|endoftext|>"}, cast_to=object)
    bias = {str(end["tokens"][0]): 100}  # type: ignore[index]
    choice = complete(client, model, logit_bias=bias, logprobs=1).choices[0]
    assert (choice.text, choice.finish_reason) == ("", "stop")
    assert choice.logprobs.tokens == ["<|endoftext|>"]
    assert choice.logprobs.top_logprobs[0]["<|endoftext|>"] == choice.logprobs.token_logprobs[0]
    assert choice.logprobs.text_offset == [len(PROMPT)]


@pytest.mark.parametrize("stream", [False, True])
def test_prompts_are_accepted_as_text_as_token_ids_and_in_lists(
    client: openai.OpenAI, model: str, stream: bool
) -> None:
    ids = client.post("../tokenize", body={"prompt": PROMPT}, cast_to=object)["tokens"]  # type: ignore[index]

    def texts(prompt: Any, **body: Any) -> list[str]:
        answer = complete(client, model, prompt, stream=stream, **body)
        added: dict[int, str] = {}
        for chunk in answer if stream else [answer]:
            for choice in chunk.choices:
                added[choice.index] = added.get(choice.index, "") + choice.text
        return [added[index] for index in sorted(added)]

    (text,) = texts(PROMPT)
    assert texts(ids) == [text]
    assert texts([PROMPT]) == [text]
    assert texts([ids, ids[:2]])[0] == text
    other = "The king"
    assert texts([PROMPT, other], n=2) == texts(PROMPT, n=2) + texts(other, n=2)
    assert texts(ids, echo=True) == [PROMPT + text]


def test_the_tokens_of_one_character_have_its_offset(client: openai.OpenAI, model: str) -> None:
    prompt = "A 🦊 and a 漢字."
    choice = complete(client, model, prompt, echo=True, logprobs=1, max_tokens=0).choices[0]
    logprobs = choice.logprobs
    assert choice.text == prompt
    assert any(token.startswith("bytes:\\xf0") for token in logprobs.tokens)
    assert logprobs.text_offset == sorted(logprobs.text_offset)
    for token, offset in zip(logprobs.tokens, logprobs.text_offset, strict=True):
        if not token.startswith("bytes:"):
            assert prompt[offset:].startswith(token)
        else:
            assert ord(prompt[offset]) > 127


@pytest.mark.parametrize(
    ("body", "error", "param", "said"),
    [
        ({"temperature": 3}, openai.BadRequestError, "temperature", "from 0 to 2"),
        ({"logprobs": 21}, openai.BadRequestError, "logprobs", "from 0 to 20"),
        ({"max_tokens": -2}, openai.BadRequestError, "max_tokens", "from 0 to 2048"),
        ({"n": 17}, openai.BadRequestError, "n", "from 1 to 16"),
        ({"suffix": "."}, openai.BadRequestError, "suffix", "cannot fill a gap"),
        ({"logit_bias": {"1": 101}}, openai.BadRequestError, "logit_bias", "-100 to 100"),
        ({"logit_bias": {"999999": 1}}, openai.BadRequestError, "logit_bias", "vocabulary"),
        ({"extra_body": {"top_q": 1}}, openai.BadRequestError, "top_q", "no parameter named"),
        ({"extra_body": {"top_k": "5"}}, openai.BadRequestError, "top_k", "from 0 to 1000"),
        ({"best_of": 1, "n": 2}, openai.UnprocessableEntityError, "best_of", "less than"),
        ({"max_tokens": 0}, openai.UnprocessableEntityError, "max_tokens", "nothing to do"),
        ({"model": "gpt-9"}, openai.NotFoundError, "model", "gpt-9"),
        ({"prompt": [5] * 3000}, openai.BadRequestError, "prompt", "3,000 tokens"),
        ({"prompt": [999_999]}, openai.BadRequestError, "prompt", "not in the vocabulary"),
        ({"prompt": []}, openai.BadRequestError, "prompt", "prompt"),
        ({"prompt": {"a": 1}}, openai.BadRequestError, "prompt", "must be a text"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_invalid_request_raises_the_clients_exception_with_the_parameter(
    client: openai.OpenAI,
    model: str,
    body: dict[str, Any],
    error: type[openai.APIStatusError],
    param: str,
    said: str,
    stream: bool,
) -> None:
    arguments = {"model": model, "prompt": PROMPT, "max_tokens": 4, "stream": stream, **body}
    with pytest.raises(error, match=said) as caught:
        client.completions.create(**arguments)
    assert caught.value.param == param
    assert caught.value.request_id


def test_leaving_a_stream_ends_the_engines_work(
    playground: Playground, client: openai.OpenAI, model: str
) -> None:
    before = playground.metrics()
    stream = complete(client, model, max_tokens=2000, stream=True, extra_body={"ignore_eos": True})
    next(iter(stream))
    cancelled = 'gptj_requests_total{outcome="cancelled"}'
    with playground.paused():
        assert playground.metrics()["gptj_streams_running"] == 1
        stream.close()
        eventually(lambda: playground.metrics()[cancelled] == before[cancelled] + 1)
    playground.wait_until_idle()


def test_the_asynchronous_client_streams_many_at_once(playground: Playground) -> None:
    async def scenario() -> None:
        client = openai.AsyncOpenAI(base_url=f"{playground.url}/v1", api_key="none", max_retries=0)
        async with client:
            model = (await client.models.list()).data[0].id

            async def text(seed: int, stream: bool) -> str:
                answer: Any = await client.completions.create(
                    model=model, prompt=PROMPT, max_tokens=20, seed=seed, stream=stream
                )
                if not stream:
                    return str(answer.choices[0].text)
                return "".join([chunk.choices[0].text async for chunk in answer])

            streamed = await asyncio.gather(*(text(seed, True) for seed in range(16)))
            whole = await asyncio.gather(*(text(seed, False) for seed in range(16)))
            assert streamed == whole
            task = asyncio.create_task(text(1, False))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(scenario())


def test_a_stream_continues_unchanged_after_the_engine_is_killed(
    playground: Playground, client: openai.OpenAI, model: str
) -> None:
    options = {
        "max_tokens": 800,
        "seed": 5,
        "logprobs": 2,
        "n": 2,
        "extra_body": {"ignore_eos": True},
    }
    whole = complete(client, model, **options).choices
    resumed = playground.metrics()["gptj_requests_resumed_total"]
    stream = complete(client, model, stream=True, **options)
    chunks = [next(iter(stream))]
    playground.pause_engine()  # else the text may have ended before the engine
    playground.engine.kill()
    chunks += stream
    for index, choice in enumerate(whole):
        own = [one.choices[0] for one in chunks if one.choices[0].index == index]
        assert "".join(one.text for one in own) == choice.text
        logprobs = [number for one in own for number in one.logprobs.token_logprobs]
        assert logprobs == choice.logprobs.token_logprobs
        assert own[-1].finish_reason == "length"
    assert playground.metrics()["gptj_requests_resumed_total"] == resumed + 1


def test_requests_made_while_the_engine_restarts_are_answered(
    playground: Playground, client: openai.OpenAI, model: str
) -> None:
    before = complete(client, model, seed=3).choices[0].text
    playground.engine.kill()
    eventually(lambda: not playground.is_ready())
    assert complete(client, model, seed=3).choices[0].text == before
    eventually(playground.is_ready)


def test_a_stream_gets_a_comment_when_its_engine_is_lost(playground: Playground) -> None:
    body = {"prompt": "x", "max_tokens": 900, "ignore_eos": True, "stream": True}
    with playground.http.stream("POST", "/v1/completions", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        playground.pause_engine()
        playground.engine.kill()
        assert any(line.startswith(":") for line in lines)
    eventually(playground.is_ready)
