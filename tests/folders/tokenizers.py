"""Damaged tokenizers, in one file and in several."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from tests.folders.case import Case, Damage, Scene, change_json, linked, merged, replaced, truncated
from tests.folders.configurations import FILES

TOKEN = {"id": 299, "content": "<|endoftext|>", "special": True}
FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
NEW = {**FLAGS, "id": 400, "content": "<new>", "special": False}

MODELS: dict[str, Any] = {
    "WordLevel": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
    "WordPiece": {
        "type": "WordPiece",
        "vocab": {"a": 0},
        "unk_token": "a",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
    },
    "Unigram": {"type": "Unigram", "unk_id": 0, "vocab": [["a", -1.0]]},
    "no model": None,
    "a list": [],
    "no type": {},
    "an unknown type": {"type": "Other"},
    "a type that is no text": {"type": 7},
    "an empty vocabulary": {"type": "BPE", "vocab": {}, "merges": []},
    "a list as vocabulary": {"type": "BPE", "vocab": ["a", "b"], "merges": []},
}

# changes of the object in the field `model`
MODEL_FIELDS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "a negative id": lambda model: _with_id(model, -1),
    "an id beyond the model": lambda model: _with_id(model, 5000),
    "an id of 32 bits": lambda model: _with_id(model, 2**32 - 1),
    "an id of 100 bits": lambda model: _with_id(model, 2**100),
    "an id that is no whole number": lambda model: _with_id(model, 1.5),
    "an id that is a text": lambda model: _with_id(model, "1"),
    "an id that is true": lambda model: _with_id(model, True),
    "merges of unknown tokens": lambda model: {**model, "merges": [["???", "!!!"]]},
    "merges of three parts": lambda model: {**model, "merges": ["a b c"]},
    "merges of numbers": lambda model: {**model, "merges": [[1, 2]]},
    "merges that are an object": lambda model: {**model, "merges": {}},
    "no merges": lambda model: {"type": "BPE", "vocab": model["vocab"]},
    "dropout of 7": lambda model: {**model, "dropout": 7},
    "dropout that is a text": lambda model: {**model, "dropout": "much"},
    "an unknown token that is a number": lambda model: {**model, "unk_token": 7},
}

FIELDS: dict[str, Any] = {
    "version": ("9.9", 7),
    "added_tokens": (
        7,
        [7],
        [{}],
        [{"id": 1}],
        [{**NEW, "id": -1}],
        [{**NEW, "id": 2**32}],
        [{**NEW, "id": 10**9}],
        [{**NEW, "content": 7}],
        [{**NEW, "special": "yes"}],
    ),
    "normalizer": (
        7,
        {"type": "Other"},
        {"type": "Precompiled", "precompiled_charsmap": "////"},
        {"type": "Precompiled", "precompiled_charsmap": "AAAAAAAAAAAAAAAAAAAAAA=="},
        {"type": "Replace", "pattern": {"Regex": "("}, "content": ""},
        {"type": "Sequence", "normalizers": 7},
    ),
    "pre_tokenizer": (
        7,
        {"type": "Other"},
        {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False},
        {"type": "Split", "pattern": {"Regex": "((a{1,1000}){1,1000}){1,1000}"}},
        {"type": "Sequence", "pretokenizers": [7]},
        {"type": "ByteLevel", "add_prefix_space": "no"},
    ),
    "post_processor": (
        7,
        {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x", "type_id": 0}}]},
        {"type": "BertProcessing", "sep": ["x", 9**9], "cls": ["y", 1]},
        {"type": "BertProcessing", "sep": ["x", 1], "cls": ["y", 9**9]},
        {"type": "RobertaProcessing", "sep": 7},
    ),
    "decoder": (7, {"type": "Other"}, {"type": "Replace", "pattern": {"Regex": "("}}),
}

HARMLESS: dict[str, Any] = {
    "truncation": ({"max_length": 1, "strategy": "LongestFirst", "stride": 0}, 7, "long"),
    "padding": (
        {"strategy": {"Fixed": 10**12}, "direction": "Right", "pad_id": 0, "pad_token": "x"},
        7,
    ),
    "unknown_field": ({"a": [1]},),
}

CONFIGURATION: dict[str, Any] = {
    "tokenizer_class": ("BertTokenizer", "T5TokenizerFast", 7, "__class__", "../code", ""),
    "bos_token": (7, {"content": 7}, {}, ["a"], True),
    "eos_token": ({"content": "<|endoftext|>", "special": 7},),
    "add_prefix_space": ("yes", 7),
    "add_bos_token": ([],),
    "additional_special_tokens": (7, [7], [{"content": None}], "abc"),
    "added_tokens_decoder": (
        7,
        [1],
        {"a": {"content": "x"}},
        {"1": "x"},
        {"1": {"content": "x", "lstrip": "y"}},
    ),
}

HARMLESS_CONFIGURATION: dict[str, Any] = {
    "auto_map": (["code.Tokenizer", None], {"AutoTokenizer": 7}),
    "gguf_file": ("../outside/model.gguf",),
    "vocab_file": ("../outside/vocab.json",),
    "tokenizer_file": ("../outside/tokenizer.json",),
    "tokenizer_object": ("x",),
    "fast_tokenizer_files": (["../outside/tokenizer.json"], 7),
    "name_or_path": ("../outside", 7),
    "init_inputs": ([1, 2, 3],),
    "backend": ("sentencepiece",),
    "model_max_length": ("long", -1),
    "chat_template": (7, "{{ 7 / 0 }}"),
    "model_specific_special_tokens": ("x",),
    "padding_side": ("above",),
    "added_tokens_decoder": ({"7000": {"content": "<new>"}},),
    "additional_special_tokens": (["<new>", {"content": "<other>"}],),
}


def tokenizer_cases() -> Iterator[Case]:
    """Cases of tokenizer.json, of the files beside it, and of vocab.json with merges.txt."""
    for name, content in FILES.items():
        yield Case("tokenizer", f"tokenizer.json: {name}", replaced("tokenizer.json", content))
    for name, model in MODELS.items():
        damage = merged("tokenizer.json", {"model": model})
        yield Case("tokenizer", f"tokenizer.json: model: {name}", damage)
    for name, change in MODEL_FIELDS.items():
        yield Case("tokenizer", f"tokenizer.json: {name}", _model(change), loads=None)
    yield from _fields("tokenizer.json", FIELDS, None)
    yield from _fields("tokenizer.json", HARMLESS, True)
    yield from _fields("tokenizer_config.json", CONFIGURATION, False)
    yield from _fields("tokenizer_config.json", HARMLESS_CONFIGURATION, True)
    yield from _fields("special_tokens_map.json", {"bos_token": (7, {"content": 7})}, False)
    yield from _fields("added_tokens.json", {"x": (-1, "a", 2**70, None)}, False)
    for file in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        for name in ("empty", "a list", "nested deeply", "larger than any"):
            yield Case("tokenizer", f"{file}: {name}", replaced(file, FILES[name]))
        yield Case("tokenizer", f"{file}: a link", linked(file))
    yield Case("tokenizer", "tokenizer.json: a link", linked("tokenizer.json"))
    yield from _separate_files()


def _separate_files() -> Iterator[Case]:
    def case(name: str, damage: Damage, loads: bool | None = False) -> Case:
        return Case("tokenizer", name, damage, tokenizer_layout="files", loads=loads)

    for name in ("empty", "a list", "nested deeply", "a number of many digits", "not UTF-8"):
        yield case(f"vocab.json: {name}", replaced("vocab.json", FILES[name]))
    for value in (-1, 5000, 2**40, "a", None, 1.5):
        yield case(f"vocab.json: an id {value}", merged("vocab.json", {"new": value}))
    yield case("vocab.json: cut", truncated("vocab.json"))
    yield case("vocab.json: a link", linked("vocab.json"))
    yield case("merges.txt: a link", linked("merges.txt"))
    for name, content in {
        "empty": b"",
        "unknown tokens": b"#version: 0.2\n??? !!!\n",
        "one part": b"#version: 0.2\nabc\n",
        "not UTF-8": b"#version: 0.2\n\xff \xfe\n",
        "zeros": b"\0" * 1000,
        "larger than any": b"a b\n" * 8_250_000,
    }.items():
        yield case(f"merges.txt: {name}", replaced("merges.txt", content), None)


def _fields(file: str, values: dict[str, Any], loads: bool | None) -> Iterator[Case]:
    for field, options in values.items():
        for value in options:
            shown = json.dumps(value)
            shown = shown if len(shown) < 50 else shown[:47] + "..."
            damage = merged(file, {field: value})
            yield Case("tokenizer", f"{file}: {field} = {shown}", damage, loads=loads)


def _model(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Damage:
    def damage(scene: Scene) -> None:
        change_json(
            scene.folder / "tokenizer.json",
            lambda values: {**values, "model": change(values["model"])},
        )

    return damage


def _with_id(model: dict[str, Any], token_id: Any) -> dict[str, Any]:
    return {**model, "vocab": {**model["vocab"], "new token": token_id}}
