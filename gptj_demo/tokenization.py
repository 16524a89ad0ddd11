"""Text to token ids and back, and the bytes of each id."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from gptj_demo.control_values import InvalidControl
from gptj_demo.protocol import TokenizerReady
from gptj_demo.sampling import SamplingParams, control_named
from gptj_demo.texts import Message, message


class Token(NamedTuple):
    """A token of a text: `start` and `end` are its position in the text's UTF-8 bytes.

    If the token is a part of a character, `text` shows its bytes as `\\xe2\\x80`.
    """

    token_id: int
    text: str
    start: int
    end: int


class TokenizedControls(NamedTuple):
    """The controls that name texts, as sequences of token ids for the engine."""

    logit_bias: tuple[tuple[tuple[int, ...], float], ...]
    bad_words: tuple[tuple[int, ...], ...]
    dry_sequence_breakers: frozenset[int]


class Vocabulary:
    """A byte-level BPE tokenizer and the ids that can occur in texts.

    These are the ids below `size` without `unused_token_ids`; other rows pad the model's head.
    """

    def __init__(
        self,
        tokenizer_json: str,
        size: int,
        bos_token_id: int,
        eos_token_ids: Sequence[int],
        unused_token_ids: Sequence[int] = (),
    ) -> None:
        self.size = size
        self.bos_token_id = bos_token_id
        self.eos_token_ids = frozenset(eos_token_ids)
        self._unused = frozenset(unused_token_ids)
        description = _without_padding(tokenizer_json, self)
        whole = Tokenizer.from_str(json.dumps(description))
        self._beginning = _added_before(whole)
        description["post_processor"] = None  # a post-processor would add tokens and trim offsets
        self._prompts = Tokenizer.from_str(json.dumps(description))
        _drop_prefix_space(description["pre_tokenizer"])
        self._parts = Tokenizer.from_str(json.dumps(description))
        self._bytes = token_bytes(tokenizer_json)

    @classmethod
    def of(cls, received: TokenizerReady) -> Vocabulary:
        """The vocabulary of a loaded model."""
        return cls(
            received.tokenizer_json,
            received.vocabulary_size,
            received.bos_token_id,
            received.eos_token_ids,
            received.unused_token_ids,
        )

    def __contains__(self, token_id: int) -> bool:
        """Whether an id can occur in a text."""
        return 0 <= token_id < self.size and token_id not in self._unused

    def has_all(self, token_ids: Collection[int]) -> bool:
        """Whether each id can occur in a text; faster than one by one."""
        if not token_ids:
            return True
        is_within = min(token_ids) >= 0 and max(token_ids) < self.size
        return is_within and self._unused.isdisjoint(token_ids)

    def encode(self, text: str) -> list[int]:
        """Token ids of a part of a text, such as a word or a continuation, with nothing added.

        `<|endoftext|>` in the text becomes the end-of-text token.
        """
        ids: list[int] = self._parts.encode(text).ids
        return ids

    def encode_prompt(self, text: str) -> list[int]:
        """Token ids of a whole text.

        The tokenizer's beginning-of-text token comes first if it has one; no end token is added.
        """
        ids: list[int] = self._prompts.encode(text).ids
        begins = ids[: len(self._beginning)] == self._beginning
        return ids if begins else self._beginning + ids

    def text_of(self, token_id: int) -> str:
        """The text of a single token; see `Token`."""
        return self._bytes[token_id].decode(errors="backslashreplace")

    def bytes_of(self, token_id: int) -> bytes:
        """The bytes of a token: one or more characters, or a part of one."""
        return self._bytes[token_id]

    def tokens(self, token_ids: Sequence[int], text: str) -> list[Token]:
        """The tokens of a text with their positions, which are adjacent and cover the text.

        A token that the tokenizer added has an empty range.
        """
        ends = list(accumulate(len(self._bytes[token_id]) for token_id in token_ids))
        if b"".join(self._bytes[token_id] for token_id in token_ids) != text.encode():
            ends = self._find_ends(list(token_ids), text)
        starts = [0, *ends][:-1]
        return [
            Token(token_id, self.text_of(token_id), start, end)
            for token_id, start, end in zip(token_ids, starts, ends, strict=True)
        ]

    def _find_ends(self, token_ids: list[int], text: str) -> list[int]:
        """The end of each token in the text's bytes, from the tokenizer's character offsets.

        Tokens that begin in the same character share its bytes: the last ones get as many as they
        have, so a space that the tokenizer put in front gets none.
        """
        for tokenizer in (self._prompts, self._parts):
            encoding = tokenizer.encode(text)
            added = len(token_ids) - len(encoding.ids)
            if token_ids == self._beginning[:added] + encoding.ids:
                break
        else:
            raise ValueError("these are not the tokens of the text")
        if not encoding.ids:  # a normalizer may remove all of the text
            return [0] * added
        byte_at = [0, *accumulate(len(character.encode()) for character in text)]
        ends = [byte_at[start] for start, _ in encoding.offsets[1:]] + [len(text.encode())]
        ends = [0] * added + ends
        for place in range(len(ends) - 2, added - 1, -1):
            following = ends[place + 1] - len(self._bytes[token_ids[place + 1]])
            begins_together = (
                encoding.offsets[place - added][0] == (encoding.offsets[place - added + 1][0])
            )
            if begins_together:
                ends[place] = max(ends[place], following)
        return ends

    def tokenize_controls(self, params: SamplingParams) -> TokenizedControls:
        """Check and translate the controls that name tokens; raises `InvalidControl`."""
        self._check("stop_token_ids", params.stop_token_ids)
        self._check("allowed_token_ids", params.allowed_token_ids)
        self._check("logit_bias", [key for key, _ in params.logit_bias if isinstance(key, int)])
        bias = {
            (key,) if isinstance(key, int) else tuple(self.encode(key)): value
            for key, value in params.logit_bias
        }
        words: dict[tuple[int, ...], None] = {}
        for word in params.bad_words:
            words[tuple(self.encode(word))] = None
            words[tuple(self.encode(" " + word))] = None
        forbidden = {word[0] for word in words if len(word) == 1}
        ends = {*self.eos_token_ids, *params.stop_token_ids}
        left = (
            self.size
            - len(self._unused)
            - len(forbidden | (ends if params.min_new_tokens else set()))
        )
        if left <= 0:
            control = control_named("bad_words")
            raise InvalidControl(
                control.name,
                message("wrong.nothing_left", control=control.called, size=self.size),
            )
        breakers = (self.encode("a" + text)[-1] for text in params.dry_sequence_breakers)
        return TokenizedControls(
            tuple(bias.items()),
            tuple(words),
            frozenset(breakers if params.dry_multiplier else ()),
        )

    def _check(self, name: str, token_ids: Sequence[int]) -> None:
        wrong = next((token_id for token_id in token_ids if token_id not in self), None)
        if wrong is not None:
            values = {"token": str(wrong), "last": str(self.size - 1)}
            called = control_named(name).called
            raise InvalidControl(name, message("wrong.token_id", control=called, **values))


def prompt_hint(text: str) -> Message | None:
    """The warning for a prompt whose end makes the next token hard to predict, if any."""
    if text.endswith((" ", "\t")) and text.strip():
        return message("hint.space")
    return None


def _without_padding(tokenizer_json: str, vocabulary: Vocabulary) -> dict[str, Any]:
    """The tokenizer without the padding tokens, so that their names are ordinary text."""
    description: dict[str, Any] = json.loads(tokenizer_json)
    added = description.get("added_tokens", ())
    description["added_tokens"] = [token for token in added if token["id"] in vocabulary]
    return {"post_processor": None, "pre_tokenizer": None, **description}


def _added_before(tokenizer: Tokenizer) -> list[int]:
    """The ids that the tokenizer adds before each text."""
    mask = tokenizer.encode("a").special_tokens_mask
    ids: list[int] = tokenizer.encode("a").ids
    return ids[: mask.index(0)] if 0 in mask else []


def _drop_prefix_space(pre_tokenizer: dict[str, Any] | None) -> None:
    """Stop the pre-tokenizer and its parts from adding a space before a text."""
    if pre_tokenizer is not None:
        if "add_prefix_space" in pre_tokenizer:
            pre_tokenizer["add_prefix_space"] = False
        for part in pre_tokenizer.get("pretokenizers", ()):
            _drop_prefix_space(part)


def special_ids(tokenizer_json: str) -> list[int]:
    """The ids of added tokens that are names and not text, such as `<|endoftext|>`."""
    added = json.loads(tokenizer_json).get("added_tokens", ())
    return [token["id"] for token in added if token.get("special")]


def token_bytes(tokenizer_json: str) -> list[bytes]:
    """The bytes of each id of a byte-level BPE tokenizer, from the JSON of `tokenizers`.

    Byte-level BPE (GPT-2's) writes every byte as a printable character; this undoes it. The bytes
    of an added token such as `<|endoftext|>` are its name.
    """
    description = json.loads(tokenizer_json)
    vocabulary: dict[str, int] = description["model"]["vocab"]
    added = {token["id"]: token["content"] for token in description.get("added_tokens", ())}
    size = max(max(vocabulary.values(), default=-1), max(added, default=-1)) + 1
    byte_of = _byte_of_character()
    table = [b""] * size
    for token, token_id in vocabulary.items():
        if all(character in byte_of for character in token):
            table[token_id] = bytes(byte_of[character] for character in token)
        else:
            table[token_id] = token.encode()
    for token_id, content in added.items():
        table[token_id] = content.encode()
    return table


def _byte_of_character() -> dict[str, int]:
    """Printable Latin-1 bytes map to themselves, the others to characters from 256 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)}
    table = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in printable)
    return table | {chr(256 + place): byte for place, byte in enumerate(others)}
