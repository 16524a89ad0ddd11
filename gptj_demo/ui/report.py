"""The dialog with which a visitor reports a text; only there if the deployer set a file for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from gptj_demo.client import RequestRefused, Worker
from gptj_demo.client.reports import MAX_CHARACTERS, Reports
from gptj_demo.client.visitor import address_of
from gptj_demo.texts import message
from gptj_demo.ui.component import ModuleHTML
from gptj_demo.ui.share import check


class Report(ModuleHTML):
    """The dialog. The button is in the editor's menu (`data-report` in `editor.html`)."""

    def __init__(self, worker: Worker, reports: Reports, **options: Any) -> None:
        async def report(asked: Any, browser: gr.Request) -> dict[str, Any]:
            given: Mapping[str, Any] = asked if isinstance(asked, dict) else {}
            # a report contains only valid values of controls
            controls = check(given.get("controls"))["values"]
            try:
                reports.add(
                    address_of(browser),
                    str(given.get("text", "")),
                    str(given.get("reason", "")),
                    controls,
                    _model_of(worker),
                )
            except RequestRefused as refusal:
                return {"kept": False, **refusal.message.described()}
            return {"kept": True, **message("report.sent").described()}

        super().__init__(
            "components/report/report",
            most=MAX_CHARACTERS,
            server_functions=[report],
            **options,
        )


def _model_of(worker: Worker) -> dict[str, Any]:
    model = worker.model
    if model is None:
        return {}
    return {"name": model.full_name, "revision": model.revision, "precision": model.precision}
