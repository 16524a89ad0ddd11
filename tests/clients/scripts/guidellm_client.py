"""guidellm: eight requests, two at a time, and no error in its report."""

import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

MODEL = Path(__file__).resolve().parents[3] / "assets" / "sample-model"

with tempfile.TemporaryDirectory() as folder:
    report = Path(folder) / "report.json"
    ran = subprocess.run(
        [
            str(Path(sys.executable).parent / "guidellm"), "run", "--disable-console-interactive",
            "--backend", f"kind=openai_http,target={sys.argv[1]},model=sample-model,"
            "request_format=/v1/completions",
            "--profile", "kind=concurrent,streams=2",
            "--constraint", "kind=max_requests,count=8",
            "--tokenizer", f"kind=hf_auto,model={MODEL}",
            "--data", "kind=synthetic_text,prompt_tokens=32,output_tokens=8",
            "--output", f"kind=json,path={report}",
        ],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    (benchmark,) = json.loads(report.read_text())["benchmarks"]
    totals = benchmark["metrics"]["request_totals"]
    assert totals["successful"] == 8, totals
    assert not totals["errored"], totals
print(version("guidellm"))
