"""The whole page, and how it is served."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from gradio.events import api
from starlette.middleware import Middleware
from starlette.routing import Mount

from gptj_demo.api.access import Access
from gptj_demo.client import Worker
from gptj_demo.client.reports import Reports
from gptj_demo.ui.about import build_about
from gptj_demo.ui.assets import ASSETS, boot_script, read_styles, serve_assets
from gptj_demo.ui.blocks import PageBlocks
from gptj_demo.ui.branches import build_branches
from gptj_demo.ui.compare import build_compare
from gptj_demo.ui.gradio_api import build_api
from gptj_demo.ui.gradio_assets import serve_gradio_assets
from gptj_demo.ui.likely import build_likely
from gptj_demo.ui.model_status import ModelStatus, describe_status
from gptj_demo.ui.report import Report
from gptj_demo.ui.sessions import bound_queue, share_state
from gptj_demo.ui.share import Share, build_code_api
from gptj_demo.ui.theme import Paper
from gptj_demo.ui.why import build_why
from gptj_demo.ui.write import build_write
from gptj_demo.web.answers import PageScripts, answer_failure, answer_invalid
from gptj_demo.web.kept_page import KeptPage
from gptj_demo.web.origins import listed

TITLE = "GPT-J Playground"
MAX_EVENTS = 1000  # above the worker's limit, so users see its message
HEAD = """
<meta name="description" content="Write with GPT-J, a base language model, in your browser.">
<meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover">
"""

VIEWS: dict[str, Callable[[Worker], None]] = {
    "write": build_write,
    "branches": build_branches,
    "compare": build_compare,
    "likely": build_likely,
    "why": build_why,
    "about": build_about,
}
"""The views of the page, which shows one at a time. Views are registered only here.

Each function builds the view of that name; its files are in `assets/views/NAME/`."""


def build_page(worker: Worker, access: Access) -> gr.Blocks:
    """The page's Blocks, to be mounted with `page_options()`."""

    async def status() -> dict[str, Any]:
        """Which model answers, how far it has loaded, and how many requests run and wait."""
        return describe_status(worker)

    page = PageBlocks(title=TITLE, analytics_enabled=False, fill_width=True)
    with page:
        ModelStatus(worker, VIEWS, elem_id="model-status")
        for name, build in VIEWS.items():
            with gr.Column(elem_id=f"view-{name}", elem_classes="view"):
                build(worker)
        Share(worker, access, elem_id="share")
        if worker.settings.reports is not None:
            Report(worker, Reports(worker.settings.reports), elem_id="report")
        build_api(worker)
        build_code_api(worker, access)
        api(status, api_name="status")
    page.max_threads = MAX_EVENTS  # it caps running events, which hold no thread here
    page.queue(max_size=MAX_EVENTS, default_concurrency_limit=None)
    bound_queue(page)
    return page


def page_options() -> dict[str, Any]:
    """How the page is served: arguments that `Blocks.launch` and `mount_gradio_app` share."""
    return {
        "theme": Paper(),
        # not as `css`: Gradio would add each rule twice and lose shorthands that hold a variable
        "head": f"{HEAD}<style>{_styles()}</style><script>{_boot_script()}</script>",
        "favicon_path": ASSETS / "favicon.svg",
        "ssr_mode": False,  # its proxy would stand between visitors and our routes
        "run_history": False,  # the editor already keeps the texts
        "footer_links": ["api"],  # opened from About; the footer itself is hidden
        "enable_monitoring": False,
        "show_error": True,
    }


def _boot_script() -> str:
    return boot_script([*VIEWS])


def _styles() -> str:
    """All styles, with the rule that shows one view at a time."""
    shown = ", ".join(f'html[data-view="{name}"] #view-{name}' for name in VIEWS)
    return f"{read_styles()}\n{shown} {{ display: flex; }}"


def mount_page(
    app: FastAPI, page: gr.Blocks, worker: Worker, login: list[tuple[str, str]] | None
) -> None:
    """Serve the page at the root of an application, after its existing routes."""
    settings = worker.settings
    serve_assets(app)
    serve_gradio_assets(app)
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        server_name=settings.server_name,
        server_port=settings.server_port,
        auth=login,
        **page_options(),
    )
    share_state(page, app.routes[-1])
    mounted = app.routes[-1]
    assert isinstance(mounted, Mount)
    assert isinstance(mounted.app, FastAPI)
    scripts = Middleware(
        PageScripts, scripts=[_boot_script()], frames=listed(settings.frame_origins)
    )
    mounted.app.add_exception_handler(RequestValidationError, answer_invalid)
    mounted.app.add_exception_handler(Exception, answer_failure)
    if login is None:  # else the page shows the visitor's name, or asks for a password
        mounted.app.user_middleware.append(Middleware(KeptPage))
    mounted.app.user_middleware.append(scripts)  # innermost: before Gradio compresses the page
