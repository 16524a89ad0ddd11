"""The keys of the API: from the settings, and from a file that is read again when it changes."""

from __future__ import annotations

import hmac
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from gptj_demo.settings import InvalidSettings, Settings, read_lines

logger = logging.getLogger(__name__)

METRICS = "metrics:"
"""Begins a key that opens `/metrics` and nothing else."""
LOOK_SECONDS = 1.0
"""The least time between two checks of the file."""


def read_keys(settings: Settings) -> tuple[str, ...]:
    """All keys of the settings and of their file, as written; raises `InvalidSettings`."""
    keys = [*_written(settings), *_of_file(settings.api_keys_file)]
    if not keys and (settings.api_keys or settings.api_keys_file):
        source = "GPTJ_API_KEYS" if settings.api_keys else "GPTJ_API_KEYS_FILE"
        raise InvalidSettings(f"{source} contains no key: add one, or unset it.")
    return tuple(keys)


def _written(settings: Settings) -> list[str]:
    written = settings.api_keys.get_secret_value().split(",") if settings.api_keys else []
    return [key.strip() for key in written if key.strip()]


def _of_file(file: Path | None) -> list[str]:
    if file is None:
        return []
    lines = read_lines(file, "file of API keys")
    return [key for line in lines if (key := line.strip()) and not key.startswith("#")]


class Keys:
    """The keys that are valid now.

    A changed file takes effect within `LOOK_SECONDS`. If it cannot be read, the previous keys stay
    valid, and the log says so. A file without a key revokes all of its keys. `clock` returns
    seconds.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        read_keys(settings)
        self._settings = settings
        self._clock = clock
        self._looked_at = clock()
        self._version = self._file_version()
        self._take(_of_file(settings.api_keys_file))

    @property
    def are_needed(self) -> bool:
        """Whether callers of the API need a key; true for good once there was one."""
        self._look()
        return self._are_needed

    def find_caller(self, given: bytes) -> bytes | None:
        """The key of a caller of the API, None if it is not one of them."""
        self._look()
        return _find(self._callers, given)

    def opens_metrics(self, given: bytes) -> bool:
        """Whether a key opens `/metrics`: a metrics key, or where there is none, any key."""
        self._look()
        return _find(self._monitors or self._callers, given) is not None

    @property
    def guard_metrics(self) -> bool:
        """Whether there is a metrics key."""
        self._look()
        return bool(self._monitors)

    def _take(self, of_file: list[str]) -> None:
        keys = [*_written(self._settings), *of_file]
        self._callers = [key.encode() for key in keys if not key.startswith(METRICS)]
        found = (key.removeprefix(METRICS) for key in keys if key.startswith(METRICS))
        self._monitors = [key.encode() for key in found if key]
        self._are_needed = getattr(self, "_are_needed", False) or bool(self._callers)

    def _look(self) -> None:
        """Read the file again if it has changed."""
        file = self._settings.api_keys_file
        now = self._clock()
        if file is None or now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        version = self._file_version()
        if version == self._version:
            return
        self._version = version
        try:
            self._take(_of_file(file))
        except InvalidSettings as error:
            logger.warning("%s The keys of before still count.", error)

    def _file_version(self) -> tuple[int, int, int] | None:
        """Modification time, size and inode of the file; None if there is no file."""
        file = self._settings.api_keys_file
        try:
            found = os.stat(file) if file is not None else None
        except OSError:
            return None
        return None if found is None else (found.st_mtime_ns, found.st_size, found.st_ino)


def _find(keys: list[bytes], given: bytes) -> bytes | None:
    """The key that equals `given`; all keys are compared, each in constant time."""
    found = [key for key in keys if hmac.compare_digest(key, given)]
    return found[0] if found else None
