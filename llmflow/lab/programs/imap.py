"""IMAP over TLS: reading mail, and waiting for new mail."""

from __future__ import annotations

import imaplib
import shutil
import threading

from llmflow.lab.programs import ClientPlace, Program, ServerPlace
from llmflow.lab.programs._place import Popen, trusting
from llmflow.lab.script import OTHER

TIMEOUT = 15.0  # seconds
PORT, USER = 993, "mail"  # mail never belongs to root
DOVECOT = """
base_dir = {root}/run
log_path = /dev/stderr
protocols = imap
listen = {addresses}
ssl = required
ssl_cert = <{certificate}
ssl_key = <{key}
first_valid_uid = 1
mail_location = maildir:~/mail
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid={user} gid={user} home={root}/homes/%u
}}
service imap-login {{
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    port = {port}
    ssl = yes
  }}
}}
"""


def serve(place: ServerPlace) -> list[Popen]:
    """Dovecot with an empty mailbox for whoever comes."""
    homes, config = place.scratch / "homes", place.scratch / "dovecot.conf"
    homes.mkdir()
    shutil.chown(homes, USER, USER)
    config.write_text(
        DOVECOT.format(
            root=place.scratch,
            addresses=" ".join(place.addresses),
            certificate=place.certificate,
            key=place.key,
            user=USER,
            port=PORT,
        )
    )
    return [place.start("dovecot", "-F", "-c", config)]


def visit(place: ClientPlace) -> None:
    """Read what is there, or wait while something else delivers."""
    with _login(place) as delivery:
        if place.rng.random() < 0.5:
            _read(place, delivery)
        else:
            _wait(place, delivery)


def _login(place: ClientPlace) -> imaplib.IMAP4_SSL:
    trust = trusting(place.authority)
    made = imaplib.IMAP4_SSL(place.server, PORT, ssl_context=trust, timeout=TIMEOUT)
    made.login(f"user{place.number}", "any")
    place.connected("tcp", made.socket().getsockname(), made.socket().getpeername())
    return made


def _deliver(place: ClientPlace, to: imaplib.IMAP4_SSL) -> None:
    words = place.rng.randbytes(int(place.rng.lognormvariate(6, 1.5)) % 50_000).hex()
    lines = "\r\n".join(words[at : at + 72] for at in range(0, len(words), 72))
    mail = f"From: a@lab.test\r\nSubject: {words[:20]}\r\n\r\n{lines}\r\n"
    to.append("INBOX", "", "", mail.encode())


def _read(place: ClientPlace, connection: imaplib.IMAP4_SSL) -> None:
    rng = place.rng
    count, pace = rng.randint(3, 25), rng.choice((0.05, 0.3, 1))
    for _ in range(count):
        _deliver(place, connection)
    connection.select()
    while place.left > 0:
        part = rng.choice(("(FLAGS)", "(BODY.PEEK[HEADER])", "(RFC822)"))
        connection.fetch(str(rng.randint(1, count)), part)
        place.pause(rng.expovariate(1 / pace))


def _wait(place: ClientPlace, delivery: imaplib.IMAP4_SSL) -> None:
    with _login(place) as waiting:
        waiting.select()
        waiting.send(b"idle IDLE\r\n")  # RFC 2177, not in imaplib
        reader = threading.Thread(target=_read_on, args=(waiting,), daemon=True)
        reader.start()
        gap = place.rng.choice((0.2, 0.6, 2))
        while place.left > 0:
            _deliver(place, delivery)
            place.pause(min(place.rng.expovariate(1 / gap), TIMEOUT / 2))
        waiting.send(b"DONE\r\n")
        reader.join(TIMEOUT)


def _read_on(connection: imaplib.IMAP4_SSL) -> None:
    for line in iter(connection.readline, b""):
        if line.startswith(b"idle "):
            break


PROGRAMS = (
    Program(
        name="imap",
        label=OTHER,
        category="mail",
        needs=("dovecot",),
        modules=(),
        ports=(("tcp", PORT),),
        serve=serve,
        visit=visit,
    ),
)
