"""Makes a GPT-J with random weights: no download, and the speed of a real one."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from common import NEVER, SAMPLE_MODEL, note
from safetensors.torch import save_file
from transformers import GPTJConfig, GPTJForCausalLM

Layout = Literal["safetensors", "bin"]

TEXT_TOKENS = 50257
"""Valid token ids; the embedding of GPT-J 6B has 50400 rows."""
LAYERS = 28
LAYERS_A_SHARD = 4
STANDARD_DEVIATION = 0.02
SPARE_BYTES = 1_000_000_000  # left free on the disk


def gptj_6b(layers: int = LAYERS) -> GPTJConfig:
    """GPT-J 6B's configuration, or that of its first layers."""
    return GPTJConfig(n_layer=layers, bos_token_id=0, eos_token_id=0)


def tiny_gptj() -> GPTJConfig:
    """The smallest model with GPT-J 6B's context and vocabulary."""
    return GPTJConfig(n_layer=2, n_embd=64, n_head=2, rotary_dim=16, bos_token_id=0, eos_token_id=0)


def file_bytes(config: GPTJConfig) -> int:
    """Bytes of the checkpoint in float16."""
    with torch.device("meta"):
        return 2 * sum(p.numel() for p in GPTJForCausalLM(config).parameters())


@contextlib.contextmanager
def random_model(
    config: GPTJConfig, layout: Layout, device: str, folder: Path | None = None
) -> Iterator[Path]:
    """A checkpoint in float16 in a temporary folder, below `folder`; always removed afterwards.

    In shards, made one after the other on `device`. The biases of the end-of-text and padding
    tokens are so low that they are never sampled. Exits if the disk is too full.
    """
    below = Path(folder or tempfile.gettempdir())
    needed, free = file_bytes(config), shutil.disk_usage(below).free
    if free < needed + SPARE_BYTES:
        raise SystemExit(
            f"The checkpoint takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in "
            f"{below}: set TMPDIR to a disk with more room."
        )
    with tempfile.TemporaryDirectory(prefix="gptj-random-", dir=below) as made:
        target = Path(made)
        note(f"making a checkpoint of {needed / 1e9:.1f} GB in {target}")
        config.architectures = ["GPTJForCausalLM"]
        config.dtype = torch.float16
        config.save_pretrained(target)
        _write_tokenizer(target, min(TEXT_TOKENS, config.vocab_size))
        _write_weights(target, config, layout, device)
        yield target


def _write_weights(folder: Path, config: GPTJConfig, layout: Layout, device: str) -> None:
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in GPTJForCausalLM(config).named_parameters()}
    stem, suffix = ("model", "safetensors") if layout == "safetensors" else ("pytorch_model", "bin")
    shards: dict[int, list[str]] = {}
    for name in shapes:
        layer = int(name.split(".")[2]) // LAYERS_A_SHARD if ".h." in name else -1
        shards.setdefault(layer, []).append(name)
    weight_map = {}
    generator = torch.Generator(device).manual_seed(0)
    for number, names in enumerate(shards.values(), 1):
        file = f"{stem}-{number:05}-of-{len(shards):05}.{suffix}"
        tensors = {name: _random_tensor(name, shapes[name], generator) for name in names}
        if "lm_head.bias" in tensors:
            tensors["lm_head.bias"][config.eos_token_id] = NEVER
            tensors["lm_head.bias"][TEXT_TOKENS:] = NEVER
        if layout == "safetensors":
            save_file(tensors, folder / file, metadata={"format": "pt"})
        else:
            torch.save(tensors, folder / file)
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index), encoding="utf-8")


def _random_tensor(name: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    made = torch.empty(shape, device=generator.device)
    made.normal_(0.0, STANDARD_DEVIATION, generator=generator)
    if len(shape) == 1 and name.endswith("weight"):  # a norm
        made += 1.0
    return made.half().cpu()


def _write_tokenizer(folder: Path, text_tokens: int) -> None:
    """The sample model's tokenizer, padded with tokens that no text contains."""
    tokenizer = json.loads((SAMPLE_MODEL / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    for number in range(len(vocabulary), text_tokens):
        vocabulary[f"<unused {number}>"] = number
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    shutil.copy(SAMPLE_MODEL / "tokenizer_config.json", folder)
