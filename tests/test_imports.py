"""The house rules: imports flow downward, and torch stays in the engine process."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((ROOT / "gptj_demo").rglob("*.py"))

# who may be imported by whom, outermost first: a module may import from its own rank or lower ones
RANKS = [
    ("app",),
    ("gptj_demo.ui", "gptj_demo.api.service", "gptj_demo.__main__"),
    (
        "gptj_demo.api.health",
        "gptj_demo.api.kobold",
        "gptj_demo.api.likely",
        "gptj_demo.api.mcp",
        "gptj_demo.api.mcp_tools",
        "gptj_demo.api.openai",
        "gptj_demo.api.pipeline_cloud",
        "gptj_demo.api.score",
        "gptj_demo.api.tokens",
    ),
    ("gptj_demo.web",),
    ("gptj_demo.api.context", "gptj_demo.api.front"),
    (
        "gptj_demo.api.connections",
        "gptj_demo.api.description",
        "gptj_demo.api.docs",
        "gptj_demo.api.streaming",
    ),
    (
        "gptj_demo.api.answer_memory",
        "gptj_demo.api.completions",
        "gptj_demo.api.schema",
        "gptj_demo.api.access",
    ),
    (
        "gptj_demo.api.access_log",
        "gptj_demo.api.answers",
        "gptj_demo.api.bodies",
        "gptj_demo.api.choices",
        "gptj_demo.api.compatibility",
        "gptj_demo.api.errors",
        "gptj_demo.api.guesses",
        "gptj_demo.api.keys",
        "gptj_demo.api.json_body",
        "gptj_demo.api.matching",
        "gptj_demo.api.metrics",
        "gptj_demo.api.models",
        "gptj_demo.api.quota",
        "gptj_demo.api.responses",
        "gptj_demo.api.timings",
        "gptj_demo.api.tracing",
        "gptj_demo.api.wrong_values",
    ),
    ("gptj_demo.client", "gptj_demo.engine.__main__", "gptj_demo.engine.classifier"),
    ("gptj_demo.client.worker",),
    (
        "gptj_demo.client.dispatcher",
        "gptj_demo.client.moderation",
        "gptj_demo.client.backends.choice",
    ),
    ("gptj_demo.client.moderation.moderated",),
    (
        "gptj_demo.client.moderation.checker",
        "gptj_demo.client.moderation.classifier",
        "gptj_demo.client.moderation.endpoint",
        "gptj_demo.client.moderation.holdback",
        "gptj_demo.client.moderation.patterns",
    ),
    ("gptj_demo.client.moderation.sentences", "gptj_demo.client.moderation.verdict"),
    (
        "gptj_demo.client.admission",
        "gptj_demo.client.memory",
        "gptj_demo.client.places",
        "gptj_demo.client.progress",
        "gptj_demo.client.prompt",
        "gptj_demo.client.stream",
        "gptj_demo.client.backends.rayserve",
        "gptj_demo.client.backends.zerogpu",
    ),
    ("gptj_demo.client.backends.fleet",),
    ("gptj_demo.client.watch", "gptj_demo.client.backends.callers"),
    (
        "gptj_demo.client.backends.host",
        "gptj_demo.client.backends.routing",
        "gptj_demo.client.backends.scaling",
    ),
    (
        "gptj_demo.client.backlog",
        "gptj_demo.client.restarts",
        "gptj_demo.client.shares",
        "gptj_demo.client.visitor",
        "gptj_demo.client.backends.calling",
        "gptj_demo.client.backends.leases",
        "gptj_demo.client.backends.local",
    ),
    ("gptj_demo.client.backends", "gptj_demo.client.backends.outbox"),
    ("gptj_demo.client.refusal",),
    ("gptj_demo.engine.lent", "gptj_demo.engine.loop"),
    ("gptj_demo.engine.remote",),
    ("gptj_demo.engine.remote.serving",),
    ("gptj_demo.engine.remote.requests",),
    ("gptj_demo.engine.remote.bodies",),
    ("gptj_demo.engine.remote.completion",),
    ("gptj_demo.engine.remote.abilities", "gptj_demo.engine.remote.origin"),
    ("gptj_demo.engine.remote.reading",),
    ("gptj_demo.engine.remote.server",),
    ("gptj_demo.engine.starting",),
    (
        "gptj_demo.engine.compilation",
        "gptj_demo.engine.engine",
        "gptj_demo.engine.load",
        "gptj_demo.engine.pulse",
    ),
    ("gptj_demo.engine.load.tokenizer", "gptj_demo.engine.load.weights"),
    ("gptj_demo.engine.load.lora", "gptj_demo.engine.load.plan"),
    ("gptj_demo.engine.load.adapters", "gptj_demo.engine.load.tensors"),
    ("gptj_demo.engine.load.eight_bit", "gptj_demo.engine.load.hub"),
    (
        "gptj_demo.engine.load.families",
        "gptj_demo.engine.load.mapping",
        "gptj_demo.engine.load.memory",
        "gptj_demo.engine.load.tokenizer_files",
    ),
    ("gptj_demo.engine.load.configuration", "gptj_demo.engine.load.projections"),
    ("gptj_demo.engine.load.folder", "gptj_demo.engine.load.legacy"),
    ("gptj_demo.engine.load.errors", "gptj_demo.engine.load.values"),
    ("gptj_demo.engine.completion",),
    (
        "gptj_demo.engine.detokenizer",
        "gptj_demo.engine.runner",
        "gptj_demo.engine.scored_texts",
        "gptj_demo.engine.vocabulary",
    ),
    ("gptj_demo.engine.drafters",),
    ("gptj_demo.engine.draft_model", "gptj_demo.engine.lookup"),
    ("gptj_demo.engine.speculation",),
    ("gptj_demo.engine.model",),
    ("gptj_demo.engine.model.select",),
    ("gptj_demo.engine.model.cuda.model",),
    ("gptj_demo.engine.model.cuda.graphs",),
    (
        "gptj_demo.engine.model.eager",
        "gptj_demo.engine.model.cpu.compiled",
        "gptj_demo.engine.model.cpu.int8",
        "gptj_demo.engine.model.cuda.kernels",
        "gptj_demo.engine.model.cuda.triton_kernels",
        "gptj_demo.engine.sampling",
        "gptj_demo.engine.scheduler",
    ),
    ("gptj_demo.engine.sampling.expansion",),
    ("gptj_demo.engine.sampling.batch", "gptj_demo.engine.model.cpu.rows"),
    ("gptj_demo.engine.sampling.everyday", "gptj_demo.engine.model.cpu.passes"),
    ("gptj_demo.engine.sampling.controls", "gptj_demo.engine.sampling.trace"),
    ("gptj_demo.engine.sampling.sequences",),
    ("gptj_demo.engine.sampling.control",),
    ("gptj_demo.engine.sampling.row",),
    ("gptj_demo.engine.sampling.select",),
    ("gptj_demo.engine.sampling.numba_code", "gptj_demo.engine.model.cpu.layers"),
    ("gptj_demo.engine.model.cpu.attention",),
    (
        "gptj_demo.engine.sampling.compiled",
        "gptj_demo.engine.sampling.guides",
        "gptj_demo.engine.sampling.histories",
        "gptj_demo.engine.end_conditions",
        "gptj_demo.engine.prompt_score",
        "gptj_demo.engine.prefix_cache",
        "gptj_demo.engine.model.base",
        "gptj_demo.engine.model.fusing",
        "gptj_demo.engine.model.cpu.elementwise",
        "gptj_demo.engine.model.cpu.int8_products",
    ),
    (
        "gptj_demo.engine.machine",
        "gptj_demo.engine.transfer",
        "gptj_demo.engine.model.int8",
        "gptj_demo.engine.model.kv_cache",
        "gptj_demo.engine.page_pool",
        "gptj_demo.engine.model.linear",
        "gptj_demo.engine.model.rotary",
        "gptj_demo.engine.numba_cache",
        "gptj_demo.engine.model.cpu.atomics",
        "gptj_demo.engine.model.cpu.faster",
        "gptj_demo.engine.model.cpu.int8_kernels",
        "gptj_demo.engine.model.cpu.threads",
        "gptj_demo.engine.model.cpu.exact",
        "gptj_demo.engine.model.cpu.llvm",
        "gptj_demo.engine.model.cpu.vectors",
        "gptj_demo.engine.model.cpu",
        "gptj_demo.engine.model.cuda",
        "gptj_demo.engine.model.cuda.triton_attention",
        "gptj_demo.engine.model.cuda.triton_int8",
        "gptj_demo.engine.sampling.noise",
    ),
    ("gptj_demo.guidance",),
    ("gptj_demo.protocol", "gptj_demo.tokenization", "gptj_demo.control_values"),
    ("gptj_demo.returned", "gptj_demo.served", "gptj_demo.temporary"),
    (
        "gptj_demo.console",
        "gptj_demo.drafts",
        "gptj_demo.hosting",
        "gptj_demo.sampling",
        "gptj_demo.settings",
        "gptj_demo.signals",
        "gptj_demo.software",
    ),
    ("gptj_demo.control",),
    ("gptj_demo.pages", "gptj_demo.setting_values", "gptj_demo.texts"),
]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


NAMES = {module_name(path) for path in MODULES}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                own = f"{node.module}.{alias.name}"
                names.add(own if own in NAMES else str(node.module))
    return names


def rank(name: str) -> int | None:
    matches = [
        (len(prefix), number)
        for number, prefixes in enumerate(RANKS)
        for prefix in prefixes
        if name == prefix or name.startswith(prefix + ".")
    ]
    return max(matches)[1] if matches else None


@pytest.mark.parametrize("path", [*MODULES, ROOT / "app.py"], ids=module_name)
def test_imports_flow_downward(path: Path) -> None:
    own = rank(module_name(path))
    if own is None:
        assert path.name == "__init__.py", f"{path} has no place: add it to RANKS in {__file__}"
        return
    for name in imported(path):
        other = rank(name)
        assert other is None or other >= own, f"{module_name(path)} imports {name}"
    if "engine" not in path.parts:
        wrong = [name for name in imported(path) if name.startswith("gptj_demo.engine")]
        assert not wrong, f"{module_name(path)} imports {wrong}: only engine/ may"


def test_modules_have_no_circular_imports() -> None:
    paths = {module_name(path): path for path in MODULES}
    graph = {name: imported(path) & paths.keys() for name, path in paths.items()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle: {' -> '.join((*way, name))}"
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize(
    "module",
    ["gptj_demo.client.worker", "gptj_demo.ui.page", "gptj_demo.api.service", "gptj_demo.__main__"],
)
def test_nothing_outside_the_engine_loads_torch(module: str) -> None:
    code = (
        f"import sys, {module}; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


def test_the_scheduler_knows_no_torch() -> None:
    assert not any("torch" in n for n in imported(ROOT / "gptj_demo/engine/scheduler.py"))
