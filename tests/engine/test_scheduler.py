"""Which sequences run next: order, budgets, slots. With a model that only counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gptj_demo.engine.scheduler import Scheduler, Sequence
from tests.engine.scheduling import PAGES, of, run, sequence


def test_a_sequence_is_prefilled_then_decodes_one_token_a_step() -> None:
    scheduler = Scheduler(max_num_seqs=2, prefill_budget=8, pages=PAGES)
    scheduler.add(sequence(1, prompt_length=5))
    first = scheduler.schedule()
    assert [(c.start, c.end, c.is_last) for c in first.prefill] == [(0, 5, True)]
    assert first.decode == []
    second = scheduler.schedule()
    assert second.prefill == []
    assert [s.request_id for s in second.decode] == [1]


def test_a_new_sequence_joins_while_others_decode() -> None:
    scheduler = Scheduler(max_num_seqs=4, prefill_budget=8, pages=PAGES)
    scheduler.add(sequence(1))
    assert run(scheduler) == [1]
    scheduler.add(sequence(2))
    assert run(scheduler) == [1, 2]


def test_a_long_prompt_is_read_in_chunks_between_the_decode_steps_of_others() -> None:
    scheduler = Scheduler(max_num_seqs=2, prefill_budget=4, pages=PAGES)
    scheduler.add(sequence(1))
    run(scheduler)
    scheduler.add(sequence(2, prompt_length=10))
    chunks = []
    for _ in range(3):
        step = scheduler.schedule()
        assert [s.request_id for s in step.decode] == [1]
        chunks += [(chunk.start, chunk.end) for chunk in step.prefill]
    assert chunks == [(0, 4), (4, 8), (8, 10)]


def test_short_prompts_share_the_budget_of_a_step_and_are_never_cut_for_it() -> None:
    scheduler = Scheduler(max_num_seqs=4, prefill_budget=8, pages=PAGES)
    for request_id in (1, 2, 3):
        scheduler.add(sequence(request_id, prompt_length=3))
    step = scheduler.schedule()
    spans = [(c.sequence.request_id, c.start, c.end) for c in step.prefill]
    assert spans == [(1, 0, 3), (2, 0, 3)]  # the third would not fit whole
    assert [c.sequence.request_id for c in scheduler.schedule().prefill] == [3]


@given(
    length=st.integers(1, 40),
    budget=st.integers(1, 8),
    company=st.lists(st.integers(1, 40), max_size=5),
)
def test_a_prompt_is_split_at_the_same_positions_in_any_batch(
    length: int, budget: int, company: list[int]
) -> None:
    scheduler = Scheduler(max_num_seqs=6, prefill_budget=budget, pages=PAGES)
    for request_id, other in enumerate(company):
        scheduler.add(sequence(request_id, other))
    scheduler.add(of(99, (7,) * length))
    starts = []
    for _ in range(sum(company) + length):
        step = scheduler.schedule()
        starts += [c.start for c in step.prefill if c.sequence.request_id == 99]
        for item in step.decode:
            scheduler.remove(item.key)
    # a single token left over is decoded
    assert starts == [start for start in range(0, length, budget) if start < length - 1]


def test_waiting_sequences_are_admitted_in_the_order_of_their_arrival() -> None:
    scheduler = Scheduler(max_num_seqs=1, prefill_budget=8, pages=PAGES)
    for request_id in (3, 1, 2):
        scheduler.add(sequence(request_id))
    order = []
    while not scheduler.is_idle:
        step = scheduler.schedule()
        for admitted in step.admitted:
            order.append(admitted.request_id)
            scheduler.remove(admitted.key)
    assert order == [3, 1, 2]


def test_removing_frees_the_slot_and_forgets_the_sequence() -> None:
    scheduler = Scheduler(max_num_seqs=1, prefill_budget=8, pages=PAGES)
    scheduler.add(sequence(1))
    scheduler.add(sequence(2))
    scheduler.schedule()
    assert (scheduler.running, scheduler.waiting) == (1, 1)
    assert scheduler.remove((2, 0)) is not None  # waiting
    assert scheduler.remove((1, 0)) is not None  # running
    assert scheduler.remove((1, 0)) is None  # unknown: already gone
    assert scheduler.is_idle
    scheduler.check_integrity()


def test_rows_are_ordered_by_slot_and_the_lowest_free_slot_is_used_first() -> None:
    scheduler = Scheduler(max_num_seqs=3, prefill_budget=99, pages=PAGES)
    for request_id in (1, 2, 3):
        scheduler.add(sequence(request_id))
    run(scheduler)
    scheduler.remove((2, 0))
    scheduler.add(sequence(4))
    step = scheduler.schedule()
    assert step.admitted[0].slot == 1
    run(scheduler)
    assert run(scheduler) == [1, 4, 3]


@given(
    max_num_seqs=st.integers(1, 4),
    budget=st.integers(1, 6),
    events=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 9)),
            st.tuples(st.just("remove"), st.integers(0, 20)),
            st.tuples(st.just("step"), st.just(0)),
        ),
        max_size=60,
    ),
)
def test_random_events_keep_slots_consistent_and_every_sequence_finishes(
    max_num_seqs: int, budget: int, events: list[tuple[str, int]]
) -> None:
    scheduler = Scheduler(max_num_seqs, budget, PAGES)
    alive: dict[int, Sequence] = {}
    for number, (kind, value) in enumerate(events):
        if kind == "add":
            alive[number] = sequence(number, value)
            scheduler.add(alive[number])
        elif kind == "remove":
            known = alive.pop(value, None)
            assert scheduler.remove((value, 0)) is known
        else:
            step = scheduler.schedule()
            assert sum(chunk.end - chunk.start for chunk in step.prefill) <= budget
            for item in step.decode:
                item.generated_token_ids.append(0)
            for chunk in step.prefill:
                if chunk.is_last:
                    chunk.sequence.generated_token_ids.append(0)
        scheduler.check_integrity()
        assert scheduler.running + scheduler.waiting == len(alive)
    # nobody starves: each of the rest gets its tenth token in a bounded number of steps
    prompt_steps = sum(item.prompt_length for item in alive.values())
    for _ in range(prompt_steps + 10 * len(alive) + 10):
        run(scheduler)
        for request_id, item in list(alive.items()):
            if len(item.generated_token_ids) >= 10:
                scheduler.remove(item.key)
                del alive[request_id]
    assert not alive
