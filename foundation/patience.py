"""How long a request to a venue may take: settings that every broker has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foundation.settings import setting, settings_class

if TYPE_CHECKING:
    from foundation.transport import Pace, Signer, Transport

CONNECT_SECONDS = 5.0  # to connect; a handshake that takes longer is of a network that is down


@settings_class("broker")
class RequestSettings:
    """How long a request may take, and how often a read is repeated."""

    read_timeout: float = setting(
        20.0, "seconds to wait for the next bytes of an answer", ge=0.01, le=600
    )
    deadline: float = setting(
        30.0,
        "seconds that a request may take, repeats included, waits that the venue asks for not",
        ge=0.01,
        le=600,
    )
    attempts: int = setting(4, "of a read; orders are never repeated", ge=1, le=10)

    def transport(self, pace: Pace, signer: Signer | None = None) -> Transport:
        """What sends requests so; pace: of the address; signer: as `Transport` has it."""
        from foundation.transport import Transport

        timeout = CONNECT_SECONDS, self.read_timeout
        return Transport(timeout, self.deadline, self.attempts, pace, signer)
