"""What sequences share of the KV cache, and who waits for its pages. With a mock model."""

from __future__ import annotations

from collections.abc import Sequence as Tokens

from hypothesis import given
from hypothesis import strategies as st

from gptj_demo.engine.scheduler import Scheduler, Sequence, Step
from gptj_demo.pages import PAGE_TOKENS
from tests.engine.scheduling import PAGES, finish, finish_reading, of, run, sequence

# ---- several completions of one prompt


def siblings(request_id: int, count: int, prompt_length: int = 20) -> list[Sequence]:
    prompt = tuple(range(prompt_length))
    return [Sequence(request_id, prompt, index) for index in range(count)]


def copies(step: Step) -> list[tuple[int, int, int]]:
    """The prefixes copied between slots: (source, slot, number of tokens)."""
    return [
        (one.source, one.slot, one.reused)
        for one in step.placements
        if one.source is not None and one.source != one.slot
    ]


def test_siblings_wait_for_the_first_one_to_prefill_and_copy_its_prompt() -> None:
    scheduler = Scheduler(max_num_seqs=4, prefill_budget=12, pages=PAGES)
    for item in siblings(1, 3):
        scheduler.add(item)
    assert run(scheduler) == []
    assert run(scheduler) == [1]
    step = scheduler.schedule()
    # all but the prompt's last token, which is decoded and gives the first token
    assert copies(step) == [(0, 1, 19), (0, 2, 19)]
    assert [s.index for s in step.decode] == [0, 1, 2]
    assert step.prefill == []


def test_a_late_sibling_reuses_the_prompt_in_the_slot_that_it_gets() -> None:
    scheduler = Scheduler(max_num_seqs=2, prefill_budget=32, pages=PAGES)
    for item in siblings(1, 3):
        scheduler.add(item)
    run(scheduler)
    run(scheduler)
    scheduler.remove((1, 0))
    scheduler.remove((1, 1))
    assert copies(scheduler.schedule()) == []  # the slot itself holds it


def test_siblings_of_a_prompt_too_short_to_reuse_do_not_wait_for_each_other() -> None:
    scheduler = Scheduler(max_num_seqs=4, prefill_budget=32, pages=PAGES)
    for item in siblings(1, 4, prompt_length=5):
        scheduler.add(item)
    assert [chunk.sequence.index for chunk in scheduler.schedule().prefill] == [0, 1, 2, 3]


def test_removing_a_sibling_that_waits_for_its_reader_frees_no_other_slot() -> None:
    scheduler = Scheduler(max_num_seqs=3, prefill_budget=16, pages=PAGES)
    reader, sibling = siblings(1, 2, prompt_length=40)
    for item in (reader, sequence(2, 3), sequence(3, 3)):
        scheduler.add(item)
    scheduler.schedule()
    scheduler.remove((2, 0))
    scheduler.add(sibling)
    scheduler.schedule()
    assert sibling.slot == -1
    scheduler.remove(sibling.key)
    scheduler.check_integrity()
    scheduler.add(sequence(4, 3))
    assert scheduler.schedule().admitted[0].slot == 1


def test_a_prompt_waits_while_another_request_reads_its_long_beginning() -> None:
    scheduler = Scheduler(max_num_seqs=4, prefill_budget=16, pages=PAGES)
    first, second = of(1, tuple(range(70))), of(2, (*range(60), 900, 901))
    unlike = of(3, tuple(range(500, 540)))
    for item in (first, second, unlike):
        scheduler.add(item)
    step = scheduler.schedule()
    assert [one.slot for one in step.placements] == [first.slot, unlike.slot]
    while second.slot < 0:
        run(scheduler)
    # at most a step's tokens of the common beginning are left to read
    assert second.reused in range(60 - 16, 61)


def test_a_prompt_does_not_wait_for_a_reader_that_is_gone_or_a_prefix_that_is_cached() -> None:
    scheduler = Scheduler(max_num_seqs=4, prefill_budget=16, pages=PAGES)
    first, second = of(1, tuple(range(70))), of(2, (*range(60), 900, 901))
    scheduler.add(first)
    scheduler.add(second)
    scheduler.schedule()
    scheduler.remove(first.key, keep=False)
    scheduler.schedule()
    assert (second.slot >= 0, second.reused) == (True, 0)
    finish(scheduler, of(3, tuple(range(200, 280))))
    scored, again = of(4, tuple(range(200, 280)), first_scored=1), of(5, tuple(range(200, 280)))
    scheduler.add(scored)  # reads all of it once more
    scheduler.add(again)
    scheduler.schedule()
    assert (again.slot >= 0, again.reused) == (True, 79)


# ---- prefixes


