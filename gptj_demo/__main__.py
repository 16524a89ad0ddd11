"""The terminal: `python -m gptj_demo "Once upon a time"` streams a continuation to standard output.

The same worker, controls and settings as the page. Standard output carries the generated text and
nothing else; progress, refusals, probabilities and why a text ended go to standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tqdm import tqdm

from gptj_demo.client import RequestRefused, Worker
from gptj_demo.console import (
    UnreadableText,
    UnwritableText,
    print_text,
    read_prompt,
    show_any_character,
)
from gptj_demo.control import Control
from gptj_demo.control_values import InvalidControl, make_params, read_written, write_value
from gptj_demo.protocol import (
    Alternative,
    Drafting,
    EngineStatus,
    Finished,
    GenerationRequest,
    ModelInfo,
    Passage,
    PromptScored,
    Reconnecting,
    Started,
    TokenEvent,
    TokenLogprobs,
)
from gptj_demo.sampling import CONTROLS, SamplingParams
from gptj_demo.settings import InvalidSettings, add_arguments, read_settings, unknown_variables
from gptj_demo.signals import Terminated, ignore_stop_signals, raise_on_stop_signals
from gptj_demo.tokenization import prompt_hint

# the exit codes that shells report for a program that one of these signals ended
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM

METAVARS = {
    "integer": "N",
    "optional_integer": "N",
    "number": "X",
    "strings": "TEXT",
    "permutation": "NAME",
    "integers": "ID",
    "biases": "TOKEN=BIAS",
    "text": "TEXT",
}


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m gptj_demo", description="Continue a text with GPT-J, in the terminal."
    )
    parser.add_argument("prompt", help="the text to continue; - reads it from standard input")
    group = parser.add_argument_group("controls")
    for control in CONTROLS:
        repeat = " Repeat for more." if control.is_list else ""
        help = (control.help + repeat + describe_default(control)).replace("%", "%%")
        if control.kind == "flag":
            group.add_argument(control.flag, action="store_true", default=None, help=help)
            continue
        group.add_argument(
            control.flag,
            action="append" if control.is_list else "store",
            metavar=METAVARS.get(control.kind) or "|".join(control.choices),
            help=help,
        )
    add_arguments(parser)
    return parser.parse_args(argv)


def describe_default(control: Control) -> str:
    """The sentence about the default for a control's help; empty if there is none to show."""
    default = control.default
    if default is None or default is False or default in ((), ""):
        return ""
    if control.is_list:
        default = write_value(control, default).replace("\n", " ")
    return f" Default: {default}."


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


def say(*lines: str) -> None:
    """Print lines to standard error, if it can be written."""
    sys.stdout.flush()
    with contextlib.suppress(OSError):  # the text on standard output matters more
        for line in lines:
            print(line, file=sys.stderr)


async def wait_until_ready(worker: Worker) -> ModelInfo | None:
    """The loaded model, None if it cannot be loaded; shows the progress on standard error."""
    shown: EngineStatus | None = None
    with tqdm(
        total=100,
        leave=False,
        bar_format="{desc} {bar} {percentage:3.0f}%",
        file=sys.stderr,
        disable=None,  # in a file, where each state would stay
    ) as bar:
        while worker.status.state not in ("ready", "failed"):
            if worker.status is not shown:
                shown = worker.status
                bar.set_description_str(str(shown.detail), refresh=False)
                bar.n = round(100 * (shown.progress or 0))
                bar.refresh()
            await asyncio.sleep(0.05)
    return worker.model if worker.status.state == "ready" else None


async def generate(worker: Worker, prompt: str, params: SamplingParams) -> int:
    """Stream to standard output; returns the exit code.

    The first completion is printed as it comes, the others are kept until it has ended.
    """
    model = await wait_until_ready(worker)
    if model is None:
        say(str(worker.status.detail))
        return 2
    hint = prompt_hint(prompt)
    if hint is not None and not params.token_healing:
        say(str(hint))
    printed = _Printed(worker, model, params)
    async with contextlib.aclosing(worker.stream(GenerationRequest(prompt, params))) as stream:
        try:
            with contextlib.closing(_Progress(params)) as progress:
                async for event in stream:
                    if isinstance(event, Drafting):
                        progress.show(event.tokens)
                        continue
                    progress.close()
                    printed.take(event)
        except (InvalidControl, RequestRefused) as refusal:
            say(str(refusal))
            return 2
    return printed.end()


