"""The whole site in the test's own process, with an engine that is never started."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import gradio as gr
import httpx
import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp

from gptj_demo.api.access import Access, read_login
from gptj_demo.api.service import build_service
from gptj_demo.client import Worker
from gptj_demo.settings import Settings
from gptj_demo.ui.page import build_page, mount_page
from gptj_demo.web.site import protect


@dataclass
class WholeSite:
    """The page, the routes behind the middleware, and the application with the middleware."""

    page: gr.Blocks
    routes: FastAPI
    application: ASGIApp

    def ask(self, method: str, path: str, peer: str = "127.0.0.1", **options: Any) -> Any:
        """The response to one request from `peer`; `options` are those of httpx."""

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.application, client=(peer, 1))
            async with httpx.AsyncClient(
                transport=transport, base_url=options.pop("base_url", "http://localhost:7860")
            ) as client:
                return await client.request(method, path, **options)

        return asyncio.run(send())


def build_site(**settings: Any) -> WholeSite:
    """The site with these settings; its engine process is not started."""

    async def build() -> WholeSite:
        worker = Worker(Settings(model="sample", **settings))
        access = Access(worker.settings)
        routes = build_service(worker, access)
        page = build_page(worker, access)
        mount_page(routes, page, worker, read_login(worker.settings))
        return WholeSite(page, routes, protect(routes, page, worker.settings))

    return asyncio.run(build())  # Gradio makes an event loop, and leaves it open, if none runs


@pytest.fixture(scope="package")
def site() -> WholeSite:
    return build_site()
