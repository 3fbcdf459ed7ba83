"""The smile that prints of same-day index options imply, and how sure it is.

    python -m marketsimulator.smile_calibration prints.file=PRINTS prints.zone=UTC bars.dir=[DIR]
    bars.vix=VIX.parquet

Hourly bars do not say where the index stood when an option traded. So every day's index and level
are free, the index within what a Brownian bridge between the nearest bars allows, the level around
a common one, and all prices are fitted at once: the prints of one day at many strikes say where the
index was. Errors are a jackknife over days.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt
import pandas as pd
from omegaconf import DictConfig
from rich.console import Console
from scipy.optimize import least_squares

from execution.spreads.rules import SESSION, TRADING_DAYS
from foundation.arrays import Array
from foundation.command import one_line
from foundation.compose import hydra_command
from foundation.configuration import settings_of
from foundation.errors import DataError, InputError, refuse_outside
from foundation.files import check_output, write_whole
from marketsimulator.options.pricing import Smile, black_scholes
from trainingdata.bars import CLOSE, OPEN, Bars, read_bars
from trainingdata.instruments import Kind
from trainingdata.sessions import NEW_YORK, new_york_date, started_at
from trainingdata.volatility_index import volatility_index

OCC = r"^([A-Z]{1,6})\s*(\d{6})([CP])(\d{8})$"
OLDEST = pd.Timedelta(days=5)  # that a close of the volatility index may be, over holidays
FEWEST = 5  # days, and prints a parameter


@dataclass(frozen=True, slots=True)
class PrintsSettings:
    """file: symbols, times and prices, in the columns that `time` and `price` name. zone: of times
    that name none.

    least: points; what trades below it says nothing but its tick.
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
    """Where the index comes from. scale: of prices of the symbol's bars, one of which is the
    index's.
    """

    dir: tuple[str, ...] = ()
    symbol: str = "SPY"
    scale: float = 10.03
    vix: str = ""

    def __post_init__(self) -> None:
        refuse_outside(self, "bars", scale=(1e-6, 1e6))


@dataclass(frozen=True, slots=True)
class CalibrationSettings:
    """session: see `Smile`. doubt: of the scale, error: of a price, relative; tick: points;
    day_level: of its logarithm.
    """

    prints: PrintsSettings = field(default_factory=PrintsSettings)
    bars: UnderlyingSettings = field(default_factory=UnderlyingSettings)
    session: float = 0.65
    doubt: float = 0.0007
    error: float = 0.05
    tick: float = 0.05
    day_level: float = 0.2
    output: str = "outputs/smile"

    def __post_init__(self) -> None:
        refuse_outside(
            self,
            session=(0.01, 1),
            doubt=(1e-6, 0.1),
            error=(1e-4, 1),
            tick=(1e-4, 10),
            day_level=(1e-3, 2),
        )


@dataclass(frozen=True, eq=False, slots=True)
class Prints:
    """P out-of-the-money prints on D days. day [P]: which; years [P]: to the close, of the
    session's variance.

    spot [P]: the index between the nearest bars; doubt [P]: its deviation, relative. vix [P]: the
    volatility index known before the session. left_out: how many prints are not among them, and
    why.
    """

    days: tuple[str, ...]
    day: npt.NDArray[np.int64]
    strike: Array
    call: npt.NDArray[np.bool_]
    price: Array
    years: Array
    spot: Array
    doubt: Array
    vix: Array
    left_out: dict[str, int]

    def without(self, day: int) -> Prints:
        """All but one day's."""
        keep = self.day != day
        later = np.where(self.day > day, self.day - 1, self.day)
        cut = {
            name: getattr(self, name)[keep]
            for name in ("strike", "call", "price", "years", "spot", "doubt", "vix")
        }
        return replace(self, days=self.days[:day] + self.days[day + 1 :], day=later[keep], **cut)


