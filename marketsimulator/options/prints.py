"""Prints of same-day index options, beside where the index and its volatility index stood."""

from __future__ import annotations

from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt
import pandas as pd

from execution.spreads.rules import Implied
from foundation.arrays import Array, Instants
from foundation.counts import counted
from foundation.errors import DataError, InputError, refuse_outside
from trainingdata.bars import CLOSE, OPEN, Bars
from trainingdata.instants import NEW_YORK, Unzoned, new_york_date
from trainingdata.instruments import Kind
from trainingdata.sessions import started_at

OCC = r"^([A-Z]{1,6})\s*(\d{6})([CP])(\d{8})$"  # root, expiry, side, thousandths of the strike
OLDEST = pd.Timedelta(days=5)  # that a close of the volatility index may be, over holidays
FEWEST = 5  # days, and prints a parameter
PARAMETERS = 3  # of a smile
MINUTE = np.timedelta64(1, "m")


@dataclass(frozen=True, slots=True)
class PrintsSettings:
    """Where the prints are.

    file: symbols, times and prices.
    time: name of its column of times.
    price: name of its column of prices.
    zone: of times that name none.
    least: points, 0.01 … 1,000; what trades below it says nothing but its tick.
    """

    file: str = ""
    time: str = "exit_time"
    price: str = "exit_price"
    zone: str = "America/New_York"
    least: float = 0.1

    def __post_init__(self) -> None:
        refuse_outside(self, "prints", least=(0.01, 1e3))
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise InputError(f"prints.zone: {self.zone!r} is no time zone") from None


@dataclass(frozen=True, slots=True)
class UnderlyingSettings:
    """Where the index comes from.

    dir: folders of hourly bars.
    zone: of stamps that say none, as America/New_York; none: those are refused.
    symbol: whose bars they are.
    scale: of its prices, to read them as the index's, 1e-6 … 1e6.
    vix: a daily file of the volatility index.
    """

    dir: tuple[str, ...] = ()
    zone: str | None = None
    symbol: str = "SPY"
    scale: float = 10.03
    vix: str = ""

    def __post_init__(self) -> None:
        self.unzoned()
        refuse_outside(self, "bars", scale=(1e-6, 1e6))

    def unzoned(self) -> Unzoned:
        """What stamps without a zone mean."""
        return Unzoned(self.zone, "bars.zone")


@dataclass(frozen=True, eq=False, slots=True)
class Prints:
    """P out-of-the-money prints of same-day options on D days.

    days: dates [D].
    day: number of the date [P].
    strike: points [P].
    call: whether it is one [P].
    price: points [P].
    years: of the session's variance that is left until the close [P].
    spot: the index between the nearest bars [P], points.
    spot_deviation: of the index from there [P], relative.
    vix: the volatility index known before the session [P], points.
    left_out: how many prints are not among these, by reason.
    """

    days: tuple[str, ...]
    day: npt.NDArray[np.int64]
    strike: Array
    call: npt.NDArray[np.bool_]
    price: Array
    years: Array
    spot: Array
    spot_deviation: Array
    vix: Array
    left_out: dict[str, int]

    def without_day(self, day: int) -> Prints:
        """All but one day's."""
        keep = self.day != day
        later = np.where(self.day > day, self.day - 1, self.day)
        columns = ("strike", "call", "price", "years", "spot", "spot_deviation", "vix")
        kept = {name: getattr(self, name)[keep] for name in columns}
        return replace(self, days=self.days[:day] + self.days[day + 1 :], day=later[keep], **kept)


def prints_of(
    table: pd.DataFrame,
    bars: Bars,
    vix: pd.Series,
    settings: PrintsSettings,
    underlying: UnderlyingSettings,
    *,
    session: float,
    doubt: float,
) -> Prints:
    """The prints that can be used, beside the index and the volatility index.

    Parameters
    ----------
    table: a row a print, with the columns that the settings name.
    bars: hourly, of the settings' symbol.
    vix: closes of the volatility index by date.
    settings: of the prints.
    underlying: of the bars.
    session: share of a day's variance between open and close.
    doubt: deviation of the bars' scale, relative.

    Raises
    ------
    DataError
        for a table without such columns, symbols that are no options, and too few prints that can
        be used.
    """
    frame = _parsed_prints(table, settings)
    at = frame["at"].dt.tz_localize(None).to_numpy(dtype="datetime64[ns]")
    day = frame["day"].to_numpy(dtype="datetime64[D]")
    inside, spot, starts, ends = _index_between_bars(bars, at, underlying)
    implied = Implied(session=session)
    closes = _closes_of(bars, day, underlying)
    years = implied.years((closes - at) / MINUTE)
    passed, ahead = (
        implied.years((closes - first) / MINUTE) - implied.years((closes - last) / MINUTE)
        for first, last in ((starts, at), (at, ends))
    )
    # The close of the day itself is not known while its options trade.
    before = frame["day"] - pd.Timedelta(days=1)
    level = vix.reindex(before, method="ffill", tolerance=OLDEST).to_numpy(dtype=float)
    # Two doubts, independent of each other: where the index went between the bars, a Brownian
    # bridge by the clock of prices, and their scale.
    whole = passed + ahead
    open_years = passed * np.divide(ahead, whole, out=np.zeros(len(whole)), where=whole > 0)
    bridge = level / 100 * np.sqrt(open_years)
    deviation = np.sqrt(bridge**2 + doubt**2)
    outside = np.where(frame["call"], frame["strike"] > spot, frame["strike"] < spot)
    unusable = {
        "not of their last day": (frame["expiry"] != frame["day"]).to_numpy(),
        "outside the sessions that there are bars of": ~inside | ~np.isfinite(years) | ~(years > 0),
        "without a volatility index": ~np.isfinite(level),
        "in the money": ~outside,
        "cheaper than prints.least": (frame["price"] < settings.least).to_numpy(),
    }
    keep, left_out = _kept_rows(unusable)
    days, number = np.unique(day[keep], return_inverse=True)
    if len(days) < FEWEST or keep.sum() < PARAMETERS * FEWEST:
        raise DataError(
            f"prints.file: {counted(int(keep.sum()), 'print')} on {counted(len(days), 'day')} can"
            f" be used, too few ({counts_text(left_out)})"
        )
    return Prints(
        days=tuple(map(str, days)),
        day=number,
        strike=frame["strike"].to_numpy()[keep],
        call=frame["call"].to_numpy()[keep],
        price=frame["price"].to_numpy()[keep],
        years=years[keep],
        spot=spot[keep],
        spot_deviation=deviation[keep],
        vix=level[keep],
        left_out=left_out,
    )


