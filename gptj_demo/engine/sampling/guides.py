"""Finds the tokens after which a text can still match: one `Guide` for each completion.

Two threads do the work while the model computes: one compiles grammars, the other moves the guides
of a step past their new tokens. llguidance releases the interpreter lock in both. If another engine
continues a completion, its guide is made again from the tokens so far.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import NamedTuple

import numpy as np
from llguidance import LLExecutor, LLMatcher, LLTokenizer

from gptj_demo.guidance import DeepStackPool, TokenBytes, compile_grammar
from gptj_demo.protocol import FinishReason, Written
from gptj_demo.sampling import SamplingParams, control_named
from gptj_demo.texts import Message, message

_KEPT = 16  # compiled grammars
_WORD_BITS = 32


def is_guided(params: SamplingParams) -> bool:
    """Whether the continuation must match something."""
    return params.must_match != control_named("must_match").off and params.max_new_tokens > 0


class Ended(NamedTuple):
    """Why a text cannot go on."""

    reason: FinishReason
    message: Message


class Guide:
    """The tokens that can follow in one completion: `added` and `ended`, valid after `wait`."""

    def __init__(
        self,
        guides: Guides,
        matcher: LLMatcher,
        ends: Iterable[int],
        only: Sequence[int],
        rests: Mapping[int, Sequence[int]],
    ) -> None:
        """`ends` are the tokens that end the text. `only` are all allowed tokens, if not empty.

        `rests`, if not empty, has the allowed first tokens of a healed prompt, each with tokens for
        those of its bytes that must match.
        """
        self.guides = guides
        self.matcher = matcher
        self.added = np.zeros(guides.size, dtype=np.float32)
        """Added to the logits, fp32 [vocabulary]: -inf for tokens that cannot follow. A sum takes a
        tenth of the time of a masked fill."""
        self.ended: Ended | None = None
        """Set where no token can follow; `added` is 0 then."""
        self._ends = sorted(ends)
        self._only = _mask(only, guides.size) if only else None
        self._rests = rests
        self._pending: Future[None] | None = None

    def fork(self) -> Guide:
        """A copy that goes on without changing this one."""
        self.wait()
        fork = copy.copy(self)
        fork.matcher = self.matcher.deep_copy()
        return fork

    def wait(self) -> None:
        """Wait until the newest token has been taken into account."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def follow(self, work: Future[None]) -> None:
        """Note the work that `wait` waits for."""
        self._pending = work

    def consume(self, token_ids: Sequence[int]) -> None:
        """Take tokens into account, all at once; call `allow` after it."""
        if self._rests and token_ids:
            first, *others = token_ids
            token_ids = (*self._rests[first], *others)
            self._rests = {}
        if token_ids:
            self.matcher.consume_tokens(list(token_ids))

    @property
    def is_plain(self) -> bool:
        """Whether the next token is consumed as it is."""
        return not self._rests

    def allow(self, allowed: np.ndarray, matches: bool, added: np.ndarray) -> None:
        """Set which tokens can follow, and whether the text `matches` as it is.

        `allowed`, bool [vocabulary], is the matcher's mask. `added`, fp32 [vocabulary], is `_added`
        of it. The guide keeps and changes both arrays.
        """
        if self.matcher.is_error():
            said = self.matcher.get_error().splitlines() or [""]
            self.end("unmet", message("end.too_complex", why=said[0]))
            return
        allowed[self._ends] = False
        if self._rests:
            allowed = _mask(list(self._rests), self.guides.size)
            added = _added(allowed)
        usable = allowed if self._only is None else allowed & self._only
        if usable.any():
            added[self._ends] = 0 if matches else -np.inf
            self.added = added
        elif matches:
            self.end("stop", message("end.matched"))
        else:
            self.end("unmet", message("end.unmet", control=control_named("must_match").called))

    def end(self, reason: FinishReason, why: Message) -> None:
        """End the text here."""
        self.ended = Ended(reason, why)
        self.added = np.zeros(self.guides.size, dtype=np.float32)


