"""How many tokens of the KV cache a completion reserves; the cache is divided into pages.

The engine reserves the pages. The client computes the same, to know which completions fit.
"""

from __future__ import annotations

from typing import NamedTuple

PAGE_TOKENS = 16
"""Tokens of a page of the KV cache."""


def page_count(tokens: int) -> int:
    """The number of pages that hold `tokens` tokens."""
    return -(-tokens // PAGE_TOKENS)


def in_pages(tokens: int) -> int:
    """`tokens`, rounded up to whole pages."""
    return page_count(tokens) * PAGE_TOKENS


def reserved_tokens(prompt_tokens: int, max_new_tokens: int, context_length: int) -> int:
    """Tokens that one completion reserves: whole pages for its greatest possible length."""
    return in_pages(min(prompt_tokens + max_new_tokens, context_length))


class Reservation(NamedTuple):
    """Tokens that the completions of one request reserve: `shared` once, and `own` for each.

    They share the pages that the prompt without its last token fills; each completion reads that
    token itself.
    """

    shared: int
    own: int

    @classmethod
    def of(cls, prompt_tokens: int, max_new_tokens: int, context_length: int) -> Reservation:
        """The reservation of a request with a prompt of this length."""
        shared = (prompt_tokens - 1) // PAGE_TOKENS * PAGE_TOKENS
        return cls(shared, reserved_tokens(prompt_tokens, max_new_tokens, context_length) - shared)

    def tokens(self, completions: int) -> int:
        """Tokens that `completions` of them reserve together."""
        return self.shared + completions * self.own if completions else 0
