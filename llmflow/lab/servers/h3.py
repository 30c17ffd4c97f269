"""HTTP/3 of hypercorn, which by itself does not tell an application that its client has left."""

from __future__ import annotations

from aioquic.quic.events import ConnectionTerminated, QuicEvent, StopSendingReceived, StreamReset
from hypercorn.protocol.events import StreamClosed
from hypercorn.protocol.h3 import H3Protocol


class LeavingH3(H3Protocol):
    """Ends what goes on over streams that the client reset, and over closed connections."""

    async def handle(self, quic_event: QuicEvent) -> None:
        """Take an event of the connection."""
        await super().handle(quic_event)
        if isinstance(quic_event, ConnectionTerminated):
            left = list(self.streams)
        elif isinstance(quic_event, StreamReset | StopSendingReceived):
            left = [quic_event.stream_id] if quic_event.stream_id in self.streams else []
        else:
            return
        for stream in left:
            await self.streams[stream].handle(StreamClosed(stream_id=stream))
