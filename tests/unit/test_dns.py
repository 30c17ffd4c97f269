"""DNS answers: chains, hints, compression, and messages made to hurt."""

from __future__ import annotations

import pytest

from llmflow.capture.columns import IPV4_MAPPED
from llmflow.metadata.dns import answers
from llmflow.metadata.wire import MalformedError

A, CNAME, AAAA, HTTPS = 1, 5, 28, 65
HERE = b"\xc0\x0c"  # pointer to the name in the question


def encode(name: str) -> bytes:
    return b"".join(bytes([len(x)]) + x.encode() for x in name.split(".")) + b"\0"


def record(owner: bytes, kind: int, data: bytes, ttl: int = 300, group: int = 1) -> bytes:
    front = kind.to_bytes(2, "big") + group.to_bytes(2, "big") + ttl.to_bytes(4, "big")
    return owner + front + len(data).to_bytes(2, "big") + data


def response(name: str, *records: bytes, flags: int = 0x8180, count: int | None = None) -> bytes:
    number = len(records) if count is None else count
    head = b"\x12\x34" + flags.to_bytes(2, "big") + b"\0\1" + number.to_bytes(2, "big") + bytes(4)
    return head + encode(name) + b"\0\1\0\1" + b"".join(records)


def addresses(message: bytes) -> list[tuple[str, int, int]]:
    return [(answer.name, answer.address, answer.ttl) for answer in answers(message)]


def test_addresses_belong_to_the_name_that_was_asked() -> None:
    message = response(
        "Claude.AI", record(HERE, A, b"\xa0\x4f\x68\x0a"), record(HERE, AAAA, bytes(15) + b"\1", 60)
    )
    assert addresses(message) == [
        ("claude.ai", IPV4_MAPPED | 0xA04F680A, 300),
        ("claude.ai", 1, 60),
    ]


def test_client_and_time_are_handed_through() -> None:
    (answer,) = answers(response("a.example", record(HERE, A, b"\1\2\3\4")), client=7, time=9)
    assert (answer.client, answer.time) == (7, 9)


def test_chains_lead_back_to_the_question_in_any_order() -> None:
    """The smallest time to live on the chain counts; addresses of strangers do not."""
    chain = [
        record(HERE, CNAME, encode("edge.cdn.example"), 50),
        record(encode("edge.cdn.example"), CNAME, encode("pop.cdn.example"), 20),
        record(encode("pop.cdn.example"), A, b"\1\1\1\1", 90),
        record(encode("stranger.example"), A, b"\2\2\2\2"),
    ]
    expected = [("api.openai.com", IPV4_MAPPED | 0x01010101, 20)]
    assert addresses(response("api.openai.com", *chain)) == expected
    assert addresses(response("api.openai.com", *chain[::-1])) == expected


def test_hints_of_https_records() -> None:
    """RFC 9460: priority, target, then parameters; 4 and 6 hold addresses."""
    alpn, four = b"\0\1\0\3\2h3", b"\0\4\0\x08\1\1\1\1\1\1\1\2"
    six = b"\0\6\0\x10" + bytes(15) + b"\5"
    message = response("x.example", record(HERE, HTTPS, b"\0\1\0" + alpn + four + six))
    assert [address for _, address, _ in addresses(message)] == [
        IPV4_MAPPED | 0x01010101, IPV4_MAPPED | 0x01010102, 5,
    ]  # fmt: skip


@pytest.mark.parametrize("flags", [0x0100, 0x8183, 0xA980])
def test_questions_errors_and_other_operations_have_no_answers(flags: int) -> None:
    assert answers(response("a.example", record(HERE, A, b"\1\2\3\4"), flags=flags)) == []


def test_what_was_cut_off_is_left_out() -> None:
    message = response("a.example", record(HERE, A, b"\1\2\3\4"), record(HERE, A, b"\5\6\7\x08"))
    assert len(addresses(message[:-1])) == 1
    assert len(addresses(response("a.example", record(HERE, A, b"\1\2\3\4"), count=9))) == 1


def test_odd_records_cost_themselves_only() -> None:
    odd = [
        record(HERE, A, b"\1\2\3"),
        record(HERE, HTTPS, b"\0\1\0\0\4\0\3\1\1\1"),
        record(HERE, CNAME, b"\xff"),
        record(HERE, A, b"\1\2\3\4", group=3),
        record(HERE, 16, b"text"),
    ]
    good = record(HERE, A, b"\4\4\4\4")
    assert [a for _, a, _ in addresses(response("a.example", *odd, good))] == [
        IPV4_MAPPED | 0x04040404
    ]


@pytest.mark.parametrize(
    "pointer", [b"\xc0\x0c", b"\xc0\x0e\xc0\x0c", b"\1a\xc0\x0c", b"\x80\0", b"\xff\xff"]
)
def test_loops_of_compression_end(pointer: bytes) -> None:
    with pytest.raises(MalformedError):
        answers(b"\0\0\x81\x80\0\1\0\1\0\0\0\0" + pointer + b"\0\1\0\1")


def test_loops_of_aliases_end() -> None:
    loop = [record(encode(f"{i}.e"), CNAME, encode(f"{(i + 1) % 200}.e")) for i in range(200)]
    assert answers(response("0.e", *loop)) == []
