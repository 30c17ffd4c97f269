"""The official SDKs of OpenAI, Anthropic and Google: their headers, their parsers.

What a script asks is taken out of its body and asked anew by the SDK. Requests that are not the
SDK's own, a page's telemetry perhaps, go over the same HTTP client.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import httpx2

from llmflow.lab.clients.desk import Desk, Seen
from llmflow.lab.clients.http import Web
from llmflow.lab.script import Exchange

_KEY = "sk-proj-" + "lab0" * 39  # as long as real ones
# How the SDKs keep connections; like the library's own, they rest 5 seconds at most.
_LIMITS = httpx2.Limits(max_connections=1000, max_keepalive_connections=100)

# Ends of paths, which are the SDK's names too, and what its methods ask for by name.
_OPENAI = {
    "chat/completions": ("model", "messages", "stream"),
    "responses": ("model", "input", "stream"),
    "embeddings": ("model", "input"),
    "moderations": ("model", "input"),
}


async def openai(desk: Desk, exchanges: Sequence[Exchange]) -> None:
    """Play a session: chat completions, Responses, embeddings, moderations."""
    from openai import AsyncOpenAI

    web = Web(desk, httpx2, _LIMITS)

    async def call(seen: Seen) -> None:
        path = seen.exchange.path
        what = next((what for what in _OPENAI if path.endswith(f"/{what}")), None)
        if what is None:
            await web.request(seen)
            return
        base = desk.url(path.removesuffix(f"/{what}"))
        resource: Any = AsyncOpenAI(
            api_key=_KEY, base_url=base, http_client=web.client, max_retries=0
        )
        for name in what.split("/"):
            resource = getattr(resource, name)
        await _drain(await resource.create(**_arguments(desk, seen, _OPENAI[what])))

    await web.play(exchanges, call)


async def anthropic(desk: Desk, exchanges: Sequence[Exchange]) -> None:
    """Play a session: messages."""
    from anthropic import AsyncAnthropic

    web = Web(desk, httpx2, _LIMITS)
    client = AsyncAnthropic(
        api_key=_KEY, base_url=desk.url(""), http_client=web.client, max_retries=0
    )
    create: Any = client.messages.create

    async def call(seen: Seen) -> None:
        if seen.exchange.path.split("?")[0] != "/v1/messages":
            await web.request(seen)
            return
        named = "model", "messages", "max_tokens", "stream"
        await _drain(await create(**_arguments(desk, seen, named)))

    await web.play(exchanges, call)


async def google_genai(desk: Desk, exchanges: Sequence[Exchange]) -> None:
    """Play a session: contents."""
    from google.genai import Client, types

    web = Web(desk, httpx2, httpx2.Limits(max_connections=100, max_keepalive_connections=20))
    # The other client is never used, but would be made with all the authorities of the system.
    options = {"httpx_async_client": web.client, "httpx_client": httpx2.Client(verify=desk.tls())}

    async def call(seen: Seen) -> None:
        found = re.match(r"(.*)/(v\w+)/models/([^:/]+):(\w+)", seen.exchange.path)
        if found is None:
            await web.request(seen)
            return
        prefix, version, model, method = found.groups()
        http: Any = {"base_url": desk.url(prefix), "api_version": version, **options}
        models: Any = Client(api_key=_KEY, http_options=types.HttpOptions(**http)).aio.models
        given = _arguments(desk, seen, ("contents",))
        config = types.GenerateContentConfig(
            http_options=types.HttpOptions(
                headers=given["extra_headers"], extra_body=given["extra_body"]
            )
        )
        ask = "generate_content" + ("_stream" if method.startswith("stream") else "")
        reply = getattr(models, ask)(model=model, contents=given["contents"], config=config)
        await _drain(await reply)

    await web.play(exchanges, call)


def _arguments(desk: Desk, seen: Seen, named: Sequence[str]) -> dict[str, Any]:
    """What an SDK is asked: some arguments by name, the rest of the body as it is."""
    body = json.loads(seen.exchange.body)
    arguments = {name: body.pop(name) for name in named if name in body}
    headers = {"x-lab": desk.name(seen.index)}
    return {**arguments, "extra_headers": headers, "extra_body": body}


async def _drain(reply: Any) -> None:
    """Take all events of a reply, parsed; one that is whole has been parsed already."""
    if not hasattr(reply, "__aiter__"):
        return
    try:
        async for _ in reply:
            pass
    finally:
        close = getattr(reply, "close", None) or getattr(reply, "aclose", None)
        if close is not None:
            await close()
