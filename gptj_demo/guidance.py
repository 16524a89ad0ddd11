"""Compiles what a text must match into a grammar of llguidance.

People write choices, a regular expression, a JSON schema, or a grammar in the syntax of Lark or of
llama.cpp. The web process checks it, the engine compiles it for the model's tokenizer. Both may get
it from a stranger: sizes and llguidance's own limits bound the work and the memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any, ParamSpec, TypeVar

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, regex_to_lark
from llguidance.gbnf_to_lark import any_to_lark

from gptj_demo.control_values import InvalidControl
from gptj_demo.sampling import MAX_WORDS, SamplingParams, control_named
from gptj_demo.texts import Message, message

MAX_RULES = 1000
"""Lines of a grammar and references of a schema: llguidance follows them by recursion."""

MAX_REMAINDERS = 100_000
"""The least common multiple of all `multipleOf` in a schema, each without its decimal point and the
zeros at its end. llguidance builds a state for each remainder of it, and its limits do not count
them: a million takes ten seconds and half a gigabyte."""

WHITESPACE = "[ ]?"
"""Allowed between the parts of JSON. If more is allowed, a model can write blanks until its tokens
are used up."""

_STACK_BYTES = 64 * 2**20  # 1,500 rules in a chain fill eight megabytes
_KEPT = 64  # cached results of checks
_HEADER = '%llguidance {"no_forcing": true}\n'
"""Makes llguidance allow every token whose bytes can follow. By default, it allows only one
tokenization where the grammar leaves only one text."""
_SCHEMA = re.compile(r"%json\s*")  # in Lark's syntax, before a schema
_PLACE = re.compile(r"^at (\d+)\((\d+)\): ")

_P = ParamSpec("_P")
_T = TypeVar("_T")


class DeepStackPool(ThreadPoolExecutor):
    """Threads whose stack is large enough for the grammars that are allowed."""

    _starting = threading.Lock()

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """As in any executor; a thread that starts gets the large stack.

        The stack size is a setting of the whole process, so it is restored at once.
        """
        with self._starting:
            before = threading.stack_size(_STACK_BYTES)
            try:
                return super().submit(fn, *args, **kwargs)
            finally:
                threading.stack_size(before)


class GrammarError(Exception):
    """A text that is no grammar; `said` is a sentence for people."""

    def __init__(self, said: Message) -> None:
        super().__init__(str(said))
        self.said = said


def limits() -> LLParserLimits:
    """Bounds on the work for one grammar and for one token, and on the memory."""
    return LLParserLimits(
        step_lexer_fuel=100_000,
        step_max_items=20_000,
        max_lexer_states=25_000,
        max_grammar_size=200_000,
        verbose_errors=False,
    )


def compile_grammar(kind: str, text: str, tokenizer: LLTokenizer) -> LLMatcher:
    """The grammar of what a text must match, ready for the first token; raises `GrammarError`.

    `kind` is that of `SamplingParams.must_match`, but not off.
    """
    matcher = LLMatcher(tokenizer, _lark(kind, text), log_level=0, limits=limits())
    if matcher.is_error():
        raise _unusable(kind, _sentence(kind, matcher.get_error()))
    return matcher


_checking = DeepStackPool(1, thread_name_prefix="check-grammars")


async def check(params: SamplingParams) -> None:
    """Raise `InvalidControl` if what the text must match cannot be used.

    A thread does the work, one grammar at a time: a large one takes half a second.
    """
    kind = params.must_match
    if kind == control_named("must_match").off:
        return
    loop = asyncio.get_running_loop()
    problem = await loop.run_in_executor(_checking, _problem, kind, params.must_match_text)
    if problem is not None:
        control = control_named("must_match_text")
        raise InvalidControl(
            control.name, message("wrong.control", control=control.called, why=problem)
        )


@lru_cache(_KEPT)
def _problem(kind: str, text: str) -> Message | None:
    try:
        matcher = compile_grammar(kind, text, _byte_tokenizer())
        matcher.compute_bitmask()
    except GrammarError as error:
        return error.said
    except BaseException as error:  # a panic of llguidance is no `Exception`
        return message(_UNUSABLE[kind], why=type(error).__name__)
    if matcher.is_error() or (matcher.is_stopped() and not matcher.is_accepting()):
        return message("match.nothing")
    return None


# ---- each kind as a grammar in llguidance's Lark syntax


def _lark(kind: str, text: str) -> str:
    make = {"choices": _choices, "regex": _regex, "json": _json, "grammar": _grammar}[kind]
    return _HEADER + make(text)


def _choices(text: str) -> str:
    choices = read_choices(text)
    if not choices:
        raise GrammarError(message("match.no_choice"))
    if len(choices) > MAX_WORDS:
        raise GrammarError(message("wrong.too_many", most=MAX_WORDS, given=len(choices)))
    return "start: " + " | ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)


def read_choices(text: str) -> list[str]:
    """Choices, one a line with `\\n` for a line break, or as a JSON list of strings."""
    if text.lstrip().startswith("["):
        try:
            listed = json.loads(text)
        except (ValueError, RecursionError):
            listed = None
        if isinstance(listed, list) and all(isinstance(one, str) for one in listed):
            return listed
    return [line.replace("\\n", "\n") for line in text.splitlines() if line]


def _regex(text: str) -> str:
    # \d, \w and \s match Unicode characters, as in Python, not only ASCII
    return f"start: /{regex_to_lark(text, '')}/"


def _json(text: str) -> str:
    try:
        schema = json.loads(
            text, parse_constant=_refuse_constant, object_pairs_hook=_bounding_multiples()
        )
    except (ValueError, RecursionError) as error:
        raise _unusable("json", str(error)) from None
    if not isinstance(schema, dict):
        raise GrammarError(message("match.no_object", example='{"type": "object"}'))
    if text.count("$ref") > MAX_RULES:
        raise GrammarError(message("match.too_many_rules", most=MAX_RULES))
    theirs = schema.get("x-guidance")
    options = {"whitespace_pattern": WHITESPACE} | (theirs if isinstance(theirs, dict) else {})
    return "start: %json " + json.dumps({**schema, "x-guidance": options})


def _bounding_multiples() -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """Makes the objects of one JSON text, all their names included; raises `GrammarError` where its
    `multipleOf` are too large together."""
    multiple = 1

    def make(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal multiple
        for name, value in pairs:
            if name == "multipleOf" and type(value) in (int, float):
                multiple = math.lcm(multiple, _digits_of(value) or 1)
                if multiple > MAX_REMAINDERS:
                    most, shown = MAX_REMAINDERS, str(value)[:30]
                    raise GrammarError(message("match.multiples", most=most, value=shown))
        return dict(pairs)

    return make


def _digits_of(number: float) -> int:
    """A number without its sign, its decimal point and the zeros at its end."""
    return int("".join(map(str, Decimal(str(number)).normalize().as_tuple().digits)))


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _grammar(text: str) -> str:
    if len(text.splitlines()) > MAX_RULES:
        raise GrammarError(message("match.too_many_rules", most=MAX_RULES))
    try:
        lark = any_to_lark(text)
    except (Exception, RecursionError) as error:  # it raises plain exceptions
        raise _unusable("grammar", str(error)) from None
    for schema in _SCHEMA.finditer(lark):
        decoder = json.JSONDecoder(object_pairs_hook=_bounding_multiples())
        with contextlib.suppress(ValueError, RecursionError):  # llguidance says what is wrong
            decoder.raw_decode(lark, schema.end())
    return lark


_UNUSABLE = {
    "choices": "match.not_choices",
    "regex": "match.not_regex",
    "json": "match.not_json",
    "grammar": "match.not_grammar",
}


def _unusable(kind: str, why: str) -> GrammarError:
    return GrammarError(message(_UNUSABLE[kind], why=why.strip().rstrip(".")))


def _sentence(kind: str, error: str) -> str:
    """The library's error message without the copy of the grammar in it."""
    lines = error.strip().splitlines() or [""]
    if kind == "regex":
        found = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return found[0] if found else _PLACE.sub("", lines[0])
    place = _PLACE.match(lines[0])
    if place is None:
        return lines[0]
    said = lines[0][place.end() :]
    # the header adds one line; a schema is a single line, so its position says nothing
    return said if kind != "grammar" else f"line {int(place[1]) - 1}, column {place[2]}: {said}"


# ---- a tokenizer for checks: its tokens are the bytes


class TokenBytes:
    """The tokens of a tokenizer as llguidance takes them.

    The last one stands for the end of the text. Tokens without bytes are never allowed.
    """

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, table: list[bytes]) -> None:
        self.eos_token_id = len(table)
        self.tokens = [*table, b"<|end|>"]
        self.special_token_ids = [self.eos_token_id]

    def __call__(self, text: Any) -> list[int]:
        """Never used, as no grammar forces tokens."""
        return []


@cache
def _byte_tokenizer() -> LLTokenizer:
    return LLTokenizer(TokenBytes([bytes([byte]) for byte in range(256)]))  # type: ignore[arg-type]
