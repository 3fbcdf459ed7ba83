"""Positions, cash and equity of a finished run at one instant, from its results folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from execution.orders.lending import short_proceeds_after_trade
from foundation.errors import DataError, InputError
from marketsimulator.results.run_folder import SUMMARY_FILE, RunFolder, first_line
from marketsimulator.run_result import InitialPosition
from marketsimulator.table_columns import BOOKING_COLUMNS, EQUITY_COLUMNS, FILL_COLUMNS
from trainingdata.instants import format_utc, parse_instant


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """Positions, cash and equity of a run at an instant.

    instant: instant of the equity row.
    cash, equity: cash and equity at that instant, USD.
    positions: signed quantities by symbol, without zeros.
    short_proceeds: USD from the sale of open shorts, by symbol.
    other_holdings: symbols with a position of the live account that do not belong to the run; their
        value is part of cash.
    """

    instant: np.datetime64
    cash: float
    equity: float
    positions: Mapping[str, Decimal]
    short_proceeds: Mapping[str, float]
    other_holdings: tuple[str, ...] = ()


def read_snapshot(run: RunFolder, at: str) -> RunSnapshot:
    """Read positions, cash and equity of a run at an instant.

    at: `end`, `worst` for the highest leverage, a New York date or a timestamp with a time
        zone.
    Raises `InputError` if there is no position at that instant.
    """
    rows = run.read_table("equity", EQUITY_COLUMNS)
    if rows.empty:
        raise DataError(f"RUN: {run.path / 'equity.parquet'} has no rows")
    row = rows.iloc[_find_equity_row(rows, at)]
    now = np.datetime64(row["at"], "ns")
    fills = run.read_table("fills", FILL_COLUMNS)
    told = run.read_summary() if (run.path / SUMMARY_FILE).is_file() else {}
    positions, short_proceeds = _positions_and_proceeds(
        _initial_positions(run, told), fills[fills["booked_at"] <= now]
    )
    if not positions:
        held = rows["at"][_gross(rows) > 0]
        if held.empty:
            raise InputError(f"at: {run.path} has no position at any time; choose another run")
        last = format_utc(np.datetime64(held.iloc[-1], "ns"))
        raise InputError(
            f"at: {run.path} has no position at {format_utc(now)}; use at={last} for the"
            " last positions, or at=worst for the highest leverage"
        )
    # The rows of a live account exclude net deposits, which are part of its cash.
    paid_in = _net_deposits(run, now)
    cash, equity = float(row["cash"]) + paid_in, float(row["equity"]) + paid_in
    other_holdings = tuple(map(str, told.get("other_holdings", ())))
    return RunSnapshot(now, cash, equity, positions, short_proceeds, other_holdings)


def _net_deposits(run: RunFolder, now: np.datetime64) -> float:
    """Return deposits less withdrawals of a live account up to an instant, USD."""
    if not (run.path / "bookings.parquet").is_file():
        return 0.0
    bookings = run.read_table("bookings", BOOKING_COLUMNS)
    own = (bookings["kind"] == "transfer") & (bookings["at"] <= now)
    return float(bookings["usd"][own].sum())


def _initial_positions(run: RunFolder, summary: Mapping[str, Any]) -> Mapping[str, InitialPosition]:
    """Return the positions before a run's first equity row; empty for a backtest."""
    try:
        return {
            symbol: InitialPosition(Decimal(held["quantity"]), float(held["price"]))
            for symbol, held in summary.get("initial_positions", {}).items()
        }
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise DataError(
            f"RUN: {run.path / SUMMARY_FILE}: invalid initial_positions: {first_line(error)}"
        ) from None


def _gross(rows: pd.DataFrame) -> pd.Series:
    return rows["gross_stock"] + rows["gross_crypto"]


def _find_equity_row(rows: pd.DataFrame, at: str) -> int:
    """Return the number of the last equity row up to the time that `at` specifies.

    at: as in `read_snapshot`.
    """
    if at == "end":
        return len(rows) - 1
    if at == "worst":
        # An account without equity is worst; otherwise the highest leverage is.
        solvent = rows["equity"].where(rows["equity"] > 0)
        return int(np.argmax((_gross(rows) / solvent).fillna(np.inf)))
    try:
        first, last = parse_instant(at, name="at"), parse_instant(at, name="at", end_of_day=True)
    except InputError as error:
        raise InputError(f"{error}; or use end or worst") from None
    times = rows["at"].to_numpy(dtype="datetime64[ns]")
    if last < times[0] or first > times[-1]:
        ends = f"{format_utc(times[0])} to {format_utc(times[-1])}"
        raise InputError(f"at: {at} is outside the run, which covers {ends}")
    return int(np.searchsorted(times, last, side="right")) - 1


def _positions_and_proceeds(
    initial_positions: Mapping[str, InitialPosition], fills: pd.DataFrame
) -> tuple[dict[str, Decimal], dict[str, float]]:
    """Return the positions after these fills, and the proceeds of open shorts (USD), by symbol.

    Initial short positions count as sold at their initial price.
    """
    held = {symbol: met.quantity for symbol, met in initial_positions.items()}
    sold = {
        s: -float(met.quantity) * met.price
        for s, met in initial_positions.items()
        if met.quantity < 0
    }
    columns = (fills[name].tolist() for name in ("symbol", "qty", "price"))
    for symbol, quantity, price in zip(*columns, strict=True):
        before = held.get(symbol, Decimal(0))
        held[symbol] = before + Decimal(repr(quantity))
        # Fills at price 0 are splits and crypto fees, which do not change the proceeds.
        if price:
            had = sold.get(symbol, 0.0)
            after = short_proceeds_after_trade(had, float(before), quantity, quantity * price)
            sold[symbol] = round(after, 6)
    positions = {symbol: quantity for symbol, quantity in held.items() if quantity}
    shorts = [symbol for symbol, quantity in positions.items() if quantity < 0]
    return positions, {symbol: sold.get(symbol, 0.0) for symbol in shorts}
