"""Who waits is told until when, for what, and why not for everything."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from execution.live import runner
from execution.live.footing import Footing
from execution.live.waiting import WatchedClock, waiting_line
from foundation.clock import Time
from foundation.errors import BrokerError, InputError
from foundation.supervisor import Supervisor

BOTH = ("NVDA", "BTCUSD")


@pytest.mark.parametrize(
    ("due", "symbols", "line"),
    [
        (
            "2024-10-05T15:00",
            BOTH,
            "15:00Z, coins only: stocks are shut, again at 2024-10-07T14:30Z.",
        ),
        ("2024-10-01T15:00", BOTH, "15:00Z, coins only: stocks again at 2024-10-01T15:30Z."),
        ("2024-10-01T15:30", BOTH, "15:30Z, stocks only: coins again at 2024-10-01T16:00Z."),
        ("2024-10-01T15:30", ("NVDA",), "15:30Z."),
        ("2024-10-05T15:00", ("BTC/USD",), "15:00Z."),
        ("2024-10-01T19:45", BOTH, "19:45Z."),
    ],
)
def test_a_pass_is_announced_with_what_may_be_decided_then(
    due: str, symbols: tuple[str, ...], line: str
) -> None:
    at = np.datetime64(due, "ns")
    assert waiting_line(at, symbols) == f"The next pass is at {due[:11]}{line}"


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


def footing(venue: Any, *, practice: bool = True) -> Footing:
    return Footing(venue, "mine", BOTH, practice=practice)


def watched(venue: Any, step: float) -> WatchedClock:
    """A clock that is read every so many seconds."""
    seconds = itertools.count(0.0, step)
    venue.time = Time(elapsed=lambda: next(seconds))
    return WatchedClock(venue, footing(venue))


def test_a_venue_that_is_away_is_said_at_once_and_once_a_minute_until_it_is_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    venue = Venue()
    clock = watched(venue, 5.0)
    assert clock() == NOON
    assert clock.answers()
    venue.away = True
    for _ in range(30):
        assert clock() == NOON
        assert not clock.answers()
    venue.away = False
    venue.shown = NOON + 160 * SECOND
    assert clock() == venue.shown
    assert clock.answers()
    assert capsys.readouterr().out.splitlines() == [
        "Waiting for the venue, which is asked again every few seconds: the clock: no answer.",
        "Waiting for the venue for 1 min: the clock: no answer.",
        "Waiting for the venue for 2 min: the clock: no answer.",
        "The venue answers again, after 150 s; its clock is 2024-10-01T12:02Z.",
    ]


def test_a_venue_that_is_back_with_another_account_is_refused() -> None:
    venue = Venue()
    clock = watched(venue, 5.0)
    clock()
    venue.away = True
    clock()
    venue.away = False
    venue.account = "another"
    with pytest.raises(InputError, match="account is another now, and this process trades mine"):
        clock()


def test_a_clock_that_goes_back_between_two_readings_has_its_account_looked_at() -> None:
    venue = Venue()
    clock = watched(venue, 5.0)
    clock()
    venue.account = "another"
    venue.shown = NOON + SECOND
    assert clock() == venue.shown, "each reading of the clock costs one request"
    venue.shown = NOON - 3600 * SECOND
    with pytest.raises(InputError, match="the practice server was begun again"):
        clock()


def test_a_clock_that_stands_still_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    venue = Venue()
    clock = watched(venue, 5.0)
    for _ in range(12):
        clock()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("The venue's clock stands at 2024-10-01T12:00Z: a practice server's")
    venue.shown = NOON + SECOND
    for _ in range(3):
        clock()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("practice", [True, False])
def test_a_clock_behind_the_journal_is_refused_of_a_practice_server_and_said_of_a_real_one(
    practice: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    at = footing(Venue(), practice=practice)
    at.check(NOON, NOON + np.timedelta64(2, "h"))
    assert capsys.readouterr().err == ""
    later = NOON + np.timedelta64(121, "m")
    if not practice:
        at.check(NOON, later)
        line = "The venue's clock shows 2024-10-01T12:00Z, and the journal's last pass was at"
        assert capsys.readouterr().err == f"{line} 2024-10-01T14:01Z, which is later.\n"
        return
    with pytest.raises(InputError) as refused:
        at.check(NOON, later)
    for named in ("2024-10-01T12:00Z", "2024-10-01T14:01Z", "Begin the practice server again"):
        assert named in str(refused.value)


@pytest.mark.parametrize(
    ("symbols", "last", "now", "days"),
    [
        (BOTH, "2024-10-01T12:00", "2024-10-02T13:00", None),
        (BOTH, "2024-10-01T12:00", "2024-10-02T13:01", 1),
        (BOTH, "2024-10-01T12:00", "2024-10-11T12:00", 10),
        (("NVDA",), "2024-10-04T19:30", "2024-10-07T15:30", None),
        (("NVDA",), "2024-10-04T19:30", "2024-10-08T15:30", 4),
    ],
)
def test_passes_that_a_clock_has_left_out_are_said(
    symbols: tuple[str, ...],
    last: str,
    now: str,
    days: int | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    at = Footing(Venue(), "mine", symbols, practice=True)  # type: ignore[arg-type]
    at.check(np.datetime64(now, "ns"), np.datetime64(last, "ns"))
    shown = f"The venue's clock shows {now}Z, and the journal's last pass was"
    ago = "1 day" if days == 1 else f"{days} days"
    said = f"{shown} {ago} before, at {last}Z: none was made in between.\n"
    assert capsys.readouterr().err == ("" if days is None else said)


class Waits:
    """Told to stop after so many waits, of which none takes time."""

    def __init__(self, count: int) -> None:
        self.left = count

    def __bool__(self) -> bool:
        return self.left == 0

    def wait(self, seconds: float) -> None:
        self.left -= 1


def test_a_loop_that_begins_before_its_venue_is_there_says_so_at_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    venue: Any = Venue()
    venue.away = True
    stop: Any = Waits(5)
    minutes = itertools.count(0.0, 0.5)
    venue.time = Time(elapsed=lambda: 60 * next(minutes))
    supervisor = Supervisor.of({})
    assert runner.awaited(venue.account_id, stop, supervisor, venue.time, patient=True) is None
    waiting = "Waiting for the venue, asked every 15 s: the account: no answer."
    *told, ended = capsys.readouterr().out.splitlines()
    assert told == [waiting] * len(told)
    assert 1 < len(told) < 5
    assert ended == "Stopped while it waited for the venue: nothing was sent."
