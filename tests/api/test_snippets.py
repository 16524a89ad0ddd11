"""Code that people copy, run against a playground: the examples of docs/api.md, and the code that
the page shows under View code."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import shlex
import subprocess
import sys
import warnings
from dataclasses import replace
from typing import Any

import pytest
from gradio_client import Client
from hypothesis import example, given
from hypothesis import strategies as st

from gptj_demo.control_values import make_params
from gptj_demo.ui.share import SAMPLE_FOLDER
from gptj_demo.ui.snippets import Place, make_snippets
from tests.processes import ROOT

from .conftest import Playground

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```(python|bash)\n(.*?)```", PAGE, flags=re.DOTALL)
SNIPPETS = [one for one in EXAMPLES if "langchain" not in one[1]]
"""The others need packages that `make evaluation` installs; see tests/evaluation."""


def test_the_api_document_has_python_and_bash_examples() -> None:
    assert [language for language, _ in SNIPPETS] == [
        "python",
        "python",
        "bash",
        "python",
    ]


@pytest.mark.parametrize(("language", "code"), SNIPPETS)
def test_the_example_runs(playground: Playground, language: str, code: str) -> None:
    run_example(playground, language, code)


def run_example(playground: Playground, language: str, code: str) -> None:
    """Run an example against a playground; fails the test where it fails."""
    code = code.replace("http://127.0.0.1:7860", playground.url)
    program = [sys.executable, "-c"] if language == "python" else ["bash", "-e", "-c"]
    ran = subprocess.run([*program, code], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout) > 40
    assert '"error"' not in ran.stdout


# ---- the code under View code

PLACE = Place("https://o'neill.example/a b", "sample model", "assets/sample-model")
HOSTILE = (
    'He said "it\'s $HOME `id` ${alert(1)} {{value}} %s",\r\n\\n\\\'\\"\\\n'
    "EOF\n\u202eabc\u202c \0\x1b[31m \u2028 é 漢字 🜂 </script><img src=x onerror=alert(1)>\n\n"
)
PROMPT = "Once upon a time there was a poor miller who had three sons, and"
WAYS = ("openai", "curl", "gradio_client", "transformers")
Settings = dict[str, Any]

GREEDY: dict[str, Settings] = {
    "plain": {"temperature": 0.0},
    "penalties": {"temperature": 0.0, "repetition_penalty": 1.2, "no_repeat_ngram_size": 3},
    "words": {
        "temperature": 0.0,
        "bad_words": ["king", "it's"],
        "logit_bias": {" miller": -4.0, '"37"': 2.5, "300": -1.5, " golden bird": 6.0},
    },
    "stopping": {"temperature": 0.0, "max_new_tokens": 60, "stop": [" the", "\n'"]},
    "tokens that stop": {"temperature": 0.0, "stop_token_ids": [13, 262], "min_new_tokens": 7},
    "past the end": {"temperature": 0.0, "ignore_eos": True, "max_new_tokens": 200},
    "filters do nothing": {"temperature": 0.0, "top_k": 3, "xtc_probability": 1.0, "min_p": 0.5},
}
SAMPLED: dict[str, Settings] = {
    "seed": {"seed": 7},
    "filters": {
        "seed": 8,
        "temperature": 1.3,
        "top_k": 50,
        "min_p": 0.05,
        "typical_p": 0.9,
        "epsilon_cutoff": 0.0003,
        "eta_cutoff": 0.0003,
        "xtc_probability": 0.5,
    },
    "repetition": {"seed": 9, "presence_penalty": 0.5, "dry_multiplier": 0.8, "dry_base": 2.0},
    "several": {"seed": 10, "n": 2, "best_of": 3, "logprobs": 2},
    "matching": {"seed": 13, "must_match": "json", "must_match_text": '{"enum": [1, "\\u00e9"]}'},
    "healed": {"seed": 11, "token_healing": True, "truncate": "left", "max_time": 60.0},
}


@pytest.fixture(scope="module")
def client(running_playground: Playground) -> Client:
    running_playground.wait_until_ready()
    return Client(running_playground.url, verbose=False)


def code_for(client: Client, prompt: str, settings: Settings, url: str) -> dict[str, str]:
    code = client.predict(prompt, settings, url, api_name="/code")
    assert tuple(code) == WAYS
    return dict(code)


def run_python(code: str) -> tuple[dict[str, Any], str]:
    """Run code as if in the repository's folder; return its variables and its output."""
    code = code.replace(f'"{SAMPLE_FOLDER}"', repr(str(ROOT / SAMPLE_FOLDER)))
    names: dict[str, Any] = {}
    printed = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
        warnings.simplefilter("ignore")  # warnings of other packages
        exec(compile(code, "snippet", "exec"), names)
    return names, printed.getvalue()


