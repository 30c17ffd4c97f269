"""Names of flows, from packets in any order; the collector's bounds."""

from __future__ import annotations

import pytest

from llmflow.metadata.collector import NameCollector
from llmflow.metadata.names import MAX_IDLE, MAX_SIDE, Names, names
from tests.hellos import client_hello, crypto, initial, records, server_hello, vector

HELLO = records(client_hello("claude.ai", more=[(51, bytes(1400)), (0xFE0D, b"\0\0\1\0\1\5")]))
ANSWER = records(server_hello(extensions=[(43, b"\3\4")]))
ANSWER_1_2 = records(server_hello(0xC02F, [(16, vector(2, vector(1, b"h2")))]))


def test_all_that_a_tls_flow_says() -> None:
    found = names([(0, 1000, HELLO[:1000]), (0, 2000, HELLO[1000:]), (1, 77, ANSWER)])
    assert found.sni == "claude.ai"
    assert found.alpn == ("h2", "http/1.1")
    assert found.ech
    assert found.ja4.startswith("t13d0306h2_")
    assert found.tls_version == "1.3"
    assert found.alpn_chosen == ""


def test_which_side_is_the_client_is_seen_from_the_hellos() -> None:
    packets = [(0, 5, ANSWER_1_2), (1, 9, HELLO)]
    assert names(packets).sni == "claude.ai"
    assert (names(packets).tls_version, names(packets).alpn_chosen) == ("1.2", "h2")


def test_sequence_numbers_wrap() -> None:
    start = (1 << 32) - 500
    packets = [(0, 500, HELLO[1000:]), (0, start, HELLO[:1000])]
    assert names(packets).ja4


def test_lost_segment_leaves_the_front() -> None:
    """The name stands in what is there; a fingerprint needs all."""
    found = names([(0, 0, HELLO[:600]), (0, 900, HELLO[900:])])
    assert (found.sni, found.ja4) == ("claude.ai", "")


def test_hello_after_other_bytes() -> None:
    """STARTTLS, and proxies: a hello may begin at any packet of a connection."""
    found = names([(0, 0, b"EHLO x\r\n"), (0, 8, b"STARTTLS\r\n"), (0, 18, HELLO)])
    assert found.sni == "claude.ai"


def test_connect_proxy() -> None:
    request = b"CONNECT claude.ai:443 HTTP/1.1\r\nHost: claude.ai:443\r\n\r\n"
    packets = [(0, 0, request), (1, 0, b"HTTP/1.1 200 OK\r\n\r\n"), (0, len(request), HELLO)]
    found = names(packets)
    assert (found.host, found.sni) == ("claude.ai", "claude.ai")


def test_of_two_hellos_the_lower_counts() -> None:
    """After a HelloRetryRequest the client sends a second one."""
    second = records(client_hello("second.example"))
    for packets in ([(0, 0, HELLO), (0, 5000, second)], [(0, 5000, second), (0, 0, HELLO)]):
        assert names(packets).sni == "claude.ai"


