"""The host never waits for the device in a step, except where it reads the tokens."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

import pytest
import torch

from gptj_demo.engine.sampling import SamplerBatch
from tests.engine.devices import NO_GPU
from tests.engine.host_waits import MODELS
from tests.engine.sampling.reference import Row
from tests.engine.sampling.rows import ON
from tests.processes import ROOT


@cache
def findings() -> dict[str, dict[str, str]]:
    """What `host_waits` found, in a process whose torch has a fake device."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.engine.host_waits"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, dict[str, str]] = json.loads(ran.stdout)
    return found


REQUESTS = [f"requests of all kinds, {kind}" for kind in MODELS]


@pytest.mark.parametrize("name", [*ON, "log-probabilities", "all controls", *REQUESTS])
def test_no_step_makes_the_host_wait(name: str) -> None:
    assert not findings()["waits"][name]


def test_each_kind_of_wait_is_noticed() -> None:
    caught = findings()["caught"]
    assert set(caught) == {"mask", "number", "up", "down", "index"}
    assert all(caught.values()), caught


@NO_GPU
@pytest.mark.parametrize("name", ON)
def test_no_control_synchronizes_with_the_gpu(name: str) -> None:
    """The same on a GPU, where torch itself refuses to wait."""
    device = torch.device("cuda")
    rows = [ON[name], Row()]
    batch = SamplerBatch([row.sampler() for row in rows], 50, device)
    logits = torch.randn(2, 53, device=device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch.sample(logits, lambda tokens: [0] * len(tokens))
    finally:
        torch.cuda.set_sync_debug_mode("default")
