"""WebRTC: a call with audio both ways, a chat or a game's state beside it, aiortc on both ends."""

from __future__ import annotations

import asyncio
import sys

from llmflow.lab.programs import ClientPlace, Program, ServerPlace
from llmflow.lab.programs._place import Popen
from llmflow.lab.script import OTHER

PORT = 8189  # of the signalling: one line of JSON each way


def serve(place: ServerPlace) -> list[Popen]:
    """Somebody who picks up at once."""
    module = f"{__package__}._webrtc"
    return [place.start(sys.executable, "-m", module, str(PORT), *place.addresses)]


def visit(place: ClientPlace) -> None:
    """One call."""
    from llmflow.lab.programs import _webrtc

    asyncio.run(_webrtc.call(place, PORT))


PROGRAMS = (
    Program(
        name="webrtc",
        label=OTHER,
        category="voice",
        needs=(),
        modules=("aiortc", "numpy"),
        ports=(("tcp", PORT),),
        serve=serve,
        visit=visit,
    ),
)
