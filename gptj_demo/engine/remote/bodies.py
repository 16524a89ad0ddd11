"""Builds requests in the format of a completions server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gptj_demo.control import Control
from gptj_demo.engine.remote.abilities import MATCHES, PROMPT_SCORES, TOKEN_IDS, Abilities
from gptj_demo.engine.remote.completion import Completion
from gptj_demo.engine.remote.reading import Tokens
from gptj_demo.engine.remote.server import Json, Rejected
from gptj_demo.guidance import read_choices
from gptj_demo.protocol import Submit
from gptj_demo.sampling import CONTROLS, SamplingParams
from gptj_demo.served import is_used

KINDS = {"choices": "choice", "regex": "regex", "json": "json", "grammar": "grammar"}
"""vLLM's names of our kinds of match."""


class Bodies:
    """Makes the bodies of requests to a server with these abilities."""

    def __init__(
        self, model: str, abilities: Abilities, tokens: Tokens, context_length: int
    ) -> None:
        self._model = model
        self._abilities = abilities
        self._tokens = tokens
        self._context = context_length

    def completion(self, submit: Submit, completion: Completion) -> Json:
        """The request for the rest of a completion, after the tokens that it has.

        Raises `Rejected` for a value that the server's format cannot express.
        """
        written = completion.token_ids
        params, abilities = submit.params, self._abilities
        ids = (*submit.prompt_token_ids, *written)
        left = min(params.max_new_tokens - len(written), self._context - len(ids))
        body = {**self._prompt(ids), "max_tokens": max(1, left), "stream": True}
        for control in CONTROLS:
            field = abilities.field_of(control)
            if field is not None:
                value = self._value(control, submit, completion)
                if value is not None:
                    body[field] = value
        if completion.wants_logprobs:
            body["logprobs"] = max(1, params.logprobs or 0)
        body |= {name: True for name in TOKEN_IDS if name in abilities.fields}
        if params.must_match != "off":
            body[MATCHES] = {KINDS[params.must_match]: _matched(params)}
        return body

    def prompt_scores(self, submit: Submit, alternatives: int) -> Json:
        """The request for the probabilities of a prompt's tokens."""
        scored = {"max_tokens": 1, "temperature": 0, PROMPT_SCORES: alternatives}
        return {**self._prompt(submit.prompt_token_ids), **scored}

    def _prompt(self, ids: Sequence[int]) -> Json:
        prompt = list(ids) if self._abilities.takes_ids else self._tokens.text_of(ids)
        return {"model": self._model, "prompt": prompt}

    def _value(self, control: Control, submit: Submit, completion: Completion) -> Any:
        """The control's value as the server has it, None to leave it out."""
        value = getattr(submit.params, control.name)
        if control.name == "seed":
            return completion.seed
        if control.name == "min_new_tokens":
            return max(0, value - len(completion.token_ids))
        if control.name == "logit_bias":
            return _biases(submit)
        if control.kind == "choice":  # llama.cpp has numbers
            return int(value) if value.isdigit() else 0
        if control.is_list:  # some servers refuse an empty list even if it has no effect
            return list(value) if value or is_used(control, submit.params) else None
        return value


def can_continue(submit: Submit, completion: Completion) -> bool:
    """Whether the rest of a completion can be requested.

    A server matches the text of one request, from its first token on.
    """
    return submit.params.must_match == "off" or not completion.token_ids


def _biases(submit: Submit) -> dict[str, float] | None:
    if any(len(ids) != 1 for ids, _ in submit.logit_bias):
        raise Rejected("there, a bias is for one token, and a text of this one has several", 400)
    return {str(ids[0]): bias for ids, bias in submit.logit_bias} or None


def _matched(params: SamplingParams) -> Any:
    text = params.must_match_text
    return read_choices(text) if params.must_match == "choices" else text
