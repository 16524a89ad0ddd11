"""app.py as a program, and what the page offers to programs."""

from __future__ import annotations

import asyncio
import math
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from gptj_demo.sampling import CONTROLS
from tests.processes import ROOT, free_port
from tests.waiting import PATIENCE, eventually

from .conftest import Site, Visitor

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


def run_app(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "app.py", *flags], cwd=ROOT, capture_output=True, text=True
    )


def test_a_port_in_use_ends_the_program_with_one_sentence_and_exit_code_2(model: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = run_app("--server-port", str(port), "--model", model)
    assert ended.returncode == 2
    assert ended.stderr.strip().count("\n") == 0
    assert f"Port {port} is in use" in ended.stderr


def test_an_address_of_another_machine_ends_the_program_with_exit_code_2() -> None:
    ended = run_app("--server-name", "192.0.2.1", "--model", "sample")
    assert ended.returncode == 2
    assert "192.0.2.1" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_folder_without_a_model_ends_the_program_with_exit_code_2(tmp_path: Path) -> None:
    ended = run_app("--model", str(tmp_path), "--server-port", str(free_port()))
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert str(tmp_path) in ended.stderr


def test_the_api_streams_with_the_tables_controls(site: Site) -> None:
    from gradio_client import Client

    client = Client(site.url, verbose=False)
    api = client.view_api(print_info=False, return_format="dict")["named_endpoints"]
    assert set(api) == {
        "/generate",
        "/complete",
        "/alternatives",
        "/score",
        "/compare_prompts",
        "/attribute",
        "/likely",
        "/tokenize",
        "/compare",
        "/status",
        "/code",
    }
    for name in set(api) - {"/status"}:
        assert api[name]["description"]
    for name in ("/generate", "/complete"):
        names = [parameter["parameter_name"] for parameter in api[name]["parameters"]]
        assert names == ["prompt", *(control.name for control in CONTROLS)]
    job = client.submit("Once upon a time", max_new_tokens=30, seed=7, api_name="/generate")
    updates = list(job)
    assert all(later.startswith(sooner) for sooner, later in pairwise(updates))
    again = client.predict("Once upon a time", max_new_tokens=30, seed=7, api_name="/generate")
    assert again == updates[-1] != ""
    with pytest.raises(
        Exception, match=r"Temperature \(temperature\) must be a number from 0 to 2"
    ):
        client.predict("Once upon a time", temperature=9, api_name="/generate")


def test_complete_returns_the_details_of_several_completions(site: Site) -> None:
    from gradio_client import Client

    client = Client(site.url, verbose=False)
    options = {"max_new_tokens": 20, "echo": True, "logit_bias": {" king": 2.5}}
    prompt = "Once upon a time"
    job = client.submit(prompt, seed=7, n=2, logprobs=2, **options, api_name="/complete")
    updates = list(job)
    assert updates[0]["completions"][0]["finish_reason"] is None
    answer = updates[-1]
    assert [one["seed"] for one in answer["completions"]] == [7, 8]
    for one in answer["completions"]:
        assert one["finish_reason"] in ("length", "stop")
        assert "".join(token["text"] for token in one["tokens"]) == one["text"]
        shown = one["tokens"][:20]
        assert [len(token["alternatives"]) for token in shown] == [2] * len(shown)
        mean = sum(token["logprob"] for token in shown) / len(shown)
        if one["finish_reason"] == "length":
            assert one["mean_logprob"] == pytest.approx(mean, abs=1e-4)
    score = answer["prompt"]
    assert "".join(token["text"] for token in score["tokens"]) == prompt
    logprobs = [token["logprob"] for token in score["tokens"][1:]]
    assert score["sum_logprob"] == pytest.approx(sum(logprobs), abs=1e-4)
    assert score["perplexity"] == pytest.approx(math.exp(-sum(logprobs) / len(logprobs)), rel=1e-3)
    alone = client.predict(prompt, seed=8, **options, api_name="/generate")
    assert alone == answer["completions"][1]["text"]
    with pytest.raises(Exception, match=r"Best of \(best_of\) is 1, which is less than"):
        client.predict("x", n=2, best_of=1, api_name="/complete")


def test_the_api_tokenizes_any_text_also_where_a_token_is_part_of_a_character(site: Site) -> None:
    from gradio_client import Client

    client = Client(site.url, verbose=False)
    text = "Once upon a 漢字 🦊.\n"
    tokens = client.predict(text, api_name="/tokenize")
    data = text.encode()
    assert tokens[0]["start"] == 0
    assert tokens[-1]["end"] == len(data)
    assert all(one["end"] == other["start"] for one, other in pairwise(tokens))
    for token in tokens:
        piece = data[token["start"] : token["end"]]
        assert token["text"] == piece.decode(errors="backslashreplace")
    assert any("\\x" in token["text"] for token in tokens)
    assert client.predict("", api_name="/tokenize") == []


def test_a_person_at_the_page_does_not_wait_for_60_requests_of_a_caller(
    model: str, visit: Callable[..., Visitor]
) -> None:
    requests = 60
    is_over = threading.Event()

    async def ask_for_much() -> None:
        body = {"prompt": "Once", "max_tokens": 900, "ignore_eos": True}
        limits = httpx.Limits(max_connections=requests)
        async with httpx.AsyncClient(
            base_url=site.url, limits=limits, timeout=None, trust_env=False
        ) as client:
            calls = [
                asyncio.ensure_future(client.post("/v1/completions", json=body))
                for _ in range(requests)
            ]
            await asyncio.to_thread(is_over.wait)
            for call in calls:
                call.cancel()

    def open_requests() -> float:
        return site.metrics()["gptj_requests_open"]

    site = Site(model, "--max-num-seqs", "4", "--max-waiting", "200")
    caller = threading.Thread(target=lambda: asyncio.run(ask_for_much()))
    try:
        site.wait_until_ready()
        person = visit(site.url)
        person.write("Once upon a time")
        site.pause_engine()
        caller.start()
        eventually(lambda: open_requests() == requests)
        person.page.keyboard.press("Control+Enter")
        eventually(lambda: open_requests() == requests + 1)
        site.resume_engine()
        person.finished()
        assert open_requests() > 0
    finally:
        is_over.set()
        site.stop()
        if caller.ident is not None:
            caller.join(PATIENCE)
