"""Ready-to-run code for a prompt and its controls: transformers, the `openai` client, curl, Gradio.

Pure functions of the table of controls. Each snippet has only the settings that differ from the
defaults of the API it calls, and reproduces any prompt exactly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from gptj_demo.api.matching import in_their_terms
from gptj_demo.api.schema import DEFAULTS as API_DEFAULTS
from gptj_demo.control import Control
from gptj_demo.sampling import CONTROLS, FILTERS, SamplingParams, control_named, read_bias_key

IN_REPOSITORY = "in the playground's repository"
MODEL_FOLDER = "the folder of the model"
ADAPTERS_BASE = "the base model of the adapter"
"""Comments on a model's location; code and its comments are English in every language."""

LINE = 88  # characters; longer lines are broken
_OPENAI_PARAMETERS = {"prompt", *(control.openai for control in CONTROLS)}
"""Parameters of `completions.create`; all others go into `extra_body`."""

_DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class Place:
    """A playground's URL and model.

    `address` does not end in a slash. `model` is the model's name in the API; `source` is the
    argument of `from_pretrained`, with a comment if one is needed.
    """

    address: str
    model: str
    source: str
    comment: str | None = None
    revision: str | None = None
    precision: str = "float32"
    device: str = "cpu"
    needs_key: bool = False
    needs_login: bool = False
    adapters: tuple[str, ...] = ()
    """As in the setting: names, followed by `=WEIGHT` if that is not 1."""


class Snippet(NamedTuple):
    """One piece of code; `label` is for people, `language` is python or bash."""

    name: str
    label: str
    language: str
    code: str


def make_snippets(
    prompt: str, params: SamplingParams, place: Place, remaining: int | None = None
) -> tuple[Snippet, ...]:
    """The code that continues `prompt` with these controls, in four ways.

    `remaining` is the number of tokens left in the context after the prompt, None if unknown.
    """
    return (
        Snippet("openai", "Python, openai", "python", _openai(prompt, params, place)),
        Snippet("curl", "curl", "bash", _curl(prompt, params, place)),
        Snippet("gradio_client", "Python, gradio_client", "python", _gradio(prompt, params, place)),
        Snippet(
            "transformers",
            "Python, transformers",
            "python",
            _transformers(prompt, params, place, remaining),
        ),
    )


# ---- values


def _plain(control: Control, value: Any) -> Any:
    """A control's value as a JSON value."""
    if control.kind == "biases":
        return {_bias_key(key): bias for key, bias in value}
    return list(value) if control.is_list else value


def _bias_key(key: int | str) -> str:
    """A token in JSON: its id in digits, or its text, quoted if `read_bias_key` would change it."""
    if isinstance(key, int):
        return str(key)
    return key if read_bias_key(key) == key else json.dumps(key)


def _changed(params: SamplingParams, defaults: dict[str, Any]) -> dict[str, Any]:
    """The controls that differ from the table's or the given defaults, as JSON values."""
    return {
        control.name: _plain(control, value)
        for control in CONTROLS
        if (value := getattr(params, control.name)) != defaults.get(control.name, control.default)
    }


def _api_values(params: SamplingParams) -> dict[str, Any]:
    """The parameters of /v1/completions."""
    values = _changed(params, API_DEFAULTS)
    if params.echo and params.logprobs is None:
        values["logprobs"] = 0  # else the API only puts the prompt before the text
    values = {control_named(name).api_name: value for name, value in values.items()}
    return in_their_terms(values, params)


# ---- quoting


def python_string(text: str, indent: int = 0) -> str:
    """A Python expression for `text`, split over several lines if it is long.

    Invisible characters are escaped. `indent` is the indentation of the line.
    """
    if len(text) + indent <= LINE - 16 and "\n" not in text.rstrip("\n"):
        return f'"{_escaped(text)}"'
    margin = " " * (indent + 4)
    parts = (f'{margin}"{_escaped(part)}"\n' for part in _parts(text, LINE - indent - 6))
    return f"(\n{''.join(parts)}{' ' * indent})"


def _parts(text: str, width: int) -> Iterator[str]:
    """The text in pieces that end after line breaks, or after a space where lines are long."""
    for rest in re.findall(r"[^\n]*\n|[^\n]+", text):
        start = 0
        while len(rest) - start > width:
            end = rest.rfind(" ", start + 1, start + width) + 1 or start + width
            yield rest[start:end]
            start = end
        yield rest[start:]


def _escaped(text: str) -> str:
    return "".join(
        "\\" + character
        if character in '"\\'
        else character
        if character.isprintable()
        else character.encode("unicode_escape").decode()
        for character in text
    )


def _python(value: Any, indent: int = 0) -> str:
    """A JSON value as a Python literal."""
    if isinstance(value, str):
        return python_string(value, indent)
    if isinstance(value, list):
        return f"[{', '.join(_python(one) for one in value)}]"
    if isinstance(value, dict):
        pairs = (f"{_python(key)}: {_python(one)}" for key, one in value.items())
        return f"{{{', '.join(pairs)}}}"
    return repr(value)


