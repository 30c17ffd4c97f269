"""From captures to flows with their turns: the first half of the line, as one stream."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from llmflow.capture.account import PacketAccount
from llmflow.capture.dpkt_lane import Tunnels
from llmflow.capture.reader import BLOCK_BYTES, Progress, read_blocks
from llmflow.flows.assemble import FlowAssembler
from llmflow.flows.batch import FlowBatch, FlowOptions
from llmflow.flows.naming import Namer
from llmflow.flows.turns import Data, Turns, find_data, find_turns
from llmflow.metadata.providers import Providers


@dataclass(frozen=True, slots=True)
class Assembled:
    """A batch of finished flows, what their packets carry, and their turns."""

    batch: FlowBatch
    data: Data
    turns: Turns


@dataclass(slots=True)
class FlowStream:
    """Reads captures as one stream of packets and assembles their flows.

    Parameters
    ----------
    captures : sequence of str
    options : FlowOptions
    tunnels : {"inner", "outer"}
        Which IP header of a tunnelled packet counts.
    block_bytes : int
        Read at once; does not change results.
    progress : callable
        Called with the bytes read since the last call.
    providers : Providers or None
        Whose names to look for; None looks for no names at all.

    Attributes
    ----------
    account : PacketAccount
        What became of every packet; complete when an iteration has ended.
    closed_early : int
        Flows closed for lack of memory, likewise.
    names_dropped : int
        Names given up for lack of memory, likewise.
    """

    captures: Sequence[str]
    options: FlowOptions = field(default_factory=FlowOptions)
    tunnels: Tunnels = "inner"
    block_bytes: int = BLOCK_BYTES
    progress: Progress = lambda _: None
    account: PacketAccount = field(default_factory=PacketAccount)
    providers: Providers | None = None
    closed_early: int = 0
    names_dropped: int = 0
    _times: hashlib.blake2b = field(default_factory=hashlib.blake2b)
    _sizes: hashlib.blake2b = field(default_factory=hashlib.blake2b)

    @property
    def input_digest(self) -> str:
        """BLAKE2b over times and lengths of all decoded packets.

        Names the input whatever files, compression or blocks it came in.
        """
        both = self._times.digest() + self._sizes.digest()
        return hashlib.blake2b(both, digest_size=16).hexdigest()

    def assemble(self) -> Iterator[Assembled]:
        """Yield the flows of the captures with their turns, batch by batch, as they end."""
        return map(with_turns, self.batches())

    def batches(self) -> Iterator[FlowBatch]:
        """Yield the flows of the captures, batch by batch, as they end."""
        if self.providers is None:
            yield from self._batches(FlowAssembler(self.options), None)
            return
        namer = Namer(self.providers, self.options.ns("idle_timeout"), self.options.ns("reorder"))
        assembler = FlowAssembler(self.options, watch=namer.watch)
        yield from map(namer.name, self._batches(assembler, namer))
        self.names_dropped = namer.dropped

    def _batches(self, assembler: FlowAssembler, namer: Namer | None) -> Iterator[FlowBatch]:
        blocks = read_blocks(
            self.captures,
            self.account,
            tunnels=self.tunnels,
            block_bytes=self.block_bytes,
            progress=self.progress,
        )
        for block in blocks:
            packets = block.packets
            if namer:
                namer.block = block
            self._times.update(packets.time.tobytes())
            self._sizes.update(packets.ip_bytes.tobytes())
            yield from assembler.push(packets)
            self.closed_early = assembler.closed_early
            if namer and namer.crowded:
                namer.prune(*assembler.open_flows())
        yield from assembler.finish()


def with_turns(batch: FlowBatch) -> Assembled:
    """Find the data and the turns in the flows of a batch."""
    data = find_data(batch)
    return Assembled(batch, data, find_turns(batch, data))
