"""Which other sites' pages may make a visitor's browser send requests that change something."""

from __future__ import annotations

from starlette.datastructures import Headers

from gptj_demo.settings import Settings

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
CHANGING_PATHS = ("/logout",)
"""Routes that change something although their method is GET."""


def listed(origins: str) -> list[str]:
    """The origins of a setting that separates them by commas, in lower case as browsers do."""
    return [origin.strip().rstrip("/").lower() for origin in origins.split(",") if origin.strip()]


def own_hosts(headers: Headers) -> list[str]:
    """The host of a request, and that of its trusted proxy if there is one (see `Forwarded`)."""
    forwarded = headers.get("x-forwarded-host", "").partition(",")[0].strip()
    return [headers.get("host", ""), *([forwarded] if forwarded else [])]


class Origins:
    """The rule for requests that change something; see `accepts`."""

    def __init__(self, settings: Settings) -> None:
        self._allowed = frozenset(listed(settings.cors_origins))

    def accepts(self, method: str, path: str, headers: Headers) -> bool:
        """Whether a request comes from this site, an allowed one, or no browser at all.

        Browsers send `Sec-Fetch-Site` over https and on localhost, and `Origin` with each POST. A
        page can set neither.
        """
        if method in SAFE_METHODS and path not in CHANGING_PATHS:
            return True
        origin = headers.get("origin")
        if "*" in self._allowed or origin in self._allowed:
            return True
        site = headers.get("sec-fetch-site")
        if site is not None:
            return site in ("same-origin", "none")
        if origin is None:
            return True
        return _authority(origin.partition("://")[2]) in map(_authority, own_hosts(headers))


def _authority(written: str) -> str:
    """Host and port; the default ports are left out, as browsers do and proxies may not."""
    return written.lower().removesuffix(":80").removesuffix(":443")
