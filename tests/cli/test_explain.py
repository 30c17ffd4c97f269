"""`llmflow explain` as its users call it."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from llmflow.engine.pick import best_flow, explain_flow, pick_flow
from llmflow.errors import FlowError
from llmflow.flows.batch import FlowOptions
from llmflow.flows.stream import FlowStream
from llmflow.learn.model import load_model
from llmflow.report.explain_plot import draw_flow
from llmflow.report.explain_text import timeline
from llmflow.report.explained import Explained
from tests import builders as b
from tests.cli.test_classify import MIXED, PCAPS, rows, run

STREAM = "8891a7a9a08dafec"


def told_of(capture: Path, flow: str, **options: float) -> Explained:
    stream = FlowStream([str(capture)], FlowOptions(**options))  # type: ignore[arg-type]
    return explain_flow(pick_flow(stream, flow), load_model())


def text(*args: object, columns: int = 80, **more: str) -> str:
    done = run("explain", *args, env={**os.environ, "COLUMNS": str(columns), **more})
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def long_capture(path: Path) -> Path:
    """One flow of 30,000 packets in 100 replies."""
    records, time, sent = [], b.START, 1
    for _ in range(100):
        time += 4 * b.SECOND
        up = b.tcp(b"?" * 300, seq=sent, flags=0x18)
        records.append((time, b.ethernet(b.ipv4(up))))
        sent += 300
        for number in range(300):
            time += 20_000_000 + number % 7 * 1_000_000
            down = b.tcp(
                b"!" * (80 + number % 50), sport=443, dport=50000, seq=number + time % 2**31
            )
            records.append((time, b.ethernet(b.ipv4(down, src=b.SERVER, dst=b.CLIENT))))
    path.write_bytes(b.pcap(records))
    return path


# -- which flow ----------------------------------------------------------------------------------


def test_without_a_flow_the_highest_score_is_shown_and_said() -> None:
    """The choice is named, with what it was chosen from."""
    best = max(rows(MIXED), key=lambda row: row["score"] or -1)
    shown = text(MIXED)
    assert shown.startswith(f"Flow {best['flow_id']}: the highest score of 18 flows")
    assert f"score {best['score']:.3f}" in shown


def test_every_flow_can_be_told() -> None:
    """Scored or not, each flow has a text that agrees with `classify`."""
    for row in rows(MIXED):
        told = told_of(MIXED, row["flow_id"])
        assert told.flow["flow_id"] == row["flow_id"]
        assert told.flow["score"] == row["score"]
        assert len(told.turns) == row["turns"]
        assert len(told.time) == row["up_packets"] + row["down_packets"]
        assert (told.moved is None) == (row["score"] is None)
        assert timeline(told, 80)


def test_a_prefix_is_enough_in_any_case() -> None:
    """As with commits."""
    assert STREAM in text(MIXED, "--flow", "8891A7")


@pytest.mark.parametrize("wrong", ["ffff", "8891a7a9a08dafec0", "nö", "8891 "])
def test_an_unknown_flow_is_one_sentence(wrong: str) -> None:
    """Exit code 1, nothing on standard output, one line that says how to find ids."""
    done = run("explain", MIXED, "--flow", wrong)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().count("\n") == 1
    assert "no flow has an id that begins with" in done.stderr.decode()


def test_several_flows_are_listed() -> None:
    """The candidates are named, up to a point."""
    done = run("explain", MIXED, "--flow", "8")
    ids = sorted(row["flow_id"] for row in rows(MIXED) if row["flow_id"].startswith("8"))
    assert done.returncode == 1
    assert ", ".join(ids).encode() in done.stderr
    assert b" and 10 more; give more digits" in run("explain", MIXED, "--flow", "").stderr


def test_an_empty_capture_is_said(tmp_path: Path) -> None:
    """With --flow or without."""
    (tmp_path / "none.pcap").write_bytes(b.pcap([]))
    done = run("explain", tmp_path / "none.pcap")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"the captures hold no flow" in done.stderr
    assert run("explain", tmp_path / "none.pcap", "--flow", "a").returncode == 1


def test_standard_input_needs_a_flow() -> None:
    """It can be read only once; with an id once is enough."""
    done = run("explain", "-", input=MIXED.read_bytes())
    assert done.returncode == 1
    assert b"-: can be read only once; name a flow with --flow" in done.stderr
    done = run("explain", "-", "--flow", STREAM[:8], input=MIXED.read_bytes())
    assert done.returncode == 0
    assert STREAM.encode() in done.stdout


def test_a_damaged_capture_ends_in_three(tmp_path: Path) -> None:
    """What can be told is told, and the damage is said once."""
    (tmp_path / "cut.pcap").write_bytes(MIXED.read_bytes()[:-5])
    done = run("explain", tmp_path / "cut.pcap")
    assert done.returncode == 3
    assert done.stderr.count(b"the file ends inside a record") == 1


def test_all_slices_belong_to_the_flow() -> None:
    """A long flow cut by the active timeout is told whole, each slice with its own turns."""
    whole = told_of(MIXED, STREAM)
    cut = told_of(MIXED, STREAM, active_timeout=20.0)
    assert np.array_equal(cut.time, whole.time)
    assert cut.flow["down_bytes"] == whole.flow["down_bytes"]
    assert {turn["name"].split(".")[0] for turn in cut.turns} == {"0", "1", "2"}
    assert cut.flow["score"] == max(turn["score"] or 0 for turn in cut.turns)


def test_without_scores_the_largest_flow_is_shown(tmp_path: Path) -> None:
    """Nothing was judged: the flow with the most bytes down, and a sentence that says so."""
    chosen, note = best_flow(FlowStream([str(PCAPS / "blob.pcap")]), load_model())
    assert chosen
    assert "highest score" in note
    frames = [(b.START, b.ethernet(b.ipv4(b.udp(b"x" * 80, sport=9000 + n)))) for n in range(3)]
    (tmp_path / "bare.pcap").write_bytes(b.pcap(frames))
    assert "no flow has a score" in text(tmp_path / "bare.pcap")
    with pytest.raises(FlowError):
        pick_flow(FlowStream([str(tmp_path / "bare.pcap")]), "")


# -- text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
@pytest.mark.parametrize("flow", [STREAM, "caab", "045e"])
def test_the_text_fits_the_terminal(columns: int, flow: str) -> None:
    """No line is wider than the terminal, and turns keep score and label."""
    shown = text(MIXED, "--flow", flow, columns=columns)
    assert max(map(len, shown.splitlines())) <= columns
    assert re.search(r"chunks.* score label", shown)


def test_the_text_is_plain_where_letters_are() -> None:
    """A terminal without block characters gets ASCII."""
    shown = text(MIXED, "--flow", STREAM, PYTHONIOENCODING="ascii")
    assert shown.isascii()
    assert "->" in shown
    assert not text(MIXED, "--flow", STREAM, PYTHONIOENCODING="utf-8").isascii()


def test_the_timeline_shows_bytes_turns_and_stalls() -> None:
    """Columns of a known flow: four turns with silence between them; stalls where gaps are long."""
    up, down, turns, *_ = timeline(told_of(MIXED, STREAM), 80)
    assert re.sub("[-=]", "", turns).split() == ["turn", "0", "1", "2", "3"]
    assert up[6] == down[6] == "█"
    assert any(line.startswith("stall") for line in timeline(told_of(MIXED, "caab"), 80))


# -- pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("flow", [STREAM, "caab", "045e"])
def test_pictures_are_whole_and_repeat(tmp_path: Path, flow: str) -> None:
    """SVG is XML with the text in it, PNG is PNG; the same flow gives the same bytes."""
    for ending in ("svg", "png"):
        first, second = tmp_path / f"1.{ending}", tmp_path / f"2.{ending}"
        for target in (first, second):
            assert run("explain", MIXED, "--flow", flow, "-o", target).returncode == 0
        assert first.read_bytes() == second.read_bytes()
    drawing = (tmp_path / "1.svg").read_text()
    ET.fromstring(drawing)  # noqa: S314 - ours
    assert "198.51.100" in drawing or "203.0.113" in drawing
    assert (tmp_path / "1.png").read_bytes().startswith(b"\x89PNG")


def test_a_long_flow_is_small(tmp_path: Path) -> None:
    """Packets are gathered, dots become pixels."""
    drawn = io.BytesIO()
    told = told_of(long_capture(tmp_path / "long.pcap"), "")
    assert len(told.time) == 30_100
    draw_flow(told, drawn, "svg")
    assert len(drawn.getvalue()) < 400_000


def test_an_unknown_ending_and_a_taken_place_are_refused(tmp_path: Path) -> None:
    """Said before any work; the capture is never overwritten."""
    done = run("explain", MIXED, "-o", tmp_path / "x.pdf")
    assert done.returncode == 2
    assert b"end it in .svg or .png or .html" in done.stderr
    copy = tmp_path / "capture.svg"
    shutil.copy(MIXED, copy)
    assert b"is one of the inputs" in run("explain", copy, "-o", copy).stderr
    assert copy.read_bytes() == MIXED.read_bytes()


def test_without_matplotlib_one_sentence_says_what_to_install(tmp_path: Path) -> None:
    """The text needs no matplotlib, a picture says where to get it."""
    (tmp_path / "matplotlib.py").write_text("raise ImportError")
    paths = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    env = {**os.environ, "PYTHONPATH": paths}
    done = run("explain", MIXED, "-o", tmp_path / "x.html", env=env)
    assert done.returncode == 1
    assert done.stderr.decode().count("\n") == 1
    assert b"pip install 'llmflow[plots]'" in done.stderr
    assert run("explain", MIXED, env=env).returncode == 0


# -- the page ------------------------------------------------------------------------------------


class _Page(HTMLParser):
    """Tags that were opened, addresses that would be loaded, and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loads: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "data", "action")]
        self.loads += [address for address in found if not address.startswith(("#", "data:"))]
        assert not any(key.startswith("on") for key, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page_of(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text())
    return page


def test_the_page_is_self_contained(tmp_path: Path) -> None:
    """Two pictures, two tables, no script, nothing from outside."""
    target = tmp_path / "page.html"
    assert run("explain", MIXED, "--flow", STREAM, "-o", target).returncode == 0
    page = page_of(target)
    assert {"svg", "table"} <= page.tags
    assert not page.tags & {"script", "link", "iframe", "object", "img", "base", "form"}
    assert page.loads == []
    assert "@import" not in target.read_text()
    assert {
        "chunk_size_mode_share",
        "llm-stream",
        f"{told_of(MIXED, STREAM).flow['score']:.3f}",
    } <= set(page.text)


def test_a_hostile_file_name_stays_text(tmp_path: Path) -> None:
    """Names of files come from anybody."""
    name = "<img src=x onerror=alert(1)>&\"'.pcap"
    capture = tmp_path / name
    shutil.copy(MIXED, capture)
    target = tmp_path / "page.html"
    assert run("explain", capture, "--flow", STREAM, "-o", target).returncode == 0
    page = page_of(target)
    assert "img" not in page.tags
    assert any(name in text for text in page.text)


# -- the list of features ------------------------------------------------------------------------


def test_features_are_listed_for_programs() -> None:
    """JSON and CSV hold the whole registry; `--list` still works."""
    listed = json.loads(run("features", "list", "-f", "json").stdout)
    assert set(listed[0]) == {
        "name", "unit", "group", "counts", "null", "formula", "version", "model",
    }  # fmt: skip
    assert run("features", "list", "-f", "csv").stdout.count(b"\n") == len(listed) + 1
    assert run("features", "--list").stdout == run("features", "list").stdout


@pytest.mark.parametrize("columns", ["40", "80"])
def test_the_list_of_features_fits(columns: str) -> None:
    """A table where there is room, else one feature after another."""
    shown = run("features", "list", env={**os.environ, "COLUMNS": columns}).stdout.decode()
    lines = [line for line in shown.splitlines() if not line.startswith("Schema")]
    assert max(map(len, lines)) <= int(columns)
    assert "chunk_size_mode_share" in shown


def test_export_has_a_name_of_its_own() -> None:
    """`features CAPTURE` and `features export CAPTURE` are the same."""
    short = run("features", "--level", "flow", PCAPS / "voip.pcap")
    assert short.returncode == 0
    assert short.stdout == run("features", "export", PCAPS / "voip.pcap", "--level", "flow").stdout
