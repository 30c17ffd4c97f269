"""Loops over one capture that do nothing else: `loops.py NAME CAPTURE` prints the packets met."""

from __future__ import annotations

import sys
from pathlib import Path


def read(capture: str) -> int:
    """llmflow's reading and decoding alone: no flows."""
    from llmflow.capture.account import PacketAccount
    from llmflow.capture.reader import read_packets

    account = PacketAccount()
    for _ in read_packets([capture], account):
        pass
    return account.packets


def dpkt(capture: str) -> int:
    """The loop of dpkt's documentation: IP packets inside of Ethernet."""
    import dpkt

    count = 0
    with Path(capture).open("rb") as file:
        for _, buffer in dpkt.pcap.Reader(file):
            inside = dpkt.ethernet.Ethernet(buffer).data
            count += isinstance(inside, (dpkt.ip.IP, dpkt.ip6.IP6))
    return count


def nfstream(capture: str) -> int:
    """NFStream's flows with their statistics, without its recognition of applications."""
    from nfstream import NFStreamer

    flows = NFStreamer(source=capture, statistical_analysis=True, n_dissections=0, n_meters=1)
    return sum(flow.bidirectional_packets for flow in flows)


LOOPS = {loop.__name__: loop for loop in (read, dpkt, nfstream)}

if __name__ == "__main__":
    name, capture = sys.argv[1:]
    sys.stdout.write(f"{LOOPS[name](capture)}\n")
