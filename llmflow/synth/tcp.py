"""One TCP connection with TLS records, seen by a tap beside the client.

A small event queue plays both ends: application writes become segments, segments teach the other
end what to acknowledge, and acknowledgements follow one round trip later (server) or at once
(client).  So sequence and acknowledgement numbers are always those two real ends would use.
"""

from __future__ import annotations

import heapq
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from llmflow.synth.wire import Ends, Framer, IpHeader, Packet, Side, TcpHeader, captured

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

_RECORD = 16_406  # a full TLS 1.3 record on the wire
_OVERHEAD = 22  # header, content type and tag
_ACK_EVERY = 2
_REPEAT_AFTER = (0.21, 0.26)  # retransmission timeout of a sender whose acknowledgement was lost


def tls_record(rng: Random, size: int, kind: int = 0x17, version: int = 0x0303) -> bytes:
    """Return one TLS record of `size` bytes in all with a random body.

    Examples
    --------
    >>> from random import Random
    >>> tls_record(Random(1), 60)[:5].hex()
    '1703030037'
    """
    return struct.pack(">BHH", kind, version, size - 5) + rng.randbytes(size - 5)


def app_data(rng: Random, size: int) -> bytes:
    """Return application data of `size` bytes, split in records where one is not enough."""
    parts = []
    while size > _RECORD + _OVERHEAD:
        parts.append(tls_record(rng, _RECORD))
        size -= _RECORD
    parts.append(tls_record(rng, max(size, _OVERHEAD)))
    return b"".join(parts)


def client_hello(rng: Random, size: int) -> bytes:
    """Return a record that starts like a ClientHello; no name is inside, the rest is random."""
    body = struct.pack(">BBHH", 1, 0, size - 9, 0x0303)
    return struct.pack(">BHH", 0x16, 0x0301, size - 5) + body + rng.randbytes(size - 11)


class _Segment(NamedTuple):
    """What the receiver of a segment learns from it."""

    upto: int  # the sequence number behind it
    stamp: int
    size: int
    flags: str
    old: bool  # sent before, or a probe: answered at once


@dataclass
class _End:
    """What one end knows."""

    seq: int
    ident: int
    ttl: int
    clock: int  # offset of its timestamp option
    window: int
    acked: int = 0  # next byte expected from the peer
    told: int = 0  # the last acknowledgement it sent
    pending: int = 0  # segments since then
    free: float = 0.0  # when its line is free
    heard: float = 0.0  # when it last received something
    echo: int = 0
    finished: bool = False


