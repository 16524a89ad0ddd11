"""The files of a checkpoint's tokenizer, checked and reduced to the fields that are used.

transformers reads them from a folder of their own, in which nothing names another path, another
class or code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gptj_demo.engine.load.configuration import is_whole
from gptj_demo.engine.load.errors import shown
from gptj_demo.engine.load.folder import file_names, read_object, read_whole, wrong_value

CLASSES = (
    "CodeGenTokenizer",
    "GPT2Tokenizer",
    "GPTNeoXTokenizer",
    "PreTrainedTokenizer",
    "TokenizersBackend",
)
"""Classes of byte-level BPE tokenizers, without the ending Fast."""

MOST_ID = 1_000_000
"""The largest id of an added token, even if the model lacks it; tables have a row for each id."""

_FLAGS = ("add_bos_token", "add_eos_token", "add_prefix_space", "split_special_tokens")
_LISTS = ("additional_special_tokens", "extra_special_tokens")
_NAMED = tuple(f"{part}_token" for part in ("bos", "eos", "unk", "pad", "sep", "cls", "mask"))
_TOKEN_FLAGS = ("lstrip", "normalized", "rstrip", "single_word", "special")
_PARTS = ("version", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model")

Fields = dict[str, Any]


class _Wrong(Exception):
    """A value that a tokenizer's file must not hold; the message is a part of a sentence."""


def write_checked_files(source: str, folder: Path, into: Path, vocab_size: int) -> None:
    """Write the files of the tokenizer in `folder` into the empty folder `into`.

    `vocab_size` is the number of the model's tokens. Raises `Refusal`.
    """
    names = file_names(folder)

    def check(name: str, keep: Callable[[Fields], Fields]) -> Fields:
        try:
            return keep(read_object(source, folder, name))
        except _Wrong as wrong:
            raise wrong_value(source, name, str(wrong)) from None

    def write(name: str, values: Fields) -> None:
        (into / name).write_text(json.dumps(values), encoding="utf-8")

    for name, keep in (
        ("config.json", _class_of_configuration),
        ("tokenizer_config.json", _tokenizer_configuration),
        ("special_tokens_map.json", _special_tokens),
        ("added_tokens.json", _added_ids),
    ):
        if name in names:
            write(name, check(name, keep))
    if "tokenizer.json" in names:
        write("tokenizer.json", check("tokenizer.json", lambda it: _tokenizer(it, vocab_size)))
        return
    write("vocab.json", check("vocab.json", lambda it: _vocabulary(it, vocab_size)))
    (into / "merges.txt").write_bytes(read_whole(source, folder, "merges.txt"))


def _class_of_configuration(values: Fields) -> Fields:
    return {"model_type": "gptj", **_class(values)}


def _tokenizer_configuration(values: Fields) -> Fields:
    kept = _class(values) | _named_tokens(values)
    for name in kept:
        if isinstance(kept[name], dict):
            kept[name] = {**kept[name], "__type": "AddedToken"}
    for name in _FLAGS:
        if values.get(name) is not None:
            if not isinstance(values[name], bool):
                raise _Wrong(f"{name} is {shown(values[name])}, and must be true or false")
            kept[name] = values[name]
    for name in _LISTS:
        if values.get(name):
            kept[name] = [
                token if isinstance(token, str) else {**token, "__type": "AddedToken"}
                for token in _tokens(name, values[name])
            ]
    added = values.get("added_tokens_decoder")
    if added is not None:
        if not isinstance(added, dict) or not all(key.isdecimal() for key in added):
            raise _Wrong("added_tokens_decoder must be an object of tokens by their ids")
        kept["added_tokens_decoder"] = {
            key: _token(f"added token {shown(key)}", token, must_be_object=True)
            for key, token in added.items()
        }
    return kept


def _special_tokens(values: Fields) -> Fields:
    kept = _named_tokens(values)
    for name in _LISTS:
        if values.get(name):
            kept[name] = [
                token if isinstance(token, str) else token["content"]
                for token in _tokens(name, values[name])
            ]
    return kept


def _class(values: Fields) -> Fields:
    name = values.get("tokenizer_class")
    if name is None:
        return {}
    if not isinstance(name, str) or name.removesuffix("Fast") not in CLASSES:
        raise _Wrong(f"tokenizer_class is {shown(name)}, and must be one of {', '.join(CLASSES)}")
    return {"tokenizer_class": name}