def test_http_in_clear() -> None:
    packets = [
        (0, 100, b"POST /b HTTP/1.1\r\nHost: second.example\r\n\r\n"),
        (0, 0, b"POST /a HTTP/1.1\r\nHost: llm.example\r\nUser-Agent: x GPTBot/1\r\n\r\n"),
        (1, 0, b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"),
        (1, 200, b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: "),
    ]
    found = names(packets, agents=("GPTBot",))
    assert (found.host, found.agent, found.event_stream) == ("llm.example", "GPTBot", True)
    assert found == names(packets[::-1], agents=("GPTBot",))


def test_request_in_several_segments() -> None:
    """Some clients write the first line alone."""
    line, rest = b"POST / HTTP/1.1\r\n", b"Accept: x\r\nHost: llm.example\r\n\r\n{}"
    packets = [(0, 0, line), (0, len(line), rest)]
    assert names(packets).host == names(packets[::-1]).host == "llm.example"
    assert names([(0, 0, line + rest[:30])]).host == "llm.example"
    collector: NameCollector[int] = NameCollector()
    for packet in [*packets, packets[0]]:
        collector.feed(1, *packet)
    assert collector.held == 0


def test_quic() -> None:
    found = names([(1, None, initial(crypto(0, client_hello(alpn=(b"h3",)))))])
    assert (found.sni, found.alpn, found.quic_version) == ("claude.ai", ("h3",), "1")
    assert found.tls_version == "1.3"
    assert found.ja4.startswith("q13d0304h3_")


def test_segments_that_contradict_each_other() -> None:
    """Retransmissions with other bytes: an attack, so any answer will do, but no exception."""
    packets = [(0, 100, HELLO[:40]), (0, 90, b"\x16\3\1\1\0" + bytes(40)), (0, 140, HELLO[40:])]
    for front in (b"\x16\3\1\0\x90\1\0\0\x8c", b"GET / HTTP/1.1\r\n", b"\x16"):
        for at in range(80, 150, 3):
            packets.append((0, at, front))
            assert isinstance(names(packets), Names)
            assert isinstance(names(packets[::-1]), Names)


def test_nothing_says_nothing() -> None:
    assert names([]) == names([(0, 0, b""), (0, 1, b"SSH-2.0-x"), (1, None, b"x")]) == Names()


def test_collector_says_when_names_are_complete() -> None:
    collector: NameCollector[str] = NameCollector()
    assert collector.feed("flow", 0, 0, HELLO[:1000]) is None
    assert collector.unfinished == {"flow"}
    assert collector.feed("flow", 1, 0, ANSWER) is None
    found = collector.feed("flow", 0, 1000, HELLO[1000:])
    assert found
    assert found.sni == "claude.ai"
    assert (collector.held, collector.unfinished, len(collector)) == (0, set(), 1)
    assert collector.finish("flow") == found
    assert (len(collector), collector.finish("flow")) == (0, Names())


def test_collector_keeps_flows_apart() -> None:
    """Segments of many flows, interleaved: what each says is what it says alone."""
    collector: NameCollector[int] = NameCollector()
    hellos = [records(client_hello(f"n{i}.example", more=[(21, bytes(900))])) for i in range(50)]
    for part in (slice(700, None), slice(0, 700)):
        for i, hello in enumerate(hellos):
            collector.feed(i, 0, part.start, hello[part])
    assert [collector.finish(i).sni for i in range(50)] == [f"n{i}.example" for i in range(50)]
    assert collector.held == 0


def test_collector_bounds_flows_and_bytes() -> None:
    collector: NameCollector[int] = NameCollector(max_flows=2, max_bytes=1500)
    for key in range(3):
        collector.feed(key, 0, 0, HELLO[:1000])
    assert (collector.dropped_packets, collector.given_up, collector.held) == (1, 1, 1000)
    collector.feed(1, 0, 1000, HELLO[1000:])
    assert [collector.finish(key).sni for key in range(3)] == ["claude.ai", "claude.ai", ""]
    assert collector.held == 0


def test_whole_hellos_need_no_memory() -> None:
    """Nobody can starve the others by beginning hellos and not ending them."""
    collector: NameCollector[int] = NameCollector(max_bytes=0)
    collector.feed(1, 0, 0, HELLO)
    collector.feed(2, 0, None, initial(crypto(0, client_hello("chatgpt.com"))))
    assert (collector.finish(1).sni, collector.finish(2).sni) == ("claude.ai", "chatgpt.com")
    assert collector.given_up == 0


@pytest.mark.parametrize("size", [40, 1400])
def test_a_hello_that_will_never_be_whole_is_not_waited_for(size: int) -> None:
    """A short snaplen cuts every hello: flows must not stay unfinished for that."""
    collector: NameCollector[int] = NameCollector()
    collector.feed(1, 0, 0, HELLO[:300])
    assert collector.unfinished == {1}
    for i in range(80):
        collector.feed(1, 0, len(HELLO) + i * size, bytes(size))
    assert (collector.unfinished, collector.held) == (set(), 0)
    assert collector.finish(1).sni == "claude.ai"


def test_one_flow_holds_little() -> None:
    """Bulk data is let go, and a lost segment does not make everything behind it wait."""
    collector: NameCollector[int] = NameCollector()
    for i in range(200):
        collector.feed(1, 0, i * 1400, b"\x17\3\3" + bytes(1397))
        assert collector.held <= MAX_IDLE + 1400
    collector.feed(2, 0, 0, HELLO[:600])
    for i in range(200):
        collector.feed(2, 0, 2000 + i * 1400, bytes(1400))
    assert collector.held <= MAX_SIDE // 2
    for i in range(200):
        collector.feed(3, 0, i * 10, b"\x16\3\1\0\0")
    assert collector.finish(3) == Names()
