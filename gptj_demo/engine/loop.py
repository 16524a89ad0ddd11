"""The engine process's main loop: load, then inbox -> schedule -> run -> outbox until EOF.

A reader thread takes messages off the socket; the main thread owns the model. When the socket
closes, because the web process stopped or died, the process ends at once. An exception in a step
ends it too, with a traceback in the log: the model's state is then unknown, and the worker starts a
new engine.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection

import torch

from gptj_demo.engine import load as loading
from gptj_demo.engine.compilation import has_compiled
from gptj_demo.engine.engine import Engine, EngineVocabulary
from gptj_demo.engine.model import UnfitBackend, build_model, use_cores
from gptj_demo.engine.model.base import ForwardModel, Report
from gptj_demo.engine.pulse import Pulse
from gptj_demo.engine.runner import Runner
from gptj_demo.protocol import (
    Cancel,
    Compiled,
    EngineEvent,
    EngineStatus,
    ModelInfo,
    Refused,
    StepEvents,
    Submit,
)
from gptj_demo.sampling import SamplingParams
from gptj_demo.settings import Settings
from gptj_demo.texts import Message, first_line, joined, message
from gptj_demo.tokenization import token_bytes

logger = logging.getLogger(__name__)

REPORT_SECONDS = 0.1  # loading is reported at most this often


def warm_up(engine: Engine, prompt_tokens: int = 8) -> None:
    """Run one request, so that the first visitor does not wait for lazy set-up.

    On a GPU its prompt fills the context, which needs the most memory for activations, so a lack of
    memory shows here.
    """
    params = SamplingParams(max_new_tokens=4)
    engine.submit(Submit(0, (0,) * prompt_tokens, params, seed=0))
    engine.submit(Submit(-1, (0,), params, seed=0))
    while not engine.is_idle:
        engine.step()


def load(settings: Settings, send: Callable[[object], None]) -> Engine:
    """Find, load and warm up the model, reporting progress; raises `loading.Refusal`.

    Whatever goes wrong here is a refusal: the files, the settings and the machine would be the same
    at the next start.
    """
    try:
        return _load(settings, send)
    except (loading.Refusal, BrokenPipeError, ConnectionResetError, SystemExit):
        raise
    except BaseException as error:  # a panic of the libraries written in Rust is no `Exception`
        logger.debug("loading failed", exc_info=True)
        model, problem = settings.model, f"{type(error).__name__}, {first_line(error)}"
        raise loading.Refusal(
            f"The model {model} cannot be loaded ({problem}): check its files, or set model to "
            "another one or to sample."
        ) from error


def _load(settings: Settings, send: Callable[[object], None]) -> Engine:
    last = 0.0

    def report(detail: Message, progress: float | None = None) -> None:
        nonlocal last
        now = time.monotonic()
        if progress is None or progress >= 1 or now - last > REPORT_SECONDS:
            last = now
            send(EngineStatus("loading", detail, progress))

    report(message("status.choosing"))
    plan = loading.make_plan(settings)
    tokenizer, note = loading.load_tokenizer(plan, report)
    send(tokenizer)
    loaded = loading.load_model(plan, report)
    use_cores(loaded)
    try:
        model, choice = build_model(loaded, settings.backend)
    except UnfitBackend as error:
        raise loading.Refusal(str(error)) from None
    report(message("status.warming_up"))
    vocabulary = EngineVocabulary(
        token_bytes(tokenizer.tokenizer_json),
        tokenizer.vocabulary_size,
        tokenizer.context_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_ids=tokenizer.eos_token_ids,
        unused_token_ids=tokenizer.unused_token_ids,
    )
    may_shrink = settings.max_streams is None
    while (started := _try_engine(model, plan, vocabulary, report)) is None:
        if not may_shrink or plan.max_streams == 1:
            streams = "1 stream" if plan.max_streams == 1 else f"{plan.max_streams} streams"
            raise loading.Refusal(
                f"{plan.name} in {plan.precision} with {streams} ran out of "
                f"memory on {plan.device_name} while it was tried: free some memory there, set "
                "max_streams to fewer, or precision to int8."
            )
        fewer = plan.max_streams * 3 // 4
        logger.warning("%d streams ran out of memory; trying %d", plan.max_streams, fewer)
        plan = replace(plan, max_streams=fewer)
    engine, slower = started
    if has_compiled():
        send(Compiled())
    missing = choice.unavailable
    uncompiled = None if missing is None else message("why.slower", reason=missing)
    path = message("why.path", path=choice.path)
    why = joined(plan.why, path, *(one for one in (note, slower, uncompiled) if one is not None))
    info = ModelInfo(
        name=plan.name,
        revision=plan.revision,
        is_sample=plan.is_sample,
        maker=plan.family.maker,
        licence=plan.licence,
        adapters=tuple(adapter.label for adapter in plan.adapters),
        precision=plan.precision,
        device=plan.device,
        device_name=plan.device_name,
        parameters=loading.parameter_count(plan.config),
        forward_path=choice.path,
        weight_bytes=loading.weight_bytes(plan.config, plan.precision),
        context_length=tokenizer.context_length,
        vocabulary_size=tokenizer.vocabulary_size,
        bos_token_id=tokenizer.bos_token_id,
        max_streams=plan.max_streams,
        why=why,
    )
    logger.info("%s", why)
    send(EngineStatus("ready", why, model=info))
    return engine


def _try_engine(
    model: ForwardModel, plan: loading.Plan, vocabulary: EngineVocabulary, report: Report
) -> tuple[Engine, Message | None] | None:
    """The result of `_start_engine`; None if the plan's streams need more memory than is free."""
    try:
        return _start_engine(model, plan, vocabulary, report)
    except torch.OutOfMemoryError:
        pass  # the traceback keeps the tensors alive until here
    model.release()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def _start_engine(
    model: ForwardModel, plan: loading.Plan, vocabulary: EngineVocabulary, report: Report
) -> tuple[Engine, Message | None]:
    """An engine that has answered a request, and why it decodes slower than planned, if it does."""
    unused = sorted(vocabulary.unused_token_ids)
    runner = Runner(model, plan.max_streams, vocabulary.size, unused)
    engine = Engine(runner, vocabulary, model.prefill_budget)
    slower = runner.prepare(report)
    warm_up(engine, model.warm_up_tokens)
    return engine, slower


