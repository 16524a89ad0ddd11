"""Checks what the model writes, sentence by sentence, before anybody sees it.

Off without the setting `filter`. The worker uses it through `Moderation`.
"""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from gptj_demo.client.moderation.checker import CHECK_SECONDS, Checker
from gptj_demo.client.moderation.classifier import Classifier
from gptj_demo.client.moderation.endpoint import Endpoint
from gptj_demo.client.moderation.holdback import WINDOW, Action
from gptj_demo.client.moderation.moderated import ModeratedStream
from gptj_demo.client.moderation.patterns import Patterns
from gptj_demo.client.moderation.verdict import Filter
from gptj_demo.client.stream import Observer, Port, Stream
from gptj_demo.protocol import GenerationRequest
from gptj_demo.settings import InvalidSettings, Settings
from gptj_demo.tokenization import Vocabulary

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_OF_FILES = (".txt", ".list", ".conf", ".cfg", ".re")

__all__ = ["Moderation", "make_moderation"]


class Moderation:
    """The filter of a deployment and what happens to flagged sentences."""

    def __init__(self, filter: Filter, action: Action, seconds: float = CHECK_SECONDS) -> None:
        self.kind = filter.kind
        self.action = action
        self._checker = Checker(filter, seconds)

    @property
    def is_checking(self) -> bool:
        """Whether a sentence waits for its verdict."""
        return self._checker.is_busy

    def described(self) -> dict[str, str]:
        """What kind of filter it is and what it does, for the page and programs."""
        return {"kind": self.kind, "action": self.action}

    def start(self) -> None:
        """Start the filter; returns at once."""
        self._checker.start()

    def stop(self) -> None:
        """End the filter."""
        self._checker.stop()

    def stream(
        self,
        port: Port,
        request_id: int,
        request: GenerationRequest,
        observer: Observer | None,
        vocabulary: Vocabulary | None,
    ) -> Stream:
        """A stream that is checked; see `Stream`."""
        prompt = request.prompt
        if not isinstance(prompt, str):
            known = [] if vocabulary is None else [i for i in prompt[-WINDOW:] if i in vocabulary]
            data = b"".join(map(vocabulary.bytes_of, known)) if vocabulary is not None else b""
            prompt = data.decode(errors="replace")
        return ModeratedStream(
            port,
            request_id,
            request,
            observer,
            checker=self._checker,
            action=self.action,
            context=prompt,
        )


def make_moderation(settings: Settings) -> Moderation | None:
    """The configured moderation, None without a filter; raises `InvalidSettings`."""
    if settings.filter is None:
        return None
    return Moderation(_make_filter(settings, settings.filter), settings.filter_action)


def _is_address(source: str) -> bool:
    try:
        return bool(httpx.URL(source).host)
    except httpx.InvalidURL:
        return False


def _make_filter(settings: Settings, source: str) -> Filter:
    if source.startswith(("http://", "https://")):
        if not _is_address(source):
            raise InvalidSettings(f"GPTJ_FILTER is {source!r}, which is not a valid address.")
        return Endpoint(source, CHECK_SECONDS)
    path = Path(source)
    try:
        if path.is_file():
            return Patterns(path)
    except OSError as error:
        raise InvalidSettings(
            f"GPTJ_FILTER is {source[:100]!r}, which cannot be opened: {error.strerror}."
        ) from None
    looks_like_an_id = _HUB_ID.fullmatch(source) and not source.endswith(_OF_FILES)
    if not path.is_dir() and not looks_like_an_id:
        raise InvalidSettings(
            f"GPTJ_FILTER is {source!r}; it must be a file of patterns, a folder or hub id of a "
            "text classifier, or an http(s) address."
        )
    if path.is_dir() and not (path / "config.json").is_file():
        raise InvalidSettings(f"GPTJ_FILTER is {source!r}, a folder without a config.json.")
    labels = [label.strip() for label in settings.filter_labels.split(",") if label.strip()]
    return Classifier(source, labels, settings.filter_threshold, CHECK_SECONDS)