def _named_tokens(values: Fields) -> Fields:
    """The tokens that have a role, such as bos_token and eos_token."""
    return {
        name: None if values[name] is None else _token(name, values[name])
        for name in _NAMED
        if name in values
    }


def _tokens(name: str, value: object) -> list[str | Fields]:
    tokens = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(tokens, list):
        raise _Wrong(f"{name} is {shown(value)}, and must be a list of tokens")
    return [_token(f"a token of {name}", token) for token in tokens]


def _token(name: str, value: object, *, must_be_object: bool = False) -> str | Fields:
    """A token: its text, or an object with its text and flags."""
    if isinstance(value, str) and not must_be_object:
        return value
    if not isinstance(value, dict) or not isinstance(value.get("content"), str):
        raise _Wrong(f"{name} is {shown(value)}, and must be a text or an object with a content")
    flags = {flag: value[flag] for flag in _TOKEN_FLAGS if flag in value}
    for flag, is_set in flags.items():
        if not isinstance(is_set, bool):
            raise _Wrong(f"{flag} of {name} is {shown(is_set)}, and must be true or false")
    return {"content": value["content"], **flags}


def _tokenizer(values: Fields, vocab_size: int) -> Fields:
    model = values.get("model")
    if not isinstance(model, dict):
        raise _Wrong(f"its model is {shown(model)}, and must be an object")
    kind = model.get("type", "BPE")  # old files do not name it
    if kind != "BPE":
        raise _Wrong(f"its model is of type {shown(kind)}, and GPT-J's is of type BPE")
    if not isinstance(model.get("vocab"), dict):
        raise _Wrong(f"its vocab is {shown(model.get('vocab'))}, and must be an object")
    _vocabulary(model["vocab"], vocab_size)
    _check_merges(model.get("merges"))
    if "Precompiled" in _kinds(values.get("normalizer")):  # of SentencePiece; a wrong one panics
        raise _Wrong("its normalizer is of type Precompiled, and a byte-level tokenizer has none")
    added = values.get("added_tokens") or []
    if not isinstance(added, list):
        raise _Wrong(f"its added_tokens are {shown(added)}, and must be a list")
    for token in added:
        _token("an added token", token, must_be_object=True)
        _check_id(token["content"], token.get("id"))
    kept = {name: values[name] for name in _PARTS if name in values}
    # a stored length would truncate prompts silently
    return {**kept, "added_tokens": added, "truncation": None, "padding": None}


def _check_merges(merges: object) -> None:
    if not isinstance(merges, list):
        raise _Wrong(f"its merges are {shown(merges)}, and must be a list")
    for merge in merges:
        parts = merge.split(" ") if isinstance(merge, str) else merge
        is_pair = isinstance(parts, list) and len(parts) == 2
        if not is_pair or not all(isinstance(part, str) for part in parts):
            raise _Wrong(f"one of its merges is {shown(merge)}, and must be of two tokens")


def _kinds(part: object) -> set[object]:
    """The types of a normalizer and of those in it."""
    if not isinstance(part, dict):
        return set()
    inner = part.get("normalizers")
    others = (_kinds(one) for one in inner) if isinstance(inner, list) else ()
    kind = part.get("type")
    return set().union([kind] if isinstance(kind, str) else [], *others)


def _vocabulary(values: Fields, vocab_size: int) -> Fields:
    for token, token_id in values.items():
        if not is_whole(token_id) or not 0 <= token_id < vocab_size:
            raise _Wrong(
                f"token {shown(token)} has the id {shown(token_id)}, and the model has the tokens "
                f"0 to {vocab_size - 1:,}"
            )
    return values


def _added_ids(values: Mapping[str, Any]) -> Fields:
    for token, token_id in values.items():
        _check_id(token, token_id)
    return dict(values)


def _check_id(token: str, token_id: object) -> None:
    if not is_whole(token_id) or not 0 <= token_id <= MOST_ID:
        raise _Wrong(
            f"token {shown(token)} has the id {shown(token_id)}, and ids are from 0 to {MOST_ID:,}"
        )
