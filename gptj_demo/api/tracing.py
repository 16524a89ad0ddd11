"""Times and counts of a request in its span of OpenTelemetry, never text.

FastAPI makes a span for each request where the package opentelemetry-sdk is installed and set up,
as its own program `opentelemetry-instrument` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any


def is_installed() -> bool:
    """Whether there can be spans."""
    return find_spec("opentelemetry") is not None and find_spec("opentelemetry.sdk") is not None


def add_to_span(fields: Mapping[str, Any]) -> None:
    """Add the fields of a line of the access log to the span of the present request."""
    from opentelemetry import trace

    attributes = {f"gptj.{name}": one for name, one in fields.items() if one is not None}
    trace.get_current_span().set_attributes(attributes)
