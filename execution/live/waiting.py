"""What a loop waits for: in a line when it begins to, and now and then while it cannot go on."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from execution.alpaca.connection import SETBACK, VenueConnection
from execution.live.footing import Footing
from execution.live.lines import say
from foundation.errors import AnswerRefused, BrokerError
from trainingdata.instants import utc_text
from trainingdata.instruments import Kind, instrument
from trainingdata.sessions import holding_end, in_session, is_decision

log = logging.getLogger("live")

NAMES = {Kind.STOCK: "stocks", Kind.CRYPTO: "coins"}
BETWEEN_LINES = 60.0  # seconds between two lines about a venue that does not answer
REFUSALS = 3  # readings in a row that make no sense, after which the next step meets them
STANDING = 20.0  # seconds after which a clock that shows the same instant stands still


def waiting_line(due: np.datetime64, symbols: Sequence[str]) -> str:
    """When the next pass is, what may be decided then, and why not everything."""
    at = np.array([due])
    kinds = [kind for kind in NAMES if kind in {instrument(symbol).kind for symbol in symbols}]
    deciding = [kind for kind in kinds if is_decision(kind, at)[0]]
    line = f"The next pass is at {utc_text(due)}"
    if not deciding or deciding == kinds:
        return f"{line}."
    [waiting] = [kind for kind in kinds if kind not in deciding]
    shut = waiting is Kind.STOCK and not in_session(at)[0]
    again = f"again at {utc_text(holding_end(waiting, due))}"
    why = f"{NAMES[waiting]} are shut, {again}" if shut else f"{NAMES[waiting]} {again}"
    return f"{line}, {NAMES[deciding[0]]} only: {why}."


class WatchedClock:
    """A venue's clock, as the loop reads it while it waits; what keeps it from going on is printed.

    connection: to the venue.
    footing: looked at when the venue is back, or its clock has gone back.
    """

    def __init__(self, connection: VenueConnection, footing: Footing) -> None:
        self._connection = connection
        self._footing = footing
        self._time = connection.time
        self._away_since: float | None = None
        self._said_at = 0.0
        self._refusals = 0
        self._shown: tuple[np.datetime64, float] | None = None
        self._said_standing = False

    def answers(self) -> bool:
        """Whether the venue answered when its clock was last read.

        Three answers in a row that make no sense are answers: the next step is refused by what they
        say, and nobody waits for better ones.
        """
        return self._away_since is None or self._refusals >= REFUSALS

    def __call__(self) -> np.datetime64:
        """What the venue's clock shows, or must show by now where it does not answer.

        Raises
        ------
        InputError
            for a venue that is back with another account.
        """
        try:
            now = self._connection.now()
            if self._away_since is not None or self._has_gone_back(now):
                self._footing.refuse_another_account()
        except BrokerError as error:
            log.warning("%s", error)
            self._refusals = self._refusals + 1 if isinstance(error, AnswerRefused) else 0
            self._say_away(error)
            return self._estimated_now()
        self._refusals = 0
        self._say_back(now)
        self._say_standing(now)
        return now

    def _estimated_now(self) -> np.datetime64:
        try:
            return self._connection.estimated_now()
        except BrokerError:
            return self._time.now()

    def _has_gone_back(self, now: np.datetime64) -> bool:
        return self._shown is not None and bool(now < self._shown[0] - SETBACK)

    def _say_away(self, error: BrokerError) -> None:
        elapsed = self._time.elapsed()
        if self._away_since is None:
            self._away_since = self._said_at = elapsed
            say(f"Waiting for the venue, which is asked again every few seconds: {error}.")
        elif elapsed - self._said_at >= BETWEEN_LINES:
            self._said_at = elapsed
            minutes = round((elapsed - self._away_since) / 60)
            say(f"Waiting for the venue for {minutes} min: {error}.")

    def _say_back(self, now: np.datetime64) -> None:
        if self._away_since is not None:
            seconds = self._time.elapsed() - self._away_since
            self._away_since = None
            say(f"The venue answers again, after {seconds:.0f} s; its clock is {utc_text(now)}.")

    def _say_standing(self, now: np.datetime64) -> None:
        elapsed = self._time.elapsed()
        if self._shown is None or self._shown[0] != now:
            self._shown = now, elapsed
            self._said_standing = False
        elif not self._said_standing and elapsed - self._shown[1] >= STANDING:
            self._said_standing = True
            say(
                f"The venue's clock stands at {utc_text(now)}: a practice server's waits for its"
                " client (--speed wait, moved by mode=replay), or its bars end there."
            )
