"""The three filters: a file of patterns, a classifier in its own process, an HTTP endpoint."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from gptj_demo.client.moderation import make_moderation
from gptj_demo.client.moderation.checker import Checker
from gptj_demo.client.moderation.classifier import Classifier
from gptj_demo.client.moderation.endpoint import MAX_ANSWER_BYTES, Endpoint
from gptj_demo.client.moderation.patterns import Patterns
from gptj_demo.client.moderation.verdict import FAILED, PASSED, FilterError, Verdict
from gptj_demo.settings import InvalidSettings, Settings
from tests.client.requests import run
from tests.waiting import PATIENCE, in_time

# ---- patterns


def patterns(folder: Path, *lines: str) -> Patterns:
    path = folder / "patterns.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return Patterns(path)


@pytest.mark.parametrize(
    "text",
    [
        "A Secret  Word here.",
        "a secret\nword",
        "a sec\u200bret word",
        "a \uff53ecret w\uff4frd",
    ],
)
def test_patterns_ignore_case_space_and_forms_of_letters(tmp_path: Path, text: str) -> None:
    filter = patterns(tmp_path, "# a comment", "", r"\bsecret word\b")
    assert filter.check([text, "secrets."]) == [Verdict(True, r"\bsecret word\b"), PASSED]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["fine", "# comment", "(open"], "Line 3"),
        (["fine", "x*"], "Line 2.*matches the empty text"),
        (["# nothing"], "has no pattern"),
    ],
)
def test_a_file_with_a_wrong_line_is_refused_with_its_number(
    tmp_path: Path, lines: list[str], said: str
) -> None:
    with pytest.raises(InvalidSettings, match=said):
        patterns(tmp_path, *lines)


@pytest.mark.parametrize(
    "source",
    ["missing.txt", "folder/missing.txt", "ftp://host/x", "http://", "https://h:port/", "x" * 5000],
)
def test_an_invalid_filter_setting_is_refused(source: str) -> None:
    with pytest.raises(InvalidSettings, match="GPTJ_FILTER"):
        make_moderation(Settings(filter=source))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"config\.json"):
        make_moderation(Settings(filter=str(tmp_path)))


def test_without_the_setting_there_is_no_filter() -> None:
    assert make_moderation(Settings()) is None


# ---- an endpoint


class Answers(BaseHTTPRequestHandler):
    """Answers as the test has set; `texts` are those that came."""

    answer: Any = b'{"flagged": false, "label": null}'
    status = 200
    waits: threading.Event | None = None
    texts: list[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).texts.append(json.loads(body)["text"])
        if self.waits is not None:
            self.waits.wait(PATIENCE)
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def answers() -> Iterator[tuple[type[Answers], str]]:
    handler = type("Handler", (Answers,), {"texts": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield handler, f"http://127.0.0.1:{server.server_port}/check"
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_endpoint_gets_the_texts_and_its_verdicts_are_used(answers: Any) -> None:
    handler, url = answers
    endpoint = Endpoint(url, 30.0)
    assert endpoint.check(["One.", "Two."]) == [PASSED, PASSED]
    handler.answer = b'{"flagged": true, "label": "violence"}'
    assert endpoint.check(["Three."]) == [Verdict(True, "violence")]
    assert sorted(handler.texts) == ["One.", "Three.", "Two."]
    endpoint.stop()


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (500, b'{"flagged": false}'),
        (302, b""),
        (200, b"nonsense"),
        (200, b"[]"),
        (200, b'{"flagged": "no"}'),
        (200, b'{"flagged": 0}'),
        (200, b"\xff\xfe"),
        (200, b" " * (MAX_ANSWER_BYTES + 1) + b'{"flagged": false}'),
    ],
)
def test_any_other_answer_of_an_endpoint_is_a_failure(
    answers: Any, status: int, answer: bytes
) -> None:
    handler, url = answers
    handler.status, handler.answer = status, answer
    endpoint = Endpoint(url, 30.0)
    with pytest.raises(FilterError):
        endpoint.check(["One."])
    endpoint.stop()


def test_an_endpoint_that_is_slow_or_gone_is_a_failure(answers: Any) -> None:
    handler, url = answers
    handler.waits = threading.Event()
    slow = Endpoint(url, 0.05)
    with pytest.raises(httpx.TimeoutException):
        slow.check(["One."])
    handler.waits.set()
    slow.stop()
    gone = Endpoint("http://127.0.0.1:9/", 30.0)
    with pytest.raises(httpx.ConnectError):
        gone.check(["One."])
    gone.stop()


def test_a_failure_is_logged_without_the_text(
    answers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    handler, url = answers
    handler.status = 500
    checker = Checker(Endpoint(url.replace("//", "//name:password@"), 30.0), 30.0)
    checker.start()
    with caplog.at_level(logging.DEBUG, "gptj_demo"):
        assert run(checker.judge("A secret text.")) == FAILED
    checker.stop()
    assert "status 500" in caplog.text
    assert "secret" not in caplog.text
    assert "password" not in caplog.text


# ---- a classifier


def test_a_classifier_runs_in_its_own_process_and_is_restarted(model: Path) -> None:
    filter = Classifier(str(model), [], 0.5, PATIENCE)
    filter.start()
    try:
        texts = ["The lamp.", "The plugh."]
        assert filter.check(texts) == [PASSED, Verdict(True, "bad")]
        assert filter._process is not None
        first = filter._process.pid
        psutil.Process(first).kill()
        with pytest.raises((FilterError, EOFError, OSError)):
            filter.check(texts)
        assert filter.check(texts) == [PASSED, Verdict(True, "bad")]
        assert not psutil.pid_exists(first)
    finally:
        filter.stop()


@pytest.mark.parametrize(("labels", "said"), [(["violent"], "violent.*fine, bad"), (["bad"], None)])
def test_an_unknown_label_is_refused_with_the_labels_of_the_classifier(
    model: Path, labels: list[str], said: str | None
) -> None:
    filter = Classifier(str(model), labels, 0.5, PATIENCE)
    try:
        if said is None:
            filter.start()
            assert filter.check(["The plugh."]) == [Verdict(True, "bad")]
        else:
            with pytest.raises(FilterError, match=said):
                filter.start()
    finally:
        filter.stop()


def test_a_classifier_that_cannot_be_loaded_fails_every_check(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config.json").write_text("{}")
    moderation = make_moderation(Settings(filter=str(tmp_path)))
    assert moderation is not None
    moderation.start()
    try:
        assert run(moderation._checker.judge("The lamp.")).failed
    finally:
        moderation.stop()
    assert "the classifier cannot be used" in caplog.text


HUNG = """
import os, struct, sys, time
from multiprocessing.connection import Connection
connection = Connection(int(sys.argv[1]))
connection.recv()
connection.send(None)
if sys.argv[2] == "answers":
    connection.recv()
    os.write(connection.fileno(), struct.pack("!i", 1000))
