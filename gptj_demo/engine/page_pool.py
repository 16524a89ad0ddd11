"""Counts which slots hold the pages of the KV cache. Independent of torch and of tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence


class PagePool:
    """`pages` pages, numbered from 1. Several slots may hold a page; some of the slots run."""

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self._free = list(range(pages, 0, -1))  # the last one is taken first
        self._holders = [0] * (pages + 1)
        self._running = [0] * (pages + 1)  # holders that run
        self._in_use = 0  # pages that a running slot holds

    @property
    def free(self) -> int:
        """Pages that no slot holds."""
        return len(self._free)

    def can_run(self, shared: Sequence[int], count: int) -> bool:
        """Whether another slot can run with `count` pages, some `shared`, if no prefix is kept."""
        in_use = sum(self._running[page] > 0 for page in shared)
        return self._in_use + count - in_use <= self.pages

    def is_own(self, page: int) -> bool:
        """Whether one slot alone holds the page."""
        return self._holders[page] == 1

    def take(self, count: int) -> list[int]:
        """Take free pages for a running slot."""
        taken = [self._free.pop() for _ in range(count)]
        self.run(taken)
        return taken

    def run(self, pages: Iterable[int]) -> None:
        """Note that one more running slot holds these pages."""
        for page in pages:
            self._holders[page] += 1
            self._running[page] += 1
            self._in_use += self._running[page] == 1

    def stop(self, pages: Iterable[int]) -> None:
        """Note that a slot that holds these pages no longer runs."""
        for page in pages:
            self._running[page] -= 1
            self._in_use -= self._running[page] == 0

    def drop(self, pages: Iterable[int]) -> list[int]:
        """Note that a stopped slot no longer holds these pages; returns those that are free now."""
        freed = []
        for page in pages:
            self._holders[page] -= 1
            if not self._holders[page]:
                freed.append(page)
        self._free += reversed(freed)
        return freed

    def check_integrity(self, held: Iterable[list[int]], running: Iterable[list[int]]) -> None:
        """Raise `RuntimeError` if the counts are not those of the slots' pages; for tests."""
        holders = Counter(page for pages in held for page in pages)
        runs = Counter(page for pages in running for page in pages)
        counted = Counter({page: n for page, n in enumerate(self._holders) if n})
        counted_runs = Counter({page: n for page, n in enumerate(self._running) if n})
        free = set(range(1, self.pages + 1)) - set(holders)
        if holders != counted or runs != counted_runs or self._in_use != len(runs):
            raise RuntimeError(f"pages held: {holders}, counted: {counted}; running: {runs}")
        if sorted(self._free) != sorted(free):
            raise RuntimeError(f"free pages: {sorted(self._free)}, not held: {sorted(free)}")
