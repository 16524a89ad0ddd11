"""The status line at the top: model, precision, device, and loading progress."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import psutil

from gptj_demo.client import Worker
from gptj_demo.software import software_version
from gptj_demo.ui.assets import read_asset
from gptj_demo.ui.component import ModuleHTML


def describe_status(worker: Worker) -> dict[str, Any]:
    """The model's status for page and API: state, detail, progress, model, streams."""
    status = worker.status
    model = status.model
    return {
        "state": status.state,
        "detail": str(status.detail),
        "texts": {
            "detail": status.detail.json(),
            "why": None if model is None else model.why.json(),
        },
        "progress": status.progress,
        "context_length": worker.context_length,
        "streams_running": worker.streams_running,
        "streams_waiting": worker.streams_waiting,
        "tokens_reserved": worker.tokens_reserved,
        "tokens_written": worker.tokens_written,
        "engine_memory_bytes": _memory_of(worker.engine_pid),
        "software": software_version(),
        "filter": None if worker.moderation is None else worker.moderation.described(),
        "is_lent": worker.lease(None) is not None,
        "takes_reports": worker.settings.reports is not None,
        "model": None
        if model is None
        else {
            "name": model.full_name,
            "revision": model.revision,
            "is_sample": model.is_sample,
            "licence": model.licence,
            "adapters": model.adapters,
            "precision": model.precision,
            "device": model.device,
            "device_name": model.device_name,
            "parameters": model.parameters,
            "weight_bytes": model.weight_bytes,
            "max_num_seqs": model.max_num_seqs,
            "max_tokens": model.max_tokens,
            "why": str(model.why),
            "served": None if model.served is None else asdict(model.served),
        },
    }


def _memory_of(pid: int | None) -> int | None:
    """Bytes of the machine's memory that a process holds, None where there is no such process."""
    try:
        return None if pid is None else int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None


class ModelStatus(ModuleHTML):
    """Polls the status, often while the model loads and rarely afterwards.

    The other components get it from the page's event `status` (`assets/core/events.js`).
    """

    def __init__(self, worker: Worker, views: Iterable[str], **options: Any) -> None:
        async def status(_: Any) -> dict[str, Any]:
            return describe_status(worker)

        tabs = "".join(
            f'<button type="button" data-goes-to="{view}" data-text="view.{view}"></button>'
            for view in views
        )
        markup = read_asset("components/model_status.html").replace("<!-- views -->", tabs)
        super().__init__(
            "components/model_status", html_template=markup, server_functions=[status], **options
        )
