"""`text_offset` with tokenizers whose tokens do not tile the text."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, pre_tokenizers, processors

from gptj_demo.api.choices import Shape
from gptj_demo.api.completions import Completions
from gptj_demo.client import Worker
from gptj_demo.protocol import Visitor
from gptj_demo.sampling import SamplingParams
from gptj_demo.settings import Settings
from tests.engine.checkpoints import END_OF_TEXT, TEXT_TOKENS, make_checkpoint, make_tokenizer
from tests.waiting import PATIENCE, eventually

END = TEXT_TOKENS - 1
MASK = TEXT_TOKENS  # the id after those of the text


def write_odd_tokenizer(path: Path) -> None:
    """A token that begins every text, a space before it, and a token that takes spaces."""
    tokenizer = make_tokenizer(TEXT_TOKENS)
    tokenizer.add_tokens([AddedToken("<mask>", rstrip=True)])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A", special_tokens=[(END_OF_TEXT, END)]
    )
    tokenizer.save(str(path))


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = make_checkpoint(tmp_path_factory.mktemp("odd"), vocab_size=MASK + 1)
    write_odd_tokenizer(folder / "tokenizer.json")
    worker = Worker(Settings(model=str(folder), max_num_seqs=2))
    worker.start()
    eventually(lambda: worker.status.state == "ready")
    yield worker
    worker.stop()


def complete(
    worker: Worker, prompt: str | tuple[int, ...], *, echo: bool = True, **params: Any
) -> tuple[str, dict[str, Any]]:
    """The text and the logprobs of one choice."""
    values = {"max_new_tokens": 3, "seed": 1, "logprobs": 0, "ignore_eos": True, **params}

    async def scenario() -> list[dict[str, Any]]:
        controls = SamplingParams(echo=echo, **values)
        shape = Shape(echo=echo, logprobs=controls.logprobs)
        completions = Completions(worker, [prompt], controls, shape, Visitor("me", "me"))
        await completions.begin()
        return await completions.whole()

    (choice,) = asyncio.run(asyncio.wait_for(scenario(), PATIENCE))
    return choice["text"], choice["logprobs"]


def check_offsets(text: str, logprobs: dict[str, Any]) -> None:
    """Every token that is a text of its own stands at its offset."""
    for token, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
        if not token.startswith("bytes:") and token != END_OF_TEXT:
            assert text[offset:].lstrip(" ").startswith(token.lstrip(" ")), (token, offset)


def test_echo_reports_the_offset_of_each_token_in_the_text(worker: Worker) -> None:
    text, logprobs = complete(worker, "ab é<mask>  c", max_new_tokens=0)
    assert text == "ab é<mask>  c"
    assert logprobs["tokens"][0] == END_OF_TEXT
    places = dict(zip(logprobs["tokens"], logprobs["text_offset"], strict=True))
    assert places[END_OF_TEXT] == 0
    assert places["<mask>"] == 4
    assert logprobs["text_offset"][-1] == 12
    check_offsets(text, logprobs)


def test_generated_tokens_begin_at_the_end_of_the_prompt(worker: Worker) -> None:
    prompt = "ab <mask>   "
    text, logprobs = complete(worker, prompt)
    assert logprobs["text_offset"][-3] == len(prompt)
    check_offsets(text, logprobs)


def test_offsets_of_a_truncated_prompt_count_from_the_whole_prompt(worker: Worker) -> None:
    prompt = "x" * 90 + "<mask>  " + "yz"
    text, logprobs = complete(worker, prompt, max_new_tokens=0, truncate="left")
    assert len(logprobs["tokens"]) == 64
    places = dict(zip(logprobs["tokens"], logprobs["text_offset"], strict=True))
    assert places["<mask>"] == 90
    check_offsets(text, logprobs)


def test_a_healed_token_keeps_its_offset_in_the_prompt(worker: Worker) -> None:
    prompt = "ab<mask>  "
    text, logprobs = complete(worker, prompt, token_healing=True, max_new_tokens=2)
    first = logprobs["tokens"].index("<mask>")
    assert logprobs["text_offset"][first : first + 2] == [2, len(prompt)]
    assert text.startswith(prompt)
    _, logprobs = complete(worker, "a", echo=False, token_healing=True, max_new_tokens=2)
    assert logprobs["text_offset"][0] == 0, "the space before it is not in the text"


def test_a_prompt_of_token_ids_is_echoed_as_the_text_of_its_tokens(worker: Worker) -> None:
    vocabulary = worker.vocabulary
    assert vocabulary is not None
    ids = (END, *vocabulary.encode("aé"), MASK, *vocabulary.encode(" b"))
    text, logprobs = complete(worker, ids, max_new_tokens=0)
    assert text == END_OF_TEXT + "aé<mask> b"
    assert logprobs["text_offset"][:2] == [0, len(END_OF_TEXT)]
    places = dict(zip(logprobs["tokens"], logprobs["text_offset"], strict=True))
    assert places["<mask>"] == len(END_OF_TEXT) + 2
