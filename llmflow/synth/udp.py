"""UDP flows: plain datagrams, QUIC with its acknowledgements, RTP frames and DNS messages."""

from __future__ import annotations

import ipaddress
import struct
from typing import TYPE_CHECKING

from llmflow.synth.wire import Ends, Framer, IpHeader, Packet, Side, captured

if TYPE_CHECKING:
    from random import Random

_DATAGRAM = 1_250  # UDP payload of a full QUIC datagram
_ACK_EVERY = 2
_ACK_DELAY = 0.025
_VERSION = 1
_INITIAL, _HANDSHAKE = 0xC0, 0xE0


class UdpTalk:
    """A flow of datagrams to be filled, then rendered once.

    Parameters
    ----------
    framer : Framer
        Makes the frames.
    ends : Ends
        Addresses and ports.
    rng : random.Random
        Randomness of this flow only.
    """

    def __init__(self, framer: Framer, ends: Ends, rng: Random) -> None:
        self.ends, self.rng = ends, rng
        self._framer = framer
        self._queue: list[tuple[float, Side, bytes]] = []
        self._ident = [rng.getrandbits(16), rng.getrandbits(16)]
        self._ttl = (64, rng.randint(49, 58))

    def send(self, time: float, side: Side, payload: bytes) -> None:
        """Queue one datagram of `side`."""
        self._queue.append((time, side, payload))

    def packets(self) -> list[Packet]:
        """Return the packets in the order of time."""
        packets = []
        for time, side, payload in sorted(self._queue, key=lambda item: item[0]):
            self._ident[side] += 1
            header = IpHeader(self._ident[side], self._ttl[side])
            packets.append(
                captured(time, self._framer.udp(self.ends, side, header, payload)),
            )
        return packets


class QuicTalk(UdpTalk):
    """A QUIC connection: long headers first, then short ones; the content is random.

    The server addresses the client by an empty connection identifier, as browsers ask it to.
    """

    def __init__(self, framer: Framer, ends: Ends, rng: Random, *, rtt: float = 0.020) -> None:
        super().__init__(framer, ends, rng)
        self.rtt = rtt
        self._server_id = rng.randbytes(8)
        self._eliciting: list[tuple[float, Side]] = []

    def open(self, time: float) -> float:
        """Queue the handshake; return when the client can send its request."""
        rng = self.rng
        chosen = rng.randbytes(8)  # the client picks the server's first identifier
        self.send(time, Side.CLIENT, self._long(_INITIAL, _DATAGRAM, chosen, b""))
        answer = time + self.rtt * rng.uniform(1.1, 1.4)
        for index, size in enumerate((_DATAGRAM, _DATAGRAM, rng.randint(500, 1100))):
            kind = _INITIAL if index == 0 else _HANDSHAKE
            self.send(answer + 0.0002 * index, Side.SERVER, self._long(kind, size, b"", None))
        done = answer + rng.uniform(0.002, 0.004)
        self.send(done, Side.CLIENT, self._long(_INITIAL, _DATAGRAM, self._server_id, b""))
        self.send(done + 0.0002, Side.CLIENT, self._long(_HANDSHAKE, 94, self._server_id, b""))
        self.data(done + self.rtt * 1.2, Side.SERVER, rng.randint(480, 640))
        return done + self.rtt * 1.3

    def data(self, time: float, side: Side, size: int) -> None:
        """Queue one write of `size` bytes, split in datagrams with short headers."""
        while size > 0:
            part = min(size, _DATAGRAM)
            self.send(time, side, self._short(side, part))
            self._eliciting.append((time, side))
            size -= part
            time += self.rng.uniform(0.0001, 0.0003)

    def packets(self) -> list[Packet]:
        """Add the acknowledgements of both ends and return the packets in the order of time."""
        eliciting = sorted(self._eliciting)
        for side in Side:
            self._acknowledge(side, [time for time, sender in eliciting if sender is side.peer])
        return super().packets()

    def _acknowledge(self, side: Side, times: list[float]) -> None:
        rng = self.rng
        sizes = (33, 45) if side is Side.CLIENT else (27, 36)
        waiting: list[float] = []
        for index, time in enumerate(times):
            waiting.append(time)
            due = waiting[0] + _ACK_DELAY
            last = index + 1 == len(times) or times[index + 1] > due
            if len(waiting) < _ACK_EVERY and not last:
                continue
            when = time if len(waiting) >= _ACK_EVERY else due
            lag = self.rtt * rng.uniform(1.0, 1.3) if side is Side.SERVER else 0.0
            when += lag + rng.uniform(0.0003, 0.0012)
            self.send(when, side, self._short(side, rng.randint(*sizes)))
            waiting.clear()

    def _long(self, kind: int, size: int, target: bytes, source: bytes | None) -> bytes:
        source = self._server_id if source is None else source
        head = struct.pack(">BI", kind | self.rng.getrandbits(2), _VERSION)
        head += bytes([len(target)]) + target + bytes([len(source)]) + source
        if kind == _INITIAL:
            head += b"\0"  # no token
        body = size - len(head) - 2
        return head + struct.pack(">H", 0x4000 | body) + self.rng.randbytes(body)

    def _short(self, side: Side, size: int) -> bytes:
        target = self._server_id if side is Side.CLIENT else b""
        head = bytes([0x40 | self.rng.getrandbits(6)]) + target
        return head + self.rng.randbytes(max(size - len(head), 21))


def rtp_frame(rng: Random, index: int, source: int, size: int = 160) -> bytes:
    """Return the `index`-th 20 ms voice frame of an RTP source.

    Examples
    --------
    >>> from random import Random
    >>> frame = rtp_frame(Random(1), 3, 7)
    >>> len(frame), frame[0]
    (172, 128)
    """
    header = struct.pack(">BBHII", 0x80, 0, index & 0xFFFF, 160 * index, source)
    return header + rng.randbytes(size)


def dns_messages(ident: int, name: str, address: str) -> tuple[bytes, bytes]:
    r"""Return the question for the IPv4 address of `name` and its answer.

    Examples
    --------
    >>> question, answer = dns_messages(7, "a.example", "192.0.2.1")
    >>> answer[-4:]
    b'\xc0\x00\x02\x01'
    """
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    asked = labels + struct.pack(">BHH", 0, 1, 1)
    question = struct.pack(">6H", ident, 0x0100, 1, 0, 0, 0) + asked
    record = struct.pack(">HHHIH", 0xC00C, 1, 1, 60, 4) + ipaddress.ip_address(address).packed
    return question, struct.pack(">6H", ident, 0x8180, 1, 1, 0, 0) + asked + record
