"""The book that is put under stress: what is held at an instant, and the bars that are known of it.

It comes from the folder of a backtest: positions from the fills, cash from the account's row, marks
from the bars that the run was made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf

from execution.records import EQUITY_COLUMNS, FILL_COLUMNS
from execution.run_folder import CONFIG, RunFolder
from foundation.arrays import Array, Index, Instants, Mask
from foundation.errors import DataError, InputError
from marketsimulator.account.timeline import IMPACT_BARS
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import FIELDS, VOLUME, Bars
from trainingdata.instants import instant, utc_text
from trainingdata.instruments import Instrument, Kind, instrument

# Groups of settings that a book is marked and settled by, and of which a word may change a run's.
CHANGEABLE = ("data", "costs", "fees", "margin", "fills", "correlation")
_KEPT = ("symbols", "increments", *CHANGEABLE)
_TOLERANCE = 0.01  # USD by which the bars may value a book otherwise than the run did


@dataclass(frozen=True, eq=False, slots=True)
class HeldBook:
    """Positions and cash at an instant.

    at: the instant.
    source: whose book it is, in a few words.
    instruments: of what is held, S of them.
    quantities: [S] signed, none 0.
    marks: [S] USD.
    cash: USD, below 0 where it is borrowed.
    proceeds: [S] USD that open shorts were sold for.
    bars: all that there are of these instruments, in their order, for days that have a name; none
        without any.
    known: of them what was known at the instant, as it was seen then.
    option_risk: USD that open options can lose at most from what they are valued at.
    notes: what a reader should know about it.
    """

    at: np.datetime64
    source: str
    instruments: tuple[Instrument, ...]
    quantities: Array
    marks: Array
    cash: float
    proceeds: Array
    bars: Bars | None = None
    known: Bars | None = None
    option_risk: float = 0.0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape = (len(self.instruments),)
        for name in ("quantities", "marks", "proceeds"):
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must be [S] = {shape}, got {getattr(self, name).shape}")
        if not (np.isfinite(self.marks).all() and (self.marks > 0).all()):
            raise ValueError("marks must be above 0")
        if not self.quantities.all():
            raise ValueError("quantities must not be 0")
        for bars in (self.bars, self.known):
            if bars is not None and bars.symbols != self.symbols:
                raise ValueError(f"bars must be of {self.symbols}, got {bars.symbols}")

    @property
    def symbols(self) -> tuple[str, ...]:
        """Names of the instruments."""
        return tuple(item.symbol for item in self.instruments)

    @property
    def crypto(self) -> Mask:
        """[S] which are coins."""
        return np.array([item.kind is Kind.CRYPTO for item in self.instruments], dtype=bool)

    @property
    def values(self) -> Array:
        """[S] USD at the marks, signed."""
        return np.asarray(self.quantities * self.marks)

    @property
    def equity(self) -> float:
        """USD."""
        return self.cash + float(self.values.sum())

    @property
    def gross(self) -> float:
        """USD of all positions without their signs."""
        return float(np.abs(self.values).sum())

    @property
    def has_volumes(self) -> bool:
        """Whether the recent bars of every symbol say that something trades."""
        recent = (self.recent(s)[1][:, VOLUME] for s in range(len(self.symbols)))
        return all(bool(np.median(volumes) > 0) if len(volumes) else False for volumes in recent)

    def recent(self, s: int) -> tuple[Instants, Array]:
        """The last bars of symbol number `s`, by which impact and volume are judged."""
        if self.known is None:
            return np.empty(0, dtype="datetime64[ns]"), np.empty((0, len(FIELDS)))
        times, values = self.known.real_bars(s)
        return times[-IMPACT_BARS:], values[-IMPACT_BARS:]


def run_book(folder: Path, at: str, changes: DictConfig) -> tuple[HeldBook, BacktestSettings]:
    """The book of a backtest at an instant, and the settings that it is settled by.

    Parameters
    ----------
    folder
        of the run.
    at
        `end`, `worst` (the most leverage), or an instant: the last row of the account by then.
    changes
        of the run's settings, by group.

    Raises
    ------
    InputError
        for a folder without a run, an instant outside it, a book without positions, and bars that
        value the book otherwise than the run did.
    """
    run = RunFolder(folder)
    run.summary()  # that says whether it is a backtest's
    settings = _settings(run, changes)
    fills, rows = run.table("fills", FILL_COLUMNS), run.table("equity", EQUITY_COLUMNS)
    if rows.empty:
        raise DataError(f"{folder / 'equity.parquet'}: it has no row")
    row = _chosen_row(rows, at, folder)
    now = np.datetime64(rows["at"].iloc[row], "ns")
    positions, proceeds = _positions(fills[fills["booked_at"].to_numpy() <= now])
    if not positions:
        raise InputError(f"at: {_nothing_held(rows, now, folder)}")
    symbols = tuple(sorted(positions))
    bars = settings.with_increments(settings.data.bars(symbols, None, None))
    known = bars.until(now)
    if bars.symbols != symbols or not len(known.times):
        raise InputError(f"data.dir: {bars.source} has no bar by {utc_text(now)}; {_OWN_BARS}")
    book = HeldBook(
        at=now,
        source=f"{folder} at {utc_text(now)}",
        instruments=bars.instruments,
        quantities=np.array([float(positions[symbol]) for symbol in symbols]),
        marks=_marks(known),
        cash=float(rows["cash"].iloc[row]),
        proceeds=np.array([proceeds.get(symbol, 0.0) for symbol in symbols]),
        bars=settings.view(bars),
        known=settings.view(known),
    )
    stated = float(rows["equity"].iloc[row])
    if abs(book.equity - stated) > _TOLERANCE:
        raise InputError(
            f"data.dir: {bars.source} values the book of {utc_text(now)} at {book.equity:,.2f} USD,"
            f" and the run has {stated:,.2f}; {_OWN_BARS}"
        )
    return book, settings


_OWN_BARS = "name the bars that the run was made of, data.dir=[DIR]"


def _settings(folder: RunFolder, changes: DictConfig) -> BacktestSettings:
    """The settings of a run's `config.yaml` that a book is settled by, with changes."""
    content = folder.settings()
    if not content:
        raise DataError(f"{folder.path / CONFIG}: there is none; a backtest leaves one")
    data = content.get("data")
    if isinstance(data, dict) and "splits" in data:
        # Earlier runs say so whether they went on over a jump like a split.
        data["accept_jumps"] = data.pop("splits") == "note"
    kept = OmegaConf.create(_finite({key: content[key] for key in _KEPT if key in content}))
    kept.merge_with(changes)
    try:
        return BacktestSettings.of(kept)
    except InputError as error:
        raise InputError(f"{folder.path / CONFIG}: {error}") from None


