#!/usr/bin/env python3
"""Write the folder that is pushed to a Space of Hugging Face.

    python tools/make_space.py zerogpu|cpu|gpu FOLDER [--preload COMMIT]

The folder gets only the program, and the card and requirements of that kind of Space. It is new,
empty, a new Space's clone, or one that this tool has written before: it then removes the files
that it wrote and that are gone, and no others. `COMMIT` is
that of the branch float16 of EleutherAI/gpt-j-6b: the Space then downloads the weights while it is
built instead of at each start.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGETS = ("zerogpu", "cpu", "gpu")
PARTS = ("app.py", "gptj_demo", "assets", "LICENSE")
LEFT_OUT = ("assets/screenshot.png", "assets/compare.png")
"""Pictures of the repository's README, which is not pushed."""
LIST = ".playground-files"
"""Lists the files that the tool has written into a folder, one per line."""
OF_A_NEW_SPACE = (".git", ".gitattributes", "README.md")
MAX_BYTES = 10_000_000
"""The most bytes of a file: the hub refuses larger ones outside of its storage for large files."""
GPT_J_FILES = "config.json,pytorch_model.bin"
CPU_INDEX = "--extra-index-url https://download.pytorch.org/whl/cpu\n"


def make_space(target: str, folder: Path, preload: str | None = None) -> None:
    """Write the folder of a target; raises `ValueError`."""
    if preload is not None and not re.fullmatch(r"[0-9a-f]{40}", preload):
        raise ValueError(f"{preload} is not the full id of a commit, 40 hexadecimal digits.")
    before = _written_before(folder)
    sources = _sources()
    for path in sources:
        copy = folder / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, copy)
    card = (ROOT / "hosting" / target / "README.md").read_text(encoding="utf-8")
    if preload is not None:
        card = _preloading(card, preload)
    texts = {"README.md": card, "requirements.txt": requirements(target)}
    written = sorted((*sources, *texts, LIST))
    texts[LIST] = "".join(f"{path}\n" for path in written)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    for path in before.difference(written):
        (folder / path).unlink(missing_ok=True)
    large = [path for path in written if (folder / path).stat().st_size > MAX_BYTES]
    if large:
        raise ValueError(f"{large[0]} is larger than {MAX_BYTES:,} bytes.")


def _written_before(folder: Path) -> set[str]:
    """The files that the tool wrote into a folder; raises `ValueError` if it holds other files."""
    if (folder / LIST).exists():
        root = folder.resolve()
        listed = (folder / LIST).read_text(encoding="utf-8").splitlines()
        return {path for path in listed if (root / path).resolve().is_relative_to(root)}
    if folder.exists() and any(path.name not in OF_A_NEW_SPACE for path in folder.iterdir()):
        raise ValueError(f"{folder} holds something else: name an empty folder.")
    return set()


def requirements(target: str) -> str:
    """What the Space installs."""
    own = ROOT / "hosting" / target / "requirements.txt"
    if own.exists():
        return own.read_text(encoding="utf-8")
    usual = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    if target == "gpu":
        return usual
    # torch's build for processors has 0.75 GB, the one of PyPI 4.8
    return CPU_INDEX + re.sub(r"^(torch==[\d.]+)$", r"\1+cpu", usual, flags=re.MULTILINE)


def _sources() -> list[str]:
    """The files that the repository has of each part, by their paths in it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", *PARTS], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [path for path in listed.split("\0") if path and path not in LEFT_OUT]


def _preloading(card: str, commit: str) -> str:
    """The card with the weights of GPT-J 6B to preload."""
    entry = f"preload_from_hub:\n  - EleutherAI/gpt-j-6b {GPT_J_FILES} {commit}\n"
    return card.replace("models:\n", f"{entry}models:\n", 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--preload", metavar="COMMIT")
    given = parser.parse_args()
    try:
        make_space(given.target, given.folder, given.preload)
    except ValueError as error:
        sys.exit(str(error))
    print(f"{given.folder} is ready to be pushed: docs/spaces.md says how.")
