"""What a visitor decides: the sampling controls, declared once.

Sliders, command line flags, validation and documentation are all made from the fields of
`SamplingParams`, whose names and meanings are those of transformers' `GenerationConfig`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
)

MAX_STOP_STRINGS = 8
MAX_STOP_CHARACTERS = 100
MAX_SEED = 2**32 - 1

ControlKind = Literal["integer", "number", "seed", "strings"]
ControlGroup = Literal["Length", "Randomness", "Repetition", "Stopping", "Seed"]


@dataclass(frozen=True, slots=True)
class Control:
    """How one sampling parameter is shown and explained.

    `off` is the value at which the control does nothing (None where there is no such value);
    `minimum`, `maximum` and `step` are None for controls that are not numbers.
    """

    name: str
    label: str
    group: ControlGroup
    kind: ControlKind
    help: str
    definition: str
    default: Any
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    off: float | None = None

    @property
    def flag(self) -> str:
        """The command line flag: `--max-new-tokens` for `max_new_tokens`."""
        return "--" + self.name.replace("_", "-")


def _control(
    default: Any,
    *,
    label: str,
    group: ControlGroup,
    kind: ControlKind,
    help: str,
    definition: str,
    minimum: float | None = None,
    maximum: float | None = None,
    step: float | None = None,
    off: float | None = None,
) -> Any:
    shown = {"label": label, "group": group, "kind": kind, "definition": definition}
    numbers = {"minimum": minimum, "maximum": maximum, "step": step, "off": off}
    return Field(
        default,
        ge=minimum,
        le=maximum,
        description=help,
        json_schema_extra={**shown, **{k: v for k, v in numbers.items() if v is not None}},
    )


StopString = Annotated[str, StringConstraints(min_length=1, max_length=MAX_STOP_CHARACTERS)]


class SamplingParams(BaseModel):
    """The controls of one request, checked: every value is finite and in its range."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    max_new_tokens: int = _control(
        120,
        label="Length",
        group="Length",
        kind="integer",
        help="How much to write at most. A hundred tokens are about seventy-five English words.",
        definition="The largest number of tokens to generate. Generation also ends when prompt and "
        "continuation fill the model's context.",
        minimum=1,
        maximum=2048,
        step=1,
    )
    temperature: float = _control(
        0.8,
        label="Temperature",
        group="Randomness",
        kind="number",
        help="Lower is safer and more repetitive; higher is stranger. 0 always takes the likeliest "
        "word.",
        definition="Logits are divided by the temperature before the softmax. 0 is greedy "
        "decoding: the most probable token, with no randomness at all.",
        minimum=0.0,
        maximum=2.0,
        step=0.05,
        off=1.0,
    )
    top_p: float = _control(
        0.95,
        label="Top-p",
        group="Randomness",
        kind="number",
        help="Leaves out the long tail of unlikely words. 1 leaves out nothing.",
        definition="Nucleus sampling (Holtzman et al. 2020): keep the smallest set of most "
        "probable tokens whose probabilities sum to top_p or more.",
        minimum=0.0,
        maximum=1.0,
        step=0.01,
        off=1.0,
    )
    top_k: int = _control(
        0,
        label="Top-k",
        group="Randomness",
        kind="integer",
        help="Chooses among the k likeliest tokens only. 0 turns it off.",
        definition="Keep the k most probable tokens (Fan et al. 2018). 0 keeps all.",
        minimum=0,
        maximum=1000,
        step=1,
        off=0,
    )
    repetition_penalty: float = _control(
        1.0,
        label="Repetition penalty",
        group="Repetition",
        kind="number",
        help="Above 1 makes words that already stand in the text less likely. More than 1.2 tends "
        "to break the text.",
        definition="For every token of the prompt and the continuation so far, a positive logit "
        "is divided by the penalty and a negative one multiplied by it (Keskar et al. 2019).",
        minimum=1.0,
        maximum=2.0,
        step=0.01,
        off=1.0,
    )
    stop: tuple[StopString, ...] = _control(
        (),
        label="Stop at",
        group="Stopping",
        kind="strings",
        help="Writing ends before any of these. One a line; \\n stands for a line break.",
        definition=f"Up to {MAX_STOP_STRINGS} strings of at most {MAX_STOP_CHARACTERS} characters. "
        "Generation ends where the text contains one of them; the string itself is left out.",
    )
    seed: int | None = _control(
        None,
        label="Seed",
        group="Seed",
        kind="seed",
        help="The same seed, text and settings give the same words again. Empty: a new one each "
        "time.",
        definition="Key of the random numbers; the number for a token depends on the seed and the "
        f"token's position alone. 0 to {MAX_SEED}.",
        minimum=0,
        maximum=MAX_SEED,
        step=1,
    )

    @field_validator("stop", mode="after")
    @classmethod
    def _not_too_many(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if len(stop) > MAX_STOP_STRINGS:
            raise ValueError(
                f"at most {MAX_STOP_STRINGS} stop strings are allowed, not {len(stop)}"
            )
        return stop


def _controls() -> tuple[Control, ...]:
    controls = []
    for name, field in SamplingParams.model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        shown: dict[str, Any] = dict(extra)
        controls.append(
            Control(name=name, help=field.description or "", default=field.default, **shown)
        )
    return tuple(controls)


CONTROLS: tuple[Control, ...] = _controls()
"""The table: one entry a control, in the order in which they are shown."""

PRESETS: dict[str, dict[str, float]] = {
    "Precise": {"temperature": 0.4, "top_p": 0.9, "top_k": 0, "repetition_penalty": 1.05},
    "Balanced": {"temperature": 0.8, "top_p": 0.95, "top_k": 0, "repetition_penalty": 1.0},
    "Wild": {"temperature": 1.2, "top_p": 0.98, "top_k": 0, "repetition_penalty": 1.0},
    "Greedy": {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.1},
}
"""Named settings of the controls that shape the text; the others are left as they are."""


def read_stop_string(written: str) -> str:
    """A stop string as people write it in one line, where `\\n` stands for a line break."""
    return written.replace("\\n", "\n")


class InvalidControl(ValueError):
    """A control has a value it cannot have; `name` is the control, the message is for people."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def make_params(values: Mapping[str, Any]) -> SamplingParams:
    """`SamplingParams` from untrusted values; raises `InvalidControl` for the first wrong one."""
    try:
        return SamplingParams.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "controls"
        raise InvalidControl(name, _explain(name, first["type"], first["msg"], values)) from None


def _explain(name: str, kind: str, message: str, values: Mapping[str, Any]) -> str:
    control = next((control for control in CONTROLS if control.name == name), None)
    if control is None:
        known = ", ".join(control.name for control in CONTROLS)
        return f"There is no control named {name!r}. The controls are: {known}."
    if control.kind == "strings":
        wrong = {
            "string_too_short": "none of the strings may be empty",
            "string_too_long": f"a string has at most {MAX_STOP_CHARACTERS} characters",
            "string_unicode": "a string holds a character that stands for nothing",
        }.get(kind, message.removeprefix("Value error, "))
        return f"{control.label} ({name}): {wrong}."
    number = "a whole number" if control.kind in ("integer", "seed") else "a number"
    shown = repr(values.get(name))
    shown = shown if len(shown) <= 40 else shown[:37] + "..."
    return (
        f"{control.label} ({name}) must be {number} from {control.minimum:g} to "
        f"{control.maximum:.10g}; it was {shown}."
    )
