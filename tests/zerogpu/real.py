"""Runs the real `spaces` package on a machine without a GPU; `make zerogpu` installs it.

A local scheduler replaces Hugging Face's. Two parts that need CUDA are replaced:
its initialisation, and the transfer of the packed weights to the card, which ends in main memory.
"""

from __future__ import annotations

import http.server
import importlib
import json
import os
import sys
import threading
import urllib.parse
from typing import Any

from tests.zerogpu.fake.spaces.log import note

POOR = "poor"


def prepare() -> None:
    """Make `import spaces` work here; call it before anything imports torch's CUDA parts."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Scheduler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["SPACES_ZERO_DEVICE_API_URL"] = f"http://127.0.0.1:{server.server_port}"
    torch: Any = importlib.import_module("torch")
    torch.version.cuda = "12.8"
    torch._C._cuda_init = lambda: None
    torch._C._cuda_getArchFlags = lambda: "sm_90"
    torch.cuda._is_in_bad_fork = is_in_bad_fork
    spaces: Any = importlib.import_module("spaces")
    zero = spaces.zero
    zero.torch.init = lambda uuid: None
    zero.torch.move = move
    pack = zero.startup

    def startup() -> None:
        pack()
        packs = patching().tensor_packs
        functions = len(set(zero.decorator.decorated_cache.values()))
        note("startup", functions=functions, moved={"bytes": sum(one.total_size for one in packs)})

    zero.startup = startup


def patching() -> Any:
    return sys.modules["spaces.zero.torch.patching"]


def is_in_bad_fork() -> bool:
    """It must be a function that can be pickled."""
    return False


def move(callback: Any = None) -> None:
    """Read the packed weights, in a worker."""
    torch: Any = sys.modules["torch"]
    for pack in patching().tensor_packs:
        with open(pack.path(), "rb") as file:
            small = [entry for batch in pack.batches for entry in batch]
            for tensor, size, aligned_size in (*small, *pack.big_tensors):
                data = bytearray(file.read(aligned_size)[:size])
                read = torch.frombuffer(data, dtype=tensor.dtype).reshape(tensor.shape)
                for fake in pack.fakes[tensor]:
                    fake.data = read


class Scheduler(http.server.BaseHTTPRequestHandler):
    """Lends as many cards as are asked for; a card that is given back is lent again."""

    protocol_version = "HTTP/1.1"
    lock = threading.Lock()
    idle: list[int] = []  # noqa: RUF012
    tokens: list[str] = []  # noqa: RUF012  # of the visitors, by card
    processes: dict[int, int] = {}  # noqa: RUF012  # by card

    def do_POST(self) -> None:
        url = urllib.parse.urlparse(self.path)
        asked = dict(urllib.parse.parse_qsl(url.query))
        with self.lock:
            if url.path == "/schedule" and asked.get("token") == POOR:
                headers = {"X-Authenticated": "regular", "X-Approve-Result": "quota-exceeded"}
                self.answer(429, {"left": 3, "wait": 3723}, headers)
            elif url.path == "/schedule":
                self.answer(200, self.lend(asked))
            else:
                if url.path == "/allow":
                    card = int(asked["allowToken"])
                    self.processes[card] = int(asked["pid"])
                    note("process", token=self.tokens[card], pid=self.processes[card])
                elif url.path == "/release":
                    card = int(asked["allowToken"])
                    note("release", token=self.tokens[card])
                    if asked["fail"] == "false":
                        self.idle.append(card)
                self.answer(200, {})

    def lend(self, asked: dict[str, str]) -> dict[str, Any]:
        is_idle = bool(self.idle)
        card = self.idle.pop() if is_idle else len(self.tokens)
        self.tokens[card : card + 1] = [asked.get("token", "")]
        note("schedule", token=asked.get("token", ""), seconds=int(asked["durationSeconds"]))
        if is_idle:
            note("process", token=asked.get("token", ""), pid=self.processes[card])
        return {
            "idle": is_idle,
            "nvidiaIndex": card,
            "nvidiaUUID": f"GPU-{card}",
            "allowToken": str(card),
        }

    def answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""
