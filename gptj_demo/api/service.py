"""The API as an application: its routes and middleware."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import HTMLResponse

from gptj_demo.api import docs, tracing
from gptj_demo.api.access import Access
from gptj_demo.api.access_log import write_line
from gptj_demo.api.context import Context
from gptj_demo.api.description import DESCRIPTION, ERRORS, TITLE, describe_api
from gptj_demo.api.front import Front, Log, add_error_answers, add_fallbacks
from gptj_demo.api.health import Health
from gptj_demo.api.kobold import Kobold
from gptj_demo.api.likely import Likely
from gptj_demo.api.mcp import Mcp
from gptj_demo.api.metrics import Metrics
from gptj_demo.api.openai import OpenAI
from gptj_demo.api.pipeline_cloud import PipelineCloud
from gptj_demo.api.score import Score
from gptj_demo.api.tokens import Tokens
from gptj_demo.client import Worker
from gptj_demo.settings import Settings


def build_service(worker: Worker, access: Access) -> FastAPI:
    """The application with the API's routes, on which the page is mounted.

    From here on the worker's requests are counted.
    """
    settings = worker.settings
    metrics = Metrics(worker)
    worker.observer = metrics
    app = FastAPI(title=TITLE, description=DESCRIPTION, docs_url=None, redoc_url=None)
    app.include_router(_routes(app, Context(worker, settings, access), metrics))
    # It allows no origin. Without it, Gradio would add one that allows all; see `web.site`.
    app.add_middleware(CORSMiddleware)
    app.add_middleware(
        Front,
        metrics=metrics,
        max_body_bytes=settings.max_body_bytes,
        logs=_logs(settings),
    )
    add_error_answers(app)
    describe_api(app, access)
    return app


def _logs(settings: Settings) -> list[Log]:
    logs: list[Log] = [write_line] if settings.access_log == "json" else []
    if tracing.is_installed():
        logs.append(tracing.add_to_span)
    return logs


def _routes(app: FastAPI, api: Context, metrics: Metrics) -> APIRouter:
    """All routes of the API."""
    router = APIRouter(responses=ERRORS)
    families = (
        OpenAI(api),
        Score(api),
        Likely(api),
        Tokens(api),
        PipelineCloud(api),
        Kobold(api),
        Mcp(api),
    )
    for family in families:
        family.add_to(router)
    plain = APIRouter()
    Health(api, metrics).add_to(plain)
    plain.get("/docs", include_in_schema=False)(lambda: HTMLResponse(docs.page(app.openapi())))
    add_fallbacks(plain)
    router.include_router(plain)
    return router
