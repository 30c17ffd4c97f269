"""The result tables: flows and turns, as Arrow. Their columns are a contract with scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from llmflow.arrays import F64, I64, Bool, row_sums
from llmflow.capture.columns import ICMP, ICMPV6, PROTOCOLS
from llmflow.capture.records import NANOSECOND
from llmflow.flows.batch import EndReason, FlowBatch, Named
from llmflow.flows.direction import Basis
from llmflow.flows.keys import identify
from llmflow.flows.turns import Turns
from llmflow.learn.model import LABELS, LLM_STREAM, Model, combine_turns, verdicts
from llmflow.quality.archetype import ARCHETYPES, agentic_score, archetypes
from llmflow.quality.experience import CONFIDENCE, Experience
from llmflow.quality.tokens import NAMES
from llmflow.report import arrow

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
        ("sni", pa.string()),
        ("alpn", pa.string()),
        ("ech", pa.string()),
        ("ja4", pa.string()),
        ("provider_weak", pa.string()),
        ("agentic_score", pa.float64()),
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
        ("ttfb_s", pa.float64()),
        ("gap_p95_ms", pa.float64()),
        ("gap_max_ms", pa.float64()),
        ("stall_ratio_200ms", pa.float64()),
        ("stall_ratio_500ms", pa.float64()),
        ("stall_ratio_1s", pa.float64()),
        ("stall_threshold_s", pa.float64()),
        ("stall_ratio_adaptive", pa.float64()),
        ("stalls", pa.int64()),
        ("stall_p50_s", pa.float64()),
        ("stall_p95_s", pa.float64()),
        ("stall_max_s", pa.float64()),
        ("stall_net_s", pa.float64()),
        ("stall_srv_s", pa.float64()),
        ("stall_avoidable_s", pa.float64()),
        ("hol_ratio", pa.float64()),
        ("tokens_low", pa.float64()),
        ("tokens_high", pa.float64()),
        ("tokens_per_s", pa.float64()),
        ("token_profile", pa.string()),
        ("rebuffer_s", pa.float64()),
        ("qoe", pa.float64()),
        ("qos", pa.float64()),
        ("confidence", pa.string()),
        ("archetype", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Results:
    """One batch of labelled flows (``FLOW_SCHEMA``) and their turns (``TURN_SCHEMA``)."""

    flows: pa.RecordBatch
    turns: pa.RecordBatch


_PROTOCOLS = [PROTOCOLS.get(number, str(number)) for number in range(256)]
_WITNESSES = ("none", "behaviour", "name", "both")
_INT, _FLOAT = pa.int64(), pa.float64()


def tabulate(batch: FlowBatch, turns: Turns, felt: Experience, model: Model, raw: F64) -> Results:
    """Build the tables of one batch.

    Parameters
    ----------
    batch, turns
        Flows with their packets, and their turns.
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
    up_packets = _sums(p.up.astype(np.int64), f.first)
    up_bytes, down_bytes = _both_ways(p.ip_bytes, p.up, f.first)
    up_payload, down_payload = _both_ways(p.payload, p.up, f.first)

    turn_score = model.calibration.apply(raw)
    score = model.calibration.apply(combine_turns(raw, turns.flow, n))
    largest = np.zeros(n)
    chunks = felt.cadence.chunks
    np.maximum.at(largest, turns.flow, chunks)
    # Without an uplink thin downlinks look alike: more is asked of a score.
    sure = np.where(up_packets == 0, model.strict, 0.0)
    label = verdicts(score, model.threshold, largest, f.packets == up_packets, sure)
    seen = np.zeros(len(turns), np.bool_)
    turn_label = verdicts(turn_score, model.threshold, chunks, seen, sure[turns.flow])
    streams = turn_label == LABELS.index(LLM_STREAM)
    streaming = np.where(streams, felt.cadence.stream_seconds, 0.0)
    named, texts = batch.names or Named.nothing(n), batch.texts
    # The Community ID of ICMP is made of types and codes, which are not kept.
    no_community = (f.protocol == ICMP) | (f.protocol == ICMPV6)

    flow_columns = [
        arrow.codes(flow_id),
        arrow.codes(community, no_community),
        arrow.names(f.protocol, _PROTOCOLS),
        arrow.addresses(client.high, client.low),
        arrow.numbers(client.port, pa.uint16()),
        arrow.addresses(server.high, server.low),
        arrow.numbers(server.port, pa.uint16()),
        arrow.numbers(start, _TIME),
        arrow.numbers((stop - start) / NANOSECOND, _FLOAT),
        arrow.numbers(up_packets, _INT),
        arrow.numbers(f.packets - up_packets, _INT),
        arrow.numbers(up_bytes, _INT),
        arrow.numbers(down_bytes, _INT),
        arrow.numbers(up_payload, _INT),
        arrow.numbers(down_payload, _INT),
        arrow.names(label, LABELS),
        arrow.numbers(score, _FLOAT),
        arrow.names(~np.isnan(score) + 2 * (named.provider > 0), _WITNESSES),
        _texts(named.provider, texts),
        arrow.numbers(np.bincount(turns.flow, minlength=n), _INT),
        arrow.numbers(row_sums(streaming, turns.flow, n), _FLOAT),
        arrow.names(f.basis, Basis.NAMES),
        arrow.names(f.end_reason, EndReason.NAMES),
        arrow.numbers(f.slice_no, _INT),
        *(_texts(column, texts) for column in (named.sni, named.alpn)),
        *(_texts(column, texts) for column in (named.ech, named.ja4)),
        _texts(named.provider_weak, texts),
        arrow.numbers(agentic_score(batch, turns, felt.cadence.reply_bytes), _FLOAT),
    ]
    turn_columns = [
        arrow.codes(flow_id[turns.flow]),
        arrow.numbers(turns.number, _INT),
        arrow.numbers(p.time[turns.request], _TIME),
        arrow.numbers(turns.request_bytes, _INT),
        arrow.numbers(felt.cadence.ttft, _FLOAT),
        arrow.numbers(felt.cadence.reply_bytes, _INT),
        arrow.numbers(felt.cadence.reply_seconds, _FLOAT),
        arrow.numbers(chunks, _INT),
        arrow.numbers(felt.cadence.gap_p50 * 1000, _FLOAT),
        arrow.numbers(felt.tokens.count, _FLOAT),
        arrow.numbers(felt.stalls.seconds, _FLOAT),
        arrow.numbers(turn_score, _FLOAT),
        arrow.names(turn_label, LABELS),
        arrow.numbers(f.slice_no[turns.flow], _INT),
        *_quality(felt),
        arrow.names(archetypes(felt.cadence), ARCHETYPES, ~streams),
    ]
    return Results(
        pa.RecordBatch.from_arrays(flow_columns, schema=FLOW_SCHEMA),
        pa.RecordBatch.from_arrays(turn_columns, schema=TURN_SCHEMA),
    )


