"""What the engine's tests share."""

from __future__ import annotations

import pytest

from tests.engine import devices


@pytest.fixture
def triton_kernels() -> object:
    return devices.import_kernels("triton_kernels")


@pytest.fixture(params=devices.ALL_KERNELS)
def kernels(request: pytest.FixtureRequest) -> object:
    """Each way to do what a captured decode step is made of."""
    return devices.import_kernels(request.param)
