"""A component of the page: fixed markup and an ES module, which lie side by side in `assets/`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import gradio as gr

from gptj_demo.ui.assets import read_asset
from gptj_demo.ui.generation import record, refused

MAX_ID_CHARACTERS = 64


def read_asked(sent: Any) -> tuple[dict[str, Any], str]:
    """The query of a module and the id that it chose for the request, from untrusted data."""
    asked = sent if isinstance(sent, dict) else {}
    return asked, str(asked.get("id", ""))[:MAX_ID_CHARACTERS]


class ModuleHTML(gr.HTML):
    """The markup of `assets/PATH.html`; `assets/PATH.js` exports `mount`, which runs it.

    `mount` gets what Gradio gives a component's script: `element`, `trigger`, `props`, `server` and
    `watch`. Options that Gradio does not know become `props`.
    """

    def __init__(self, path: str, events: tuple[str, ...] = (), **options: Any) -> None:
        """`events` are names of events that the module triggers and Python listens to."""
        given = "{element, trigger, props, server, watch}"
        named = "".join(
            f" '{event}'" for event in events
        )  # Gradio looks for the names in the script
        super().__init__(
            html_template=options.pop("html_template", None) or read_asset(f"{path}.html"),
            js_on_load=f"gptj.mount('{path}.js', {given}); // events:{named}",
            apply_default_css=False,
            **options,
        )


class LogHTML(ModuleHTML):
    """A component whose value is a log: one JSON record a line, appended by a running request.

    Gradio sends only the suffix of a value that begins with the old one, so only new records are
    sent. The page gets the model's text as data, never as markup.
    """

    def __init__(self, path: str, events: tuple[str, ...], **options: Any) -> None:
        super().__init__(path, events, value="", **options)

    def write_log(
        self,
        event: Callable[..., Any],
        lines: Callable[..., AsyncGenerator[str, None]],
        *inputs: Any,
    ) -> None:
        """On an event of this component, write the log of a request.

        `lines` yields what is appended. It gets the query of the module, the request's id, the
        browser's request and the values of `inputs`. If it raises, the last record is `refused`.
        """

        async def write(
            sent: gr.EventData, browser: gr.Request, *values: Any
        ) -> AsyncGenerator[str, None]:
            asked, request_id = read_asked(sent._data)
            log = record("begin", id=request_id)
            try:
                async with aclosing(lines(asked, request_id, browser, *values)) as written:
                    async for more in written:
                        log += more
                        yield log
            except Exception as error:
                yield log + refused(error)

        event(
            write,
            list(inputs),
            self,
            api_name=f"{self.elem_id}_{lines.__name__}",  # several views can have an event `run`
            api_visibility="private",
            # the values need no processing, for which Gradio uses a thread for each of them
            preprocess=False,
            postprocess=False,
            concurrency_limit=None,
            show_progress="hidden",
            trigger_mode="multiple",  # with "once" Gradio drops an event while another ends
        )
