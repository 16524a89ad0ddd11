"""The web process's side of the engine; `worker.Worker` is its entry."""

from gptj_demo.client.places import PlacedPrompt, place_prompt
from gptj_demo.client.refusal import RefusalKind, RequestRefused
from gptj_demo.client.stream import Observer, Stream
from gptj_demo.client.worker import Worker

__all__ = [
    "Observer",
    "PlacedPrompt",
    "RefusalKind",
    "RequestRefused",
    "Stream",
    "Worker",
    "place_prompt",
]
