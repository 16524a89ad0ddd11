"""What all request bodies share: unknown fields are refused, and large bodies are read in a thread.

A body of 4 MB can hold two million values, and pydantic makes an error object for each wrong one.
So lists have a length limit, and their validation stops at the first wrong item.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, ParamSpec, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from gptj_demo.control_values import with_one_unknown

THREAD_FROM = 50_000  # bytes or items; fewer take less time than a change of threads is worth

Given = ParamSpec("Given")
Result = TypeVar("Result")
Item = TypeVar("Item")


class Body(BaseModel):
    """An object of JSON with known fields only."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _with_one_unknown(cls, values: Any) -> Any:
        return with_one_unknown(values, cls.model_fields) if isinstance(values, dict) else values


def at_most(most: int) -> BeforeValidator:
    """A limit of the entries of an object; pydantic's own follows the check of each entry."""

    def check(values: Any) -> Any:
        if isinstance(values, dict) and len(values) > most:
            raise PydanticCustomError(
                "too_many", "at most {most} entries are allowed", {"most": most}
            )
        return values

    return BeforeValidator(check)


FirstError = Field(fail_fast=True)
"""Ends the validation of a list at its first wrong item."""
ListOf = Annotated[list[Item], FirstError]
"""A list whose validation ends at its first wrong item."""


async def aside(
    size: int, function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
) -> Result:
    """The result of a function, called in a thread if `size` (bytes or items) is large."""
    if size < THREAD_FROM:
        return function(*args, **kwargs)
    return await asyncio.to_thread(function, *args, **kwargs)
