"""A worker with a real engine process, shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gptj_demo.client import Worker
from gptj_demo.settings import Settings
from tests.client.requests import run, until
from tests.client.scripted import Bench
from tests.engine.checkpoints import make_checkpoint


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random GPT-J: fast, and it rarely ends a text."""
    return make_checkpoint(tmp_path_factory.mktemp("tiny"), n_positions=2048)


@pytest.fixture(scope="package")
def worker(folder: Path) -> Iterator[Worker]:
    """Two slots, and three requests may wait."""
    worker = Worker(Settings(model=str(folder), max_num_seqs=2, max_waiting=3))
    worker.start()
    run(until(lambda: worker.status.state == "ready"))
    yield worker
    worker.stop()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.worker.stop()
