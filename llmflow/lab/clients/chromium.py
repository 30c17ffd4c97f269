"""Chromium, without a window: a page of the server whose script plays the exchanges.

Each session has a browser of its own with an empty profile, as tabs of one browser would share
connections. Which connections it opened stands in its own log of the network.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect

from llmflow.lab.clients.desk import Address, Connection, Desk
from llmflow.lab.script import Exchange
from llmflow.lab.servers.app import PAGE_PATH

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--remote-debugging-port=0",
    # A slow path must not make a connection go on from another port: it would be two flows.
    "--force-fieldtrials=QUIC/Lab",
    "--force-fieldtrial-params=QUIC.Lab:allow_port_migration/false",
)
_APART = 0.02  # seconds between the clocks of a page and of the network, at most
_PATIENCE = 30  # seconds for the browser to start, to load a page, to end


async def chromium(desk: Desk, exchanges: Sequence[Exchange]) -> None:
    """Play a session."""
    Path(desk.config.folder).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=desk.config.folder))
    try:
        try:
            async with _browser(desk, folder) as control:
                reports = await _play(desk, exchanges, control)
        finally:  # connections that were opened are known also when the session failed
            sends = _connections(desk, folder / "net.json")
        for report in reports:
            _note(desk, exchanges[report["index"]], report, sends)
        failed = [report["error"] for report in reports if report["error"]]
        if failed:
            raise ConnectionError(failed[0])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def _browser(desk: Desk, folder: Path) -> AsyncIterator[str]:
    """Run a browser; gives where its control is, as port and path."""
    point, port = desk.endpoint, desk.port()
    quic = ("--enable-quic", f"--origin-to-force-quic-on={point.name}:{port}")
    process = await asyncio.create_subprocess_exec(
        desk.config.chromium,
        *_FLAGS,
        *(quic if desk.session.transport == "h3" else ("--disable-quic",)),
        f"--ignore-certificate-errors-spki-list={','.join(desk.config.spki)}",
        f"--host-resolver-rules=MAP {point.name} {point.address},MAP * ~NOTFOUND,"
        f"EXCLUDE {point.address}",
        f"--user-data-dir={folder}/profile",
        f"--log-net-log={folder}/net.json",
        f"--ssl-key-log-file={desk.config.keys}",
        "about:blank",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_not_urgent,
    )
    try:
        told = folder / "profile" / "DevToolsActivePort"
        async with asyncio.timeout(_PATIENCE):
            while not (told.exists() and len(told.read_text().split()) == 2):  # noqa: PLR2004
                await asyncio.sleep(0.05)
        yield "".join(told.read_text().split())
        async with asyncio.timeout(_PATIENCE):
            await process.wait()
    finally:
        # First kindly, so that it writes its log to the end.
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 3)


def _not_urgent() -> None:
    # A browser needs seconds of processor time to start, and would hold up all other clients.
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


async def _play(desk: Desk, exchanges: Sequence[Exchange], control: str) -> list[dict[str, Any]]:
    """Load the page and have it play; what it saw."""
    asked = 0
    async with connect(f"ws://127.0.0.1:{control}", max_size=None, proxy=None) as socket:

        async def call(method: str, tab: str | None = None, **given: Any) -> dict[str, Any]:
            nonlocal asked
            asked += 1
            message = {"id": asked, "method": method, "params": given}
            await socket.send(json.dumps(message | ({"sessionId": tab} if tab else {})))
            while True:
                answer = json.loads(await socket.recv())
                if answer.get("id") == asked:
                    if "error" in answer:
                        raise ConnectionError(f"{method}: {answer['error'].get('message')}")
                    return dict(answer["result"])

        async def evaluate(text: str) -> Any:
            given = {"expression": text, "awaitPromise": True, "returnByValue": True}
            result = await call("Runtime.evaluate", tab, **given)
            if "exceptionDetails" in result:
                raise ConnectionError(str(result["exceptionDetails"].get("text")))
            return result["result"].get("value")

        target = (await call("Target.createTarget", url=desk.url(PAGE_PATH)))["targetId"]
        attached = await call("Target.attachToTarget", targetId=target, flatten=True)
        tab = attached["sessionId"]
        async with asyncio.timeout(_PATIENCE):
            while await evaluate("document.readyState + document.title") != "completelab":
                await asyncio.sleep(0.05)
        script = (files("llmflow.lab.clients") / "chromium.js").read_text()
        script = script.strip().removesuffix(";")
        items = [_item(desk, index, exchange) for index, exchange in enumerate(exchanges)]
        reports = await evaluate(f"({script})({json.dumps(items)})")
        await call("Browser.close")
    return list(reports)


def _item(desk: Desk, index: int, exchange: Exchange) -> dict[str, Any]:
    def text(data: bytes) -> str:
        return base64.b64encode(data).decode()

    return {
        "index": index,
        "method": exchange.method,
        "path": exchange.path,
        "headers": [*exchange.headers, ("x-lab", desk.name(index))],
        "body": text(exchange.body),
        "up": [(write.due, text(write.data)) for write in exchange.up],
        "think": exchange.think,
        "beside": exchange.beside,
        "abort": exchange.abort,
    }


def _note(desk: Desk, exchange: Exchange, report: dict[str, Any], sends: list[list[float]]) -> None:
    """Note what the page saw, over the connection that sent most in that time."""
    start, end = float(report["start"]), float(report["end"])
    counts = [sum(start - _APART < at < end + _APART for at in moments) for moments in sends]
    with desk.exchange(report["index"], exchange, report["due"]) as seen:
        if counts:
            seen.connection = desk.connections[counts.index(max(counts))]
    seen.start, seen.first, seen.end = start, report["first"], end
    seen.events, seen.size, seen.error = report["events"], report["size"], report["error"]
    seen.late, seen.crc = max(0.0, start - report["due"]), None


def _connections(desk: Desk, log: Path) -> list[list[float]]:
    """Read connections to the server, and when each sent, from the browser's log of the network."""
    found = _read(log)
    if found is None:
        return []
    names = {number: name for name, number in found["constants"]["logEventTypes"].items()}
    offset = float(found["constants"]["timeTickOffset"])
    over = found["constants"]["logEventPhase"]["PHASE_END"]
    server = f"{desk.endpoint.address}:{desk.port()}"
    udp: dict[int, Address | None] = {}  # sockets to the server; some are closed before they send
    known: dict[int, Connection] = {}
    sends: dict[int, list[float]] = {}
    for event in found["events"]:
        name, given = names.get(event["type"]), event.get("params", {})
        source, moment = event["source"]["id"], (float(event["time"]) + offset) / 1000
        if name == "TCP_CONNECT" and given.get("remote_address") == server:
            known[source] = desk.connected(_address(given["local_address"]))
        elif name == "UDP_CONNECT" and given.get("address") == server:
            udp[source] = None
        elif name == "UDP_LOCAL_ADDRESS" and source in udp:
            udp[source] = _address(given["address"])
        elif name == "UDP_BYTES_SENT" and (local := udp.pop(source, None)):
            known[source] = desk.connected(local, "udp")
        elif name == "SOCKET_ALIVE" and event["phase"] == over and source in known:
            known[source].end = moment
        if source in known and source not in sends:
            known[source].start, sends[source] = moment, []
        if name in ("SOCKET_BYTES_SENT", "UDP_BYTES_SENT") and source in sends:
            sends[source].append(moment)
    return list(sends.values())


def _read(log: Path) -> dict[str, Any] | None:
    """Read the log; one event a line, and the list is left open where the browser was killed."""
    text = log.read_text(errors="replace") if log.exists() else ""
    for whole in (text, text.rpartition(",\n")[0] + "]}"):
        with contextlib.suppress(ValueError):
            return dict(json.loads(whole))
    return None


def _address(text: str) -> Address:
    ip, _, port = text.rpartition(":")
    return ip.strip("[]"), int(port)
