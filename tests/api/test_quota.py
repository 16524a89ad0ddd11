"""Tokens a minute, counted by a store that can fail."""

from __future__ import annotations

from typing import Any

import pytest
from limits.errors import StorageError
from limits.storage import MemoryStorage

from gptj_demo.api.access import Access
from gptj_demo.api.quota import PAUSE_SECONDS, Quota
from gptj_demo.settings import InvalidSettings, Settings


class Store(MemoryStorage):
    """A store that several servers share; `is_gone` makes it unreachable."""

    is_gone = False
    asked = 0

    def get(self, key: str) -> int:
        self._check()
        return super().get(key)

    def incr(self, *given: Any, **named: Any) -> int:
        self._check()
        return super().incr(*given, **named)

    def _check(self) -> None:
        self.asked += 1
        if self.is_gone:
            raise StorageError(ConnectionError("no answer"))


def use(quota: Quota, tokens: int) -> None:
    """Reserve and use tokens, as a request of Anna's does."""
    quota.settle(quota.reserve("anna", tokens), tokens)


def test_two_servers_count_together() -> None:
    store = Store()
    one, two = Quota(100, store), Quota(100, store)
    use(one, 60)
    assert two.seconds_left("anna") == 0
    assert (one.tokens_left("anna"), two.tokens_left("anna")) == (40, 40)
    use(two, 60)
    assert 1 <= one.seconds_left("anna") <= 60
    assert one.seconds_left("bert") == 0


def test_a_request_holds_the_tokens_that_it_can_use_until_it_ends() -> None:
    quota = Quota(100, MemoryStorage())
    reserved = quota.reserve("anna", 60)
    assert quota.tokens_left("anna") == 40
    assert quota.seconds_left("anna", 40) == 0
    assert 1 <= quota.seconds_left("anna", 41) <= 60
    quota.settle(reserved, 10)
    assert quota.tokens_left("anna") == 90
    quota.settle(quota.reserve("anna", 0), 20)  # its tokens were not known before
    assert quota.tokens_left("anna") == 70
    assert quota.tokens_left("bert") == 100


def test_tokens_of_an_earlier_minute_are_not_given_back() -> None:
    quota = Quota(100, MemoryStorage())
    reserved = quota.reserve("anna", 60)
    quota.settle(reserved._replace(ends=reserved.ends - 60), 0)
    assert quota.tokens_left("anna") == 40


def test_tokens_are_given_back_only_where_they_were_counted() -> None:
    store = Store()
    quota = Quota(100, store)
    reserved = quota.reserve("anna", 60)
    store.is_gone = True
    quota.settle(reserved, 0)
    assert quota.tokens_left("anna") == 100  # counted here, where nothing was reserved
    store.is_gone = False
    assert Quota(100, store).tokens_left("anna") == 40


def test_without_the_store_each_server_counts_alone_and_asks_again_later() -> None:
    store, now = Store(), [0.0]
    quota = Quota(100, store, lambda: now[0])
    use(quota, 120)
    store.is_gone = True
    assert quota.seconds_left("anna") == 0
    use(quota, 120)
    assert quota.seconds_left("anna") > 0
    asked = store.asked
    now[0] = PAUSE_SECONDS - 1
    assert quota.seconds_left("bert") == 0
    assert store.asked == asked
    store.is_gone = False
    now[0] = PAUSE_SECONDS
    assert quota.seconds_left("anna") > 0  # the store still has the count
    assert store.asked > asked


@pytest.mark.parametrize("address", ["redis://[", "nothing://here", "words", "async+memory://"])
def test_a_store_that_cannot_be_used_is_refused(address: str) -> None:
    with pytest.raises(InvalidSettings, match=r"limits_storage cannot be used; it must be"):
        Access(Settings(limits_storage=address, tokens_per_minute=10))
