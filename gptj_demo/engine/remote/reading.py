"""Reads tokens and probabilities out of the choices of a completions server.

Servers differ: token ids may be in a field beside the text, in the names of the tokens of
`logprobs`, or missing. If they are missing, the text is tokenized here, which gives the same text.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gptj_demo.engine.prompt_score import score_prompt
from gptj_demo.engine.remote.server import Json, Rejected
from gptj_demo.protocol import Alternative, PromptScored, TokenLogprobs
from gptj_demo.tokenization import Vocabulary

_OK = 200
_NAMED_BY_ID = re.compile(r"token_id:(\d+)")
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
_BYTES = "bytes:"  # OpenAI's notation of tokens that are not whole characters

Token = tuple[int, TokenLogprobs | None]


class Tokens:
    """The ids of a vocabulary by their names and texts; `table` holds the bytes of each id."""

    def __init__(self, vocabulary: Vocabulary, table: Sequence[bytes]) -> None:
        self.vocabulary = vocabulary
        self.table = table
        self._by_bytes: dict[bytes, int] = {}
        for token_id, data in enumerate(table):
            if token_id in vocabulary:
                self._by_bytes.setdefault(data, token_id)

    def checked(self, token_id: Any) -> int:
        """A token id that the server names; raises `Rejected` for one of another vocabulary."""
        if not isinstance(token_id, int) or not 0 <= token_id < len(self.table):
            raise Rejected("it returned a token that is not in the tokenizer here", _OK)
        return token_id

    def text_of(self, token_ids: Sequence[int]) -> str:
        """The text of tokens, for a server that takes no ids."""
        return b"".join(self.table[one] for one in token_ids).decode(errors="replace")

    def named(self, name: str) -> int | None:
        """The id of a token by its name in `logprobs`, None if the name gives no id."""
        if (by_id := _NAMED_BY_ID.fullmatch(name)) is not None:
            return self.checked(int(by_id[1]))
        data = name.encode(errors="replace")
        if name.startswith(_BYTES):
            escaped = data[len(_BYTES) :]
            data = _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), escaped)
        return self._by_bytes.get(data)


class _Scored(NamedTuple):
    """A token in `logprobs`; `top` has the most probable tokens at its position."""

    token_id: int | None
    name: str
    logprob: float | None
    top: tuple[tuple[int | None, float], ...]


class ChoiceReader:
    """Reads a completion's tokens as they arrive; `alternatives` is None without probabilities."""

    def __init__(self, tokens: Tokens, alternatives: int | None) -> None:
        self._tokens = tokens
        self._alternatives = alternatives
        self._unscored: deque[int] = deque()  # their probabilities come later

    def read(self, choice: Json) -> list[Token]:
        """The tokens of a new part; raises `Rejected` for one that cannot be read."""
        ids = choice.get("token_ids")
        if self._alternatives is None:
            if isinstance(ids, list):
                return [(self._tokens.checked(one), None) for one in ids]
            return self._tokenized(choice)
        found = scores(choice, self._tokens)
        if not isinstance(ids, list):
            return self._by_name(found) if found else self._tokenized(choice)
        self._unscored.extend(self._tokens.checked(one) for one in ids)
        scored = found[: len(self._unscored)]
        read: list[Token] = [(self._unscored.popleft(), self._logprobs(one)) for one in scored]
        if choice.get("finish_reason"):  # a stop string's tokens, without probabilities
            read += [(token_id, None) for token_id in self._unscored]
        return read

    def _tokenized(self, choice: Json) -> list[Token]:
        text = choice.get("text") or ""
        return [(one, None) for one in self._tokens.vocabulary.encode(text)]

    def _by_name(self, found: Sequence[_Scored]) -> list[Token]:
        read: list[Token] = []
        for one in found:
            if one.token_id is not None:
                read.append((one.token_id, self._logprobs(one)))
            else:
                read += [(part, None) for part in self._tokens.vocabulary.encode(one.name)]
        return read

    def _logprobs(self, one: _Scored) -> TokenLogprobs | None:
        if one.logprob is None:
            return None
        most = self._alternatives or 0
        above = sum(logprob > one.logprob for _, logprob in one.top)
        others = sorted(one.top, key=lambda other: -other[1])[:most]
        return TokenLogprobs(
            one.logprob,
            None,  # servers do not return the one after the controls
            above + 1 if above < max(1, most) and one.top else 0,
            tuple(Alternative(i, logprob, None, None) for i, logprob in others if i is not None),
        )


def scores(choice: Json, tokens: Tokens) -> list[_Scored]:
    """The entries of `logprobs`, in OpenAI's older format or, as in llama.cpp, that of chats."""
    said = choice.get("logprobs")
    if not isinstance(said, dict):
        return []
    try:
        if "content" in said:
            return [_of_chat(one, tokens) for one in said["content"] or ()]
        names = said.get("tokens") or ()
        tops = said.get("top_logprobs") or [None] * len(names)
        return [
            _Scored(
                tokens.named(name),
                name,
                logprob,
                tuple((tokens.named(other), float(value)) for other, value in (top or {}).items()),
            )
            for name, logprob, top in zip(names, said["token_logprobs"], tops, strict=True)
        ]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise Rejected("its probabilities cannot be read", _OK) from None


def _of_chat(one: Mapping[str, Any], tokens: Tokens) -> _Scored:
    top = tuple((_id_of(other, tokens), float(other["logprob"])) for other in one["top_logprobs"])
    return _Scored(_id_of(one, tokens), str(one["token"]), float(one["logprob"]), top)


def _id_of(one: Mapping[str, Any], tokens: Tokens) -> int | None:
    return tokens.checked(one["id"]) if "id" in one else tokens.named(str(one["token"]))


def read_prompt(
    request_id: int,
    token_ids: tuple[int, ...],
    choice: Json,
    alternatives: int,
    first: int,
    tokens: Tokens,
) -> PromptScored:
    """A prompt's probabilities out of vLLM's `prompt_logprobs`, from token `first` on.

    `first` is at least 1, because nothing precedes token 0. Raises `Rejected`.
    """
    given = choice.get("prompt_logprobs")
    if not isinstance(given, list) or len(given) != len(token_ids):
        raise Rejected("it gives no probabilities of the prompt", _OK)
    try:
        scored = [
            _ranked(entry, token_id, alternatives)
            for token_id, entry in zip(token_ids[first:], given[first:], strict=True)
        ]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise Rejected("its probabilities of the prompt cannot be read", _OK) from None
    return score_prompt(request_id, token_ids, scored, tokens.table)


def _ranked(entry: Mapping[str, Any], token_id: int, alternatives: int) -> TokenLogprobs:
    own = entry[str(token_id)]
    others = sorted(
        (int(one["rank"]), int(other), float(one["logprob"]))
        for other, one in entry.items()
        if int(one["rank"]) <= alternatives
    )
    return TokenLogprobs(
        float(own["logprob"]),
        None,
        int(own["rank"]),
        tuple(Alternative(other, logprob, None, None) for _, other, logprob in others),
    )