def _finite(value: Any) -> Any:
    """The value without its infinite parts: no user wrote them, they are the defaults."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items() if part != float("inf")}
    return [_finite(part) for part in value] if isinstance(value, list) else value


def _chosen_row(rows: pd.DataFrame, at: str, folder: Path) -> int:
    """The number of the account's row that `at` means."""
    if at == "end":
        return len(rows) - 1
    if at == "worst":
        gross = (rows["gross_stock"] + rows["gross_crypto"]).to_numpy()
        equity = rows["equity"].to_numpy()
        # Nothing is worse than debts; of the others the most that a dollar of equity carries.
        leverage = np.where(equity > 0, gross / np.where(equity > 0, equity, 1.0), np.inf)
        return int(np.argmax(leverage))
    try:
        wanted = instant(at, name="at", end_of_day=True)
    except InputError as error:
        raise InputError(f"{error}, nor end or worst") from None
    times = rows["at"].to_numpy(dtype="datetime64[ns]")
    if not times[0] <= wanted or (wanted > times[-1] and not _is_that_day(at, times[-1])):
        raise InputError(
            f"at: {at} is outside the run in {folder}, which goes from {utc_text(times[0])} to"
            f" {utc_text(times[-1])}"
        )
    return int(np.searchsorted(times, wanted, side="right")) - 1


def _is_that_day(at: str, last: np.datetime64) -> bool:
    """Whether `at` is a New York date, and an instant lies in it or after it."""
    return bool(instant(at, name="at") <= last)


def _nothing_held(rows: pd.DataFrame, now: np.datetime64, folder: Path) -> str:
    """That nothing is held, and when something was."""
    held = rows[(rows["gross_stock"] + rows["gross_crypto"]) > 0]
    if held.empty:
        return f"nothing was ever held in {folder}: there is nothing to put under stress"
    last = np.datetime64(held["at"].iloc[-1], "ns")
    return (
        f"nothing is held at {utc_text(now)} in {folder}; the last book that held something is"
        f" at={utc_text(last)}, that with the most leverage at=worst"
    )


def _positions(fills: pd.DataFrame) -> tuple[dict[str, Decimal], dict[str, float]]:
    """Signed quantities by symbol, and what those below zero were sold for, USD.

    A short that is bought back in part keeps its share of the proceeds, as in settlement.
    """
    held: dict[str, Decimal] = {}
    sold: dict[str, float] = {}
    columns: Mapping[str, Any] = {name: fills[name].tolist() for name in ("symbol", "qty", "price")}
    for symbol, qty, price in zip(*columns.values(), strict=True):
        before = held.get(symbol, Decimal(0))
        quantity = Decimal(repr(float(qty)))
        held[symbol] = before + quantity
        # At price 0 are splits, which leave proceeds as they are, and fees in coin.
        if price == 0 or instrument(symbol).kind is Kind.CRYPTO:
            continue
        if before <= 0 and quantity < 0:
            sold[symbol] = sold.get(symbol, 0.0) - float(quantity) * price
        elif before < 0:
            kept = max(0.0, float(1 + quantity / before))
            sold[symbol] = round(sold.get(symbol, 0.0) * kept, 6)
    positions = {symbol: quantity for symbol, quantity in held.items() if quantity}
    return positions, {s: sold.get(s, 0.0) for s, quantity in positions.items() if quantity < 0}


def _marks(known: Bars) -> Array:
    """[S] the last known closes.

    Raises
    ------
    InputError
        naming a symbol that has none.
    """
    closes = known.last_closes()
    missing: Index = np.flatnonzero(np.isnan(closes))
    if len(missing):
        raise InputError(
            f"data.dir: {known.source} has no bar of {known.symbols[missing[0]]} by"
            f" {utc_text(known.now)}; {_OWN_BARS}"
        )
    return closes
