"""The tree of the likely by a worker: its limits, its end, and engines that end meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import aclosing
from typing import Any

import pytest

from gptj_demo.client import RequestRefused, Worker
from gptj_demo.client.likely import (
    MAX_NODES,
    Limits,
    Node,
    described,
    fit_prompt,
    grow,
    unfinished,
)
from gptj_demo.client.prompt import read_ids
from gptj_demo.protocol import Visitor
from gptj_demo.sampling import SamplingParams
from gptj_demo.settings import Settings
from gptj_demo.ui.likely import read_path
from tests.client.requests import collect, endless, paused, request, run, started, until

PROMPT = tuple(range(40, 60))
ME = Visitor("me", "here")


async def tree(
    worker: Worker, limits: Limits, params: SamplingParams | None = None
) -> list[tuple[int, ...]]:
    nodes: list[Node] = []
    async for new in grow(worker, PROMPT, limits, params, ME):
        nodes += new
    assert [node.number for node in nodes] == list(range(len(nodes)))
    return [tuple(one.token_id for one in node.path()) for node in nodes]


def test_a_tree_goes_on_in_the_next_engine_after_its_own_was_killed(worker: Worker) -> None:
    async def scenario() -> None:
        limits = Limits(nodes=200, depth=6)
        whole = await tree(worker, limits)
        assert len(whole) == 200
        restarts, nodes = worker.restarts, []
        async with aclosing(grow(worker, PROMPT, limits, None, ME)) as steps:
            async for new in steps:
                nodes += [tuple(one.token_id for one in node.path()) for node in new]
                if len(nodes) > 20 and worker.restarts == restarts and worker.engine_pid:
                    os.kill(worker.engine_pid, signal.SIGKILL)
                    await until(lambda: worker.restarts > restarts)
        assert nodes == whole
        await until(lambda: worker.status.state == "ready")

    run(scenario())


def test_another_request_runs_while_a_tree_grows(worker: Worker) -> None:
    async def scenario() -> None:
        growing = asyncio.ensure_future(tree(worker, Limits(nodes=MAX_NODES, depth=32)))
        await until(lambda: worker.streams_running > 0)
        _, end = await collect(worker, request())
        assert end.reason == "length"
        assert not growing.done()  # and the tree goes on
        growing.cancel()
        await asyncio.gather(growing, return_exceptions=True)
        await until(lambda: worker.streams_running == 0 and worker.streams_waiting == 0)

    run(scenario())


def test_invalid_limits_are_refused_and_valid_limits_bound_the_tree(worker: Worker) -> None:
    for wrong in ((0, 1, 0), (MAX_NODES + 1, 1, 0), (True, 1, 0), ("9", 1, 0), (9, 33, 0),
                  (9, 1, -1), (9, 1, 1.5), (9, 1, "no"), (9, 1, None)):  # fmt: skip
        with pytest.raises(RequestRefused, match="must be a"):
            Limits.checked(*wrong)

    async def scenario() -> None:
        likely = await tree(worker, Limits(nodes=500, depth=3, least=0.002))
        assert 0 < len(likely) < 500
        assert max(map(len, likely)) <= 3

    run(scenario())


def test_the_prompt_or_the_depth_is_shortened_to_fit_the_context(worker: Worker) -> None:
    ready = worker.require_ready()
    long = [5] * ready.context_length
    ids, limits = fit_prompt(worker, long, Limits(depth=12), "error")
    assert (len(ids), limits.depth) == (len(long), 1)
    ids, limits = fit_prompt(worker, [*long, 5], Limits(depth=12), "left")
    assert (len(ids), limits.depth) == (len(long) - 12, 12)
    with pytest.raises(RequestRefused, match=r"too long|reads"):
        fit_prompt(worker, [*long, 5], Limits(), "error")
    with pytest.raises(RequestRefused, match="vocabulary"):
        fit_prompt(worker, [10**6], Limits(), "error")
    assert fit_prompt(worker, [], Limits(), "error")[0] == (ready.vocabulary.bos_token_id,)


def test_only_a_path_that_fits_the_context_is_read(worker: Worker) -> None:
    ready = worker.require_ready()
    longest = [5] * ready.context_length
    assert read_path(longest, ready) == tuple(longest)
    assert read_path(None, ready) == ()
    for path, sentence in (
        ([*longest, 5], "Choose a node nearer to the root"),
        ([0] * 190_000, "depth of 190,000 tokens"),
        ([10**6], "not in the vocabulary"),
    ):
        with pytest.raises(RequestRefused, match=sentence):
            read_path(path, ready)


@pytest.mark.parametrize("wrong", [5, "5", {"5": 5}, ["a"], [True], [1.0], [None], [[5]]])
def test_token_ids_of_a_wrong_type_are_refused(wrong: Any) -> None:
    with pytest.raises(RequestRefused, match="must be a list of whole numbers"):
        read_ids(wrong)


def test_a_text_below_a_node_repeats_only_an_unfinished_character(worker: Worker) -> None:
    vocabulary = worker.require_ready().vocabulary
    by_bytes = {vocabulary.bytes_of(one): one for one in range(vocabulary.size)}
    letter, first, last = (by_bytes[one] for one in (b"a", b"\xc3", b"\xa9"))
    assert unfinished(vocabulary, [letter] * 9) == b""
    before = unfinished(vocabulary, [letter, first])
    assert before == b"\xc3"
    node = Node(last, 0.0, 0.0, 1, Node(-1, 0.0, 0.0, 0, None))
    assert described(vocabulary, node, before)["text"] == "é"


def test_a_tree_is_refused_with_a_filter_or_a_full_queue(
    worker: Worker, tmp_path_factory: pytest.TempPathFactory
) -> None:
    patterns = tmp_path_factory.mktemp("filter") / "patterns.txt"
    patterns.write_text("bad")
    filtered = Worker(Settings(filter=str(patterns)))

    async def scenario() -> None:
        with pytest.raises(RequestRefused, match="filter"):
            await tree(filtered, Limits())
        streams = [worker.stream(endless()) for _ in range(5)]  # two slots, three places
        for stream in streams[:2]:
            await started(stream)
        with paused(worker):
            for stream in streams[2:]:
                await stream.drain()
            with pytest.raises(RequestRefused, match="3 requests are waiting"):
                await tree(worker, Limits())
        for stream in streams:
            await stream.aclose()

    run(scenario())
