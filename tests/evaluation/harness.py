"""Run lm-evaluation-harness on the tasks beside this file; print the results as JSON.

python -m tests.evaluation.harness hf assets/sample-model
python -m tests.evaluation.harness api http://127.0.0.1:7860
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.tasks import TaskManager

FOLDER = Path(__file__).resolve().parent
CHECKPOINT = FOLDER.parent.parent / "assets" / "sample-model"
TASKS = ["playground_stories", "playground_choices", "playground_sentences"]
WINDOW = 256  # tokens; stories are longer, so that they take several


def arguments(kind: str, where: str) -> dict[str, Any]:
    """The model as the harness names it."""
    if kind == "hf":
        options = {"pretrained": where, "dtype": "float32", "max_length": WINDOW, "device": "cpu"}
        return {"model": "hf", "model_args": options, "batch_size": 1}
    options = {
        "model": "sample model",
        "base_url": f"{where}/v1/completions",
        "tokenizer_backend": "huggingface",
        "tokenizer": str(CHECKPOINT),
        "max_length": WINDOW + 2,  # it reserves two, one for the token it must request
        "num_concurrent": 4,
        "max_retries": 1,
    }
    return {"model": "local-completions", "model_args": options, "batch_size": 4}


def main() -> None:
    kind, where = sys.argv[1:]
    evaluation = lm_eval.simple_evaluate(
        **arguments(kind, where),
        tasks=TASKS,
        task_manager=TaskManager(include_path=str(FOLDER), include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
    )
    samples = {
        task: [sample["resps"] for sample in sorted(rows, key=lambda row: row["doc_id"])]
        for task, rows in evaluation["samples"].items()
    }
    json.dump({"results": evaluation["results"], "samples": samples}, sys.stdout)


if __name__ == "__main__":
    main()
