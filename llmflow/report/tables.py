"""The result tables: flows and turns, as Arrow. Their columns are a contract with scripts."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llmflow.arrays import F64, I64, U8, U64, row_sums
from llmflow.capture.columns import ICMP, ICMPV6, PROTOCOLS
from llmflow.flows.batch import NANOSECOND, EndReason, FlowBatch
from llmflow.flows.direction import Basis
from llmflow.flows.keys import identify, is_ipv4
from llmflow.flows.turns import Data, Turns
from llmflow.learn.model import LLM_STREAM, Model, combine_turns, verdicts
from llmflow.quality.experience import Experience

_TIME = pa.timestamp("ns", tz="UTC")

FLOW_SCHEMA = pa.schema(
    [
        ("flow_id", pa.string()),
        ("community_id", pa.string()),
        ("protocol", pa.string()),
        ("client_ip", pa.string()),
        ("client_port", pa.uint16()),
        ("server_ip", pa.string()),
        ("server_port", pa.uint16()),
        ("start", _TIME),
        ("duration_s", pa.float64()),
        ("up_packets", pa.int64()),
        ("down_packets", pa.int64()),
        ("up_bytes", pa.int64()),
        ("down_bytes", pa.int64()),
        ("up_payload_bytes", pa.int64()),
        ("down_payload_bytes", pa.int64()),
        ("label", pa.string()),
        ("score", pa.float64()),
        ("basis", pa.string()),
        ("provider", pa.string()),
        ("turns", pa.int64()),
        ("stream_seconds", pa.float64()),
        ("initiator_basis", pa.string()),
        ("end_reason", pa.string()),
        ("slice", pa.int64()),
    ]
)

TURN_SCHEMA = pa.schema(
    [
        ("flow_id", pa.string()),
        ("turn", pa.int64()),
        ("start", _TIME),
        ("request_bytes", pa.int64()),
        ("ttft_s", pa.float64()),
        ("reply_bytes", pa.int64()),
        ("reply_s", pa.float64()),
        ("chunks", pa.int64()),
        ("gap_p50_ms", pa.float64()),
        ("tokens_est", pa.float64()),
        ("stall_s", pa.float64()),
        ("score", pa.float64()),
        ("label", pa.string()),
        ("slice", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Results:
    """One batch of labelled flows (``FLOW_SCHEMA``) and their turns (``TURN_SCHEMA``)."""

    flows: pa.RecordBatch
    turns: pa.RecordBatch


def _addresses(high: U64, low: U64) -> NDArray[Any]:
    """Addresses as text: RFC 5952 for IPv6. Each distinct one is formatted once."""
    pairs = np.stack([high, low], axis=1).astype(">u8")
    distinct, place = np.unique(pairs.view("V16").ravel(), return_inverse=True)
    four = is_ipv4(*(np.ascontiguousarray(distinct).view(">u8").reshape(-1, 2).T.astype(np.uint64)))
    text = [
        socket.inet_ntop(socket.AF_INET, raw[12:]) if v4 else socket.inet_ntop(socket.AF_INET6, raw)
        for raw, v4 in zip(distinct.tolist(), four.tolist(), strict=True)
    ]
    return np.array(text, object)[place]


def _nullable(values: F64, kind: pa.DataType) -> pa.Array:
    """NaN becomes null."""
    null = np.isnan(values)
    filled = np.where(null, 0, values)
    if pa.types.is_integer(kind):
        filled = filled.astype(np.int64)
    return pa.array(filled, kind, mask=null)


def _names(codes: U8, names: tuple[str, ...]) -> NDArray[Any]:
    return np.array(names, object)[codes]


def _protocol_names(protocol: U8) -> NDArray[Any]:
    names = np.array([PROTOCOLS.get(number, str(number)) for number in range(256)], object)
    named: NDArray[Any] = names[protocol]
    return named


def tabulate(
    batch: FlowBatch, data: Data, turns: Turns, felt: Experience, model: Model, raw: F64
) -> Results:
    """Build the tables of one batch.

    Parameters
    ----------
    batch, data, turns
        Flows, what their packets carry, their turns.
    felt : Experience
        One row per turn.
    model : Model
    raw : ndarray of float64
        Uncalibrated score of each turn, NaN where the model was not asked.
    """
    f, p, n = batch.flows, batch.packets, len(batch.flows)
    flow_id, community = identify(f.a, f.b, f.protocol, f.origin)
    client, server = f.client, f.server
    start, stop = p.time[f.first], p.time[f.first + f.packets - 1]

    def total(values: NDArray[Any], *, up: bool) -> I64:
        return row_sums(np.where(p.up == up, values, 0), data.flow, n).astype(np.int64)

    down_packets = total(np.ones(len(p)), up=False)
    turn_score = model.calibration.apply(raw)
    score = model.calibration.apply(combine_turns(raw, turns.flow, n))
    largest = np.zeros(n)
    np.maximum.at(largest, turns.flow, felt.chunks)
    label = verdicts(score, model.threshold, largest, down_packets == 0)
    turn_label = verdicts(turn_score, model.threshold, felt.chunks, np.zeros(len(turns), np.bool_))
    streaming = np.where(turn_label == LLM_STREAM, felt.stream_seconds, 0.0)
    # The Community ID of ICMP is made of types and codes, which are not kept.
    no_community = (f.protocol == ICMP) | (f.protocol == ICMPV6)

    flow_columns = [
        pa.array(flow_id),
        pa.array(community, mask=no_community),
        pa.array(_protocol_names(f.protocol), pa.string()),
        pa.array(_addresses(client.high, client.low), pa.string()),
        pa.array(client.port),
        pa.array(_addresses(server.high, server.low), pa.string()),
        pa.array(server.port),
        pa.array(start, _TIME),
        pa.array((stop - start) / NANOSECOND),
        pa.array(total(np.ones(len(p)), up=True)),
        pa.array(down_packets),
        pa.array(total(p.ip_bytes, up=True)),
        pa.array(total(p.ip_bytes, up=False)),
        pa.array(total(p.payload, up=True)),
        pa.array(total(p.payload, up=False)),
        pa.array(label, pa.string()),
        _nullable(score, pa.float64()),
        pa.array(np.where(np.isnan(score), "none", "behaviour"), pa.string()),
        pa.nulls(n, pa.string()),
        pa.array(np.bincount(turns.flow, minlength=n)),
        pa.array(row_sums(streaming, turns.flow, n)),
        pa.array(_names(f.basis, Basis.NAMES), pa.string()),
        pa.array(_names(f.end_reason, EndReason.NAMES), pa.string()),
        pa.array(f.slice_no),
    ]
    turn_columns = [
        pa.array(flow_id[turns.flow]),
        pa.array(turns.number),
        pa.array(p.time[turns.request], _TIME),
        _nullable(turns.request_bytes, pa.int64()),
        _nullable(felt.ttft, pa.float64()),
        pa.array(felt.reply_bytes.astype(np.int64)),
        pa.array(felt.reply_seconds),
        pa.array(felt.chunks.astype(np.int64)),
        _nullable(felt.gap_p50 * 1000, pa.float64()),
        pa.nulls(len(turns), pa.float64()),
        pa.array(felt.stall_seconds),
        _nullable(turn_score, pa.float64()),
        pa.array(turn_label, pa.string()),
        pa.array(f.slice_no[turns.flow]),
    ]
    return Results(
        pa.RecordBatch.from_arrays(flow_columns, schema=FLOW_SCHEMA),
        pa.RecordBatch.from_arrays(turn_columns, schema=TURN_SCHEMA),
    )
