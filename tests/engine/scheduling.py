"""Sequences for tests of the scheduler, and a mock model that runs its steps."""

from __future__ import annotations

from gptj_demo.engine.scheduler import Scheduler, Sequence

PAGES = 1000  # more than the sequences of a test need


def sequence(request_id: int, prompt_length: int = 3) -> Sequence:
    return of(request_id, tuple(range(prompt_length)))


def of(request_id: int, prompt: tuple[int, ...], index: int = 0, first_scored: int = 0) -> Sequence:
    return Sequence(request_id, prompt, index, first_scored, max_new_tokens=40)


def run(scheduler: Scheduler) -> list[int]:
    """Run a step that gives every ready sequence the token 0; return their request ids."""
    step = scheduler.schedule()
    ready = step.decode + [chunk.sequence for chunk in step.prefill if chunk.is_last]
    for item in ready:
        item.generated_token_ids.append(0)
    scheduler.check_integrity()
    return [item.request_id for item in ready]


def finish(scheduler: Scheduler, item: Sequence, tokens: int = 1) -> None:
    """Run a sequence alone to its end, with `tokens` tokens generated."""
    scheduler.add(item)
    while len(item.generated_token_ids) < tokens:
        run(scheduler)
    scheduler.remove(item.key)


def finish_reading(scheduler: Scheduler, item: Sequence) -> None:
    """Run a sequence until its first token is generated."""
    scheduler.add(item)
    while not item.generated_token_ids:
        run(scheduler)
