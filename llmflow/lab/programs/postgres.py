"""PostgreSQL over TLS: an application's queries, a cursor read slowly, a repeated report."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

from llmflow.lab.programs import ClientPlace, Program, ServerPlace
from llmflow.lab.programs._place import Popen
from llmflow.lab.script import OTHER

PORT, USER = 5432, "postgres"  # the server refuses to be root
VERSIONS = Path("/usr/lib/postgresql")  # Debian's, one directory per version
TOOLS = max(VERSIONS.glob("*/bin"), default=VERSIONS / "bin")
TABLE = """
CREATE TEMP TABLE line AS SELECT n, md5(n::text) AS name,
repeat(md5((n * 7)::text), 1 + n % 20) AS words FROM generate_series(1, 20000) n;
"""


def serve(place: ServerPlace) -> list[Popen]:
    """A cluster of its own in the scratch directory."""
    data = place.scratch / "data"
    shutil.chown(place.scratch, USER, USER)
    as_user = ("setpriv", "--reuid", USER, "--regid", USER, "--clear-groups", "--")
    place.run(*as_user, TOOLS / "initdb", "-D", data, "-A", "trust", "--no-sync")
    for source, name in ((place.certificate, "server.crt"), (place.key, "server.key")):
        shutil.copy(source, data / name)
        shutil.chown(data / name, USER, USER)
        (data / name).chmod(0o600)
    (data / "pg_hba.conf").write_text("local all all trust\nhostssl all all all trust\n")
    settings = {
        "listen_addresses": ",".join(place.addresses),
        "port": PORT,
        "unix_socket_directories": place.scratch,
        "ssl": "on",
        "fsync": "off",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return [place.start(*as_user, TOOLS / "postgres", "-D", data, *options)]


def visit(place: ClientPlace) -> None:
    """One session of psql, which gets its statements one after the other."""
    rng = place.rng
    statements = rng.choice((_queries, _queries, _cursor, _report))(rng)
    rate = rng.choice((0.7, 3, 10, 30))
    place.feed(
        *("psql", "-X", "-q", f"host={place.server} port={PORT} user={USER} sslmode=require"),
        lines=itertools.chain([TABLE], statements),
        gap=lambda: rng.expovariate(rate),
    )


def _queries(rng: Random) -> Iterator[str]:
    longest = rng.choice((1, 5, 50, 400))
    while True:
        first, count = rng.randint(1, 19000), rng.randint(1, longest)
        yield f"SELECT * FROM line WHERE n BETWEEN {first} AND {first + count};"  # noqa: S608
        if rng.random() < 0.2:
            yield f"UPDATE line SET name = '{rng.randbytes(8).hex()}' WHERE n = {first};"  # noqa: S608


def _cursor(rng: Random) -> Iterator[str]:
    yield "BEGIN; DECLARE reader CURSOR FOR SELECT * FROM line CROSS JOIN generate_series(1, 50);"
    rows = rng.choice((1, 3, 10, 100))
    while True:
        yield f"FETCH {rows} FROM reader;"


def _report(rng: Random) -> Iterator[str]:
    gap = rng.choice((0.1, 0.3, 1, 2))
    yield "SELECT pid, state, query_start, query, now() FROM pg_stat_activity"
    yield f"\\watch {gap}"
    while True:
        yield ""


PROGRAMS = (
    Program(
        name="postgres",
        label=OTHER,
        category="database",
        needs=("psql", str(TOOLS / "initdb")),
        modules=(),
        ports=(("tcp", PORT),),
        serve=serve,
        visit=visit,
    ),
)
