"""The columns of the table of controls in `sampling.py`, and functions that make its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from gptj_demo.texts import Message, message, say

ControlKind = Literal[
    "integer",
    "number",
    "optional_integer",
    "flag",
    "choice",
    "strings",
    "integers",
    "biases",
    "permutation",
    "text",
]
ControlGroup = Literal[
    "length",
    "randomness",
    "more_filters",
    "repetition",
    "words",
    "stopping",
    "prompt",
    "seed_and_completions",
]


@dataclass(frozen=True, slots=True)
class Control:
    """One row of the table. Its texts are in the catalogue: `control.NAME.label` and so on."""

    name: str
    group: ControlGroup
    kind: ControlKind
    default: Any
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    """None, like the limits, if the control is not a number."""
    choices: tuple[str, ...] = ()
    """The values of a choice, or the names in a permutation; empty for all other kinds."""
    off: float | str | None = None
    """The value with which the control does nothing; None where there is no such value."""
    part_of: str | None = None
    """The control without which this one has no effect."""
    shapes_next_token: bool = True
    """Whether it affects the distribution that the next token is drawn from."""
    in_tree: bool = True
    """Whether the tree of likely continuations supports it; the tree draws no tokens."""
    suggestions: str | None = None
    """Example values for an axis of a comparison, as people write them."""
    openai: str | None = None
    """Its name in OpenAI's API; None where that has no such parameter."""
    elsewhere: str | None = None
    """Its name at other servers of completions, where that is not `api_name`."""
    transformers: str | None = None
    """Its equivalent in transformers: a parameter of `generate`, or a name if other code does it;
    None if there is none."""
    not_in_transformers: str = "transformers has no such parameter; left out"
    """The note about it in code for transformers if there is no equivalent."""

    @property
    def label(self) -> str:
        """Its English name."""
        return say(f"control.{self.name}.label")

    @property
    def help(self) -> str:
        """What it does, in one or two English sentences."""
        return say(f"control.{self.name}.help")

    @property
    def definition(self) -> str:
        """What it does exactly, in English."""
        return say(f"control.{self.name}.definition")

    @property
    def called(self) -> Message:
        """Its label with its name, for messages."""
        return message(
            "control.called", label=message(f"control.{self.name}.label"), name=self.name
        )

    @property
    def api_name(self) -> str:
        """Its name in `/v1/completions`."""
        return self.openai or self.name

    @property
    def api_names(self) -> tuple[str, ...]:
        """All names by which a server of completions may know it."""
        return (self.api_name,) if self.elsewhere is None else (self.api_name, self.elsewhere)

    @property
    def flag(self) -> str:
        """The command line flag: `--max-new-tokens` for `max_new_tokens`."""
        return "--" + self.name.replace("_", "-")

    @property
    def is_list(self) -> bool:
        """Whether it holds several values, which people write one a line."""
        return self.kind in ("strings", "integers", "biases", "permutation")


def number(
    default: float, group: ControlGroup, limits: tuple[float, float, float], **columns: Any
) -> Any:
    """A row of a number; `limits` are minimum, maximum and step."""
    return _row(default, group, "number", limits, columns)


def integer(
    default: int | None, group: ControlGroup, limits: tuple[int, int], **columns: Any
) -> Any:
    """A row of a whole number, which may be left out where the default is None."""
    kind: ControlKind = "integer" if default is not None else "optional_integer"
    return _row(default, group, kind, (*limits, 1), columns)


def flag(group: ControlGroup, **columns: Any) -> Any:
    """A row of a switch, off by default."""
    return _row(False, group, "flag", None, columns)


def choice(group: ControlGroup, *choices: str, **columns: Any) -> Any:
    """A row of one of several values, the first by default."""
    return _row(choices[0], group, "choice", None, {"choices": choices, **columns})


def text(group: ControlGroup, **columns: Any) -> Any:
    """A row of a text of any number of lines, empty by default."""
    return _row("", group, "text", None, columns)


def permutation(group: ControlGroup, choices: tuple[str, ...], **columns: Any) -> Any:
    """A row of some names in an order, by default in that of `choices`."""
    return _row(choices, group, "permutation", None, {"choices": choices, **columns})


def several(
    kind: Literal["strings", "integers", "biases"],
    group: ControlGroup,
    default: tuple[str, ...] = (),
    **columns: Any,
) -> Any:
    """A row of a list."""
    return _row(default, group, kind, None, columns)


def _row(
    default: Any,
    group: ControlGroup,
    kind: ControlKind,
    limits: tuple[float, float, float] | None,
    columns: dict[str, Any],
) -> Any:
    shown: dict[str, Any] = {"group": group, "kind": kind, **columns}
    if limits is None:
        return Field(default, json_schema_extra=shown)
    minimum, maximum, step = limits
    shown |= {"minimum": minimum, "maximum": maximum, "step": step}
    return Field(default, ge=minimum, le=maximum, json_schema_extra=shown)