def serve(
    engine: Engine,
    inbox: queue.SimpleQueue[Submit | Cancel],
    send: Callable[[object], None],
    pulse: Pulse,
) -> None:
    """Serve the inbox forever; each step sends one message."""
    while True:
        events: list[EngineEvent] = []
        received = inbox.get() if engine.is_idle else _get_nowait(inbox)
        while received is not None:
            if isinstance(received, Submit):
                engine.submit(received)
            else:
                events += engine.cancel(received.request_id)
            received = _get_nowait(inbox)
        pulse.begin_step()
        events += engine.step()
        pulse.end_step()
        if events:
            send(StepEvents(tuple(events)))


def _get_nowait(inbox: queue.SimpleQueue[Submit | Cancel]) -> Submit | Cancel | None:
    try:
        return inbox.get_nowait()
    except queue.Empty:
        return None


def main(descriptor: int) -> None:
    """Run the engine over an inherited socket; the first message on it is the `Settings`."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    if sys.flags.dev_mode:  # PYTHONDEVMODE=1 shows why loading failed, with the traceback
        logger.setLevel(logging.DEBUG)
    connection = Connection(descriptor)
    settings = connection.recv()
    inbox: queue.SimpleQueue[Submit | Cancel] = queue.SimpleQueue()

    def read() -> None:
        try:
            while True:
                inbox.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)

    sending = threading.Lock()

    def send(message: object) -> None:
        with sending:
            connection.send(message)

    threading.Thread(target=read, name="inbox", daemon=True).start()
    pulse = Pulse(send)
    pulse.start()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the web process is gone
        try:
            engine = load(settings, send)
        except loading.Refusal as refusal:
            send(Refused(str(refusal)))
            sys.exit(2)
        serve(engine, inbox, send, pulse)
    os._exit(0)  # at once, without waiting for threads of libraries
