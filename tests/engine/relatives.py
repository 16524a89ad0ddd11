"""Tiny checkpoints of GPT-J's relatives: CodeGen, 8 bits of bitsandbytes, LoRA adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.functional import int8_vectorwise_dequant, int8_vectorwise_quant
from safetensors.torch import load_file, save_file
from transformers import CodeGenConfig, CodeGenForCausalLM

from tests.engine.checkpoints import (
    EMBEDDING_ROWS,
    TEXT_TOKENS,
    Layout,
    make_checkpoint,
    write_tokenizer,
    write_weights,
)

Tensors = dict[str, torch.Tensor]


def make_codegen(
    folder: Path,
    *,
    layout: Layout = "safetensors",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    **config: Any,
) -> Path:
    """Write a random CodeGen with its tokenizer into `folder` and return the folder.

    The .bin layouts hold the causal masks that old versions of transformers saved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    defaults = {
        "vocab_size": EMBEDDING_ROWS,
        "n_positions": 64,
        "n_ctx": 64,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "rotary_dim": 4,
        "initializer_range": 0.1,
        "bos_token_id": 1,  # as in Salesforce's files; the tokenizer has another id
        "eos_token_id": TEXT_TOKENS - 1,
        "architectures": ["CodeGenForCausalLM"],
    }
    configuration = CodeGenConfig(**{**defaults, **config})
    configuration.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CodeGenForCausalLM(configuration)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter) * configuration.initializer_range)
    tensors = {name: tensor.to(dtype) for name, tensor in model.state_dict().items()}
    if layout.startswith("bin"):
        context = configuration.n_positions
        for layer in range(configuration.n_layer):
            mask = torch.ones(context, context, dtype=torch.uint8).tril()[None, None]
            tensors[f"transformer.h.{layer}.attn.causal_mask"] = mask
    write_weights(folder, tensors, layout)
    write_tokenizer(folder, configuration.vocab_size)
    change_json(folder / "tokenizer_config.json", tokenizer_class="CodeGenTokenizer")
    return folder


def make_eight_bit(folder: Path, **options: Any) -> tuple[Path, Tensors]:
    """Write a GPT-J that bitsandbytes saved in 8 bits; the folder, and its weights in float32."""
    make_checkpoint(folder, **options)
    stored = load_file(folder / "model.safetensors")
    weights: Tensors = {}
    written: Tensors = {}
    for name, tensor in stored.items():
        if ".h." not in name or tensor.dim() != 2:
            written[name] = tensor.half()
            weights[name] = tensor.half().float()
            continue
        codes, largest, _ = int8_vectorwise_quant(tensor.half())
        layer = name.removesuffix(".weight")
        written |= {name: codes, f"{layer}.SCB": largest}
        written[f"{layer}.weight_format"] = torch.tensor(0, dtype=torch.uint8)
        weights[name] = int8_vectorwise_dequant(codes, largest)
    save_file(written, folder / "model.safetensors", metadata={"format": "pt"})
    quantization = {"quant_method": "bitsandbytes", "load_in_8bit": True, "load_in_4bit": False}
    change_json(folder / "config.json", quantization_config=quantization)
    return folder, weights


def make_adapter(
    folder: Path, tensors: Tensors, *, layout: str = "safetensors", **fields: Any
) -> Path:
    """Write an adapter of these tensors, named as in the model, into `folder`; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    defaults = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": None}
    (folder / "adapter_config.json").write_text(json.dumps({**defaults, **fields}))
    named = {f"base_model.model.{name}": tensor.contiguous() for name, tensor in tensors.items()}
    if layout == "bin":
        torch.save(named, folder / "adapter_model.bin")
    else:
        save_file(named, folder / "adapter_model.safetensors")
    return folder


def random_pairs(*modules: str, rank: int = 2, width: int = 32, seed: int = 1) -> Tensors:
    """Random matrices A and B of rank 2 for square linear layers."""
    generator = torch.Generator().manual_seed(seed)
    tensors: Tensors = {}
    for module in modules:
        tensors[f"{module}.lora_A.weight"] = torch.randn(rank, width, generator=generator) / 8
        tensors[f"{module}.lora_B.weight"] = torch.randn(width, rank, generator=generator) / 8
    return tensors


def change_json(path: Path, **fields: Any) -> None:
    """Set fields of a JSON file, or remove those that are None here."""
    values = {**json.loads(path.read_text("utf-8")), **fields}
    path.write_text(json.dumps({key: one for key, one in values.items() if one is not None}))
