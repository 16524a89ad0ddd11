"""Numba's `njit` with a cache of compiled code that is allowed to fail.

Where numba cannot write a file of its cache, because the disk is full for example, it raises the
error in the call of the compiled function. Here the code is then compiled anew at each start.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache

logger = logging.getLogger(__name__)


def cached_njit(**options: Any) -> Callable[[Any], Any]:
    """Compile a function with numba, without the interpreter lock, and cache the result."""

    def compiled(function: Any) -> Any:
        dispatcher = njit(nogil=True, **options)(function)
        try:
            dispatcher._cache = ForgivingCache(function)
        except RuntimeError:  # there is no folder that can be written
            _warn("in any folder", "no folder for it can be written")
        return dispatcher

    return compiled


class ForgivingCache(FunctionCache):  # type: ignore[misc]
    """Numba's cache of a function; files that cannot be read or written count as missing."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._can_write = True

    @property
    def cache_path(self) -> str | None:
        """The folder with the compiled code; None if the code could not be written there."""
        return self._cache_path if self._can_write else None

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a file that is cut off raises many kinds of exceptions
            with suppress(OSError):
                self.flush()  # else the index could not be read when the code is written again
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:  # likewise, as the index is read before it is written
            self._can_write = False
            why = getattr(error, "strerror", None) or type(error).__name__
            _warn(f"in {Path(self._cache_path).parent}", why)


@functools.cache
def _warn(where: str, why: str) -> None:
    logger.warning(
        "compiled code cannot be kept %s (%s), so each start compiles it anew, which takes longer: "
        "free some space there, or set NUMBA_CACHE_DIR to a folder that can be written",
        where,
        why,
    )
