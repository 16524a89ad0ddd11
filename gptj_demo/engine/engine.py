"""Runs all requests of the process on one model: accepts them and turns each step into events."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace

from gptj_demo.engine.completion import Completion
from gptj_demo.engine.prompt_score import score_prompt
from gptj_demo.engine.runner import Runner
from gptj_demo.engine.sampling import Guide, RowSampler, allowed_of, is_guided
from gptj_demo.engine.scheduler import Scheduler
from gptj_demo.engine.scored_texts import ScoredTexts
from gptj_demo.engine.vocabulary import EngineVocabulary
from gptj_demo.protocol import (
    EngineEvent,
    Finished,
    FinishReason,
    Started,
    Submit,
    beginnings,
)
from gptj_demo.texts import Message, message

_COMPILING_SECONDS = 0.01
"""How long an idle engine waits for a grammar before it reads its inbox."""

Clock = Callable[[], float]  # seconds


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
    """Runs all requests of the process on one model."""

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
        self._scheduler = Scheduler(runner.cache.max_num_seqs, prefill_budget, runner.cache.pages)
        self._requests: dict[int, Running] = {}
        self._guides = vocabulary.guides()
        # completions whose grammar is being compiled, by index
        self._compiling: dict[Future[dict[int, Guide]], dict[int, Completion]] = {}
        self._scored_texts = ScoredTexts()

    @property
    def is_idle(self) -> bool:
        return self._scheduler.is_idle and not self._compiling

    def submit(self, request: Submit) -> None:
        """Put a request, or further completions of one, into the queue.

        The client has checked its ids and its length.
        """
        request, healed_token_id, first = self._heal(request)
        healed = b"" if healed_token_id is None else self._vocabulary.table[healed_token_id]
        ends = sorted(self._vocabulary.eos_token_ids)
        resumption = request.resumption
        if resumption is None:
            written = beginnings(request.params, request.expansion)
        else:
            written = resumption.written
        running = self._requests.get(request.request_id)
        if running is None:
            running = Running(request, {}, healed_token_id)
            if resumption is not None:
                running.elapsed_before = resumption.elapsed
            self._requests[request.request_id] = running
        added: dict[int, Completion] = {}
        for index, so_far in written.items():
            sampler = RowSampler(request, index, ends, first, so_far)
            known = self._scored_texts.known(request) if index == 0 else []
            completion = Completion(request, sampler, so_far, self._vocabulary, healed, known)
            running.completions[index] = added[index] = completion
            self._runner.add(completion.sequence, sampler)
        if is_guided(request.params):
            guides = self._guides.start(request.params, written, healed, first)
            self._compiling[guides] = added
            return
        for completion in added.values():
            self._scheduler.add(completion.sequence)

    def _heal(self, request: Submit) -> tuple[Submit, int | None, list[int]]:
        """Token healing: the request without its prompt's last token, that token, the next ones.

        The token stays where no allowed one begins with its text.
        """
        *before, last = request.prompt_token_ids
        special = {self._vocabulary.bos_token_id, *self._vocabulary.eos_token_ids}
        if not request.params.token_healing or last in special:
            return request, None, []
        text = self._vocabulary.table[last]
        first = allowed_of(self._vocabulary.beginning_with(text), request.params) if text else []
        if not first:
            return request, None, []
        before = before or [self._vocabulary.bos_token_id]
        return replace(request, prompt_token_ids=tuple(before)), last, first

    def _take_compiled(self) -> list[EngineEvent]:
        """Queue the completions whose grammar has been compiled, or end them."""
        if self._scheduler.is_idle:
            wait(self._compiling, _COMPILING_SECONDS, FIRST_COMPLETED)
        events: list[EngineEvent] = []
        for compiled in [one for one in self._compiling if one.done()]:
            completions = self._compiling.pop(compiled)
            error = compiled.exception()
            for index, completion in completions.items():
                running = self._requests.get(completion.sequence.request_id)
                if running is None or running.completions.get(index) is not completion:
                    continue  # it was cancelled meanwhile
                if error is None:
                    completion.sampler.guide = compiled.result()[index]
                    self._scheduler.add(completion.sequence)
                else:
                    why = message("end.too_complex", why=str(error) or type(error).__name__)
                    events.append(self._end(completion, "unmet", why))
        return events

    def cancel(self, request_id: int) -> list[Finished]:
        """End a request; returns its completions' last events, none if it has already ended."""
        running = self._requests.get(request_id)
        if running is None:
            return []
        stopped = message("end.cancelled")
        return [self._end(c, "cancelled", stopped) for c in list(running.completions.values())]

    def step(self) -> list[EngineEvent]:
        """Run one step of the model for all running requests; returns the events."""
        events = self._take_compiled() if self._compiling else []
        step = self._scheduler.schedule()
        now = self._clock()
        for sequence in step.admitted:
            running = self._requests[sequence.request_id]
            if running.started is None:
                running.started = now - running.elapsed_before
                dropped, healed = running.request.dropped_tokens, running.healed_token_id
                events.append(Started(sequence.request_id, sequence.prompt_length, dropped, healed))
        result = self._runner.run(step)
        now = self._clock()
        broken = set()
        for sequence, scores in result.scored:
            completion = self._requests[sequence.request_id].completions[sequence.index]
            scored = score_prompt(
                sequence.request_id,
                sequence.prompt_token_ids,
                [*completion.known_scores, *scores],
                self._vocabulary.table,
            )
            if not math.isfinite(scored.sum_logprob):
                self._remove(completion)
                events.append(completion.break_down())
                broken.add(sequence.key)
                continue
            events.append(scored)
            params = self._requests[sequence.request_id].request.params
            self._scored_texts.note(scored, params.logprobs or 0)
            if params.max_new_tokens == 0:
                read = message("end.read", count=sequence.prompt_length)
                events.append(self._end(completion, "length", read))
        for sequence, children in result.expanded:
            completion = self._requests[sequence.request_id].completions[sequence.index]
            events += completion.expand(children)
            self._remove(completion)
        tokens = [one for one in result.tokens if one[0].key not in broken]
        while tokens:
            going_on = []
            for sequence, sampled in tokens:
                running = self._requests[sequence.request_id]
                assert running.started is not None
                completion = running.completions[sequence.index]
                events += completion.add(sampled, now - running.started)
                if isinstance(events[-1], Finished):
                    self._remove(completion)
                else:
                    going_on.append(sequence)
            tokens = self._runner.verify(going_on)
        return events

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
