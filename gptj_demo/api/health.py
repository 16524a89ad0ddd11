"""Routes for monitoring: liveness, readiness and metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gptj_demo.api.context import Context
from gptj_demo.api.description import ERRORS
from gptj_demo.api.metrics import CONTENT_TYPE, Metrics
from gptj_demo.software import software_version
from gptj_demo.texts import message

DRAINING = message("refused.draining")


class Health:
    """`/healthz`, `/health`, `/readyz`, `/version` and `/metrics`."""

    def __init__(self, api: Context, metrics: Metrics) -> None:
        self._api = api
        self._metrics = metrics

    def add_to(self, router: APIRouter) -> None:
        not_ready: dict[int | str, Any] = {503: {"description": "Not yet, or not now."}}
        plain_text = {"content": {"text/plain": {"schema": {"type": "string"}}}}
        router.get("/healthz")(self.healthz)
        router.get("/readyz", responses=not_ready)(self.readyz)
        router.get("/health", responses=not_ready)(self.readyz)
        router.get("/version")(self.version)
        router.get(
            "/metrics", response_class=Response, responses={200: plain_text, 401: ERRORS[401]}
        )(self.metrics)

    async def healthz(self) -> Response:
        """Whether the web process runs."""
        return JSONResponse({"status": "ok"})

    async def readyz(self) -> Response:
        """Whether the model answers, and new requests are taken."""
        worker = self._api.worker
        status = worker.status
        if worker.is_draining and status.state != "failed":
            return JSONResponse({"status": "draining", "detail": str(DRAINING)}, 503)
        body = {"status": status.state, "detail": str(status.detail), "progress": status.progress}
        return JSONResponse(body, 200 if status.state == "ready" else 503)

    async def version(self) -> Response:
        """The version of the software, a part of system_fingerprint."""
        return JSONResponse({"version": software_version()})

    async def metrics(self, request: Request) -> Response:
        """Metrics in Prometheus's text format."""
        self._api.access.identify_monitor(request)
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)
