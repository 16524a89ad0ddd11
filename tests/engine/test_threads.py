"""Shared work: each part is done once, by any free thread, and errors reach the caller."""

from __future__ import annotations

import threading

import pytest

from gptj_demo.engine.model.cpu.threads import Threads


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(("total", "part"), [(1, 4), (8, 4), (9, 4), (100, 1), (0, 1)])
def test_every_part_is_done_once(threads: int, total: int, part: int) -> None:
    done: list[int] = []
    Threads(threads).run(lambda begin, end: done.extend(range(begin, end)), total, part)
    assert sorted(done) == list(range(total))


def test_two_threads_work_at_once() -> None:
    both = threading.Barrier(2, timeout=30)
    Threads(2).run(lambda begin, end: both.wait(), 2, 1)


def test_the_caller_does_everything_if_the_other_threads_are_busy() -> None:
    threads, free, busy = Threads(2), threading.Event(), threading.Event()

    def occupy() -> None:
        busy.set()
        free.wait(30)

    threads.pool.submit(occupy)
    busy.wait(30)
    workers: list[str] = []
    threads.run(lambda begin, end: workers.append(threading.current_thread().name), 4, 1)
    free.set()
    assert workers == [threading.current_thread().name] * 4


@pytest.mark.parametrize("failing", [0, 1])
def test_an_exception_of_any_part_reaches_the_caller(failing: int) -> None:
    both = threading.Barrier(2, timeout=30)

    def fail(begin: int, end: int) -> None:
        both.wait()
        if begin == failing:
            raise ValueError("no such part")

    with pytest.raises(ValueError, match="no such part"):
        Threads(2).run(fail, 2, 1)
