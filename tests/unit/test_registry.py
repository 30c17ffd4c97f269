"""The feature registry: what models are bound to, and what a feature may speak of."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmflow.arrays import F64
from llmflow.features import registry
from llmflow.features.extract import FEATURES, FLOW, MODEL_FEATURES, SCALES
from llmflow.features.registry import Feature, compute, feature, schema_hash
from llmflow.features.segments import Segments, cut_segments
from llmflow.flows.turns import find_data, find_turns
from llmflow.report.features import feature_schema, feature_table
from tests.reference import make_batch, talk_from

# What identifies a flow, a host, a path or a moment. Whole words: "port" is not in "support".
IDENTITY = {
    *["address", "addresses", "addr", "ip", "ipv4", "ipv6", "mac", "host", "hosts", "hostname"],
    *["port", "ports", "tuple", "protocol", "tcp", "udp", "quic", "vlan", "tunnel", "interface"],
    *["ttl", "hop", "hops", "dscp", "tos", "checksum", "mss", "window", "windows", "flags"],
    *["seq", "sequence", "isn", "cookie", "nonce", "id", "identifier"],
    *["sni", "alpn", "ja3", "ja4", "domain", "certificate", "provider", "country", "asn"],
    *["absolute", "epoch", "timestamp", "date", "hour", "day", "weekday", "month", "year"],
}
UNITS = {"1", "s", "1/s", "bytes", "bytes/s"}
GROUPS = {
    *["cadence", "clock", "pauses", "size", "padding"],
    *["uplink", "exchange", "request", "connection"],
}
SIGNED = {"gap_lag1", "chunk_size_growth", "gap_size_correlation"}  # correlations

recipes = st.lists(
    st.one_of(st.binary(max_size=24), st.binary(min_size=60, max_size=160)), max_size=4
)


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", text.lower()))


def all_segments(given_recipes: list[bytes]) -> list[Segments]:
    batch = make_batch([talk_from(recipe) for recipe in given_recipes])
    data = find_data(batch)
    turns = find_turns(batch, data)
    return [cut_segments(batch, data, turns, scale) for scale in (*SCALES, FLOW)]


# -- the schema hash -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize(
    ("part", "value"),
    [("formula", "Another formula."), ("version", 2), ("unit", "furlongs"), ("null", "at night")],
)
def test_any_change_of_a_definition_changes_the_hash(name: str, part: str, value: object) -> None:
    """A model cannot be used with features that are defined in another way."""
    changed = replace(FEATURES[name], **{part: value})  # type: ignore[arg-type]
    assert schema_hash(FEATURES | {name: changed}) != schema_hash(FEATURES)


def test_a_new_name_or_order_changes_the_hash() -> None:
    """Columns are read by place: renamed, moved, added or dropped features change the hash."""
    entries = list(FEATURES.values())
    renamed = replace(entries[0], name="pieces")
    hashes = {
        schema_hash({entry.name: entry for entry in changed})
        for changed in (
            entries,
            [renamed, *entries[1:]],
            [entries[1], entries[0], *entries[2:]],
            entries[1:],
            [*entries, renamed],
        )
    }
    assert len(hashes) == 5


def test_a_faster_kernel_keeps_the_hash() -> None:
    """The hash is over definitions, so the same formula in other code keeps models valid."""
    before = schema_hash(FEATURES)
    assert re.fullmatch("[0-9a-f]{64}", before)
    faster = replace(FEATURES["duration"], kernel=FEATURES["wait"].kernel)
    assert schema_hash(FEATURES | {"duration": faster}) == before


def test_declaring_takes_name_and_formula_from_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The docstring is the formula, on one line, whatever its layout in the source."""
    declared: dict[str, Feature] = {}
    monkeypatch.setattr(registry, "FEATURES", declared)

    @feature(unit="1", group="cadence", counts="downlink chunks", null="never", version=3)
    def half(s: Segments) -> F64:
        """Half the number
        of chunks.
        """
        return s.down.chunks / 2

    said = ("1", "cadence", "downlink chunks", "never", "Half the number of chunks.", 3)
    assert declared == {"half": Feature("half", *said, half)}


