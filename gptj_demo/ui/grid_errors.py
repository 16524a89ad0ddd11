"""What is wrong with a field of a comparison, as an error that names the field."""

from __future__ import annotations

from collections.abc import Sequence

from gptj_demo.texts import Message, MessageError, message, quoted

MAX_CELLS = 36
TIMES = "\N{MULTIPLICATION SIGN}"


class InvalidGrid(MessageError, ValueError):
    """A field has a wrong value; `field` is `prompt`, `values of NAME`, `rows`, `length`, ..."""

    def __init__(self, field: str, message: Message) -> None:
        super().__init__(message)
        self.field = field


def too_many(count: int, factors: Sequence[int]) -> InvalidGrid:
    """The error for `count` cells, which is the product of `factors`."""
    product = f" {TIMES} ".join(f"{factor:,}" for factor in factors if factor > 1)
    shown = product if product == f"{count:,}" else f"{product} = {count:,}"
    return InvalidGrid("size", message("grid.too_many", cells=shown, most=MAX_CELLS))


def refuse_twice(field: str, called: str | Message, values: Sequence[str | Message]) -> None:
    """Raise `InvalidGrid` if one of the values of `called` appears twice."""
    seen: set[str] = set()
    for value in map(str, values):
        if value in seen:
            why = message("grid.twice", called=called, value=quoted(value))
            raise InvalidGrid(field, why)
        seen.add(value)
