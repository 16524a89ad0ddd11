"""Fields of other completion servers: those without effect here, and other names of ours.

Clients send fields of OpenAI, vLLM, llama.cpp, text-generation-webui and KoboldAI with values that
change nothing, such as `use_beam_search: false`. Such a field is dropped. The same field with a
value that would change the text stays in the body, so that validation refuses it by name. A field
that means the same as one of ours under another name is renamed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gptj_demo.api.errors import ApiError
from gptj_demo.sampling import MAX_ALTERNATIVES, MAX_NEW_TOKENS


class Accepted(NamedTuple):
    """The values of a field that have no effect."""

    said: str
    """The values in words, after "must be"."""
    matches: Callable[[Any], bool]


def _one_of(*values: Any) -> Accepted:
    def matches(value: Any) -> bool:
        # `True == 1`, so the kinds are compared too; 1 and 1.0 are the same JSON number
        return any(
            value == one and isinstance(value, bool) == isinstance(one, bool) for one in values
        )

    return Accepted(" or ".join(map(json.dumps, values)), matches)


_is_flag = Accepted("true or false", lambda value: isinstance(value, bool))
_is_text = Accepted("a text", lambda value: isinstance(value, str))
_is_object = Accepted("an object", lambda value: isinstance(value, dict))
_is_empty = Accepted("empty", lambda value: value in ("", [], {}))


NEUTRAL: Mapping[str, Accepted] = {
    # OpenAI: bookkeeping of its own service
    "store": _is_flag,
    "metadata": _is_object,
    "service_tier": _is_text,
    "modalities": _one_of(["text"]),
    "prompt_cache_key": _is_text,
    "safety_identifier": _is_text,
    "suffix": _one_of(""),
    "response_format": _one_of({"type": "text"}),
    # vLLM
    "skip_special_tokens": _one_of(True),
    "spaces_between_special_tokens": _is_flag,
    "add_special_tokens": _is_flag,
    "use_beam_search": _one_of(False),
    "length_penalty": _one_of(1),
    "early_stopping": _one_of(False),
    "priority": _one_of(0),
    "request_id": _is_text,
    "detokenize": _one_of(True),
    "allowed_words": _is_empty,
    "guided_json": _is_empty,
    "guided_regex": _is_empty,
    "guided_choice": _is_empty,
    "guided_grammar": _is_empty,
    "guided_decoding_backend": _is_text,
    "guided_whitespace_pattern": _is_empty,
    "structured_outputs": _is_empty,
    # transformers
    "do_sample": _one_of(True),
    "num_beams": _one_of(1),
    "guidance_scale": _one_of(1),
    # llama.cpp: its prompt cache changes the time, not the text, as ours does
    "cache_prompt": _is_flag,
    "penalize_nl": _one_of(False),
    "dry_penalty_last_n": _one_of(-1),
    "n_keep": _one_of(0, -1),
    "dynatemp_range": _one_of(0),
    "dynatemp_exponent": _one_of(1),
    "min_keep": _one_of(0, 1),
    "top_n_sigma": _one_of(0, -1),
    "n_probs": _one_of(0),
    "id_slot": _one_of(-1),
    "t_max_predict_ms": _one_of(0),
    # text-generation-webui
    "ban_eos_token": _one_of(False),
    "add_bos_token": _is_flag,
    "auto_max_new_tokens": _one_of(False),
    "negative_prompt": _is_empty,
    "temperature_last": _one_of(False),
    "smoothing_factor": _one_of(0),
    "smoothing_curve": _one_of(1),
    "dynamic_temperature": _one_of(False),
    "encoder_repetition_penalty": _one_of(1),
    "no_repeat_ngram_size_encoder": _one_of(0),
    "penalty_alpha": _one_of(0),
    # KoboldAI and its clients
    "rep_pen_slope": _one_of(0, 1),
    "use_default_badwordsids": _one_of(False),
    "trim_stop": _one_of(True),
    "quiet": _is_flag,
    "genkey": _is_text,
    "banned_tokens": _is_empty,
    "custom_token_bans": _is_empty,
    "banned_strings": _is_empty,
    "include_reasoning": _is_flag,
    "skew": _one_of(0),
    "nsigma": _one_of(0),
    "repetition_decay": _one_of(0),
    "max_tokens_second": _one_of(0),
    "speculative_ngram": _one_of(False),
    "sampler_priority": _is_empty,
    "samplers": _is_empty,
}
"""Fields that are dropped, with the values for which they have no effect. null always has none."""

UNSET: Mapping[str, Accepted] = {
    "top_k": _one_of(-1),
    "seed": _one_of(-1),
    "repetition_penalty_range": _one_of(-1),
    "logprobs": _one_of(False),
    "logit_bias": _is_empty,
    "stop": _one_of(""),
}
"""Values by which other servers mark one of our parameters as not set."""

ALIASES: Mapping[str, str] = {
    # OpenAI and vLLM
    "max_completion_tokens": "max_tokens",
    "min_tokens": "min_new_tokens",
    # transformers and text-generation-webui
    "max_new_tokens": "max_tokens",
    "grammar_string": "guided_grammar",
    # llama.cpp
    "n_predict": "max_tokens",
    "repeat_penalty": "repetition_penalty",
    "repeat_last_n": "repetition_penalty_range",
    "tfs_z": "tfs",
    "grammar": "guided_grammar",
    "json_schema": "guided_json",
    # KoboldAI and its clients
    "rep_pen": "repetition_penalty",
    "rep_pen_range": "repetition_penalty_range",
    "typical": "typical_p",
    "sampler_seed": "seed",
    "stop_sequence": "stop",
    "stopping_strings": "stop",
    "mirostat_mode": "mirostat",
}
"""Other servers' names of our parameters."""

