"""Whether a venue is still the one, at a time, that an account's journal goes on from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from execution.alpaca.connection import VenueConnection
from execution.live.cycle import next_instant
from execution.live.lines import say_aside
from foundation.counts import counted
from foundation.errors import InputError
from trainingdata.instants import DAY, utc_text

CLOCK_ERROR = np.timedelta64(2, "h")  # of a venue's clock, at most


class AnotherAccount(InputError):
    """The venue's account is not the one that the process began with."""


class Footing:
    """The account that a process trades, and where its last pass left the venue's clock.

    connection: to its venue.
    account_id: whose journal is written.
    symbols: that are traded, which say when a pass was due.
    practice: whether the venue is on this machine, where a server may be begun again.
    """

    def __init__(
        self,
        connection: VenueConnection,
        account_id: str,
        symbols: Sequence[str],
        *,
        practice: bool,
    ) -> None:
        self._connection = connection
        self._account_id = account_id
        self._symbols = symbols
        self._practice = practice

    def refuse_another_account(self) -> None:
        """Refuse a venue whose account is another one than at the start.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        AnotherAccount
            as of a practice server that was begun again.
        """
        found = self._connection.account_id()
        if found != self._account_id:
            raise AnotherAccount(
                f"the venue's account is {found} now, and this process trades"
                f" {self._account_id}: the practice server was begun again, and knows none of its"
                " orders. Its journal stays as it is; start this again to trade the new account"
            )

    def check(self, now: np.datetime64, last: np.datetime64 | None) -> None:
        """Look whether a pass may be made, and say where the clock has left passes out.

        now: instant that the venue's clock shows.
        last: at which the journal's last pass began; none before there was one.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        InputError
            for another account, and for a practice server's clock that went back.
        """
        if self._practice:
            self.refuse_another_account()
        if last is None:
            return
        shown = f"clock shows {utc_text(now)}, and the journal's last pass"
        if now < last - CLOCK_ERROR:
            line = f"{shown} was at {utc_text(last)}, which is later"
            if self._practice:
                raise InputError(
                    f"the venue's {line}: nothing is decided a second time. Begin the practice"
                    " server again, or name a new folder=FOLDER for the journal"
                )
            say_aside(f"The venue's {line}.")
        elif now - next_instant(last, self._symbols) > DAY:
            days = counted(round(float((now - last) / DAY)), "day")
            say_aside(
                f"The venue's {shown} was {days} before, at {utc_text(last)}: none was made in"
                " between."
            )
