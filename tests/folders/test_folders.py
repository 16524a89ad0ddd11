"""Damaged folders end loading and starting with one sentence.

`GPTJ_FOLDER_CASES` says how many folders are loaded, `GPTJ_FOLDER_STARTS` with how many of them the
whole program is started; `make fuzz` takes many.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import IO, Any

import pytest

from tests.engine.checkpoints import LAYOUTS, make_checkpoint
from tests.folders.case import Case, Scene
from tests.folders.cases import choose
from tests.folders.watch import Watch
from tests.processes import ROOT, free_port
from tests.waiting import PATIENCE

CASES = int(os.environ.get("GPTJ_FOLDER_CASES", "40"))
STARTS = int(os.environ.get("GPTJ_FOLDER_STARTS", "1"))
SEED = 14
MOST_MEMORY = 800_000_000  # bytes beyond what loading a sound folder takes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, needs inotify")


class Loader:
    """A process that loads folders; it is started anew if one of them ends it."""

    def __init__(self, log: IO[bytes]) -> None:
        self._log = log
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.folders.loader"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def load(self, folder: Path, precision: str, outside: Path) -> dict[str, Any]:
        """How loading ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"folder": str(folder), "precision": precision, "outside": str(outside)}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answers, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        line = self._process.stdout.readline() if answers else ""
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        self.stop()
        code = self._process.returncode
        self._process = self._start()
        ended = f"ended the process with code {code}" if answers else "hung"
        return {"ended": ended, "why": "", "seconds": 0.0, "memory": 0, "noted": []}

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sound checkpoint of each layout."""
    root = tmp_path_factory.mktemp("sound")
    for layout in LAYOUTS:
        make_checkpoint(root / layout / "json", layout=layout)
    make_checkpoint(root / "safetensors" / "files", tokenizer_layout="files")
    return root


@pytest.fixture
def outside(sound: Path, tmp_path: Path) -> Path:
    """A folder that a damaged one may name, with files that could be loaded."""
    folder = tmp_path / "outside"
    folder.mkdir()
    for source in (*sorted(sound.glob("*/json")), sound / "safetensors/files"):
        shutil.copytree(source, folder, dirs_exist_ok=True)
    return folder


@contextmanager
def damaged(case: Case, number: int, sound: Path, outside: Path) -> Iterator[Scene]:
    """The folder of a case, beside the one outside of it."""
    folder = outside.parent / f"case-{number}"
    shutil.copytree(sound / case.layout / case.tokenizer_layout, folder)
    scene = Scene(folder, outside, outside.parent / "evidence", Random(f"{SEED} {number}"))
    case.damage(scene)
    yield scene
    shutil.rmtree(folder)


def problems_of(case: Case, answer: dict[str, Any], scene: Scene, opened: list[str]) -> list[str]:
    """What is wrong with the end of a case."""
    problems = []
    if answer["ended"] not in ("refused", "loaded"):
        problems.append(answer["ended"])
    elif case.loads is not None and case.loads != (answer["ended"] == "loaded"):
        problems.append(f"was {answer['ended']}")
    if answer["ended"] == "refused" and not is_sentence(answer["why"]):
        problems.append("no sentence")
    if scene.evidence.exists():
        scene.evidence.rmdir()
        problems.append("ran code")
    problems += [f"opened {name} outside of the folder" for name in opened]
    return problems + answer["noted"]


def is_sentence(text: str) -> bool:
    return text.isprintable() and text.endswith(".") and len(text) > 20 and "Traceback" not in text


class Record:
    """The outcomes of all cases of a run."""

    def __init__(self, normal: dict[str, Any]) -> None:
        self._normal = normal  # the answer of a sound folder
        self._ends: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        self.longest = (0.0, "")  # seconds and the case
        self.most_memory = (0, "")  # bytes beyond what a sound folder takes, and the case

    def note(self, case: Case, answer: dict[str, Any]) -> None:
        self._ends[answer["ended"]] += 1
        self._kinds[case.kind] += 1
        self.longest = max(self.longest, (answer["seconds"], case.name))
        memory = answer["memory"] - self._normal["memory"]
        self.most_memory = max(self.most_memory, (memory, case.name))
        if os.environ.get("GPTJ_FOLDER_VERBOSE"):
            print(f"{answer['ended']}: {case.kind}, {case.name}: {answer['why']}")

    def __str__(self) -> str:
        ends = ", ".join(f"{count} {end}" for end, count in sorted(self._ends.items()))
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self._kinds.items()))
        seconds, slowest = self.longest
        memory, largest = self.most_memory
        return (
            f"{self._ends.total()} damaged folders ({kinds}): {ends}; "
            f"a sound folder loads in {self._normal['seconds']:.2f} s, the slowest of these in "
            f"{seconds:.2f} s ({slowest}); most memory beyond that of a sound folder "
            f"{memory / 1e6:.0f} MB ({largest})"
        )


def test_a_damaged_folder_is_refused_with_a_sentence(sound: Path, outside: Path) -> None:
    # imports and compilation for other precisions take longer than all folders
    precisions = ["auto"] * 6 + (["int8", "bfloat16"] if CASES > 40 else [])
    wrong: list[str] = []
    watch = Watch(outside)
    with tempfile.TemporaryFile() as log:
        loader = Loader(log)
        try:
            for precision in sorted(set(precisions)):  # later loads reuse its imports and code
                usual = loader.load(sound / "bin/json", precision, outside)
                assert usual["ended"] == "loaded", usual
            normal = loader.load(sound / "safetensors/json", "auto", outside)
            record = Record(normal)
            for number, case in enumerate(choose(CASES)):
                with damaged(case, number, sound, outside) as scene:
                    watch.opened()
                    precision = scene.random.choice(precisions)
                    answer = loader.load(scene.folder, precision, outside)
                    problems = problems_of(case, answer, scene, watch.opened())
                record.note(case, answer)
                wrong += [f"{case.kind}, {case.name}: {p} ({answer['why']})" for p in problems]
        finally:
            loader.stop()
            watch.close()
        log.seek(0)
        noise = log.read().decode(errors="replace")
    print(f"\n{record}")
    assert not wrong, "\n".join(wrong)
    assert "Traceback" not in noise
    assert "panicked" not in noise, noise
    assert record.longest[0] < 30 + 10 * normal["seconds"], record
    assert record.most_memory[0] < MOST_MEMORY, record


def start(folder: Path, port: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "app.py", "--model", str(folder), "--server-port", str(port)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def refused_with(process: subprocess.Popen[str]) -> str:
    """The sentence that a program ended with, which must be all that it said."""
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2, said
    lines = said.splitlines()
    assert len(lines) == 1, said
    assert is_sentence(lines[0]), said
    return lines[0]


def test_two_starts_with_a_damaged_folder_on_one_port_end_with_a_sentence_each(
    sound: Path, outside: Path
) -> None:
    cases = [case for case in choose(max(CASES, 40)) if case.loads is False]
    port = free_port()
    for number in range(STARTS):
        case = cases[number * len(cases) // STARTS]
        with damaged(case, number, sound, outside) as scene:
            programs = [start(scene.folder, port) for _ in range(2)]
            sentences = sorted(refused_with(program) for program in programs)
        assert sum("is in use by another program" in sentence for sentence in sentences) == 1
        print(f"{case.kind}, {case.name}: {sentences}")


def test_the_terminal_refuses_a_damaged_folder_with_a_sentence(sound: Path, outside: Path) -> None:
    cases = [case for case in choose(max(CASES, 40)) if case.loads is False]
    for number in range(STARTS):
        case = cases[-1 - number * len(cases) // STARTS]
        with damaged(case, number, sound, outside) as scene:
            command = [sys.executable, "-m", "gptj_demo", "x", "--model", str(scene.folder)]
            ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stdout) == (2, ""), ran.stderr
        said = ran.stderr.splitlines()[-1]  # earlier lines drew the progress bar
        assert is_sentence(said), ran.stderr
        assert "Traceback" not in ran.stderr
