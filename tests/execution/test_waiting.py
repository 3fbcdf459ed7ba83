"""A venue that is away is waited for, and said to be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from execution.live import runner
from execution.live.account import LiveAccount
from execution.live.runner import VenueLoopClock
from foundation.errors import BrokerError, InputError
from foundation.notifier import Supervisor
from tests.support.messages import refused

NOON = np.datetime64("2024-10-01T12:00", "ns")
SECOND = np.timedelta64(1, "s")


class Venue:
    """A connection to a venue that is away when it is said to be."""

    def __init__(self) -> None:
        self.shown = NOON
        self.account = "mine"
        self.away = False

    def now(self) -> np.datetime64:
        if self.away:
            raise BrokerError("the clock: no answer")
        return self.shown

    def estimated_now(self) -> np.datetime64:
        return self.shown

    def account_id(self) -> str:
        if self.away:
            raise BrokerError("the account: no answer")
        return self.account


class Account:
    """The account that was traded at first, at a venue."""

    def __init__(self, venue: Venue) -> None:
        self.connection = venue
        self.account = SimpleNamespace(name="mine")

    check_account_id = LiveAccount.check_account_id


def watched(venue: Venue) -> VenueLoopClock:
    return VenueLoopClock(Account(venue))  # type: ignore[arg-type]


def test_venue_outage_and_return_are_announced(capsys: pytest.CaptureFixture[str]) -> None:
    venue = Venue()
    clock = watched(venue)
    assert clock.now() == NOON
    assert clock.is_responding()
    venue.away = True
    for _ in range(30):
        assert clock.now() == NOON
        assert not clock.is_responding()
    venue.away = False
    venue.shown = NOON + 160 * SECOND
    assert clock.now() == venue.shown
    assert clock.is_responding()
    assert capsys.readouterr().out.splitlines() == [
        "Waiting for the venue, retrying every few seconds: the clock: no answer.",
        "The venue responds again; its clock shows 2024-10-01T12:02Z.",
    ]


@pytest.mark.parametrize("away", [True, False], ids=["away", "put back"])
def test_venue_returning_with_another_account_is_refused(away: bool) -> None:
    """A clock that goes back is refused as well; each further clock reading costs one request."""
    venue = Venue()
    clock = watched(venue)
    clock.now()
    if away:
        venue.away = True
        clock.now()
        venue.away = False
    venue.account = "another"
    if not away:
        venue.shown = NOON + SECOND
        assert clock.now() == venue.shown
        venue.shown = NOON - 3600 * SECOND
    with refused(InputError, "another", "mine"):
        clock.now()


class Waits:
    """Told to stop after so many waits, of which none takes time."""

    def __init__(self, count: int) -> None:
        self.left = count

    def __bool__(self) -> bool:
        return self.left == 0

    def wait(self, seconds: float) -> None:
        self.left -= 1


def test_loop_reports_waiting_for_an_unreachable_venue(capsys: pytest.CaptureFixture[str]) -> None:
    venue: Any = Venue()
    venue.away = True
    stop: Any = Waits(5)
    supervisor = Supervisor.from_environment({})
    assert runner.request_until_response(venue.account_id, stop, supervisor, retry=True) is None
    told, ended = capsys.readouterr().out.splitlines()
    assert told == "Waiting for the venue, retrying every 15 s: the account: no answer."
    assert ended == "Stopped while waiting for the venue; no orders were sent."
