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

MAX_NEW_TOKENS = 2048
MAX_STRINGS = {"stop": 8, "stop_token_ids": 64, "dry_sequence_breakers": 32}
MAX_WORDS = 1024  # of bad_words and of logit_bias
MAX_STRING_CHARACTERS = 100
MAX_BIAS = 100.0
MAX_COMPLETIONS = 16
MAX_ALTERNATIVES = 20
MAX_SEED = 2**32 - 1

FILTER_ORDER = (
    "logit_bias",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "bad_words",
    "min_new_tokens",
    "token_healing",
    "presence_penalty",
    "frequency_penalty",
    "dry_multiplier",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "xtc_probability",
)
"""The order in which controls change the logits: that of transformers' `generate`, in which the
processors it does not know itself come between its processors and its warpers; XTC comes last."""

ControlKind = Literal[
    "integer", "number", "optional_integer", "flag", "choice", "strings", "integers", "biases"
]
ControlGroup = Literal[
    "Length",
    "Randomness",
    "More filters",
    "Repetition",
    "Words",
    "Stopping",
    "Prompt",
    "Seed and completions",
]


@dataclass(frozen=True, slots=True)
class Control:
    """How one parameter is shown and explained.

    `off` is the value at which the control does nothing (None where there is no such value);
    `minimum`, `maximum` and `step` are None for controls that are not numbers, `choices` is empty
    for all but a choice.
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
    choices: tuple[str, ...] = ()

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
    label: str,
    group: ControlGroup,
    kind: ControlKind,
    help: str,
    definition: str,
    minimum: float | None = None,
    maximum: float | None = None,
    step: float | None = None,
    off: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    shown = {"label": label, "group": group, "kind": kind, "definition": definition}
    others = {"minimum": minimum, "maximum": maximum, "step": step, "off": off}
    others |= {"choices": choices or None}  # type: ignore[dict-item]
    return Field(
        default,
        ge=minimum,
        le=maximum,
        description=help,
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
        label="Length",
        group="Length",
        kind="integer",
        help="How much to write at most. A hundred tokens are about seventy-five English words.",
        definition="The largest number of tokens to generate. Generation also ends when prompt and "
        "continuation fill the model's context. 0 writes nothing, which makes sense with Score the "
        "prompt.",
        minimum=0,
        maximum=MAX_NEW_TOKENS,
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
    min_p: float = _control(
        0.0,
        label="Min-p",
        group="More filters",
        kind="number",
        help="Leaves out words that are much less likely than the likeliest one. 0 turns it off.",
        definition="Keep the tokens whose probability is at least min_p times that of the most "
        "probable token (Nguyen et al. 2024).",
        minimum=0.0,
        maximum=1.0,
        step=0.01,
        off=0.0,
    )
    typical_p: float = _control(
        1.0,
        label="Typical-p",
        group="More filters",
        kind="number",
        help="Prefers words about as surprising as the model expects, dropping dull ones too. 1 "
        "turns it off.",
        definition="Locally typical sampling (Meister et al. 2022): keep the smallest set of "
        "tokens whose surprise is nearest to the entropy and whose probabilities sum to typical_p "
        "or more.",
        minimum=0.0,
        maximum=1.0,
        step=0.01,
        off=1.0,
    )
    epsilon_cutoff: float = _control(
        0.0,
        label="Epsilon cutoff",
        group="More filters",
        kind="number",
        help="Leaves out every word less likely than this. 0 turns it off; 0.0003 is usual.",
        definition="Drop the tokens whose probability is below epsilon_cutoff, never the most "
        "probable one (Hewitt et al. 2022).",
        minimum=0.0,
        maximum=1.0,
        step=0.0001,
        off=0.0,
    )
    eta_cutoff: float = _control(
        0.0,
        label="Eta cutoff",
        group="More filters",
        kind="number",
        help="Like epsilon cutoff, but gentler where many words would do. 0 turns it off; 0.0003 "
        "is usual.",
        definition="Drop the tokens whose probability is below the smaller of eta_cutoff and "
        "sqrt(eta_cutoff) * exp(-entropy), never the most probable one (Hewitt et al. 2022).",
        minimum=0.0,
        maximum=1.0,
        step=0.0001,
        off=0.0,
    )
    xtc_probability: float = _control(
        0.0,
        label="XTC probability",
        group="More filters",
        kind="number",
        help="How often to leave out the obvious words, for less predictable prose. 0 turns it "
        "off; 0.5 is usual.",
        definition="Exclude top choices (p-e-w, text-generation-webui 6335): with this "
        "probability, at each token, drop all tokens whose probability is xtc_threshold or more, "
        "except the least probable of them.",
        minimum=0.0,
        maximum=1.0,
        step=0.01,
        off=0.0,
    )
    xtc_threshold: float = _control(
        0.1,
        label="XTC threshold",
        group="More filters",
        kind="number",
        help="How likely a word must be to count as obvious. Above 0.5 XTC could never act.",
        definition="The probability, after all other controls, from which on XTC drops tokens. At "
        "least two must reach it.",
        minimum=0.0,
        maximum=0.5,
        step=0.01,
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
        minimum=0.5,
        maximum=2.0,
        step=0.01,
        off=1.0,
    )
    presence_penalty: float = _control(
        0.0,
        label="Presence penalty",
        group="Repetition",
        kind="number",
        help="Above 0 makes words that the model has written once less likely, however often.",
        definition="As OpenAI's: subtracted from the logit of every token that stands in the "
        "continuation so far. The prompt does not count.",
        minimum=-2.0,
        maximum=2.0,
        step=0.1,
        off=0.0,
    )
    frequency_penalty: float = _control(
        0.0,
        label="Frequency penalty",
        group="Repetition",
        kind="number",
        help="Above 0 makes words less likely the more often the model has written them.",
        definition="As OpenAI's: subtracted from a token's logit once for every time that it "
        "stands in the continuation so far. The prompt does not count.",
        minimum=-2.0,
        maximum=2.0,
        step=0.1,
        off=0.0,
    )
    no_repeat_ngram_size: int = _control(
        0,
        label="No repeated n-grams",
        group="Repetition",
        kind="integer",
        help="No run of this many tokens comes twice, the prompt included. 0 turns it off.",
        definition="Tokens that would complete an n-gram of this size that already stands in "
        "prompt or continuation are forbidden.",
        minimum=0,
        maximum=20,
        step=1,
        off=0,
    )
    dry_multiplier: float = _control(
        0.0,
        label="DRY multiplier",
        group="Repetition",
        kind="number",
        help="Makes it ever less likely to go on with a sequence that stands in the text already. "
        "0 turns it off; 0.8 is usual.",
        definition="Don't repeat yourself (p-e-w, text-generation-webui 5677): from the logit of "
        "a token that would lengthen a repetition of n tokens to n + 1, n being dry_allowed_length "
        "or more, dry_multiplier * dry_base ** (n - dry_allowed_length) is subtracted.",
        minimum=0.0,
        maximum=5.0,
        step=0.05,
        off=0.0,
    )
    dry_base: float = _control(
        1.75,
        label="DRY base",
        group="Repetition",
        kind="number",
        help="How fast the DRY penalty grows with the length of the repetition.",
        definition="The base of the power in the DRY penalty.",
        minimum=1.0,
        maximum=4.0,
        step=0.05,
    )
    dry_allowed_length: int = _control(
        2,
        label="DRY allowed length",
        group="Repetition",
        kind="integer",
        help="Repetitions of fewer tokens than this are free.",
        definition="The length of the shortest repetition that DRY penalises the continuation of.",
        minimum=1,
        maximum=20,
        step=1,
    )
    dry_sequence_breakers: tuple[ShortString, ...] = _control(
        ("\n", ":", '"', "*"),
        label="DRY sequence breakers",
        group="Repetition",
        kind="strings",
        help="Repetitions are not followed across these. One a line; \\n stands for a line break.",
        definition="The last token of each of these strings ends the matching of a repetition.",
    )
    logit_bias: tuple[Bias, ...] = _control(
        (),
        label="Logit bias",
        group="Words",
        kind="biases",
        help="Makes words likelier or less likely: a word, = and a number from -100 to 100, one a "
        "line. Most words need their space in front.",
        definition="Added to the logit before everything else. A token is named by its id in "
        "digits or by its text; a text in double quotes is read as JSON. Of a text that is "
        "several tokens the last gets the bias where the others stand before it, as in "
        "transformers' sequence_bias.",
    )
    bad_words: tuple[ShortString, ...] = _control(
        (),
        label="Forbidden words",
        group="Words",
        kind="strings",
        help="The model does not write these. One a line, as written and with a space in front.",
        definition="The tokens of each text, and those of the text with a space in front, are "
        "forbidden as a sequence: the last one where the others stand before it, as transformers' "
        "bad_words_ids. Other spellings, such as capitals, are other words.",
    )
    stop: tuple[ShortString, ...] = _control(
        (),
        label="Stop at",
        group="Stopping",
        kind="strings",
        help="Writing ends before any of these. One a line; \\n stands for a line break.",
        definition=f"Up to {MAX_STRINGS['stop']} strings of at most {MAX_STRING_CHARACTERS} "
        "characters. Generation ends where the text contains one of them; the string itself is "
        "left out.",
    )
    stop_token_ids: tuple[TokenId, ...] = _control(
        (),
        label="Stop at tokens",
        group="Stopping",
        kind="integers",
        help="Writing ends at any of these token ids, separated by spaces or commas.",
        definition="Each ends the text as the model's own end-of-text token does, and is left "
        "out of it like that one.",
    )
    min_new_tokens: int = _control(
        0,
        label="Minimum length",
        group="Stopping",
        kind="integer",
        help="How much to write at least before the model may end its text.",
        definition="Until so many tokens are generated, the end-of-text token and stop_token_ids "
        "are forbidden. Stop strings and forbidden words keep their effect.",
        minimum=0,
        maximum=MAX_NEW_TOKENS,
        step=1,
        off=0,
    )
    ignore_eos: bool = _control(
        False,
        label="Write past the end",
        group="Stopping",
        kind="flag",
        help="Go on where the model would end its text; what follows is usually another text.",
        definition="The end-of-text token is generated as any other, and shown as "
        "<|endoftext|>; it no longer ends generation. stop_token_ids still do.",
    )
    max_time: float = _control(
        0.0,
        label="Time limit",
        group="Stopping",
        kind="number",
        help="Stop after so many seconds of writing. 0 sets no limit.",
        definition="Seconds from the moment the model begins to read the prompt; waiting in the "
        "queue does not count. Generation ends with the first token after it.",
        minimum=0.0,
        maximum=3600.0,
        step=1.0,
        off=0.0,
    )
    truncate: Literal["error", "left"] = _control(
        "error",
        label="Where the text is too long",
        group="Prompt",
        kind="choice",
        help="error refuses a text that does not fit the model; left reads only the end of it, "
        "and says how many tokens it left out.",
        definition="left keeps as many of the prompt's last tokens as leave room for "
        "max_new_tokens, and at least half of the context.",
        choices=("error", "left"),
    )
    token_healing: bool = _control(
        False,
        label="Token healing",
        group="Prompt",
        kind="flag",
        help="Lets the model finish the last word of the text, also where it ends in mid-word or "
        "in a space.",
        definition="The last token of the prompt is taken back, and the first token generated "
        "must begin with its characters.",
    )
    echo: bool = _control(
        False,
        label="Score the prompt",
        group="Prompt",
        kind="flag",
        help="Also tells how likely the model found each token of the prompt.",
        definition="Log-probabilities of the prompt's tokens but the first, their sum, perplexity "
        "(exp of minus their mean) and bits per byte of their text.",
    )
    seed: int | None = _control(
        None,
        label="Seed",
        group="Seed and completions",
        kind="optional_integer",
        help="The same seed, text and settings give the same words again. Empty: a new one each "
        "time.",
        definition="Key of the random numbers; the number for a token depends on the seed and the "
        f"token's position alone. 0 to {MAX_SEED}.",
        minimum=0,
        maximum=MAX_SEED,
        step=1,
    )
    n: int = _control(
        1,
        label="Completions",
        group="Seed and completions",
        kind="integer",
        help="How many continuations to write side by side.",
        definition="The prompt is read once for all. Completion i, counted from 0, is the one "
        "that seed + i (modulo 2**32) gives alone.",
        minimum=1,
        maximum=MAX_COMPLETIONS,
        step=1,
        off=1,
    )
    best_of: int | None = _control(
        None,
        label="Best of",
        group="Seed and completions",
        kind="optional_integer",
        help="Writes so many continuations and shows the likeliest of them. Empty: as many as are "
        "shown.",
        definition="best_of completions are generated as with n, and the n with the highest mean "
        "log-probability a token by the model itself are given, the best first.",
        minimum=1,
        maximum=MAX_COMPLETIONS,
        step=1,
    )
    logprobs: int | None = _control(
        None,
        label="Token probabilities",
        group="Seed and completions",
        kind="optional_integer",
        help="Tells how likely each token was, and so many of the likeliest others. Empty: not "
        "asked for.",
        definition="Log-probabilities by the model itself (its softmax over all rows, controls "
        "not applied) and after the controls, of the token and of the most probable alternatives, "
        "with the control that removed each.",
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
            raise PydanticCustomError("too_many", f"at most {most} are allowed, not {len(values)}")
        return values

    @model_validator(mode="after")
    def _not_contradictory(self) -> SamplingParams:
        if self.min_new_tokens > self.max_new_tokens:
            wrong = ("min_new_tokens", "max_new_tokens")
            how = "is more than"
        elif self.best_of is not None and self.best_of < self.n:
            wrong = ("best_of", "n")
            how = "is less than"
        elif self.max_new_tokens == 0 and not self.echo:
            raise PydanticCustomError(
                "contradiction",
                "Length (max_new_tokens) is 0, which leaves nothing to do; ask for a token or "
                "more, or turn on Score the prompt (echo).",
                {"name": "max_new_tokens"},
            )
        elif self.max_new_tokens == 0 and self.candidates > 1:
            wrong = ("n" if self.n > 1 else "best_of", "max_new_tokens")
            how = "has no meaning with"
        else:
            return self
        name, other = (_CONTROLS_BY_NAME[one] for one in wrong)
        raise PydanticCustomError(
            "contradiction",
            f"{name.label} ({name.name}) is {getattr(self, name.name)}, which {how} "
            f"{other.label} ({other.name}), {getattr(self, other.name)}. Change one of them.",
            {"name": name.name},
        )


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


class InvalidControl(ValueError):
    """A control has a value it cannot have; `name` is the control, the message is for people."""

    def __init__(self, name: str, message: str) -> None:
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
            f"{control.label} ({control.name}): write a word, = and a number on each line, such "
            f"as dragon = -5; a line was {_shorten(line)}.",
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
            raise ContradictoryControls(first["ctx"]["name"], first["msg"]) from None
        name = str(first["loc"][0]) if first["loc"] else "controls"
        raise InvalidControl(name, _explain(name, first["type"], first["msg"], values)) from None


_SHAPES = {
    "strings": "must be a list of texts",
    "integers": "must be a list of token ids, which are whole numbers from 0",
    "biases": f"must give token ids or texts a number from {-MAX_BIAS:g} to {MAX_BIAS:g} each",
    "flag": "must be true or false",
}
_TEXTS = {
    "string_too_short": "none of the texts may be empty",
    "string_too_long": f"a text has at most {MAX_STRING_CHARACTERS} characters",
    "string_unicode": "a text holds a character that stands for nothing",
}


def _explain(name: str, kind: str, message: str, values: Mapping[str, Any]) -> str:
    control = _CONTROLS_BY_NAME.get(name)
    if control is None:
        known = ", ".join(control.name for control in CONTROLS)
        return f"There is no control named {name!r}. The controls are: {known}."
    called = f"{control.label} ({control.name})"
    if kind == "too_many":
        return f"{called}: {message}."
    if control.kind in ("strings", "biases") and kind in _TEXTS:
        return f"{called}: {_TEXTS[kind]}."
    was = f"it was {_shorten(values.get(name))}."
    if control.kind in _SHAPES:
        return f"{called} {_SHAPES[control.kind]}; {was}"
    if control.kind == "choice":
        return f"{called} must be {' or '.join(control.choices)}; {was}"
    number = "a number" if control.kind == "number" else "a whole number"
    return f"{called} must be {number} from {control.minimum:g} to {control.maximum:.10g}; {was}"


def _shorten(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else shown[:37] + "..."
