"""app.py as a program, and what the page offers to programs."""

from __future__ import annotations

import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from gptj_demo.sampling import CONTROLS

from .conftest import ROOT, Site, wait_until

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


def run_app(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "app.py", *flags], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_a_port_in_use_is_one_sentence_and_exit_code_2(model: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = run_app("--server-port", str(port), "--model", model)
    assert ended.returncode == 2
    assert ended.stderr.strip().count("\n") == 0
    assert f"Port {port} is in use" in ended.stderr


def test_an_address_that_is_not_ours_is_one_sentence_and_exit_code_2() -> None:
    ended = run_app("--server-name", "192.0.2.1", "--model", "sample")
    assert ended.returncode == 2
    assert "192.0.2.1" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_folder_without_a_model_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    ended = run_app("--model", str(tmp_path), "--server-port", str(port))
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert str(tmp_path) in ended.stderr


def test_an_interrupt_ends_everything_quietly(model: str) -> None:
    site = Site(model)
    site.wait_until_ready()
    processes = [site.engine, psutil.Process(site.process.pid)]
    site.stop()
    assert site.process.returncode == 0
    wait_until(lambda: not any(process.is_running() for process in processes))


def test_the_api_streams_with_the_tables_controls(site: Site) -> None:
    from gradio_client import Client

    client = Client(site.url, verbose=False)
    api = client.view_api(print_info=False, return_format="dict")["named_endpoints"]
    assert set(api) == {"/generate", "/status"}
    names = [parameter["parameter_name"] for parameter in api["/generate"]["parameters"]]
    assert names == ["prompt", *(control.name for control in CONTROLS)]
    job = client.submit("Once upon a time", max_new_tokens=30, seed=7, api_name="/generate")
    updates = list(job)
    assert all(later.startswith(sooner) for sooner, later in pairwise(updates))
    again = client.predict("Once upon a time", max_new_tokens=30, seed=7, api_name="/generate")
    assert again == updates[-1] != ""
    with pytest.raises(
        Exception, match=r"Temperature \(temperature\) must be a number from 0 to 2"
    ):
        client.predict("Once upon a time", temperature=9, api_name="/generate")
