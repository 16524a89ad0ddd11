"""Shares the screen as a link or as code, and opens shared links.

A link holds everything in the URL's fragment, which browsers do not send to the server.
`assets/components/share/` makes, reads and replays links. The server checks a link's settings
against the table of controls and generates the code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import api

from gptj_demo.api.access import Access
from gptj_demo.api.models import GPT_J, model_id
from gptj_demo.client import RequestRefused, Worker
from gptj_demo.client.prompt import MAX_PROMPT_CHARACTERS
from gptj_demo.control import Control
from gptj_demo.control_values import InvalidControl, make_params, write_value
from gptj_demo.sampling import CONTROLS, MAX_NEW_TOKENS
from gptj_demo.texts import message, quoted
from gptj_demo.ui.component import ModuleHTML, read_asked
from gptj_demo.ui.generation import read_controls
from gptj_demo.ui.inputs import require_object, require_string
from gptj_demo.ui.snippets import ADAPTERS_BASE, IN_REPOSITORY, MODEL_FOLDER, Place, make_snippets

SAMPLE_FOLDER = "assets/sample-model"
MAX_ADDRESS = 1000  # characters
BESIDE_ALL = {"max_new_tokens": MAX_NEW_TOKENS, "echo": True, "must_match_text": "x"}
"""Values that cannot contradict another control."""
MAX_QUOTED = 40  # characters of an unknown name in a message


class Share(ModuleHTML):
    """The dialogs for link and code, and the content of an opened link.

    The buttons are in the editor (`data-share` in `assets/views/write/editor.html`).
    """

    def __init__(self, worker: Worker, access: Access, **options: Any) -> None:
        async def check_settings(values: Any) -> dict[str, Any]:
            return check(values)

        async def write_code(sent: Any) -> dict[str, Any]:
            asked, _ = read_asked(sent)
            controls = asked.get("controls")
            prompt, address = str(asked.get("prompt", "")), str(asked.get("address", ""))
            try:
                params = read_controls(controls if isinstance(controls, dict) else {})
                return {"snippets": await _snippets(worker, access, prompt, params, address)}
            except (InvalidControl, RequestRefused) as refusal:
                return refusal.message.described()

        super().__init__(
            "components/share/share",
            table=[_describe(control) for control in CONTROLS],
            server_functions=[check_settings, write_code],
            **options,
        )


def build_code_api(worker: Worker, access: Access) -> None:
    """Add `/code` to the present Blocks."""

    async def code(
        caller: gr.Request,
        prompt: str,
        controls: dict[str, Any] | None = None,
        address: str = "",
    ) -> dict[str, str]:
        """Code that continues a prompt: with the openai client, curl, gradio_client, transformers.

        prompt: The text to continue.
        controls: Those that differ from the defaults, by name.
        address: The playground's URL in the code; left out, the one at which this is called.
        """
        require_string(prompt=prompt, address=address)
        address = address or str(caller.base_url)
        require_object(controls=controls or {})
        try:
            snippets = await _snippets(worker, access, prompt, make_params(controls or {}), address)
        except (InvalidControl, RequestRefused) as error:
            raise gr.Error(str(error), print_exception=False) from None
        return {snippet["name"]: snippet["code"] for snippet in snippets}

    api(code, api_name="code")


def page_value(control: Control, value: Any) -> Any:
    """A control's value in the form of the page's component."""
    if control.is_list:
        return write_value(control, value)
    if control.kind == "optional_integer":
        return "" if value is None else str(value)
    return value


def check(values: Any) -> dict[str, Any]:
    """The settings of a link, from untrusted data: `values` of all controls, and `problems`.

    Missing and invalid controls get their defaults; `problems` has a message for each invalid one,
    and `wrong` their names.
    """
    given: Mapping[Any, Any] = values if isinstance(values, dict) else {}
    problems = [] if isinstance(values, dict) else [message("link.no_settings")]
    wrong = []
    checked = {}
    for control in CONTROLS:
        checked[control.name] = page_value(control, control.default)
        if control.name not in given:
            continue
        try:
            params = read_controls({**BESIDE_ALL, control.name: given[control.name]})
        except InvalidControl as invalid:
            problems.append(invalid.message)
            wrong.append(control.name)
        else:
            checked[control.name] = page_value(control, getattr(params, control.name))
    unknown = [str(name) for name in given if name not in checked]
    if unknown:
        name = quoted(unknown[0][:MAX_QUOTED])
        problems.append(message("link.unknown_control", name=name, count=len(unknown)))
    described = [problem.described() for problem in problems]
    return {"values": checked, "problems": described, "wrong": wrong}


def _describe(control: Control) -> dict[str, Any]:
    """What the script needs to know about a control."""
    return {
        "name": control.name,
        "label": control.label,
        "initial": page_value(control, control.default),
    }


async def _snippets(
    worker: Worker, access: Access, prompt: str, params: Any, address: str
) -> list[dict[str, str]]:
    """The code for the model that is loaded; raises `RequestRefused`.

    It is written in a thread, because a prompt of 200,000 characters can take a million there.
    """
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        worker.require_ready()  # else the prompt would not be tokenized, and so not refused
    tokens = await worker.count_tokens(prompt)
    context = worker.context_length
    remaining = None if tokens is None or context is None else max(1, context - max(1, tokens))
    if params.truncate == "left" and context is not None and remaining is not None:
        remaining = max(remaining, min(params.max_new_tokens, context // 2))
    place = place_of(worker, access, address)
    snippets = await asyncio.to_thread(make_snippets, prompt, params, place, remaining)
    return [snippet._asdict() for snippet in snippets]


def place_of(worker: Worker, access: Access, address: str) -> Place:
    """This playground's URL and model.

    A local model is given by its folder's name only: its path is private.
    """
    settings, model = worker.settings, worker.model
    source, comment = settings.model, None
    if model is not None and model.is_sample:
        source, comment = SAMPLE_FOLDER, IN_REPOSITORY
    elif settings.adapter and settings.model == "auto" and model is not None:
        source, comment = model.name, ADAPTERS_BASE
    elif settings.model in ("auto", "sample"):
        source = GPT_J
    elif Path(settings.model).is_dir():
        source, comment = Path(settings.model).resolve().name, MODEL_FOLDER
    return Place(
        address=address.rstrip("/")[:MAX_ADDRESS],
        model=model_id(model, settings.model) if model else source,
        source=source,
        comment=comment,
        revision=model.revision if model else None,
        precision=model.precision if model else "float32",
        device=model.device if model else "cpu",
        needs_key=access.needs_key,
        needs_login=settings.login is not None,
        adapters=model.adapters if model else (),
    )
