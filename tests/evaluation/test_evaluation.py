"""lm-evaluation-harness gets the same from the API as from its own model of the checkpoint.

It is not among the other tests' requirements: `make evaluation` installs it and runs this.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Playground
from tests.api.test_snippets import EXAMPLES, SNIPPETS, run_example
from tests.processes import ROOT

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="lm_eval is not installed: make evaluation"
)
LIMIT = 1e-3


def run_harness(kind: str, where: str, home: Path) -> dict[str, Any]:
    environment = {
        **os.environ,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "no_proxy": "*",
    }
    ran = subprocess.run(
        [sys.executable, "-m", "tests.evaluation.harness", kind, where],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return dict(json.loads(ran.stdout.splitlines()[-1]))


def numbers(samples: Any) -> list[float]:
    """All log-likelihoods of a task, in order."""
    if isinstance(samples, list):
        return [number for one in samples for number in numbers(one)]
    try:
        return [float(samples)] if not isinstance(samples, bool) else []
    except ValueError:
        return []


def test_the_harness_gets_the_same_scores_from_the_api_and_the_checkpoint(tmp_path: Path) -> None:
    playground = Playground()
    try:
        playground.wait_until_ready()
        ours = run_harness("api", playground.url, tmp_path)
    finally:
        playground.stop()
    theirs = run_harness("hf", str(ROOT / "assets" / "sample-model"), tmp_path)
    largest = 0.0
    for task, least in (("playground_stories", 8), ("playground_choices", 32)):
        got, wanted = (numbers(results["samples"][task]) for results in (ours, theirs))
        assert len(got) == len(wanted) >= least
        largest = max(largest, *(abs(a - b) for a, b in zip(got, wanted, strict=True)))
    print(f"largest difference of a log-likelihood: {largest:.2e}")
    assert largest <= LIMIT
    sentences = "playground_sentences"
    assert ours["samples"][sentences] == theirs["samples"][sentences]
    for results in (ours, theirs):
        assert results["results"][sentences]["exact_match,none"] == 1.0
    choices = "playground_choices"
    for metric in ("acc,none", "acc_norm,none"):
        assert ours["results"][choices][metric] == theirs["results"][choices][metric]
    perplexity = [t["results"]["playground_stories"]["bits_per_byte,none"] for t in (ours, theirs)]
    assert perplexity[0] == pytest.approx(perplexity[1], abs=LIMIT)


def test_contexts_of_the_whole_window_are_scored_in_batches_of_128(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As docs/api.md has it: `max_length` is the context and one more."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("no_proxy", "*")
    playground = Playground()
    try:
        playground.wait_until_ready()
        window = playground.http.get("/v1/models").json()["data"][0]["max_model_len"]
        model = LocalCompletionsAPI(
            base_url=f"{playground.url}/v1/completions",
            model="sample-model",
            tokenizer=str(ROOT / "assets" / "sample-model"),
            tokenizer_backend="huggingface",
            max_length=window + 1,
            batch_size=128,
            max_retries=1,
        )
        short = [f"Once there were {number} kings" for number in range(130)]
        long = ["the king saw a bear " * window + "x" * number for number in range(4)]
        asked = [
            Instance("loglikelihood", {}, (context, " and the boy"), number)
            for number, context in enumerate(short + long)
        ]
        scores = model.loglikelihood(asked)
        assert len(scores) == len(asked)
        assert all(number < 0 for number, _ in scores)
        (rolled,) = model.loglikelihood_rolling(
            [Instance("loglikelihood_rolling", {}, (long[0],), 0)]
        )
        assert rolled < 0
    finally:
        playground.stop()


def test_the_examples_with_more_requirements_run() -> None:
    others = [one for one in EXAMPLES if one not in SNIPPETS]
    assert len(others) == 1
    playground = Playground()
    try:
        playground.wait_until_ready()
        for language, code in others:
            run_example(playground, language, code)
    finally:
        playground.stop()
