"""Write a trained model as transformers loads it, with its model card."""

from __future__ import annotations

import json
from pathlib import Path
from string import Template
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import GenerationConfig, GPTJForCausalLM, PreTrainedTokenizerFast

from .corpus import END_OF_TEXT, SIMPLE, STORIES

SAMPLE_BEGINNINGS = (
    "Once upon a time",
    "The old lighthouse keeper opened the letter and read it twice.",
    '"Where are you going?" asked the little fox.',
    "It was a cold night, and",
)
SHARD_SIZE = "9MB"
"""Files of 10 MB and more need Git LFS on the hub."""


def save_model(folder: Path, model: GPTJForCausalLM, tokenizer: Tokenizer) -> None:
    """Write fp16 weights in shards, configurations and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")):
        old.unlink()
    half = GPTJForCausalLM(model.config).half()
    half.load_state_dict(model.state_dict())
    half.generation_config = GenerationConfig(
        bos_token_id=0, eos_token_id=0, do_sample=True, temperature=0.8, top_p=0.95
    )
    half.save_pretrained(folder, max_shard_size=SHARD_SIZE)
    for written in folder.glob("*.safetensors"):
        written.chmod(0o644)  # safetensors writes files that only their owner can read
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        model_max_length=model.config.n_positions,
        clean_up_tokenization_spaces=False,
    )
    fast.save_pretrained(folder)
    # transformers indents the merges, which triples the size of the file
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()), ensure_ascii=False), "utf-8")


def sample(folder: Path, beginnings: tuple[str, ...], seeds: range, length: int = 120) -> list[str]:
    """Return continuations by `generate` with the folder's settings, `seeds` of each beginning."""
    model = GPTJForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    samples = []
    for beginning in beginnings:
        inputs = tokenizer(beginning, return_tensors="pt", return_token_type_ids=False)
        for seed in seeds:
            torch.manual_seed(seed)
            output = model.generate(**inputs, max_new_tokens=length, pad_token_id=0)[0]
            text = tokenizer.decode(output, skip_special_tokens=True)
            samples.append(f"**{beginning}**{text[len(beginning) :].rstrip()}")
    return samples


def write_card(folder: Path, training: dict[str, Any], values: dict[str, float]) -> None:
    """Write README.md from the template card.md, with one sample of each beginning.

    `training` describes the training, `values` are the bits per byte on each validation file.
    """
    model = GPTJForCausalLM.from_pretrained(folder)
    config, tokenizer = model.config, Tokenizer.from_file(str(folder / "tokenizer.json"))
    samples = sample(folder, SAMPLE_BEGINNINGS, range(1, 2))
    quoted = ("> " + text.replace("\n\n", "\n>\n> ") for text in samples)
    template = Template((Path(__file__).parent / "card.md").read_text("utf-8"))
    card = template.substitute(
        training,
        parameters=f"{model.num_parameters() / 1e6:.1f} million",
        layers=config.n_layer,
        width=config.n_embd,
        heads=config.n_head,
        head_dim=config.n_embd // config.n_head,
        rotary_dim=config.rotary_dim,
        context=config.n_positions,
        vocabulary=f"{tokenizer.get_vocab_size():,}",
        rows=f"{config.vocab_size:,}",
        simple_bits=f"{values[SIMPLE]:.3f}",
        stories_bits=f"{values[STORIES]:.3f}",
        samples="\n\n---\n\n".join(quoted),
    )
    (folder / "README.md").write_text(card, "utf-8")
