"""The corpus of the sample model: documents, tokenizer and shuffled windows of tokens."""

from __future__ import annotations

import lzma
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END_OF_TEXT = "<|endoftext|>"
VOCABULARY = 4096
"""Tokens of the tokenizer, `END_OF_TEXT` included. 8192 tokens would make a text 7 % shorter and
a step of training 15 % longer."""
PADDED_VOCABULARY = 4160
"""Rows of the embedding. The rows past the vocabulary appear in no text, as in GPT-J."""

SIMPLE, STORIES = "simple", "train"
"""Names of the two corpora: plain prose for young children, and stories in general."""
TRAINING_FILES = {SIMPLE: "simple.txt.xz", STORIES: "train.txt.xz"}
VALIDATION_FILES = {SIMPLE: "simple-valid.txt.xz", STORIES: "valid.txt.xz"}
_TOKENIZER_STORIES = 4
"""The tokenizer learns from all simple documents and from every fourth of the others."""


def read_documents(path: Path) -> list[str]:
    """Return the documents of an xz-compressed text file, without the separator lines."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        text = file.read()
    documents = (document.strip("\n") for document in text.split(END_OF_TEXT))
    return [document for document in documents if document]


def train_tokenizer(documents: Iterable[str], size: int = VOCABULARY) -> Tokenizer:
    """Return a byte-level BPE tokenizer like GPT-2's, with `END_OF_TEXT` as id 0."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer


def tokenize(tokenizer: Tokenizer, documents: list[str]) -> list[np.ndarray]:
    """Return the token ids of each document, with `END_OF_TEXT` before and after it."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    encodings = tokenizer.encode_batch_fast(documents)
    return [np.array([end, *encoding.ids, end], dtype=np.int64) for encoding in encodings]


def load_corpora(folder: Path, tokenizer_path: Path) -> tuple[Tokenizer, dict[str, np.ndarray]]:
    """Return the tokenizer and the token ids of each training corpus.

    Trains the tokenizer and writes it to `tokenizer_path` if there is none yet.
    """
    documents = {name: read_documents(folder / file) for name, file in TRAINING_FILES.items()}
    if tokenizer_path.exists():
        tokenizer = Tokenizer.from_file(str(tokenizer_path))
    else:
        texts = documents[SIMPLE] + documents[STORIES][::_TOKENIZER_STORIES]
        tokenizer = train_tokenizer(texts)
        tokenizer.save(str(tokenizer_path))
    tokens = {
        name: np.concatenate([sequence[1:] for sequence in tokenize(tokenizer, texts)])
        for name, texts in documents.items()
    }
    return tokenizer, tokens


class WindowStream:
    """Windows of a corpus in random order; each epoch covers the corpus once.

    The order follows from the seed and the number of the epoch, so the state is three integers. A
    new window length begins a new epoch.
    """

    def __init__(self, tokens: np.ndarray, seed: int) -> None:
        self._tokens, self._seed = tokens, seed
        self._epoch, self._cursor, self._window = -1, 0, 0
        self._starts = np.empty(0, dtype=np.int64)

    def take(self, count: int, window: int) -> np.ndarray:
        """Return the next `count` windows as [count, window + 1] token ids."""
        if window >= len(self._tokens):
            raise ValueError(f"a window of {window} tokens is longer than the corpus")
        rows = []
        for _ in range(count):
            if window != self._window or self._cursor == len(self._starts):
                self._begin_epoch(self._epoch + 1, window)
            start = self._starts[self._cursor]
            rows.append(self._tokens[start : start + window + 1])
            self._cursor += 1
        return np.stack(rows) if rows else np.empty((0, window + 1), dtype=np.int64)

    def _begin_epoch(self, epoch: int, window: int) -> None:
        self._epoch, self._cursor, self._window = epoch, 0, window
        generator = np.random.default_rng((self._seed, epoch, window))
        last = len(self._tokens) - window - 1
        offset = generator.integers(0, min(window, last + 1))
        self._starts = generator.permutation(np.arange(offset, last + 1, window))

    def state(self) -> dict[str, int]:
        return {"epoch": self._epoch, "cursor": self._cursor, "window": self._window}

    def load_state(self, state: dict[str, Any]) -> None:
        if state["epoch"] >= 0:
            self._begin_epoch(state["epoch"], state["window"])
            self._cursor = state["cursor"]
