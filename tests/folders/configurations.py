"""Damaged config.json, generation_config.json and index files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.folders.case import Case, Damage, Scene, change_json, linked, merged, replaced

SIZES = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner", "rotary_dim")
NOT_SIZES: tuple[Any, ...] = (
    -1,
    0,
    10**6,
    10**9,
    10**40,
    2.5,
    float("nan"),
    float("inf"),
    True,
    "32",
    [32],
    {"a": 1},
)
DEEP = b"[" * 100_000

FILES: dict[str, bytes] = {
    "empty": b"",
    "a list": b"[]",
    "null": b"null",
    "a number": b"7",
    "a text": b'"gptj"',
    "an empty object": b"{}",
    "nested deeply": DEEP,
    "nested deeply in a field": b'{"model_type": "gptj", "x": ' + b"[" * 900 + b"]" * 900 + b"}",
    "objects nested deeply": b'{"a":' * 100_000,
    "a number of many digits": b'{"model_type": "gptj", "n_embd": ' + b"9" * 10_000 + b"}",
    "not UTF-8": b'{"model_type": "\xff\xfe"}',
    "UTF-16": '{"model_type": "gptj"}'.encode("utf-16"),
    "larger than any": b'{"model_type": "gptj", "x": "' + b"x" * 33_000_000 + b'"}',
    "a surrogate": b'{"model_type": "\\ud800\\n\\u001b[31m"}',
}

FIELDS: dict[str, Any] = {
    "activation_function": ("none", "prelu", "xielu", 3, None, ["gelu_new"], "__class__", ""),
    "layer_norm_epsilon": (-1, float("nan"), float("inf"), "small", None, True, 10**400),
    "bos_token_id": ("a", 1.5, True, {"a": 1}),
    "eos_token_id": ("a", 1.5, True, {"a": 1}, ["a"], [None]),
    "tie_word_embeddings": ("yes", 1, None, []),
    "model_type": ("gpt2", None, 3, ["gptj"], "gptj ", "GPTJ"),
    "quantization_config": ({"load_in_4bit": True}, {"quant_method": "gptq"}, "int8", [1]),
    "tokenizer_class": ("BertTokenizer", 3, ["GPT2Tokenizer"], "../x"),
}

HARMLESS: dict[str, Any] = {
    "bos_token_id": (-1, 10**9, None),
    "eos_token_id": (-1, 10**9, [-1, 10**9], None, []),
    "activation_function": ("relu", "silu", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (0, 1e-12),
    "torch_dtype": ("float99", 3, "int8"),
    "dtype": ("complex64", ["float16"], "../x"),
    "auto_map": ({"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"},),
    "architectures": (3, ["../x"]),
    "id2label": ("x", {"0": 1}),
    "attn_implementation": ("flash_attention_9",),
    "_name_or_path": ("../../outside",),
    "transformers_version": (None,),
    "fusion_config": ({"x": True},),
    "quantization_config": ({"load_in_8bit": True}, {}, None),
    "resid_pdrop": ("high", 7),
    "use_cache": ("no",),
}

GENERATION_FIELDS: dict[str, Any] = {
    "eos_token_id": ("a", 1.5, {}, ["a"]),
    "suppress_tokens": ("a", 7.5, {"a": 1}, ["a"]),
}

INDEX_FILES: dict[str, Any] = {
    "a path above the folder": lambda scene: f"../{scene.outside.name}/%s",
    "an absolute path": lambda scene: f"{scene.outside}/%s",
    "a path through the folder": lambda scene: f"./../{scene.outside.name}/%s",
    "the folder itself": lambda scene: ".",
    "no name": lambda scene: "",
    "a missing file": lambda scene: "missing-%s",
    "another index": lambda scene: "%s.index.json",
    "a number": lambda scene: 7,
    "null": lambda scene: None,
    "a list": lambda scene: ["%s"],
    "config.json": lambda scene: "config.json",
    "a line break": lambda scene: "a\nb.%s",
    "a zero": lambda scene: "a\0b.%s",
    "a long name": lambda scene: "x" * 5000 + ".%s",
}


def configuration_cases() -> Iterator[Case]:
    """Cases of config.json and generation_config.json."""
    for name, content in FILES.items():
        yield Case("config", f"config.json: {name}", replaced("config.json", content))
    for size in SIZES:
        for value in NOT_SIZES:
            # a longer context needs no other weights, and may fit
            may_load = size == "n_positions" and value == 10**6
            yield _field("config.json", size, value, loads=None if may_load else False)
        if size not in ("n_inner", "rotary_dim"):
            yield _field("config.json", size, None)
    for field, values in FIELDS.items():
        for value in values:
            yield _field("config.json", field, value)
    for field, values in HARMLESS.items():
        for value in values:
            yield _field("config.json", field, value, loads=True)
    yield Case(
        "config",
        "config.json: no id that the model has",
        merged("config.json", {"bos_token_id": -1, "eos_token_id": [-1, 10**9]}),
        loads=True,  # the tokenizer has one
    )
    yield Case("config", "config.json: a link", linked("config.json"))
    for name in ("empty", "a list", "nested deeply", "not UTF-8", "larger than any"):
        damage = replaced("generation_config.json", FILES[name])
        yield Case("config", f"generation_config.json: {name}", damage)
    for field, values in GENERATION_FIELDS.items():
        for value in values:
            yield _field("generation_config.json", field, value)
    yield _field("generation_config.json", "suppress_tokens", list(range(320)))
    yield _field("generation_config.json", "temperature", "hot", loads=True)
    yield _field("generation_config.json", "eos_token_id", [-1, 10**9], loads=True)


def index_cases() -> Iterator[Case]:
    """Cases of the files that name the shards."""
    for layout, file in (
        ("safetensors-sharded", "model.safetensors"),
        ("bin-sharded", "pytorch_model.bin"),
    ):
        index = f"{file}.index.json"
        for name, path in INDEX_FILES.items():
            damage = _renamed(index, file, path)
            yield Case("index", f"{index}: {name}", damage, layout=layout)  # type: ignore[arg-type]
        for value in ({}, [], "x", None, 7):
            damage = merged(index, {"weight_map": value})
            yield Case("index", f"{index}: weight_map {value}", damage, layout=layout)  # type: ignore[arg-type]
        for name in ("empty", "a list", "nested deeply", "not UTF-8"):
            damage = replaced(index, FILES[name])
            yield Case("index", f"{index}: {name}", damage, layout=layout)  # type: ignore[arg-type]
        yield Case("index", f"{index}: a shard is a link", _link_shard(index), layout=layout)  # type: ignore[arg-type]


def _field(file: str, field: str, value: Any, *, loads: bool | None = False) -> Case:
    shown = json.dumps(value)
    shown = shown if len(shown) < 40 else shown[:37] + "..."
    return Case("config", f"{file}: {field} = {shown}", merged(file, {field: value}), loads=loads)


def _renamed(index: str, file: str, path: Any) -> Damage:
    """Have an index name another file for one of the tensors."""

    def damage(scene: Scene) -> None:
        name = path(scene)
        if isinstance(name, str) and "%s" in name:
            name = name % file
        if isinstance(name, list):
            name = [name[0] % file]

        def change(values: Any) -> Any:
            tensors = values["weight_map"]
            return {**values, "weight_map": {**tensors, scene.random.choice(list(tensors)): name}}

        change_json(scene.folder / index, change)

    return damage


def _link_shard(index: str) -> Damage:
    def damage(scene: Scene) -> None:
        files = json.loads((scene.folder / index).read_text())["weight_map"].values()
        name = scene.random.choice(sorted(set(files)))
        (scene.folder / name).rename(scene.outside / name)
        (scene.folder / name).symlink_to(scene.outside / name)

    return damage