def test_a_continued_text_prefills_only_its_new_tokens() -> None:
    scheduler = Scheduler(max_num_seqs=3, prefill_budget=64, pages=PAGES)
    first = sequence(1, prompt_length=20)
    finish(scheduler, first, tokens=5)
    whole = (*first.prompt_token_ids, *first.generated_token_ids, 77, 78)
    second = of(2, whole)
    scheduler.add(second)
    step = scheduler.schedule()
    # of five tokens generated the last was never fed to the model
    assert (second.slot, second.reused) == (first.slot, 24)
    assert [(c.start, c.end) for c in step.prefill] == [(24, 27)]
    assert copies(step) == []


def test_the_same_prompt_again_decodes_at_once() -> None:
    scheduler = Scheduler(max_num_seqs=2, prefill_budget=64, pages=PAGES)
    finish(scheduler, sequence(1, prompt_length=20))
    again = sequence(2, prompt_length=20)
    scheduler.add(again)
    step = scheduler.schedule()
    assert (again.reused, step.prefill, step.decode) == (19, [], [again])


def test_a_beginning_is_copied_from_a_sequence_that_still_writes() -> None:
    scheduler = Scheduler(max_num_seqs=2, prefill_budget=64, pages=PAGES)
    first = sequence(1, prompt_length=20)
    scheduler.add(first)
    run(scheduler)
    run(scheduler)
    second = of(2, (*range(15), 500, 501))
    scheduler.add(second)
    step = scheduler.schedule()
    assert copies(step) == [(first.slot, second.slot, 15)]
    assert [(c.start, c.end) for c in step.prefill] == [(15, 17)]


def test_a_long_text_is_not_lost_to_one_that_shares_only_its_beginning() -> None:
    scheduler = Scheduler(max_num_seqs=2, prefill_budget=64, pages=PAGES)
    finish(scheduler, sequence(1, prompt_length=40))
    other = of(2, (*range(10), 900, 901))
    scheduler.add(other)
    assert copies(scheduler.schedule()) == [(0, 1, 10)]


def test_the_slot_that_was_freed_longest_ago_is_overwritten_first() -> None:
    scheduler = Scheduler(max_num_seqs=2, prefill_budget=64, pages=PAGES)
    for request_id in (1, 2):
        finish(scheduler, of(request_id, (request_id,) * 20))
    finish(scheduler, of(3, (3,) * 20))
    again = of(4, (2,) * 20)
    scheduler.add(again)
    scheduler.schedule()
    assert again.reused == 19


def test_a_sequence_removed_with_keep_false_is_not_reused() -> None:
    scheduler = Scheduler(max_num_seqs=1, prefill_budget=64, pages=PAGES)
    item = sequence(1, prompt_length=20)
    scheduler.add(item)
    scheduler.schedule()
    scheduler.remove(item.key, keep=False)
    again = sequence(2, prompt_length=20)
    scheduler.add(again)
    scheduler.schedule()
    assert again.reused == 0


def test_a_prompt_whose_own_probabilities_are_wanted_is_read_whole() -> None:
    scheduler = Scheduler(max_num_seqs=2, prefill_budget=64, pages=PAGES)
    finish(scheduler, sequence(1, prompt_length=20))
    scored = of(2, tuple(range(20)), first_scored=1)
    scheduler.add(scored)
    step = scheduler.schedule()
    assert [(c.start, c.end, c.is_last) for c in step.prefill] == [(0, 20, True)]


class Cache:
    """A mock KV cache that stores token ids only."""

    def __init__(self, slots: int, pages: int) -> None:
        self.pages: list[list[int | None]] = [[None] * PAGE_TOKENS for _ in range(pages + 1)]
        self.tables: list[tuple[int, ...]] = [()] * slots

    def tokens(self, slot: int) -> list[int | None]:
        return [token for page in self.tables[slot] for token in self.pages[page]]

    def write(self, slot: int, start: int, tokens: Tokens[int]) -> None:
        for position, token in enumerate(tokens, start):
            page = self.tables[slot][position // PAGE_TOKENS]
            self.pages[page][position % PAGE_TOKENS] = token

    def run(self, step: Step) -> None:
        for page in step.cleared:
            self.pages[page] = [None] * PAGE_TOKENS
        for placement in step.placements:
            if placement.copied is not None:
                source, target = placement.copied
                self.pages[target] = list(self.pages[source])
            self.tables[placement.slot] = placement.pages
        for item in step.decode:
            self.write(item.slot, item.length - 1, [item.newest_token_id])
        for chunk in step.prefill:
            tokens = chunk.sequence.prompt_token_ids[chunk.start : chunk.end]
            self.write(chunk.sequence.slot, chunk.start, tokens)


@given(
    max_num_seqs=st.integers(1, 4),
    budget=st.integers(1, 30),
    pages=st.integers(5, 30),  # five are the most that one sequence needs
    prompts=st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 30), st.integers(0, 30), st.integers(1, 3)),
        min_size=1,
        max_size=12,
    ),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5),
)
def test_each_slot_holds_the_tokens_before_the_next_one_after_any_reuse(
    max_num_seqs: int,
    budget: int,
    pages: int,
    prompts: list[tuple[int, int, int, int]],
    lengths: list[int],
) -> None:
    scheduler, cache = Scheduler(max_num_seqs, budget, pages), Cache(max_num_seqs, pages)
    wanted: dict[tuple[int, int], int] = {}
    waiting = list(enumerate(prompts))
    while waiting or not scheduler.is_idle:
        if waiting:
            request_id, (text, common, own, completions) = waiting.pop(0)
            prompt = (text,) * common + (request_id + 10,) * own
            for index in range(completions):
                length = lengths[(request_id + index) % len(lengths)]
                wanted[request_id, index] = length
                scheduler.add(Sequence(request_id, prompt, index, max_new_tokens=length))
        step = scheduler.schedule()
        cache.run(step)
        ready = step.decode + [c.sequence for c in step.prefill if c.is_last]
        for item in ready:
            before = (*item.prompt_token_ids, *item.generated_token_ids)
            assert cache.tokens(item.slot)[: len(before)] == list(before)
            item.generated_token_ids.append(item.length % 7)
            if len(item.generated_token_ids) == wanted[item.key]:
                scheduler.remove(item.key, keep=item.request_id % 4 > 0)
        scheduler.check_integrity()


