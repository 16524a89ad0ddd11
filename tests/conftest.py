"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

# Tiny models gain nothing from a second thread, and threads that wait for each other lose much
# where the tests share their cores. Set before torch is imported; the engine processes inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# All tests run on the processor, also where there is a GPU; `make test-gpu` runs those of the CUDA
# path on it. Without a GPU, Triton's kernels run in its interpreter. Triton reads this when it is
# imported, as bitsandbytes does.
if "GPTJ_TEST_GPU" not in os.environ:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.setdefault("TRITON_INTERPRET", "1")

import pytest
from hypothesis import HealthCheck, settings

# Hypothesis fails an example that takes 200 ms, or data that is made slowly: both depend on load.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@dataclass
class Comparison:
    """The comparisons under one name so far: the largest value, their number, and the limit."""

    largest: float
    limit: float
    count: int


Record = Callable[..., None]
_COMPARISONS = pytest.StashKey[dict[str, Comparison]]()


@pytest.fixture(scope="session")
def record(request: pytest.FixtureRequest) -> Record:
    """`record(name, value, limit, count=1)` notes a comparison and fails where it is over.

    `value` is a difference or a statistic; `pytest -m comparison` prints the largest of each name
    at the end. `count` says how many comparisons it stands for. The limit of a name is always the
    same.
    """
    comparisons = request.config.stash.setdefault(_COMPARISONS, {})

    def note(name: str, value: float, limit: float, count: int = 1) -> None:
        known = comparisons.setdefault(name, Comparison(value, limit, 0))
        known.largest = max(known.largest, value)
        known.count += count
        assert value <= limit, f"{name}: {value} is over the limit, {limit}"

    return note


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """The comparisons as one table, where exactly these were asked for."""
    comparisons = config.stash.get(_COMPARISONS, {})
    if config.option.markexpr != "comparison" or not comparisons:
        return
    width = max(len(name) for name in comparisons)
    terminalreporter.section("comparisons")
    terminalreporter.line(f"{'':{width}}  {'compared':>10}  {'largest':>10}  {'limit':>10}")
    for name, comparison in comparisons.items():
        numbers = (f"{value:>10.4g}" for value in (comparison.largest, comparison.limit))
        terminalreporter.line(f"{name:{width}}  {comparison.count:>10,}  {'  '.join(numbers)}")
