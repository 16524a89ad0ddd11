"""Completions that enter the engine as others end, and how long a person waits beside them.

The two schedulers, without a model. Time is counted in steps of the engine. In a step each running
completion reads a chunk of its prompt or gets a token.
"""

from __future__ import annotations

from collections import Counter

import pytest

from gptj_demo.client.admission import Admission
from gptj_demo.client.shares import Capacity
from gptj_demo.engine.scheduler import Scheduler, Sequence
from gptj_demo.pages import Reservation
from gptj_demo.protocol import Visitor
from tests.client.test_admission import CONTEXT, admission, ask, run

SLOTS = 4
BATCH = Visitor("batch", "batch")
PERSON = Visitor("person", "person")
PERSONS_ID = 10_000
PROMPT = 12  # tokens, all different, so that nothing is reused
TOKENS = 32
BATCH_TOKENS = 256


class Engine:
    """The admission of the web process and the scheduler of the engine, with equal completions."""

    def __init__(self) -> None:
        self.admission = Admission(64)
        self.admission.capacity, self.admission.is_open = Capacity(SLOTS, SLOTS * CONTEXT), True
        self.scheduler = Scheduler(SLOTS, prefill_budget=16, pages=10_000)
        self.ended: Counter[int] = Counter()
        self._sent: Counter[int] = Counter()
        self._running: dict[tuple[int, int], Sequence] = {}

    def enter(self, request_id: int, visitor: Visitor, completions: int) -> None:
        self.admission.enter(request_id, visitor, completions)
        self.admission.mark_ready(request_id, Reservation(0, CONTEXT))
        self.submit()

    def submit(self) -> None:
        for request_id in self.admission.next_turns():
            start = request_id * 1000
            prompt = tuple(range(start, start + PROMPT))
            index = self._sent[request_id]
            sequence = Sequence(request_id, prompt, index, max_new_tokens=BATCH_TOKENS)
            self._sent[request_id] += 1
            self._running[sequence.key] = sequence
            self.scheduler.add(sequence)

    def step(self) -> None:
        step = self.scheduler.schedule()
        for sequence in step.admitted:
            self.admission.start(sequence.request_id)
        written = [*step.decode, *(chunk.sequence for chunk in step.prefill if chunk.is_last)]
        for sequence in written:
            sequence.generated_token_ids.append(len(sequence.generated_token_ids))
            most = TOKENS if sequence.request_id == PERSONS_ID else BATCH_TOKENS
            if len(sequence.generated_token_ids) == most:
                self.scheduler.remove(sequence.key)
                del self._running[sequence.key]
                self.ended[sequence.request_id] += 1
                self.admission.end_completion(sequence.request_id)
        self.submit()


def persons_steps(engine: Engine) -> int:
    """Steps from a person's request to its last token."""
    engine.enter(PERSONS_ID, PERSON, 1)
    steps = 0
    while not engine.ended[PERSONS_ID]:
        engine.step()
        steps += 1
    return steps


@pytest.mark.parametrize("n", [1, 4, 16])
@pytest.mark.parametrize("after", [0, 1, 255, 300, 600])
def test_a_person_waits_at_most_three_times_as_long_beside_many_prompts(n: int, after: int) -> None:
    alone = persons_steps(Engine())
    engine = Engine()
    for request_id in range(8):  # as many of the prompts as are in the queue at a time
        engine.enter(request_id, BATCH, n)
    for _ in range(after):
        engine.step()
    assert persons_steps(engine) <= 3 * alone


def test_completions_beyond_the_share_of_a_visitor_start_as_slots_become_free() -> None:
    one = admission(slots=4)
    assert ask(one, 1, "busy", completions=8) == [1] * 3
    one.start(1)
    assert one.usage.running == 3
    assert ask(one, 2, "person") == [2]
    assert ask(one, 3, "another person") == []
    assert not one.end_completion(1)
    assert one.next_turns() == [3]
    assert one.end_completion(2)
    assert one.next_turns() == [1]
    for _ in range(3):
        assert not one.end_completion(1)
    assert one.next_turns() == [1] * 3
    one.drop_unsent(1)
    assert [one.end_completion(1) for _ in range(3)] == [False, False, True]
    assert not one.mark_ready(1, Reservation(0, CONTEXT))


def test_a_request_waits_for_its_unsent_completions_after_its_sent_ones_ended() -> None:
    one = admission(slots=2)
    run(one, 1, "busy")
    assert ask(one, 2, "busy", completions=2) == [2]
    assert ask(one, 3, "person") == []
    assert not one.end_completion(2)
    assert one.next_turns() == [3]
    assert (one.is_submitted(2), one.usage.running) == (False, 1)
    assert one.suspend() == [1, 3]
    assert one.suspended() == [1, 2, 3]
    one.is_open = True
    assert one.next_turns() == [1, 3]
    assert one.end_completion(1)
    assert one.next_turns() == [2]
