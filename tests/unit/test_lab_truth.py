"""Labels of the lab: who has to know a connection, and what happens when witnesses disagree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from llmflow.errors import LabError
from llmflow.lab.records import Record, read_records
from llmflow.lab.truth import (
    Captured,
    captured_flows,
    join_exchanges,
    join_flows,
    key_of,
    p99,
)

PCAPS = Path(__file__).parents[2] / "pcaps"
ENDS: Record = {
    "protocol": "tcp",
    "client_ip": "10.80.0.1",
    "client_port": 50000,
    "server_ip": "10.80.1.1",
    "server_port": 443,
}
LOGGED: Record = ENDS | {
    "number": 7,
    "kind": "drip",
    "label": "llm-stream",
    "category": "chat",
    "transport": "h1",
    "front": "uvicorn",
    "client": "httpx",
    "path": "lte",
    "start": 1.0,
    "end": 5.0,
    "error": None,
}
NAMES = {1: ("drip", "unknown", "chat"), 2: ("ssh", "other", "shell")}
SEEN = [Captured(key_of(ENDS), 1.0, 5.0, 30, 1400)]
SERVED: Record = {
    "client_ip": "10.80.0.1",
    "client_port": 50000,
    "number": 7,
    "due": [1.5],
}


def join(
    logged: list[Record],
    marks: list[int],
    served: Sequence[Record] = (SERVED,),
    seen: Sequence[Captured] = SEEN,
) -> tuple[list[Record], list[Record]]:
    kernel = [ENDS | {"mark": mark, "time": 1.0} for mark in marks]
    return join_flows(seen, logged, kernel, served, NAMES)


def test_three_witnesses_that_agree() -> None:
    (flow,), lost = join([LOGGED], [1])
    assert flow["witness"] == ["client", "kernel", "server"]
    assert flow["agree"]
    assert flow["label"] == "llm-stream"
    assert (flow["start"], flow["end"], flow["packets"]) == (1.0, 5.0, 30)
    assert not lost


def test_a_kernel_that_names_another_kind_makes_the_label_unknown() -> None:
    (flow,), _ = join([LOGGED], [2])
    assert not flow["agree"]
    assert flow["label"] == "unknown"


def test_a_server_that_served_another_session_makes_the_label_unknown() -> None:
    (flow,), _ = join([LOGGED], [1], [SERVED | {"number": 8}])
    assert not flow["agree"]
    assert flow["label"] == "unknown"


def test_the_kernel_alone_labels_what_programs_opened() -> None:
    (flow,), _ = join([], [2])
    assert flow["witness"] == ["kernel"]
    assert (flow["kind"], flow["label"]) == ("ssh", "other")


def test_who_nobody_knows_has_no_record() -> None:
    assert join([], []) == ([], [])
    assert join([], [99]) == ([], [])


def test_what_the_capture_lacks_is_listed() -> None:
    flows, lost = join([LOGGED], [1], seen=[])
    assert not flows
    assert lost == [LOGGED]


def test_ports_that_are_used_again_are_told_apart_by_time() -> None:
    later = LOGGED | {"number": 8, "label": "other", "start": 100.0, "end": 105.0}
    seen = [*SEEN, Captured(key_of(ENDS), 100.0, 105.0, 20, 900)]
    served = [SERVED, SERVED | {"number": 8, "due": [101.0]}]
    flows, lost = join([later, LOGGED], [1], served, seen)
    assert [flow["label"] for flow in flows] == ["llm-stream", "other"]
    assert [flow["number"] for flow in flows] == [7, 8]
    assert not lost


def test_either_end_may_be_named_first() -> None:
    turned = ENDS | {
        "client_ip": ENDS["server_ip"],
        "client_port": ENDS["server_port"],
        "server_ip": ENDS["client_ip"],
        "server_port": ENDS["client_port"],
    }
    assert key_of(ENDS) == key_of(turned)


def test_exchanges_get_what_their_server_wrote() -> None:
    asked = {"number": 7, "exchange": 0}
    served = {"number": 7, "exchange": 0, "due": [1.0, 2.0], "sent": [1.0, 2.004], "size": [9, 9]}
    answered, alone = join_exchanges([asked, asked | {"exchange": 1}], [served])
    assert answered["size"] == [9, 9]
    assert answered["late"] == pytest.approx(0.00396, abs=1e-6)
    assert alone["due"] == []
    assert alone["late"] is None


def test_flows_of_a_capture_are_found_once_each() -> None:
    found = captured_flows(PCAPS / "mixed.pcap")
    assert len(found) == 18
    assert all(one.packets > 0 and one.end >= one.start for one in found)


def test_a_line_that_is_no_object_is_named(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('{"a": 1}\n[2]\n')
    with pytest.raises(LabError, match=r"x\.jsonl:2"):
        list(read_records([file]))


def test_no_values_have_no_quantile() -> None:
    assert p99([]) is None
