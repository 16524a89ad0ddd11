"""Why a completion ends with its newest token."""

from __future__ import annotations

from collections.abc import Collection

from gptj_demo.protocol import FinishReason
from gptj_demo.sampling import SamplingParams
from gptj_demo.texts import Message, message, quoted


def ended_by(
    token_id: int, params: SamplingParams, eos_token_ids: Collection[int]
) -> Message | None:
    """The reason if this token ends the text and is not part of it, else None."""
    if token_id in eos_token_ids and not params.ignore_eos:
        return message("end.model")
    if token_id in params.stop_token_ids:
        return message("end.stop_token", token=str(token_id))
    return None


def ended_after(
    params: SamplingParams,
    *,
    stopped_by: str | None,
    generated: int,
    length: int,
    context_length: int,
    elapsed: float,
) -> tuple[FinishReason, Message] | None:
    """Why the text ends with its newest token, which stays in it; None if it does not end.

    `stopped_by` is the stop string that it holds, `generated` counts the tokens of the completion,
    `length` those of prompt and completion; `elapsed` is the time since the start, in seconds.
    """
    if stopped_by is not None:
        stays = params.include_stop_str_in_output
        return "stop", message("end.stop_after" if stays else "end.stop", stop=quoted(stopped_by))
    if generated >= params.max_new_tokens:
        return "length", message("end.length", count=generated)
    if length >= context_length:
        return "length", message("end.context", context=context_length)
    if params.max_time and elapsed >= params.max_time:
        return "length", message("end.time", count=params.max_time)
    return None
