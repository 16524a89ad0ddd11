"""The filter that is a text classifier of transformers, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from gptj_demo.client.backends.connections import limit
from gptj_demo.client.moderation.verdict import FilterError, Verdict

LOAD_SECONDS = 180.0


class Classifier:
    """Flags texts to which the model gives one of `labels` with at least `threshold`.

    `source` is a folder or a hub id. Without `labels` it uses the second of two labels, or all
    labels of a multi-label model. `seconds` is the longest wait for an answer.
    """

    kind = "classifier"

    def __init__(
        self, source: str, labels: Sequence[str], threshold: float, seconds: float
    ) -> None:
        self._settings = (source, tuple(labels), threshold)
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def start(self) -> None:
        """Start the process and wait until it has loaded the model."""
        self.stop()
        ours, theirs = socket.socketpair()
        root = str(Path(__file__).resolve().parents[3])
        inherited = os.environ.get("PYTHONPATH")
        environment = {
            **os.environ,
            "PYTHONPATH": root if not inherited else root + os.pathsep + inherited,
            "OMP_NUM_THREADS": "1",  # the language model needs the cores
        }
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gptj_demo.engine.classifier", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,
                env=environment,
            )
        self._connection = Connection(ours.detach())
        limit(self._connection, self._seconds)
        try:
            refusal = self._ask(self._settings, LOAD_SECONDS)
        except (OSError, EOFError, FilterError):
            self.stop()  # else its late answer would be taken for the answer to the first check
            raise
        if refusal is not None:
            self.stop()
            raise FilterError(f"the classifier cannot be used: {refusal}")

    def check(self, texts: Sequence[str]) -> list[Verdict]:
        if self._connection is None:
            self.start()
        try:
            labels = self._ask(list(texts), self._seconds)
            if not isinstance(labels, list) or len(labels) != len(texts):
                raise FilterError("the classifier's answer does not fit the question")
        except (OSError, EOFError, FilterError):
            self.stop()
            raise
        return [Verdict(label is not None, label) for label in labels]

    def stop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()  # which ends the process, unless it hangs
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _ask(self, question: object, seconds: float) -> object:
        """The process's answer, for which it gets `seconds`; raises `FilterError` without one."""
        connection = self._connection
        assert connection is not None
        with contextlib.suppress(BlockingIOError):  # it hangs amid a message
            connection.send(question)
            if connection.poll(seconds):
                answer: object = connection.recv()
                return answer
        raise FilterError("the classifier did not answer in time")
