"""What a process says to its supervisor: that it is ready, that it is alive, what it does.

systemd listens on a datagram socket that the environment of the process names, and starts a process
again that has been silent for too long (sd_notify(3), sd_watchdog_enabled(3)).
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from foundation.errors import InputError

log = logging.getLogger(__name__)

SOCKET = "NOTIFY_SOCKET"
WATCHDOG = "WATCHDOG_USEC"
WATCHDOG_PROCESS = "WATCHDOG_PID"
PATIENCE = 1.0  # seconds that a message may take where nobody reads


@dataclass(frozen=True, slots=True)
class Supervisor:
    """Whoever supervises this process, or nobody.

    address: of its socket, a path or an abstract name that begins with `@`; empty for nobody.
    watchdog: seconds between two signs of life, half of those after which a silent process is
        ended; none where nobody waits for them, or waits for those of another process.
    """

    address: str = ""
    watchdog: float | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Supervisor:
        """The one that an environment names."""
        address = environment.get(SOCKET, "")
        if address and address[0] not in "/@":
            raise InputError(f"{SOCKET}: {address!r} is no path and no name after an @")
        process = _whole(environment, WATCHDOG_PROCESS)
        microseconds = _whole(environment, WATCHDOG)
        if microseconds is None or process not in (None, os.getpid()):
            return cls(address)
        return cls(address, microseconds / 2e6)

    def notify(self, **fields: object) -> None:
        """Tell it something, as `notify(READY=1, STATUS="waits for 15:30")`.

        A message that does not get through is logged and ends nothing: a supervisor that does not
        hear from the process starts it again.
        """
        if not self.address:
            return
        # A field ends with its line: a value of several lines would be several fields.
        lines = [f"{name}={' '.join(str(value).split())}" for name, value in fields.items()]
        address = os.fsencode(self.address)
        if address.startswith(b"@"):
            address = b"\0" + address[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.settimeout(PATIENCE)
                channel.sendto("\n".join(lines).encode(errors="replace"), address)
        except OSError as error:
            log.warning("%s does not hear: %s", SOCKET, error.strerror or error)


def _whole(environment: Mapping[str, str], name: str) -> int | None:
    """A variable's number; None where it is not set."""
    text = environment.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise InputError(f"{name}: {text!r} is no whole number above 0")
    return int(text)