# ---- memory


def long(request_id: int, pages: int) -> Sequence:
    """A sequence that shares no prefix with others and may grow to so many pages."""
    return Sequence(request_id, (100 + request_id,) * 20, max_new_tokens=16 * pages - 20)


def test_a_sequence_waits_until_pages_for_all_its_tokens_are_free() -> None:
    scheduler = Scheduler(max_num_seqs=4, prefill_budget=64, pages=10)
    for item in (long(1, 4), long(2, 4), long(3, 4)):
        scheduler.add(item)
    assert [one.request_id for one in scheduler.schedule().admitted] == [1, 2]
    assert scheduler.schedule().admitted == []
    scheduler.remove((1, 0))
    assert [one.request_id for one in scheduler.schedule().admitted] == [3]


def test_a_short_sequence_does_not_take_the_pages_that_an_earlier_one_waits_for() -> None:
    scheduler = Scheduler(max_num_seqs=4, prefill_budget=64, pages=10)
    for item in (long(1, 8), long(2, 6), long(3, 2)):
        scheduler.add(item)
    assert [one.request_id for one in scheduler.schedule().admitted] == [1]
    scheduler.remove((1, 0))
    assert [one.request_id for one in scheduler.schedule().admitted] == [2, 3]


def test_completions_hold_the_whole_pages_of_their_prompt_once() -> None:
    # 40 tokens: two whole pages are shared, and the third one is copied
    prompt = tuple(range(40))
    scheduler = Scheduler(max_num_seqs=4, prefill_budget=64, pages=3 + 3 * 2)
    for index in range(4):
        scheduler.add(Sequence(1, prompt, index, max_new_tokens=10))
    run(scheduler)
    placed = scheduler.schedule().placements
    assert [len(one.pages) for one in placed] == [4, 4]
    assert placed[0].pages[:2] == placed[1].pages[:2]
    assert len({page for one in placed for page in one.pages}) == 6
    assert all(one.copied is not None and one.copied[0] not in one.pages for one in placed)


def test_the_least_recently_used_prefixes_are_evicted_when_pages_are_missing() -> None:
    scheduler = Scheduler(max_num_seqs=4, prefill_budget=64, pages=8)
    for request_id in (1, 2):
        finish(scheduler, Sequence(request_id, (request_id,) * 32, max_new_tokens=16))
    used = Sequence(3, (1,) * 32, max_new_tokens=16)
    finish(scheduler, used)
    assert used.reused == 31
    finish(
        scheduler, Sequence(4, (4,) * 64, max_new_tokens=16)
    )  # five pages of which four are free
    both = [Sequence(5, (1,) * 32, max_new_tokens=1), Sequence(6, (2,) * 32, max_new_tokens=1)]
    for item in both:
        scheduler.add(item)
    scheduler.schedule()
    assert [item.reused for item in both] == [31, 0]


def test_pages_that_may_hold_nan_are_cleared_before_reuse() -> None:
    scheduler = Scheduler(max_num_seqs=2, prefill_budget=64, pages=4)
    broken = long(1, 4)  # of 20 tokens: two of its pages may have been written
    scheduler.add(broken)
    (placement,) = scheduler.schedule().placements
    scheduler.remove(broken.key, keep=False)
    scheduler.add(long(2, 4))
    step = scheduler.schedule()
    assert sorted(step.cleared) == sorted(placement.pages[:2])
    assert scheduler.schedule().cleared == []


def test_a_page_that_another_sequence_shares_is_not_cleared() -> None:
    scheduler = Scheduler(max_num_seqs=2, prefill_budget=64, pages=10)
    first, second = sequence(1, 40), sequence(2, 40)
    finish_reading(scheduler, first)
    scheduler.add(second)
    (placement,) = scheduler.schedule().placements
    scheduler.remove(first.key, keep=False)
    assert not set(scheduler.schedule().cleared) & set(placement.pages)