def _kept_rows(
    unusable: dict[str, npt.NDArray[np.bool_]],
) -> tuple[npt.NDArray[np.bool_], dict[str, int]]:
    """Which rows [P] no reason leaves out, and how many each one does.

    A row is counted under its first reason, so that the counts add up.
    """
    keep = np.ones(len(next(iter(unusable.values()))), dtype=bool)
    left_out = {}
    for reason, rows in unusable.items():
        left_out[reason] = int((keep & rows).sum())
        keep &= ~rows
    return keep, left_out


def _parsed_prints(table: pd.DataFrame, settings: PrintsSettings) -> pd.DataFrame:
    """A row a print: at, strike, price, call, expiry, and its day in New York."""
    file = settings.file
    for name in ("symbol", settings.time, settings.price):
        if name not in table.columns:
            raise DataError(f"prints.file: {file} has no column {name!r}")
    parts = table["symbol"].astype(str).str.extract(OCC)
    if parts[0].isna().any():
        symbol = table["symbol"][parts[0].isna()].iloc[0]
        raise DataError(f"prints.file: {symbol!r} is no OCC symbol of an option")
    try:
        at = pd.to_datetime(table[settings.time], errors="coerce")
    except ValueError as error:
        line = str(error).splitlines()[0]
        raise DataError(f"prints.file: {settings.time}: {line}") from None
    price = pd.to_numeric(table[settings.price], errors="coerce")
    if bad := int((at.isna() | price.isna()).sum()):
        raise DataError(f"prints.file: {bad} rows of {file} have no time or no price")
    if at.dt.tz is None:
        # An hour that a change of clocks skips or repeats lies in no session: it falls out later.
        at = at.dt.tz_localize(settings.zone, ambiguous="NaT", nonexistent="NaT")
    at = at.dt.tz_convert("UTC")
    return pd.DataFrame(
        {
            "at": at,
            "strike": parts[3].astype(float) / 1000,
            "price": price,
            "call": parts[2] == "C",
            "expiry": pd.to_datetime("20" + parts[1], format="%Y%m%d", errors="coerce"),
            "day": at.dt.tz_convert(NEW_YORK).dt.tz_localize(None).dt.normalize(),
        }
    )


def _index_between_bars(
    bars: Bars, at: Instants, settings: UnderlyingSettings
) -> tuple[npt.NDArray[np.bool_], Array, Instants, Instants]:
    """Whether a bar is under way at each instant [P], the index then, and the bar's two ends.

    The index is on the line from the bar's open to its close.
    """
    ends, values = bars.real_bars(bars.symbols.index(settings.symbol))
    starts = started_at(Kind.STOCK, ends)
    bar = np.clip(np.searchsorted(ends, at), 0, len(ends) - 1)
    inside = (at > starts[bar]) & (at < ends[bar])
    length = (ends[bar] - starts[bar]) / MINUTE
    into = (at - starts[bar]) / MINUTE
    first = values[bar, OPEN]
    spot = settings.scale * (first + (values[bar, CLOSE] - first) * into / length)
    return inside, spot, starts[bar], ends[bar]


def _closes_of(
    bars: Bars, days: npt.NDArray[np.datetime64], settings: UnderlyingSettings
) -> Instants:
    """When the last bar of each day [P] ends; NaT for a day without one."""
    ends, _ = bars.real_bars(bars.symbols.index(settings.symbol))
    last = pd.Series(ends, index=new_york_date(ends)).groupby(level=0).max()
    closes: Instants = last.reindex(days).to_numpy()
    return closes


def counts_text(left_out: dict[str, int]) -> str:
    """How many prints are left out, and why, in words; empty if none."""
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
