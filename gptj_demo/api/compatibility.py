"""Fields of other completion servers, accepted with values that have no effect.

Clients send fields of OpenAI, vLLM, llama.cpp, text-generation-webui and KoboldAI with values that
change nothing, such as `use_beam_search: false`. Such a field is dropped. The same field with a
value that would change the text stays in the body, so that validation refuses it by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

Predicate = Callable[[Any], bool]


def _one_of(*values: Any) -> Predicate:
    def matches(value: Any) -> bool:
        # `True == 1`, so the kinds are compared too; 1 and 1.0 are the same JSON number
        return any(
            value == one and isinstance(value, bool) == isinstance(one, bool) for one in values
        )

    return matches


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


NEUTRAL: Mapping[str, Predicate] = {
    # OpenAI: bookkeeping of its own service
    "store": _is_flag,
    "metadata": _is_object,
    "service_tier": _is_text,
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
    # transformers
    "do_sample": _one_of(True),
    "num_beams": _one_of(1),
    "guidance_scale": _one_of(1),
    # llama.cpp: its prompt cache changes the time, not the text, as ours does
    "cache_prompt": _is_flag,
    "penalize_nl": _one_of(False),
    "repeat_last_n": _one_of(-1),
    "dry_penalty_last_n": _one_of(-1),
    "n_keep": _one_of(0, -1),
    "dynatemp_range": _one_of(0),
    "min_keep": _one_of(0, 1),
    # text-generation-webui
    "ban_eos_token": _one_of(False),
    "add_bos_token": _is_flag,
    "smoothing_factor": _one_of(0),
    "dynamic_temperature": _one_of(False),
    "encoder_repetition_penalty": _one_of(1),
    "no_repeat_ngram_size_encoder": _one_of(0),
    "penalty_alpha": _one_of(0),
}
"""Fields that are dropped, with the values for which they have no effect. null always has none."""

UNSET: Mapping[str, Predicate] = {
    "top_k": _one_of(-1),
    "seed": _one_of(-1),
}
"""Values by which other servers mark one of our parameters as not set."""


def drop_neutral(body: bytes) -> bytes:
    """The JSON body of a request without the fields that have no effect.

    A body that is not a JSON object is returned as it is: the schema explains what is wrong.
    """
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(values, dict):
        return body
    dropped = [
        name
        for name, value in values.items()
        if (name in NEUTRAL and (value is None or NEUTRAL[name](value)))
        or (name in UNSET and UNSET[name](value))
    ]
    if not dropped:
        return body
    return json.dumps({k: v for k, v in values.items() if k not in dropped}).encode()
