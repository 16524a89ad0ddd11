"""Who runs next: order of arrival, budgets, slots. With a model that only counts."""

from hypothesis import given
from hypothesis import strategies as st

from gptj_demo.engine.scheduler import Scheduler, Sequence


def sequence(request_id: int, prompt_length: int = 3) -> Sequence:
    return Sequence(request_id, tuple(range(prompt_length)))


def run(scheduler: Scheduler) -> list[int]:
    """A step of a model that gives every ready sequence the token 0; the ids that got one."""
    step = scheduler.schedule()
    ready = step.decode + [chunk.sequence for chunk in step.prefill if chunk.completes_prompt]
    ready += [fork.sequence for fork in step.forks]
    for item in ready:
        item.generated_token_ids.append(0)
    scheduler.check_integrity()
    return [item.request_id for item in ready]


def test_a_sequence_is_prefilled_then_decodes_one_token_a_step() -> None:
    scheduler = Scheduler(max_streams=2, prefill_budget=8)
    scheduler.add(sequence(1, prompt_length=5))
    first = scheduler.schedule()
    assert [(c.start, c.end, c.completes_prompt) for c in first.prefill] == [(0, 5, True)]
    assert first.decode == []
    second = scheduler.schedule()
    assert second.prefill == []
    assert [s.request_id for s in second.decode] == [1]


def test_a_new_sequence_joins_while_others_decode() -> None:
    scheduler = Scheduler(max_streams=4, prefill_budget=8)
    scheduler.add(sequence(1))
    assert run(scheduler) == [1]
    scheduler.add(sequence(2))
    assert run(scheduler) == [1, 2]


def test_a_long_prompt_is_read_in_chunks_between_the_decode_steps_of_others() -> None:
    scheduler = Scheduler(max_streams=2, prefill_budget=4)
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
    scheduler = Scheduler(max_streams=4, prefill_budget=8)
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
def test_a_prompt_is_cut_at_the_same_places_in_any_company(
    length: int, budget: int, company: list[int]
) -> None:
    scheduler = Scheduler(max_streams=6, prefill_budget=budget)
    for request_id, other in enumerate(company):
        scheduler.add(sequence(request_id, other))
    scheduler.add(sequence(99, length))
    starts = []
    for _ in range(sum(company) + length):
        step = scheduler.schedule()
        starts += [c.start for c in step.prefill if c.sequence.request_id == 99]
        for item in step.decode:
            scheduler.remove(item.key)
    assert starts == list(range(0, length, budget))


def siblings(request_id: int, count: int, prompt_length: int = 3) -> list[Sequence]:
    prompt = tuple(range(prompt_length))
    return [Sequence(request_id, prompt, index, count) for index in range(count)]


def test_siblings_take_over_the_prompt_that_one_of_them_has_read() -> None:
    scheduler = Scheduler(max_streams=4, prefill_budget=2)
    for item in siblings(1, 3):
        scheduler.add(item)
    first = scheduler.schedule()
    assert [(c.sequence.index, c.start, c.end) for c in first.prefill] == [(0, 0, 2)]
    assert first.forks == []
    second = scheduler.schedule()
    assert [(c.sequence.index, c.start, c.end) for c in second.prefill] == [(0, 2, 3)]
    assert [(f.sequence.index, f.source.index) for f in second.forks] == [(1, 0), (2, 0)]
    assert [s.index for s in scheduler.schedule().decode] == [0, 1, 2]


def test_a_sibling_that_comes_late_takes_the_prompt_from_one_that_still_writes() -> None:
    scheduler = Scheduler(max_streams=2, prefill_budget=9)
    for item in siblings(1, 3):
        scheduler.add(item)
    run(scheduler)
    scheduler.remove((1, 0))
    step = scheduler.schedule()
    assert [(f.sequence.index, f.source.index) for f in step.forks] == [(2, 1)]
    assert step.prefill == []


def test_a_sibling_that_is_left_alone_reads_the_prompt_itself() -> None:
    scheduler = Scheduler(max_streams=1, prefill_budget=9)
    for item in siblings(1, 2):
        scheduler.add(item)
    run(scheduler)
    scheduler.remove((1, 0))
    assert [c.sequence.index for c in scheduler.schedule().prefill] == [1]


def test_waiting_sequences_are_admitted_in_the_order_of_their_arrival() -> None:
    scheduler = Scheduler(max_streams=1, prefill_budget=8)
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
    scheduler = Scheduler(max_streams=1, prefill_budget=8)
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
    scheduler = Scheduler(max_streams=3, prefill_budget=99)
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
    max_streams=st.integers(1, 4),
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
def test_whatever_comes_slots_add_up_and_every_sequence_gets_its_tokens(
    max_streams: int, budget: int, events: list[tuple[str, int]]
) -> None:
    scheduler = Scheduler(max_streams, budget)
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
                if chunk.completes_prompt:
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