def prints_of(
    table: pd.DataFrame, bars: Bars, vix: pd.Series, settings: CalibrationSettings
) -> Prints:
    """The prints that can be used, beside the index and the volatility index. vix: closes by date.

    Raises
    ------
    DataError
        for a table without such columns, symbols that are no options, and too few prints that can
        be used.
    """
    told = settings.prints
    if missing := [name for name in ("symbol", told.time, told.price) if name not in table.columns]:
        raise DataError(f"prints.file: {told.file} has no column {missing[0]!r}")
    named = table["symbol"].astype(str).str.extract(OCC)
    if named[0].isna().any():
        raise DataError(
            f"prints.file: {table['symbol'][named[0].isna()].iloc[0]!r} is no OCC symbol of an"
            " option"
        )
    try:
        at = pd.to_datetime(table[told.time], errors="coerce")
    except ValueError as error:
        raise DataError(f"prints.file: {told.time}: {str(error).splitlines()[0]}") from None
    price = pd.to_numeric(table[told.price], errors="coerce")
    if bad := int((at.isna() | price.isna()).sum()):
        raise DataError(f"prints.file: {bad} rows of {told.file} have no time or no price")
    times = (
        at.dt.tz_localize(told.zone, ambiguous="NaT", nonexistent="NaT") if at.dt.tz is None else at
    )
    frame = pd.DataFrame(
        {"at": times.dt.tz_convert("UTC"), "strike": named[3].astype(float) / 1000, "price": price}
    )
    frame["call"] = named[2] == "C"
    frame["expiry"] = pd.to_datetime("20" + named[1], format="%Y%m%d", errors="coerce")
    frame["day"] = frame["at"].dt.tz_convert(NEW_YORK).dt.tz_localize(None).dt.normalize()
    return _beside(frame, bars, vix, settings)


def _beside(
    frame: pd.DataFrame, bars: Bars, vix: pd.Series, settings: CalibrationSettings
) -> Prints:
    """The same with what the index is known to have been, without what cannot be used."""
    s = bars.symbols.index(settings.bars.symbol)
    ends, values = bars.own(s)
    begins = started_at(Kind.STOCK, ends)
    at = frame["at"].dt.tz_localize(None).to_numpy(dtype="datetime64[ns]")
    bar = np.clip(np.searchsorted(ends, at), 0, len(ends) - 1)
    inside = (at > begins[bar]) & (at < ends[bar])
    length, into = ((x - begins[bar]) / np.timedelta64(1, "m") for x in (ends[bar], at))
    spot = settings.bars.scale * (
        values[bar, OPEN] + (values[bar, CLOSE] - values[bar, OPEN]) * into / length
    )
    closes = pd.Series(ends, index=new_york_date(ends)).groupby(level=0).max()
    close = closes.reindex(frame["day"].to_numpy(dtype="datetime64[D]")).to_numpy()
    years = (close - at) / np.timedelta64(1, "m") / SESSION * settings.session / TRADING_DAYS
    known = vix.reindex(
        frame["day"] - pd.Timedelta(days=1), method="ffill", tolerance=OLDEST
    ).to_numpy(dtype=float)
    bridge = (
        known
        / 100
        * np.sqrt(
            np.maximum(into * (length - into), 0.0)
            / length
            / SESSION
            * settings.session
            / TRADING_DAYS
        )
    )
    outside = np.where(frame["call"], frame["strike"] > spot, frame["strike"] < spot)
    wrong = {
        "not of their last day": (frame["expiry"] != frame["day"]).to_numpy(),
        "outside the sessions that there are bars of": ~inside | ~np.isfinite(years) | ~(years > 0),
        "without a volatility index": ~np.isfinite(known),
        "in the money": ~outside,
        "cheaper than prints.least": (frame["price"] < settings.prints.least).to_numpy(),
    }
    keep = np.ones(len(frame), dtype=bool)
    left_out = {}
    for why, those in wrong.items():
        left_out[why] = int((keep & those).sum())
        keep &= ~those
    days, day = np.unique(frame["day"].to_numpy(dtype="datetime64[D]")[keep], return_inverse=True)
    if len(days) < FEWEST or keep.sum() < 3 * FEWEST:
        counts = ", ".join(f"{count} {why}" for why, count in left_out.items() if count)
        raise DataError(
            f"prints.file: {keep.sum()} prints on {len(days)} days can be used, too few ({counts})"
        )
    doubt = np.sqrt(bridge**2 + settings.doubt**2)
    strike, call, price = (frame[name].to_numpy()[keep] for name in ("strike", "call", "price"))
    about = years[keep], spot[keep], doubt[keep], known[keep]
    return Prints(tuple(map(str, days)), day, strike, call, price, *about, left_out)


@dataclass(frozen=True, eq=False, slots=True)
class Fit:
    """smile, and for each day the level over the common one and how far the index was from its
    bars, relative.

    error: of the logarithm of prices, root mean square.
    """

    smile: Smile
    levels: Array
    shifts: Array
    error: float


