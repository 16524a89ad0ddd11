"""Gradio's Blocks, with one sentence for a function that fails and no message in the log."""

from __future__ import annotations

import logging
from typing import Any

import gradio as gr

from gptj_demo.ui.generation import BROKEN
from gptj_demo.web.failures import describe_failure

logger = logging.getLogger(__name__)


class PageBlocks(gr.Blocks):
    """Blocks whose functions fail without telling the log what their inputs were."""

    async def process_api(self, *inputs: Any, **options: Any) -> dict[str, Any]:
        """Run a function of the page as Gradio does; raises `gr.Error` only."""
        try:
            output: dict[str, Any] = await super().process_api(*inputs, **options)
            return output
        except gr.Error as error:
            error.print_exception = False
            raise
        except Exception as error:
            logger.error("a function of the page failed: %s", describe_failure(error))
            raise gr.Error(str(BROKEN), print_exception=False) from None
