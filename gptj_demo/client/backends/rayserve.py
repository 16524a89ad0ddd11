"""Places the engines of a fleet on the machines of a Ray cluster, by Ray Serve.

Serve starts a replica (`host.Host`) for each engine, and replaces it if the replica, its machine or
its engine ends. No message of a request goes through Ray.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import queue
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from gptj_demo.client.backends.calling import Offer
from gptj_demo.client.backends.fleet import FleetBackend
from gptj_demo.client.backends.host import Host
from gptj_demo.client.backends.scaling import engine_range
from gptj_demo.settings import InvalidSettings, Settings

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[3]
DEPLOYMENT = "engine"
LOCAL = "127.0.0.1"
NOTICE_SECONDS = 1.0
"""The longest time until Serve notices that an engine has ended. The replica ends with its engine,
because Serve replaces a live replica only after its third failed check."""
OBJECT_STORE_BYTES = 80 * 2**20
"""The minimum that Ray accepts; nothing is stored in it here."""
STOP_SECONDS = 4.0
STARTS = 3
"""Attempts to start Ray."""


def make_ray_backend(settings: Settings) -> FleetBackend:
    """The fleet that the settings describe; raises `InvalidSettings`."""
    fewest, most = engine_range(settings.engines or "1")
    if importlib.util.find_spec("ray") is None:
        name = "engines" if settings.engines is not None else "ray_address"
        raise InvalidSettings(
            f"{name} needs Ray Serve: install it with pip install -r requirements-fleet.txt, or "
            "leave the setting out."
        )
    return FleetBackend(settings, RayServe(settings, most), fewest, most)


class RayServe:
    """Replicas of one Serve application; see `fleet.Placement`.

    On this machine alone, `most` engines share its processor cores; in a cluster each has a GPU, or
    a machine's cores where there is no GPU.
    """

    def __init__(self, settings: Settings, most: int) -> None:
        self._address, self._most = settings.ray_address, most
        self._name = f"gptj-{socket.gethostname()}-{settings.server_port}"
        self._orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._ray: Any = None
        self._serve: Any = None

    def connect(self) -> str:
        # The thread must not end: the kernel ends Ray's processes with the one that started them.
        threading.Thread(target=self._work, name="ray", daemon=True).start()
        return str(self._do(self._connect).result())

    def place(self, offer: Offer, engines: int) -> None:
        self._do(partial(self._deploy, offer, engines)).add_done_callback(_report)

    def scale(self, engines: int) -> None:
        self._do(partial(self._scale, engines)).add_done_callback(_report)

    def stop(self) -> None:
        with contextlib.suppress(TimeoutError):
            self._do(self._end).exception(STOP_SECONDS)

    def _do(self, order: Callable[[], object]) -> Future[object]:
        """Run a function in Ray's thread; returns a future."""
        future: Future[object] = Future()
        self._orders.put((future, order))
        return future

    def _work(self) -> None:
        while True:
            future, order = self._orders.get()
            try:
                future.set_result(order())
            except Exception as error:
                future.set_exception(error)

    def _connect(self) -> str:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")  # a busy machine is slow
        self._ray = ray = importlib.import_module("ray")
        self._serve = importlib.import_module("ray.serve")
        alone: dict[str, Any] = {}
        if self._address is None:
            alone = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        for attempt in range(1, STARTS + 1):
            try:
                # "local": not a cluster that happens to run on this machine
                ray.init(
                    address=self._address or "local",
                    configure_logging=False,
                    logging_level=logging.WARNING,
                    runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
                    **alone,
                )
                break
            except Exception:  # on a busy machine Ray's own time limits are too short
                ray.shutdown()
                if attempt == STARTS:
                    raise
        self._serve.start(proxy_location="Disabled")
        return LOCAL if self._address is None else str(ray.util.get_node_ip_address())

    def _end(self) -> None:
        if self._serve is not None:
            self._serve.delete(self._name, _blocking=False)
            self._ray.shutdown()

    def _deploy(self, offer: Offer, engines: int) -> None:
        deployment = self._serve.deployment(
            name=DEPLOYMENT,
            num_replicas=engines,
            ray_actor_options=self._resources(),
            health_check_period_s=NOTICE_SECONDS,
            graceful_shutdown_wait_loop_s=0.1,
            graceful_shutdown_timeout_s=1.0,
        )(Host)
        target = self._serve.RunTarget(
            deployment.bind(offer, partial(_delete, self._name), partial(os._exit, 1)),
            name=self._name,
            route_prefix=None,
            external_scaler_enabled=True,
        )
        self._serve.run_many(
            [target],
            wait_for_ingress_deployment_creation=False,
            wait_for_applications_running=False,
        )

    def _scale(self, engines: int) -> None:
        # Serve's dashboard does the same for its HTTP API, but there is no dashboard on a single
        # machine. A second deployment would replace every replica.
        common = importlib.import_module("ray.serve._private.common")
        controller = self._ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
        deployment = common.DeploymentID(DEPLOYMENT, self._name)
        self._ray.get(controller.update_deployment_replicas.remote(deployment, engines))

    def _resources(self) -> dict[str, float]:
        """The resources of the cluster that one engine takes."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if any(node.get("GPU") for node in nodes):
            return {"num_gpus": 1, "num_cpus": 1}
        cores = min(node["CPU"] for node in nodes if node.get("CPU"))
        if self._address is None:
            share = cores / self._most
            return {"num_cpus": share if share < 1 else int(share)}
        return {"num_cpus": cores}


def _delete(name: str) -> None:
    """End an application whose web process is gone, to release its machines; runs in a replica."""
    serve: Any = importlib.import_module("ray.serve")
    serve.delete(name, _blocking=False)


def _report(placed: Future[object]) -> None:
    if (error := placed.exception()) is not None:  # the running engines go on
        logger.error("Ray Serve did not place engines: %s", error)