PART_OF: Mapping[str, str] = {"dry_penalty_last_n": "dry_multiplier"}
"""Fields without effect, whatever their value, unless another one is set."""

MEANING: Mapping[str, Mapping[int, tuple[str, Any]]] = {
    "max_tokens": {-1: ("max_tokens", MAX_NEW_TOKENS)},  # until the context is full
    "truncate_prompt_tokens": {-1: ("truncate", "left")},
    "logprobs": {-1: ("logprobs", MAX_ALTERNATIVES)},
    "prompt_logprobs": {-1: ("prompt_logprobs", MAX_ALTERNATIVES)},
}
"""Numbers that stand for one of our values, or for the maximum, at other servers."""


def _read_list(written: str) -> Any:
    """The value of JSON in a string; the string itself if it is not JSON."""
    try:
        return json.loads(written)
    except (ValueError, RecursionError):
        return written


class Translated(NamedTuple):
    """The fields of a body in our terms."""

    values: dict[str, Any]
    given: dict[str, str]
    """The names of fields in the body that differ from ours, by our name."""


def in_our_terms(
    body: Mapping[str, Any], more_aliases: Mapping[str, str] | None = None
) -> Translated:
    """The fields of a body without those that have no effect, and with our names.

    null means that a field is left out. `more_aliases` are names that only some routes have.
    Raises `ApiError` if two fields say different things about one parameter.
    """
    aliases = {**ALIASES, **(more_aliases or {})}
    ours: dict[str, Any] = {}
    set_by: dict[str, str] = {}
    for given, value in body.items():
        name = aliases.get(given, given)
        if name in NEUTRAL and (value is None or NEUTRAL[name].matches(value)):
            continue
        if name in UNSET and UNSET[name].matches(value):
            continue
        if value is None and (given in aliases or name in ours):
            continue
        if name in PART_OF and not body.get(PART_OF[name]):
            continue
        if given == "repeat_last_n" and type(value) is int and value == 0:
            _check_no_penalty(body)
            continue
        if name == "dry_sequence_breakers" and isinstance(value, str):
            value = _read_list(value)  # as text-generation-webui's clients write it
        if name in MEANING and type(value) is int:
            name, value = MEANING[name].get(value, (name, value))
        if ours.get(name) is not None and ours[name] != value:
            raise ApiError(
                400,
                f"{set_by[name]} and {given} are one parameter and say different things: leave one "
                "out.",
                code="invalid_value",
                param=given,
            )
        ours[name], set_by[name] = value, given
    return Translated(ours, {name: given for name, given in set_by.items() if name != given})


def _check_no_penalty(body: Mapping[str, Any]) -> None:
    """Raise `ApiError` 400 if a body with `repeat_last_n` 0 has a repetition penalty.

    0 turns llama.cpp's penalty off, and means the whole text in `repetition_penalty_range`.
    """
    penalty = "repetition_penalty"
    for given, value in body.items():
        if ALIASES.get(given, given) == penalty and value not in (None, 1):
            raise ApiError(
                400,
                f"repeat_last_n is 0, which turns the penalty off, but {given} sets one: set "
                f"{given} to 1, or set repeat_last_n to the number of tokens to penalize or -1 for "
                "all.",
                code="invalid_value",
                param="repeat_last_n",
            )


def name_as_given(error: ApiError, given: Mapping[str, str]) -> None:
    """Make an error name a parameter as the request does."""
    for ours, theirs in given.items():
        error.message = error.message.replace(f"({ours})", f"({theirs})")
        if error.param == ours:
            error.param = theirs
            error.message = re.sub(rf"\A{ours}\b", theirs, error.message)
