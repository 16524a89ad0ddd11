"""inspect-ai: its two perplexity scorers, on texts and on token ids, over its completions API."""

import os
import sys
import tempfile
from importlib.metadata import version

import inspect_ai
from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessageUser
from inspect_ai.scorer import perplexity, target_perplexity
from inspect_ai.solver import generate

os.environ |= {"PLAYGROUND_BASE_URL": f"{sys.argv[1]}/v1", "PLAYGROUND_API_KEY": "none"}
ids = ChatMessageUser(content="", metadata={"prompt_token_ids": [300, 301, 302, 303]})
samples = [
    Sample(input="Once upon a time there was a king.", metadata={"num_target_tokens": 2}),
    Sample(input=[ids], metadata={"num_target_tokens": 1}),
]
task = inspect_ai.Task(
    dataset=samples,
    solver=generate(max_tokens=1, prompt_logprobs=1),
    scorer=[perplexity(), target_perplexity()],
)
with tempfile.TemporaryDirectory() as logs:
    (log,) = inspect_ai.eval(
        task,
        model="openai-api-completions/playground/sample-model",
        log_dir=logs,
        display="none",
        max_retries=0,
    )
    assert log.status == "success", log.error
    for sample in log.samples:
        whole, target = sample.scores["perplexity"], sample.scores["target_perplexity"]
        assert whole.value > 0
        assert target.metadata["num_tokens"] == sample.metadata["num_target_tokens"]
        assert whole.metadata["num_tokens"] >= 3
print(version("inspect-ai"))
