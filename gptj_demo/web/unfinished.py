"""A common limit on the bodies that are being received: slow senders cannot fill the memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Message, Receive, Scope

from gptj_demo.api.errors import ApiError
from gptj_demo.client.visitor import network_of

TOTAL_BYTES = 64 * 2**20
SHARE_BYTES = TOTAL_BYTES // 4
"""Of one address."""
FREE_BYTES = 16 * 2**10
"""The start of each body is not counted, so that small ones pass while the limit is reached."""
SENTENCE = "The server is receiving too many large bodies. Send the request again in a moment."


class Unfinished:
    """Counts the bytes of unfinished bodies, in all and by address.

    One body of `largest` bytes always passes when no others are being received.
    """

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._total = max(TOTAL_BYTES, largest)
        self._share = max(SHARE_BYTES, largest)
        self._held: Counter[str] = Counter()

    @contextmanager
    def counted(self, scope: Scope, receive: Receive) -> Iterator[Receive]:
        """`receive` that counts until the body's end; past the limit it raises `ApiError` 503."""
        peer = scope.get("client")
        address = network_of(peer[0] if peer else "unknown")
        size = held = 0

        def hold(count: int) -> None:
            nonlocal held
            self._held[address] += count - held
            held = count
            if not self._held[address]:
                del self._held[address]

        async def count() -> Message:
            nonlocal size
            message = await receive()
            if not message.get("more_body"):  # the end of the body, or the caller left
                hold(0)
                return message
            size += len(message.get("body", b""))
            # whoever reads the body refuses a larger one with 413
            hold(max(0, min(size, self._largest) - FREE_BYTES))
            if held and (self._held[address] > self._share or self._held.total() > self._total):
                raise ApiError(503, SENTENCE, code="too_many_bodies")
            return message

        try:
            yield count
        finally:
            hold(0)
