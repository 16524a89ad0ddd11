"""Which code computes: the text of a seed can differ between versions of it."""

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
    """A folder for compiled code where the package's own cannot be written; None where it can.

    It is a folder of the user, as what is cached there is executed.
    """
    if "NUMBA_CACHE_DIR" in os.environ or os.access(PACKAGE / "engine", os.W_OK):
        return None
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(home) / "gptj-playground" / "numba"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return str(folder) if os.access(folder, os.W_OK) else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
