"""The folders that are pushed to Spaces."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.processes import ROOT
from tools.make_space import MAX_BYTES, TARGETS, make_space, requirements

COMMIT = "0123456789abcdef" * 2 + "01234567"


def card_of(folder: Path) -> dict[str, Any]:
    """The front matter of a card."""
    _, matter, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert body.startswith("# GPT-J Playground")
    card: dict[str, Any] = yaml.safe_load(matter)
    return card


def pins(text: str) -> dict[str, str]:
    """The version of each requirement for Python 3.11 and later."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    wanted = [line for line in lines if "==" in line and 'python_version < "3.11"' not in line]
    return {line.split("==")[0]: line.split("==")[1].split(";")[0].strip() for line in wanted}


@pytest.mark.parametrize("target", TARGETS)
def test_a_folder_has_a_valid_card_and_an_app_that_imports(target: str, tmp_path: Path) -> None:
    folder = tmp_path / "space"
    make_space(target, folder)
    card = card_of(folder)
    usual = pins((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    assert card["sdk"] == "gradio"
    assert card["sdk_version"] == usual["gradio"]
    assert (folder / card["app_file"]).is_file()
    assert len(card["short_description"]) <= 60
    assert isinstance(card["python_version"], str)  # 3.10 would be the number 3.1
    environment = {**os.environ, "PYTHONPATH": ""}
    code = "import app, sys; assert app.__file__ == sys.argv[1] + '/app.py', app.__file__"
    subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=folder, env=environment, check=True
    )
    files = [
        path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in str(path)
    ]
    assert all(path.stat().st_size <= MAX_BYTES for path in files)
    assert not any(path.relative_to(folder).parts[0] in ("tests", "docs") for path in files)
    assert list((folder / "assets/sample-model").glob("*.safetensors"))


def test_zerogpu_installs_a_supported_torch_and_omits_provided_packages() -> None:
    usual = pins((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    theirs = pins(requirements("zerogpu"))
    assert theirs.pop("torch") in ("2.8.0", "2.9.1", "2.10.0", "2.11.0")
    assert theirs.items() <= usual.items()
    left_out = usual.keys() - theirs.keys() - {"torch"}
    assert left_out == {"gradio", "huggingface-hub", "bitsandbytes", "mcp"}
    assert "spaces" not in theirs


def test_a_cpu_space_installs_torch_for_processors() -> None:
    usual = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    index, _, rest = requirements("cpu").partition("\n")
    assert index == "--extra-index-url https://download.pytorch.org/whl/cpu"
    assert re.sub(r"\+cpu$", "", rest, flags=re.MULTILINE) == usual.rstrip("\n") + "\n"
    assert "+cpu" in pins(rest)["torch"]
    assert requirements("gpu") == usual


def test_weights_are_preloaded_by_a_commit_only(tmp_path: Path) -> None:
    make_space("gpu", tmp_path / "space", preload=COMMIT)
    (entry,) = card_of(tmp_path / "space")["preload_from_hub"]
    repository, files, commit = entry.split()
    assert (repository, commit) == ("EleutherAI/gpt-j-6b", COMMIT)
    assert "pytorch_model.bin" in files.split(",")
    with pytest.raises(ValueError, match="40 hexadecimal digits"):
        make_space("gpu", tmp_path / "space", preload="float16")


@pytest.mark.parametrize("names", [["thesis.txt"], [".git/config", "app.py", "thesis.txt"]])
def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match="holds something else"):
        make_space("cpu", tmp_path)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == set(names)
    assert all((tmp_path / name).read_text() == "mine" for name in names)


def test_a_clone_of_a_space_is_updated_and_keeps_what_is_not_the_tools(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    for name in (".git/config", "README.md"):
        (tmp_path / name).write_text("the hub's")
    make_space("gpu", tmp_path)
    assert card_of(tmp_path)["sdk"] == "gradio"
    gone = tmp_path / "gptj_demo" / "gone.py"
    listed = tmp_path / ".playground-files"
    for path in (gone, tmp_path / "thesis.txt", tmp_path.parent / "outside.txt"):
        path.write_text("old")
    listed.write_text(listed.read_text() + "gptj_demo/gone.py\n../outside.txt\n")
    make_space("cpu", tmp_path)
    assert "+cpu" in (tmp_path / "requirements.txt").read_text()
    assert not gone.exists()
    assert (tmp_path / "thesis.txt").exists()
    assert (tmp_path.parent / "outside.txt").exists()
    assert (tmp_path / ".git/config").read_text() == "the hub's"
    assert "gone.py" not in listed.read_text()
