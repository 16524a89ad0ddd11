"""The host names that the playground answers to, against DNS rebinding.

A page of another site can point its own DNS name at this machine and then send requests of its own
origin. Such a request has that name in its `Host` header. A stranger cannot do this with addresses,
names without a dot and names of local networks, so they are always accepted.
"""

from __future__ import annotations

import asyncio
import os
import socket
from functools import cache
from urllib.parse import urlsplit

from gptj_demo.setting_values import is_address
from gptj_demo.settings import InvalidSettings, Settings

LOCAL_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".home.arpa", ".test")
"""Domains that are not in the public DNS (RFC 6761, 6762, 8375; .lan of many routers)."""


class Hosts:
    """The rule for the `Host` header; see `accepts`."""

    def __init__(self, settings: Settings) -> None:
        given = [name.strip().lower() for name in settings.allowed_hosts.split(",")]
        allowed = [name for name in given if name]
        root = _root_host(os.environ.get("GRADIO_ROOT_PATH", ""))
        known = (settings.server_name, os.environ.get("SPACE_HOST"), root)
        self._names = {*allowed, *(name.lower() for name in known if name)}
        self._domains = tuple(name[1:] for name in allowed if name.startswith("*."))
        # a trusted proxy passes on the requests for its own names only
        self._accepts_any = "*" in allowed or (not allowed and settings.trusted_proxies is not None)

    async def accepts(self, host: str) -> bool:
        """Whether a request with this `Host` header is answered."""
        name = name_of(host)
        # a thread: the first unknown name makes the machine look up its own
        return self._is_known(name) or name in await asyncio.to_thread(_own_names)

    def _is_known(self, name: str) -> bool:
        return (
            self._accepts_any
            or not name
            or name in self._names
            or name.endswith(self._domains)
            or "." not in name
            or name.endswith(LOCAL_SUFFIXES)
            or is_address(name)
        )


def name_of(host: str) -> str:
    """The name or address in a `Host` header, without port and brackets, in lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return host.lower()


def _root_host(root: str) -> str | None:
    """The host in the path under which a proxy serves the playground; None if there is none."""
    try:
        parts = urlsplit(root)
    except ValueError:
        parts = urlsplit("invalid:")
    is_url = parts.scheme in ("http", "https") and bool(parts.netloc)
    if root and not root.startswith("/") and not is_url:
        raise InvalidSettings(
            f"GRADIO_ROOT_PATH is {root!r}; it must be a path such as /playground, or an address "
            "such as https://example.org/playground."
        )
    return parts.hostname


@cache
def _own_names() -> frozenset[str]:
    """The names of this machine."""
    return frozenset(name.lower() for name in (socket.gethostname(), socket.getfqdn()))
