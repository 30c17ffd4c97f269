"""Genuine programs on both ends of an access path, started and played as a run of the lab does."""

import json
import os
import shutil
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pytest

from llmflow.lab.net.impairment import Direction
from llmflow.lab.net.paths import AccessPath
from llmflow.lab.net.pki import make_certificates
from llmflow.lab.net.processes import python
from llmflow.lab.net.topology import Topology
from llmflow.lab.plan import write_plan
from llmflow.lab.programs import ServerPlace, missing, programs, start
from llmflow.lab.programs.config import Config
from llmflow.lab.script import Session

CHEAP = ("ssh", "mqtt")
LACKING = [tool for tool in ("ip", "ethtool", "sysctl") if not shutil.which(tool)]
LACKING += [thing for name in CHEAP for thing in missing(programs()[name])]

pytestmark = [
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(bool(LACKING), reason=f"needs {', '.join(LACKING)}"),
]


def test_two_programs_talk_and_their_player_says_so(tmp_path: Path) -> None:
    """Real servers and clients: each visit ends without an error, and leaves nothing running."""
    with Topology([AccessPath("home", Direction(), Direction())]) as net, ExitStack() as stack:
        certificates = make_certificates(tmp_path / "tls", ["programs.test"])
        shared = {}
        for name in CHEAP:
            shared[name] = tmp_path / name
            shared[name].mkdir()
            place = ServerPlace(
                shared[name],
                net.addresses("home")[:1],
                certificates.chain,
                certificates.key,
                net.server.popen,
            )
            for process in start(programs()[name], place):
                stack.callback(process.wait)
                stack.callback(process.kill)
        plan = [
            Session(number, name, "program", "program", "program", "home", 0.0, 2.0, seed=number)
            for number, name in enumerate(CHEAP)
        ]
        write_plan(tmp_path / "plan.jsonl", plan)
        config = Config(
            t0=time.time(),
            path="home",
            plan=tmp_path / "plan.jsonl",
            log=tmp_path / "log.jsonl",
            authority=certificates.root,
            servers=dict.fromkeys(CHEAP, net.addresses("home")[0]),
            shared=shared,
            gids={name: 30_000 + number for number, name in enumerate(CHEAP)},
        )
        told = tmp_path / "config.json"
        told.write_text(json.dumps(asdict(config), default=str))
        net.client("home").run(python("llmflow.lab.programs", str(told)))
    records = [json.loads(line) for line in config.log.read_text().splitlines()]
    visits = {record["kind"]: record for record in records if record["protocol"] is None}
    assert visits.keys() == set(CHEAP)
    assert not any(visit["error"] for visit in visits.values())
    assert [record["server_port"] for record in records if record["protocol"]] == [8883]
