"""The whole site as one application: middleware around the routes of the API and the page."""

from __future__ import annotations

import gradio as gr
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from gptj_demo.settings import Settings
from gptj_demo.web.answers import Answers
from gptj_demo.web.calls import Calls
from gptj_demo.web.forwarded import Forwarded
from gptj_demo.web.guard import Guard
from gptj_demo.web.logins import Logins
from gptj_demo.web.origins import listed


def protect(app: ASGIApp, page: gr.Blocks, settings: Settings) -> ASGIApp:
    """The application behind the middleware of `gptj_demo.web`; `page` is mounted on it."""
    guarded: ASGIApp = Guard(Logins(app), settings, Calls(page))
    answering: ASGIApp = Answers(guarded, listed(settings.frame_origins))
    origins = listed(settings.cors_origins)
    if origins:  # the outermost, so that these sites can read every answer, refusals too
        answering = CORSMiddleware(
            answering,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],  # clients send headers of their own, such as X-Stainless-OS
            allow_private_network=True,
            expose_headers=["X-Request-Id", "Retry-After"],
        )
    return Forwarded(answering, settings.trusted_proxies)
