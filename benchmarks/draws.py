#!/usr/bin/env python3
"""How often two ways to draw a token keep the token when the logits change a little.

The logits are the sample model's, at each position of short stories. Gaussian noise of 1 % of their
standard deviation stands for rounding; larger noise, with which a part of 0.72 of the two
distributions overlaps, for a draft model. Each position is drawn with and without noise:

- by inverse CDF, in the order of the ids, with one Philox uniform (how tokens used to be drawn);
- by Gumbel-max, with noise by seed, position and token id (how they are drawn now).

The overlap of the two distributions is the upper bound. "Could change" counts the draws that at
least one of the two ways changes.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from common import ROOT, SAMPLE_MODEL, describe_machine, finish, make_parser, print_table
from tokenizers import Tokenizer
from transformers import GPTJForCausalLM

from gptj_demo.engine.sampling import noise

ROUNDING = 0.01
DRAFT_OVERLAP = 0.72
TOKENS = 200  # of each story
CPU = torch.device("cpu")


def read_logits() -> torch.Tensor:
    """Logits, fp32 [positions, vocabulary], at the evaluation's positions of the stories."""
    tokenizer = Tokenizer.from_file(str(SAMPLE_MODEL / "tokenizer.json"))
    model: Any = GPTJForCausalLM.from_pretrained(SAMPLE_MODEL, dtype=torch.float32)
    model.train(False)
    lines = (ROOT / "tests/evaluation/stories.jsonl").read_text(encoding="utf-8").splitlines()
    found = []
    with torch.inference_mode():
        for line in lines:
            token_ids = tokenizer.encode(json.loads(line)["text"]).ids[:TOKENS]
            found.append(model(torch.tensor([token_ids])).logits[0])
    return torch.cat(found)[:, : tokenizer.get_vocab_size()]


def by_inverse_cdf(weights: torch.Tensor, seed: int) -> torch.Tensor:
    """A token for each row; row n is the n-th step of a request with this seed."""
    key = np.array([seed, 0], dtype=np.uint64)
    uniforms = np.random.Generator(np.random.Philox(key=key)).random(len(weights))
    cumulative = weights.cumsum(dim=1, dtype=torch.float64)
    target = torch.from_numpy(uniforms)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, target, right=True)[:, 0]


def by_gumbel_max(weights: torch.Tensor, seed: int) -> torch.Tensor:
    """A token for each row; row n is position n of a request with this seed."""
    request_keys = np.array([noise.request_key(seed, noise.DRAW)], dtype=np.uint64)
    keys = noise.position_keys(request_keys, range(len(weights)))
    signed = torch.from_numpy(keys.view(np.int64))[:, None]
    return noise.draw(weights, signed, noise.increments(weights.shape[1], CPU))


METHODS = {"inverse CDF": by_inverse_cdf, "Gumbel-max": by_gumbel_max}


def overlap(one: torch.Tensor, other: torch.Tensor) -> float:
    """The mean overlap of the rows' distributions: 1 less the total variation distance."""
    return float(torch.minimum(one, other).sum(dim=1).mean())


def find_draft_scale(logits: torch.Tensor, change: torch.Tensor, temperature: float) -> float:
    """The scale of `change` with which the distributions overlap by `DRAFT_OVERLAP`."""
    weights = (logits / temperature).softmax(dim=1)
    low, high = 0.0, 2.0
    for _ in range(12):
        middle = (low + high) / 2
        changed = ((logits + middle * change) / temperature).softmax(dim=1)
        low, high = (middle, high) if overlap(weights, changed) > DRAFT_OVERLAP else (low, middle)
    return low


def compare(
    logits: torch.Tensor, changed: torch.Tensor, temperature: float, seeds: int
) -> dict[str, float]:
    """Shares of the draws that stay the same, the overlap, and the share that could change."""
    before = (logits / temperature).softmax(dim=1)
    after = (changed / temperature).softmax(dim=1)
    kept = {
        name: torch.stack([draw(before, s) == draw(after, s) for s in range(seeds)])
        for name, draw in METHODS.items()
    }
    changing = ~(kept["inverse CDF"] & kept["Gumbel-max"])
    figures = {"overlap": overlap(before, after), "could change": float(changing.double().mean())}
    for name, same in kept.items():
        figures[f"{name}, all"] = float(same.double().mean())
        figures[f"{name}, of those that could change"] = float(same[changing].double().mean())
    return figures


def main() -> None:
    parser = make_parser(__doc__, rounds=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logits = read_logits()
    generator = torch.Generator().manual_seed(0)
    change = torch.randn(logits.shape, generator=generator) * logits.std(dim=1, keepdim=True)
    scale = find_draft_scale(logits, change, 1.0)
    figures: dict[str, Any] = {"positions": len(logits), "seeds": arguments.rounds}
    cases = {
        "noise of 1 %, temperature 1": (ROUNDING, 1.0),
        "noise of 1 %, temperature 0.8": (ROUNDING, 0.8),
        f"a draft: noise of {100 * scale:.0f} %, temperature 1": (scale, 1.0),
    }
    figures["kept"] = {
        name: compare(logits, logits + size * change, temperature, arguments.rounds)
        for name, (size, temperature) in cases.items()
    }
    for name, shares in figures["kept"].items():
        print_table(
            name, ["share of draws", "kept"], [[key, value] for key, value in shares.items()]
        )
    machine = describe_machine("torch", "numpy", "transformers")
    finish("draws", figures, machine, save=arguments.save)


if __name__ == "__main__":
    main()
