"""Which LLM service a name belongs to: lists of domains and of User-Agent tokens.

The format of the lists is in docs/providers.md.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from llmflow.errors import ProviderError
from llmflow.metadata.wire import host_name

SHIPPED = Path(__file__).with_name("providers.toml")
KINDS = ("web-chat", "api", "assistant", "coding-agent", "image", "voice")
AGENT_KINDS = ("crawler", "user-action")
NONE = "none"  # entries of this kind take names out
_KEYS = frozenset({"provider", "kind", "domains", "agents", "weak", "source", "date"})
_MAX_FILE = 1 << 20
_MAX_TEXT = 500
_STAND_IN = "x"  # what `*` is replaced by where a pattern is checked like a name


@dataclass(frozen=True, slots=True)
class Service:
    """What a name stands for.

    Parameters
    ----------
    provider, kind : str
        Who offers it, and one of `KINDS` or `AGENT_KINDS`.
    weak : bool
        The name is shared with much else (a CDN, an office suite, a search engine): alone it is no
        evidence of an LLM service.
    source : str
        URL of the vendor's documentation that names it.
    date : datetime.date
        When the entry was written.
    """

    provider: str
    kind: str
    weak: bool
    source: str
    date: date


class Providers:
    """Looks names up. Of several domains that match, the one with most labels decides.

    Parameters
    ----------
    domains : dict of str to Service
        By domain; each also stands for all names below it. ``*`` in a label stands for any
        characters, also none; the last two labels have none.
    tokens : dict of str to Service
        By token of User-Agent.

    Attributes
    ----------
    agents : tuple of str
        The tokens.

    Examples
    --------
    >>> providers = load()
    >>> found = providers.match("eu.api.openai.com.")
    >>> found.provider, found.kind, found.weak
    ('OpenAI', 'api', False)
    >>> providers.match("notclaude.ai") is None
    True
    """

    def __init__(self, domains: dict[str, Service], tokens: dict[str, Service]) -> None:
        self._exact = {name: service for name, service in domains.items() if "*" not in name}
        # By number of labels and by the literal end, so that few are tried for a name.
        self._patterns: dict[tuple[int, str], list[tuple[list[str], Service]]] = {}
        for name, service in sorted(domains.items()):
            if "*" in name:
                labels = name.split(".")
                key = len(labels), ".".join(labels[-2:])
                self._patterns.setdefault(key, []).append((labels, service))
        # What most names are told apart by at once.
        self._ends = {".".join(name.split(".")[-2:]) for name in domains}
        self._tokens = tokens
        self.agents = tuple(tokens)

    def match(self, name: str) -> Service | None:
        """Service of a host name in any case, with or without a final dot, in ASCII or not."""
        labels = host_name(name).split(".")
        end = ".".join(labels[-2:])
        if end not in self._ends:
            return None
        for start in range(len(labels)):
            rest = labels[start:]
            service = self._exact.get(".".join(rest)) or self._by_pattern(rest, end)
            if service:
                return None if service.kind == NONE else service
        return None

    def _by_pattern(self, labels: list[str], end: str) -> Service | None:
        for pattern, service in self._patterns.get((len(labels), end), ()):
            if all(map(_label_matches, pattern, labels)):
                return service
        return None

    def agent(self, token: str) -> Service | None:
        """Service of a token, as found in :attr:`agents`."""
        return self._tokens.get(token)


def _label_matches(pattern: str, label: str) -> bool:
    """At most one ``*`` in a pattern (checked when it is read), so this cannot take long."""
    front, star, back = pattern.partition("*")
    if not star:
        return pattern == label
    fits = len(label) >= len(front) + len(back)
    return fits and label.startswith(front) and label.endswith(back)


def load(files: Sequence[Path] = ()) -> Providers:
    """Read the shipped list, and files that go before it.

    Parameters
    ----------
    files : sequence of Path
        An entry replaces those for the same domain or token in files before it and in the shipped.

    Raises
    ------
    ProviderError
        A file that cannot be read or is not of the format.
    """
    domains: dict[str, Service] = {}
    tokens: dict[str, Service] = {}
    for file in (SHIPPED, *files):
        for number, entry in enumerate(_entries(file), 1):
            _read(entry, f"{file}: entry {number}", domains, tokens)
    return Providers(domains, {t: s for t, s in tokens.items() if s.kind != NONE})


def _entries(file: Path) -> list[dict[str, Any]]:
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_FILE + 1)
        if len(content) > _MAX_FILE:
            raise ProviderError("the list of providers is larger than 1 MiB", where=str(file))
        table = tomllib.loads(content.decode())
    except OSError as error:
        reason = error.strerror or str(error)
        raise ProviderError(f"cannot be read ({reason})", where=str(file)) from None
    except (ValueError, RecursionError) as error:  # hostile nesting ends in the latter
        first = str(error).partition("\n")[0][:_MAX_TEXT]
        raise ProviderError(f"is no TOML file ({first})", where=str(file)) from None
    entries = table.pop("entry", [])
    if table or not isinstance(entries, list) or not all(isinstance(x, dict) for x in entries):
        raise ProviderError(
            "holds something else than [[entry]] tables", where=str(file), hint=_HINT
        )
    return entries


_HINT = "see docs/providers.md"


def _read(
    entry: dict[str, Any], where: str, domains: dict[str, Service], tokens: dict[str, Service]
) -> None:
    """Put the names of one entry in."""
    if wrong := _problem(entry):
        raise ProviderError(wrong, where=where, hint=_HINT)
    kind, weak = entry["kind"], entry.get("weak", False)
    provider, source = entry.get("provider", ""), entry.get("source", "")
    service = Service(provider, kind, weak, source, entry.get("date", date.min))
    tokens.update(dict.fromkeys(entry.get("agents", ()), service))
    for name in entry.get("domains", ()):
        pattern = _pattern(name)
        if not pattern:
            raise ProviderError(f"has {name[:80]!r}, which is no domain", where=where, hint=_HINT)
        domains[pattern] = service


def _problem(entry: dict[str, Any]) -> str:
    """Say what is wrong with an entry, apart from the form of its domains; empty if nothing is."""
    kind, needed = entry.get("kind"), entry.get("kind") != NONE
    allowed = (*(KINDS if "domains" in entry else AGENT_KINDS), NONE)
    names = entry.get("domains", entry.get("agents"))
    source = entry.get("source", "" if needed else "https://")
    rules = (
        (_KEYS.issuperset(entry), "has a key that is none of " + ", ".join(sorted(_KEYS))),
        (("domains" in entry) != ("agents" in entry), "needs either domains or agents"),
        (isinstance(names, list) and names and all(map(_is_text, names)), "needs names as a list"),
        (kind in allowed, "needs a kind, one of " + ", ".join(allowed)),
        (isinstance(entry.get("weak", False), bool), "has a weak that is neither true nor false"),
        (_is_text(entry.get("provider", "" if needed else NONE)), "needs the name of a provider"),
        (
            _is_text(source) and source.startswith("https://"),
            "needs a source that begins with https://",
        ),
        (
            type(entry.get("date", None if needed else date.min)) is date,
            "needs a date such as 2026-11-22",
        ),
    )
    return next((message for holds, message in rules if not holds), "")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_TEXT and value.isprintable()


def _pattern(text: str) -> str:
    """A domain in the form of :func:`host_name`, with its stars; empty if it is none."""
    if "*" not in text:
        name = host_name(text)
        return name if "." in name else ""
    labels = text.lower().removesuffix(".").split(".")
    stars: Iterable[int] = (label.count("*") for label in labels)
    if max(stars) > 1 or "*" in labels[-1] or len(labels) < 3 or "*" in labels[-2]:
        return ""
    return ".".join(labels) if host_name(".".join(labels).replace("*", _STAND_IN)) else ""
