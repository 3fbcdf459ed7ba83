"""Round trips of a run: from a flat position to the next flat one.

Open positions are valued at the last close, so that the profits of a symbol's round trips add up
to its contribution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from marketsimulator.run_result import Run
from trainingdata.instants import DAY


@dataclass(slots=True)
class RoundTrip:
    """A position from the fill that opens it to the fill that closes it.

    symbol: symbol of the instrument.
    opened_at: instant of the first fill.
    closed_at: instant of the last fill; None while the position is open.
    current_quantity: signed present position, shares or coins.
    max_quantity: signed maximum position, shares or coins.
    fees: fees of all fills, USD.
    profit: profit after fees, USD.
    """

    symbol: str
    opened_at: np.datetime64
    closed_at: np.datetime64 | None = None
    current_quantity: Decimal = Decimal(0)
    max_quantity: Decimal = Decimal(0)
    fees: float = 0.0
    profit: float = 0.0

    def add_fill(self, qty: Decimal, price: float, fee: float, at: np.datetime64) -> None:
        """Add a fill; crypto fees and splits, at price 0, change only the quantity."""
        self.current_quantity += qty
        self.max_quantity = max(self.max_quantity, self.current_quantity, key=abs)
        self.fees += fee
        self.profit -= float(qty) * price + fee
        self.closed_at = None if self.current_quantity else at


@dataclass(frozen=True, slots=True)
class RoundTripStatistics:
    """Statistics of closed round trips; None if undefined.

    closed_count: number of closed round trips.
    win_rate: fraction with a profit.
    mean_profit: mean profit (expectancy), USD.
    mean_win, mean_loss: mean profit of winners and of losers, USD.
    payoff_ratio: mean win over mean loss.
    profit_factor: sum of wins over sum of losses.
    largest_win, largest_loss: largest profit and largest loss, USD.
    consecutive_losses: longest losing streak, by closing time.
    median_days: median duration, days.
    """

    closed_count: int
    win_rate: float | None = None
    mean_profit: float | None = None
    mean_win: float | None = None
    mean_loss: float | None = None
    payoff_ratio: float | None = None
    profit_factor: float | None = None
    largest_win: float | None = None
    largest_loss: float | None = None
    consecutive_losses: int | None = None
    median_days: float | None = None


def round_trip_statistics(trips: Sequence[RoundTrip]) -> RoundTripStatistics:
    """Return the statistics of the closed round trips among these."""
    ended = [(trip.closed_at, trip) for trip in trips if trip.closed_at is not None]
    if not ended:
        return RoundTripStatistics(0)
    closed = [trip for _, trip in sorted(ended, key=lambda each: each[0])]
    profits = np.array([trip.profit for trip in closed])
    wins, losses = profits[profits > 0], profits[profits < 0]
    mean_win, mean_loss = (float(each.mean()) if len(each) else None for each in (wins, losses))
    is_loss = np.concatenate([[False], profits < 0, [False]])
    streaks = np.diff(np.flatnonzero(~is_loss)) - 1
    durations = [(at - trip.opened_at) / DAY for at, trip in ended]
    return RoundTripStatistics(
        closed_count=len(closed),
        win_rate=len(wins) / len(profits),
        mean_profit=float(profits.mean()),
        mean_win=mean_win,
        mean_loss=mean_loss,
        payoff_ratio=-mean_win / mean_loss
        if mean_win is not None and mean_loss is not None
        else None,
        profit_factor=float(-wins.sum() / losses.sum()) if len(losses) else None,
        largest_win=float(wins.max()) if len(wins) else None,
        largest_loss=float(losses.min()) if len(losses) else None,
        consecutive_losses=int(streaks.max()),
        median_days=float(np.median(durations)),
    )


def build_round_trips(run: Run, marks: Mapping[str, float]) -> list[RoundTrip]:
    """Return the round trips of a run in the order of their first fills.

    marks: last close of each symbol with a position at the end, USD.
    """
    trips: list[RoundTrip] = []
    latest: dict[str, RoundTrip] = {}

    def record_fill(symbol: str, qty: Decimal, price: float, fee: float, at: np.datetime64) -> None:
        if symbol not in latest or latest[symbol].closed_at is not None:
            latest[symbol] = RoundTrip(symbol, at)
            trips.append(latest[symbol])
        latest[symbol].add_fill(qty, price, fee, at)

    for symbol, met in run.initial_positions.items():
        record_fill(symbol, met.quantity, met.price, 0.0, run.equity_rows[0].at)
    for fill in run.fills:
        symbol, qty, fee = fill.symbol, fill.qty, fill.fee
        held = latest[symbol].current_quantity if symbol in latest else Decimal(0)
        if held * (held + qty) < 0:  # reversal: its first part closes
            share = float(-held / qty)
            record_fill(symbol, -held, fill.price, fee * share, fill.at)
            qty, fee = qty + held, fee * (1.0 - share)
        record_fill(symbol, qty, fill.price, fee, fill.at)
    for symbol, trip in latest.items():
        if trip.current_quantity:
            trip.profit += float(trip.current_quantity) * marks[symbol]
    return trips
