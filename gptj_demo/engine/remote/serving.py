"""Runs an engine whose model another server computes: waits for the server, examines it, serves."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from gptj_demo.engine.load.errors import Refusal
from gptj_demo.engine.load.tokenizer import load_tokenizer
from gptj_demo.engine.remote.abilities import Abilities, find_abilities
from gptj_demo.engine.remote.bodies import Bodies
from gptj_demo.engine.remote.origin import find_origin
from gptj_demo.engine.remote.reading import Tokens
from gptj_demo.engine.remote.requests import Requests
from gptj_demo.engine.remote.server import Busy, Json, NoAnswer, NoEntry, Rejected, Server
from gptj_demo.pages import in_pages
from gptj_demo.protocol import Cancel, EngineStatus, ModelInfo, Submit, TokenizerReady
from gptj_demo.served import BACKEND, Served
from gptj_demo.settings import Settings
from gptj_demo.texts import message
from gptj_demo.tokenization import Vocabulary, token_bytes

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""Pause between two attempts to reach a server that does not answer."""
CHECK_SECONDS = 10.0
"""Pause between two checks that the server still answers."""
STREAMS_BY_DEFAULT = 32
SPARE_CONNECTIONS = 4
"""Connections besides those of the completions; the client sends an eighth more completions than
there are slots."""

Send = Callable[[object], None]


class ServerLost(Exception):
    """The server no longer answers."""


@dataclass(frozen=True, slots=True)
class _Met:
    """A server that answers, and what is known of its model."""

    model: str
    tokenizer: TokenizerReady
    tokens: Tokens
    abilities: Abilities


def serve(settings: Settings, inbox: queue.SimpleQueue[Submit | Cancel], send: Send) -> None:
    """Serve the inbox until the server is lost: raises `ServerLost`, or `Refusal` before that."""
    asyncio.run(_serve(settings, inbox, send))


async def _serve(settings: Settings, inbox: queue.SimpleQueue[Submit | Cancel], send: Send) -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it has a line for each request
    streams = settings.max_num_seqs or STREAMS_BY_DEFAULT
    key = settings.url_key
    secret = None if key is None else key.get_secret_value()
    assert settings.url is not None  # `make_backend` has checked it
    connections = streams + streams // 8 + SPARE_CONNECTIONS
    async with Server(settings.url, secret, connections) as server:
        met = await _wait_for(server, settings, send)
        send(met.tokenizer)
        model = _describe(server, met, streams)
        logger.info("%s", model.why)
        send(EngineStatus("ready", model.why, model=model))
        await _work(server, met, inbox, send)


async def _wait_for(server: Server, settings: Settings, send: Send) -> _Met:
    """The server, once it answers; raises `Refusal`."""
    while (met := await _try(server, settings, send)) is None:
        await asyncio.sleep(LOOK_SECONDS)
    return met


async def _try(server: Server, settings: Settings, send: Send) -> _Met | None:
    """The server if it answers; raises `Refusal`."""
    try:
        return await _meet(server, settings, send)
    except NoEntry as error:
        raise Refusal(
            f"The server at {server.name} does not accept the key ({error}): set GPTJ_URL_KEY to "
            "one that it knows."
        ) from None
    except Rejected as error:
        raise Refusal(
            f"The server at {server.name} cannot be used ({error}): check url, which mostly ends "
            "in /v1."
        ) from None
    except (NoAnswer, Busy) as error:
        waiting = message("status.waiting_for_server", server=server.name, why=str(error))
        send(EngineStatus("loading", waiting))
        return None


async def _meet(server: Server, settings: Settings, send: Send) -> _Met:
    """The server's model, tokenizer and abilities; raises `Refusal` or `ServerError`."""
    chosen = await _choose(server, settings.model)

    def report(detail: object, progress: float | None = None) -> None:
        send(EngineStatus("loading", detail, progress))  # type: ignore[arg-type]

    def load() -> TokenizerReady:
        origin = find_origin(settings.tokenizer, settings.revision, chosen)
        return load_tokenizer(origin, report)[0]

    tokenizer = await asyncio.to_thread(load)
    vocabulary = Vocabulary.of(tokenizer)
    tokens = Tokens(vocabulary, token_bytes(tokenizer.tokenizer_json))
    abilities = await find_abilities(server, str(chosen["id"]), tokens)
    return _Met(str(chosen["id"]), tokenizer, tokens, abilities)


async def _choose(server: Server, wanted: str) -> Json:
    """The entry of the model in the server's list; raises `Refusal` or `ServerError`."""
    try:
        listed = (await server.get("/models")).get("data")
    except Rejected as error:
        if error.status != 404 or wanted == "auto":
            raise
        return {"id": wanted}
    models = [one for one in listed or () if isinstance(one, dict) and "id" in one]
    if not models:
        raise Busy("it has loaded no model yet", LOOK_SECONDS)
    names = ", ".join(str(one["id"]) for one in models)
    if wanted != "auto":
        for one in models:
            if str(one["id"]).casefold() == wanted.casefold():
                return one
        raise Refusal(f"The server at {server.name} has no model {wanted}; it has {names}.")
    if len(models) > 1:
        raise Refusal(f"The server at {server.name} has several models: set model to one: {names}.")
    return models[0]


def _describe(server: Server, met: _Met, streams: int) -> ModelInfo:
    tokenizer = met.tokenizer
    return ModelInfo(
        name=met.model,
        revision=None,
        is_sample=False,
        maker=server.name,
        licence=None,
        adapters=(),
        precision="reduced mode",
        device=server.name,
        device_name=server.name,
        forward_path=BACKEND,
        parameters=0,
        weight_bytes=0,
        context_length=tokenizer.context_length,
        vocabulary_size=tokenizer.vocabulary_size,
        bos_token_id=tokenizer.bos_token_id,
        max_num_seqs=streams,
        # the server schedules requests itself, so each stream can have a whole context
        max_tokens=streams * in_pages(tokenizer.context_length),
        why=message("why.served", server=server.name),
        served=Served(server.name, met.abilities.lacks),
    )


async def _work(
    server: Server, met: _Met, inbox: queue.SimpleQueue[Submit | Cancel], send: Send
) -> None:
    """Serve the inbox; raises `ServerLost`."""
    loop = asyncio.get_running_loop()
    lost: asyncio.Future[None] = loop.create_future()

    def lose(why: str) -> None:
        if not lost.done():
            lost.set_exception(ServerLost(why))

    context = met.tokenizer.context_length
    bodies = Bodies(met.model, met.abilities, met.tokens, context)
    requests = Requests(server, bodies, met.tokens, context, send, lose)

    def take(received: Submit | Cancel) -> None:
        if isinstance(received, Submit):
            requests.submit(received)
        else:
            requests.cancel(received.request_id)

    def pass_on() -> None:
        while True:
            loop.call_soon_threadsafe(take, inbox.get())

    threading.Thread(target=pass_on, name="requests", daemon=True).start()
    checks = loop.create_task(_check(server, met.model, lose))
    try:
        await lost
    finally:
        checks.cancel()
        requests.close()


async def _check(server: Server, model: str, lose: Callable[[str], None]) -> None:
    """Check from time to time that the server still answers, with the same model."""
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        try:
            await _choose(server, model)
        except NoAnswer as error:
            lose(str(error))
        except Refusal as refusal:
            lose(str(refusal))
        except (Busy, NoEntry, Rejected):
            pass  # it answers
