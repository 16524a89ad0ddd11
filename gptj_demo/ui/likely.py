"""The tree of likely continuations: the view, and the function `/likely` of Gradio's API.

The tree lives in the visitor's browser: `assets/views/likely/`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import gradio as gr

from gptj_demo.client import Worker
from gptj_demo.client.likely import (
    MAX_DEPTH,
    MAX_NODES,
    Limits,
    Node,
    covered,
    described,
    fit_prompt,
    grow,
    unfinished,
)
from gptj_demo.client.prompt import Ready, check_ids, read_ids
from gptj_demo.client.refusal import RequestRefused
from gptj_demo.client.scoring import encode_prompt
from gptj_demo.client.visitor import by_session
from gptj_demo.protocol import Visitor
from gptj_demo.texts import message
from gptj_demo.ui.component import LogHTML
from gptj_demo.ui.generation import read_controls, record
from gptj_demo.ui.stops import Stops


class Likely(LogHTML):
    """Event: `grow` (prompt, path, nodes, depth, least, controls or None, id), with the log as
    output.

    `server_functions` must hold `stop(id)`, which the script calls.
    """

    def __init__(self, **options: Any) -> None:
        limits = {"most_nodes": MAX_NODES, "most_depth": MAX_DEPTH}
        super().__init__("views/likely/likely", ("grow",), **limits, **options)


def build_likely(worker: Worker) -> None:
    """Lay out the view in the present Blocks and connect it to the worker."""
    stops = Stops()

    async def stop(request_id: Any) -> bool:
        return stops.stop(request_id)

    def grow_tree(
        asked: Mapping[str, Any], request_id: str, browser: gr.Request
    ) -> AsyncGenerator[str, None]:
        return stops.until_stopped(request_id, _lines(worker, asked, by_session(browser)))

    likely = Likely(elem_id="likely", server_functions=[stop])
    likely.write_log(likely.grow, grow_tree)


def read_path(written: Any, ready: Ready) -> tuple[int, ...]:
    """The checked token ids from the root of the tree to the node that is grown from.

    A node can be deeper than `MAX_DEPTH`, because a tree can be grown again from any of its nodes.
    Raises `RequestRefused`.
    """
    path = read_ids([] if written is None else written)
    if len(path) > ready.context_length:
        sizes = {"tokens": len(path), "most": ready.context_length}
        raise RequestRefused("invalid", message("likely.deep_path", **sizes))
    check_ids(path, ready.vocabulary)
    return path


async def _lines(
    worker: Worker, asked: Mapping[str, Any], visitor: Visitor
) -> AsyncGenerator[str, None]:
    """The lines of a log: the new nodes after each step."""
    limits = Limits.checked(asked.get("nodes"), asked.get("depth"), asked.get("least"))
    controls = asked.get("controls")
    params = read_controls(controls) if isinstance(controls, dict) else None
    truncate = str(asked.get("truncate", "error"))
    prompt = await encode_prompt(worker, asked.get("prompt", ""))
    path = read_path(asked.get("path"), worker.require_ready())
    vocabulary = worker.require_ready().vocabulary
    # the page has the text of the path, so only the rest of its last character is repeated
    before = unfinished(vocabulary, path)
    ids, fitting = fit_prompt(worker, prompt + path, limits, truncate)
    async with aclosing(grow(worker, ids, fitting, params, visitor)) as steps:
        async for new in steps:
            if not new:
                yield "\n"  # keep-alive
                continue
            yield record("nodes", nodes=[described(vocabulary, node, before) for node in new])


async def likely_tree(
    worker: Worker,
    prompt: str,
    limits: tuple[Any, Any, Any],
    values: Mapping[str, Any] | None,
    visitor: Visitor,
) -> dict[str, Any]:
    """The answer of `/likely`; `limits` are nodes, depth and least probability."""
    checked = Limits.checked(*limits)
    params = None if values is None else read_controls(values)
    truncate = "error" if params is None else params.truncate
    ids, fitting = fit_prompt(worker, await encode_prompt(worker, prompt), checked, truncate)
    nodes: list[Node] = []
    async with aclosing(grow(worker, ids, fitting, params, visitor)) as steps:
        async for new in steps:
            nodes += new
    vocabulary = worker.require_ready().vocabulary
    return {
        "prompt_tokens": len(ids),
        "nodes": [described(vocabulary, node) for node in nodes],
        "covered": [round(share, 6) for share in covered(nodes)],
    }
