"""The official SDKs ask as the scripts say they do, and understand what the scripts reply."""

from __future__ import annotations

import importlib
import json
from random import Random
from typing import Any

import pytest

from llmflow.lab.kinds import kinds
from llmflow.lab.script import LLM_STREAM, Exchange

SECONDS = 30.0


def exchanges(client: str, label: str) -> list[Any]:
    """One session of each kind that the client may play."""
    return [
        pytest.param(kind.build(Random(seed), SECONDS), id=f"{kind.name}-{seed}")
        for kind in kinds().values()
        if client in kind.clients and (kind.label == LLM_STREAM) == (label == LLM_STREAM)
        for seed in (1, 2)
    ]


def http(exchange: Exchange) -> Any:
    """An HTTP client that gets the reply of the script, and checks what is sent for it."""
    try:
        httpx: Any = importlib.import_module("httpx2")  # newer SDKs
    except ModuleNotFoundError:
        httpx = pytest.importorskip("httpx")

    def answer(request: Any) -> Any:
        assert request.url.raw_path.decode() == exchange.path
        assert json.loads(request.content) == json.loads(exchange.body)
        assert len(request.content) == len(exchange.body)
        sent = {name for name, _ in exchange.headers}
        assert sent <= set(request.headers), "a header that the SDK does not send"
        headers = {"content-type": exchange.content_type}
        return httpx.Response(200, headers=headers, content=b"".join(w.data for w in exchange.down))

    return httpx.Client(transport=httpx.MockTransport(answer))


def openai(exchange: Exchange) -> Any:
    return pytest.importorskip("openai").OpenAI(
        api_key="key", base_url="https://server.test/v1", http_client=http(exchange), max_retries=0
    )


def anthropic(exchange: Exchange) -> Any:
    return pytest.importorskip("anthropic").Anthropic(
        api_key="key", base_url="https://server.test", http_client=http(exchange), max_retries=0
    )


def tokens(exchange: Exchange) -> int:
    return sum(write.tokens for write in exchange.down)


def read_chat(exchange: Exchange) -> tuple[int, str]:
    """Events with something said, and why it ended."""
    said, reason = 0, ""
    for chunk in openai(exchange).chat.completions.create(**json.loads(exchange.body)):
        for choice in chunk.choices:
            delta = choice.delta
            called = delta.tool_calls and delta.tool_calls[0].function.arguments
            said += bool(delta.content or called or getattr(delta, "reasoning_content", None))
            reason = choice.finish_reason or reason
    return said, reason


def read_responses(exchange: Exchange) -> tuple[int, str]:
    said, text, reason = 0, "", ""
    for event in openai(exchange).responses.create(**json.loads(exchange.body)):
        if event.type.endswith(".delta"):
            said, text = said + 1, text + event.delta
        elif event.type == "response.completed":
            assert event.response.output_text == text
            reason = "stop"
    return said, reason


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("session", exchanges("openai", LLM_STREAM))
def test_openai_reads_every_token(session: tuple[Exchange, ...]) -> None:
    for exchange in session:
        read = read_responses if exchange.path == "/v1/responses" else read_chat
        said, reason = read(exchange)
        assert said == tokens(exchange) > 0
        assert reason in ("stop", "tool_calls")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("session", exchanges("anthropic", LLM_STREAM))
def test_anthropic_reads_the_message(session: tuple[Exchange, ...]) -> None:
    for exchange in session:
        said, last = 0, None
        for event in anthropic(exchange).messages.create(**json.loads(exchange.body)):
            said += event.type == "content_block_delta"
            if event.type == "message_delta":
                assert event.usage.output_tokens == tokens(exchange)
            last = event.type
        assert said == sum(write.tokens > 0 for write in exchange.down) > 0
        assert last == "message_stop"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("session", exchanges("google-genai", LLM_STREAM))
def test_google_reads_the_answer(session: tuple[Exchange, ...]) -> None:
    genai = pytest.importorskip("google.genai")
    for exchange in session:
        options = genai.types.HttpOptions(
            base_url="https://server.test", api_version="v1", httpx_client=http(exchange)
        )
        client = genai.Client(api_key="key", http_options=options)
        body = json.loads(exchange.body)
        tools = [tool["functionDeclarations"] for tool in body.get("tools", [])]
        config = {"tools": [{"function_declarations": declared} for declared in tools]}
        chunks = list(
            client.models.generate_content_stream(
                model="gemini-2.5-flash",
                contents=body["contents"],
                config=config if tools else None,
            )
        )
        assert chunks[-1].usage_metadata.candidates_token_count == tokens(exchange) > 0
        assert chunks[-1].candidates[0].finish_reason == "STOP"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("session", exchanges("openai", "whole"))
def test_openai_reads_whole_replies(session: tuple[Exchange, ...]) -> None:
    for exchange in session:
        client, body = openai(exchange), json.loads(exchange.body)
        if exchange.path == "/v1/embeddings":
            found = client.embeddings.create(**body)
            assert len(found.data) == len(body["input"])
        elif exchange.path == "/v1/moderations":
            assert client.moderations.create(**body).results[0].flagged is False
        else:
            reply = client.chat.completions.create(**body)
            assert reply.choices[0].message.content


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("session", exchanges("anthropic", "whole"))
def test_anthropic_reads_whole_replies(session: tuple[Exchange, ...]) -> None:
    for exchange in session:
        message = anthropic(exchange).messages.create(**json.loads(exchange.body))
        assert message.content[0].text
