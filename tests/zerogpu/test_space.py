"""A ZeroGPU Space: visitors ask over HTTP, leases are forked processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import torch
from playwright.sync_api import expect

from gptj_demo.engine.load.memory import parameter_count
from tests.browser.conftest import Visitor
from tests.engine.checkpoints import make_config
from tests.processes import is_running
from tests.waiting import eventually
from tests.zerogpu.conftest import PRECISION, OnZeroGpu, Playground

TOKENS = 60


def text_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["text"])


def test_three_visitors_each_have_a_lease_and_the_same_texts_as_without(
    zerogpu: OnZeroGpu, ordinary: Playground
) -> None:
    def ask(playground: Playground, visitor: str) -> list[str]:
        if visitor == "cleo":
            return playground.compare(visitor, "The keeper", TOKENS)
        return [text_of(playground.complete(visitor, f"{visitor} saw", max_tokens=TOKENS))]

    visitors = ["anna", "bert", "cleo"]
    with ThreadPoolExecutor(3) as pool:
        lent = list(pool.map(lambda visitor: ask(zerogpu, visitor), visitors))
    assert len(lent[2]) == 9
    assert all(text for texts in lent for text in texts)
    assert lent == [ask(ordinary, visitor) for visitor in visitors]
    for visitor in visitors:
        assert len(zerogpu.log("schedule", token=visitor)) == 1


def test_a_lease_ends_by_itself_and_its_process_is_used_again(zerogpu: OnZeroGpu) -> None:
    text_of(zerogpu.complete("dora", "One", max_tokens=4))
    eventually(lambda: zerogpu.log("release", token="dora"))
    text_of(zerogpu.complete("emil", "Two", max_tokens=4))
    (lease,) = zerogpu.log("process", token="emil")
    others = {one["pid"] for one in zerogpu.log("process") if one["token"] != "emil"}
    assert lease["pid"] in others
    eventually(lambda: zerogpu.log("release", token="emil"))


def test_only_the_weights_are_packed_after_the_function_is_registered(zerogpu: OnZeroGpu) -> None:
    (startup,) = zerogpu.log("startup")
    config = make_config(n_positions=2048)
    bytes_each = getattr(torch, PRECISION).itemsize
    assert startup["moved"]["bytes"] == parameter_count(config) * bytes_each
    assert startup["functions"] == 1


def kill_the_lease_of(zerogpu: OnZeroGpu, visitor: str) -> list[str]:
    """Kill a visitor's lease while it works, and return the lines that the visitor then read."""
    length = {"max_tokens": 2000, "ignore_eos": True, "n": 8}
    asked = {"prompt": "x", "temperature": 2, "top_p": 1, "stream": True, **length}
    headers = zerogpu.headers(visitor)
    with zerogpu.http.stream("POST", "/v1/completions", json=asked, headers=headers) as answer:
        lines = filter(None, answer.iter_lines())
        assert next(lines).startswith("data: ")
        os.kill(zerogpu.log("process", token=visitor)[-1]["pid"], signal.SIGKILL)
        return list(lines)


def test_a_killed_lease_ends_its_streams_with_a_sentence_and_the_next_request_works(
    zerogpu: OnZeroGpu,
) -> None:
    said = "The GPU was taken away in the middle of the work."
    attempts = 5  # on a busy machine the streams may have ended before the signal
    assert any(said in line for _ in range(attempts) for line in kill_the_lease_of(zerogpu, "fred"))
    leases = len(zerogpu.log("schedule", token="fred"))
    assert text_of(zerogpu.complete("fred", "Once", max_tokens=4))
    assert len(zerogpu.log("schedule", token="fred")) == leases + 1


def test_a_visitor_without_quota_gets_the_remaining_seconds_and_the_retry_time(
    zerogpu: OnZeroGpu,
) -> None:
    answer = zerogpu.complete("poor", "Once", max_tokens=4)
    assert answer.status_code == 429
    said = answer.json()["error"]["message"]
    assert "You have used your GPU time" in said
    assert "3 s are left. Try again in 1:02:03" in said


def test_the_status_reports_that_the_gpu_is_lent(zerogpu: OnZeroGpu, ordinary: Playground) -> None:
    for playground, is_lent in ((zerogpu, True), (ordinary, False)):
        event = playground.http.post("/gradio_api/call/status", json={"data": []}).json()
        status = playground.http.get(f"/gradio_api/call/status/{event['event_id']}").text
        assert f'"is_lent": {str(is_lent).lower()}' in status
        assert ("A GPU is lent for each visitor" in status) is is_lent


NOTE_MODEL_LINES = """() => {
  const line = document.querySelector(".model-line");
  window.lines = [line.textContent];
  const note = () => window.lines.push(line.textContent);
  new MutationObserver(note).observe(line, { childList: true, characterData: true, subtree: true });
}"""


def test_the_page_shows_that_the_gpu_sleeps_wakes_and_sleeps_again(
    zerogpu: OnZeroGpu, visit: Callable[..., Visitor]
) -> None:
    person = visit(zerogpu.url)
    line = person.page.locator(".model-line")
    expect(line).to_contain_text("GPU asleep")
    person.page.evaluate(NOTE_MODEL_LINES)
    person.set_number("Length", "600")
    person.generate()

    def is_said(*parts: str) -> bool:
        lines = person.page.evaluate("window.lines")
        return any(all(part in one for part in parts) for one in lines)

    # the page asks for the state once a second, and a lease can be over in less
    for _ in range(50):
        if not is_said("waking the GPU"):
            expect(line).to_contain_text("GPU asleep")
        elif is_said("GPU awake, ", " s left"):
            break
        person.button("Retry").click()
        person.finished()
    assert is_said("waking the GPU")
    assert is_said("GPU awake, ", " s left")
    expect(line).to_contain_text("GPU asleep")


def test_the_end_of_the_program_ends_the_idle_processes(zerogpu: OnZeroGpu) -> None:
    """The last test of this file: it ends the playground."""
    children = psutil.Process(zerogpu.process.pid).children(recursive=True)
    assert children
    assert zerogpu.end() == 0
    eventually(lambda: not any(map(is_running, children)))
