"""Labels from decrypted traffic: what HTTP says of a connection, when its TLS keys are at hand.

tshark decrypts in a process of its own and hands over paths and content types alone; of these only
the names of the rules that fit are kept, since paths name conversations. A connection is judged as
a whole: an LLM endpoint was asked, and a type that streams came back. Connections of which tshark
shows no HTTP have no label. HTTP/3 is seen by a tshark that decodes its headers only.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from llmflow.errors import CaptureError, LabelError
from llmflow.learn.labels import ConnectionKey, Label, LabelledCapture, flow_key
from llmflow.learn.model import LLM_STREAM, OTHER

NO_STREAM = "llm-service-no-stream"
# Endpoints of the vendors' API references, and of their web pages as seen in own sessions.
ENDPOINTS = {
    name: re.compile(pattern)
    for name, pattern in {
        "chat completions": r"/chat/completions$",
        "completions": r"/v1/completions$",
        "OpenAI responses": r"/v1/responses$",
        "Anthropic messages": r"/v1/messages$",
        "Gemini generate": r":(streamGenerateContent|generateContent)$",
        "Ollama": r"/api/(chat|generate)$",
        "Bedrock": r"/model/[^/]+/(invoke|converse)[a-z-]*$",
        "embeddings or moderations": r"/v1/(embeddings|moderations)$",
        "ChatGPT": r"/backend-(api|anon)/(f/)?conversation$",
        "Claude": r"/chat_conversations/[^/]+/(retry_)?completion$",
        "Gemini": r"BardFrontendService/StreamGenerate$",
        "Generation over gRPC": r"/[\w.]*[Gg]enerat\w*/\w*$",
    }.items()
}
STREAMING = ("text/event-stream", "application/x-ndjson", "application/vnd.amazon.eventstream")
_VERB = re.compile(r"[sS]tream")  # endpoints that stream whatever type they declare
_UPGRADED = "101"  # to WebSocket
_ADDRESSES = "ip.src", "ip.dst", "ipv6.src", "ipv6.dst"
_PORTS = "tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport"
_PATHS = "http.request.uri", "http2.headers.path"
_TYPES = "http.content_type", "http2.headers.content_type"
_STATUS = "http.response.code", "http2.headers.status"
_HTTP3 = "http3.headers.path", "http3.headers.content_type", "http3.headers.status"
_MANY = "\x1f"  # between the values of one field


@dataclass(slots=True)
class _Talk:
    """What was said on a connection, as names of rules."""

    endpoints: set[str] = field(default_factory=set)
    types: set[str] = field(default_factory=set)
    streams: bool = False

    def add(self, paths: list[str], types: list[str], status: list[str]) -> None:
        for path in paths:
            plain = path.partition("?")[0]
            found = {name for name, rule in ENDPOINTS.items() if rule.search(plain)}
            self.endpoints |= found
            self.streams |= bool(found and _VERB.search(plain.rpartition("/")[2]))
        if not status:
            return  # a request's type says nothing
        for kind in types:
            self.types |= {name for name in STREAMING if kind.lower().startswith(name)}
        if _UPGRADED in status:
            self.types.add("WebSocket")

    def label(self) -> Label:
        """The label that follows, with its reason."""
        asked, came = ", ".join(sorted(self.endpoints)), ", ".join(sorted(self.types))
        if asked and (self.types or self.streams):
            name, category, why = LLM_STREAM, asked, f"asked {asked}, came {came or 'a stream'}"
        elif asked:
            name, category, why = NO_STREAM, asked, f"asked {asked}, came no stream"
        else:
            name, category = OTHER, came or "http"
            why = f"no LLM endpoint, came {came or 'no stream'}"
        # An endpoint nobody listed may stream too.
        confidence = "medium" if came and not asked else "high"
        return Label(name, category, basis=f"keys: {why}", confidence=confidence)


def _fields(tshark: str) -> list[str]:
    known = subprocess.run(  # noqa: S603 - no shell, a found program
        [tshark, "-G", "fields"], capture_output=True, text=True, check=False, errors="replace"
    ).stdout
    http3 = [name for name in _HTTP3 if f"\t{name}\t" in known]
    return [*_ADDRESSES, *_PORTS, *_PATHS, *_TYPES, *_STATUS, *http3]


def _rows(capture: Path, keys: Path | None) -> Iterator[dict[str, list[str]]]:
    """Packets with HTTP headers, as values by field."""
    tshark = shutil.which("tshark")
    if not tshark:
        raise LabelError("tshark is not installed", hint="install it to label by keys")
    fields = _fields(tshark)
    show = ["http.request", "http.response", "http2.headers.path", "http2.headers.status"]
    show += [name for name in fields if name in _HTTP3]
    command = [tshark, "-n", "-l", "-r", str(capture), "-Y", " or ".join(show), "-T", "fields"]
    command += ["-E", f"aggregator={_MANY}"]
    command += ["-o", f"tls.keylog_file:{keys.resolve()}"] if keys else []
    for name in fields:
        command += ["-e", name]
    with tempfile.TemporaryFile("w+", errors="replace") as complaint:
        with subprocess.Popen(  # noqa: S603 - no shell, no argument that is read as an option
            command, stdout=subprocess.PIPE, stderr=complaint, text=True, errors="replace"
        ) as process:
            for line in process.stdout or ():
                values = [x.split(_MANY) if x else [] for x in line.rstrip("\n").split("\t")]
                if len(values) == len(fields):
                    yield dict(zip(fields, values, strict=True))
        complaint.seek(0)
        said = [line for line in complaint.read().splitlines() if line.startswith("tshark:")]
    if process.returncode:
        why = said[-1].removeprefix("tshark: ") if said else f"exit code {process.returncode}"
        raise CaptureError(f"tshark cannot read it ({why})", where=str(capture))


def _key(row: dict[str, list[str]]) -> ConnectionKey | None:
    """The innermost connection of a packet."""
    ends = [row[name] for name in _ADDRESSES]
    source, target = ends[0] or ends[2], ends[1] or ends[3]
    tcp = bool(row["tcp.srcport"])
    ports = [row[name] for name in (_PORTS[:2] if tcp else _PORTS[2:])]
    if not (source and target and all(ports)):
        return None
    protocol = "tcp" if tcp else "udp"
    return flow_key([protocol, source[-1], ports[0][-1], target[-1], ports[1][-1]])


def label_by_keys(capture: Path, keys: Path | None = None) -> LabelledCapture:
    """Label the connections of a capture by the HTTP inside.

    Parameters
    ----------
    capture : Path
    keys : Path, optional
        TLS secrets in the NSS key log format; not needed for those that lie in a pcapng file.

    Returns
    -------
    LabelledCapture
        Of the connections on which HTTP was seen alone: ``llm-stream``, ``llm-service-no-stream``
        or ``other``.

    Raises
    ------
    LabelError
        tshark is not there, or there is no such file of keys.
    CaptureError
        tshark cannot read the capture.
    """
    if keys and not keys.is_file():
        raise LabelError("no such file of keys", where=str(keys), hint="check --keys")
    talks: dict[ConnectionKey, _Talk] = {}
    for row in _rows(capture, keys):
        if key := _key(row):
            parts = [
                [value for name in names if name in row for value in row[name]]
                for names in ((*_PATHS, _HTTP3[0]), (*_TYPES, _HTTP3[1]), (*_STATUS, _HTTP3[2]))
            ]
            talks.setdefault(key, _Talk()).add(*parts)
    flows = {key: talk.label() for key, talk in talks.items()}
    return LabelledCapture(capture, str(capture), None, flows)
