"""Names of many flows at once, within bounds.

The line reads headers as columns; payloads it touches only where they can hold a name. That is
decided for a block of packets at a time, and only those few come to a :class:`NameCollector`:

* TCP payloads that begin with ``16 03`` (TLS handshake), with an HTTP method or with ``HTTP/1.``;
* TCP payloads of flows in :attr:`NameCollector.unfinished`: they began a hello and did not end it;
* UDP payloads whose first byte has both high bits set and whose version is not 0 (long header).

So chosen, the end of a hello that overtook its beginning is missed. Who wants it hands over the
first few payloads of every flow instead, and gets the same names for every order of them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

from llmflow.metadata.names import FlowNames, Names

Key = TypeVar("Key", bound=Hashable)

MAX_FLOWS = 100_000  # about 2 kB each
MAX_BYTES = 64 << 20


class NameCollector(Generic[Key]):
    """Collects names by flow.

    What comes out hangs on the payloads that each flow was given, not on how a capture was cut nor
    on the order of TCP segments, as long as nothing was dropped.

    Parameters
    ----------
    agents : sequence of str
        Tokens of User-Agent to look for (``Providers.agents``).
    max_flows : int
        Flows known at once; packets of further ones are dropped and counted.
    max_bytes : int
        Payload bytes held at once over all flows; a flow that would need more is given up, counted,
        and left with the names it has said.
    client_only : bool
        Whether names are complete without a server's hello.

    Attributes
    ----------
    dropped_packets, given_up : int
        Packets not looked at for want of a place for their flow, and flows without memory.
    held : int
        Payload bytes held.
    unfinished : set
        Keys of flows that hold payload: which wait for the end of a hello.
    """

    def __init__(
        self,
        agents: Sequence[str] = (),
        *,
        max_flows: int = MAX_FLOWS,
        max_bytes: int = MAX_BYTES,
        client_only: bool = False,
    ) -> None:
        self._client_only = client_only
        self._agents = tuple(agents)
        self._max_flows, self._max_bytes = max_flows, max_bytes
        self._flows: dict[Key, FlowNames] = {}
        self.dropped_packets = self.given_up = self.held = 0
        self.unfinished: set[Key] = set()

    def __len__(self) -> int:
        return len(self._flows)

    def feed(self, key: Key, side: int, seq: int | None, payload: bytes) -> Names | None:
        """Take a payload.

        Parameters
        ----------
        key : hashable
            Which flow.
        side, seq, payload
            As for :meth:`llmflow.metadata.names.FlowNames.add`.

        Returns
        -------
        Names or None
            The names, when this packet made them complete. The last word has :meth:`finish`: a
            packet that was overtaken may still say more.
        """
        flow = self._flows.get(key)
        if flow is None:
            if len(self) >= self._max_flows:
                self.dropped_packets += 1
                return None
            flow = self._flows[key] = FlowNames(self._agents)
        held, complete = flow.held, self._is_complete(flow)
        flow.add(side, seq, payload)
        # What is whole in one packet is never held, so it is named however little memory is left.
        now = flow.held
        if self.held + now - held > self._max_bytes:
            self.given_up += 1
            flow.close()
            now = flow.held
        self.held += now - held
        if now:
            self.unfinished.add(key)
        else:
            self.unfinished.discard(key)
        return flow.names() if self._is_complete(flow) and not complete else None

    def _is_complete(self, flow: FlowNames) -> bool:
        return flow.client_complete if self._client_only else flow.complete

    def names(self, key: Key) -> Names:
        """Names of a flow so far; empty if nothing was seen."""
        flow = self._flows.get(key)
        return flow.names() if flow else Names()

    def finish(self, key: Key) -> Names:
        """Names of a flow that has ended, which is forgotten; empty if nothing was seen."""
        flow = self._flows.pop(key, None)
        if flow is None:
            return Names()
        self.held -= flow.held
        self.unfinished.discard(key)
        return flow.names()
