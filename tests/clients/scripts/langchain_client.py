"""langchain-openai: one text, a stream, a batch of 100 in one request."""

import sys
from importlib.metadata import version

from langchain_openai import OpenAI

model = OpenAI(
    base_url=f"{sys.argv[1]}/v1", api_key="none", model="sample-model", max_tokens=4, batch_size=100
)
assert isinstance(model.invoke("Once upon a time", seed=7), str)
assert "".join(model.stream("Once upon a time"))
prompts = [f"Once there were {number} kings" for number in range(100)]
answer = model.generate(prompts)
assert len(answer.generations) == 100
print(version("langchain-openai"))
