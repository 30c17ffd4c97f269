"""Labels keep where they come from; sources that differ are told of, and nobody is believed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmflow.learn.keys import _Talk
from llmflow.learn.labels import Label, LabelledCapture, flow_key, read_labels
from llmflow.learn.provenance import flow_text, manifest_text, merge_labels

V4 = flow_key(["tcp", "192.0.2.1", 50000, "198.51.100.2", 443])
V6 = flow_key(["udp", "2001:db8::1", 50001, "2001:db8::2", 443])
STREAM = Label("llm-stream", "chat", basis="keys: seen", confidence="high")
OTHER = Label("other", "other", basis="names: heard", confidence="low")


def source(name: str, **flows: Label) -> tuple[str, list[LabelledCapture]]:
    """One capture with labels for `default`, `v4` and `v6`."""
    keys = {"v4": V4, "v6": V6}
    singles = {keys[x]: label for x, label in flows.items() if x in keys}
    return name, [LabelledCapture(Path("a.pcap"), "a.pcap", flows.get("default"), singles)]


def test_agreement_keeps_every_reason_and_the_surest_facts() -> None:
    """Both reasons stay, the higher confidence holds, and facts fill each other's gaps."""
    low = replace(STREAM, basis="names: heard", confidence="low", transport="h2")
    (found,), conflicts = merge_labels([source("n", v4=low), source("k", v4=STREAM)])
    assert not conflicts
    assert found.flows[V4] == replace(STREAM, basis="names: heard; keys: seen", transport="h2")


@pytest.mark.parametrize(
    "first",
    [source("first", v4=OTHER), source("first", default=OTHER)],
    ids=["connection", "all connections"],
)
def test_conflicts_are_reported_and_left_out(first: tuple[str, list[LabelledCapture]]) -> None:
    """A connection with two labels becomes unknown, and both claims are told."""
    (found,), (conflict,) = merge_labels([first, source("second", v4=STREAM)])
    assert found.flows[V4].name == "unknown"
    assert found.label(V4) is None
    for text in ("first: other (names: heard", "second: llm-stream (keys: seen", flow_text(V4)):
        assert text in str(conflict)


def test_unknown_contradicts_nothing() -> None:
    """Whoever does not know leaves it to those who do."""
    unknown = Label("unknown", "unknown")
    (found,), conflicts = merge_labels([source("n", v4=unknown), source("k", v4=STREAM)])
    assert not conflicts
    assert found.flows[V4].name == "llm-stream"


def test_a_manifest_says_all_that_labels_say(tmp_path: Path) -> None:
    """Written and read again, labels are the same: both address families, groups, reasons."""
    captures = [
        LabelledCapture(
            tmp_path / "x" / "a.pcap",
            "monday",
            Label("other", "office", group="monday"),
            {V4: replace(STREAM, group="run/1"), V6: replace(OTHER, group="monday")},
        )
    ]
    (tmp_path / "m.csv").write_text(manifest_text(captures, tmp_path))
    (found,) = read_labels([tmp_path / "m.csv"])
    assert found.path == tmp_path / "x" / "a.pcap"
    assert found.group == "monday"
    plain = {key: replace(label, group="") for key, label in found.flows.items()}
    assert plain == {V4: STREAM, V6: OTHER}
    assert found.flows[V4].group == "run/1"


@pytest.mark.parametrize(
    ("path", "kind", "status", "label"),
    [
        ("/v1/chat/completions", "text/event-stream; charset=utf-8", "200", "llm-stream"),
        ("/v1/chat/completions?x=1", "application/json", "200", "llm-service-no-stream"),
        ("/v1beta/models/m:streamGenerateContent", "application/json", "200", "llm-stream"),
        ("/v1beta/models/m:generateContent", "application/json", "200", "llm-service-no-stream"),
        ("/model/m/converse-stream", "application/vnd.amazon.eventstream", "200", "llm-stream"),
        ("/v1/responses", "", "101", "llm-stream"),
        ("/inference.GenerationService/GenerateStream", "application/grpc", "200", "llm-stream"),
        ("/ticker", "text/event-stream", "200", "other"),
        ("/search?q=/v1/messages", "text/html", "200", "other"),
    ],
)
def test_what_http_says(path: str, kind: str, status: str, label: str) -> None:
    """An LLM endpoint that streams is a stream; either alone is none."""
    talk = _Talk()
    talk.add([path], ["text/event-stream"], [])  # the type of a request says nothing
    talk.add([], [kind], [status])
    found = talk.label()
    assert found.name == label
    assert path.partition("?")[2] not in found.basis or "?" not in path
