"""Who may use the API, and how much of it: keys, and limits for each key or address."""

from __future__ import annotations

import hmac
import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.requests import Request

from gptj_demo.api.errors import ApiError
from gptj_demo.client import visitor
from gptj_demo.protocol import Visitor
from gptj_demo.settings import InvalidSettings, Settings

PUBLIC_REQUESTS_PER_CALLER = 8
PUBLIC_TOKENS_PER_MINUTE = 20_000


def read_keys(settings: Settings) -> tuple[str, ...]:
    """The keys of the settings and of their file; raises `InvalidSettings`."""
    written = settings.api_keys.get_secret_value().split(",") if settings.api_keys else []
    if settings.api_keys_file is not None:
        try:
            lines = settings.api_keys_file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidSettings(
                f"The file of API keys, {settings.api_keys_file}, cannot be read: "
                f"{getattr(error, 'strerror', None) or 'it is not UTF-8 text'}."
            ) from None
        written += [line for line in lines if not line.startswith("#")]
    keys = tuple(key.strip() for key in written if key.strip())
    if not keys and (settings.api_keys or settings.api_keys_file):
        raise InvalidSettings(
            "There is no key in the API keys given; leave the setting out, or write one."
        )
    return keys


def read_login(settings: Settings) -> list[tuple[str, str]] | None:
    """Names and passwords for the page, in Gradio's form; raises `InvalidSettings`."""
    if settings.login is None:
        return None
    pairs = []
    for written in settings.login.get_secret_value().split(","):
        name, colon, password = written.strip().partition(":")
        if not (name and colon and password):
            raise InvalidSettings("login must be name:password, several separated by commas.")
        pairs.append((name, password))
    return pairs


class Access:
    """The callers of the API. Their names contain no keys or secrets."""

    def __init__(self, settings: Settings) -> None:
        self._keys = [key.encode() for key in read_keys(settings)]
        self._needs_key = bool(self._keys) or settings.login is not None
        public = settings.limits == "public"
        self.requests_per_caller = settings.requests_per_caller or (
            PUBLIC_REQUESTS_PER_CALLER if public else None
        )
        tokens = settings.tokens_per_minute or (PUBLIC_TOKENS_PER_MINUTE if public else None)
        self._tokens = RateLimitItemPerMinute(tokens) if tokens else None
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._running: Counter[str] = Counter()

    @property
    def needs_key(self) -> bool:
        """Whether requests without a key are refused."""
        return self._needs_key

    def identify(self, request: Request) -> Visitor:
        """The caller; raises `ApiError` 401 if a key is missing or wrong."""
        if not self._needs_key:
            return visitor.by_address(request)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        key = given.strip().encode()
        # compare all keys, each in constant time
        known = [k for k in self._keys if hmac.compare_digest(k, key)]
        if scheme.lower() != "bearer" or not known:
            raise ApiError(
                401,
                "This playground's API needs a key: send it as Authorization: Bearer KEY. The one "
                "that came is not among its keys."
                if given
                else "This playground's API needs a key: send it as Authorization: Bearer KEY.",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return visitor.by_key(known[0], request)

    @contextmanager
    def admit(self, caller: Visitor) -> Iterator[None]:
        """Count a request while it runs; raises `ApiError` 429 if the caller is over a limit."""
        if self._tokens is not None and not self._limiter.test(self._tokens, caller.name):
            reset = self._limiter.get_window_stats(self._tokens, caller.name).reset_time
            seconds = max(1, math.ceil(reset - time.time()))
            raise ApiError(
                429,
                f"You have used the {self._tokens.amount:,} tokens that a caller has a minute. Try "
                f"again in {seconds} seconds.",
                code="rate_limit_exceeded",
                headers={"Retry-After": str(seconds)},
            )
        most = self.requests_per_caller
        if most is not None and self._running[caller.name] >= most:
            raise ApiError(
                429,
                f"You have {most} requests running, which is what a caller may have at a time. "
                "Wait for one to end.",
                code="rate_limit_exceeded",
                headers={"Retry-After": "1"},  # unknown; client libraries retry by themselves
            )
        self._running[caller.name] += 1
        try:
            yield
        finally:
            self._running[caller.name] -= 1
            if not self._running[caller.name]:
                del self._running[caller.name]

    def charge(self, caller: Visitor, tokens: int) -> None:
        """Count tokens that were read or written for the caller."""
        if self._tokens is not None and tokens:
            self._limiter.hit(self._tokens, caller.name, cost=tokens)
