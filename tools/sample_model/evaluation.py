"""Bits per byte of a model on held-out text."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import GPTJForCausalLM

from .corpus import VALIDATION_FILES, read_documents, tokenize
from .network import forward, rotary_tables


@torch.no_grad()
def bits_per_byte(model: GPTJForCausalLM, tokenizer: Tokenizer, documents: list[str]) -> float:
    """Return the bits that the model spends on a byte, in windows of its full context.

    Every token is predicted once, `END_OF_TEXT` after each document too, from what precedes it in
    its window. The bytes of separators do not count, so they only add to the cost.
    """
    device = next(model.parameters()).device
    context = model.config.n_positions
    tables = [table.to(device) for table in rotary_tables(model.config)]
    nats = 0.0
    for sequence in tokenize(tokenizer, documents):
        for start in range(0, len(sequence) - 1, context):
            window = torch.from_numpy(sequence[start : start + context + 1]).to(device)
            logits = forward(model, *tables, window[None, :-1])[0]
            nats += F.cross_entropy(logits.float(), window[1:], reduction="sum").item()
    return nats / math.log(2) / sum(len(document.encode()) for document in documents)


def evaluate(folder: Path, corpus: Path) -> dict[str, float]:
    """Print and return the bits per byte of a saved model on each validation file.

    Computes in fp32 with the fp16 weights of the files.
    """
    model = GPTJForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    size = sum(path.stat().st_size for path in folder.iterdir())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{folder}: {parameters:,} parameters, {size:,} bytes on disk")
    values = {}
    for name, file in VALIDATION_FILES.items():
        values[name] = bits_per_byte(model, tokenizer, read_documents(corpus / file))
        print(f"{file}: {values[name]:.4f} bits per byte", flush=True)
    return values
