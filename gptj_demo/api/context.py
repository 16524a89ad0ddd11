"""Shared by the API's routes: the caller, the model's name, the lifetime of a request."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from starlette.requests import Request

from gptj_demo.api.access import Access, Admitted
from gptj_demo.api.answer_memory import AnswerMemory
from gptj_demo.api.completions import Completions
from gptj_demo.api.errors import ApiError
from gptj_demo.api.models import answers_to, model_id
from gptj_demo.api.streaming import unless_caller_leaves
from gptj_demo.client import Worker
from gptj_demo.client.prompt import encode
from gptj_demo.protocol import ModelInfo
from gptj_demo.settings import Settings

COMPLETIONS = "gptj_demo.completions"


class Context:
    """The worker, its settings and the access rules, for every family of routes."""

    def __init__(self, worker: Worker, settings: Settings, access: Access) -> None:
        self.worker = worker
        self.settings = settings
        self.access = access
        self._memory = AnswerMemory()

    def ready_model(self, asked: str | None) -> ModelInfo:
        """The model; a request can give one of its names (see `answers_to`) or none.

        Raises `ApiError` 404 for another name, 503 if the model is not ready and not restarting.
        """
        model = self.worker.model
        if (
            model is not None
            and asked is not None
            and not answers_to(asked, model, self.settings.model)
        ):
            raise ApiError(
                404,
                f"There is no model named {asked[:200]!r} here; the one that answers is "
                f"{self.id_of(model)!r}.",
                code="model_not_found",
                param="model",
            )
        if model is None or not self.worker.takes_requests:
            status = self.worker.status
            raise ApiError(
                503,
                str(status.detail),
                code="model_unavailable",
                retry_helps=status.state != "failed",
            )
        return model

    def id_of(self, model: ModelInfo) -> str:
        """The id of the loaded model."""
        return model_id(model, self.settings.model)

    async def begin(
        self,
        resources: AsyncExitStack,
        admitted: Admitted,
        completions: Completions,
        request: Request,
    ) -> None:
        """Queue the completions of an admitted request, unless the caller leaves; see `reserve`."""
        await self.reserve(resources, admitted, completions, request)
        await unless_caller_leaves(request, completions.begin())

    async def reserve(
        self,
        resources: AsyncExitStack,
        admitted: Admitted,
        completions: Completions,
        request: Request,
    ) -> None:
        """Hold the tokens and the memory that a request can use. Leaving `resources` ends it.

        The scope of the request gets the completions, for the access log.
        """
        request.scope[COMPLETIONS] = completions
        if (most := self.access.tokens_per_minute) is not None:
            admitted.reserve(await completions.count_most(most))
        resources.enter_context(self._memory.reserve(admitted.caller, completions.logprobs_bytes))

        async def end() -> None:
            await completions.aclose()
            admitted.used_tokens = completions.usage.total

        resources.push_async_callback(end)

    def check_fits(self, tokens: int, what: str, param: str) -> None:
        """Raise `ApiError` 400 for more tokens than the context; `what` is what has them."""
        context = self.worker.require_ready().context_length
        if tokens > context:
            raise ApiError(
                400,
                f"{what} {tokens:,} tokens; the model reads {context:,} at most. Leave out "
                f"{tokens - context:,} or more.",
                code="context_length_exceeded",
                param=param,
            )

    async def check_prompts(self, prompts: list[str | tuple[int, ...]]) -> None:
        """Raise `ApiError` 400 if a prompt is longer than the settings allow."""
        most = self.settings.max_prompt_tokens
        if most is None:
            return
        for place, prompt in enumerate(prompts):
            count = await self.count_tokens(prompt) if isinstance(prompt, str) else len(prompt)
            if count > most:
                name = f"Prompt {place}" if len(prompts) > 1 else "The prompt"
                raise ApiError(
                    400,
                    f"{name} has {count:,} tokens; this playground's API reads {most:,} at most.",
                    code="context_length_exceeded",
                    param="prompt",
                )

    async def token_ids(self, text: str, *, begins: bool = True) -> tuple[int, ...]:
        """Token ids of a text (if `begins`) or of a part of one; raises `RequestRefused`."""
        return tuple(await encode(text, self.worker.require_ready(), begins=begins))

    async def count_tokens(self, text: str) -> int:
        """Tokens of a text; raises `RequestRefused`."""
        await asyncio.sleep(0)  # between two of many texts
        return await self.worker.count_tokens(text) or 0
