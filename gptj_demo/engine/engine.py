"""All requests of the process over one model: takes them in and turns each step into events."""

from __future__ import annotations

import bisect
import itertools
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from gptj_demo.engine.detokenizer import Detokenizer
from gptj_demo.engine.runner import Runner
from gptj_demo.engine.sampling import RowSampler, Sampled
from gptj_demo.engine.scheduler import Scheduler, Sequence
from gptj_demo.protocol import (
    EngineEvent,
    Finished,
    FinishReason,
    PromptScored,
    Started,
    Submit,
    TokenEvent,
    TokenLogprobs,
    Written,
)
from gptj_demo.texts import Message, joined, message, quoted

_MOST_EXPONENT = 700.0  # exp of more overflows a float

Clock = Callable[[], float]  # seconds


class Completion:
    """One continuation: its sequence, its text, and its end conditions."""

    def __init__(
        self,
        request: Submit,
        sampler: RowSampler,
        written: Written,
        vocabulary: EngineVocabulary,
        healed: bytes,
    ) -> None:
        self._request = request
        self._params = request.params
        self.sequence = Sequence(
            request.request_id,
            request.prompt_token_ids,
            sampler.index,
            reads_all=scores_prompt(request) and sampler.index == 0,
            generated_token_ids=list(written.token_ids),
            resumed=len(written.token_ids),
        )
        self._seed = sampler.seed
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
        token_id, params = sampled.token_id, self._params
        if token_id is None:
            return (self.break_down(),)
        if self._wants_logprobs and sampled.logprobs is not None:
            self._sum_logprob = (self._sum_logprob or 0.0) + sampled.logprobs.logprob
        self._filtered_away += sampled.filtered_away
        if token_id in self._vocabulary.eos_token_ids and not params.ignore_eos:
            return (self._ended_by(sampled, message("end.model")),)
        if token_id in params.stop_token_ids:
            return (self._ended_by(sampled, message("end.stop_token", token=str(token_id))),)
        text = self._detokenizer.add(token_id)
        token = TokenEvent(
            self._request.request_id,
            token_id,
            text,
            self.sequence.index,
            sampled.logprobs,
            sampled.filtered_away,
        )
        generated = len(self.sequence.generated_token_ids)
        if self._detokenizer.stopped_by is not None:
            stop = self._detokenizer.stopped_by
            return token, self.finish("stop", message("end.stop", stop=quoted(stop)))
        if generated == params.max_new_tokens:
            return token, self.finish("length", message("end.length", count=generated))
        if self.sequence.length >= self._vocabulary.context_length:
            context = self._vocabulary.context_length
            return token, self.finish("length", message("end.context", context=context))
        if params.max_time and elapsed >= params.max_time:
            return token, self.finish("length", message("end.time", count=params.max_time))
        return (token,)

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
            seed=self._seed,
            index=self.sequence.index,
            sum_logprob=self._sum_logprob,
            cached_tokens=min(self.sequence.reused, self.sequence.prompt_length),
        )


class EngineVocabulary:
    """The engine's view of the tokenizer: the bytes of each id, and the valid ids.

    Ids below `size` can be sampled, except `unused_token_ids`. `bos_token_id` replaces an empty
    prompt; `eos_token_ids` end a text.
    """

    def __init__(
        self,
        table: list[bytes],
        size: int,
        context_length: int,
        *,
        bos_token_id: int,
        eos_token_ids: Iterable[int],
        unused_token_ids: Iterable[int] = (),
    ) -> None:
        self.table = table
        self.size = size
        self.context_length = context_length
        self.bos_token_id = bos_token_id
        self.eos_token_ids = frozenset(eos_token_ids)
        self.unused_token_ids = frozenset(unused_token_ids)
        self._sorted: list[tuple[bytes, int]] | None = None

    def beginning_with(self, prefix: bytes) -> list[int]:
        """The ids whose bytes begin with `prefix`."""
        if self._sorted is None:  # built on first use
            self._sorted = sorted((self.table[i], i) for i in range(self.size))
        begin = bisect.bisect_left(self._sorted, (prefix, -1))
        found = []
        for data, token_id in itertools.islice(self._sorted, begin, None):
            if not data.startswith(prefix):
                break
            if token_id not in self.eos_token_ids and token_id not in self.unused_token_ids:
                found.append(token_id)
        return found


def scores_prompt(request: Submit) -> bool:
    """Whether the probabilities of the prompt's tokens are still wanted."""
    scored = request.resumption is not None and request.resumption.is_scored
    return request.params.echo and not scored


@dataclass(slots=True)
class Running:
    """A request in the engine: its completions that have not ended, by index."""

    request: Submit
    completions: dict[int, Completion]
    healed_token_id: int | None
    started: float | None = None
    """When the first completion got its slot, by the engine's clock."""
    elapsed_before: float = 0.0
    """Seconds that earlier engines and the pauses after them have taken."""


