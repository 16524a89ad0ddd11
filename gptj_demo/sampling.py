"""The controls of a request, which a visitor sets; declared once.

Sliders, command line flags, validation and documentation are all made from the fields of
`SamplingParams`. Names and meanings are those of transformers' `GenerationConfig` where it has the
control, else those of the software or paper that the control's definition names.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from gptj_demo.control import Control, choice, flag, integer, number, permutation, several, text
from gptj_demo.texts import Message, message

MAX_NEW_TOKENS = 2048
MAX_STRINGS = {"stop": 32, "stop_token_ids": 64, "dry_sequence_breakers": 32}
MAX_WORDS = 1024  # of bad_words, logit_bias and allowed_token_ids
MAX_STRING_CHARACTERS = 100
MAX_TEXT_CHARACTERS = 50_000  # of must_match_text
MAX_BIAS = 100.0
MAX_ID_DIGITS = 18  # of a token id that is written in a bias
MAX_COMPLETIONS = 16
MAX_ALTERNATIVES = 20
MAX_SEED = 2**32 - 1

PROCESSORS = (
    "logit_bias",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "bad_words",
    "allowed_token_ids",
    "min_new_tokens",
    "must_match",
    "token_healing",
    "presence_penalty",
    "frequency_penalty",
    "dry_multiplier",
)
"""The controls that change the logits before the temperature, in this order; greedy decoding takes
the most probable token after them."""

FILTERS = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "tfs",
    "top_a",
    "mirostat",
    "xtc_probability",
)
"""The temperature and the controls that remove tokens, in their usual order: `sampler_order`."""

CONTROL_ORDER = PROCESSORS + FILTERS
"""The order in which controls change the logits: that of transformers' `generate`. Processors that
it lacks come between its processors and its warpers; XTC comes last."""


def most_values(name: str) -> int:
    """The most values that the list of a control has."""
    return len(FILTERS) if name == "sampler_order" else MAX_STRINGS.get(name, MAX_WORDS)


def read_bias_key(key: object) -> object:
    """The key of a bias: digits become a token id, and a JSON string becomes its text."""
    if isinstance(key, str) and key.isascii() and key.isdigit() and len(key) <= MAX_ID_DIGITS:
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


_MATCH = ("must_match", "must_match_text")

ShortString = Annotated[str, StringConstraints(min_length=1, max_length=MAX_STRING_CHARACTERS)]
TokenId = Annotated[int, Field(ge=0)]
Bias = tuple[TokenId | ShortString, Annotated[float, Field(ge=-MAX_BIAS, le=MAX_BIAS)]]


def _read_mirostat(value: object) -> object:
    """Accept the numbers 0 and 2, which llama.cpp uses."""
    return {"0": "off", "2": "2"}.get(str(value), value)


MirostatVersion = Annotated[Literal["off", "2"], BeforeValidator(_read_mirostat)]


class SamplingParams(BaseModel):
    """The controls of one request, checked: each value in its range, and none against another."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    # fmt: off
    max_new_tokens: int = integer(
        120, "length", (0, MAX_NEW_TOKENS), suggestions="20, 60, 120",
        shapes_next_token=False, openai="max_tokens", transformers="max_new_tokens")
    temperature: float = number(
        0.8, "randomness", (0.0, 2.0, 0.05), off=1.0, suggestions="0.2 to 1.4 in 5 steps",
        openai="temperature", transformers="temperature")
    top_p: float = number(
        0.95, "randomness", (0.0, 1.0, 0.01), off=1.0, suggestions="0.8, 0.95, 1",
        openai="top_p", transformers="top_p")
    top_k: int = integer(
        0, "randomness", (0, 1000), off=0, suggestions="5, 20, 100, 0", transformers="top_k")
    min_p: float = number(
        0.0, "more_filters", (0.0, 1.0, 0.01), off=0.0, suggestions="0, 0.02, 0.05, 0.1",
        transformers="min_p")
    typical_p: float = number(
        1.0, "more_filters", (0.0, 1.0, 0.01), off=1.0, suggestions="0.2, 0.5, 0.9, 1",
        transformers="typical_p")
    epsilon_cutoff: float = number(
        0.0, "more_filters", (0.0, 1.0, 0.0001), off=0.0, suggestions="0, 0.0003, 0.003",
        transformers="epsilon_cutoff")
    eta_cutoff: float = number(
        0.0, "more_filters", (0.0, 1.0, 0.0001), off=0.0, suggestions="0, 0.0003, 0.003",
        transformers="eta_cutoff")
    tfs: float = number(
        1.0, "more_filters", (0.0, 1.0, 0.01), off=1.0, suggestions="0.5, 0.9, 0.95, 1")
    top_a: float = number(
        0.0, "more_filters", (0.0, 1.0, 0.01), off=0.0, suggestions="0, 0.05, 0.2, 0.5")
    mirostat: MirostatVersion = choice(
        "more_filters", "off", "2", off="off")
    mirostat_tau: float = number(
        5.0, "more_filters", (0.0, 20.0, 0.1), part_of="mirostat", suggestions="2, 4, 6, 8")
    mirostat_eta: float = number(
        0.1, "more_filters", (0.0, 1.0, 0.01), part_of="mirostat", suggestions="0.05, 0.1, 0.3")
    xtc_probability: float = number(
        0.0, "more_filters", (0.0, 1.0, 0.01), off=0.0, in_tree=False, suggestions="0, 0.5, 1")
    xtc_threshold: float = number(
        0.1, "more_filters", (0.0, 0.5, 0.01), part_of="xtc_probability", in_tree=False)
    sampler_order: tuple[str, ...] = permutation(
        "more_filters", FILTERS,
        not_in_transformers="generate has an order of its own; left out")
    repetition_penalty: float = number(
        1.0, "repetition", (0.5, 2.0, 0.01), off=1.0, suggestions="1, 1.1, 1.2, 1.4",
        elsewhere="repeat_penalty", transformers="repetition_penalty")
    repetition_penalty_range: int = integer(
        0, "repetition", (0, MAX_NEW_TOKENS), part_of="repetition_penalty",
        elsewhere="repeat_last_n", suggestions="64, 256, 0")
    presence_penalty: float = number(
        0.0, "repetition", (-2.0, 2.0, 0.1), off=0.0, suggestions="0, 0.5, 1",
        openai="presence_penalty")
    frequency_penalty: float = number(
        0.0, "repetition", (-2.0, 2.0, 0.1), off=0.0, suggestions="0, 0.5, 1",
        openai="frequency_penalty")
    no_repeat_ngram_size: int = integer(
        0, "repetition", (0, 20), off=0, suggestions="0, 2, 3",
        transformers="no_repeat_ngram_size")
    dry_multiplier: float = number(
        0.0, "repetition", (0.0, 5.0, 0.05), off=0.0, suggestions="0, 0.4, 0.8")
    dry_base: float = number(
        1.75, "repetition", (1.0, 4.0, 0.05), part_of="dry_multiplier",
        suggestions="1.25, 1.75, 2.5")
    dry_allowed_length: int = integer(
        2, "repetition", (1, 20), part_of="dry_multiplier", suggestions="1, 2, 4")
    dry_sequence_breakers: tuple[ShortString, ...] = several(
        "strings", "repetition", ("\n", ":", '"', "*"), part_of="dry_multiplier")
    logit_bias: tuple[Bias, ...] = several(
        "biases", "words", openai="logit_bias", transformers="sequence_bias")
    bad_words: tuple[ShortString, ...] = several(
        "strings", "words", transformers="bad_words_ids")
    allowed_token_ids: tuple[TokenId, ...] = several("integers", "words")
    must_match: Literal["off", "choices", "regex", "json", "grammar"] = choice(
        "words", "off", "choices", "regex", "json", "grammar", off="off",
        suggestions="off, regex")
    must_match_text: Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARACTERS)] = text(
        "words", part_of="must_match")
    stop: tuple[ShortString, ...] = several(
        "strings", "stopping", shapes_next_token=False, openai="stop",
        transformers="stop_strings")
    include_stop_str_in_output: bool = flag(
        "stopping", shapes_next_token=False,
        not_in_transformers="generate's stop strings always stay in the text")
    stop_token_ids: tuple[TokenId, ...] = several(
        "integers", "stopping", transformers="eos_token_id")
    min_new_tokens: int = integer(
        0, "stopping", (0, MAX_NEW_TOKENS), off=0, suggestions="0, 40, 80",
        elsewhere="min_tokens", transformers="min_new_tokens")
    ignore_eos: bool = flag("stopping", transformers="eos_token_id")
    max_time: float = number(
        0.0, "stopping", (0.0, 3600.0, 1.0), off=0.0, shapes_next_token=False,
        transformers="max_time")
    truncate: Literal["error", "left"] = choice(
        "prompt", "error", "left", transformers="input_ids")
    token_healing: bool = flag(
        "prompt", in_tree=False,
        not_in_transformers="transformers' own option of that name does something else; left out")
    echo: bool = flag(
        "prompt", shapes_next_token=False, openai="echo", transformers="input_ids")
    seed: int | None = integer(
        None, "seed_and_completions", (0, MAX_SEED), suggestions="1, 2, 3, 4", in_tree=False,
        openai="seed", transformers="set_seed")
    n: int = integer(
        1, "seed_and_completions", (1, MAX_COMPLETIONS), off=1, shapes_next_token=False,
        openai="n", transformers="num_return_sequences")
    best_of: int | None = integer(
        None, "seed_and_completions", (1, MAX_COMPLETIONS), shapes_next_token=False,
        suggestions="1, 2, 4", openai="best_of")
    logprobs: int | None = integer(
        None, "seed_and_completions", (0, MAX_ALTERNATIVES), shapes_next_token=False,
        openai="logprobs", not_in_transformers=
        "output_logits=True and return_dict_in_generate=True give all logits")
    # fmt: on

    @property
    def candidates(self) -> int:
        """How many completions are generated; the best `n` are returned."""
        return self.best_of or self.n

    @property
    def wants_logprobs(self) -> bool:
        """Whether the log-probabilities of generated tokens are shown, or rank completions."""
        return self.logprobs is not None or self.candidates > self.n

    @field_validator("logit_bias", mode="before")
    @classmethod
    def _biases_by_token(cls, value: object) -> object:
        return _read_biases(value)

    # before pydantic makes an error of each wrong value, and before `_biases_by_token`
    @field_validator(*MAX_STRINGS, "logit_bias", "bad_words", "allowed_token_ids", mode="before")
    @classmethod
    def _not_too_many(cls, values: object, info: ValidationInfo) -> object:
        assert info.field_name is not None
        most = most_values(info.field_name)
        if isinstance(values, Collection) and not isinstance(values, str) and len(values) > most:
            raise _wrong("too_many", message("wrong.too_many", most=most, given=len(values)))
        return values

    @field_validator("sampler_order", mode="before")
    @classmethod
    def _permutation(cls, names: object) -> object:
        if not isinstance(names, (list, tuple)):
            return names
        if len(names) != len(FILTERS) or any(one not in names for one in FILTERS):
            raise ValueError  # `control_values` says what is wrong
        return names

    @model_validator(mode="after")
    def _not_contradictory(self) -> SamplingParams:
        if self.min_new_tokens > self.max_new_tokens:
            wrong = ("min_new_tokens", "max_new_tokens")
            how = "wrong.is_more"
        elif self.best_of is not None and self.best_of < self.n:
            wrong = ("best_of", "n")
            how = "wrong.is_less"
        elif self.must_match != "off" and not self.must_match_text:
            kind, written = (_CONTROLS_BY_NAME[one].called for one in _MATCH)
            why = message("wrong.nothing_to_match", kind=kind, text=written)
            raise _wrong("contradiction", why, _MATCH[1])
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


def seed_after(seed: int, count: int) -> int:
    """The seed `count` after this one; the first follows the last."""
    return (seed + count) % (MAX_SEED + 1)


TREE_CONTROLS = tuple(one for one in CONTROLS if one.shapes_next_token and one.in_tree)
"""The controls that the tree of likely continuations can follow."""


PRESETS: dict[str, dict[str, float]] = {
    "Precise": {"temperature": 0.4, "top_p": 0.9, "top_k": 0, "repetition_penalty": 1.05},
    "Balanced": {"temperature": 0.8, "top_p": 0.95, "top_k": 0, "repetition_penalty": 1.0},
    "Wild": {"temperature": 1.2, "top_p": 0.98, "top_k": 0, "repetition_penalty": 1.0},
    "Greedy": {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0},
}
"""Named settings of the controls that shape the text; the others are left as they are."""
