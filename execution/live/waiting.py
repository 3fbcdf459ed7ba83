"""What a loop waits for: its next pass, and a venue that does not answer."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from execution.alpaca.connection import SETBACK
from execution.live.account import LiveAccount
from execution.live.lines import say
from foundation.errors import AnswerRefused, BrokerError
from trainingdata.instants import utc_text
from trainingdata.instruments import Kind, instrument
from trainingdata.sessions import holding_end, in_session, is_decision

log = logging.getLogger("live")

NAMES = {Kind.STOCK: "stocks", Kind.CRYPTO: "coins"}
REFUSALS = 3  # readings in a row that make no sense, after which the next step meets them


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
    """A venue's clock, as the loop reads it while it waits.

    live: the account there, which is looked at when the venue is back, or its clock has gone back.
    """

    def __init__(self, live: LiveAccount) -> None:
        self._live = live
        self._connection = live.connection
        self._away = False
        self._refusals = 0
        self._shown: np.datetime64 | None = None

    def answers(self) -> bool:
        """Whether the venue answered when its clock was last read.

        Three answers in a row that make no sense are answers: the next step is refused by what they
        say, and nobody waits for better ones.
        """
        return not self._away or self._refusals >= REFUSALS

    def __call__(self) -> np.datetime64:
        """What the venue's clock shows, or must show by now where it does not answer.

        Raises
        ------
        InputError
            for a venue that is back with another account.
        """
        try:
            now = self._connection.now()
            if self._away or (self._shown is not None and now < self._shown - SETBACK):
                self._live.refuse_another_account()
        except BrokerError as error:
            log.warning("%s", error)
            self._refusals = self._refusals + 1 if isinstance(error, AnswerRefused) else 0
            if not self._away:
                say(f"Waiting for the venue, which is asked again every few seconds: {error}.")
            self._away = True
            return self._estimated_now()
        if self._away:
            say(f"The venue answers again; its clock is {utc_text(now)}.")
        self._away = False
        self._refusals = 0
        self._shown = now
        return now

    def _estimated_now(self) -> np.datetime64:
        try:
            return self._connection.estimated_now()
        except BrokerError:
            return self._connection.time.now()
