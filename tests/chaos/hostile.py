"""Sends thousands of requests that no well-meaning program sends, and counts the answers.

    python -m tests.chaos.hostile [--requests 10000] [--seed 1]

The requests go to every route of the API, every function of the page in each of the ways to call
it, and to the bare socket. Values are of wrong types, out of range, huge, deeply nested, not
Unicode, or markup. Each answer must have a status below 500, or be 503; no answer may show an
error of the playground's own; afterwards the same two processes must run, with nothing open and no
traceback in the log. Prints the counts and one line
of JSON last; the exit code is 1 where this does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from gptj_demo.sampling import CONTROLS
from tests.hostile import TEXTS
from tests.processes import ROOT, App
from tests.waiting import PATIENCE, eventually

SENDERS = 12
TOKENS = 8  # of a completion at most, so that many of them end in good time
API = "/gradio_api"
SCALARS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 2**31, 2**63, -(2**63), 2**64, 10**400, 0.5, -0.5, 1e308,
    float("inf"), float("-inf"), float("nan"), 1e-320, "", "0", "auto",
)  # fmt: skip
LENGTHS = ("max_tokens", "max_new_tokens", "max_completion_tokens", "response_length")
SIGNS = ("Traceback", "went wrong in the playground", "failed: ")
"""What answers and the log have of an error of ours."""


class LoggedApp(App):
    """The playground with small limits; what it prints goes to `log`."""

    def __init__(self, log: Path) -> None:
        self.log = log
        super().__init__("--model", "sample", "--max-num-seqs", "8", "--max-waiting", "200")

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdout=log, stderr=log
            )


class Values:
    """Random values, most of them wrong wherever they stand."""

    def __init__(self, generator: random.Random) -> None:
        self._random = generator

    def any(self) -> Any:
        return self._random.choice((self.scalar, self.scalar, self.text, self.nested, self.list))()

    def scalar(self) -> Any:
        return self._random.choice(SCALARS)

    def text(self) -> str:
        kind = self._random.randrange(6)
        if kind == 0:
            return self._random.choice(
                ("\ud800", "a\udfff", "\x00", "\ufeff", "\u202e", "\U0010ffff")
            )
        if kind == 1:
            return self._random.choice(("a", " ", "\n", "é", "😀", "<|endoftext|>")) * 3000
        if kind == 2:
            return "".join(chr(self._random.randrange(1, 0xD800)) for _ in range(20))
        return self._random.choice(TEXTS)

    def nested(self) -> Any:
        value: Any = self.scalar()
        for _ in range(self._random.choice((2, 20, 150))):
            value = [value] if self._random.random() < 0.5 else {self.text()[:30]: value}
        return value

    def list(self) -> Any:
        size = self._random.choice((0, 1, 2, 33, 500))
        make = self._random.choice((self.scalar, self.text))
        return [make() for _ in range(size)]

    def dict(self, names: list[str]) -> dict[str, Any]:
        """Some of the names, or other ones, with values."""
        chosen = [
            self._random.choice(names) if self._random.random() < 0.9 else self.text()[:40]
            for _ in range(self._random.randrange(5))
        ]
        return {name: self.any() for name in chosen}


def short(body: Any) -> Any:
    """The body with fewer tokens to generate."""
    if isinstance(body, dict):
        for name in LENGTHS:
            if type(body.get(name)) is int and body[name] > TOKENS:
                body = {**body, name: TOKENS}
    return body


class Hostile:
    """Sends the requests and counts the answers."""

    def __init__(self, app: LoggedApp, generator: random.Random) -> None:
        self.app = app
        self.counts: Counter[str] = Counter()
        self.broken: list[str] = []
        self._random = generator
        self._values = Values(generator)
        with httpx.Client(base_url=app.url, timeout=PATIENCE, trust_env=False) as client:
            info = client.get("/openapi.json").json()
            config = client.get("/config").json()
            named = client.get(f"{API}/info").json()["named_endpoints"]
        self._routes = [
            (method.upper(), path)
            for path, methods in info["paths"].items()
            for method in methods
            if method in ("get", "post")
        ]
        body = info["components"]["schemas"]["CompletionRequest"]["properties"]
        self._fields = [*body, *(control.name for control in CONTROLS)]
        self._functions = [one for one in config["dependencies"] if one["backend_fn"]]
        self._named = [one for one in self._functions if one["api_visibility"] == "public"]
        self._servers = [
            (one["id"], name)
            for one in config["components"]
            for name in one["props"].get("server_fns") or ()
        ]
        self._inputs = {
            name.strip("/"): [one["parameter_name"] for one in function["parameters"]]
            for name, function in named.items()
        }

    # ---- kinds of requests

    async def complete(self, client: httpx.AsyncClient) -> None:
        """A completion with some wrong fields."""
        body = {"prompt": "Once", "max_tokens": TOKENS, **self._values.dict(self._fields)}
        await self._post(client, "/v1/completions", short(body))

    async def call_route(self, client: httpx.AsyncClient) -> None:
        """Any route of the API with any body, or with strange parts of its path."""
        method, path = self._random.choice(self._routes)
        while "{" in path:
            before, _, rest = path.partition("{")
            path = before + quote(self._printable()[:200], safe="") + rest.partition("}")[2]
        if method == "GET":
            self._note("api get", await client.get(path, params={"x": self._printable()[:500]}))
            return
        names = ["prompt", "text", "tokens", "input", "inputs", "pipeline_id", "max_tokens"]
        body = self._values.dict(names) if self._random.random() < 0.8 else self._values.any()
        await self._post(client, path, short(body))

    async def call_function(self, client: httpx.AsyncClient) -> None:
        """A named function, by position or by name, and what it answers."""
        function = self._random.choice(self._named)
        name = str(function["api_name"])
        count = len(function["inputs"])
        if self._random.random() < 0.1:
            count += self._random.choice((-1, 1, 30))
        path = f"{API}/call/{name}"
        if self._random.random() < 0.5:
            path = f"{API}/call/v2/{name}"
            body = short(self._values.dict(self._inputs[name] or ["x"]))
        else:
            body = {"data": [self._values.any() for _ in range(max(0, count))]}
        answer = await self._post(client, path, body)
        if answer.status_code == 200:
            await self._read(client, f"{path}/{answer.json()['event_id']}")

    async def join(self, client: httpx.AsyncClient) -> None:
        """An event of the page, as the page sends it, with wrong inputs or data."""
        function = self._random.choice(self._functions)
        session = f"{self._random.getrandbits(64):x}"
        body = {
            "data": [self._values.any() for _ in function["inputs"]],
            "event_data": short(self._values.dict(["prompt", "id", "controls", "max_new_tokens"])),
            "fn_index": function["id"],
            "trigger_id": self._random.choice((None, 1, -1, 10**6, "x")),
            "session_hash": session,
        }
        if self._random.random() < 0.2:
            body[self._random.choice(list(body))] = self._values.any()
        answer = await self._post(client, f"{API}/queue/join", body)
        if answer.status_code == 200 and body["session_hash"] == session:
            await self._read(client, f"{API}/queue/data?session_hash={session}")

    async def call_server_function(self, client: httpx.AsyncClient) -> None:
        """A server function of a component."""
        component, name = self._random.choice(self._servers)
        body = {
            "data": self._values.any(),
            "component_id": component,
            "fn_name": name,
            "session_hash": f"{self._random.getrandbits(64):x}",
        }
        if self._random.random() < 0.2:
            body[self._random.choice(list(body))] = self._values.any()
        await self._post(client, f"{API}/component_server/", body)

    async def damage(self, client: httpx.AsyncClient) -> None:
        """A good body that was cut, doubled, or put under another type or method."""
        good = json.dumps({"prompt": "Once", "max_tokens": 2, "data": ["x"], "text": "x"}).encode()
        cut = self._random.randrange(len(good))
        content = self._random.choice(
            (good[:cut], good + good, good[:cut] + b"\xff" + good[cut:], b"", b"\0" * 100,
             b"[" * 5000, b'{"a":' * 5000, b" " * 100_000)
        )  # fmt: skip
        kind = self._random.choice(
            ("application/json", "text/plain", "application/json; charset=utf-16", "a/b", "")
        )
        paths = ["/v1/completions", "/v2/runs", f"{API}/queue/join", f"{API}/call/tokenize"]
        method = self._random.choice(("POST", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "X"))
        answer = await client.request(
            method,
            self._random.choice(paths),
            content=content,
            headers={
                "Content-Type": kind,
                "Origin": self._random.choice(("null", "http://x.example", self.app.url)),
                "Host": self._random.choice(("localhost", "evil.example", "127.0.0.1")),
                "Authorization": self._random.choice(("Bearer x", "Basic =", "Bearer")),
            },
        )
        self._note("damaged", answer)

    async def bare_socket(self, client: httpx.AsyncClient) -> None:
        """Bytes that are not HTTP, or stop in the middle."""
        del client
        port = int(self.app.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
        writer.write(
            self._random.choice(
                (
                    self._random.randbytes(500),
                    b"\r\n" * 200,
                    b"GET / HTTP/9.9\r\n\r\n",
                    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
                    head + b"X: " + b"y" * 40_000 + b"\r\n\r\n",
                    head + b"".join(b"X-%d: 1\r\n" % n for n in range(2000)) + b"\r\n",
                    head + b"Content-Length: -5\r\n\r\n{}",
                    head + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
                    head + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n",
                    head + b"Content-Length: 1000\r\nContent-Type: application/json\r\n\r\n{",
                )
            )
        )
        writer.write_eof()
        with contextlib.suppress(ConnectionError):
            said = await reader.read(200)
            status = int(said.split()[1]) if said.startswith(b"HTTP/") else 0
            self.counts[f"bare socket: {status or 'closed'}"] += 1
            if status >= 500 and status != 503:
                self.broken.append(f"bare socket: {said!r}")
        writer.close()

    # ---- answers

    async def _post(self, client: httpx.AsyncClient, path: str, body: Any) -> httpx.Response:
        answer = await client.post(
            path,
            content=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        self._note(path.removeprefix(API).split("/")[1], answer, body)
        return answer

    async def _read(self, client: httpx.AsyncClient, path: str) -> None:
        """Read the result of a call to its end."""
        answer = await client.get(path)
        self._note("result", answer)

    def _note(self, kind: str, answer: httpx.Response, body: Any = None) -> None:
        status = answer.status_code
        self.counts[f"{kind}: {status}"] += 1
        if status >= 500 and status != 503:
            self.broken.append(f"{status} {answer.url} {str(body)[:300]} {answer.text[:300]}")
        elif any(sign in answer.text for sign in SIGNS):
            self.broken.append(
                f"an answer of {answer.url} to {str(body)[:300]}: {answer.text[:300]}"
            )

    def _printable(self) -> str:
        """A text that can stand in a URL."""
        return self._values.text().encode("utf-8", "replace").decode()

    async def run(self, requests: int) -> None:
        """Send so many requests, several at a time."""
        kinds: list[tuple[Callable[[httpx.AsyncClient], Awaitable[None]], int]] = [
            (self.complete, 6),
            (self.call_route, 4),
            (self.call_function, 4),
            (self.join, 4),
            (self.call_server_function, 4),
            (self.damage, 3),
            (self.bare_socket, 1),
        ]
        choices, weights = zip(*kinds, strict=True)
        remaining = iter(range(requests))

        async def send() -> None:
            async with httpx.AsyncClient(
                base_url=self.app.url, timeout=PATIENCE, trust_env=False
            ) as client:
                for number in remaining:
                    kind = self._random.choices(choices, weights)[0]
                    try:
                        await kind(client)
                    except httpx.HTTPError as error:
                        self.broken.append(f"{kind.__name__}: {error!r}")
                    if number % 1000 == 999:
                        print(f"{number + 1} requests", file=sys.stderr, flush=True)

        await asyncio.gather(*(send() for _ in range(SENDERS)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        app = LoggedApp(Path(folder) / "log")
        try:
            app.wait_until_ready()
            engine = app.engine
            hostile = Hostile(app, random.Random(arguments.seed))
            asyncio.run(hostile.run(arguments.requests))
            if app.process.poll() is not None or app.engine != engine:
                hostile.broken.append("a process ended")
            eventually(lambda: app.count_open() == 0)
            body = {"prompt": "Once", "max_tokens": 2}
            answer = httpx.post(
                f"{app.url}/v1/completions", json=body, timeout=PATIENCE, trust_env=False
            )
            if answer.status_code != 200:
                hostile.broken.append(f"afterwards: {answer.text}")
        finally:
            app.stop()
        log = app.log.read_text(errors="replace")
    if any(sign in log for sign in SIGNS):
        hostile.broken.append("the log has an error, see above")
    if hostile.broken:
        print(log, file=sys.stderr)
    for name, count in sorted(hostile.counts.items()):
        print(f"{name}: {count}")
    print(f"broken: {len(hostile.broken)}", *hostile.broken[:20], sep="\n  ")
    figures = {
        "requests": arguments.requests,
        "answers": hostile.counts.total(),
        "answers with status 503": sum(
            count for name, count in hostile.counts.items() if name.endswith(": 503")
        ),
        "broken": len(hostile.broken),
        "minutes": round((time.monotonic() - begin) / 60, 1),
    }
    print(json.dumps({"hostile": figures}))
    if hostile.broken:
        sys.exit(1)


if __name__ == "__main__":
    main()
