"""Gradio's Blocks without inputs in the log, unseen components, and searches for files."""

from __future__ import annotations

import logging
from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.blocks import BlockContext
from gradio.components.api_component import Api
from gradio.components.base import _Keywords
from gradio.data_classes import BlocksConfigDict
from gradio.state_holder import SessionState

from gptj_demo.ui.generation import BROKEN
from gptj_demo.web.failures import describe_failure

logger = logging.getLogger(__name__)

FINISHED_ITERATING = _Keywords.FINISHED_ITERATING


class PageBlocks(gr.Blocks):
    """Blocks whose functions do not log their inputs when they fail.

    Gradio makes a component for each argument and result of an API function, and its page builds
    all of them for every visitor. Here they are neither laid out nor waited for; API calls and the
    API's documentation still find them.

    Gradio visits each value of a result twice to find files, on the event loop. No function here
    returns files.
    """

    def get_config_file(self) -> BlocksConfigDict:
        """The configuration that Gradio's page and clients read."""
        _leave_out_unseen(self)
        config = super().get_config_file()
        for component in config["components"]:
            if isinstance(self.blocks[component["id"]], Api):
                component["props"]["visible"] = False
        return config

    async def process_api(self, *inputs: Any, **options: Any) -> dict[str, Any]:
        """Run a function of the page as Gradio does; raises `gr.Error` only."""
        options["root_path"] = None  # with it, Gradio looks for the addresses of files
        try:
            output: dict[str, Any] = await super().process_api(*inputs, **options)
            return output
        except gr.Error as error:
            error.print_exception = False
            raise
        except Exception as error:
            logger.error("a function of the page failed: %s", describe_failure(error))
            raise gr.Error(str(BROKEN), print_exception=False) from None

    async def postprocess_data(
        self, block_fn: BlockFunction, predictions: Any, state: SessionState | None
    ) -> list[Any]:
        """The outputs of a function; the one of an API function is JSON as it is."""
        if [type(block) for block in block_fn.outputs] != [Api]:
            outputs: list[Any] = await super().postprocess_data(block_fn, predictions, state)
            return outputs
        return [None if predictions is FINISHED_ITERATING else predictions]


def _leave_out_unseen(context: BlockContext) -> None:
    context.children = [child for child in context.children if not isinstance(child, Api)]
    for child in context.children:
        if isinstance(child, BlockContext):
            _leave_out_unseen(child)