def run_curl(code: str) -> Any:
    ran = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def texts_of(code: dict[str, str]) -> dict[str, list[str]]:
    """The completions that the three ways to a playground give."""
    openai, _ = run_python(code["openai"])
    gradio, _ = run_python(code["gradio_client"])
    answer = gradio["answer"]
    whole = [answer] if isinstance(answer, str) else [one["text"] for one in answer["completions"]]
    return {
        "openai": [choice.text for choice in openai["answer"].choices],
        "curl": [choice["text"] for choice in run_curl(code["curl"])["choices"]],
        "gradio_client": whole,
    }


def expected(playground: Playground, prompt: str, settings: Settings) -> list[str]:
    """The same with each control given by itself."""
    values = make_params(settings).model_dump()
    values["max_tokens"] = values.pop("max_new_tokens")
    values["logit_bias"] = settings.get("logit_bias", {})
    return [choice["text"] for choice in playground.choices(prompt, **values)]


@pytest.mark.parametrize("name", GREEDY)
def test_the_code_of_all_four_ways_generates_the_same_greedy_text(
    playground: Playground, client: Client, name: str
) -> None:
    settings = {"max_new_tokens": 40, **GREEDY[name]}
    wanted = expected(playground, PROMPT, settings)
    assert wanted[0].strip()
    code = code_for(client, PROMPT, settings, playground.url)
    assert texts_of(code) == dict.fromkeys(WAYS[:3], wanted)
    _, printed = run_python(code["transformers"])
    assert printed == wanted[0] + "\n"


@pytest.mark.parametrize("name", SAMPLED)
def test_code_that_calls_the_playground_generates_the_text_of_its_seed(
    playground: Playground, client: Client, name: str
) -> None:
    settings = {"max_new_tokens": 30, **SAMPLED[name]}
    code = code_for(client, PROMPT, settings, playground.url)
    assert texts_of(code) == dict.fromkeys(WAYS[:3], expected(playground, PROMPT, settings))
    _, printed = run_python(code["transformers"])
    assert len(printed) > 20
    unknown = {"xtc_probability", "presence_penalty", "dry_multiplier", "best_of", "logprobs"}
    for control in {*unknown, "token_healing"} & settings.keys():
        assert f"# {control}=" in code["transformers"]


def test_any_prompt_reaches_the_model_as_it_is(playground: Playground, client: Client) -> None:
    settings = {"temperature": 0.0, "max_new_tokens": 20}
    wanted = expected(playground, HOSTILE, settings)
    code = code_for(client, HOSTILE, settings, playground.url)
    assert texts_of(code) == dict.fromkeys(WAYS[:3], wanted)
    assert run_python(code["transformers"])[1] == wanted[0] + "\n"
    nothing = code_for(client, "", settings, playground.url)
    wanted = expected(playground, "", settings)
    assert texts_of(nothing) == dict.fromkeys(WAYS[:3], wanted)
    assert run_python(nothing["transformers"])[1] == wanted[0] + "\n"


def test_the_code_of_all_four_ways_scores_a_prompt(playground: Playground, client: Client) -> None:
    settings = {"max_new_tokens": 0, "echo": True}
    code = code_for(client, PROMPT, settings, playground.url)
    choice = run_python(code["openai"])[0]["answer"].choices[0]
    assert choice.text == PROMPT
    total = sum(choice.logprobs.token_logprobs[1:])
    assert run_curl(code["curl"])["choices"][0]["text"] == PROMPT
    gradio = run_python(code["gradio_client"])[0]["answer"]["prompt"]["sum_logprob"]
    assert gradio == pytest.approx(total, abs=1e-3)
    assert float(run_python(code["transformers"])[1]) == pytest.approx(total, abs=1e-3)


def test_the_transformers_code_handles_a_prompt_that_nearly_fills_the_context(
    playground: Playground, client: Client
) -> None:
    settings = {"temperature": 0.0, "max_new_tokens": 100}
    prompt = "One two three four five. " * 160
    prompt = prompt[: prompt.rindex(".", 0, 3980)]
    wanted = expected(playground, prompt, {**settings, "truncate": "left"})
    code = code_for(client, prompt, {**settings, "truncate": "left"}, playground.url)
    assert run_python(code["transformers"])[1] == wanted[0] + "\n"
    tokens = playground.http.post("/tokenize", json={"prompt": prompt}).json()["count"]
    remaining = 1024 - tokens
    assert remaining < 100, "the prompt is too short for this test"
    code = code_for(client, prompt, settings, playground.url)
    assert f"max_new_tokens={remaining}" in code["transformers"]
    assert run_python(code["transformers"])[1] == expected(playground, prompt, settings)[0] + "\n"


