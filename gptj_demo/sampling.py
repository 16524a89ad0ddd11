"""What a visitor decides: the controls of a request, declared once.

Sliders, command line flags, validation and documentation are all made from the fields of
`SamplingParams`. Names and meanings are those of transformers' `GenerationConfig` where it has the
control, else those of the software or paper that the control's definition names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from gptj_demo.texts import Message, MessageError, message, quoted, say

MAX_NEW_TOKENS = 2048
MAX_STRINGS = {"stop": 8, "stop_token_ids": 64, "dry_sequence_breakers": 32}
MAX_WORDS = 1024  # of bad_words and of logit_bias
MAX_STRING_CHARACTERS = 100
MAX_BIAS = 100.0
MAX_COMPLETIONS = 16
MAX_ALTERNATIVES = 20
MAX_SEED = 2**32 - 1

PROCESSORS = (
    "logit_bias",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "bad_words",
    "min_new_tokens",
    "token_healing",
    "presence_penalty",
    "frequency_penalty",
    "dry_multiplier",
)
"""The controls that change the logits before the temperature, in this order; greedy decoding takes
the most probable token of what they leave."""

FILTERS = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "xtc_probability",
)
"""The temperature and the controls that remove tokens, in this order."""

FILTER_ORDER = PROCESSORS + FILTERS
"""The order in which controls change the logits: that of transformers' `generate`, in which the
processors it does not know itself come between its processors and its warpers; XTC comes last."""

ControlKind = Literal[
    "integer", "number", "optional_integer", "flag", "choice", "strings", "integers", "biases"
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
    """How one parameter is shown. Its texts are in the catalogue: `control.NAME.label` and so on.

    `off` is the value at which the control does nothing (None where there is no such value);
    `minimum`, `maximum` and `step` are None for controls that are not numbers, `choices` is empty
    for all but a choice.
    """

    name: str
    group: ControlGroup
    kind: ControlKind
    default: Any
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    off: float | None = None
    choices: tuple[str, ...] = ()

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
    def flag(self) -> str:
        """The command line flag: `--max-new-tokens` for `max_new_tokens`."""
        return "--" + self.name.replace("_", "-")

    @property
    def is_list(self) -> bool:
        """Whether it holds several values, which people write one a line."""
        return self.kind in ("strings", "integers", "biases")


def _control(
    default: Any,
    *,
    group: ControlGroup,
    kind: ControlKind,
    minimum: float | None = None,
    maximum: float | None = None,
    step: float | None = None,
    off: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    shown = {"group": group, "kind": kind}
    others = {"minimum": minimum, "maximum": maximum, "step": step, "off": off}
    others |= {"choices": choices or None}  # type: ignore[dict-item]
    return Field(
        default,
        ge=minimum,
        le=maximum,
        json_schema_extra={**shown, **{k: v for k, v in others.items() if v is not None}},
    )


def read_bias_key(key: object) -> object:
    """A token id in digits becomes a number, a text in double quotes what the quotes hold."""
    if isinstance(key, str) and key.isascii() and key.isdigit():
        return int(key)
    if isinstance(key, str) and len(key) > 2 and key[0] == key[-1] == '"':
        try:
            return json.loads(key)
        except ValueError:
            return key
    return key


def _read_biases(value: object) -> object:
    if isinstance(value, Mapping):
        return tuple((read_bias_key(key), bias) for key, bias in value.items())
    return value


ShortString = Annotated[str, StringConstraints(min_length=1, max_length=MAX_STRING_CHARACTERS)]
TokenId = Annotated[int, Field(ge=0)]
Bias = tuple[TokenId | ShortString, Annotated[float, Field(ge=-MAX_BIAS, le=MAX_BIAS)]]


class SamplingParams(BaseModel):
    """The controls of one request, checked: each value in its range, and none against another."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    max_new_tokens: int = _control(
        120,
        group="length",
        kind="integer",
        minimum=0,
        maximum=MAX_NEW_TOKENS,
        step=1,
    )
    temperature: float = _control(
        0.8,
        group="randomness",
        kind="number",
        minimum=0.0,
        maximum=2.0,
        step=0.05,
        off=1.0,
    )
    top_p: float = _control(
        0.95,
        group="randomness",
        kind="number",
        minimum=0.0,
        maximum=1.0,
        step=0.01,
        off=1.0,
    )
    top_k: int = _control(
        0,
        group="randomness",
        kind="integer",
        minimum=0,
        maximum=1000,
        step=1,
        off=0,
    )
    min_p: float = _control(
        0.0,
        group="more_filters",
        kind="number",
        minimum=0.0,
        maximum=1.0,
        step=0.01,
        off=0.0,
    )
    typical_p: float = _control(
        1.0,
        group="more_filters",
        kind="number",
        minimum=0.0,
        maximum=1.0,
        step=0.01,
        off=1.0,
    )
    epsilon_cutoff: float = _control(
        0.0,
        group="more_filters",
        kind="number",
        minimum=0.0,
        maximum=1.0,
        step=0.0001,
        off=0.0,
    )
    eta_cutoff: float = _control(
        0.0,
        group="more_filters",
        kind="number",
        minimum=0.0,
        maximum=1.0,
        step=0.0001,
        off=0.0,
    )
    xtc_probability: float = _control(
        0.0,
        group="more_filters",
        kind="number",
        minimum=0.0,
        maximum=1.0,
        step=0.01,
        off=0.0,
    )
    xtc_threshold: float = _control(
        0.1,
        group="more_filters",
        kind="number",
        minimum=0.0,
        maximum=0.5,
        step=0.01,
    )
    repetition_penalty: float = _control(
        1.0,
        group="repetition",
        kind="number",
        minimum=0.5,
        maximum=2.0,
        step=0.01,
        off=1.0,
    )
    presence_penalty: float = _control(
        0.0,
        group="repetition",
        kind="number",
        minimum=-2.0,
        maximum=2.0,
        step=0.1,
        off=0.0,
    )
    frequency_penalty: float = _control(
        0.0,
        group="repetition",
        kind="number",
        minimum=-2.0,
        maximum=2.0,
        step=0.1,
        off=0.0,
    )
    no_repeat_ngram_size: int = _control(
        0,
        group="repetition",
        kind="integer",
        minimum=0,
        maximum=20,
        step=1,
        off=0,
    )
    dry_multiplier: float = _control(
        0.0,
        group="repetition",
        kind="number",
        minimum=0.0,
        maximum=5.0,
        step=0.05,
        off=0.0,
    )
    dry_base: float = _control(
        1.75,
        group="repetition",
        kind="number",
        minimum=1.0,
        maximum=4.0,
        step=0.05,
    )
    dry_allowed_length: int = _control(
        2,
        group="repetition",
        kind="integer",
        minimum=1,
        maximum=20,
        step=1,
    )
    dry_sequence_breakers: tuple[ShortString, ...] = _control(
        ("\n", ":", '"', "*"),
        group="repetition",
        kind="strings",
    )
    logit_bias: tuple[Bias, ...] = _control(
        (),
        group="words",
        kind="biases",
    )
    bad_words: tuple[ShortString, ...] = _control(
        (),
        group="words",
        kind="strings",
    )
    stop: tuple[ShortString, ...] = _control(
        (),
        group="stopping",
        kind="strings",
    )
    stop_token_ids: tuple[TokenId, ...] = _control(
        (),
        group="stopping",
        kind="integers",
    )
    min_new_tokens: int = _control(
        0,
        group="stopping",
        kind="integer",
        minimum=0,
        maximum=MAX_NEW_TOKENS,
        step=1,
        off=0,
    )
    ignore_eos: bool = _control(
        False,
        group="stopping",
        kind="flag",
    )
    max_time: float = _control(
        0.0,
        group="stopping",
        kind="number",
        minimum=0.0,
        maximum=3600.0,
        step=1.0,
        off=0.0,
    )
    truncate: Literal["error", "left"] = _control(
        "error",
        group="prompt",
        kind="choice",
        choices=("error", "left"),
    )
    token_healing: bool = _control(
        False,
        group="prompt",
        kind="flag",
    )
    echo: bool = _control(
        False,
        group="prompt",
        kind="flag",
    )
    seed: int | None = _control(
        None,
        group="seed_and_completions",
        kind="optional_integer",
        minimum=0,
        maximum=MAX_SEED,
        step=1,
    )
    n: int = _control(
        1,
        group="seed_and_completions",
        kind="integer",
        minimum=1,
        maximum=MAX_COMPLETIONS,
        step=1,
        off=1,
    )
    best_of: int | None = _control(
        None,
        group="seed_and_completions",
        kind="optional_integer",
        minimum=1,
        maximum=MAX_COMPLETIONS,
        step=1,
    )
    logprobs: int | None = _control(
        None,
        group="seed_and_completions",
        kind="optional_integer",
        minimum=0,
        maximum=MAX_ALTERNATIVES,
        step=1,
    )

    @property
    def candidates(self) -> int:
        """How many completions are generated, of which `n` are given."""
        return self.best_of or self.n

    @field_validator("logit_bias", mode="before")
    @classmethod
    def _biases_by_token(cls, value: object) -> object:
        return _read_biases(value)

    @field_validator(*MAX_STRINGS, "logit_bias", "bad_words", mode="after")
    @classmethod
    def _not_too_many(cls, values: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        assert info.field_name is not None
        most = MAX_STRINGS.get(info.field_name, MAX_WORDS)
        if len(values) > most:
            raise _wrong("too_many", message("wrong.too_many", most=most, given=len(values)))
        return values

    @model_validator(mode="after")
    def _not_contradictory(self) -> SamplingParams:
        if self.min_new_tokens > self.max_new_tokens:
            wrong = ("min_new_tokens", "max_new_tokens")
            how = "wrong.is_more"
        elif self.best_of is not None and self.best_of < self.n:
            wrong = ("best_of", "n")
            how = "wrong.is_less"
        elif self.max_new_tokens == 0 and not self.echo:
            length, echo = (_CONTROLS_BY_NAME[one].called for one in ("max_new_tokens", "echo"))
            why = message("wrong.nothing_to_do", length=length, echo=echo)
            raise _wrong("contradiction", why, "max_new_tokens")
        elif self.max_new_tokens == 0 and self.candidates > 1:
            wrong = ("n" if self.n > 1 else "best_of", "max_new_tokens")
            how = "wrong.no_meaning"
        else:
            return self
        name, other = (_CONTROLS_BY_NAME[one] for one in wrong)
        values = {"value": getattr(self, name.name), "other_value": getattr(self, other.name)}
        why = message(how, control=name.called, other=other.called, **values)
        raise _wrong("contradiction", why, name.name)


def _wrong(
    kind: Literal["too_many", "contradiction"], why: Message, name: str = ""
) -> PydanticCustomError:
    """An error that carries its message through pydantic."""
    return PydanticCustomError(kind, "{why}", {"why": why, "name": name})


def _controls() -> tuple[Control, ...]:
    controls = []
    for name, field in SamplingParams.model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        shown: dict[str, Any] = dict(extra)
        controls.append(Control(name=name, default=field.default, **shown))
    return tuple(controls)


CONTROLS: tuple[Control, ...] = _controls()
"""The table: one entry a control, in the order in which they are shown."""

_CONTROLS_BY_NAME = {control.name: control for control in CONTROLS}


def control_named(name: str) -> Control:
    """The control of that name."""
    return _CONTROLS_BY_NAME[name]


PRESETS: dict[str, dict[str, float]] = {
    "Precise": {"temperature": 0.4, "top_p": 0.9, "top_k": 0, "repetition_penalty": 1.05},
    "Balanced": {"temperature": 0.8, "top_p": 0.95, "top_k": 0, "repetition_penalty": 1.0},
    "Wild": {"temperature": 1.2, "top_p": 0.98, "top_k": 0, "repetition_penalty": 1.0},
    "Greedy": {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.1},
}
"""Named settings of the controls that shape the text; the others are left as they are."""


class InvalidControl(MessageError, ValueError):
    """A control has a value it cannot have; `name` is the control."""

    def __init__(self, name: str, message: Message) -> None:
        super().__init__(message)
        self.name = name


class ContradictoryControls(InvalidControl):
    """Each value is one that its control can have, but not beside the others."""


def read_written(control: Control, lines: Sequence[str]) -> Any:
    """The value of a control as people write it, for `make_params`; raises `InvalidControl`.

    Lists are written one a line, ids also several in one; `\\n` stands for a line break in a text,
    and what may be left empty is None then.
    """
    if control.kind == "strings":
        return tuple(line.replace("\\n", "\n") for line in lines if line)
    if control.kind == "integers":
        return tuple(" ".join(lines).replace(",", " ").split())
    if control.kind == "biases":
        return tuple(_read_bias(control, line) for line in lines if line.strip())
    written = "\n".join(lines).strip()
    return None if control.kind == "optional_integer" and not written else written


def _read_bias(control: Control, line: str) -> tuple[object, str]:
    token, equals, bias = line.rpartition("=")
    if not equals:
        raise InvalidControl(
            control.name,
            message("wrong.bias_line", control=control.called, line=quoted(line)),
        )
    token = token.rstrip(" ")
    written = token if token.startswith('"') else token.replace("\\n", "\n")
    return read_bias_key(written), bias.strip()


def write_value(control: Control, value: Any) -> str:
    """A list as people write it: what `read_written` reads back."""
    if control.kind == "biases":
        return "\n".join(f"{json.dumps(key)} = {bias!r}" for key, bias in value)
    return "\n".join(str(one).replace("\n", "\\n") for one in value)


def make_params(values: Mapping[str, Any]) -> SamplingParams:
    """`SamplingParams` from untrusted values; raises `InvalidControl` for the first wrong one."""
    try:
        return SamplingParams.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "contradiction":
            raise ContradictoryControls(first["ctx"]["name"], first["ctx"]["why"]) from None
        name = str(first["loc"][0]) if first["loc"] else "controls"
        raise InvalidControl(name, _explain(name, first, values)) from None


_SHAPES = ("strings", "integers", "biases", "flag")
_TEXTS = ("string_too_short", "string_too_long", "string_unicode")


def _explain(name: str, error: Mapping[str, Any], values: Mapping[str, Any]) -> Message:
    control = _CONTROLS_BY_NAME.get(name)
    if control is None:
        known = ", ".join(control.name for control in CONTROLS)
        return message("wrong.unknown", name=quoted(name), known=known)
    kind = error["type"]
    if kind == "too_many":
        return message("wrong.control", control=control.called, why=error["ctx"]["why"])
    if control.kind in ("strings", "biases") and kind in _TEXTS:
        why = message(f"wrong.{kind}", most=MAX_STRING_CHARACTERS)
        return message("wrong.control", control=control.called, why=why)
    said: dict[str, Any] = {"control": control.called, "value": quoted(values.get(name))}
    if control.kind in _SHAPES:
        return message(f"wrong.{control.kind}", **said, most=MAX_BIAS)
    if control.kind == "choice":
        return message("wrong.choice", **said, choices=", ".join(control.choices))
    code = "wrong.number" if control.kind == "number" else "wrong.integer"
    assert control.minimum is not None
    assert control.maximum is not None
    least, most = f"{control.minimum:g}", f"{control.maximum:.10g}"
    return message(code, **said, minimum=least, maximum=most)
