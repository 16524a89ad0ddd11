"""One continuation of a request: turns its sampled tokens into events, and ends it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gptj_demo.drafts import Drafts
from gptj_demo.engine.detokenizer import Detokenizer
from gptj_demo.engine.end_conditions import ended_after, ended_by
from gptj_demo.engine.sampling import Children, RowSampler, Sampled
from gptj_demo.engine.scheduler import Sequence
from gptj_demo.engine.scored_texts import first_scored
from gptj_demo.engine.vocabulary import EngineVocabulary
from gptj_demo.protocol import (
    EngineEvent,
    Expanded,
    Finished,
    FinishReason,
    Submit,
    TokenEvent,
    TokenLogprobs,
    Written,
)
from gptj_demo.texts import Message, joined, message


class Completion:
    """One continuation: its sequence, its text, and its end conditions."""

    def __init__(
        self,
        request: Submit,
        sampler: RowSampler,
        written: Written,
        vocabulary: EngineVocabulary,
        healed: bytes,
        known_scores: Iterable[TokenLogprobs] = (),
    ) -> None:
        self.known_scores = list(known_scores)
        self._request = request
        self._params = request.params
        given = len(request.prompt_token_ids) + len(written.token_ids)
        self.sequence = Sequence(
            request.request_id,
            request.prompt_token_ids,
            sampler.index,
            first_scored=0 if sampler.index else first_scored(request) + len(self.known_scores),
            generated_token_ids=list(written.token_ids),
            resumed=len(written.token_ids),
            max_new_tokens=min(
                max(0, self._params.max_new_tokens - len(written.token_ids)),
                vocabulary.context_length - given,
            ),
            visitor=request.visitor,
        )
        self.sampler = sampler
        self._vocabulary = vocabulary
        self._detokenizer = Detokenizer(
            vocabulary.table,
            self._params.stop,
            len(healed),
            keeps_stop=self._params.include_stop_str_in_output,
        )
        for token_id in written.token_ids:
            self._detokenizer.add(token_id)
        self._wants_logprobs = sampler.wants_logprobs
        self._sum_logprob = written.sum_logprob if sampler.wants_logprobs else None
        self._filtered_away = written.filtered_away

    def add(self, sampled: Sampled, elapsed: float) -> tuple[EngineEvent, ...]:
        """The events of a new token, which is already in the sequence.

        `elapsed` is the time since the request started, in seconds.
        """
        token_id = sampled.token_id
        if sampled.ended is not None:
            return (self.finish(*sampled.ended),)
        if token_id is None:
            return (self.break_down(),)
        if self._wants_logprobs and sampled.logprobs is not None:
            self._sum_logprob = (self._sum_logprob or 0.0) + sampled.logprobs.logprob
        self._filtered_away += sampled.filtered_away
        why = ended_by(token_id, self._params, self._vocabulary.eos_token_ids)
        if why is not None:
            return (self._ended_by(sampled, why),)
        text = self._detokenizer.add(token_id)
        token = TokenEvent(
            self._request.request_id,
            token_id,
            text,
            self.sequence.index,
            sampled.logprobs,
            sampled.filtered_away,
        )
        end = ended_after(
            self._params,
            stopped_by=self._detokenizer.stopped_by,
            generated=len(self.sequence.generated_token_ids),
            length=self.sequence.length,
            context_length=self._vocabulary.context_length,
            elapsed=elapsed,
        )
        return (token, self.finish(*end)) if end else (token,)

    def expand(self, children: Children | None) -> tuple[EngineEvent, ...]:
        """The events of an expansion; `children` is None if the logits were NaN."""
        if children is None:
            return (self.break_down(),)
        sequence = self.sequence
        read = message("end.read", count=sequence.given_length)
        expanded = Expanded(sequence.request_id, children, sequence.index)
        return expanded, replace(self.finish("length", read), completion_tokens=0)

    def _ended_by(self, sampled: Sampled, why: Message) -> Finished:
        """The last event if a token ended the text."""
        logprobs = sampled.logprobs if self._params.logprobs is not None else None
        finished = self.finish("stop", why)
        return replace(finished, end_token_id=sampled.token_id, end_logprobs=logprobs)

    def break_down(self) -> Finished:
        """The last event if the logits were NaN."""
        return self.finish("error", message("end.not_a_number"))

    def finish(self, reason: FinishReason, why: Message) -> Finished:
        """The last event, with the text that was held back."""
        dropped, lost = self._request.dropped_tokens, self._filtered_away
        if dropped:
            why = joined(why, message("end.dropped", count=dropped))
        if lost:
            why = joined(why, message("end.filtered_away", count=lost))
        return Finished(
            request_id=self._request.request_id,
            reason=reason,
            message=why,
            text=self._detokenizer.finish(),
            prompt_tokens=self.sequence.prompt_length,
            completion_tokens=len(self.sequence.generated_token_ids),
            seed=self.sampler.seed,
            index=self.sequence.index,
            sum_logprob=self._sum_logprob,
            cached_tokens=min(self.sequence.reused, self.sequence.prompt_length),
            own_cached_tokens=min(self.sequence.reused_own, self.sequence.prompt_length),
            drafts=self._drafts(),
        )

    def _drafts(self) -> tuple[Drafts, ...]:
        drafted, accepted = self.sequence.drafted, self.sequence.accepted
        return tuple(Drafts(name, drafted[name], accepted[name]) for name in sorted(drafted))
