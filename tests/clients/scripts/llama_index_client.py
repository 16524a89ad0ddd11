"""LlamaIndex: a completion, whole, streamed and asynchronous, by its class for other servers."""

import asyncio
import sys
from importlib.metadata import version

from llama_index.llms.openai_like import OpenAILike

model = OpenAILike(
    model="sample-model", api_base=f"{sys.argv[1]}/v1", api_key="none", max_tokens=6, max_retries=0
)
assert model.complete("Once upon a time").text
assert "".join(str(part.delta) for part in model.stream_complete("Once upon a time"))
assert asyncio.run(model.acomplete("Once upon a time", logprobs=2)).text
print(version("llama-index-llms-openai-like"))
