"""`/mcp`: the playground as tools for MCP clients, over streamable HTTP without sessions.

The package `mcp` speaks the protocol. Host names, other sites, keys, limits, the size of bodies and
the access log are those of the rest of the API. A client that closes its connection ends its call.
"""

from __future__ import annotations

import json
import logging
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from gptj_demo.api.context import Context
from gptj_demo.api.errors import ApiError, of_refusal
from gptj_demo.api.mcp_tools import Call, make_tools
from gptj_demo.client import RequestRefused
from gptj_demo.software import software_version
from gptj_demo.web.answers import FAILED
from gptj_demo.web.failures import describe_failure

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server
    from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult

logger = logging.getLogger(__name__)

CALLER = "gptj_demo.caller"
INSTRUCTIONS = (
    "GPT-J, a language model that was trained on plain text. It continues texts and scores them; "
    "it follows no instructions."
)


def is_installed() -> bool:
    """Whether there is a version of the package `mcp` that this module can use.

    Hugging Face's ZeroGPU Spaces bring another one.
    """
    try:
        return version("mcp").startswith("2.")
    except PackageNotFoundError:
        return False


class Mcp:
    """`/mcp`."""

    def __init__(self, api: Context) -> None:
        self._api = api
        self._tools = {tool.name: tool for tool in make_tools(api)}
        self._server: Server[Any] | None = self._make_server() if is_installed() else None

    def add_to(self, router: APIRouter) -> None:
        router.post("/mcp", include_in_schema=False)(self.serve)

    async def serve(self, request: Request) -> Response:
        """One message of a client, with its answer."""
        request.scope[CALLER] = self._api.access.identify(request)
        if self._server is None:
            raise ApiError(
                404,
                "This playground was installed without the package mcp 2, which /mcp needs.",
                code="not_found",
            )
        return _Exchange(self._server, self._api.settings.max_body_bytes)

    def _make_server(self) -> Server[Any]:
        from mcp.server.lowlevel import Server

        return Server(
            "gptj-playground",
            title="GPT-J Playground",
            version=software_version(),
            instructions=INSTRUCTIONS,
            on_list_tools=self._list,
            on_call_tool=self._call,
        )

    async def _list(self, context: ServerRequestContext[Any], params: Any) -> ListToolsResult:
        import mcp_types as types

        annotations = types.ToolAnnotations(read_only_hint=True, open_world_hint=False)
        return types.ListToolsResult(
            tools=[
                types.Tool(
                    name=tool.name,
                    title=tool.title,
                    description=tool.description,
                    input_schema=dict(tool.schema),
                    annotations=annotations,
                )
                for tool in self._tools.values()
            ]
        )

    async def _call(
        self, context: ServerRequestContext[Any], params: CallToolRequestParams
    ) -> CallToolResult:
        import mcp_types as types

        request = context.request
        assert isinstance(request, Request)
        reported = 0.0

        async def report(done: float, total: float) -> None:
            nonlocal reported
            if done > reported:
                reported = done
                await context.session.report_progress(done, total)

        try:
            tool = self._tools.get(params.name)
            if tool is None:
                names = ", ".join(self._tools)
                raise ApiError(
                    404,
                    f"There is no tool named {params.name[:60]!r}; the tools are: {names}.",
                    code="not_found",
                )
            arguments = params.arguments or {}
            result = await tool.run(Call(arguments, request.scope[CALLER], request, report))
        except (ApiError, RequestRefused) as error:
            refusal = of_refusal(error) if isinstance(error, RequestRefused) else error
            return _failed(refusal.message)
        except Exception as error:
            logger.error("a tool failed: %s", describe_failure(error))
            return _failed(FAILED)
        text = json.dumps(result, ensure_ascii=False)
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=text)], structured_content=result
        )


def _failed(sentence: str) -> CallToolResult:
    import mcp_types as types

    return types.CallToolResult(
        content=[types.TextContent(type="text", text=sentence)], is_error=True
    )


class _Exchange(Response):
    """The answer to one message, written by the package `mcp`."""

    def __init__(self, server: Server[Any], max_body_bytes: int) -> None:
        super().__init__()
        self._server = server
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        # a manager of its own for each message: all its tasks end with the answer
        manager = StreamableHTTPSessionManager(
            self._server, stateless=True, max_request_body_size=self._max_body_bytes
        )
        refused: list[ApiError] = []

        async def noted() -> Message:
            try:
                return await receive()
            except ApiError as error:  # the body is refused
                refused.append(error)
                raise

        try:
            async with manager.run():
                await manager.handle_request(scope, noted, send)
        except Exception:  # the manager's task group wraps errors in an ExceptionGroup
            if not refused:
                raise
            raise refused[0] from None
