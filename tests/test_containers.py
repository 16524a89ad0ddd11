"""The files for containers, as far as they can be checked without Docker."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gptj_demo.api.metrics import Metrics
from gptj_demo.client.backends.scaling import engine_range
from gptj_demo.settings import Settings, add_arguments, read_settings
from tests.client.scripted import Bench
from tests.processes import ROOT

MONITORING = ROOT / "hosting" / "monitoring"
NAME = re.compile(r"\b(?:gptj|process)_\w+")


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    bench = Bench()
    text = Metrics(bench.worker).text().decode()
    bench.worker.stop()
    served = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    served |= {f"{name}_bucket" for name in served}
    dashboard = json.loads((MONITORING / "playground.json").read_text(encoding="utf-8"))
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in NAME.findall(target["expr"])
    }
    assert len(asked) > 10
    assert not asked - served


def test_the_dashboard_uses_the_configured_data_source() -> None:
    (source,) = read("hosting/monitoring/grafana.yml")["datasources"]
    dashboard = json.loads((MONITORING / "playground.json").read_text(encoding="utf-8"))
    used = {panel["datasource"]["uid"] for panel in dashboard["panels"]}
    assert used == {source["uid"]}
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_compose_mounts_existing_files_and_sets_known_settings() -> None:
    services = read("compose.yaml")["services"]
    for service in services.values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert not source.startswith("./") or (ROOT / source).is_file(), source
    names = {name for name in services["playground"]["environment"] if name.startswith("GPTJ_")}
    assert names <= {f"GPTJ_{field.upper()}" for field in Settings.model_fields}
    assert services["playground"]["read_only"] is True
    assert [name for name, one in services.items() if "profiles" not in one] == ["playground"]
    (scraped,) = read("hosting/monitoring/prometheus.yml")["scrape_configs"]
    assert scraped["static_configs"][0]["targets"] == ["playground:7860"]


@pytest.mark.parametrize("pattern", [r"^USER 1000:1000$", r"^HEALTHCHECK ", r'^CMD \["python"'])
def test_the_image_runs_as_a_user_and_its_program_gets_the_signals(pattern: str) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(pattern, dockerfile, re.MULTILINE)


def test_the_image_for_cuda_gets_the_headers_of_python_where_the_base_has_none(
    tmp_path: Path,
) -> None:
    """Runs the image's commands with stand-ins for apt-get and for a Python with headers or not."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
    [step] = re.findall(r'if \[ "\$TORCH" = cuda \]; then(.*?)rm -rf', text)
    (tmp_path / "apt-get").write_text('#!/bin/sh\necho "$@"\n')
    for has_headers in (True, False):
        (tmp_path / "include").mkdir(exist_ok=True)
        header = tmp_path / "include" / "Python.h"
        header.touch() if has_headers else header.unlink()
        (tmp_path / "python3").write_text(
            f"#!{sys.executable}\n"
            "import sys, sysconfig\n"
            f"sysconfig.get_path = lambda name: {str(tmp_path / 'include')!r}\n"
            "exec(sys.argv[2])\n"
        )
        for name in ("apt-get", "python3"):
            (tmp_path / name).chmod(0o755)
        ran = subprocess.run(
            ["sh", "-euc", step],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
        installed = ran.stdout.splitlines()[-1].split()
        assert {"gcc", "libc6-dev"} < set(installed)
        assert ("python3-dev" in installed) != has_headers


def test_the_image_writes_into_its_cache_only() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for name in ("HF_HOME", "NUMBA_CACHE_DIR", "TRITON_CACHE_DIR", "GRADIO_TEMP_DIR"):
        assert re.search(rf"\b{name}=/cache\b", dockerfile), name


def test_the_build_context_contains_every_copied_file() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
    for source in " ".join(copied).split():
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored


def test_the_manifest_names_settings_and_versions_that_exist() -> None:
    text = (ROOT / "hosting" / "kubernetes.yaml").read_text(encoding="utf-8")
    objects = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text)}
    cluster = objects["RayCluster", "gptj"]["spec"]
    pins = (ROOT / "requirements-fleet.txt").read_text(encoding="utf-8")
    assert f"ray[serve]=={cluster['rayVersion']} " in pins
    web = objects["Deployment", "gptj-web"]["spec"]["template"]["spec"]
    (container,) = web["containers"]
    set_there = {one["name"] for one in container["env"] if one["name"].startswith("GPTJ_")}
    assert set_there <= {f"GPTJ_{field.upper()}" for field in Settings.model_fields}
    drain = next(one["value"] for one in container["env"] if one["name"] == "GPTJ_DRAIN_SECONDS")
    assert float(drain) < web["terminationGracePeriodSeconds"]
    words = container["args"][0].split("python app.py ")[1].split()
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    settings = read_settings(parser.parse_args(words))
    assert engine_range(str(settings.engines)) == (1, 4)
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images = {one["template"]["spec"]["containers"][0]["image"] for one in groups}
    assert images == {container["image"]}
