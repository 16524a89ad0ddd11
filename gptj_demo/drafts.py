"""How many tokens of a completion were drafted, by drafter."""

from __future__ import annotations

from typing import NamedTuple


class Drafts(NamedTuple):
    """How many tokens a drafter drafted, and how many of them were generated.

    `drafter` is `lookup` or `model`.
    """

    drafter: str
    drafted: int
    accepted: int
