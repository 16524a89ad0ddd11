"""The verdict of a filter on a text, and the interface of filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a text may not be shown as it is; `label` is the filter's own name for the reason.

    `failed` says that the filter gave no answer, which counts as flagged.
    """

    flagged: bool
    label: str | None = None
    failed: bool = False


PASSED = Verdict(False)
FAILED = Verdict(True, failed=True)


class FilterError(Exception):
    """The filter cannot work; the message holds nothing that a visitor wrote."""


class Filter(Protocol):
    """Checks texts. Its methods block; one thread calls them."""

    kind: str
    """`patterns`, `classifier` or `endpoint`."""

    def start(self) -> None:
        """Prepare; raises any exception if it cannot work at present."""

    def check(self, texts: Sequence[str]) -> list[Verdict]:
        """One verdict for each text; raises any exception if there are none."""

    def stop(self) -> None:
        """End what `start` began; a check that is under way may fail."""
