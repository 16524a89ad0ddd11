"""One lease of a GPU for each visitor with open requests, and the messages to and from its engine.

A lease is a function call that the lender charges to the visitor. It runs an engine in a process of
its own until the visitor's requests have ended, or the requested seconds are over. All requests of
the visitor share it. The engine connects to a socket here and sends the number of its lease.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Listener
from pathlib import Path

from gptj_demo.client.backends.base import EngineMessage, LeaseState
from gptj_demo.client.backends.calling import CALL_SECONDS
from gptj_demo.client.backends.connections import limit
from gptj_demo.client.backends.outbox import Outbox
from gptj_demo.protocol import Cancel, Finished, StepEvents, Submit, Visitor, beginnings
from gptj_demo.returned import Lapsed, Lost, RefusalKind
from gptj_demo.texts import Message, message

GATHER_SECONDS = 0.05
"""How long a lease waits for the visitor's other requests before it is asked for: the cells of a
comparison arrive together."""

SHORTEST, LONGEST = 10, 60
"""Limits of a lease, in seconds. A shorter lease is granted sooner; a text that is not complete at
its end continues in the next lease."""

LOAD_BYTES_PER_SECOND = 2e9
"""How fast the weights are read from the disk to the GPU, before the engine's seconds begin."""
BUILD_SECONDS = 5.0
"""How long the engine takes until its first step."""
STEP_BYTES_PER_SECOND = 450e9
"""How fast a step reads the weights: half the bandwidth of half an RTX Pro 6000."""
SHORTEST_STEP = 1 / 60
PREFILL_TOKENS_PER_SECOND = 2000

NOTHING = message("lease.nothing")

Lend = Callable[[Visitor | None, str, int, int], None]
"""Runs a lease for a visitor. Takes the address of the socket, the lease's number and its seconds.
Returns when the lease has ended; raises any error."""


@dataclass(slots=True)
class _Lease:
    """The lease of a visitor, from the first request until its process has released the GPU."""

    number: int
    visitor: Visitor | None
    seconds: int = 0
    outbox: Outbox | None = None  # once its engine has connected
    reader: threading.Thread | None = None
    ends: float | None = None  # by the monotonic clock, once it is awake
    unsent: list[Submit] = field(default_factory=list)
    left: dict[int, int] = field(default_factory=dict)  # completions to finish, by request


