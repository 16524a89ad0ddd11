"""Which prompts are read first: short ones soon, and long ones within a bound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gptj_demo.engine.scheduler import Scheduler, Sequence, Step

PAGES = 100_000  # more than the sequences of a test need


class TimedModel:
    """A scheduler with a mock model and a manual clock in milliseconds.

    A step takes 20 ms and 2 ms more for each prompt token, as a model on a CPU about does.
    """

    def __init__(self, prefill_budget: int, max_num_seqs: int = 8) -> None:
        self.scheduler = Scheduler(max_num_seqs, prefill_budget, PAGES)
        self.now = 0
        self.steps = 0
        self.first_token: dict[int, tuple[int, int]] = {}  # by request: (steps, milliseconds)

    def step(self) -> None:
        step = self.scheduler.schedule()
        self.steps += 1
        self.now += 20 + 2 * sum(chunk.end - chunk.start for chunk in step.prefill)
        ready = step.decode + [c.sequence for c in step.prefill if c.is_last]
        for item in ready:
            item.generated_token_ids.append(0)
            self.first_token.setdefault(item.request_id, (self.steps, self.now))

    def wait_for(self, request_id: int) -> tuple[int, int]:
        while request_id not in self.first_token:
            self.step()
        return self.first_token[request_id]


def distinct(request_id: int, prompt_length: int) -> Sequence:
    """A sequence that shares no prefix with those of other ids."""
    return Sequence(request_id, (1000 + request_id,) * prompt_length)


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    alone = TimedModel(prefill_budget=32)
    alone.scheduler.add(distinct(1, 2000))
    steps_alone, time_alone = alone.wait_for(1)
    assert steps_alone == 63

    model = TimedModel(prefill_budget=32)
    model.scheduler.add(distinct(1, 2000))
    model.step()
    model.scheduler.add(distinct(2, 5))
    arrived, at = model.steps, model.now
    steps, time = model.wait_for(2)
    assert steps - arrived <= 3
    assert time - at <= 3 * (20 + 2 * 32)
    steps, time = model.wait_for(1)
    assert steps <= 1.1 * steps_alone
    assert time <= 1.1 * time_alone


def test_the_second_of_two_long_prompts_does_not_slow_the_first() -> None:
    model = TimedModel(prefill_budget=32)
    model.scheduler.add(distinct(1, 640))
    model.scheduler.add(distinct(2, 640))
    assert model.wait_for(1)[0] == 20
    assert model.wait_for(2)[0] == 40


def test_a_stream_of_short_prompts_delays_a_long_one_by_half_at_most() -> None:
    model = TimedModel(prefill_budget=32, max_num_seqs=1000)
    model.scheduler.add(distinct(1, 2000))
    waits = []
    request_id = 1
    arrived: dict[int, int] = {}
    while 1 not in model.first_token:
        request_id += 1
        arrived[request_id] = model.steps
        model.scheduler.add(distinct(request_id, 8))
        model.step()
        known = [i for i in arrived if i in model.first_token]
        waits += [model.first_token[i][0] - arrived.pop(i) for i in known]
    assert model.steps <= 63 + 32
    assert max(waits) <= 3  # and none of the short ones waits for long


@given(
    budget=st.integers(1, 16),
    arrivals=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 60)), min_size=1, max_size=25),
)
def test_later_arrivals_delay_the_prefill_of_a_prompt_by_half_at_most(
    budget: int, arrivals: list[tuple[int, int]]
) -> None:
    scheduler = Scheduler(len(arrivals), budget, PAGES)
    waiting = [
        (sum(pause for pause, _ in arrivals[: number + 1]), distinct(number, length))
        for number, (_, length) in enumerate(arrivals)
    ]
    reading: list[Sequence] = []
    deadline: dict[int, int] = {}
    now = 0
    while waiting or reading:
        while waiting and waiting[0][0] <= now:
            item = waiting.pop(0)[1]
            scheduler.add(item)
            reading.append(item)
            chunks = sum(-(-s.prompt_length // budget) - s.prefilled // budget for s in reading)
            deadline[item.request_id] = now + chunks + -(-chunks // 2)
        now += 1
        step = scheduler.schedule()
        assert sum(chunk.end - chunk.start for chunk in step.prefill) <= budget
        for item in step.decode:
            scheduler.remove(item.key)
        done = {c.sequence.request_id for c in step.prefill if not c.sequence.in_prefill}
        done |= {item.request_id for item in step.decode}
        for item in [item for item in reading if item.request_id in done]:
            assert now <= deadline[item.request_id]
            reading.remove(item)


def chunks_of(step: Step) -> list[tuple[int, int, int]]:
    return [(chunk.sequence.request_id, chunk.start, chunk.end) for chunk in step.prefill]


def test_the_budget_left_by_a_short_prompt_goes_to_other_prompts_that_fit() -> None:
    scheduler = Scheduler(max_num_seqs=4, prefill_budget=8, pages=PAGES)
    scheduler.add(distinct(1, 30))
    scheduler.schedule()
    for request_id in (2, 3, 4):
        scheduler.add(distinct(request_id, 4))
    assert chunks_of(scheduler.schedule()) == [(2, 0, 4), (3, 0, 4)]
    assert chunks_of(scheduler.schedule()) == [(1, 8, 16)]
    assert chunks_of(scheduler.schedule()) == [(1, 16, 24)]
    # the rest of the long one is 6 tokens by now, and has its turn after the shortest
    assert chunks_of(scheduler.schedule()) == [(4, 0, 4)]
    assert chunks_of(scheduler.schedule()) == [(1, 24, 30)]
