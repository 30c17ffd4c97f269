"""Names on the wire, given to the flows that said them.

A :class:`Namer` sees packets just before the assembler takes them, has the few opened that may say
a name, and notes what they say. When flows leave, they are joined with the notes by key and time: a
flow has what was said first between its start and its last packet. So slices share their names, and
a port that is used again has its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import I64, U8, Bool
from llmflow.capture.columns import PacketColumns
from llmflow.capture.reader import Block
from llmflow.capture.records import NANOSECOND
from llmflow.flows.batch import FlowBatch, Named
from llmflow.flows.keys import Endpoint, choose
from llmflow.flows.ledger import Entries, Keys, Ledger
from llmflow.flows.waiting import KeyTable
from llmflow.metadata import candidates
from llmflow.metadata.dns import Answer
from llmflow.metadata.names import Names
from llmflow.metadata.opening import NameReader, Opened
from llmflow.metadata.providers import Providers

_FIRST_PRUNE = 1 << 14  # entries, about 100 bytes each
_MOST_ROWS = 1 << 12  # names that are remembered with their places in the list of texts
_MOST_HELD = 1 << 20  # bytes of payloads that are put aside to be read together
# Parts of hellos on TCP: they decide which segments are looked at next.
_AT_ONCE = frozenset({candidates.FRONT, candidates.MORE})
_LEAST_TTL, _MOST_TTL = 60, 86_400  # seconds for which DNS answers are believed
_ECH = ("no", "offered")
_LOW = (1 << 64) - 1
_NEVER = -(1 << 62)
_KEY = np.dtype([*[("", "u8"), ("", "u8"), ("", "u2")] * 2, ("", "u1")])  # as in Keys.columns


_Said = tuple[bytes, int, Names]  # by whom, when, what


class Namer:
    """Finds names in packets, and the flows that they belong to.

    Parameters
    ----------
    providers : Providers
    idle, reorder : int
        Silence that ends a flow, and how late packets may be, ns.

    Attributes
    ----------
    block : Block or None
        Where the bytes of the packets are that come next.
    """

    def __init__(self, providers: Providers, idle: int, reorder: int) -> None:
        self._reader, self._reorder = NameReader(providers, idle), reorder
        self._hellos, self._fronts, self._hosts, self._asked = self._ledgers = [
            Ledger() for _ in range(4)
        ]
        self._texts, self._numbers = [""], {"": 0}
        self._opened: list[tuple[Opened, Names | None]] = []
        self._held = 0
        self._rows: dict[Names, list[int]] = {}
        self._prune_at = _FIRST_PRUNE
        self._newest = _NEVER
        self.block: Block | None = None

    @property
    def dropped(self) -> int:
        """Names not taken, and packets and flows not looked into, for want of memory."""
        return sum(ledger.dropped for ledger in self._ledgers) + self._reader.dropped

    def watch(self, packets: PacketColumns, anew: bool) -> None:
        """Look at packets of ``block``; ``anew``: time has stepped back, and all flows ended."""
        if anew:
            self._forget_all()
            self._newest = _NEVER
        if self.block is None:
            return
        row, kind = candidates.candidates(self.block, packets, self._waiting(streams=True))
        near = self._near(packets, row, kind)
        self._newest = max(self._newest, int(packets.time.max()))
        if len(near):
            self._open(self.block, packets.take(row[near]), kind[near])

    def _waiting(self, *, streams: bool = False) -> Bool:
        """Ports at which hellos have begun and not ended; all, or those of TCP."""
        waiting = np.zeros(1 << 16, np.bool_)
        waiting[self._reader.ports(streams=streams)] = True
        return waiting

    def _open(self, block: Block, some: PacketColumns, kind: U8) -> None:
        source = Endpoint(some.src_hi, some.src_lo, some.src_port)
        target = Endpoint(some.dst_hi, some.dst_lo, some.dst_port)
        forward = source.at_most(target)
        a, b = choose(forward, source, target), choose(forward, target, source)
        at = block.payload_at(some, np.arange(len(some)))
        columns = (
            kind, ~forward, some.seq, some.time, some.src_port,
            at, at + some.captured, some.captured < some.payload,
        )  # fmt: skip
        fields = [column.tolist() for column in columns]
        keys = _key_bytes(a, b, some.protocol)
        for kind_, side, seq, time, port, begin, end, cut, key in zip(*fields, keys, strict=True):
            packet = Opened(kind_, key, side, seq, time, port, block.data[begin:end], cut)
            at_once = kind_ in _AT_ONCE
            names = self._reader.read(packet) if at_once else None
            if names or not at_once:
                self._opened.append((packet, names))
                self._held += end - begin
        if self._held > _MOST_HELD:
            self._read()

    def _read(self) -> None:
        """Read what was put aside. Many at once take less time than a few between other work."""
        opened, self._opened, self._held = self._opened, [], 0
        hellos, hosts = list[_Said](), list[_Said]()
        answers: list[tuple[Opened, Answer]] = []
        for packet, names in opened:
            if packet.kind == candidates.ANSWER:
                answers += [(packet, answer) for answer in self._reader.answers(packet)]
            elif names := names or self._reader.read(packet):
                said = hosts if packet.kind == candidates.REQUEST else hellos
                said.append((packet.key, packet.time, names))
        self._note(self._hellos, hellos)
        self._note(self._hosts, hosts)
        self._note(self._fronts, self._reader.fronts(self._newest - self._reorder))
        if answers:
            self._note_answers(answers)

    def _near(self, packets: PacketColumns, row: I64, kind: U8) -> I64:
        """All but segments that share no more than a port with a hello that has begun."""
        ends = packets.src_lo[row] + packets.dst_lo[row]  # the reader looks at all of the key
        a, b, _ = _columns(self._reader.begun)
        begun = np.append(a.low + b.low, ends[kind == candidates.FRONT])
        return np.flatnonzero((kind != candidates.MORE) | np.isin(ends, begun))

    def _note(self, ledger: Ledger, said: Sequence[_Said]) -> None:
        if said:
            keys, times, names = zip(*said, strict=True)
            time, texts = np.array(times), _table([self._written(x) for x in names])
            a, b, protocol = _columns(keys)
            ledger.add(Entries(time, time, *a, *b, protocol, texts))

    def _note_answers(self, answers: Sequence[tuple[Opened, Answer]]) -> None:
        """From now on the client may mean the service when it goes to the address."""
        packets, found = zip(*answers, strict=True)
        a, b, _ = _columns([packet.key for packet in packets])
        client = choose(np.array([packet.side == 0 for packet in packets]), b, a)
        address = np.array([(x.address >> 64, x.address & _LOW) for x in found], np.uint64)
        time = np.array([answer.time for answer in found])
        ttl = np.clip([answer.ttl for answer in found], _LEAST_TTL, _MOST_TTL) * NANOSECOND
        whose = [next(filter(None, self._reader.provider(x.name)), "") for x in found]
        texts = _table([[0, 0, 0, 0, 0, self._number(text)] for text in whose])
        no_port, protocol = np.zeros(len(found), np.uint16), np.zeros(len(found), np.uint8)
        client = client._replace(port=no_port)
        server = Endpoint(address[:, 0], address[:, 1], no_port)
        self._asked.add(Entries(time, time + ttl, *client, *server, protocol, texts))

    def _number(self, text: str) -> int:
        number = self._numbers.setdefault(text, len(self._texts))
        if number == len(self._texts):
            self._texts.append(text)
        return number

    def _written(self, names: Names) -> list[int]:
        """Names as places in the list of texts, in the order of :class:`Named`."""
        if row := self._rows.get(names):
            return row
        strong, weak = self._reader.provider(names.sni or names.host)
        weak = weak or self._reader.agent(names.agent)
        hello = names.ja4 or names.ech
        ech = _ECH[names.ech] if hello else ""
        texts = (names.sni, ",".join(names.alpn), ech, names.ja4, strong, weak)
        if len(self._rows) >= _MOST_ROWS:
            self._rows.clear()
        row = self._rows[names] = [self._number(text) for text in texts]
        return row

    def name(self, batch: FlowBatch) -> FlowBatch:
        """Give the flows of a batch their names."""
        self._read()
        f, p = batch.flows, batch.packets
        if not any(self._ledgers) and not self._reader.ports():
            return batch
        last = p.time[f.first + f.packets - 1]
        keys = Keys.of(f.a, f.b, f.protocol)
        hello = self._said(self._hellos, keys, f.origin, last)
        fronts = self._said(self._fronts, keys, f.origin, last)
        self._add_unfinished(fronts, batch, last)
        hello = np.where(hello.any(axis=1, keepdims=True), hello, fronts)
        host = self._said(self._hosts, keys, f.origin, last)
        asked = self._answered(f.client, f.server, f.origin)
        codes = hello.copy()
        strong, weak = slice(4, 5), slice(5, 6)
        for more in (host, asked):
            for column in (strong, weak):
                codes[:, column] = np.where(codes[:, column] > 0, codes[:, column], more[:, column])
        codes[codes[:, 4] > 0, 5] = 0
        used = np.zeros(len(self._texts), np.bool_)
        used[0], used[codes] = True, True
        table = (np.cumsum(used) - 1)[codes]
        texts = tuple(self._texts[number] for number in np.flatnonzero(used).tolist())
        return FlowBatch(f, p, Named(*table.T), texts)

    @staticmethod
    def _said(ledger: Ledger, keys: Keys, origin: I64, last: I64) -> NDArray[np.int32]:
        row, entries = ledger.find(keys, origin)
        codes = np.zeros((len(row), len(Named.names())), np.int32)
        some = np.flatnonzero(row >= 0)
        some = some[entries.time[row[some]] <= last[some]]
        codes[some] = entries.texts[row[some]]
        return codes

    def _answered(self, client: Endpoint, server: Endpoint, origin: I64) -> NDArray[np.int32]:
        codes = np.zeros((len(origin), len(Named.names())), np.int32)
        if not len(self._asked):
            return codes
        row, entries = self._asked.find(_by_address(client, server), origin, latest=True)
        some = np.flatnonzero(row >= 0)
        some = some[entries.until[row[some]] >= origin[some]]
        codes[some] = entries.texts[row[some]]
        return codes

    def _add_unfinished(self, codes: NDArray[np.int32], batch: FlowBatch, last: I64) -> None:
        """Hellos whose ends have not come have their fronts."""
        ports = self._waiting()
        if not ports.any():
            return
        f = batch.flows
        rows = np.flatnonzero(~codes.any(axis=1))
        rows = rows[ports[f.a_port[rows]] | ports[f.b_port[rows]]]
        keys = _key_bytes(f.a.take(rows), f.b.take(rows), f.protocol[rows])
        for row, key in zip(rows.tolist(), keys, strict=True):
            found = self._reader.unfinished(key)
            if found and f.origin[row] <= found[0] <= last[row]:
                codes[row] = self._written(found[1])

    # Letting go.

    @property
    def crowded(self) -> bool:
        """Whether so much was noted that it is time for :meth:`prune`."""
        return sum(map(len, self._ledgers)) > self._prune_at

    def prune(self, keys: KeyTable, origin: I64, settled: int) -> None:
        """Let go of what no flow can need: all but the first words of open flows, and what is new.

        Parameters
        ----------
        keys, origin, settled
            As of :meth:`llmflow.flows.assemble.FlowAssembler.open_flows`.
        """
        self._read()
        who = Keys.of(keys.a, keys.b, keys.protocol)
        for ledger in (self._hellos, self._fronts, self._hosts):
            ledger.keep(ledger.find(who, origin)[0], settled)
        wanted = [
            self._asked.find(_by_address(*ends), origin, latest=True)[0]
            for ends in ((keys.a, keys.b), (keys.b, keys.a))
        ]
        self._asked.keep(np.concatenate(wanted), settled)
        self._renumber()
        self._prune_at = max(_FIRST_PRUNE, 2 * sum(map(len, self._ledgers)))

    def _renumber(self) -> None:
        """Let go of texts that no entry has."""
        old, self._texts, self._numbers = self._texts, [""], {"": 0}
        self._rows.clear()
        for ledger in self._ledgers:
            ledger.renumber(lambda number: self._number(old[number]))

    def _forget_all(self) -> None:
        for ledger in self._ledgers:
            ledger.clear()
        self._reader.clear()
        self._opened.clear()
        self._renumber()


def _table(rows: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    return np.array(rows, np.int32)


def _by_address(client: Endpoint, server: Endpoint) -> Keys:
    """The key of DNS answers: ports and protocol are not known yet."""
    port = np.zeros(len(client.port), np.uint16)
    return Keys.of(
        Endpoint(client.high, client.low, port),
        Endpoint(server.high, server.low, port),
        np.zeros(len(port), np.uint8),
    )


def _columns(keys: Sequence[bytes]) -> tuple[Endpoint, Endpoint, U8]:
    """The ends and protocols of keys that were written as bytes."""
    table = np.frombuffer(b"".join(keys), _KEY)
    a_high, a_low, a_port, b_high, b_low, b_port, protocol = (
        np.ascontiguousarray(table[name]) for name in _KEY.names or ()
    )
    return Endpoint(a_high, a_low, a_port), Endpoint(b_high, b_low, b_port), protocol


def _key_bytes(a: Endpoint, b: Endpoint, protocol: U8) -> list[bytes]:
    """Keys as bytes, for the few that are looked up one by one."""
    key = np.zeros(len(protocol), _KEY)
    for name, column in zip(_KEY.names or (), (*a, *b, protocol), strict=True):
        key[name] = column
    raw, width = key.tobytes(), _KEY.itemsize
    return [raw[at : at + width] for at in range(0, len(raw), width)]
