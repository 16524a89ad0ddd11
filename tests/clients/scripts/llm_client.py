"""llm, the command line program: a model in its file of OpenAI-like ones, whole and streamed."""

import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

MODEL = """- model_id: playground
  model_name: sample-model
  api_base: {url}/v1
  completion: true
"""

with tempfile.TemporaryDirectory() as home:
    (Path(home) / "extra-openai-models.yaml").write_text(MODEL.format(url=sys.argv[1]))
    for more in ((), ("--no-stream",)):
        ran = subprocess.run(
            [sys.executable, "-m", "llm", "-m", "playground", "-o", "max_tokens", "6", *more,
             "Once upon a time"],
            env={**os.environ, "LLM_USER_PATH": home, "OPENAI_API_KEY": "none"},
            capture_output=True,
            text=True,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.strip()
print(version("llm"))
