"""When each packet of a reply came, and when its bytes could be shown (docs/definitions.md).

TCP hands bytes on in order: a packet behind a lost one waits until the loss is repaired. Status of
all rules here: ours, after the logic of tcptrace.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmflow.arrays import I64, Bool, run_counts, run_mask, run_starts
from llmflow.capture.columns import TCP
from llmflow.features.segments import Segments
from llmflow.flows.episodes import CHUNK_GAP
from llmflow.flows.tcp import analyse_tcp


@dataclass(frozen=True, slots=True)
class Delivery:
    """The downlink data packets of replies.

    Parameters
    ----------
    of : ndarray of int64, shape (packets,)
        Reply of each packet, not decreasing.
    arrived : ndarray of int64, shape (packets,)
        Its time at the tap, ns.
    rendered : ndarray of int64, shape (packets,)
        Time at the tap at which all bytes up to its end had passed, ns: the latest bound of
        ``TcpAnalysis``, where bytes sent again before they were acknowledged count with their last
        copy. ``arrived`` where nothing was lost or nothing is known.
    repaired : ndarray of int64, shape (packets,)
        The same if every packet carried the bytes of its predecessor too (Eloquent), ns.
    known : ndarray of bool, shape (replies,)
        TCP seen both ways; elsewhere nothing tells of losses.
    certain : ndarray of bool, shape (replies,)
        Known, and both bounds of the analysis agree.
    """

    of: I64
    arrived: I64
    rendered: I64
    repaired: I64
    known: Bool
    certain: Bool

    @property
    def chunk_begins(self) -> Bool:
        """Marks the packets with which chunks begin."""
        begins: Bool = np.diff(self.arrived, prepend=self.arrived[:1]) > CHUNK_GAP
        begins |= run_mask(self.of)
        return begins


def deliver(replies: Segments) -> Delivery:
    """Follow the bytes of replies to the user.

    Only flows in which the server sent a byte again are analysed; in others nothing ever waited.
    """
    batch, data = replies.batch, replies.data
    p, flow = batch.packets, replies.turns.flow[replies.turn]
    two_way = np.logical_or.reduceat(p.up, batch.flows.first) if len(p) else p.up
    known = ((batch.flows.protocol == TCP) & two_way)[flow]
    inside = data.down[replies.row]
    row, of = replies.row[inside], replies.of[inside]
    arrived = p.time[row]
    again = np.flatnonzero(data.new < p.payload)
    again = again[~p.up[again]]
    suspected = np.zeros(len(batch.flows), np.bool_)
    suspected[data.flow[again]] = True
    wanted = np.zeros_like(suspected)
    wanted[flow[known]] = True
    wanted &= suspected
    part, rows = batch.pick(np.flatnonzero(wanted))
    at = np.flatnonzero(wanted[flow][of])
    if not len(at):
        return Delivery(of, arrived, arrived, arrived, known, known)
    tcp, place = analyse_tcp(part), np.searchsorted(rows, row[at])
    early, late = arrived.copy(), arrived.copy()
    early[at], late[at] = tcp.delivered[place], tcp.delivered_latest[place]
    certain = known.copy()
    certain[of[early != late]] = False
    return Delivery(of, arrived, late, _repaired(of, arrived, early, late), known, certain)


def _repaired(of: I64, arrived: I64, early: I64, late: I64) -> I64:
    """When bytes could be shown if the next packet that arrives brought what was lost.

    What waits behind a hole is itself that next packet. A packet is lost behind the tap if it
    waits longer than the holes in front of it explain, and longer than the packet before it.
    """
    lost = np.flatnonzero(late > early)
    opens = run_mask(of)[lost]
    lost = lost[opens | (late[lost] > late[np.maximum(lost - 1, 0)])]
    # The first packet behind each run of lost ones.
    heads = run_starts(lost - np.arange(len(lost)))
    sizes = run_counts(heads, len(lost))
    ahead = np.repeat(lost[heads] + sizes, sizes)
    bringer = np.minimum(ahead, len(of) - 1)
    brought = (ahead < len(of)) & (of[bringer] == of[lost])
    repaired = arrived.copy()
    repaired[lost] = np.minimum(np.where(brought, arrived[bringer], late[lost]), late[lost])
    return repaired