def _quality(felt: Experience) -> list[pa.Array]:
    """The columns of the turn table that follow ``slice``."""
    cadence, stalls, tokens, reading = felt.cadence, felt.stalls, felt.tokens, felt.reading
    return [
        *(
            arrow.numbers(values, _FLOAT)
            for values in (
                cadence.ttfb,
                cadence.gap_p95 * 1000,
                cadence.gap_max * 1000,
                stalls.ratio_200ms,
                stalls.ratio_500ms,
                stalls.ratio_1s,
                stalls.threshold,
                stalls.ratio_adaptive,
            )
        ),
        arrow.numbers(stalls.count, _INT),
        *(
            arrow.numbers(values, _FLOAT)
            for values in (
                stalls.p50,
                stalls.p95,
                stalls.longest,
                stalls.network,
                stalls.server,
                stalls.avoidable,
                stalls.hol_ratio,
                tokens.low,
                tokens.high,
                tokens.per_second,
            )
        ),
        arrow.names(tokens.profile, NAMES, tokens.profile == 0),
        *(arrow.numbers(values, _FLOAT) for values in (reading.rebuffer, reading.qoe, reading.qos)),
        arrow.names(felt.confidence, CONFIDENCE),
    ]


def _texts(numbers: I64, texts: Sequence[str]) -> pa.Array:
    """A column of texts by their numbers; 0 is none."""
    return arrow.names(numbers, texts, numbers == 0)


def _sums(values: I64, first: I64) -> I64:
    """Sums over flows; each has a packet."""
    sums: I64 = np.add.reduceat(values, first) if len(first) else values
    return sums


def _both_ways(values: I64, up: Bool, first: I64) -> tuple[I64, I64]:
    """Sums over the packets of each flow: up, and down."""
    sent = _sums(values * up, first)
    return sent, _sums(values, first) - sent
