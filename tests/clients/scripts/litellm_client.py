"""LiteLLM: a completion and a stream, by its name for servers of OpenAI's completions."""

import sys
from importlib.metadata import version

import litellm

options = {
    "model": "text-completion-openai/sample-model",
    "api_base": f"{sys.argv[1]}/v1",
    "api_key": "none",
    "prompt": "Once upon a time",
    "max_tokens": 6,
}
assert litellm.text_completion(**options).choices[0].text
pieces = [chunk.choices[0].text or "" for chunk in litellm.text_completion(**options, stream=True)]
assert "".join(pieces)
print(version("litellm"))
