"""Where a practice server listens, and how fast its clock runs."""

from __future__ import annotations

import errno
import socket
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, replace

from foundation.errors import InputError

FASTEST = 1_000_000  # simulated seconds a second


@dataclass(frozen=True, slots=True)
class Serving:
    """An address, and the speed of a clock.

    host: name or number of an interface.
    port: 1 … 65,535; 0 for any free one.
    speed: simulated seconds a second, above 0, at most 1,000,000; none waits for a client.
    """

    host: str
    port: int
    speed: float | None = None

    def __post_init__(self) -> None:
        if not self.host.strip():
            raise InputError("--host: a name or a number is needed; 0.0.0.0 is every interface")
        if not 0 <= self.port < 65_536:
            raise InputError(f"--port: {self.port} is outside 1 … 65535, and not 0 for a free one")
        if self.speed is not None and not 0 < self.speed <= FASTEST:
            raise _no_speed(f"{self.speed:g}")

    @classmethod
    def of(cls, arguments: Namespace) -> Serving:
        """What the flags say.

        Raises
        ------
        InputError
            naming the flag, the value and what was expected.
        """
        return cls(arguments.host, arguments.port, _speed(arguments.speed))

    @property
    def url(self) -> str:
        """As a client writes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def url_of(self, listener: socket.socket) -> str:
        """As a client writes it, with the port that was taken."""
        return replace(self, port=listener.getsockname()[1]).url

    def listener(self) -> socket.socket:
        """The address, taken.

        Raises
        ------
        InputError
            for one that cannot be.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            return socket.create_server((self.host, self.port), family=family)
        except (OSError, UnicodeError) as error:
            reason = self._reason(error)
            raise InputError(f"--port: {self.url} cannot be served: {reason}") from error

    def refuse_taken(self) -> None:
        """Refuse an address that cannot be taken, before any work is done for it.

        Raises
        ------
        InputError
            as `listener`; the address is free again.
        """
        self.listener().close()

    def _reason(self, error: Exception) -> str:
        """Why the address cannot be taken, and what to do."""
        number = getattr(error, "errno", None)
        if number == errno.EACCES:
            return "this user may not take a port below 1024; name another, as --port 8000"
        if number == errno.EADDRINUSE:
            other = self.port + 1 if self.port < 65_535 else self.port - 1
            return f"another program listens there; end it, or name a port, as --port {other}"
        return str(getattr(error, "strerror", None) or error)


def add_serving_flags(parser: ArgumentParser, port: int) -> None:
    """Declare --speed, --host and --port; port: unless another is named."""
    parser.add_argument("--speed", default="wait")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=port)


def _speed(word: str) -> float | None:
    """Simulated seconds a second; none where the clock waits for a client."""
    if word == "wait":
        return None
    try:
        return float(word)
    except ValueError:
        raise _no_speed(word) from None


def _no_speed(word: str) -> InputError:
    return InputError(f"--speed: {word} is neither wait nor a number above 0, at most {FASTEST:,}")
