"""One completion that a server writes: its tokens become events, and end conditions are applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gptj_demo.engine.detokenizer import Detokenizer
from gptj_demo.engine.end_conditions import ended_after, ended_by
from gptj_demo.protocol import (
    EngineEvent,
    Finished,
    FinishReason,
    Submit,
    TokenEvent,
    TokenLogprobs,
    Written,
)
from gptj_demo.sampling import seed_after
from gptj_demo.texts import Message, joined, message


class Completion:
    """The text of one completion so far; `written` is what an earlier engine got."""

    def __init__(
        self,
        submit: Submit,
        index: int,
        written: Written,
        table: Sequence[bytes],
        eos_token_ids: frozenset[int],
        context_length: int,
    ) -> None:
        self.index = index
        self.token_ids = list(written.token_ids)
        params = submit.params
        self.wants_logprobs = params.wants_logprobs
        self._submit = submit
        self._eos_token_ids = eos_token_ids
        self._context = context_length
        self._detokenizer = Detokenizer(
            table, params.stop, keeps_stop=params.include_stop_str_in_output
        )
        for token_id in written.token_ids:
            self._detokenizer.add(token_id)
        self._sum_logprob = written.sum_logprob if self.wants_logprobs else None

    @property
    def seed(self) -> int:
        """The seed with which this completion can be requested alone."""
        return seed_after(self._submit.seed, self.index)

    def add(
        self, token_id: int, logprobs: TokenLogprobs | None, elapsed: float
    ) -> tuple[EngineEvent, ...]:
        """The events of a new token, `elapsed` seconds after the request's start."""
        params = self._submit.params
        self.token_ids.append(token_id)
        if logprobs is not None:
            self._sum_logprob = (self._sum_logprob or 0.0) + logprobs.logprob
        why = ended_by(token_id, params, self._eos_token_ids)
        if why is not None:
            shown = logprobs if params.logprobs is not None else None
            finished = self.finish("stop", why)
            return (replace(finished, end_token_id=token_id, end_logprobs=shown),)
        text = self._detokenizer.add(token_id)
        token = TokenEvent(self._submit.request_id, token_id, text, self.index, logprobs)
        generated = len(self.token_ids)
        end = ended_after(
            params,
            stopped_by=self._detokenizer.stopped_by,
            generated=generated,
            length=len(self._submit.prompt_token_ids) + generated,
            context_length=self._context,
            elapsed=elapsed,
        )
        return (token, self.finish(*end)) if end else (token,)

    def end(self, reason: str) -> Finished:
        """The last event where the server ended the text: `reason` is its `finish_reason`."""
        if reason == "length":
            return self.finish("length", message("end.length", count=len(self.token_ids)))
        if reason == "content_filter":
            return self.finish("filtered", message("end.filtered"))
        if reason == "stop":
            return self.finish("stop", message("end.model"))
        return self.finish("error", message("end.server_failed", why=reason))

    def finish(self, reason: FinishReason, why: Message) -> Finished:
        """The last event, with the text that was held back."""
        submit = self._submit
        if submit.dropped_tokens:
            why = joined(why, message("end.dropped", count=submit.dropped_tokens))
        return Finished(
            request_id=submit.request_id,
            reason=reason,
            message=why,
            text=self._detokenizer.finish(),
            prompt_tokens=len(submit.prompt_token_ids),
            completion_tokens=len(self.token_ids),
            seed=self.seed,
            index=self.index,
            sum_logprob=self._sum_logprob,
        )
