"""``llmflow inspect``: what is in captures, and what was not decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from llmflow.cli.options import captures_argument, finish, reading_progress, say

if TYPE_CHECKING:
    from llmflow.capture.survey import Survey


@click.command("inspect")
@captures_argument
@click.option("-f", "--format", "form", type=click.Choice(["text", "json"]), default="text",
              show_default=True, help="For people, or for programs.")  # fmt: skip
def command(captures: tuple[str, ...], form: str) -> None:
    """Show what is in CAPTURE... and what becomes of every packet.

    Flows are distinct pairs of endpoints over all captures, without timeouts. Exit code 3 says that
    some input was damaged or of an unknown kind.
    """
    import json

    from llmflow.capture.survey import survey

    with reading_progress(captures) as progress:
        found = survey(captures, progress=progress)
    facts = _facts(found)
    say(json.dumps(facts, indent=1) if form == "json" else _text(facts))
    finish(found.account)


def _facts(found: Survey) -> dict[str, Any]:
    """The keys of the JSON output; docs/inspect.md describes them."""
    from llmflow.capture.links import link_name

    account = found.account
    outer, _, _ = found.outer.count()
    inner, ported, one_way = found.inner.count()
    links: dict[str, int] = {}
    for number, count in sorted(account.link_types.items()):
        links[link_name(number)] = links.get(link_name(number), 0) + count
    span = (found.last or 0) - (found.first or 0)
    return {
        "packets": account.packets,
        "ip_packets": account.ip_packets,
        "skipped": dict(sorted(account.skipped.items())),
        "link_types": links,
        "interfaces": [name for name in account.interfaces if name],
        "first": _time(found.first),
        "last": _time(found.last),
        "seconds": span / 1e9,
        "tunnels": dict(found.tunnels.most_common()),
        "flows_outer": outer,
        "flows_inner": inner,
        "flows_inner_with_ports": ported,
        "packets_inner_with_ports": found.with_ports,
        "one_way_flows": one_way,
        "cut_by_snaplen": found.cut,
        "above_mtu": found.above_mtu,
        "out_of_order": found.late,
        "largest_step_back_s": found.step_back / 1e9,
    }


def _time(stamp: int | None) -> str | None:
    import numpy as np

    return None if stamp is None else f"{np.datetime64(stamp, 'ns')}Z"


def _text(facts: dict[str, Any]) -> str:
    packets, account = facts["packets"], [("decoded", facts["ip_packets"])]
    account += facts["skipped"].items()
    lines = [f"{'packets':<14}{packets:,}"]
    lines += [f"  {reason:<20}{count:>12,}" for reason, count in account]
    lines.append(_row("links", facts["link_types"]))
    if facts["interfaces"]:
        lines.append(f"{'interfaces':<14}{', '.join(facts['interfaces'])}")
    if facts["first"]:
        lines.append(f"{'time':<14}{facts['first']} to {facts['last']} ({facts['seconds']:.3f} s)")
    lines.append(_row("tunnels", facts["tunnels"]))
    flows = f"{facts['flows_inner']:,}, {facts['flows_inner_with_ports']:,} with ports"
    if facts["tunnels"]:
        flows += f"; outside the tunnels {facts['flows_outer']:,}"
    lines.append(f"{'flows':<14}{flows}")
    return "\n".join(lines + _warnings(facts))


def _row(title: str, counts: dict[str, int]) -> str:
    text = ", ".join(f"{name} ({count:,})" for name, count in counts.items())
    return f"{title:<14}{text or 'none'}"


def _warnings(facts: dict[str, Any]) -> list[str]:
    """What should be known before features of this capture are believed."""
    notes = []
    if facts["above_mtu"]:
        notes.append(
            f"{facts['above_mtu']:,} IP packets are longer than an Ethernet frame carries: put"
            " together by offload (or jumbo frames). Their sizes and gaps are not the wire's, and"
            " features are biased; capture with GRO, LRO and TSO off."
        )
    if facts["one_way_flows"]:
        notes.append(
            f"{facts['one_way_flows']:,} of {facts['flows_inner_with_ports']:,} flows with ports"
            " were seen in one direction only."
        )
    if facts["out_of_order"]:
        notes.append(
            f"{facts['out_of_order']:,} packets are earlier than the one before, by up to"
            f" {facts['largest_step_back_s']:.6f} s."
        )
    if facts["cut_by_snaplen"]:
        notes.append(
            f"{facts['cut_by_snaplen']:,} packets were cut by the snaplen; lengths come from their"
            " headers."
        )
    return [f"note: {note}" for note in notes]
