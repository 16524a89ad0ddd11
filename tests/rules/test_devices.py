"""Only the places that choose a device know its kind; everything else is given what to use."""

from __future__ import annotations

import ast
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "gptj_demo" / "engine"

ALLOWED = {
    "machine.py",  # finds the devices
    "load/plan.py",  # chooses one
    "load/weights.py",  # loads onto it
    "model/select.py",  # chooses the forward path for it
    "model/cuda",  # is for one kind of device
    "transfer.py",  # pins memory where the device copies by itself
    "sampling/numba_code.py",  # compiled draws are for processors
}


def asks_for_a_device(path: Path) -> bool:
    """Whether code reads `.is_cuda` or compares `device.type`."""
    return any(
        isinstance(node, ast.Attribute)
        and (
            node.attr == "is_cuda" or (node.attr == "type" and "device" in ast.unparse(node.value))
        )
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
    )


def test_device_types_are_read_only_where_a_device_is_chosen() -> None:
    found = {
        path.relative_to(ENGINE).as_posix()
        for path in ENGINE.rglob("*.py")
        if asks_for_a_device(path)
    }
    wrong = {name for name in found if not any(name.startswith(one) for one in ALLOWED)}
    assert not wrong, f"these ask for the kind of device: {sorted(wrong)}"


def test_the_layout_of_the_kv_cache_is_known_to_the_forward_paths_only() -> None:
    users = {
        path.relative_to(ENGINE).as_posix()
        for path in ENGINE.rglob("*.py")
        if "cache.storage" in path.read_text("utf-8")
    }
    assert all(name.startswith("model/") for name in users), users


def test_tests_see_a_gpu_only_where_it_was_asked_for() -> None:
    assert "GPTJ_TEST_GPU" in os.environ or os.environ["CUDA_VISIBLE_DEVICES"] == ""
