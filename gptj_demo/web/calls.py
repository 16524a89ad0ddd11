"""Checks calls of Gradio's functions before Gradio sees them.

For many malformed calls, Gradio raises an exception with the inputs in its message, and so in the
log. It also lets a caller cancel an event of any session.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

import gradio as gr
from gradio_client.utils import construct_args  # type: ignore[import-untyped]

SESSION = re.compile(r"[A-Za-z0-9_.-]{1,64}")
NO_FILES = "No function here takes files."
MAX_VALUES = 200_000
"""Items and entries of all lists and objects in a body; Gradio copies them on the event loop."""
MAX_NAME = 60
"""Characters of an unknown name that a refusal repeats."""


class BadCall(Exception):
    """A call that is refused; the message is a sentence for the caller."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


class Calls:
    """The functions of a page, and the checks of calls to them.

    `check` gets a route of `gptj_demo.web.surface.OPEN`, the name in the path if it has one, and
    the decoded body.
    """

    def __init__(self, page: gr.Blocks) -> None:
        self._page = page
        self._by_name = {
            fn.api_name: fn
            for fn in page.fns.values()
            if isinstance(fn.api_name, str) and fn.api_visibility == "public"
        }
        self.server_functions = frozenset(
            (number, str(function.__name__))
            for number, block in page.blocks.items()
            for function in getattr(block, "server_fns", ())
        )

    @cached_property
    def _parameters(self) -> dict[str, Any]:
        """What `/gradio_api/info` says of each named function."""
        return dict(self._page.get_api_info()["named_endpoints"])

    def check(self, route: str, name: str | None, body: Any) -> dict[str, Any]:
        """The body with the defaults of inputs that are null or missing.

        Raises `BadCall` if the call is malformed, or if the function is not open to callers.
        """
        if not isinstance(body, dict):
            raise BadCall(400, "The body must be a JSON object.")
        if _is_large(body):
            raise BadCall(
                400, f"The body holds more than the {MAX_VALUES:,} values that are read here."
            )
        session = body.get("session_hash")
        if session is not None and not (isinstance(session, str) and SESSION.fullmatch(session)):
            raise BadCall(400, "session_hash must be 1 to 64 letters, digits, '-', '_' or '.'.")
        if route.endswith("/queue/join"):
            return self._check_join(body)
        if route.endswith("/{api_name}"):
            return self._check_named(name or "", body, has_names="/v2/" in route)
        if route.endswith("/component_server/"):
            self._check_server_function(body)
        return body

    def is_own_event(self, body: dict[str, Any]) -> bool:
        """Whether the event that a caller wants to end belongs to the session that it names."""
        event = self._page._queue.event_ids_to_events.get(str(body.get("event_id")))
        return event is None or event.session_hash == body.get("session_hash")

    def _check_join(self, body: dict[str, Any]) -> dict[str, Any]:
        number = body.get("fn_index")
        fn = self._page.fns.get(number) if type(number) is int else None
        if fn is None or fn.fn is None:  # the latter runs in the browser only
            raise BadCall(404, "There is no function with this fn_index; /config lists them.")
        if body.get("session_hash") is None:
            raise BadCall(400, "session_hash is missing.")
        if body.get("batched"):
            raise BadCall(400, "No function here takes batches.")
        trigger = body.get("trigger_id")
        if trigger is not None and type(trigger) is not int:
            raise BadCall(400, "trigger_id must be an integer.")
        body = self._with_defaults(fn, body)
        _check_inputs(f"Function {number}", fn, body)
        return body

    def _check_named(self, name: str, body: dict[str, Any], has_names: bool) -> dict[str, Any]:
        fn = self._by_name.get(name)
        if fn is None:
            raise BadCall(
                404, f"There is no function {name[:MAX_NAME]!r}; /gradio_api/info lists them."
            )
        if not has_names:
            body = self._with_defaults(fn, body)
            _check_inputs(f"/{name}", fn, body)
            return body
        if _has_file(body):
            raise BadCall(400, NO_FILES)
        parameters = self._parameters[f"/{name}"]["parameters"]
        optional = {one["parameter_name"] for one in parameters if one["parameter_has_default"]}
        body = {
            key: value for key, value in body.items() if value is not None or key not in optional
        }
        given = {key: value for key, value in body.items() if key != "oauth_token"}
        try:
            construct_args(parameters, (), given)
        except (TypeError, ValueError) as error:  # it names a parameter
            said = str(error).partition(" Please ")[0].replace("`", "'").rstrip(".")
            raise BadCall(400, f"{said[:200]}.") from None
        return body

    def _with_defaults(self, fn: Any, body: dict[str, Any]) -> dict[str, Any]:
        """The body of a call of a named function with the defaults of its parameters.

        They replace inputs that are null, and inputs that are missing at the end.
        """
        name, data = str(fn.api_name), body.get("data")
        if self._by_name.get(name) is not fn or not isinstance(data, list):
            return body
        parameters = self._parameters[f"/{name}"]["parameters"]
        if not all(one["parameter_has_default"] for one in parameters[len(data) :]):
            return body
        given = data + [None] * (len(parameters) - len(data))
        for place, one in enumerate(parameters):
            if given[place] is None and one["parameter_has_default"]:
                given[place] = one["parameter_default"]
        return {**body, "data": given}

    def _check_server_function(self, body: dict[str, Any]) -> None:
        number, name = body.get("component_id"), body.get("fn_name")
        is_named = type(number) is int and isinstance(name, str)
        if not is_named or (number, name) not in self.server_functions:
            raise BadCall(404, "There is no such function of a component.")
        if body.get("session_hash") is None or "data" not in body:
            raise BadCall(400, "session_hash or data is missing.")


def _check_inputs(called: str, fn: Any, body: dict[str, Any]) -> None:
    """Raise `BadCall` unless `data` has as many inputs as the function takes, and no files."""
    data = body.get("data")
    if not isinstance(data, list):
        raise BadCall(400, "data must be a list with the inputs.")
    if len(data) != len(fn.inputs):
        expected = len(fn.inputs)
        raise BadCall(
            400,
            f"{called} takes {expected} input{'' if expected == 1 else 's'}; {len(data)} came.",
        )
    if _has_file(data):
        raise BadCall(400, NO_FILES)


def _is_large(body: Any) -> bool:
    """Whether a body holds more than `MAX_VALUES`."""
    pending, left = [body], MAX_VALUES
    while pending:
        values = pending.pop()
        left -= len(values)
        if left < 0:
            return True
        items = values.values() if isinstance(values, dict) else values
        pending += [one for one in items if isinstance(one, (dict, list))]
    return False


def _has_file(data: Any) -> bool:
    """Whether Gradio would take a part of the inputs for a file, and fetch or read it."""
    pending = [data]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            meta = value.get("meta")
            if isinstance(meta, dict) and "_type" in meta:
                return True
            pending += [one for one in value.values() if isinstance(one, (dict, list))]
        elif isinstance(value, list):
            pending += [one for one in value if isinstance(one, (dict, list))]
    return False
