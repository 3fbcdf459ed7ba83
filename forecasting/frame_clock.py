"""The clock that the rows of a data frame keep: when its next bars are stamped.

A clock is regular, every so many minutes or days, or it is the exchange's: bars of some minutes or
an hour within its sessions, or one a session. A day is a day on the clock of a zone, which has 23
or 25 hours twice a year. Whether stamps are starts of bars or their ends is up to the frame: what
is made of them is stamped likewise.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from foundation.arrays import Index, Instants, Mask
from trainingdata.instants import DAY, HOUR
from trainingdata.sessions import beyond_calendar, stock_grid

Clock = Literal["auto", "regular", "exchange"]

# A day on a zone's clock has at least 23 hours; the exchange's sessions have 6.5 at most.
SHORTEST_DAY = 23 * HOUR
# Instants of a clock with gaps that are looked at for each stamp: more would be no clock.
SPARSEST = 100


def clock_instants(stamps: Instants, ahead: int, zone: tzinfo, clock: Clock) -> Instants | None:
    """The instants of the clock that stamps lie on, and at least `ahead` more; none where none is.

    Parameters
    ----------
    stamps
        [N] rising, at least two.
    ahead
        how many instants after the last stamp are needed.
    zone
        whose days a daily clock counts.
    clock
        `auto`: the first without a gap of a regular one and the exchange's, else with the fewest.

    Raises
    ------
    InputError
        where the exchange's calendar ends too early.
    """
    best: tuple[int, Instants] | None = None
    for instants in _candidates(stamps, ahead, zone, clock):
        places = places_of(stamps, instants)
        if places is None:
            continue
        gaps = int(places[-1] - places[0]) + 1 - len(stamps)
        if best is None or gaps < best[0]:
            best = (gaps, instants)
        if gaps == 0:
            break
    if best is None:
        return None
    instants = best[1]
    if np.searchsorted(instants, stamps[-1]) + ahead >= len(instants):
        raise beyond_calendar(stamps[-1])
    return instants


def places_of(stamps: Instants, instants: Instants) -> Index | None:
    """Where stamps [N] stand among the instants of a clock; none where one does not."""
    places = np.searchsorted(instants, stamps)
    on_clock = len(instants) > 0 and places[-1] < len(instants)
    return places if on_clock and (instants[places] == stamps).all() else None


def off_clock(stamps: Instants, zone: tzinfo, clock: Clock) -> Mask:
    """Which stamps [N] are not on the clock that most of them are on."""
    masks = [~np.isin(stamps, instants) for instants in _candidates(stamps, 1, zone, clock)]
    irregular = np.append(False, np.diff(stamps) != _usual(np.diff(stamps)))
    return min((*masks, irregular), key=lambda mask: int(mask.sum()) or len(mask))


def wall_clock(instants: Instants, zone: tzinfo) -> Instants:
    """What a zone's clock shows at each instant, [N]."""
    shown = pd.DatetimeIndex(instants, tz="UTC").tz_convert(zone).tz_localize(None)
    return np.asarray(shown.to_numpy("datetime64[ns]"))


def _candidates(stamps: Instants, ahead: int, zone: tzinfo, clock: Clock) -> Iterator[Instants]:
    step = _usual(np.diff(stamps))
    local = wall_clock(stamps, zone)
    hours = local - local.astype("datetime64[D]")
    hour = _usual(hours)
    daily = bool(step >= SHORTEST_DAY and (hours == hour).mean() > 0.5)
    if clock != "exchange":
        if daily:
            yield from (_of_wall_clock(days, zone) for days in _regular(local, ahead))
        yield from _regular(stamps, ahead)
    if clock != "regular":
        yield from _of_exchange(stamps, ahead, step)
        if daily:
            yield _of_wall_clock(_session_days(stamps, ahead) + hour, zone)


def _regular(stamps: Instants, ahead: int) -> Iterator[Instants]:
    """As many instants as there may be of a clock that keeps the most frequent step."""
    step = _usual(np.diff(stamps))
    if (stamps[-1] - stamps[0]) / step <= SPARSEST * len(stamps):
        # The first stamp may be the one that is off.
        phase = _usual((stamps - stamps[0]) % step)
        yield np.arange(stamps[0] + phase, stamps[-1] + (ahead + 1) * step, step)


def _usual(spans: npt.NDArray[np.timedelta64]) -> np.timedelta64:
    """The most frequent of these."""
    different, counts = np.unique(spans, return_counts=True)
    usual: np.timedelta64 = different[counts.argmax()]
    return usual


def _of_exchange(stamps: Instants, ahead: int, step: np.timedelta64) -> Iterator[Instants]:
    """Ends and starts of the exchange's bars, around the stamps and beyond them."""
    grid = stock_grid()
    sessions = _sessions(stamps, ahead)
    opens = grid.opens[sessions]
    closes = grid.closes[sessions]
    if step >= SHORTEST_DAY:
        yield closes
        yield opens
        return
    # The last bar of a session is as long as what is left of it.
    counts = -((opens - closes) // step)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.repeat(opens, counts) + number * step
    yield np.minimum(starts + step, np.repeat(closes, counts))
    yield starts


def _session_days(stamps: Instants, ahead: int) -> Instants:
    """Midnights of the dates of sessions around the stamps and beyond them."""
    return stock_grid().dates[_sessions(stamps, ahead)].astype("datetime64[ns]")


def _sessions(stamps: Instants, ahead: int) -> slice:
    grid = stock_grid()
    first = int(np.searchsorted(grid.closes, stamps[0] - DAY))
    last = int(np.searchsorted(grid.opens, stamps[-1] + DAY, side="right"))
    return slice(first, last + ahead)


def _of_wall_clock(local: Instants, zone: tzinfo) -> Instants:
    """The instants at which a zone's clock shows these times."""
    # Of an hour that is there twice it is the second; one that is not there moves on.
    shown = pd.DatetimeIndex(local).tz_localize(
        zone, ambiguous=np.zeros(len(local), dtype=bool), nonexistent="shift_forward"
    )
    return np.asarray(shown.tz_convert("UTC").tz_localize(None).to_numpy("datetime64[ns]"))