def _json(value: Any) -> str:
    """Indented JSON with invisible characters escaped."""
    written = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(
        character if character.isprintable() or character == "\n" else json.dumps(character)[1:-1]
        for character in written
    )


def _shell(text: str) -> str:
    """One word of a POSIX shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def _call(function: str, arguments: list[str]) -> list[str]:
    """The lines of a call, one argument a line."""
    return [f"{function}(", *(f"    {argument}," for argument in arguments), ")"]


def _prompt_lines(prompt: str) -> list[str]:
    return [f"prompt = {python_string(prompt)}"]


# ---- the four ways


def _openai(prompt: str, params: SamplingParams, place: Place) -> str:
    values = _api_values(params)
    own = {name: value for name, value in values.items() if name in _OPENAI_PARAMETERS}
    others = {name: value for name, value in values.items() if name not in _OPENAI_PARAMETERS}
    arguments = [f"model={_python(place.model)}", "prompt=prompt"]
    arguments += [f"{name}={_python(value, 4)}" for name, value in own.items()]
    if others:
        arguments.append(f"extra_body={_python(others, 4)}")
    key = "YOUR KEY" if place.needs_key else "none"
    lines = [
        "# pip install openai",
        "from openai import OpenAI",
        "",
        *_prompt_lines(prompt),
        "",
        f"client = OpenAI(base_url={_python(place.address + '/v1')}, api_key={_python(key)})",
        *_call("answer = client.completions.create", arguments),
        "for choice in answer.choices:",
        "    print(choice.text)" + ("  # with the prompt before it" if params.echo else ""),
    ]
    if "logprobs" in values:
        lines.append("    print(choice.logprobs.token_logprobs)")
    return "\n".join(lines) + "\n"


def _curl(prompt: str, params: SamplingParams, place: Place) -> str:
    body = {"prompt": prompt, **_api_values(params)}
    lines = [f"curl {_shell(place.address + '/v1/completions')}"]
    if place.needs_key:
        lines.append("-H 'Authorization: Bearer YOUR KEY'")
    lines += ["-H 'Content-Type: application/json'", f"--data-binary {_shell(_json(body))}"]
    return " \\\n  ".join(lines) + "\n"


def _gradio(prompt: str, params: SamplingParams, place: Place) -> str:
    values = _changed(params, {})
    has_details = params.n > 1 or params.echo or params.logprobs is not None
    arguments = ["prompt"]
    arguments += [f"{name}={_python(value, 4)}" for name, value in values.items()]
    arguments.append(f'api_name="{"/complete" if has_details else "/generate"}"')
    login = ', auth=("NAME", "PASSWORD")' if place.needs_login else ""
    lines = [
        "# pip install gradio_client",
        "from gradio_client import Client",
        "",
        *_prompt_lines(prompt),
        "",
        f"client = Client({_python(place.address)}{login}, verbose=False)",
        *_call("answer = client.predict", arguments),
    ]
    if has_details:
        lines += ['for completion in answer["completions"]:', '    print(completion["text"])']
        if params.echo:
            lines.append('print(answer["prompt"]["sum_logprob"])')
    else:
        lines.append("print(answer)")
    return "\n".join(lines) + "\n"


def _transformers(prompt: str, params: SamplingParams, place: Place, remaining: int | None) -> str:
    samples = params.temperature > 0 and params.max_new_tokens > 0
    eight_bits = place.precision not in _DTYPES
    lines = [
        "# pip install torch transformers"
        + (" accelerate" if eight_bits or place.device != "cpu" else "")
        + (" bitsandbytes" if eight_bits else "")
        + (" peft" if place.adapters else ""),
        "import torch",
        *(["from peft import PeftModel"] if place.adapters else []),
        "from transformers import AutoModelForCausalLM, AutoTokenizer"
        + (", BitsAndBytesConfig" if eight_bits else "")
        + (", set_seed" if samples and params.seed is not None else ""),
        "",
    ]
    lines += _prompt_lines(prompt)
    lines += [
        "",
        f"name = {_python(place.source)}" + (f"  # {place.comment}" if place.comment else ""),
    ]
    revision = [] if place.revision is None else [f"revision={_python(place.revision)}"]
    loading = [*revision]
    if eight_bits:
        lines.append("# the 8 bits of bitsandbytes are close to the playground's, not the same")
        loading.append("quantization_config=BitsAndBytesConfig(load_in_8bit=True)")
    else:
        loading.append(f"dtype=torch.{place.precision}")
    if eight_bits or place.device != "cpu":
        loading.append(f'device_map="{place.device}"')
    lines += [
        f"tokenizer = AutoTokenizer.from_pretrained({', '.join(['name', *revision])})",
        *_call("model = AutoModelForCausalLM.from_pretrained", ["name", *loading]),
        *map(_merging, place.adapters),
        "",
    ]
    if prompt:
        lines.append('input_ids = tokenizer(prompt, return_tensors="pt").input_ids')
    else:
        lines.append("input_ids = torch.tensor([[tokenizer.bos_token_id]])  # for an empty prompt")
    if params.truncate == "left":
        lines += [
            "positions = model.config.n_positions",
            f"input_ids = input_ids[:, -(positions - min({params.max_new_tokens}, "
            "positions // 2)) :]",
        ]
    lines.append("input_ids = input_ids.to(model.device)")
    if params.echo:
        lines += [
            "",
            "# the sum of the log-probabilities of the prompt's tokens but the first",
            "with torch.inference_mode():",
            "    logprobs = model(input_ids).logits[0, :-1].log_softmax(dim=-1)",
            "print(logprobs.gather(1, input_ids[0, 1:, None]).sum().item())",
        ]
    if params.max_new_tokens:
        lines += ["", *_generate_with_transformers(params, samples, remaining)]
    return "\n".join(lines) + "\n"


def _merging(adapter: str) -> str:
    """The line that merges an adapter into the model."""
    name, separator, weight = adapter.rpartition("=")
    comment = f"  # the playground gives it the weight {weight}" if separator else ""
    source = _python(name or adapter)
    return f"model = PeftModel.from_pretrained(model, {source}).merge_and_unload(){comment}"


def _generate_with_transformers(
    params: SamplingParams, samples: bool, remaining: int | None
) -> Iterator[str]:
    """The call of `generate` with its comments, and the code that prints the texts."""
    for control in CONTROLS:
        if control.transformers or control.part_of or (control.name in FILTERS and not samples):
            continue
        if (value := getattr(params, control.name)) != control.default:
            yield f"# {control.name}={value!r}: {control.not_in_transformers}"
    several = samples and params.n > 1
    if params.n > 1 and not samples:
        yield f"# n={params.n}: without sampling they would all be the same; one is written"
    if samples and params.seed is not None:
        yield "# the random numbers are others than the playground's, and so are the words"
        yield f"set_seed({params.seed})"
    yield from _call("outputs = model.generate", list(_arguments(params, samples, remaining)))
    yield "for output in outputs:"
    yield "    tokens = output[input_ids.shape[1] :].tolist()"
    if params.stop_token_ids:
        yield f"    ends = {_python(list(params.stop_token_ids))}"
        yield "    tokens = tokens[: next((i for i, t in enumerate(tokens) if t in ends), None)]"
    skipping = "False" if params.ignore_eos and not several else "True"
    yield f"    text = tokenizer.decode(tokens, skip_special_tokens={skipping})"
    if params.stop:
        yield f"    for stop in {_python(list(params.stop))}:  # generate leaves it in"
        yield "        text = text.split(stop, 1)[0]"
    yield "    print(text)"


def _arguments(params: SamplingParams, samples: bool, remaining: int | None) -> Iterator[str]:
    """The arguments of transformers' `generate`."""
    yield "input_ids"
    yield "attention_mask=torch.ones_like(input_ids)"
    if remaining is not None and params.max_new_tokens > remaining:
        # the playground ends at the full context by itself
        yield f"max_new_tokens={max(1, remaining)}"
    else:
        yield f"max_new_tokens={params.max_new_tokens}"
    yield f"do_sample={samples}"
    for control in CONTROLS:
        is_filter = control.name in FILTERS
        if control.transformers != control.name or control.off is None or is_filter > samples:
            continue
        # a checkpoint may have other defaults for the first filters
        is_always_given = is_filter and control.group == "randomness"
        if (value := getattr(params, control.name)) != control.off or is_always_given:
            yield f"{control.name}={value!r}"
    if params.logit_bias:
        biases = (
            f"[{[key] if isinstance(key, int) else f'tokenizer.encode({_python(key)})'}, {bias!r}]"
            for key, bias in params.logit_bias
        )
        yield f"sequence_bias=[{', '.join(biases)}]"
    if params.bad_words:
        words = [both for word in params.bad_words for both in (word, " " + word)]
        yield f"bad_words_ids=[tokenizer.encode(word) for word in {_python(words)}]"
    ends = _python(list(params.stop_token_ids))[1:-1]
    if params.ignore_eos:
        yield f"eos_token_id={f'[{ends}]' if ends else None}"
    elif ends:
        yield f"eos_token_id=[tokenizer.eos_token_id, {ends}]"
    yield "pad_token_id=tokenizer.eos_token_id"
    if params.stop:
        yield f"stop_strings={_python(list(params.stop))}"
        yield "tokenizer=tokenizer"
    if samples and params.n > 1:
        yield f"num_return_sequences={params.n}"
