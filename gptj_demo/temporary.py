"""The folders for temporary files, checked before the libraries that fail without them are used."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from gptj_demo.settings import InvalidSettings

GRADIO = "GRADIO_TEMP_DIR"


def check_temporary_folder() -> None:
    """Raise `InvalidSettings` if no folder for temporary files can be written."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        given = os.environ.get("TMPDIR")
        tried = "/tmp and /var/tmp" if given is None else f"{given} (TMPDIR), /tmp and /var/tmp"
        raise InvalidSettings(
            f"No folder for temporary files can be written, {tried} were tried: free some space "
            "there, or set TMPDIR to a folder that can be written."
        ) from None


def choose_gradio_folder() -> None:
    """Give Gradio a folder that can be made; raises `InvalidSettings`.

    It makes a folder at its start, by default in /tmp/gradio, which may belong to somebody else.
    The playground stores nothing there. Call it before Gradio is imported.
    """
    check_temporary_folder()
    usual = os.environ.get(GRADIO) or Path(tempfile.gettempdir()) / "gradio"
    try:
        # what Gradio makes; a check of permissions would not find a full disk
        (Path(usual) / "vibe_edit_history").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        try:
            own = tempfile.mkdtemp(prefix="gptj-gradio-")
            (Path(own) / "vibe_edit_history").mkdir()
        except OSError:
            raise InvalidSettings(
                f"Gradio's folder {usual} cannot be made: {error.strerror}. Free some space there, "
                f"or set {GRADIO} to a folder that can be written."
            ) from None
        atexit.register(shutil.rmtree, own, ignore_errors=True)
        os.environ[GRADIO] = own
