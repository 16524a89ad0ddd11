"""Prometheus metrics of all requests, including the page's, and of the slots and the queue."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gptj_demo.client import RequestRefused, Stream, Worker
from gptj_demo.protocol import Finished, Started, StreamEvent, TokenEvent

disable_created_metrics()  # type: ignore[no-untyped-call]
CONTENT_TYPE = CONTENT_TYPE_LATEST
FIRST_TOKEN_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
GAP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


@dataclass(slots=True)
class _Open:
    """A request that has not ended."""

    began: float
    prompt_tokens: int = 0
    written: int = 0
    reported: dict[int, int] = field(default_factory=dict)  # tokens with events, by completion
    last: dict[int, float] = field(default_factory=dict)
    failed: bool = False
    cancelled: bool = False


class Metrics:
    """Counts the events of the worker's streams; see `client.Observer`."""

    def __init__(self, worker: Worker) -> None:
        self.registry = CollectorRegistry()
        self._open: dict[int, _Open] = {}
        registry = self.registry
        self._received = Counter(
            "gptj_requests_received", "Requests that were made.", registry=registry
        )
        self._requests = Counter(
            "gptj_requests",
            "Requests that have ended, by outcome: finished, cancelled, error, or why they were "
            "refused.",
            ["outcome"],
            registry=registry,
        )
        self._completions = Counter(
            "gptj_completions", "Completions that have ended.", ["reason"], registry=registry
        )
        self._read = Counter("gptj_prompt_tokens", "Tokens of prompts.", registry=registry)
        self._cached = Counter(
            "gptj_cached_tokens",
            "Prompt tokens that came from the prefix cache.",
            registry=registry,
        )
        self._drafted = Counter(
            "gptj_drafted_tokens",
            "Tokens that were drafted and verified, by drafter: lookup or model.",
            ["drafter"],
            registry=registry,
        )
        self._accepted = Counter(
            "gptj_accepted_tokens",
            "Drafted tokens that were accepted, by drafter: lookup or model.",
            ["drafter"],
            registry=registry,
        )
        self._written = Counter("gptj_completion_tokens", "Tokens written.", registry=registry)
        self._first = Histogram(
            "gptj_first_token_seconds",
            "Time from a request to its first token, waiting included.",
            buckets=FIRST_TOKEN_BUCKETS,
            registry=registry,
        )
        self._gap = Histogram(
            "gptj_token_gap_seconds",
            "Time between the arrivals of two tokens; those of fast steps arrive together.",
            buckets=GAP_BUCKETS,
            registry=registry,
        )
        self.responses = Counter(
            "gptj_http_responses",
            "Answers of the API.",
            ["path", "status"],
            registry=registry,
        )
        for outcome in ("finished", "cancelled", "error"):
            self._requests.labels(outcome)
        for drafter in ("lookup", "model"):
            self._drafted.labels(drafter)
            self._accepted.labels(drafter)
        registry.register(_State(worker, self))
        ProcessCollector(registry=registry)

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self.registry)

    @property
    def tokens_held(self) -> int:
        """Tokens of the running requests, whose KV positions are in use."""
        return sum(one.prompt_tokens + one.written for one in list(self._open.values()))

    def on_open(self, stream: Stream) -> None:
        self._received.inc()
        self._open[stream.request_id] = _Open(time.monotonic())

    def on_event(self, stream: Stream, event: StreamEvent | RequestRefused) -> None:
        one = self._open.get(stream.request_id)
        if one is None:
            return
        match event:
            case TokenEvent():
                self._token(one, event.index)
            case Started():
                one.prompt_tokens = event.prompt_tokens
                self._read.inc(event.prompt_tokens)
            case Finished():
                self._finished(one, event)
            case RequestRefused():
                self._end(stream, event.kind)
                return
        if stream.ended:
            self._end(
                stream, "error" if one.failed else "cancelled" if one.cancelled else "finished"
            )

    def on_close(self, stream: Stream) -> None:
        if stream.request_id in self._open:
            self._end(stream, "cancelled")

    def _token(self, one: _Open, index: int) -> None:
        now = time.monotonic()
        if not one.last:
            self._first.observe(now - one.began)
        if (last := one.last.get(index)) is not None:
            self._gap.observe(now - last)
        one.last[index] = now
        one.reported[index] = one.reported.get(index, 0) + 1
        one.written += 1
        self._written.inc()

    def _finished(self, one: _Open, event: Finished) -> None:
        # the token that ended a text has no event of its own
        self._written.inc(max(0, event.completion_tokens - one.reported.get(event.index, 0)))
        self._completions.labels(event.reason).inc()
        for drafter, drafted, accepted in event.drafts:
            self._drafted.labels(drafter).inc(drafted)
            self._accepted.labels(drafter).inc(accepted)
        if event.index == 0:
            self._cached.inc(event.cached_tokens)
        one.failed |= event.reason == "error"
        one.cancelled |= event.reason == "cancelled"

    def _end(self, stream: Stream, outcome: str) -> None:
        del self._open[stream.request_id]
        self._requests.labels(outcome).inc()


class _State(Collector):
    """Gauges, read at the time of the request."""

    def __init__(self, worker: Worker, metrics: Metrics) -> None:
        self._worker = worker
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        worker = self._worker
        model = worker.model
        slots, tokens = (0, 0) if model is None else (model.max_num_seqs, model.max_tokens)
        held = self._metrics.tokens_held
        gauges = {
            "gptj_streams_running": ("Slots in use.", worker.streams_running),
            "gptj_streams_max": ("Number of slots.", slots),
            "gptj_requests_waiting": ("Requests that wait for a slot.", worker.streams_waiting),
            "gptj_requests_open": ("Requests that have not ended.", len(self._metrics._open)),
            "gptj_kv_cache_tokens": ("Tokens whose keys and values are in use.", held),
            "gptj_kv_cache_usage_ratio": (
                "Share of the KV cache that is in use, from 0 to 1.",
                held / tokens if tokens else 0.0,
            ),
            "gptj_kv_cache_tokens_reserved": (
                "Tokens of the KV cache that running requests use or may still need.",
                worker.tokens_reserved,
            ),
            "gptj_kv_cache_tokens_max": ("Size of the KV cache in tokens.", tokens),
            "gptj_model_ready": ("1 when the model answers.", worker.status.state == "ready"),
        }
        engines = worker.health().engines
        if engines is not None:
            gauges["gptj_engines_ready"] = ("Engines that take requests.", engines)
        for name, (said, value) in gauges.items():
            yield GaugeMetricFamily(name, said, value=float(value))
        restarts = "Times that the model's process ended and was started again."
        yield CounterMetricFamily("gptj_engine_restarts", restarts, value=worker.restarts)
        resumed = "Requests that went on in another engine after theirs had ended."
        yield CounterMetricFamily("gptj_requests_resumed", resumed, value=worker.resumed)
        if model is not None:
            info = GaugeMetricFamily(
                "gptj_model_info", "The model.", labels=["name", "revision", "precision", "device"]
            )
            name, revision = model.full_name, model.revision or ""
            info.add_metric([name, revision, model.precision, model.device], 1.0)
            yield info
