"""The web process's side of the engine; `worker.Worker` is its entry."""

from gptj_demo.client.refusal import RefusalKind, RequestRefused
from gptj_demo.client.stream import Observer, Stream
from gptj_demo.client.worker import Worker

__all__ = ["Observer", "RefusalKind", "RequestRefused", "Stream", "Worker"]