class TcpTalk:
    """A connection to be filled with writes, then rendered once.

    Parameters
    ----------
    framer : Framer
        Makes the frames.
    ends : Ends
        Addresses and ports.
    rng : random.Random
        Randomness of this connection only.
    rtt : float
        Median round trip between tap and server in seconds.
    mss : int
        Payload bytes of a full segment.
    repeats : float
        Share of data segments that are sent twice.
    """

    def __init__(
        self,
        framer: Framer,
        ends: Ends,
        rng: Random,
        *,
        rtt: float = 0.020,
        mss: int = 1448,
        repeats: float = 0.003,
    ) -> None:
        self.ends, self.rng, self.rtt, self.mss = ends, rng, rtt, mss
        self._framer, self._repeats = framer, repeats
        self._start: float | None = None
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._queued = 0
        self._packets: list[Packet] = []
        self._end = tuple(
            _End(
                seq=rng.getrandbits(31),
                ident=rng.getrandbits(16),
                ttl=ttl,
                clock=rng.getrandbits(30),
                window=window,
            )
            for ttl, window in ((64, 501), (rng.randint(49, 58), 283))
        )

    def open(self, time: float) -> float:
        """Start with the TCP handshake; return when the connection is established."""
        answer = time + self._trip()
        self._at(time, self._synchronise, Side.CLIENT, "S")
        self._at(answer, self._synchronise, Side.SERVER, "SA")
        self._at(answer + 0.0004, self._synchronise, Side.CLIENT, "A")
        return answer + 0.0004

    def open_tls(self, time: float, *, hello: int = 517, flight: int = 2900) -> float:
        """Start with TCP and TLS handshakes; return when the client can send its request."""
        rng = self.rng
        established = self.open(time) + rng.uniform(0.0005, 0.002)
        self.send(established, Side.CLIENT, client_hello(rng, hello))
        server = established + self.rtt * 1.5 + rng.uniform(0.002, 0.006)
        change = tls_record(rng, 6, 0x14)
        first = tls_record(rng, 127, 0x16) + change + app_data(rng, flight - 133)
        self.send(server, Side.SERVER, first)
        done = server + rng.uniform(0.0015, 0.004)
        self.send(done, Side.CLIENT, change + tls_record(rng, 74))
        self.send(done + self.rtt * 1.5, Side.SERVER, app_data(rng, 255) + app_data(rng, 255))
        return done + self.rtt * 1.5 + 0.003

    def resume(self, time: float) -> float:
        """Start in the middle of a connection, as most real captures do."""
        self._start = time
        for end, peer in (self._end, self._end[::-1]):
            end.acked = end.told = peer.seq
        return time

    def send(self, time: float, side: Side, payload: bytes) -> None:
        """Queue one write of the application at `side`."""
        self._at(time, self._write, side, payload)

    def data(self, time: float, side: Side, size: int) -> None:
        """Queue one write of `size` bytes of TLS application data at `side`."""
        self.send(time, side, app_data(self.rng, size))

    def keep_alive(self, time: float) -> None:
        """Queue a probe of the client: an old sequence number that asks for an answer."""
        self._at(time, self._probe)

    def close(self, time: float, side: Side = Side.CLIENT) -> None:
        """Queue the close alert and the FIN of `side`; the other end follows."""
        self.data(time, side, 24)
        self._at(time + 0.0003, self._finish, side)

    def packets(self) -> list[Packet]:
        """Play the queue and return the packets in the order of time."""
        while self._events:
            time, _, action, arguments = heapq.heappop(self._events)
            action(time, *arguments)
        return self._packets

    def _at(self, time: float, action: Callable[..., None], *arguments: object) -> None:
        heapq.heappush(self._events, (time, self._queued, action, arguments))
        self._queued += 1

    def _trip(self) -> float:
        return self.rtt * min(0.95 + self.rng.expovariate(12), 1.4)

    def _synchronise(self, time: float, side: Side, flags: str) -> None:
        end, peer = self._end[side], self._end[side.peer]
        if self._start is None:
            self._start = time
        if "A" in flags:
            end.acked, end.echo = peer.seq, self._stamp(time, side.peer)
        self._emit(time, side, flags)

    def _write(self, time: float, side: Side, payload: bytes) -> None:
        end = self._end[side]
        end.free = max(end.free, time)
        for offset in range(0, len(payload), self.mss):
            part = payload[offset : offset + self.mss]
            flags = "PA" if offset + self.mss >= len(payload) else "A"
            self._at(end.free, self._emit, side, flags, part)
            end.free += self.rng.uniform(0.00008, 0.00016)

    def _probe(self, time: float) -> None:
        self._emit(time, Side.CLIENT, "A", b"", self._end[Side.CLIENT].seq - 1)

    def _finish(self, time: float, side: Side) -> None:
        end = self._end[side]
        if end.free > time:
            self._at(end.free, self._finish, side)
        elif not end.finished:
            end.finished = True
            self._emit(time, side, "FA")

    def _stamp(self, time: float, side: Side) -> int:
        return self._end[side].clock + int((time - (self._start or 0.0)) * 1000)

    def _options(self, time: float, side: Side, flags: str) -> list[tuple[str, Any]]:
        stamp = ("Timestamp", (self._stamp(time, side), self._end[side].echo))
        if "S" not in flags:
            return [("NOP", None), ("NOP", None), stamp]
        scale = [("NOP", None), ("WScale", 7)]
        return [("MSS", self.mss + 12), ("SAckOK", b""), stamp, *scale]

    def _emit(
        self, time: float, side: Side, flags: str, payload: bytes = b"", old: int | None = None
    ) -> None:
        """Put one segment on the wire; `old` repeats what was sent before."""
        end = self._end[side]
        seq = end.seq if old is None else old
        end.ident += 1
        window = 64_240 if "S" in flags else end.window
        options = self._options(time, side, flags)
        header = TcpHeader(seq, end.acked, flags, window, options)
        frame = self._framer.tcp(self.ends, side, IpHeader(end.ident, end.ttl), header, payload)
        self._packets.append(captured(time, frame))
        end.told, end.pending = end.acked, 0
        size = len(payload) + ("S" in flags) + ("F" in flags)
        if old is None:
            end.seq += size
            if payload and self.rng.random() < self._repeats:
                later = time + self.rng.uniform(*_REPEAT_AFTER)
                self._at(later, self._emit, side, flags, payload, seq)
        if "S" not in flags:
            lag = self._trip() if side is Side.CLIENT else self.rng.uniform(0.0003, 0.0012)
            stamp = self._stamp(time, side)
            segment = _Segment(seq + size, stamp, size, flags, old is not None)
            peer = self._end[side.peer]
            peer.heard = max(time + lag, peer.heard)  # the path keeps the order
            self._at(peer.heard, self._learn, side.peer, segment)

    def _learn(self, time: float, side: Side, segment: _Segment) -> None:
        """Let `side` receive a segment, and answer where TCP asks for it."""
        end = self._end[side]
        end.acked, end.echo = max(end.acked, segment.upto), max(end.echo, segment.stamp)
        if "F" in segment.flags:
            if end.finished:
                self._emit(time, side, "A")
            else:
                self._finish(time, side)
        elif segment.old:
            self._emit(time, side, "A")
        elif segment.size:
            end.pending += 1
            if end.pending >= _ACK_EVERY:
                self._emit(time, side, "A")
            else:
                self._at(time + self.rng.uniform(0.020, 0.040), self._late_ack, side, segment.upto)

    def _late_ack(self, time: float, side: Side, upto: int) -> None:
        if self._end[side].told < upto:
            self._emit(time, side, "A")
