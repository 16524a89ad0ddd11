"""Runs the engine on Hugging Face's ZeroGPU: a GPU is lent for the seconds that a visitor needs it.

The weights are loaded in this process, where the `spaces` package packs them onto the disk. A lease
is a call of a function that this package decorates (`leases.py`, `engine/lent.py`). Between leases
no engine runs, which is not a failure.
"""

from __future__ import annotations

import importlib
import logging
import math
import queue
import re
import threading
from collections.abc import Generator
from types import SimpleNamespace
from typing import Any

from gptj_demo.client.backends.base import EngineMessage, Health, LeaseState
from gptj_demo.client.backends.leases import LOAD_BYTES_PER_SECOND, Leases
from gptj_demo.client.refusal import RefusalKind
from gptj_demo.client.visitor import QUOTA_HEADER
from gptj_demo.protocol import (
    Cancel,
    EngineStatus,
    Heartbeat,
    ModelInfo,
    Refused,
    Submit,
    Visitor,
)
from gptj_demo.settings import Settings
from gptj_demo.texts import Message, first_line, message

logger = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
ABORTED = "GPU task aborted"

_END = object()
_QUOTA = re.compile(r"\((\d+)s requested vs\. (\d+)s left\).* again in ([\d:]+)", re.DOTALL)
_TITLES: dict[str, tuple[RefusalKind, str]] = {
    "ZeroGPU quota exceeded": ("queue_full", "lease.no_quota"),
    "ZeroGPU pending credits exceeded": ("queue_full", "lease.pending"),
    "ZeroGPU queue timeout": ("queue_full", "lease.no_gpu"),
    "ZeroGPU illegal duration": ("queue_full", "lease.too_long"),
    "ZeroGPU client error": ("unavailable", "lease.unavailable"),
}
"""By the titles of the errors that the `spaces` package raises."""


class ZeroGpuBackend:
    """The engine in leases of a GPU; see `base.Backend`.

    Make it in the main thread, before Gradio is imported: `spaces` must be imported first.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._spaces: Any = importlib.import_module("spaces")
        # by name, as it is code of the engine; the package has imported torch by now
        self._engine: Any = importlib.import_module("gptj_demo.engine.lent")
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._leases: Leases | None = None

    def start(self) -> None:
        self._messages = queue.SimpleQueue()
        threading.Thread(target=self._load, name="weights", daemon=True).start()

    def send(self, message: Submit | Cancel, visitor: Visitor | None) -> None:
        if self._leases is not None:
            self._leases.send(message, visitor)

    def events(self) -> Generator[EngineMessage | None, None, None]:
        while True:
            try:
                received = self._messages.get(timeout=BEAT_SECONDS)
            except queue.Empty:
                received = Heartbeat(None)  # asleep, not hung
            if received is _END:
                return
            yield received

    def wait(self) -> Message:
        self.stop()
        return message("exit.not_started")

    def health(self) -> Health:
        return Health(None)

    def lease(self, visitor: Visitor | None) -> LeaseState | None:
        return LeaseState("asleep") if self._leases is None else self._leases.state(visitor)

    def stop(self) -> None:
        leases, self._leases = self._leases, None
        if leases is not None:
            leases.stop()
        self._messages.put(_END)

    def kill(self) -> None:
        self.stop()

    def _load(self) -> None:
        """Load the weights, have them packed, and open for requests."""
        put = self._messages.put
        zero, engine = self._spaces.zero, self._engine
        zero.torch.enter_mode()  # moves to the GPU are intercepted thread by thread
        try:
            lent = engine.load(self._settings, put)
            model: ModelInfo = lent.model
            travel = math.ceil(model.weight_bytes / LOAD_BYTES_PER_SECOND)
            lend = self._spaces.GPU(
                lambda *lease: engine.serve(lent, *lease),
                duration=lambda address, number, seconds: seconds + travel,
            )
            zero.startup()  # packs the weights; `Blocks.launch`, which we do not use, would do it
        except Exception as error:
            put(Refused(str(error)))
            put(_END)
            return

        def charge(visitor: Visitor | None, address: str, number: int, seconds: int) -> None:
            _let_pay(visitor)
            lend(address, number, seconds)

        self._leases = Leases(charge, explain, put, model.weight_bytes, model.max_num_seqs)
        logger.info("%s", model.why)
        put(EngineStatus("ready", model.why, model=model))


def explain(error: BaseException) -> tuple[RefusalKind, Message]:
    """What an error of the `spaces` package means, in words."""
    said = str(getattr(error, "message", error))
    title = str(getattr(error, "title", ""))
    if (quota := _QUOTA.search(said)) is not None:
        asked, left, wait = quota.groups()
        return "queue_full", message("lease.quota", asked=asked, left=left, wait=wait)
    if title in _TITLES:
        kind, code = _TITLES[title]
        return kind, message(code)
    if said == ABORTED:
        return "unavailable", message("lease.aborted")
    return "unavailable", message("lease.failed", reason=first_line(error))


class _Headers(dict[str, str]):
    """Headers as the `spaces` package wants them: an object with attributes."""


def _let_pay(visitor: Visitor | None) -> None:
    """Set the visitor whose quota is charged for the calls of this thread."""
    from gradio.context import LocalContext

    token = None if visitor is None else visitor.gpu_quota
    headers = _Headers() if token is None else _Headers({QUOTA_HEADER: token})
    LocalContext.request.set(SimpleNamespace(headers=headers))  # type: ignore[arg-type]
