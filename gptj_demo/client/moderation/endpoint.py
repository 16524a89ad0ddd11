"""The filter that is an HTTP endpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx

from gptj_demo.client.moderation.verdict import FAILED, FilterError, Verdict

CONNECTIONS = 8
MAX_ANSWER_BYTES = 64 * 1024
_MAX_LABEL = 60


class Endpoint:
    """Posts {"text": ...} and reads {"flagged": true or false, "label": text or null}.

    `seconds` is the longest wait for a connection, and for each part of the answer.
    """

    kind = "endpoint"

    def __init__(self, url: str, seconds: float) -> None:
        self._url = url
        limits = httpx.Limits(max_connections=CONNECTIONS)
        self._client = httpx.Client(timeout=seconds, limits=limits)
        self._pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="filter")

    def start(self) -> None:
        pass

    def check(self, texts: Sequence[str]) -> list[Verdict]:
        asked = [self._pool.submit(self._ask, text) for text in texts]
        errors = [error for one in asked if (error := one.exception()) is not None]
        if len(errors) == len(texts):
            raise errors[0]
        return [FAILED if one.exception() else one.result() for one in asked]

    def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _ask(self, text: str) -> Verdict:
        body = b""
        with self._client.stream("POST", self._url, json={"text": text}) as answer:
            if answer.status_code != 200:
                raise FilterError(f"the endpoint answered with status {answer.status_code}")
            for chunk in answer.iter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise FilterError("the endpoint's answer is too long")
        try:
            said = json.loads(body)
        except ValueError:
            said = None
        flagged = said.get("flagged") if isinstance(said, dict) else None
        if not isinstance(flagged, bool):
            raise FilterError("the endpoint's answer has no flagged that is true or false")
        label = said.get("label")
        return Verdict(flagged, label[:_MAX_LABEL] if isinstance(label, str) else None)
