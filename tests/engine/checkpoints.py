"""Tiny random GPT-J checkpoints, on the disk in every layout the hub uses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPTJConfig, GPTJForCausalLM

Layout = Literal["safetensors", "safetensors-sharded", "bin", "bin-sharded", "bin-legacy"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

END_OF_TEXT = "<|endoftext|>"
TEXT_TOKENS = 300
"""Ids that stand in texts: 256 bytes, 43 merges and <|endoftext|>, which comes last as in GPT-J."""
EMBEDDING_ROWS = 320
"""Rows of the embedding; those past the text tokens are named <|extratoken_1|> and so on."""

TEXT = """Once upon a time there was a keeper who lived in a lighthouse at the end of the land.
Every night the keeper climbed the stairs and lit the lamp, and the ships that passed were glad.
One night the lamp would not burn. "What is the matter with you?" said the keeper to the lamp.
"""


def make_checkpoint(
    folder: Path,
    *,
    layout: Layout = "safetensors",
    dtype: torch.dtype = torch.float32,
    tokenizer_layout: Literal["json", "files"] = "json",
    seed: int = 0,
    **config: Any,
) -> Path:
    """Write a random GPT-J with its tokenizer into `folder` and return the folder.

    `config` overrides fields of `GPTJConfig`. "json" is one tokenizer.json, "files" are vocab.json,
    merges.txt and added_tokens.json. The .bin layouts hold the causal masks that old versions of
    transformers saved among the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    make_config(**config).save_pretrained(folder)
    model = make_model(seed=seed, **config)
    # copies, because safetensors files cannot hold a tied head
    tensors = {name: tensor.to(dtype, copy=True) for name, tensor in model.state_dict().items()}
    if layout.startswith("bin"):
        context = model.config.n_positions
        for layer in range(model.config.n_layer):
            mask = torch.ones(context, context, dtype=torch.bool).tril()[None, None]
            tensors[f"transformer.h.{layer}.attn.bias"] = mask
            tensors[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e9)
    write_weights(folder, tensors, layout)
    write_tokenizer(folder, model.config.vocab_size, tokenizer_layout)
    return folder


def make_config(**config: Any) -> GPTJConfig:
    """A GPT-J of two layers, with rotary positions on part of each head, and unused ids."""
    defaults = {
        "vocab_size": EMBEDDING_ROWS,
        "n_positions": 64,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "rotary_dim": 4,
        "initializer_range": 0.1,
        "bos_token_id": TEXT_TOKENS - 1,
        "eos_token_id": TEXT_TOKENS - 1,
        "architectures": ["GPTJForCausalLM"],
    }
    return GPTJConfig(**{**defaults, **config})


def make_model(*, seed: int = 0, **config: Any) -> GPTJForCausalLM:
    """A random model in evaluation mode; biases and norms are random too, to have an effect."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPTJForCausalLM(make_config(**config))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter) * model.config.initializer_range)
    model.train(False)
    return model


def make_tokenizer(rows: int = EMBEDDING_ROWS) -> Tokenizer:
    """A byte-level BPE in GPT-2's style, with the padding of the embedding's rows named."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=TEXT_TOKENS - 1, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.add_special_tokens([END_OF_TEXT])
    extra = range(1, rows - TEXT_TOKENS + 1)
    tokenizer.add_tokens([f"<|extratoken_{number}|>" for number in extra])
    return tokenizer


def write_tokenizer(
    folder: Path, rows: int = EMBEDDING_ROWS, layout: Literal["json", "files"] = "json"
) -> None:
    """Write the tokenizer as one tokenizer.json, or as GPT-2's vocab.json and merges.txt."""
    tokenizer = make_tokenizer(rows)
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
    _write_json(folder / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", **special})
    if layout == "json":
        tokenizer.save(str(folder / "tokenizer.json"))
        return
    tokenizer.model.save(str(folder))
    added = {t.content: i for i, t in tokenizer.get_added_tokens_decoder().items()}
    _write_json(folder / "added_tokens.json", added)
    _write_json(folder / "special_tokens_map.json", special)


def write_weights(folder: Path, tensors: dict[str, torch.Tensor], layout: Layout) -> None:
    """Write a state dict under the names the hub uses; sharded means three files and an index."""
    kind, _, form = layout.partition("-")
    stem, suffix = ("model", ".safetensors") if kind == "safetensors" else ("pytorch_model", ".bin")

    def write(name: str, part: dict[str, torch.Tensor]) -> None:
        if kind == "safetensors":
            save_file(part, folder / name, metadata={"format": "pt"})
        else:
            new = form != "legacy"
            torch.save(part, folder / name, _use_new_zipfile_serialization=new)

    if form != "sharded":
        write(stem + suffix, tensors)
        return
    names = list(tensors)
    weight_map: dict[str, str] = {}
    for shard in range(3):
        part = {name: tensors[name] for name in names[shard::3]}
        file = f"{stem}-{shard + 1:05}-of-00003{suffix}"
        write(file, part)
        weight_map |= dict.fromkeys(part, file)
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    _write_json(folder / f"{stem}{suffix}.index.json", index)


def copy_checkpoint(source: Path, folder: Path, *, without: tuple[str, ...] = ()) -> Path:
    """A copy of a checkpoint with some of its files left out."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(*without))
    return folder


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