class Engine:
    """All requests of the process over one model."""

    def __init__(
        self,
        runner: Runner,
        vocabulary: EngineVocabulary,
        prefill_budget: int,
        clock: Clock = time.monotonic,
    ) -> None:
        self._runner = runner
        self._vocabulary = vocabulary
        self._clock = clock
        self._scheduler = Scheduler(runner.cache.max_streams, prefill_budget)
        self._requests: dict[int, Running] = {}

    @property
    def max_streams(self) -> int:
        """Slots of the KV cache."""
        return self._scheduler.max_streams

    @property
    def is_idle(self) -> bool:
        return self._scheduler.is_idle

    def submit(self, request: Submit) -> None:
        """Put a request, or further completions of one, into the queue.

        The client has checked its ids and its length.
        """
        request, healed_token_id = self._heal(request)
        healed = b"" if healed_token_id is None else self._vocabulary.table[healed_token_id]
        first = self._vocabulary.beginning_with(healed) if healed else []
        ends = sorted(self._vocabulary.eos_token_ids)
        resumption = request.resumption
        if resumption is None:
            written = {index: Written() for index in range(request.params.candidates)}
        else:
            written = resumption.written
        running = self._requests.get(request.request_id)
        if running is None:
            running = Running(request, {}, healed_token_id)
            if resumption is not None:
                running.elapsed_before = resumption.elapsed
            self._requests[request.request_id] = running
        for index, so_far in written.items():
            sampler = RowSampler(request, index, ends, first, so_far)
            completion = Completion(request, sampler, so_far, self._vocabulary, healed)
            running.completions[index] = completion
            self._runner.add(completion.sequence, sampler)
            self._scheduler.add(completion.sequence)

    def _heal(self, request: Submit) -> tuple[Submit, int | None]:
        """Token healing: the request without its prompt's last token, and that token."""
        *before, last = request.prompt_token_ids
        special = {self._vocabulary.bos_token_id, *self._vocabulary.eos_token_ids}
        if not request.params.token_healing or last in special:
            return request, None
        before = before or [self._vocabulary.bos_token_id]
        return replace(request, prompt_token_ids=tuple(before)), last

    def cancel(self, request_id: int) -> list[Finished]:
        """End a request; the last events of its completions, none if it is already over."""
        running = self._requests.get(request_id)
        if running is None:
            return []
        stopped = message("end.cancelled")
        return [self._end(c, "cancelled", stopped) for c in list(running.completions.values())]

    def step(self) -> list[EngineEvent]:
        """One step of the model for all running requests; the events it made."""
        step = self._scheduler.schedule()
        now = self._clock()
        events: list[EngineEvent] = []
        for sequence in step.admitted:
            running = self._requests[sequence.request_id]
            if running.started is None:
                running.started = now - running.elapsed_before
                events.append(
                    Started(
                        sequence.request_id,
                        sequence.prompt_length,
                        running.request.dropped_tokens,
                        running.healed_token_id,
                    )
                )
        result = self._runner.run(step)
        now = self._clock()
        broken = set()
        for sequence, scores in result.scored:
            scored = self._scored(sequence, scores)
            completion = self._requests[sequence.request_id].completions[sequence.index]
            if not math.isfinite(scored.sum_logprob):
                self._remove(completion)
                events.append(completion.break_down())
                broken.add(sequence.key)
                continue
            events.append(scored)
            if self._requests[sequence.request_id].request.params.max_new_tokens == 0:
                read = message("end.read", count=sequence.prompt_length)
                events.append(self._end(completion, "length", read))
        for sequence, sampled in result.tokens:
            if sequence.key in broken:
                continue
            running = self._requests[sequence.request_id]
            assert running.started is not None
            completion = running.completions[sequence.index]
            events += completion.add(sampled, now - running.started)
            if isinstance(events[-1], Finished):
                self._remove(completion)
        return events

    def _scored(self, sequence: Sequence, scores: list[TokenLogprobs]) -> PromptScored:
        token_ids = sequence.prompt_token_ids
        total = sum(score.logprob for score in scores)
        size = sum(len(self._vocabulary.table[token_id]) for token_id in token_ids[1:])
        return PromptScored(
            sequence.request_id,
            token_ids,
            (None, *scores),
            total,
            math.exp(min(-total / len(scores), _MOST_EXPONENT)) if scores else None,
            -total / math.log(2) / size if size else None,
        )

    def _end(self, completion: Completion, reason: FinishReason, why: Message) -> Finished:
        self._remove(completion)
        return completion.finish(reason, why)

    def _remove(self, completion: Completion) -> None:
        sequence = completion.sequence
        running = self._requests[sequence.request_id]
        del running.completions[sequence.index]
        is_sound = self._runner.remove(sequence)
        self._scheduler.remove(sequence.key, keep=is_sound)
        if not running.completions:
            del self._requests[sequence.request_id]
