"""The process of the moderation filter: `python -m gptj_demo.engine.classifier FD`.

It receives (source, labels, threshold) and answers None, or why it cannot work. Then it answers
each list of texts with a list: for each text the label that it is flagged with, or None.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from gptj_demo.texts import first_line

MAX_TOKENS = 512


class Flagger:
    """A text classifier of transformers on the CPU."""

    def __init__(self, source: str, labels: Sequence[str], threshold: float) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(source)
        self._model = AutoModelForSequenceClassification.from_pretrained(source).eval()
        config = self._model.config
        self._names = [str(config.id2label[i]) for i in range(config.num_labels)]
        self._gives_several = config.problem_type == "multi_label_classification"
        self._threshold = threshold
        self._flagged = [i for i, name in enumerate(self._names) if name in labels]
        known = ", ".join(self._names)
        unknown = [label for label in labels if label not in self._names]
        if unknown:
            raise ValueError(f"the classifier has no label {unknown[0]!r}; it has {known}")
        if not labels:
            if not self._gives_several and len(self._names) != 2:
                raise ValueError(f"name the labels to flag in GPTJ_FILTER_LABELS: {known}")
            self._flagged = [*range(len(self._names))] if self._gives_several else [1]
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token

    @torch.inference_mode()
    def flags(self, texts: Sequence[str]) -> list[str | None]:
        """The label that each text is flagged with, None where it is not."""
        longest = min(MAX_TOKENS, int(self._tokenizer.model_max_length))
        found: list[str | None] = []
        for text in texts:  # one at a time: padding would change the numbers
            given = self._tokenizer(text, truncation=True, max_length=longest, return_tensors="pt")
            logits = self._model(**given).logits[0].float()
            shares = logits.sigmoid() if self._gives_several else logits.softmax(dim=0)
            share, label = max((float(shares[i]), self._names[i]) for i in self._flagged)
            # NaN counts as flagged
            found.append(None if share < self._threshold else label)
        return found


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the connection says when to end
    torch.set_num_threads(1)
    with (
        contextlib.suppress(EOFError, OSError),  # the web process is gone
        Connection(int(sys.argv[1])) as connection,
    ):
        try:
            flagger = Flagger(*connection.recv())
        except Exception as error:
            connection.send(first_line(error))
            return
        connection.send(None)
        while True:
            connection.send(flagger.flags(connection.recv()))


if __name__ == "__main__":
    main()
