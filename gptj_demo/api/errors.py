"""Errors in OpenAI's format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from gptj_demo.client import RefusalKind, RequestRefused

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_STATUS: dict[RefusalKind, int] = {
    "invalid": 400,
    "too_long": 400,
    "queue_full": 429,
    "unavailable": 503,
}
_CODES: dict[RefusalKind, str] = {
    "invalid": "invalid_value",
    "too_long": "context_length_exceeded",
    "queue_full": "queue_full",
    "unavailable": "model_unavailable",
}
RETRY_SECONDS = 2
"""The default of `Retry-After`."""


class ApiError(Exception):
    """An error response: `message` is for people, `code` and `param` for programs.

    `retry_helps` says of 429 and 503 whether the same request can succeed later.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry_helps: bool = True,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = dict(headers or {})
        if status in (429, 503) and retry_helps:
            self.headers.setdefault("Retry-After", str(RETRY_SECONDS))

    @property
    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        kind = _TYPES.get(self.status)
        if kind is None:
            kind = "server_error" if self.status >= 500 else "invalid_request_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, headers=self.headers)


FAILED = ApiError(500, "Something went wrong in the playground itself.", code="internal")
"""The response to a request in which our own code failed."""


def of_refusal(refusal: RequestRefused) -> ApiError:
    """The response to a request that the worker refuses."""
    kind = refusal.kind
    param = refusal.control
    if kind == "too_long" or (kind == "invalid" and param is None):
        param = "prompt"
    return ApiError(_STATUS[kind], str(refusal), code=_CODES[kind], param=param)
