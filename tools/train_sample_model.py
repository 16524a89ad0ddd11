#!/usr/bin/env python3
"""Train the sample model, a GPT-J small enough to ship with the code, or its draft.

    python tools/train_sample_model.py CORPUS                    # train until stopped; resumes
    python tools/train_sample_model.py CORPUS --finish 4         # cool down over 4 million tokens
    python tools/train_sample_model.py CORPUS --export FOLDER    # the averaged weights as they are
    python tools/train_sample_model.py CORPUS --evaluate FOLDER  # bits per byte of a saved model

CORPUS holds `train.txt.xz`, `simple.txt.xz`, `valid.txt.xz` and `simple-valid.txt.xz`: documents
separated by lines that hold only `<|endoftext|>`. `--work` is the folder of the tokenizer and the
checkpoints; each call continues from the last checkpoint there. `--draft` trains the draft model
with the same tokenizer. See docs/training.md.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).parent))

from sample_model.corpus import (
    PADDED_VOCABULARY,
    TRAINING_FILES,
    VALIDATION_FILES,
    load_corpora,
    read_documents,
)
from sample_model.evaluation import bits_per_byte, evaluate
from sample_model.export import save_model, write_card
from sample_model.network import DRAFT, STORYTELLER, build_model
from sample_model.training import SEED, Training, train

OUT = {"storyteller": Path("assets/sample-model"), "draft": Path("assets/sample-draft")}
TITLES = {"storyteller": "sample model", "draft": "sample draft model"}
PURPOSES = {
    "storyteller": (
        "A small storyteller: with it the playground and its tests run without a GPU or a download."
    ),
    "draft": "A small GPT-J that drafts tokens for the sample model (speculative decoding).",
}
LOG_STEPS = 20
EVALUATION_TOKENS, EVALUATION_PAUSE = 2_000_000, 60.0
"""Evaluate after this many tokens, with this many seconds of training in between."""
EVALUATION_DOCUMENTS = 20


def log(text: str) -> None:
    now = datetime.now(timezone.utc).strftime("%m-%d %H:%M:%S")
    print(now, text, flush=True)


class Progress:
    """Logs loss and speed every few steps, and bits per byte now and then."""

    def __init__(self, training: Training, tokenizer: Tokenizer, corpus: Path) -> None:
        self._training, self._tokenizer = training, tokenizer
        self._documents = {
            file: read_documents(corpus / file)[:EVALUATION_DOCUMENTS]
            for file in VALIDATION_FILES.values()
        }
        self._losses: list[float] = []
        self._begin = self._evaluated = time.monotonic()

    def __call__(self, loss: float) -> None:
        training = self._training
        self._losses.append(loss)
        if len(self._losses) == LOG_STEPS:
            seconds = time.monotonic() - self._begin
            tokens = training.seen / training.step * LOG_STEPS
            log(
                f"step {training.step} tokens {training.seen / 1e6:.2f}M "
                f"cool-down {training.cool_down:.2f} loss {sum(self._losses) / LOG_STEPS:.4f} "
                f"{tokens / seconds:.0f} tokens/s"
            )
            self._losses, self._begin = [], time.monotonic()
        before = (training.seen - training.seen // training.step) // EVALUATION_TOKENS
        is_due = training.seen // EVALUATION_TOKENS > before
        if is_due and time.monotonic() - self._evaluated > EVALUATION_PAUSE:
            self.evaluate()

    def evaluate(self) -> None:
        model = self._training.averaged_model().to(self._training.device)
        for file, documents in self._documents.items():
            value = bits_per_byte(model, self._tokenizer, documents)
            log(f"{len(documents)} documents of {file}: {value:.4f} bits per byte")
        self._begin = self._evaluated = time.monotonic()


def run(arguments: argparse.Namespace) -> None:
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    name = "draft" if arguments.draft else "storyteller"
    stable, finish = work / f"{name}.pt", work / f"{name}-finish.pt"
    tokenizer, corpora = load_corpora(arguments.corpus, work / "tokenizer.json")
    log(", ".join(f"{corpus}: {len(tokens):,} tokens" for corpus, tokens in corpora.items()))
    model = build_model(DRAFT if arguments.draft else STORYTELLER, PADDED_VOCABULARY, SEED)
    training = Training(model, corpora, dropout=arguments.dropout, compile=arguments.compile)
    checkpoint = stable
    if arguments.finish or (arguments.export and finish.exists()):
        checkpoint = finish
    if checkpoint.exists():
        training.load(checkpoint)
    elif stable.exists():
        training.load(stable)
    if arguments.export:
        save_model(arguments.export, training.averaged_model(), tokenizer)
        log(f"{arguments.export}: weights after {training.seen:,} tokens")
        return
    if arguments.finish and not training.cool_down_tokens:
        training.begin_cool_down(round(arguments.finish * 1e6))
    log(f"{name}: from step {training.step}, {training.seen:,} tokens")

    end = time.monotonic() + arguments.minutes * 60
    progress = Progress(training, tokenizer, arguments.corpus)
    with stop_signals() as received:
        train(
            training,
            checkpoint,
            lambda: bool(received) or time.monotonic() > end,
            on_step=progress,
        )
    log(f"{checkpoint}: {training.seen:,} tokens, cool-down {training.cool_down:.2f}")
    if training.cool_down == 1.0:
        out = arguments.out or OUT[name]
        save_model(out, training.averaged_model(), tokenizer)
        values = evaluate(out, arguments.corpus)
        write_card(out, describe(name, training, corpora), values)


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT in a list, so that training stops after a whole step."""
    received: list[int] = []
    previous = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def describe(name: str, training: Training, corpora: dict[str, np.ndarray]) -> dict[str, str]:
    """Return what the model card says about the model and its training."""
    return {
        "title": TITLES[name],
        "purpose": PURPOSES[name],
        "seed": str(SEED),
        "torch": torch.__version__.split("+")[0],
        "steps": f"{training.step:,}",
        "tokens_seen": f"{training.seen:,}",
        "tokens_in_corpus": f"{sum(len(tokens) for tokens in corpora.values()):,}",
        "cool_down_tokens": f"{training.cool_down_tokens:,}",
        "hours": f"{training.seconds / 3600:.1f}",
        "processor": (
            torch.cuda.get_device_name(training.device)
            if training.device.type == "cuda"
            else f"{torch.get_num_threads()} CPU cores"
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("corpus", type=Path, help="folder with the four text files")
    parser.add_argument("--work", type=Path, default=Path(".training"), help="checkpoints go here")
    parser.add_argument("--draft", action="store_true", help="the draft model")
    parser.add_argument("--finish", type=float, metavar="MILLIONS", help="tokens of the cool-down")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile: 5 %% faster on a CPU"
    )
    parser.add_argument("--out", type=Path, help="folder of the finished model")
    parser.add_argument("--export", type=Path, metavar="FOLDER", help="save weights, do not train")
    parser.add_argument("--evaluate", type=Path, metavar="FOLDER", help="measure, do not train")
    arguments = parser.parse_args()
    files = list(VALIDATION_FILES.values())
    if not arguments.evaluate:
        files += TRAINING_FILES.values()
    for name in files:
        if not (arguments.corpus / name).is_file():
            parser.error(f"no {name} in {arguments.corpus}")
    if arguments.evaluate:
        evaluate(arguments.evaluate, arguments.corpus)
    else:
        run(arguments)


if __name__ == "__main__":
    main()
