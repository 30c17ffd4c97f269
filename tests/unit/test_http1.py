"""HTTP/1 heads: host, event streams, and nothing about anything else."""

from __future__ import annotations

import pytest

from llmflow.metadata.http1 import Request, request, streams_events
from llmflow.metadata.wire import MalformedError

AGENTS = ("GPTBot", "Claude-User")


def test_host_without_port_in_one_form() -> None:
    found = request(b"POST /v1/chat HTTP/1.1\r\nHost: LLM.Example.:8000\r\n\r\n{}", AGENTS)
    assert found == Request("llm.example", "", connect=False)


@pytest.mark.parametrize(
    ("head", "host"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", ""),
        (b"GET / HTTP/1.1\nhost:a.example\n\nHost: body.example\n", "a.example"),
        (b"GET / HTTP/1.1\r\nX: 1\r\nHOST:\t a.example \r\n", "a.example"),
        (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", ""),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", ""),
        (b"GET / HTTP/1.1\r\nHost: cut.exam", ""),
        (b"GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n", "a.example"),
    ],
)
def test_forms_of_heads(head: bytes, host: str) -> None:
    """A line that is not whole says nothing; neither does a body."""
    assert request(head).host == host


def test_of_user_agent_only_the_token_is_kept() -> None:
    head = b"GET /private HTTP/1.1\r\nUser-Agent: Mozilla/5.0 (compatible; gptbot/1.2)\r\n\r\n"
    assert request(head, AGENTS).agent == "GPTBot"
    assert request(head.replace(b"gptbot", b"curl"), AGENTS) == Request("", "", connect=False)


def test_connect_is_told() -> None:
    found = request(b"CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n\r\n")
    assert found == Request("api.example", "", connect=True)


@pytest.mark.parametrize(
    "data", [b"", b"GET / RTSP/1.0\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n", b"GET "]
)
def test_no_request(data: bytes) -> None:
    with pytest.raises(MalformedError):
        request(data)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b"Content-Type: text/event-stream\r\n\r\n", True),
        (b"content-type:Text/Event-Stream; charset=utf-8\r\n\r\n", True),
        (b"Content-Type: application/json\r\n\r\n", False),
        (b"X: y\r\n\r\nContent-Type: text/event-stream\r\n", False),
        (b"Content-Type: text/event-str", False),
    ],
)
def test_event_streams(fields: bytes, expected: bool) -> None:
    assert streams_events(b"HTTP/1.1 200 OK\r\n" + fields) == expected


def test_no_response() -> None:
    with pytest.raises(MalformedError):
        streams_events(b"HTTP/2 200\r\n\r\n")
