"""Finds and fetches a checkpoint's files on the hub or in its local cache."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import huggingface_hub
from filelock import FileLock, Timeout
from huggingface_hub import constants as hub_constants
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

from gptj_demo.engine.load.errors import Refusal, last_line
from gptj_demo.engine.load.families import SMALL_FILES, weight_files
from gptj_demo.engine.load.folder import file_names
from gptj_demo.texts import Message, message

Report = Callable[[Message, float | None], None]
"""Receives what is being done, and the progress from 0 to 1 if known."""

HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*/[\w.-]+")
"""The form of a repository's id."""

CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOTDIR)
"""Error numbers of writes to a cache folder that is full or that this user may not write."""


def fetch_small_files(
    repository: str, revision: str | None, names: Sequence[str] = SMALL_FILES
) -> Path:
    """The snapshot folder of a revision with the files `names`, from the hub or, if that is
    unreachable, from the cache. Its name is the commit. Raises `Refusal`."""
    with _refusing(repository, revision):
        folder = huggingface_hub.snapshot_download(
            repository, revision=revision, allow_patterns=list(names), tqdm_class=_SilentBar
        )
    return Path(folder)


def hub_sizes(repository: str, folder: Path) -> dict[str, int]:
    """Every file of a snapshot with its size in bytes; empty if the list was never fetched."""
    try:
        tree = huggingface_hub.get_cached_repo_tree(repository, revision=folder.name)
    except hub_errors.CachedRepoTreeNotFoundError:
        return {}
    return {file.path: file.size for file in tree}


def fetch_weights(source: str, revision: str | None, report: Report) -> Path:
    """The folder with the weights, downloaded if they are missing; raises `Refusal`."""
    folder = Path(source)
    if folder.is_dir():
        return folder
    report(message("status.looking", source=source), None)
    folder = fetch_small_files(source, revision)
    names = weight_files(source, folder, names_in(source, folder))
    fetch_files(source, folder, names, report)
    return folder


def names_in(repository: str, folder: Path) -> set[str]:
    """The files of a snapshot, or only the local ones if the list was never fetched."""
    return set(hub_sizes(repository, folder)) or file_names(folder)


def fetch_files(source: str, folder: Path, names: Sequence[str], report: Report) -> None:
    """Download those of the files `names` that a snapshot lacks; raises `Refusal`."""
    sizes = hub_sizes(source, folder)
    missing = [name for name in names if not (folder / name).exists()]
    total = sum(sizes.get(name, 0) for name in missing)
    if total > shutil.disk_usage(folder).free:
        _remove_leftovers(folder.parent.parent)
    free = shutil.disk_usage(folder).free
    if total > free:
        raise Refusal(
            f"{source} needs {total / 1e9:.1f} GB on the disk, and {free / 1e9:.1f} GB are "
            f"free in {hub_constants.HF_HUB_CACHE}: free some, or set HF_HOME to another disk."
        )

    downloaded = 0
    reported = -1.0

    class Bar(_SilentBar):
        def __init__(self, *args: Any, initial: int = 0, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.update(initial)  # left by an interrupted download

        def update(self, n: float | None = 1) -> None:
            nonlocal downloaded, reported
            downloaded += int(n or 0)
            progress = min(1.0, downloaded / total) if total else 1.0
            if abs(progress - reported) >= 0.001 or progress == 1.0 > reported:
                reported = progress
                done = round(downloaded / 1e6)
                report(message("status.downloading", done=done, total=round(total / 1e6)), progress)

        def update_transfer(self, n: float | None = 1) -> None:
            """Ignores bytes received before the file is assembled; `update` counts them then."""

        def set_transfer_postfix_str(self, *args: Any, **kwargs: Any) -> None: ...

    with _refusing(source, folder.name):
        for name in missing:
            huggingface_hub.hf_hub_download(source, name, revision=folder.name, tqdm_class=Bar)


def _remove_leftovers(repository: Path) -> None:
    """Delete partial files of killed downloads from a repository's cache.

    huggingface_hub restarts under another name, so these files only take disk space. A file that is
    still being written is locked by its process and is kept.
    """
    for path in (repository / "blobs").glob("*.incomplete"):
        blob = path.name.split(".")[0]
        lock = repository.parent / ".locks" / repository.name / f"{blob}.lock"
        with suppress(Timeout, OSError):
            lock.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(lock, timeout=0):
                path.unlink()


class _SilentBar(tqdm):
    """A progress bar without output."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]


@contextmanager
def _refusing(repository: str, revision: str | None) -> Iterator[None]:
    """Turns errors of the hub into a `Refusal`."""
    try:
        yield
    except hub_errors.GatedRepoError:
        message = (
            f"{repository} asks for its terms to be accepted on the hub: do so and set HF_TOKEN"
        )
    except hub_errors.RepositoryNotFoundError:
        message = (
            f"{repository} is neither a folder here nor a model on the hub (or it is private, and "
            "HF_TOKEN is not set)"
        )
    except hub_errors.RevisionNotFoundError:
        message = f"{repository} has no revision {revision or 'main'} on the hub"
    except hub_errors.EntryNotFoundError:
        message = (
            f"{repository} (revision {revision or 'main'}) is not wholly in "
            f"{hub_constants.HF_HUB_CACHE}, and the hub cannot be reached"
        )
    except hub_errors.HFValidationError as error:
        message = f"{repository} is not a hub id: {last_line(error)}"
    except (OSError, RuntimeError) as error:  # the hub's own downloader raises the latter
        message = f"{repository} could not be fetched from the hub: {last_line(error)}"
        if getattr(error, "errno", None) in CANNOT_WRITE or "No space left" in message:
            message += (
                f". Files are kept in {hub_constants.HF_HUB_CACHE}: free some space there, or set "
                "HF_HOME to a folder that can be written"
            )
    else:
        return
    raise Refusal(message + ".")
