"""The reduced mode, in which another server computes the model and some controls are missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gptj_demo.control import Control
from gptj_demo.sampling import SamplingParams, control_named

BACKEND = "openai"
"""The value of the setting `backend` that has another server compute the model."""

LOST = 75
"""Exit code of an engine whose server no longer answers."""


@dataclass(frozen=True, slots=True)
class Served:
    """A model behind the completions API of another server.

    `server` is its host and port, and `lacks` are the names of the controls that it does not have:
    "logprobs" if it returns no probabilities, "echo" if it returns none for a prompt's tokens.
    """

    server: str
    lacks: tuple[str, ...]

    def missing(self, params: SamplingParams) -> Control | None:
        """The first control that is in use and that the server lacks."""
        lacking = (control_named(name) for name in self.lacks)
        return next((one for one in lacking if is_used(one, params)), None)


def is_used(control: Control, params: SamplingParams) -> bool:
    """Whether a control has another value than the one that has no effect."""
    value: Any = getattr(params, control.name)
    if control.part_of is not None:
        return bool(value != control.default) and is_used(control_named(control.part_of), params)
    return bool(value != (control.default if control.off is None else control.off))
