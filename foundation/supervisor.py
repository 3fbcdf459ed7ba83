"""What a process says to its supervisor: that it is ready, that it is alive, what it does.

systemd listens on a datagram socket that the environment of the process names, and starts a process
again that has been silent for too long (sd_notify(3), sd_watchdog_enabled(3)).
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from foundation.errors import InputError

log = logging.getLogger(__name__)

SOCKET = "NOTIFY_SOCKET"
WATCHDOG = "WATCHDOG_USEC"
WATCHDOG_PROCESS = "WATCHDOG_PID"
PATIENCE = 1.0  # seconds that a message may take where nobody reads
LONGEST_ADDRESS = 107  # bytes, those of a socket's name in Linux
_FIELD = re.compile(r"[A-Z][A-Z_]*")


@dataclass(frozen=True, slots=True)
class Supervisor:
    """Whoever supervises this process, or nobody.

    address: of its socket, a path or an abstract name that begins with `@`; empty for nobody.
    watchdog: seconds between two signs of life; none where nobody waits for them.

    Raises
    ------
    InputError
        for an address that is no socket's, and seconds that are not above 0.
    """

    address: str = ""
    watchdog: float | None = None

    def __post_init__(self) -> None:
        if self.address and self.address[0] not in "/@":
            raise InputError(f"{SOCKET}: {self.address!r} is no path and no name after an @")
        if len(os.fsencode(self.address)) > LONGEST_ADDRESS:
            raise InputError(f"{SOCKET}: {self.address!r} is longer than a socket's name may be")
        if self.watchdog is not None and not self.watchdog > 0:
            raise InputError(f"watchdog: {self.watchdog} is not above 0 seconds")

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Supervisor:
        """The one that an environment names.

        Raises
        ------
        InputError
            naming the variable and what is wrong with it.
        """
        return cls(environment.get(SOCKET, ""), watchdog_seconds(environment))

    def notify(self, **fields: object) -> None:
        """Tell it something, as `notify(READY=1, STATUS="waits for 15:30")`.

        A message that does not get through is logged and ends nothing: a supervisor that does not
        hear from the process starts it again.

        Raises
        ------
        ValueError
            for a field that is not upper-case letters and underscores.
        """
        for name in fields:
            if not _FIELD.fullmatch(name):
                raise ValueError(f"field {name!r} is not upper-case letters and underscores")
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


def watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """Seconds between two signs of life: half of those after which a silent process is ended.

    None where nobody waits for them, or waits for those of another process.

    Raises
    ------
    InputError
        for a variable that is no number above 0.
    """
    process = _whole(environment, WATCHDOG_PROCESS)
    microseconds = _whole(environment, WATCHDOG)
    if microseconds is None or process not in (None, os.getpid()):
        return None
    return microseconds / 2e6


def _whole(environment: Mapping[str, str], name: str) -> int | None:
    """A variable's number; None where it is not set."""
    text = environment.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise InputError(f"{name}: {text!r} is no whole number above 0")
    return int(text)
