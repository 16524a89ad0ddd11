"""An engine whose model another server computes: it asks that server's completions API."""

from gptj_demo.engine.remote.serving import ServerLost, serve

__all__ = ["ServerLost", "serve"]