class Leases:
    """The leases of all visitors. Thread-safe.

    `explain` puts an error of `lend` into words, `weight_bytes` and `slots` are the model's.
    """

    def __init__(
        self,
        lend: Lend,
        explain: Callable[[BaseException], tuple[RefusalKind, Message]],
        put: Callable[[EngineMessage], None],
        weight_bytes: int,
        slots: int,
    ) -> None:
        self._lend, self._explain, self._put = lend, explain, put
        self._weight_bytes, self._slots = weight_bytes, slots
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._by_visitor: dict[str | None, _Lease] = {}
        self._by_number: dict[int, _Lease] = {}
        self._stopping = threading.Event()
        self._folder = Path(tempfile.mkdtemp(prefix="gptj-leases-"))  # only this user may enter
        self._address = str(self._folder / "socket")
        self._listener = Listener(self._address, "AF_UNIX", backlog=64)
        threading.Thread(target=self._accept, name="leases", daemon=True).start()

    def send(self, sent: Submit | Cancel, visitor: Visitor | None) -> None:
        """Send to the visitor's lease; a request opens one if there is none."""
        name = None if visitor is None else visitor.name
        with self._lock:
            lease = self._by_visitor.get(name)
            if lease is None:
                if isinstance(sent, Cancel) or self._stopping.is_set():
                    return  # the request's lease has ended
                lease = _Lease(next(self._numbers), visitor)
                self._by_visitor[name] = self._by_number[lease.number] = lease
                threading.Thread(
                    target=self._run, args=(lease,), name=f"lease {lease.number}", daemon=True
                ).start()
            if isinstance(sent, Submit):
                more = _completions(sent)  # a request can come in parts
                lease.left[sent.request_id] = lease.left.get(sent.request_id, 0) + more
            if lease.outbox is not None:
                lease.outbox.put(sent)
            elif isinstance(sent, Submit):
                lease.unsent.append(sent)
            else:
                self._withdraw(lease, sent.request_id)

    def state(self, visitor: Visitor | None) -> LeaseState:
        """The present state of the visitor's lease."""
        with self._lock:
            lease = self._by_visitor.get(None if visitor is None else visitor.name)
            if lease is None:
                return LeaseState("asleep")
            if lease.ends is None:
                return LeaseState("waking")
            return LeaseState("awake", max(0, round(lease.ends - time.monotonic())))

    def stop(self) -> None:
        """End all leases; returns at once."""
        self._stopping.set()
        with self._lock:
            for lease in self._by_number.values():
                if lease.outbox is not None:
                    # closing is not enough: forked processes may have copies of the descriptor
                    lease.outbox.hang_up()
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _withdraw(self, lease: _Lease, request_id: int) -> None:
        """End a request that no engine has yet; with the lock held."""
        submits = [one for one in lease.unsent if one.request_id == request_id]
        if not submits:
            return  # an ending engine has it, and it will be sent again or end
        lease.unsent = [one for one in lease.unsent if one.request_id != request_id]
        why = message("end.cancelled")
        ends = tuple(
            Finished(request_id, "cancelled", why, "", 0, 0, one.seed, index)
            for one in submits
            for index in _indexes(one)
        )
        for _ in ends:  # an ending engine may have other completions of it
            _finish(lease.left, request_id)
        self._put(StepEvents(ends))

    def _run(self, lease: _Lease) -> None:
        """Run one lease; in a thread of its own."""
        self._stopping.wait(GATHER_SECONDS)
        with self._lock:
            lease.seconds = lease_seconds(lease.unsent, self._weight_bytes, self._slots)
        error: BaseException | None = None
        try:
            self._lend(lease.visitor, self._address, lease.number, lease.seconds)
        except BaseException as raised:  # the lender's errors have no common class
            error = raised
        with self._lock:
            del self._by_number[lease.number]
            if lease.outbox is not None:
                lease.outbox.hang_up()  # its process may hang, even amid a message
        if lease.reader is not None:
            lease.reader.join()  # it passes on the last events
        with self._lock:
            del self._by_visitor[None if lease.visitor is None else lease.visitor.name]
            left = tuple(lease.left)
        if left:
            self._put(
                Lost(left, *self._explain(error))
                if error is not None
                else Lapsed(left, NOTHING, False)
            )

    def _accept(self) -> None:
        """Accept connections from engines until `stop` is called."""
        while True:
            try:
                connection = self._listener.accept()
            except OSError:
                if self._stopping.is_set():  # `stop` has closed the listener
                    return
                raise
            try:
                limit(connection, CALL_SECONDS)  # a process that hangs must not block the others
                number = connection.recv()
                limit(connection, 0)
            except (EOFError, OSError):  # the process has ended already, or hangs
                connection.close()
                continue
            with self._lock:
                lease = self._by_number.get(number)
                if lease is None or not lease.left or self._stopping.is_set():
                    connection.close()  # no request is open any more
                    continue
                lease.outbox = Outbox(connection)
                lease.ends = time.monotonic() + lease.seconds
                for submit in lease.unsent:
                    lease.outbox.put(submit)
                lease.unsent.clear()
                lease.reader = threading.Thread(
                    target=self._read,
                    args=(lease, lease.outbox, connection),
                    name="lease reader",
                    daemon=True,
                )
                lease.reader.start()

    def _read(self, lease: _Lease, outbox: Outbox, connection: Connection) -> None:
        """Pass on what an engine sends, until it closes the connection."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                received: StepEvents = connection.recv()
                with self._lock:
                    for event in received.events:
                        if isinstance(event, Finished):
                            _finish(lease.left, event.request_id)
                self._put(received)
        with self._lock:
            lease.outbox = None
        outbox.close()


def lease_seconds(submits: Iterable[Submit], weight_bytes: int, slots: int) -> int:
    """Seconds of a GPU that these requests take together, when they start from a cold process."""
    step = max(SHORTEST_STEP, weight_bytes / STEP_BYTES_PER_SECOND)
    prompts, completions, longest = 0, 0, 0.0
    for submit in submits:
        params = submit.params
        writing = step * params.max_new_tokens
        if params.max_time:
            writing = min(writing, params.max_time)
        longest = max(longest, writing)
        prompts += len(submit.prompt_token_ids)
        completions += _completions(submit)
    rounds = math.ceil(completions / slots)
    seconds = BUILD_SECONDS + prompts / PREFILL_TOKENS_PER_SECOND + rounds * longest
    return math.ceil(min(max(seconds, SHORTEST), LONGEST))


def _completions(submit: Submit) -> int:
    return len(_indexes(submit))


def _indexes(submit: Submit) -> Collection[int]:
    """The completions that a message asks for."""
    resumption = submit.resumption
    return beginnings(submit.params, submit.expansion) if resumption is None else resumption.written


def _finish(left: dict[int, int], request_id: int) -> None:
    """Note that one completion of a request has ended."""
    if request_id in left:
        left[request_id] -= 1
        if not left[request_id]:
            del left[request_id]
