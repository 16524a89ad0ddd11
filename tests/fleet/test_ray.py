"""Engines that Ray Serve places, on this machine; `tests.fleet.load` does the same for longer."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import psutil
import pytest

from gptj_demo.client.backends import scaling
from gptj_demo.client.backends.calling import Offer
from gptj_demo.client.backends.rayserve import RayServe
from gptj_demo.protocol import GenerationRequest
from gptj_demo.sampling import SamplingParams
from tests.client.requests import collect
from tests.fleet.load import continue_texts, engines_of, fleet, scale, survive
from tests.processes import ROOT, App
from tests.waiting import eventually

pytestmark = pytest.mark.filterwarnings("default")  # Ray's own


def test_every_stream_ends_with_its_text_while_engines_are_killed() -> None:
    with fleet("2", 8, 2) as worker:
        result = asyncio.run(survive(worker, 16, 20, 12))
        print(result)
        assert result["engines killed"] >= 3
        assert result["times a stream was resumed"] > 0
        assert (result["streams that differ"], result["streams with an error"]) == (0, 0)
    eventually(lambda: not engines_of(psutil.Process()))


def test_engines_are_added_and_ended_under_load_and_continued_texts_are_cached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scaling, "UP_SECONDS", 1.0)
    monkeypatch.setattr(scaling, "DOWN_SECONDS", 10.0)
    with fleet("1..3", 8) as worker:
        result = asyncio.run(scale(worker, 3, 8, 12))
        print(result)
        assert max(result["engines ready, in turn"]) == 3
        assert result["engines ready, in turn"][-1] == 1
        assert (result["streams that differ"], result["streams with an error"]) == (0, 0)
    with fleet("3", 8, 3) as worker:
        result = asyncio.run(continue_texts(worker, 8, 4))
        print(result)
        assert result["cached"] >= 0.95


def test_the_whole_program_runs_on_ray_and_ends_with_it() -> None:
    app = App("--model", "sample", "--engines", "1", "--max-num-seqs", "4")
    try:
        app.wait_until_ready()
        ray = psutil.Process(app.process.pid).children(recursive=True)
        assert engines_of(psutil.Process(app.process.pid))
        app.process.terminate()
        assert app.process.wait(60) == 0
        eventually(lambda: not [one for one in ray if one.is_running()])
    finally:
        app.process.kill()


def test_an_update_replaces_every_engine_and_no_text_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    placed: list[tuple[RayServe, Offer, int]] = []
    place = RayServe.place

    def note(self: RayServe, offer: Offer, engines: int) -> None:
        placed.append((self, offer, engines))
        place(self, offer, engines)

    monkeypatch.setattr(RayServe, "place", note)
    asked = GenerationRequest(
        "The king", SamplingParams(seed=3, max_new_tokens=600, ignore_eos=True)
    )
    with fleet("2", 4, 2) as worker:
        alone, _ = asyncio.run(collect(worker, asked))
        old = {process.pid for process in engines_of(psutil.Process())}

        def is_replaced() -> bool:
            now = {process.pid for process in engines_of(psutil.Process())}
            return len(now - old) == 2 and not now & old and worker.health().engines == 2

        async def update() -> list[str]:
            place(*placed[0])
            texts: list[str] = []
            while not is_replaced():
                both = await asyncio.gather(collect(worker, asked), collect(worker, asked))
                texts += [text for text, _ in both]
            return texts

        texts = asyncio.run(update())
        assert set(texts) == {alone}
        assert worker.restarts == 0


def test_an_unreachable_cluster_ends_the_program_with_a_sentence() -> None:
    ran = subprocess.run(
        [sys.executable, "app.py", "--model", "sample", "--ray-address", "auto"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 2
    assert "Ray" in ran.stderr.splitlines()[-1]
