"""Which framer reads a capture: told by its first bytes."""

from __future__ import annotations

from llmflow.capture import pcap
from llmflow.capture.pcap import PcapFramer
from llmflow.capture.pcapng import SECTION, PcapngFramer
from llmflow.capture.records import Framer
from llmflow.errors import CaptureError


def open_framer(head: bytes, where: str) -> tuple[Framer, int]:
    """Choose the framer by the capture's first bytes.

    Parameters
    ----------
    head : bytes
        At least the first 24 bytes of the capture, or all of a shorter one.
    where : str
        Name for error messages.

    Returns
    -------
    framer : Framer
    skip : int
        Bytes of file header to pass over.

    Raises
    ------
    CaptureError
        Empty, or neither pcap nor pcapng.
    """
    if not head:
        raise CaptureError("the file is empty", where=where, hint="a capture has at least a header")
    magic = int.from_bytes(head[:4], "little")
    if len(head) >= 4 and magic in pcap.MAGIC:
        return PcapFramer.open(head, where)
    if head[:4] == SECTION:
        return PcapngFramer(), 0
    raise CaptureError(
        f"not a pcap or pcapng capture (it starts with {head[:4].hex(' ') or 'nothing'})",
        where=where,
        hint="convert it with `editcap -F pcap`",
    )
