"""The engine process's life: load, then inbox -> schedule -> run -> outbox, until the web is gone.

A reading thread takes messages off the socket; the main thread owns the model. When the socket
closes, because the web process stopped or died, the process ends at once, whatever it is doing. An
exception in a step ends it too, with its traceback in the log: the state of the model is then
unknown, and the worker starts a fresh one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import torch

from gptj_demo.engine import checkpoint
from gptj_demo.engine.detokenizer import Detokenizer, token_bytes
from gptj_demo.engine.gptj import GPTJ
from gptj_demo.engine.runner import Runner
from gptj_demo.engine.sampler import RowSampler
from gptj_demo.engine.scheduler import Scheduler, Sequence
from gptj_demo.protocol import (
    Cancel,
    EngineStatus,
    Finished,
    FinishReason,
    ModelInfo,
    Refused,
    Started,
    StepEvents,
    Submit,
    TokenEvent,
    TokenizerReady,
)
from gptj_demo.sampling import SamplingParams
from gptj_demo.settings import Settings

logger = logging.getLogger(__name__)

REPORT_SECONDS = 0.1  # loading is reported at most this often
SMALL_MODEL = 100_000_000  # parameters; below, one thread: its steps are too short to be shared
LARGE_MODEL = 1_000_000_000

Event = Started | TokenEvent | Finished


class Generation:
    """One request in the engine: its place in the schedule, its text, and when it ends."""

    def __init__(
        self, request: Submit, table: list[bytes], context_length: int, end_of_text: int
    ) -> None:
        self.request = request
        self.sequence = Sequence(request.request_id, request.prompt_token_ids)
        self._detokenizer = Detokenizer(table, request.params.stop)
        self._context_length = context_length
        self._end_of_text = end_of_text

    def add(self, token_id: int) -> tuple[Event, ...]:
        """The events of a new token, which the sequence holds already."""
        generated = len(self.sequence.generated_token_ids)
        if token_id == self._end_of_text:
            return (self.finish("stop", "The model ended its text here."),)
        text = self._detokenizer.add(token_id)
        token = TokenEvent(self.request.request_id, token_id, text)
        if self._detokenizer.stopped_by is not None:
            stop = self._detokenizer.stopped_by
            return token, self.finish("stop", f"Stopped before {stop!r}, as you asked.")
        if generated == self.request.params.max_new_tokens:
            return token, self.finish("length", f"Wrote the {generated:,} tokens you asked for.")
        if self.sequence.length == self._context_length:
            full = f"The model's context of {self._context_length:,} tokens is full."
            return token, self.finish("length", full)
        return (token,)

    def finish(self, reason: FinishReason, message: str) -> Finished:
        """The last event; what was held back comes with it."""
        return Finished(
            request_id=self.request.request_id,
            reason=reason,
            message=message,
            text=self._detokenizer.finish(),
            prompt_tokens=self.sequence.prompt_length,
            completion_tokens=len(self.sequence.generated_token_ids),
            seed=self.request.seed,
        )


class Engine:
    """All requests of the process over one model."""

    def __init__(
        self, runner: Runner, table: list[bytes], end_of_text: int, prefill_budget: int
    ) -> None:
        self._runner = runner
        self._table = table
        self._end_of_text = end_of_text
        self._scheduler = Scheduler(runner.cache.max_streams, prefill_budget)
        self._generations: dict[int, Generation] = {}

    @property
    def is_idle(self) -> bool:
        return self._scheduler.is_idle

    def submit(self, request: Submit) -> None:
        """Put a request in line. It has been checked: ids are in range and there is room."""
        generation = Generation(
            request, self._table, self._runner.model.context_length, self._end_of_text
        )
        self._generations[request.request_id] = generation
        self._runner.add(
            request.request_id,
            RowSampler(
                request.params, request.seed, request.prompt_token_ids, self._runner.vocabulary
            ),
        )
        self._scheduler.add(generation.sequence)

    def cancel(self, request_id: int) -> Finished | None:
        """End a request; its last event, or None where it is over already."""
        generation = self._generations.get(request_id)
        if generation is None:
            return None
        self._remove(request_id)
        return generation.finish("cancelled", "Stopped.")

    def step(self) -> list[Event]:
        """One step of the model for all running requests; the events it made."""
        step = self._scheduler.schedule()
        events: list[Event] = [
            Started(sequence.request_id, sequence.prompt_length) for sequence in step.admitted
        ]
        for sequence, token_id in self._runner.run(step):
            generation = self._generations[sequence.request_id]
            events += generation.add(token_id)
            if isinstance(events[-1], Finished):
                self._remove(sequence.request_id)
        return events

    def _remove(self, request_id: int) -> None:
        del self._generations[request_id]
        self._scheduler.remove(request_id)
        self._runner.remove(request_id)


def warm_up(engine: Engine) -> None:
    """Run a short request through, so that the first visitor does not pay for lazy set-up."""
    params = SamplingParams(max_new_tokens=4)
    engine.submit(Submit(0, (0,) * 8, params, seed=0))
    engine.submit(Submit(-1, (0,), params, seed=0))
    while not engine.is_idle:
        engine.step()


def prefill_budget(parameters: int, device: str) -> int:
    """Prompt tokens a step, which are what the other streams wait for.

    256 tokens take the sample model 27 to 42 ms on one core. GPT-J 6B on a CPU gets few at a time;
    the number for CUDA is a start, to be measured.
    """
    if device == "cuda":
        return 512
    return 256 if parameters < LARGE_MODEL else 32


def load(settings: Settings, send: Callable[[object], None]) -> Engine:
    """Find, load and warm up the model, telling how far it is; raises `checkpoint.Refusal`."""
    last = 0.0

    def report(detail: str, progress: float | None = None) -> None:
        nonlocal last
        now = time.monotonic()
        if progress is None or progress >= 1 or now - last > REPORT_SECONDS:
            last = now
            send(EngineStatus("loading", detail, progress))

    report("Looking for a model this machine can hold")
    plan = checkpoint.make_plan(settings)
    tokenizer_json, end_of_text, vocabulary = checkpoint.load_tokenizer_json(plan, report)
    context_length = plan.config.n_positions
    send(TokenizerReady(tokenizer_json, context_length, vocabulary, end_of_text))
    loaded = checkpoint.load_model(plan, report)
    parameters = checkpoint.parameter_count(plan.config)
    if plan.device == "cpu" and parameters < SMALL_MODEL:
        torch.set_num_threads(1)  # and the page has the other cores
    model = GPTJ(loaded)
    report("Warming up")
    budget = prefill_budget(parameters, plan.device)
    runner = Runner(model, plan.max_streams, vocabulary)
    engine = Engine(runner, token_bytes(tokenizer_json), end_of_text, budget)
    warm_up(engine)
    info = ModelInfo(
        name=plan.name,
        revision=plan.revision,
        is_sample=plan.is_sample,
        precision=plan.precision,
        device=plan.device,
        device_name=plan.device_name,
        parameters=parameters,
        weight_bytes=checkpoint.weight_bytes(plan.config, plan.precision),
        context_length=context_length,
        vocabulary_size=vocabulary,
        bos_token_id=end_of_text,
        max_streams=plan.max_streams,
        why=plan.why,
    )
    send(EngineStatus("ready", plan.why, model=info))
    return engine


def serve(
    engine: Engine, inbox: queue.SimpleQueue[Submit | Cancel], send: Callable[[object], None]
) -> None:
    """Work through the inbox for ever, one message out for each step."""
    while True:
        events: list[Event] = []
        message = inbox.get() if engine.is_idle else _get_nowait(inbox)
        while message is not None:
            if isinstance(message, Submit):
                engine.submit(message)
            elif (finished := engine.cancel(message.request_id)) is not None:
                events.append(finished)
            message = _get_nowait(inbox)
        events += engine.step()
        if events:
            send(StepEvents(tuple(events)))


def _get_nowait(inbox: queue.SimpleQueue[Submit | Cancel]) -> Submit | Cancel | None:
    try:
        return inbox.get_nowait()
    except queue.Empty:
        return None


def main(descriptor: int) -> None:
    """Run the engine over an inherited socket; the first message on it is the `Settings`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is the web process's to handle
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    connection = Connection(descriptor)
    settings = connection.recv()
    inbox: queue.SimpleQueue[Submit | Cancel] = queue.SimpleQueue()

    def read() -> None:
        try:
            while True:
                inbox.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)

    threading.Thread(target=read, name="inbox", daemon=True).start()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the web process is gone
        try:
            engine = load(settings, connection.send)
        except checkpoint.Refusal as refusal:
            connection.send(Refused(str(refusal)))
            sys.exit(2)
        serve(engine, inbox, connection.send)
