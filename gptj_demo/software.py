"""Versions of the code that computes; the text for a seed can differ between them."""

from __future__ import annotations

import ast
import hashlib
import os
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("torch", "transformers", "tokenizers", "numba", "bitsandbytes", "triton", "llguidance")
PACKAGE = Path(__file__).resolve().parent


@cache
def software_version() -> str:
    """Twelve hexadecimal digits that change with the code that can change an answer.

    That is the engine, the controls and the tokenizer, and the libraries that compute. Comments,
    docstrings, layout, and the code of page and API have no influence.
    """
    digest = hashlib.sha256(repr([_version(name) for name in LIBRARIES]).encode())
    for path in computing_sources():
        digest.update(without_docstrings(path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:12]


@cache
def code_version() -> str:
    """Twelve hexadecimal digits that change with the code of this package and the libraries that
    compute: processes that exchange messages must have the same."""
    digest = hashlib.sha256(repr([_version(name) for name in LIBRARIES]).encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def computing_sources() -> list[Path]:
    """The files whose code can change an answer."""
    single = (PACKAGE / name for name in ("guidance.py", "sampling.py", "tokenization.py"))
    return sorted([*(PACKAGE / "engine").rglob("*.py"), *single])


def without_docstrings(source: str) -> str:
    """The structure of Python code, without comments, layout and strings that stand alone."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [one for one in body if not _is_text(one)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def numba_cache_folder() -> str | None:
    """Where compiled code is cached: each version of the sources has its own folder.

    Numba compares only the file of the cached function. A change in another file, whose functions
    or constants are part of the compiled code, would leave the old code in use.

    The folder is in NUMBA_CACHE_DIR, or in the package. If it cannot be written there, it is in
    the user's own cache, because cached code is executed. None if nothing can be written.
    """
    name = f"engine-{_compiled_version()}"
    given = os.environ.get("NUMBA_CACHE_DIR")
    own = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folders = [PACKAGE / "engine" / "__pycache__", Path(own) / "gptj-playground" / "numba"]
    if given:  # a child process inherits the whole path
        folders.insert(0, Path(given).parent if Path(given).name == name else Path(given))
    return next((str(folder / name) for folder in folders if _can_write(folder / name)), None)


def _can_write(folder: Path) -> bool:
    """Whether a folder is there, or can be made, and files can be made in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def compiled_sources() -> list[Path]:
    """The files with code that numba compiles."""
    sources = sorted((PACKAGE / "engine").rglob("*.py"))
    return [PACKAGE / "pages.py", *(path for path in sources if b"numba" in path.read_bytes())]


@cache
def _compiled_version() -> str:
    digest = hashlib.sha256()
    for path in compiled_sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