# -- what is declared ----------------------------------------------------------------------------


def test_features_are_declared_once_and_whole() -> None:
    """Every feature has a unique name, a unit, a group, a null rule and a formula."""
    names = [entry.name for entry in FEATURES.values()]
    assert names == list(FEATURES)
    assert len(set(names)) == len(names) > 0
    for entry in FEATURES.values():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", entry.name)
        assert entry.unit in UNITS, entry.name
        assert entry.group in GROUPS, entry.name
        assert entry.counts, entry.name
        assert entry.null, entry.name
        assert entry.version >= 1
        assert entry.formula.endswith("."), entry.name
    formulas = [entry.formula for entry in FEATURES.values()]
    assert len(set(formulas)) == len(formulas)


@pytest.mark.parametrize("name", FEATURES)
def test_no_feature_speaks_of_identity(name: str) -> None:
    """Names, formulas and null rules know no address, port, TTL, sequence or absolute time."""
    entry = FEATURES[name]
    said = words(f"{entry.name} {entry.formula} {entry.counts} {entry.null}")
    assert not said & IDENTITY


def test_models_read_behaviour_only() -> None:
    """What a model reads is a selection of the declared features, without marks of providers."""
    assert set(MODEL_FEATURES) <= set(FEATURES)
    assert all(MODEL_FEATURES[name] is FEATURES[name] for name in MODEL_FEATURES)
    assert "padding" not in {entry.group for entry in MODEL_FEATURES.values()}


# -- null ----------------------------------------------------------------------------------------


@given(recipes)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_null_is_nan_and_nothing_else(given_recipes: list[bytes]) -> None:
    """No sentinel stands for null: values are finite, -1 only where a correlation may be."""
    for segments in all_segments(given_recipes):
        for entry, column in zip(FEATURES.values(), compute(segments).T, strict=True):
            assert not np.isinf(column).any(), entry.name
            known = column[~np.isnan(column)]
            if entry.null == "never":
                assert len(known) == len(segments), entry.name
            if entry.name in SIGNED:
                assert (np.abs(known) <= 1 + 1e-9).all(), entry.name
            else:
                assert (known >= 0).all(), entry.name
            if entry.name.endswith("_share"):
                most = np.inf if entry.name == "answer_share" else 1 + 1e-9
                assert (known <= most).all(), entry.name


@given(recipes)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_features_that_need_the_uplink_say_so(given_recipes: list[bytes]) -> None:
    """In a capture of the downlink alone, features that count uplink packets are null."""
    for segments in all_segments(given_recipes):
        values = compute(segments)[~segments.two_way]
        for entry, column in zip(FEATURES.values(), values.T, strict=True):
            if entry.needs_uplink:
                assert np.isnan(column).all(), entry.name


@given(recipes, st.sampled_from(["turn", "flow"]))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_exported_features_are_null_where_nan(given_recipes: list[bytes], level: str) -> None:
    """Exported tables hold each feature under its name, unit and formula, and NaN as null."""
    batch = make_batch([talk_from(recipe) for recipe in given_recipes])
    data = find_data(batch)
    turns = find_turns(batch, data)
    table = feature_table(batch, data, turns, level)
    values = compute(cut_segments(batch, data, turns, level))
    assert table.schema.equals(feature_schema(), check_metadata=True)
    for entry, column in zip(FEATURES.values(), values.T, strict=True):
        field, exported = table.schema.field(entry.name), table.column(entry.name)
        assert field.type == pa.float64()
        assert field.metadata[b"unit"].decode() == entry.unit
        assert field.metadata[b"formula"].decode() == entry.formula
        expected = [None if np.isnan(value) else value for value in column.tolist()]
        assert exported.to_pylist() == expected


def test_nothing_to_measure_is_no_error() -> None:
    """Flows without a reply give tables without rows, of the right width."""
    for given_recipes in ([], [b""], [b"\x00\x06\xb6\x06\xb6"]):
        for segments in all_segments(given_recipes):
            assert compute(segments).shape == (0, len(FEATURES))
