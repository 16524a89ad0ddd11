"""Who may use the API, and how much of it: keys, and limits for each key or address."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.requests import Request

from gptj_demo.api.errors import ApiError
from gptj_demo.api.guesses import MAX_ADDRESSES, Guesses
from gptj_demo.api.keys import Keys, read_keys
from gptj_demo.api.quota import Quota, Reservation, make_storage
from gptj_demo.client import visitor
from gptj_demo.protocol import Visitor
from gptj_demo.settings import InvalidSettings, Settings

__all__ = ["Access", "read_keys", "read_login"]

PUBLIC_REQUESTS_PER_CALLER = 8
PUBLIC_TOKENS_PER_MINUTE = 20_000


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


class Admitted:
    """A request that runs."""

    def __init__(self, caller: Visitor, quota: Quota | None) -> None:
        """Raises `ApiError` 429 if the caller has no tokens left."""
        self.used_tokens = 0
        """Tokens that it has read and written."""
        self.caller = caller
        self._quota = quota
        self._reserved: Reservation | None = None
        self.reserve(0)

    def reserve(self, tokens: int) -> None:
        """Hold the tokens that the request can use at most. Call it once they are known.

        Raises `ApiError` 429 if the caller has fewer left now, and 400 if they are more than a
        caller gets a minute.
        """
        if self._quota is not None:
            _check_tokens(self._quota, self.caller, tokens)
            self._reserved = self._quota.reserve(self.caller.name, tokens)

    def settle(self) -> None:
        """Count the tokens that the request has used instead of those that it holds."""
        if self._quota is not None and self._reserved is not None:
            self._quota.settle(self._reserved, self.used_tokens)


class Access:
    """The callers of the API. Their names contain no keys or secrets."""

    def __init__(self, settings: Settings) -> None:
        self._keys = Keys(settings)
        self._has_login = settings.login is not None
        self._guesses = Guesses()
        self._served: OrderedDict[tuple[str, str], None] = OrderedDict()
        """Pairs of address and caller that had a valid key; others' guesses do not block them."""
        public = settings.limits == "public"
        self.requests_per_caller = settings.requests_per_caller or (
            PUBLIC_REQUESTS_PER_CALLER if public else None
        )
        tokens = settings.tokens_per_minute or (PUBLIC_TOKENS_PER_MINUTE if public else None)
        storage = make_storage(settings)
        self._tokens = Quota(tokens, storage) if tokens else None
        self._running: Counter[str] = Counter()

    @property
    def needs_key(self) -> bool:
        """Whether requests without a key are refused."""
        return self._has_login or self._keys.are_needed

    def identify(self, request: Request) -> Visitor:
        """The caller; raises `ApiError` 401 if a key is missing or wrong, 429 if the
        address has guessed too often."""
        if not self.needs_key:
            return visitor.by_address(request)
        return self._check(request, self._keys.find_caller)

    def identify_monitor(self, request: Request) -> None:
        """Raise `ApiError` as `identify` does, unless the caller may read the metrics."""
        if self.needs_key or self._keys.guard_metrics:
            self._check(request, lambda key: key if self._keys.opens_metrics(key) else None)

    def _check(self, request: Request, find: Callable[[bytes], bytes | None]) -> Visitor:
        """The caller whose key `find` returns."""
        address = visitor.address_of(request)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        key = find(given.strip().encode()) if scheme.lower() == "bearer" else None
        caller = None if key is None else visitor.by_key(key, request)
        wait = self._guesses.wait(address)
        if wait and given and (caller is None or (address, caller.name) not in self._served):
            raise ApiError(
                429,
                f"Too many wrong keys came from your address. Try again in {wait} seconds.",
                code="too_many_wrong_keys",
                headers={"Retry-After": str(wait)},
            )
        if caller is None:
            if given:
                self._guesses.count(address)
            raise ApiError(
                401,
                "This playground's API needs a key: send it as Authorization: Bearer KEY. The one "
                "that came is not among its keys."
                if given
                else "This playground's API needs a key: send it as Authorization: Bearer KEY.",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        self._served[address, caller.name] = None
        self._served.move_to_end((address, caller.name))
        if len(self._served) > MAX_ADDRESSES:
            self._served.popitem(last=False)
        return caller

    @property
    def tokens_per_minute(self) -> int | None:
        """The tokens that a caller has; None where they are not limited."""
        return None if self._tokens is None else self._tokens.amount

    @contextmanager
    def admit(self, caller: Visitor) -> Iterator[Admitted]:
        """Count a request while it runs; raises `ApiError` 429 if the caller is over a limit.

        Enter it before a text is tokenized, which can take a while.
        """
        admitted = Admitted(caller, self._tokens)
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
            yield admitted
        finally:
            admitted.settle()
            self._running[caller.name] -= 1
            if not self._running[caller.name]:
                del self._running[caller.name]


def _check_tokens(quota: Quota, caller: Visitor, most: int) -> None:
    """Raise `ApiError` unless the caller may use so many tokens now."""
    if most > quota.amount:
        raise ApiError(
            400,
            f"This request can use {most:,} tokens or more, and a caller has {quota.amount:,} a "
            "minute. Send fewer or shorter prompts, or lower max_tokens, n, best_of or max_nodes.",
            code="request_too_large",
        )
    seconds = quota.seconds_left(caller.name, max(1, most))
    if not seconds:
        return
    left = quota.tokens_left(caller.name)
    used = f"You have used the {quota.amount:,} tokens that a caller has a minute."
    if left:
        used = (
            f"This request can use {most:,} tokens, and {left:,} of the {quota.amount:,} that a "
            "caller has a minute are left; requests that run hold those that they can use."
        )
    raise ApiError(
        429,
        f"{used} Try again in {seconds} seconds.",
        code="rate_limit_exceeded",
        headers={"Retry-After": str(seconds)},
    )
