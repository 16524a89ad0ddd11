"""Devices, folders and reports that the tests of loading share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import GPTJConfig

from gptj_demo.engine.load import (
    Refusal,
    load_model,
    make_plan,
    plan,
)
from gptj_demo.engine.machine import Machine
from gptj_demo.settings import Settings
from tests.engine.checkpoints import (
    make_checkpoint,
    write_tokenizer,
)
from tests.engine.fake_hub import FakeHub, serve_hub

GB = 1_000_000_000
PRECISIONS = ("float32", "float16", "bfloat16", "int8")
ODD_SHAPE: dict[str, Any] = {"n_embd": 24, "n_head": 3, "n_layer": 3, "n_inner": 40}

Reports = list[tuple[str, float | None]]


@pytest.fixture(autouse=True)
def _clean_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"GPTJ_{name.upper()}", raising=False)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the devices that a plan is made for: gigabytes on a GPU, if any, and on the CPU."""

    def set_machine(*, cpu: float = 16, gpu: float | None = None) -> None:
        machines = [Machine("cpu", "a processor", int(cpu * GB))]
        if gpu is not None:
            machines.insert(0, Machine("cuda", "a GPU", int(gpu * GB)))
        monkeypatch.setattr(plan, "find_machines", lambda: machines)

    set_machine()
    return set_machine


@pytest.fixture(scope="package")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="package")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that says it is GPT-J 6B; its weights are empty, for a plan reads none."""
    folder = tmp_path_factory.mktemp("checkpoints") / "full-size"
    GPTJConfig().save_pretrained(folder)
    write_tokenizer(folder)
    (folder / "pytorch_model.bin").touch()
    return folder


@pytest.fixture
def sample(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(plan, "SAMPLE_MODEL", tiny)
    return tiny


def ignore(detail: object, progress: float | None = None) -> None:
    """A report callback that does nothing."""


def load(folder: Path, precision: str, reports: Reports | None = None) -> Any:
    report = (
        ignore
        if reports is None
        else lambda detail, progress: reports.append((str(detail), progress))
    )
    return load_model(make_plan(Settings(model=str(folder), precision=precision)), report)


def refusal(**settings: Any) -> str:
    with pytest.raises(Refusal) as caught:
        make_plan(Settings(**settings))
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with serve_hub(tmp_path / "cache", monkeypatch) as hub:
        yield hub