time.sleep(1000)
"""
"""A classifier that hangs while it reads a question, or amid its answer."""


@pytest.mark.parametrize("amid", ["reads", "answers"])
def test_a_classifier_that_hangs_amid_a_message_is_ended(
    amid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = subprocess.Popen

    def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return popen([sys.executable, "-c", HUNG, command[-1], amid], **options)

    monkeypatch.setattr("gptj_demo.client.moderation.classifier.subprocess.Popen", start)
    filter = Classifier("a model", [], 0.5, 0.5)
    filter.start()
    process = filter._process
    assert process is not None
    text = "x" * 4_000_000  # more than the buffers of a connection hold
    with pytest.raises(FilterError, match="in time"):
        in_time(lambda: filter.check([text] if amid == "reads" else ["text"]))
    assert process.poll() == -9


def test_a_late_answer_to_the_start_is_not_taken_for_that_to_a_check(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filter = Classifier(str(model), [], 0.5, PATIENCE)
    monkeypatch.setattr("gptj_demo.client.moderation.classifier.LOAD_SECONDS", 0)
    try:
        with pytest.raises(FilterError, match="in time"):
            filter.start()
        monkeypatch.undo()
        assert filter.check(["The plugh."]) == [Verdict(True, "bad")]
    finally:
        filter.stop()
