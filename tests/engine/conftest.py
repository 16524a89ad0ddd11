"""What the engine's tests share."""

from __future__ import annotations

import pytest

from tests.engine import devices


@pytest.fixture
def triton_kernels() -> object:
    return devices.import_kernels("triton_kernels")


@pytest.fixture(params=devices.ALL_KERNELS)
def kernels(request: pytest.FixtureRequest) -> object:
    """Each implementation of the kernels of a captured decode step."""
    return devices.import_kernels(request.param)
