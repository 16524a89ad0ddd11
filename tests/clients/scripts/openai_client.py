"""openai: a list of models, several prompts, probabilities, a stream, an error."""

import sys

import openai

client = openai.OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none", max_retries=0)
model = client.models.list().data[0].id
prompts = [f"Once there were {number} kings" for number in range(100)]
answer = client.completions.create(model=model, prompt=prompts, max_tokens=4, n=2, seed=1)
assert [choice.index for choice in answer.choices] == list(range(200))
answer = client.completions.create(
    model=model, prompt="Once", max_tokens=4, logprobs=2, echo=True, stop=None, suffix=None
)
logprobs = answer.choices[0].logprobs
assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset)
stream = client.completions.create(
    model=model, prompt="Once", max_tokens=8, stream=True, seed=2,
    stream_options={"include_usage": True},
)  # fmt: skip
chunks = list(stream)
assert chunks[-1].usage.completion_tokens <= 8
whole = client.completions.create(model=model, prompt="Once", max_tokens=8, seed=2)
assert "".join(c.choices[0].text for c in chunks[:-1]) == whole.choices[0].text
wrong = None
try:
    client.completions.create(model=model, prompt="Once", temperature=9)
except openai.BadRequestError as error:
    wrong = error.param
assert wrong == "temperature"
print(openai.__version__)
