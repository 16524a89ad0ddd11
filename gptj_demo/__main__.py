"""The terminal: `python -m gptj_demo "Once upon a time"` streams a continuation to standard output.

The same worker, controls and settings as the page. Standard output carries the generated text and
nothing else; progress, refusals and the reason why the text ended go to standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from typing import Any

from tqdm import tqdm

from gptj_demo.protocol import EngineStatus, Finished, GenerationRequest, TokenEvent
from gptj_demo.sampling import (
    CONTROLS,
    InvalidControl,
    SamplingParams,
    make_params,
    read_written,
)
from gptj_demo.settings import InvalidSettings, add_arguments, read_settings
from gptj_demo.worker import RequestRefused, Worker


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m gptj_demo", description="Continue a text with GPT-J, in the terminal."
    )
    parser.add_argument("prompt", help="the text to continue; - reads it from standard input")
    group = parser.add_argument_group("controls")
    for control in CONTROLS:
        repeat = " Repeat for more." if control.is_list else ""
        default = "" if control.default in (None, (), False) else f" Default: {control.default}."
        help = (control.help + repeat + default).replace("%", "%%")
        if control.kind == "flag":
            group.add_argument(control.flag, action="store_true", default=None, help=help)
            continue
        group.add_argument(
            control.flag,
            action="append" if control.is_list else "store",
            metavar="TEXT" if control.is_list or control.choices else "N",
            help=help,
        )
    add_arguments(parser)
    return parser.parse_args(argv)


def read_controls(arguments: argparse.Namespace) -> SamplingParams:
    """The controls that were given, the defaults of the others; raises `InvalidControl`."""
    given: dict[str, Any] = {}
    for control in CONTROLS:
        value = getattr(arguments, control.name)
        if isinstance(value, str):
            value = [value]
        if value is not None:
            flag = control.kind == "flag"
            given[control.name] = value if flag else read_written(control, value)
    return make_params(given)


def read_prompt(prompt: str) -> str:
    """The prompt, from standard input where it is `-`; a final line break is not part of it."""
    return sys.stdin.read().removesuffix("\n") if prompt == "-" else prompt


async def wait_until_ready(worker: Worker) -> bool:
    """Show the progress of loading on standard error; False where the model cannot be loaded."""
    shown: EngineStatus | None = None
    with tqdm(
        total=100, leave=False, bar_format="{desc} {bar} {percentage:3.0f}%", file=sys.stderr
    ) as bar:
        while worker.status.state not in ("ready", "failed"):
            if worker.status is not shown:
                shown = worker.status
                bar.set_description_str(shown.detail, refresh=False)
                bar.n = round(100 * (shown.progress or 0))
                bar.refresh()
            await asyncio.sleep(0.05)
    return worker.status.state == "ready"


async def generate(worker: Worker, prompt: str, params: SamplingParams) -> int:
    """Stream one continuation to standard output; returns the exit code."""
    if not await wait_until_ready(worker):
        print(worker.status.detail, file=sys.stderr)
        return 2
    async with contextlib.aclosing(worker.stream(GenerationRequest(prompt, params))) as stream:
        try:
            async for event in stream:
                if isinstance(event, TokenEvent | Finished):
                    print(event.text, end="", flush=True)
        except RequestRefused as refusal:
            print(refusal, file=sys.stderr)
            return 2
    assert isinstance(event, Finished)
    print(flush=True)
    model = worker.model
    assert model is not None
    print(
        f"[{model.name}, {model.precision}, {model.device} | {event.prompt_tokens} + "
        f"{event.completion_tokens} tokens | {event.message} | seed {event.seed}]",
        file=sys.stderr,
    )
    return 1 if event.reason == "error" else 0


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    try:
        params = read_controls(arguments)
        settings = read_settings(arguments)
        prompt = read_prompt(arguments.prompt)
    except (InvalidControl, InvalidSettings) as error:
        print(error, file=sys.stderr)
        return 2
    worker = Worker(settings)
    worker.start()
    try:
        return asyncio.run(generate(worker, prompt, params))
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of the pipe has what it wanted: `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        worker.stop()


if __name__ == "__main__":
    sys.exit(main())