class Guides:
    """The guides of all completions over one tokenizer."""

    def __init__(
        self, table: Sequence[bytes], size: int, eos_token_ids: Iterable[int], never: Iterable[int]
    ) -> None:
        """`table` has the bytes of each id below `size`; `never` are ids that have no text."""
        self.size = size
        self._eos_token_ids = frozenset(eos_token_ids)
        no_text = {*self._eos_token_ids, *never}
        self._table = [b"" if i in no_text else table[i] for i in range(size)]
        self._compiled: OrderedDict[tuple[str, str], LLMatcher] = OrderedDict()
        # their threads start with the first guide, because a process may fork before that
        self._compiling = DeepStackPool(1, thread_name_prefix="compile-grammars")
        self._advancing = ThreadPoolExecutor(1, thread_name_prefix="advance-guides")

    def start(
        self,
        params: SamplingParams,
        written: Mapping[int, Written],
        healed: bytes,
        first: Sequence[int],
    ) -> Future[dict[int, Guide]]:
        """The guides of a request's completions, by index, after the tokens `written` so far.

        The future raises `GrammarError` if there is no grammar. With token healing the first token
        is one of `first`, whose bytes begin with `healed`; the bytes after these must match.
        """
        return self._compiling.submit(self._start, params, written, healed, first)

    def advance(self, chosen: Sequence[tuple[Guide, int]]) -> None:
        """Move guides past the tokens that were chosen for them."""
        work = self._advancing.submit(self._advance, chosen)
        for guide, _ in chosen:
            guide.follow(work)

    # ---- in the compiling thread

    def _start(
        self,
        params: SamplingParams,
        written: Mapping[int, Written],
        healed: bytes,
        first: Sequence[int],
    ) -> dict[int, Guide]:
        whole = self._matcher(params)
        rests = self._rests(whole, healed, first)
        ends = {*params.stop_token_ids}
        if not params.ignore_eos:
            ends |= self._eos_token_ids
        guides = {}
        for index, so_far in written.items():
            guide = Guide(self, whole.deep_copy(), ends, params.allowed_token_ids, rests)
            guide.consume(so_far.token_ids)
            guides[index] = guide
        self._allow(list(guides.values()))
        return guides

    def _matcher(self, params: SamplingParams) -> LLMatcher:
        key = (params.must_match, params.must_match_text)
        matcher = self._compiled.pop(key, None)
        self._compiled[key] = matcher or compile_grammar(*key, self._tokenizer)
        if len(self._compiled) > _KEPT:
            self._compiled.popitem(last=False)
        return self._compiled[key]

    def _rests(
        self, matcher: LLMatcher, healed: bytes, first: Sequence[int]
    ) -> dict[int, Sequence[int]]:
        """Those of `first` whose bytes after `healed` can begin a match, with their tokens."""
        rests: dict[int, Sequence[int]] = {}
        for token_id in first:
            data = self._table[token_id]
            rest = [self._single.get(byte, -1) for byte in data[len(healed) :]]
            if data and -1 not in rest and matcher.validate_tokens(rest) == len(rest):
                rests[token_id] = rest
        return rests

    @cached_property
    def _single(self) -> dict[int, int]:
        """The tokens of single bytes."""
        return {data[0]: i for i, data in enumerate(self._table) if len(data) == 1}

    @cached_property
    def _tokenizer(self) -> LLTokenizer:
        return LLTokenizer(TokenBytes(self._table))  # type: ignore[arg-type]

    @cached_property
    def _executor(self) -> LLExecutor:
        return LLExecutor()

    # ---- in the advancing thread

    def _advance(self, chosen: Sequence[tuple[Guide, int]]) -> None:
        guides = [guide for guide, _ in chosen]
        try:
            plain = [(guide.matcher, token) for guide, token in chosen if guide.is_plain]
            if plain:
                self._executor.consume_token_par(plain)
            for guide, token in chosen:
                if not guide.is_plain:
                    guide.consume([token])
            self._allow(guides)
        except BaseException as error:  # a panic of llguidance is not an `Exception`
            for guide in guides:
                guide.end("unmet", message("end.too_complex", why=type(error).__name__))

    def _allow(self, guides: Sequence[Guide]) -> None:
        """Set the tokens that can follow in some completions."""
        words = self.size // _WORD_BITS + 1  # one more bit: whether the text matches
        masks = np.zeros((len(guides), words), dtype=np.uint32)
        places = [(guide.matcher, place) for place, guide in enumerate(guides)]
        self._executor.unsafe_compute_mask_ptr(
            places, masks.ctypes.data, masks.strides[0], len(guides)
        )
        bits = np.unpackbits(masks.view(np.uint8), axis=1, bitorder="little").view(bool)
        allowed, matches = bits[:, : self.size], bits[:, self.size].tolist()
        added = _added(allowed)  # for all at once, because a step waits for it
        for number, guide in enumerate(guides):
            guide.allow(allowed[number], matches[number], added[number])


def _added(allowed: np.ndarray) -> np.ndarray:
    """The numbers to add to the logits: fp32, -inf for tokens that are not allowed."""
    return np.where(allowed, np.float32(0), np.float32(-np.inf))


def _mask(token_ids: Sequence[int], size: int) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    mask[list(token_ids)] = True
    return mask