class _Progress:
    """A progress bar on standard error while candidates are drafted; no text is shown yet."""

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        self._bar: Any = None

    def show(self, tokens: int) -> None:
        if self._bar is None:
            self._bar = tqdm(
                total=self._params.candidates * self._params.max_new_tokens,
                desc=f"Drafting {self._params.candidates} completions",
                unit=" tokens",
                leave=False,
                file=sys.stderr,
                disable=None,
            )
        self._bar.update(tokens - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _Printed:
    """Prints a stream's events: the first completion as it arrives, the others at the end."""

    def __init__(self, worker: Worker, model: ModelInfo, params: SamplingParams) -> None:
        self._worker = worker
        self._model = model
        self._params = params
        self._texts: defaultdict[int, list[str]] = defaultdict(list)
        self._tokens: defaultdict[int, list[TokenEvent]] = defaultdict(list)
        self._finished: dict[int, Finished] = {}

    def take(self, event: object) -> None:
        """Print notes, scores and the first completion; keep the other completions for `end`."""
        if isinstance(event, Reconnecting):
            say("The model process ended and is being restarted; the text then goes on.")
        elif isinstance(event, Started):
            say(*self._notes(event))
        elif isinstance(event, PromptScored):
            say(*self._score(event))
        elif isinstance(event, TokenEvent | Passage | Finished):
            if event.index == 0:
                print_text(event.text)
            else:
                self._texts[event.index].append(event.text)
            if isinstance(event, Finished):
                self._finished[event.index] = event
            elif isinstance(event, TokenEvent):
                self._tokens[event.index].append(event)

    def end(self) -> int:
        """Print the other completions, and how each one ended; returns the exit code."""
        for index, finished in sorted(self._finished.items()):
            if index > 0:
                print_text("\n")
                say(f"completion {index + 1} of {self._params.n}, seed {finished.seed}")
                print_text("".join(self._texts[index]))
            if self._params.max_new_tokens:
                print_text("\n")
            say(*self._probabilities(index), self._reason(finished))
        return 1 if any(one.is_failure for one in self._finished.values()) else 0

    def _notes(self, started: Started) -> Iterator[str]:
        if started.dropped_tokens:
            yield f"The first {_tokens(started.dropped_tokens)} of the text were left out."
        if started.healed_token_id is not None:
            taken = _quote(self._worker.token_text(started.healed_token_id))
            yield f"The last token, {taken}, was taken back to be written anew."

    def _score(self, scored: PromptScored) -> Iterator[str]:
        rows = [
            self._row(token_id, logprobs)
            for token_id, logprobs in zip(scored.token_ids, scored.logprobs, strict=True)
        ]
        yield from _table(
            ["token", "model", "rank", "alternatives"], ([*r[:2], *r[3:]] for r in rows)
        )
        measures = [f"{_tokens(len(rows))} of prompt", f"sum {scored.sum_logprob:.4f}"]
        if scored.perplexity is not None:
            measures.append(f"perplexity {scored.perplexity:.4f}")
        if scored.bits_per_byte is not None:
            measures.append(f"{scored.bits_per_byte:.4f} bits per byte")
        yield f"[{' | '.join(measures)}]"

    def _probabilities(self, index: int) -> Iterator[str]:
        tokens = self._tokens[index]
        if self._params.logprobs is not None and tokens:
            yield from _table(
                ["token", "model", "controls", "rank", "alternatives"],
                (self._row(token.token_id, token.logprobs) for token in tokens),
            )
        if alone := sum(token.filtered_away for token in tokens):
            yield (
                f"At {_tokens(alone)} the controls had left nothing to choose from; the model's "
                "most probable one was taken."
            )

    def _row(self, token_id: int, logprobs: TokenLogprobs | None) -> list[str]:
        text = _quote(self._worker.token_text(token_id))
        if logprobs is None:
            return [text, "", "", "", ""]
        after = logprobs.sampled_logprob
        return [
            text,
            _percent(logprobs.logprob),
            "" if after is None else _percent(after),
            str(logprobs.rank),
            ", ".join(map(self._alternative, logprobs.alternatives)),
        ]

    def _alternative(self, other: Alternative) -> str:
        shown = f"{_quote(self._worker.token_text(other.token_id))} {_percent(other.logprob)}"
        if other.sampled_logprob is not None:
            return f"{shown} > {_percent(other.sampled_logprob)}"
        return shown if other.removed_by is None else f"{shown} > {other.removed_by}"

    def _reason(self, finished: Finished) -> str:
        model = self._model
        parts = [
            f"{model.full_name}, {model.precision}, {model.device}",
            f"{finished.prompt_tokens} + {finished.completion_tokens} tokens",
            str(finished.message),
            f"seed {finished.seed}",
        ]
        if finished.mean_logprob is not None:
            parts.append(f"mean log-probability {finished.mean_logprob:.4f}")
        return f"[{' | '.join(parts)}]"


def _tokens(count: int) -> str:
    return f"{count:,} token{'' if count == 1 else 's'}"


def _quote(text: str) -> str:
    """A token in quotes, with nonprintable characters (line ends, escapes) as escape sequences."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return f'"{shown}"'


def _percent(logprob: float) -> str:
    percent = 100 * math.exp(logprob)
    return f"{percent:.2f}%" if percent >= 0.01 else f"{percent:.0e}%"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a table; each column but the last is padded to its longest cell."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:-1], widths[1:-1], strict=True)]
        yield "  ".join([*cells, line[-1]]).rstrip()


def run(arguments: argparse.Namespace) -> int:
    """Continue the prompt; returns the exit code."""
    try:
        params = read_controls(arguments)
        settings = read_settings(arguments)
        prompt = read_prompt(arguments.prompt, sys.stdin.buffer)
        worker = Worker(settings)
    except (InvalidControl, InvalidSettings, UnreadableText) as error:
        say(str(error))
        return 2
    if unknown := unknown_variables():
        say(unknown)
    worker.start()
    try:
        return asyncio.run(generate(worker, prompt, params))
    except BrokenPipeError:  # the reader closed the pipe, as `... | head` does
        _drop_output()
        return 0
    except UnwritableText as error:
        _drop_output()
        say(str(error))
        return 1
    finally:
        ignore_stop_signals()  # a second one must not interrupt the clean-up
        worker.stop()


def _drop_output() -> None:
    """Discard what could not be written: Python would try it again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: list[str] | None = None) -> int:
    show_any_character(sys.stdout, sys.stderr)
    arguments = parse_arguments(argv)
    raise_on_stop_signals()
    try:
        return run(arguments)
    except KeyboardInterrupt as stopped:
        print(file=sys.stderr)
        return TERMINATED if isinstance(stopped, Terminated) else INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
