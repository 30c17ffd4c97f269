"""Git: clones and fetches of repositories of several sizes."""

from __future__ import annotations

from random import Random

from llmflow.lab.programs import ClientPlace, Program, ServerPlace
from llmflow.lab.programs._place import Popen
from llmflow.lab.script import OTHER

PORT = 9418
SIZES = {"small": 200_000, "middle": 4_000_000, "large": 25_000_000}  # bytes


def serve(place: ServerPlace) -> list[Popen]:
    """Git's own daemon, with repositories that hold what hardly compresses."""
    rng = Random(0)
    for name, size in SIZES.items():
        tree = place.scratch / name
        git = ("git", "-C", tree, "-c", "user.name=lab", "-c", "user.email=lab@lab.test")
        place.run("git", "init", "-q", tree)
        for commit in range(8):
            for file in range(4):
                (tree / f"file-{commit}-{file}").write_text(rng.randbytes(size // 64).hex())
            place.run(*git, "add", ".")
            place.run(*git, "commit", "-q", "-m", f"Change {commit}")
    argv = ["git", "daemon", "--reuseaddr", "--export-all", f"--base-path={place.scratch}"]
    argv += [f"--listen={address}" for address in place.addresses]
    return [place.start(*argv, f"--port={PORT}")]


def visit(place: ClientPlace) -> None:
    """Clone once or again and again, whole or shallow, and ask for news now and then."""
    rng = place.rng
    for count in range(rng.randint(1, 6)):
        url = f"git://{place.server}:{PORT}/{rng.choice(list(SIZES))}/.git"
        tree = place.scratch / str(count)
        shallow = rng.random() < 0.3
        place.run("git", "clone", "-q", *(["--depth=1"] if shallow else []), url, tree)
        place.pause(rng.expovariate(1))
        if shallow or rng.random() < 0.2:
            more = ["--unshallow"] if shallow else []
            place.run("git", "-C", tree, "fetch", "-q", *more)
        if place.left <= 0:
            break


PROGRAMS = (
    Program(
        name="git",
        label=OTHER,
        category="download",
        needs=("git", "/usr/lib/git-core/git-daemon"),
        modules=(),
        ports=(("tcp", PORT),),
        serve=serve,
        visit=visit,
    ),
)
