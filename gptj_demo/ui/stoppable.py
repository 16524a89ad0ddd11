"""Logs of requests that the visitor can stop."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from gptj_demo.ui.generation import record, refused


class StoppableLogs:
    """The logs that are being written, by the id that the visitor's page chose."""

    def __init__(self) -> None:
        self._is_stopped: dict[str, bool] = {}

    def stop(self, request_id: Any) -> bool:
        """Stop writing a log; False if it is not being written."""
        if str(request_id) not in self._is_stopped:
            return False
        self._is_stopped[str(request_id)] = True
        return True

    async def write(
        self, request_id: str, lines: AsyncGenerator[str, None]
    ) -> AsyncGenerator[str, None]:
        """The log after each of its lines; an error of `lines` becomes its last one."""
        log = record("begin", id=request_id)
        self._is_stopped[request_id] = False
        try:
            async with aclosing(lines):
                async for line in lines:
                    log += line
                    yield log
                    if self._is_stopped[request_id]:
                        break
            yield log + record("end", stopped=self._is_stopped[request_id])
        except Exception as error:
            yield log + refused(error)
        finally:
            self._is_stopped.pop(request_id, None)
