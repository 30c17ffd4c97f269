"""HTTP servers: uvicorn and hypercorn themselves, nginx and caddy in front of uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from llmflow.errors import LabError
from llmflow.lab.servers.app import App
from llmflow.lab.servers.book import Book
from llmflow.lab.servers.config import ServerConfig
from llmflow.lab.servers.tls import server_context

_IDLE = 600  # seconds a connection may rest between two exchanges
_PATIENCE = 15.0  # seconds for a program to start or to end


@contextlib.asynccontextmanager
async def uvicorn(config: ServerConfig, book: Book) -> AsyncIterator[None]:
    """HTTP/1.1 over TLS."""
    sockets = [_listener(address, config.port) for address in config.addresses]
    async with _uvicorn(book, sockets, ssl_context_factory=lambda *_: server_context(config)):
        yield


@contextlib.asynccontextmanager
async def hypercorn(config: ServerConfig, book: Book) -> AsyncIterator[None]:
    """HTTP/1.1 and 2 over TLS, HTTP/3 on the same port of UDP."""
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from hypercorn.protocol import quic

    from llmflow.lab.servers.h3 import LeavingH3

    vars(quic)["H3Protocol"] = LeavingH3
    settings = Config()
    binds = [f"{address}:{config.port}" for address in config.addresses]
    settings.bind, settings.quic_bind = binds, [] if config.tls12 else list(binds)
    settings.certfile, settings.keyfile = config.certificate, config.key
    settings.alpn_protocols = ["h2", "http/1.1"]
    settings.keep_alive_timeout = _IDLE
    settings.graceful_timeout = 0.1
    settings.backlog = 2048
    settings.errorlog = None
    context = server_context(config, ("h2", "http/1.1"))
    settings.create_ssl_context = lambda: context  # type: ignore[method-assign]
    stop = asyncio.Event()
    app: Any = App(book)
    async with _running(serve(app, settings, shutdown_trigger=stop.wait), stop.set):
        yield


@contextlib.asynccontextmanager
async def nginx(config: ServerConfig, book: Book) -> AsyncIterator[None]:
    """HTTP/1.1 and 2 over TLS by nginx."""
    folder = Path(config.folder).resolve()
    listen = "".join(f"    listen {a}:{config.port} ssl http2;\n" for a in config.addresses)
    (folder / "nginx.conf").write_text(
        _NGINX.format(
            folder=folder,
            user="user root;" if os.geteuid() == 0 else "",
            listen=listen,
            certificate=config.certificate,
            key=config.key,
            versions="TLSv1.2" if config.tls12 else "TLSv1.2 TLSv1.3",
            idle=_IDLE,
        )
    )
    argv = ["nginx", "-p", f"{folder}/", "-c", f"{folder}/nginx.conf", "-e", f"{folder}/nginx.log"]
    async with _behind(folder, book, argv):
        yield


@contextlib.asynccontextmanager
async def caddy(config: ServerConfig, book: Book) -> AsyncIterator[None]:
    """HTTP/1.1, 2 and 3 by caddy."""
    folder = Path(config.folder).resolve()
    (folder / "Caddyfile").write_text(
        _CADDY.format(
            folder=folder,
            port=config.port,
            addresses=" ".join(config.addresses),
            certificate=config.certificate,
            key=config.key,
            most="tls1.2" if config.tls12 else "tls1.3",
            idle=_IDLE,
        )
    )
    argv = ["caddy", "run", "--adapter", "caddyfile", "--config", f"{folder}/Caddyfile"]
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    async with _behind(folder, book, argv, env=home):
        yield


# One worker: a second would share the ports, and sessions are too few to be dealt out evenly. It is
# root's where root starts it, as the socket may lie in a folder that others cannot enter.
_NGINX = """\
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  error_log {folder}/nginx.log;
  client_body_temp_path {folder}/bodies;
  proxy_temp_path {folder}/proxied;
  fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u;
  scgi_temp_path {folder}/s;
  client_max_body_size 0;
  keepalive_timeout {idle}s;
  keepalive_requests 100000;
  upstream app {{ server unix:{folder}/app.sock; keepalive 64; }}
  server {{
{listen}
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols {versions};
    location / {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header x-lab-peer $remote_addr:$remote_port;
      proxy_buffering off;
      proxy_request_buffering off;
      proxy_read_timeout {idle}s;
      proxy_send_timeout {idle}s;
    }}
  }}
}}
"""

_CADDY = """\
{{
  admin off
  auto_https off
  skip_install_trust
  log {{
    output file {folder}/caddy.log
    level ERROR
  }}
  servers {{
    protocols h1 h2 h3
    timeouts {{
      idle {idle}s
    }}
  }}
}}
https://:{port} {{
  bind {addresses}
  tls {certificate} {key} {{
    protocols tls1.2 {most}
  }}
  reverse_proxy unix/{folder}/app.sock {{
    flush_interval -1
    header_up x-lab-peer {{remote}}
  }}
}}
"""


@contextlib.asynccontextmanager
async def _behind(
    folder: Path, book: Book, argv: list[str], env: dict[str, str] | None = None
) -> AsyncIterator[None]:
    """Run a proxy in front of uvicorn on a socket in a folder."""
    path = folder / "app.sock"
    path.unlink(missing_ok=True)
    inner = socket.socket(socket.AF_UNIX)
    inner.bind(str(path))
    async with _uvicorn(book, [inner]):
        try:
            with (folder / "stderr.log").open("wb") as log:
                program = await asyncio.create_subprocess_exec(
                    *argv, stdin=asyncio.subprocess.DEVNULL, stderr=log, env=env
                )
        except FileNotFoundError:
            raise LabError("is not installed", where=argv[0], hint="install it") from None
        ended = program.wait()
        async with _running(ended, program.terminate):
            yield


@contextlib.asynccontextmanager
async def _uvicorn(book: Book, sockets: list[socket.socket], **more: Any) -> AsyncIterator[None]:
    from uvicorn import Config, Server

    app: Any = App(book)
    settings = Config(
        app,
        http="httptools",
        loop="none",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_keep_alive=_IDLE,
        timeout_graceful_shutdown=1,
        **more,
    )
    server = Server(settings)

    def stop() -> None:
        server.should_exit = server.force_exit = True

    # Not `serve`, which takes the signals of the process for itself.
    async with _running(server._serve(sockets), stop):
        while not server.started:
            await asyncio.sleep(0.01)
        yield


@contextlib.asynccontextmanager
async def _running(
    work: Coroutine[Any, Any, object], stop: Callable[[], object]
) -> AsyncIterator[None]:
    """Have a server at work meanwhile; an end of its own accord ends this too."""
    task = asyncio.ensure_future(work)
    here = asyncio.current_task()
    early = False

    def ended(_: object) -> None:
        nonlocal early
        early = True
        if here is not None:
            here.cancel()

    task.add_done_callback(ended)
    try:
        yield
    except asyncio.CancelledError:
        if early:
            raise LabError(f"ended before its time ({task.exception()})", where="server") from None
        raise
    finally:
        task.remove_done_callback(ended)
        with contextlib.suppress(ProcessLookupError):
            stop()
        if not early:
            await asyncio.wait((task,), timeout=_PATIENCE)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _listener(address: str, port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    return listener
