"""Checks of settings that list addresses, host names or origins, separated by commas.

A wrong one would not fail: a proxy would not be trusted, a site not be allowed. Each check raises
`ValueError`, whose message continues a sentence that begins with the name of the setting.
"""

from __future__ import annotations

import ipaddress
import re

_HOST = r"(\*\.)?[\w-]+(\.[\w-]+)*\.?"
_HOSTS = re.compile(_HOST, re.ASCII)
_ORIGINS = re.compile(r"[a-z][a-z0-9+.-]*://([\w.-]+|\[[0-9a-f:]+\])(:\d+)?", re.ASCII | re.I)
_FRAMES = re.compile(
    rf"([a-z][a-z0-9+.-]*://)?({_HOST}|\[[0-9a-f:]+\])(:(\d+|\*))?", re.ASCII | re.I
)


def check_networks(value: str) -> None:
    """Addresses and networks of proxies; `*` is all of them."""
    for name in _names(value):
        if name == "*":
            continue
        try:
            ipaddress.ip_network(name)
        except ValueError as error:
            hint = f" ({error})" if "host bits" in str(error) else ""
            raise ValueError(
                f"names {name!r}{hint}; each must be an IP address or a network such as 10.0.0.0/8"
            ) from None


def check_hosts(value: str) -> None:
    """Host names without scheme, port and path."""
    for name in _names(value):
        if name != "*" and not _HOSTS.fullmatch(name) and not is_address(name):
            raise ValueError(
                f"names {name!r}; each must be a host name such as play.example.org or "
                "*.example.org, without https://, port and path"
            )


def check_origins(value: str) -> None:
    """Origins as browsers send them."""
    for name in _names(value):
        if name != "*" and not _ORIGINS.fullmatch(name.rstrip("/")):
            raise ValueError(
                f"names {name!r}; each must be a site such as https://example.org, without a path"
            )


def check_frame_origins(value: str) -> None:
    """Origins in a content security policy, where names can begin with `*.`."""
    for name in _names(value):
        if name != "*" and not _FRAMES.fullmatch(name.rstrip("/")):
            raise ValueError(
                f"names {name!r}; each must be a site such as https://example.org or "
                "https://*.example.org, without a path"
            )


def _names(value: str) -> list[str]:
    return [name for written in value.split(",") if (name := written.strip())]


def is_address(name: str) -> bool:
    """Whether a name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
