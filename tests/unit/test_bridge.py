"""The bridge between two sockets that are no interfaces."""

from __future__ import annotations

import os
import socket
from threading import Thread

from llmflow.lab.net.bridge import OFFLOAD_HEADER, Way, forward
from llmflow.lab.net.impairment import Direction, Link

IPV4, ARP = (bytes(OFFLOAD_HEADER + 12) + kind for kind in (b"\x08\x00", b"\x08\x06"))


def bridged(direction: Direction, frames: list[bytes], expected: int) -> tuple[list[bytes], Way]:
    """What comes out of a direction, and its counters."""
    client, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    outside, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stop, close = os.pipe()
    with client, inside, outside, server:
        for end in (inside, outside):
            end.setblocking(False)
        server.settimeout(10)
        up = Way(inside, outside, Link(direction, seed=1))
        bridge = Thread(target=forward, args=({inside: up}, stop), daemon=True)
        bridge.start()
        for frame in frames:
            client.send(frame)
        found = [server.recv(100) for _ in range(expected)]
        os.close(close)
        bridge.join()
        os.close(stop)
    return found, up


def test_frames_pass_in_order_and_whole() -> None:
    frames = [IPV4 + bytes([number]) for number in range(50)]
    found, up = bridged(Direction(delay_s=0.005, jitter_s=0.002), frames, 50)
    assert found == frames
    assert (up.rx, up.tx, up.unsent) == (50, 50, 0)
    assert up.late_sum >= up.late_max >= 0


def test_duplicates_are_sent_twice() -> None:
    found, up = bridged(Direction(duplicate=1), [IPV4 + b"a"], 2)
    assert found == [IPV4 + b"a"] * 2
    assert (up.rx, up.tx) == (1, 2)


def test_arp_is_never_lost() -> None:
    found, up = bridged(Direction(loss=1), [IPV4, ARP], 1)
    assert found == [ARP]
    assert (up.rx, up.tx, up.link.lost) == (2, 1, 1)
