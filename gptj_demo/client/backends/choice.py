"""Chooses the backend; the one place that does."""

from gptj_demo.client.backends.base import Backend
from gptj_demo.client.backends.local import LocalBackend
from gptj_demo.client.backends.zerogpu import ZeroGpuBackend
from gptj_demo.hosting import is_on_zerogpu
from gptj_demo.settings import Settings


def make_backend(settings: Settings) -> Backend:
    """The backend for these settings."""
    return ZeroGpuBackend(settings) if is_on_zerogpu() else LocalBackend(settings)
