"""Checkpoints from the hub and from its cache."""

from __future__ import annotations

import errno
import json
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from filelock import FileLock
from huggingface_hub import constants

from gptj_demo.engine.load import (
    Plan,
    Refusal,
    load_model,
    load_tokenizer,
    make_plan,
)
from gptj_demo.engine.load.hub import fetch_small_files
from gptj_demo.engine.load.plan import GPT_J
from gptj_demo.settings import Settings
from tests.engine.checkpoints import (
    Layout,
    copy_checkpoint,
    make_checkpoint,
    make_model,
)
from tests.engine.fake_hub import FakeHub, commit_of
from tests.engine.load.conftest import Reports, ignore, refusal

LIBRARY_REQUESTS = {"GET /api/agent-harnesses"}
"""What huggingface_hub asks for by itself, once a process, for its user agent."""

SMALL_AND_NEEDED = {"config.json", "tokenizer.json", "tokenizer_config.json"}


def load_all(plan: Plan, reports: Reports) -> Any:
    def report(detail: object, progress: float | None) -> None:
        reports.append((str(detail), progress))

    load_tokenizer(plan, report)
    return load_model(plan, report)


@pytest.mark.parametrize("layout", ["bin", "bin-sharded", "safetensors-sharded"])
def test_only_the_needed_files_of_a_hub_id_are_downloaded(
    layout: Layout, tmp_path: Path, machine: Any, hub: FakeHub
) -> None:
    folder = make_checkpoint(tmp_path / "source", layout=layout)
    for name in ("flax_model.msgpack", "tf_model.h5", "modeling_other.py", "README.md"):
        (folder / name).write_text("not needed")
    if layout == "safetensors-sharded":
        make_checkpoint(folder, layout="bin")  # the same weights again, in the older format
    hub.publish("someone/gpt-j-tuned", "main", folder)

    plan = make_plan(Settings(model="someone/gpt-j-tuned"))
    assert (plan.name, plan.source) == ("gpt-j-tuned", "someone/gpt-j-tuned")
    assert (plan.revision, plan.is_sample) == (None, False)
    weights = {
        path.name
        for path in folder.iterdir()
        if path.name.startswith("model" if layout.startswith("safe") else "pytorch_model")
        and path.suffix in (".safetensors", ".bin")
    }
    fetched = {line.split("/", 1)[1] for line in hub.fetched}
    assert not weights & fetched  # a plan loads nothing

    reports: Reports = []
    model = load_all(plan, reports)
    assert torch.equal(model.lm_head.weight, make_model().lm_head.weight)
    fetched = {line.split("/", 1)[1] for line in hub.fetched}
    assert fetched == SMALL_AND_NEEDED | weights | {
        path.name for path in folder.glob("*.index.json")
    }
    # every request was for the repository itself: no conversion is looked for, no code fetched
    assert {line for line in hub.requests if "someone/gpt-j-tuned" not in line} <= LIBRARY_REQUESTS
    assert not any("discussions" in line or "refs%2Fpr" in line for line in hub.requests)

    assert reports[0] == ("Looking for someone/gpt-j-tuned", None)
    total = sum((folder / name).stat().st_size for name in weights)
    downloads = [report for report in reports if report[0].startswith("Downloading")]
    assert downloads[-1] == (f"Downloading {total / 1e6:,.0f} of {total / 1e6:,.0f} MB", 1.0)
    fractions = [progress for _, progress in downloads if progress is not None]
    assert fractions == sorted(fractions)
    assert len(fractions) >= len(weights)


@pytest.mark.parametrize(
    ("settings", "revision"),
    [
        ({}, "float16"),
        ({"precision": "bfloat16"}, "float16"),
        ({"precision": "float32"}, None),
        ({"revision": "v1"}, "v1"),
    ],
)
def test_gpt_j_is_loaded_from_its_float16_branch_unless_float32_is_set(
    settings: dict[str, Any], revision: str | None, tiny: Path, machine: Any, hub: FakeHub
) -> None:
    for published in ("main", "float16", "v1"):
        hub.publish(GPT_J, published, tiny)
    plan = make_plan(Settings(model=GPT_J, **settings))
    assert (plan.name, plan.source, plan.revision) == ("GPT-J 6B", GPT_J, revision)
    load_all(plan, [])
    commit = commit_of(GPT_J, revision or "main")
    assert {line.split("/")[0] for line in hub.fetched} == {commit}