def test_the_code_contains_only_controls_that_differ_from_the_defaults() -> None:
    code = {one.name: one.code for one in make_snippets("P", make_params({"top_k": 5}), PLACE)}
    assert "top_k=5" in code["gradio_client"]
    assert "top_p" not in code["gradio_client"]
    assert "temperature=0.8" in code["openai"]  # the API's default is OpenAI's
    assert "seed" not in code["openai"] + code["curl"] + code["transformers"]
    plain = make_params({"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 16})
    code = {one.name: one.code for one in make_snippets("P", plain, PLACE)}
    assert json.loads(curl_words(code["curl"])[-1]) == {"prompt": "P"}


@pytest.mark.parametrize(
    ("kind", "text", "field", "value"),
    [
        ("choices", "a\\n b\nc", "guided_choice", ["a\n b", "c"]),
        ("regex", "a+", "guided_regex", "a+"),
        ("json", '{"const": 1}', "guided_json", {"const": 1}),
        ("json", "{", "guided_json", "{"),
        ("grammar", 'root ::= "a"', "guided_grammar", 'root ::= "a"'),
    ],
)
def test_the_api_code_uses_vllms_field_name_for_a_constraint(
    kind: str, text: str, field: str, value: Any
) -> None:
    params = make_params({"must_match": kind, "must_match_text": text, "max_new_tokens": 16})
    code = {one.name: one.code for one in make_snippets("P", params, PLACE)}
    body = json.loads(curl_words(code["curl"])[-1])
    assert body[field] == value
    assert not body.keys() & {"must_match", "must_match_text"}
    assert "must_match" in code["gradio_client"]


def test_the_code_contains_the_key_login_revision_and_precision() -> None:
    place = Place(
        "https://gptj.example", "GPT-J 6B", "EleutherAI/gpt-j-6b", None, "float16", "float16",
        "cuda", needs_key=True, needs_login=True,
    )  # fmt: skip
    code = {one.name: one.code for one in make_snippets("P", make_params({}), place)}
    assert 'api_key="YOUR KEY"' in code["openai"]
    assert "Authorization: Bearer YOUR KEY" in curl_words(code["curl"])
    assert 'auth=("NAME", "PASSWORD")' in code["gradio_client"]
    for argument in ('revision="float16"', "dtype=torch.float16", 'device_map="cuda"'):
        assert argument in code["transformers"]
    eight = {
        one.name: one.code
        for one in make_snippets("P", make_params({}), replace(place, precision="int8"))
    }
    assert "load_in_8bit=True" in eight["transformers"]
    for one in (*code.items(), *eight.items()):
        if one[0] != "curl":
            ast.parse(one[1])


def test_the_adapters_are_merged_in_the_code_for_transformers() -> None:
    place = replace(PLACE, adapters=("someone/gpt-j-lora", "o'neill/other=0.5"))
    code = {one.name: one.code for one in make_snippets("P", make_params({}), place)}
    merged = [line for line in code["transformers"].splitlines() if "merge_and_unload" in line]
    assert [one.split('"')[1] for one in merged] == ["someone/gpt-j-lora", "o'neill/other"]
    assert "the playground gives it the weight 0.5" in merged[1]
    ast.parse(code["transformers"])


def curl_words(code: str) -> list[str]:
    """A command as the shell splits it; line breaks after a backslash are none."""
    return shlex.split(code.replace("\\\n", ""))


def assigned(code: str, name: str) -> Any:
    """The literal value that the code assigns to `name`."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f"{name} is not set")


@given(
    prompt=st.text(max_size=400) | st.text("'\"\\\n ${}`!é", max_size=300),
    stop=st.text(min_size=1, max_size=9),
)
@example(prompt=HOSTILE, stop="EOF")
@example(prompt="word " * 100, stop="'")
def test_prompts_and_stop_strings_are_quoted_correctly_in_all_code(prompt: str, stop: str) -> None:
    params = make_params({"stop": [stop], "logit_bias": {stop: 1.0}})
    code = {one.name: one.code for one in make_snippets(prompt, params, PLACE)}
    body = json.loads(curl_words(code["curl"])[-1])
    assert (body["prompt"], body["stop"]) == (prompt, [stop])
    assert make_params({"logit_bias": body["logit_bias"]}).logit_bias == params.logit_bias
    assert curl_words(code["curl"])[1] == PLACE.address + "/v1/completions"
    for name in ("openai", "gradio_client", "transformers"):
        assert assigned(code[name], "prompt") == prompt
        strings = {n.value for n in ast.walk(ast.parse(code[name])) if isinstance(n, ast.Constant)}
        assert stop in strings
    for snippet in code.values():
        assert all(character.isprintable() or character == "\n" for character in snippet)
        assert max(map(len, code["openai"].splitlines())) < 200
