"""Names the visitor that a request comes from, for the page and the API.

Scheduling and limits use the name and the address. The name contains no key.
"""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Any, Protocol

from gptj_demo.protocol import Visitor

IPV6_PREFIX = 64  # one connection usually gets a whole network of this size


QUOTA_HEADER = "x-ip-token"
"""Hugging Face's proxy and page send the visitor's token in it."""


class Connection(Protocol):
    """A request of Starlette or Gradio; `client` has a `host`, or is None."""

    @property
    def client(self) -> Any: ...

    @property
    def headers(self) -> Any: ...


def address_of(request: Connection) -> str:
    """The caller's address or network; see `network_of`."""
    return network_of(str(request.client.host) if request.client else "unknown")


def unmapped(host: str) -> str:
    """The IPv4 address in an IPv6 one, which a socket for both kinds of addresses reports."""
    try:
        mapped = ipaddress.IPv6Address(host).ipv4_mapped
    except ValueError:
        return host
    return host if mapped is None else str(mapped)


def network_of(host: str) -> str:
    """An IPv4 address; for IPv6 its network, in which a caller can choose addresses."""
    host = unmapped(host)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address) or address.is_loopback:
        return host
    return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))


def by_address(request: Connection) -> Visitor:
    """A program: named by its address, since a program can make up any session."""
    address = address_of(request)
    return Visitor(f"address {address}", address, _quota_of(request))


def by_session(request: Connection) -> Visitor:
    """A visitor of the page: named by the tab's session, or by the address if there is none."""
    session = getattr(request, "session_hash", None)
    address = address_of(request)
    if not session:
        return by_address(request)
    return Visitor(f"page {session}", address, _quota_of(request))


def by_key(key: bytes, request: Connection) -> Visitor:
    """A program with an API key: named by a part of the key's hash."""
    name = f"key {hashlib.sha256(key).hexdigest()[:16]}"
    return Visitor(name, address_of(request), _quota_of(request))


def _quota_of(request: Connection) -> str | None:
    token = request.headers.get(QUOTA_HEADER)
    return None if token is None else str(token)
