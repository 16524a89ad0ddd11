"""Many clients at once; `python -m tests.api.load` is the same for longer."""

from __future__ import annotations

import asyncio

import httpx

from tests.waiting import PATIENCE, eventually_async

from .conftest import Playground
from .load import storm


def test_clients_that_disconnect_leave_no_requests_threads_or_descriptors(
    playground: Playground,
) -> None:
    before = playground.metrics()
    result = storm(playground, clients=32, seconds=6)
    assert result.failures == []
    assert result.ended > 20
    assert result.left > 5
    metrics = result.metrics
    growth = {name: metrics[name] - before.get(name, 0.0) for name in metrics}
    ends = sum(n for name, n in growth.items() if name.startswith("gptj_requests_total"))
    assert growth["gptj_requests_received_total"] == ends
    assert growth["gptj_requests_received_total"] >= result.ended + result.left
    assert growth['gptj_requests_total{outcome="error"}'] == 0
    assert metrics["gptj_kv_cache_tokens"] == metrics["gptj_requests_waiting"] == 0
    assert result.descriptors[1] <= result.descriptors[0] + 4
    assert result.threads[1] <= result.threads[0] + 2


def test_a_caller_with_200_requests_does_not_starve_a_person_at_the_page() -> None:
    """The person's text is done while most of the caller's requests still wait."""
    from gradio_client import Client

    playground = Playground("--max-waiting", "400", environment={"GPTJ_API_KEYS": "the-caller"})
    playground.http.headers["Authorization"] = "Bearer the-caller"
    try:
        playground.wait_until_ready()
        person = Client(playground.url, verbose=False)

        def all_are_open() -> bool:
            return playground.metrics()["gptj_requests_open"] == 200

        async def scenario() -> tuple[str, float, list[int]]:
            limits = httpx.Limits(max_connections=200)
            async with httpx.AsyncClient(
                base_url=playground.url,
                headers=playground.http.headers,
                timeout=PATIENCE,
                limits=limits,
                trust_env=False,
            ) as caller:
                body = {"prompt": "The king", "max_tokens": 150, "ignore_eos": True}
                with playground.paused():
                    tasks = [
                        asyncio.create_task(caller.post("/v1/completions", json=body))
                        for _ in range(200)
                    ]
                    await eventually_async(all_are_open)
                text = await asyncio.to_thread(
                    person.predict, "Once upon a time", max_new_tokens=20, api_name="/generate"
                )
                waiting = playground.metrics()["gptj_requests_waiting"]
                answers = await asyncio.gather(*tasks)
                return str(text), waiting, [answer.status_code for answer in answers]

        text, waiting, statuses = asyncio.run(scenario())
        assert text
        assert waiting > 100
        assert statuses == [200] * 200
    finally:
        playground.stop()