def test_with_room_on_a_gpu_auto_is_gpt_j(
    full_size: Path, sample: Path, machine: Any, hub: FakeHub
) -> None:
    hub.publish(GPT_J, "float16", full_size)
    machine(gpu=21)
    plan = make_plan(Settings(model="auto"))
    assert (plan.name, plan.source, plan.revision) == ("GPT-J 6B", GPT_J, "float16")
    assert (plan.precision, plan.device, plan.is_sample) == ("float16", "cuda", False)


def test_a_cached_model_is_loaded_without_the_hub(tiny: Path, machine: Any, hub: FakeHub) -> None:
    hub.publish(GPT_J, "float16", tiny)
    settings = Settings(model=GPT_J)
    load_all(make_plan(settings), [])
    hub.disconnect()
    reports: Reports = []
    model = load_all(make_plan(settings), reports)
    assert torch.equal(model.lm_head.weight, make_model().lm_head.weight)
    assert not any(detail.startswith("Downloading") for detail, _ in reports)


def test_an_unfinished_download_without_the_hub_is_refused(
    tiny: Path, machine: Any, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish(GPT_J, "float16", tiny)
    plan = make_plan(Settings(model=GPT_J))
    hub.disconnect()
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between huggingface_hub's retries
    with pytest.raises(Refusal, match="cannot be reached"):
        load_model(plan, ignore)


def test_without_the_hub_and_its_cache_auto_is_the_sample_model(
    sample: Path, machine: Any, hub: FakeHub
) -> None:
    hub.disconnect()
    machine(gpu=80)
    assert "cannot be reached" in refusal(model=GPT_J)
    plan = make_plan(Settings(model="auto"))
    assert plan.is_sample
    assert "cannot be reached" in str(plan.why)


def test_an_unknown_repository_or_revision_is_refused(
    tiny: Path, machine: Any, hub: FakeHub
) -> None:
    message = refusal(model="nobody/nothing")
    assert "nobody/nothing" in message
    hub.publish("someone/gpt-j", "main", tiny)
    message = refusal(model="someone/gpt-j", revision="v9")
    assert "someone/gpt-j" in message
    assert "v9" in message


def test_a_repository_that_is_not_gpt_j_is_refused_before_its_weights_are_fetched(
    tiny: Path, tmp_path: Path, machine: Any, hub: FakeHub
) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    hub.publish("someone/llama", "main", folder)
    assert "not a GPT-J" in refusal(model="someone/llama")
    assert not any("safetensors" in line for line in hub.fetched)


def test_a_disk_without_room_is_refused_before_the_download(
    tiny: Path, machine: Any, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish("someone/gpt-j", "main", tiny)
    plan = make_plan(Settings(model="someone/gpt-j"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1))
    with pytest.raises(Refusal, match="on the disk"):
        load_model(plan, ignore)
    assert not any("safetensors" in line for line in hub.fetched)


@pytest.mark.parametrize("is_running", [False, True])
def test_partial_downloads_are_deleted_for_space_unless_still_running(
    is_running: bool, tiny: Path, machine: Any, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish("someone/gpt-j", "main", tiny)
    plan = make_plan(Settings(model="someone/gpt-j"))
    snapshot = fetch_small_files("someone/gpt-j", None)
    repository = snapshot.parent.parent
    left = repository / "blobs" / "0123abcd.89ef.incomplete"
    left.write_bytes(b"half")
    lock = FileLock(repository.parent / ".locks" / repository.name / "0123abcd.lock")
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: SimpleNamespace(free=1 if left.exists() else 10**9)
    )
    if is_running:
        lock.acquire()
        with pytest.raises(Refusal, match="on the disk"):
            load_model(plan, ignore)
        lock.release()
        assert left.exists()
    else:
        load_model(plan, ignore)
        assert not left.exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        PermissionError(errno.EACCES, "Permission denied"),
        RuntimeError("Data processing error: No space left on device (os error 28)"),
    ],
)
def test_a_cache_that_cannot_be_written_is_refused_with_what_to_do(
    error: Exception, tiny: Path, machine: Any, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*_: Any, **__: Any) -> str:
        raise error

    hub.publish("someone/gpt-j", "main", tiny)
    plan = make_plan(Settings(model="someone/gpt-j"))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(Refusal, match="set HF_HOME to a folder that can be written") as refusal:
        load_model(plan, ignore)
    assert constants.HF_HUB_CACHE in str(refusal.value)
