"""A playground with a filter: what the API sends of a text that has a flagged sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from gptj_demo.client.moderation.sentences import first_end
from gptj_demo.texts import message
from tests.processes import App
from tests.waiting import PATIENCE

from .conftest import Playground

LEFT_OUT = str(message("filter.left_out"))
ASKED: dict[str, Any] = {"max_tokens": 120, "logprobs": 2, "temperature": 0.8}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Playground]]:
    """Starts a playground that flags a word in one of three ways."""
    running = []

    def begin(word: str, action: str) -> Playground:
        path = tmp_path_factory.mktemp("filter") / "patterns.txt"
        path.write_text(f"# planted\n\\b{re.escape(word)}\\b\n", encoding="utf-8")
        playground = Playground("--filter", str(path), "--filter-action", action)
        running.append(playground)
        playground.wait_until_ready()
        return playground

    yield begin
    for playground in running:
        playground.stop()


def sentences(text: str) -> list[str]:
    found = []
    while (end := first_end(text)) is not None:
        found.append(text[: end.mark])
        text = text[end.mark :]
    return [*found, text]


def planted(playground: Playground) -> tuple[dict[str, Any], int, str]:
    """A choice with several sentences, its seed, and a word that begins in the second one."""
    for seed in range(50):
        choice = playground.choices(seed=seed, **ASKED)[0]
        first, *others = sentences(choice["text"])
        words = re.findall(r"\w{4,}", others[0]) if len(others) > 2 else []
        for word in words:
            if not re.search(rf"(?i)\b{word}\b", first + others[1]):
                return choice, seed, word
    raise AssertionError("no text has several sentences")


def streamed(playground: Playground, seed: int) -> tuple[str, list[Any]]:
    client = openai.OpenAI(base_url=f"{playground.url}/v1", api_key="none", timeout=PATIENCE)
    model = client.models.list().data[0].id
    chunks = list(
        client.completions.create(
            model=model, prompt="Once upon a time", stream=True, seed=seed, **ASKED
        )
    )
    return "".join(chunk.choices[0].text for chunk in chunks), chunks


@pytest.mark.parametrize("action", ["hold", "end"])
def test_a_flagged_sentence_is_not_sent(
    playground: Playground, start: Callable[..., Playground], action: str
) -> None:
    plain, seed, word = planted(playground)
    first = sentences(plain["text"])[0]
    filtered = start(word, action)
    whole = filtered.choices(seed=seed, **ASKED)[0]
    text, chunks = streamed(filtered, seed)
    assert text == whole["text"]
    assert text.startswith(first)
    assert not re.search(rf"(?i)\b{word}\b", text)
    assert chunks[-1].choices[0].finish_reason == whole["finish_reason"]
    if action == "end":
        assert text == first
        assert whole["finish_reason"] == "content_filter"
    else:
        assert re.match(rf"{re.escape(first)}\s+{re.escape(LEFT_OUT)}", text)
        expected = sentences(plain["text"])
        kept = [one for one in expected if not re.search(rf"(?i)\b{word}\b", one)]
        assert "".join(text.replace(LEFT_OUT, "").split()) == "".join("".join(kept).split())
        assert whole["finish_reason"] == plain["finish_reason"]
    # each token has the offset of its text; tokens of flagged sentences are missing
    logprobs = whole["logprobs"]
    shown = "Once upon a time" + text
    for token, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
        if offset < len(shown) and not token.startswith("<|"):
            assert shown[offset : offset + len(token)] == token
    known = dict(zip(plain["logprobs"]["tokens"], plain["logprobs"]["token_logprobs"], strict=True))
    assert set(logprobs["tokens"]) <= known.keys()
    filtered.wait_until_idle()


def test_an_invalid_filter_pattern_ends_the_program_with_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "patterns.txt"
    path.write_text("fine\n(open\n")
    app = App("--model", "sample", "--filter", str(path))
    try:
        assert app.process.wait(PATIENCE) == 2
    finally:
        app.stop()
