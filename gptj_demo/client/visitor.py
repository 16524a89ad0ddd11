"""Names the visitor that a request comes from, for the page and the API.

Scheduling and limits use the name. It contains no key.
"""

from __future__ import annotations

import hashlib
from typing import Any, Protocol


class Connection(Protocol):
    """A request of Starlette or Gradio; `client` has a `host`, or is None."""

    @property
    def client(self) -> Any: ...


def by_address(request: Connection) -> str:
    """The name of a program: its address, since a program can make up any session."""
    client = request.client
    return f"address {client.host if client else None}"


def by_session(request: Connection) -> str:
    """The name of a visitor of the page: the tab's session, or the address if there is none."""
    session = getattr(request, "session_hash", None)
    return f"page {session}" if session else by_address(request)


def by_key(key: bytes) -> str:
    """The name of a program with an API key: a part of the key's hash."""
    return f"key {hashlib.sha256(key).hexdigest()[:16]}"
