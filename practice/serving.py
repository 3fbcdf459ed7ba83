"""Serving of a practice server: address, clock speed, start and shutdown."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import signal
import socket
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from aiohttp import web
from aiohttp.typedefs import Handler

from foundation.cli import FlagParser, find_command, refuse_flag_conflicts
from foundation.errors import InputError
from practice.server import PracticeServer

MAX_CLOCK_SPEED = 1_000_000  # simulated seconds per second
SHUTDOWN_TIMEOUT_SECONDS = 0.5  # seconds for open requests to end, and again to cancel them
MAX_CONNECTIONS = 512
HEADER_TIMEOUT_SECONDS = 10.0  # seconds until the head of a connection's first request

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Address of a practice server, and speed of its clock.

    host: host name or IP address of the network interface.
    port: port, 1 … 65,535; 0 for any free port.
    clock_speed: simulated seconds per real second, above 0, at most 1,000,000; None: the clock
        waits for a client to move it.
    """

    host: str
    port: int
    clock_speed: float | None = None

    def __post_init__(self) -> None:
        if not self.host.strip():
            raise InputError(
                "--host: the value is empty; give a host name or an IP address (0.0.0.0 listens"
                " on all interfaces)"
            )
        if not 0 <= self.port < 65_536:
            raise InputError(f"--port: {self.port} is outside 1 … 65535; use 0 for any free port")
        if self.clock_speed is not None and not 0 < self.clock_speed <= MAX_CLOCK_SPEED:
            raise _speed_error(f"{self.clock_speed:g}")

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def url_for_listener(self, listener: socket.socket) -> str:
        """Return the URL for clients; its port is that of a listening socket."""
        return replace(self, port=listener.getsockname()[1]).url

    def open_listener(self) -> socket.socket:
        """Open a socket that listens on the address. Raises `InputError` if that fails."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            return socket.create_server((self.host, self.port), family=family)
        except (OSError, UnicodeError) as error:
            why = str(getattr(error, "strerror", None) or error).partition(" (while ")[0]
            code = getattr(error, "errno", None)
            if code in (errno.EADDRINUSE, errno.EACCES):
                cure = "choose another such as --port 8005, or use --port 0 for a free one"
                if code == errno.EADDRINUSE:
                    cure = f"stop the process that uses the port, {cure}"
                raise InputError(f"--port: cannot listen on {self.url}: {why}; {cure}") from error
            raise InputError(
                f"--host: cannot listen on {self.host!r}: {why}; use an address of this machine,"
                " such as 127.0.0.1"
            ) from error


class ServerArgumentParser(FlagParser):
    """Command-line parser of practice servers: flags, address, and key=value overrides.

    module: Python module of the command.
    port: default port.
    """

    def __init__(self, module: str, port: int) -> None:
        super().__init__(settings=True)
        self._module = module
        self.add_argument("--speed", default="wait")
        self.add_argument("--host", default="127.0.0.1")
        self.add_argument("--port", type=int, default=port)

    def parse(self, words: Sequence[str]) -> tuple[Namespace, ServerOptions]:
        """Parse command-line arguments; return the flags, and the server's address and clock speed.

        Raises `InputError` with the flag, the value and what was expected.
        """
        arguments = self.parse_intermixed_args(list(words))
        self.refuse_non_overrides(arguments.overrides)
        refuse_flag_conflicts(find_command(self._module).flag_by_setting, words)
        speed = _parse_speed(arguments.speed)
        return arguments, ServerOptions(arguments.host, arguments.port, speed)


def serve(options: ServerOptions, build_server: Callable[[], tuple[PracticeServer, str]]) -> None:
    """Build a practice server and serve it until SIGINT or SIGTERM.

    options: address and clock speed.
    build_server: returns the server and a description of its market; it may take a minute.

    Raises `InputError` before the build if the address cannot be bound.
    """
    options.open_listener().close()
    server, about = build_server()
    listener = options.open_listener()
    sys.stdout.write(f"{options.url_for_listener(listener)}: {about}\n")
    # A process that starts the server waits for this line.
    sys.stdout.flush()
    server.host = options.host
    asyncio.run(_serve(server.build_app(), listener))


async def _serve(app: web.Application, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    told_to_end = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told_to_end.set)
    limit = ConnectionLimiter()
    app.middlewares.append(limit.handle_active_request)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_SECONDS)
    await runner.setup()
    assert runner.server is not None
    server = runner.server
    listening = await loop.create_server(lambda: limit.accept(server), sock=listener)
    try:
        await told_to_end.wait()
    finally:
        listening.close()
        await runner.cleanup()


class ConnectionLimiter:
    """Limits the number of connections, and the time until a connection's first request.

    A connection that has sent no request (silent) is closed after `HEADER_TIMEOUT_SECONDS`, or
    earlier if a new connection needs its place. A client that has sent a request keeps its
    connection. aiohttp itself limits lines, headers, bodies and idle time only.
    """

    def __init__(self) -> None:
        # Half of the files that the process may open; the venue needs the others.
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        unlimited = allowed == resource.RLIM_INFINITY
        self._limit = MAX_CONNECTIONS if unlimited else min(MAX_CONNECTIONS, allowed // 2)
        self._silent: set[web.RequestHandler] = set()
        self._was_full = False

    @web.middleware
    async def handle_active_request(
        self, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Mark the connection of a request as not silent, and handle the request."""
        self._silent.discard(request.protocol)
        return await handler(request)

    def accept(self, server: web.Server) -> web.RequestHandler:
        """Accept a connection and return its protocol.

        At the limit of connections the oldest one without a request is closed first.
        """
        connections = server.connections
        if len(connections) >= self._limit:
            self._drop(next((each for each in connections if each in self._silent), None))
            if not self._was_full:
                self._was_full = True
                log.warning(
                    "limit of %d open connections reached: closing idle connections to"
                    " accept new ones",
                    self._limit,
                )
        accepted = server()
        self._silent.add(accepted)
        asyncio.get_running_loop().call_later(HEADER_TIMEOUT_SECONDS, self._drop, accepted)
        return accepted

    def _drop(self, connection: web.RequestHandler | None) -> None:
        if connection in self._silent:
            self._silent.remove(connection)
            connection.force_close()


def _parse_speed(word: str) -> float | None:
    """Parse simulated seconds per real second.

    None for `wait`: the clock waits for a client to move it.
    """
    try:
        return None if word == "wait" else float(word)
    except ValueError:
        raise _speed_error(word) from None


def _speed_error(word: str) -> InputError:
    return InputError(
        f"--speed: {word!r} is invalid; use wait, or a number above 0 and at most"
        f" {MAX_CLOCK_SPEED:,}"
    )