def fit(prints: Prints, settings: CalibrationSettings) -> Fit:
    """The smile that all prints agree on best: least squares with a prior on each day's index
    and level.
    """
    days = len(prints.days)
    which = prints.day
    doubt = np.array([prints.doubt[which == d].max() for d in range(days)])
    weight = np.sqrt(settings.error**2 + (settings.tick / prints.price) ** 2)

    def misfit(point: Array) -> Array:
        shifts = point[3 : 3 + days]
        levels = point[3 + days :]
        spot = prints.spot * np.exp(shifts[which])
        index = prints.vix * np.exp(levels[which])
        smile = Smile(point[0], point[1], point[2], 0.1, settings.session)
        volatility = smile.volatility(index, spot, prints.strike, prints.years)
        value = black_scholes(spot, prints.strike, prints.years, volatility, call=prints.call)
        return np.asarray(np.log(np.maximum(value, 1e-4) / prints.price))

    def residuals(point: Array) -> Array:
        shifts = point[3 : 3 + days]
        levels = point[3 + days :]
        return np.concatenate([misfit(point) / weight, shifts / doubt, levels / settings.day_level])

    start = np.concatenate([[0.8, 0.0, 0.2], np.zeros(2 * days)])
    low = np.full(len(start), -1.0)
    high = np.full(len(start), 1.0)
    low[:3] = (0.05, -1.0, 0.0)
    high[:3] = (5.0, 1.0, 2.0)
    found = least_squares(residuals, start, bounds=(low, high), x_scale="jac").x
    level, slope, wing = (float(x) for x in found[:3])
    smile = replace(Smile(), level=level, slope=slope, wing=wing, session=settings.session)
    return Fit(
        smile, found[3 + days :], found[3 : 3 + days], float(np.sqrt((misfit(found) ** 2).mean()))
    )


def errors(prints: Prints, settings: CalibrationSettings) -> dict[str, float]:
    """Standard errors of level, slope and wing: the jackknife over days."""
    smiles = [fit(prints.without(d), settings).smile for d in range(len(prints.days))]
    points = np.array([[smile.level, smile.slope, smile.wing] for smile in smiles])
    n = len(points)
    deviations = np.sqrt((n - 1) / n * ((points - points.mean(axis=0)) ** 2).sum(axis=0))
    return dict(zip(("level", "slope", "wing"), deviations.tolist(), strict=True))


def _read(settings: CalibrationSettings) -> tuple[pd.DataFrame, Bars, pd.Series]:
    path = Path(settings.prints.file).expanduser()
    try:
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"prints.file: {path} cannot be read: {str(error).splitlines()[0]}"
        ) from error
    bars = read_bars([Path(d).expanduser() for d in settings.bars.dir], [settings.bars.symbol])
    return table, bars, volatility_index(settings.bars.vix)


def _told(prints: Prints, found: Fit, sure: dict[str, float]) -> dict[str, Any]:
    count = np.bincount(prints.day, minlength=len(prints.days))
    rows = zip(
        prints.days, count.tolist(), found.levels.tolist(), found.shifts.tolist(), strict=True
    )
    return {
        "smile": asdict(found.smile),
        "standard_errors": sure,
        "price_error": found.error,
        "level_between_days": float(np.std(found.levels)),
        "prints": len(prints.price),
        "left_out": prints.left_out,
        "days": [
            {"day": day, "prints": n, "log_level": level, "shift": shift}
            for day, n, level, shift in rows
        ],
    }


def _run_composed(config: DictConfig) -> None:
    with one_line("nothing was written") as made:
        output = Path(str(config.output))
        made.append(output)
        settings = settings_of(CalibrationSettings, config, lists=("bars.dir",))
        check_output(output)
        prints = prints_of(*_read(settings), settings)
        told = _told(prints, fit(prints, settings), errors(prints, settings))
        text = json.dumps(told, indent=1, allow_nan=False) + "\n"
        writers: dict[str, Callable[[Path], object]] = {
            "smile.json": lambda path: path.write_text(text)
        }
        write_whole(writers, output)
    smile = told["smile"]
    sure = told["standard_errors"]
    console = Console(highlight=False, soft_wrap=True)
    console.print("  ".join(f"{name} {smile[name]:.3f} ± {sure[name]:.3f}" for name in sure))
    left = ", ".join(f"{count} {why}" for why, count in told["left_out"].items() if count) or "none"
    console.print(f"{told['prints']} prints on {len(prints.days)} days; left out: {left}")
    console.print(
        f"prices within {told['price_error']:.1%}; level between days ±"
        f" {told['level_between_days']:.1%}"
    )


def main() -> None:
    """Hydra entry."""
    hydra_command("smile", _run_composed)


if __name__ == "__main__":
    main()
