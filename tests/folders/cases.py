"""All cases, and some of them evenly chosen."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from tests.engine.checkpoints import Layout
from tests.folders.case import Case, flipped, truncated
from tests.folders.configurations import configuration_cases, index_cases
from tests.folders.tokenizers import tokenizer_cases
from tests.folders.weights import pickle_cases, safetensors_cases

HEADER_BYTES = 2000  # of a safetensors file of a tiny model: the length, and most of the JSON
RANDOM_SHARE = 0.2


def choose(count: int) -> list[Case]:
    """So many cases, of all kinds: written ones evenly chosen, and files damaged at random."""
    written = [
        *configuration_cases(),
        *index_cases(),
        *tokenizer_cases(),
        *safetensors_cases(),
        *pickle_cases(),
    ]
    taken = min(len(written), round(count * (1 - RANDOM_SHARE)))
    chosen = [written[place * len(written) // taken] for place in range(taken)]
    return chosen + list(islice(_random_cases(), count - taken))


def _random_cases() -> Iterator[Case]:
    """Files cut at random places, or with random bytes in them, without an end."""
    files: list[tuple[str, str, Layout, int | None]] = [
        ("safetensors", "model.safetensors", "safetensors", HEADER_BYTES),
        ("config", "config.json", "safetensors", None),
        ("tokenizer", "tokenizer.json", "safetensors", None),
        ("pickle", "pytorch_model.bin", "bin", None),
        ("pickle", "pytorch_model.bin", "bin-legacy", HEADER_BYTES),
        ("tokenizer", "tokenizer_config.json", "safetensors", None),
        ("index", "model.safetensors.index.json", "safetensors-sharded", None),
    ]
    number = 0
    while True:
        number += 1
        for kind, file, layout, within in files:
            bytes_flipped = (1, 8, 100)[number % 3]
            damage = flipped(file, within=within, count=bytes_flipped)
            name = f"{file}: {bytes_flipped} random bytes, {number}"
            yield Case(kind, name, damage, layout, loads=None)  # type: ignore[arg-type]
            if number % 3 == 0:
                yield Case(kind, f"{file}: cut, {number}", truncated(file), layout, loads=None)  # type: ignore[arg-type]
