"""Result of a run: decisions, fills and equity rows, and the frames written to its files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property, partial
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from execution.decision.choice import Rationale
from execution.decision.decision import Decision, DecisionColumns, concatenate_columns
from execution.orders.broker import is_fully_filled
from execution.orders.orders import Fill, Order, parse_order_prefix
from foundation.arrays import Array, Instants
from marketsimulator.table_columns import (
    BOOKING_COLUMNS,
    EQUITY_COLUMNS,
    FILL_COLUMNS,
    INSTANT_COLUMNS,
    ORDER_COLUMNS,
    TEXT_COLUMNS,
)
from sizing.binding import LIMITS_WITH_SHADOW_PRICE

DECISION_COLUMNS = (
    *("at", "symbol", "mu", "sigma", "kelly", "target", "qty", "binding"),
    *("until", "held", "price", "cost"),
    *(f"plan_{name}" for name in Rationale._fields),
    *(f"shadow_{name}" for name in LIMITS_WITH_SHADOW_PRICE),
    *("equity", "strategy_reason"),
)


class DecisionLog(Sequence[Decision]):
    """Decisions of a run in time order, with properties for the values of all D decisions.

    group_limit_names: names of the group limits.
    """

    group_limit_names: tuple[str, ...] = ()

    def __init__(self, decisions: Sequence[Decision]) -> None:
        self._decisions = decisions
        self.group_limit_names = decisions[0].group_limit_names if decisions else ()

    @overload
    def __getitem__(self, number: int) -> Decision: ...

    @overload
    def __getitem__(self, number: slice) -> list[Decision]: ...

    def __getitem__(self, number: int | slice) -> Decision | list[Decision]:
        if isinstance(number, slice):
            return [self.decision_at(k) for k in range(len(self))[number]]
        return self.decision_at(range(len(self))[number])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Decision]:
        return (self.decision_at(k) for k in range(len(self)))

    def __len__(self) -> int:
        return len(self._decisions)

    def decision_at(self, number: int) -> Decision:
        return self._decisions[number]

    @property
    def instants(self) -> Instants:
        """Return the instant of each decision, [D]."""
        return np.array([decision.at for decision in self._decisions], dtype="datetime64[ns]")

    @property
    def stock_ceilings(self) -> Array:
        """Return the maximum gross stock exposure of each decision, multiple of equity, [D]."""
        return np.array([decision.stock_ceiling for decision in self._decisions])

    @property
    def failure_count(self) -> int:
        """Return the number of decisions without a sizing result."""
        return sum(bool(decision.sizing_failure) for decision in self._decisions)

    @property
    def orders(self) -> Sequence[tuple[np.datetime64, Order]]:
        """Return every order with the instant of its decision."""
        return [(decision.at, order) for decision in self._decisions for order in decision.orders]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Return a frame with one row per decided symbol, as `Run.decision_frame` does."""
        decisions = self._decisions
        columns = [DecisionColumns.from_choices((), self.group_limit_names)]
        columns += [decision.columns for decision in decisions]
        counts = np.array([len(decision.symbols) for decision in decisions], dtype=np.int64)
        until = np.array([decision.interval_end for decision in decisions], dtype="datetime64[ns]")
        quantities = [float(quantity) for each in decisions for quantity in each.quantities]
        return decision_frame(
            concatenate_columns(columns),
            np.array([s for each in decisions for s in each.symbols], dtype=object),
            np.array(quantities, dtype=np.float64),
            at=np.repeat(self.instants, counts),
            until=np.repeat(until, counts),
            equity=np.repeat(np.array([each.equity for each in decisions]), counts),
        )


def decision_frame(
    columns: DecisionColumns,
    symbols: Array,
    quantities: Array,
    *,
    at: Instants,
    until: Instants,
    equity: Array,
) -> pd.DataFrame:
    """Return a frame with one row per decided symbol.

    It has the columns DECISION_COLUMNS and one with the shadow price of each group limit.

    symbols: [N] symbol of each row.
    quantities: [N] signed ordered quantity.
    at, until, equity: [N] instant, end of the first interval and equity of the row's decision.
    """
    prices = columns.binding_shadow_prices()
    cost = np.where(quantities != 0.0, columns.unit_cost * np.abs(quantities) * columns.price, 0.0)
    values = {
        "at": at,
        "symbol": symbols,
        "mu": columns.mu,
        "sigma": columns.sigma,
        "kelly": columns.kelly,
        "target": columns.target_weight,
        "qty": quantities,
        "binding": columns.join_binding_names(),
        "until": until,
        "held": columns.held_weight,
        "price": columns.price,
        "cost": cost,
        **dict(zip([f"plan_{name}" for name in Rationale._fields], columns.rationale, strict=True)),
        "equity": equity,
        "strategy_reason": columns.strategy_reason,
        **{f"shadow_{name}": price for name, price in prices.items()},
    }
    names = (*DECISION_COLUMNS, *(f"shadow_{name}" for name in columns.group_limit_names))
    return frame_from_columns({name: values[name] for name in names})


def frame_from_rows(columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    return frame_from_columns({name: [row[k] for row in rows] for k, name in enumerate(columns)})


def frame_from_columns(columns: Mapping[str, Any]) -> pd.DataFrame:
    """Return a frame of these columns; give instants, texts and numbers their column types."""
    # Without an explicit type pandas guesses the types of empty columns.
    data: dict[str, Any] = {}
    for name, values in columns.items():
        if name in INSTANT_COLUMNS:
            instants = pd.DatetimeIndex(np.array(values, dtype="datetime64[ns]"))
            data[name] = instants.tz_localize("UTC")
        else:
            data[name] = pd.Series(values, dtype="str" if name in TEXT_COLUMNS else "float64")
    return pd.DataFrame(data, columns=list(columns))


CRYPTO_FEE_ORDER_PREFIX = "crypto_fee"  # the strategy part in the id of a fee paid in crypto
SPLIT: Literal["split"] = "split"  # the strategy part in the id of a split
DELISTED: Literal["delisted"] = "delisted"  # the strategy part in the id of a delisting
BookingKind = Literal[
    "spread",
    "slippage",
    "delisted",
    "dividend",
    "split",
    "borrow",
    "interest",
    "cash_interest",
    "rounding",
    "other",
    "transfer",
]


class EquityRow(NamedTuple):
    """Account after the fills of an instant, marked at the last known closes; USD.

    Amounts from `interest` on are cash flows since the previous row.

    at: the instant.
    cash: cash; negative if borrowed.
    equity: cash plus positions.
    gross_stock: gross value of stock positions.
    gross_crypto: gross value of crypto positions.
    interest: interest on borrowed cash, positive when paid.
    fees: fees of fills.
    other: signed sum of all cash flows other than fills, fees and interest: borrow fees, rounding
        of the day's fees, dividends, interest on cash.
    spread: half-spreads paid by fills.
    slippage: slippage paid by fills.
    crypto_fees: value of fees paid in crypto.
    borrow: borrow fees paid for shorts.
    rounding: rounding of the day's fees to the cent.
    dividends: dividends received, signed.
    """

    at: np.datetime64
    cash: float
    equity: float
    gross_stock: float
    gross_crypto: float
    interest: float
    fees: float
    other: float
    spread: float
    slippage: float
    crypto_fees: float
    borrow: float
    rounding: float
    dividends: float


class Booking(NamedTuple):
    """A cash flow of one symbol, or of the whole account, other than the price or fee of a fill.

    at: instant of the equity row that includes the flow.
    symbol: symbol; empty for a flow of the account.
    kind: kind of the flow. `spread`, `slippage` and `delisted` (last price less delisting price)
        are already contained in the prices of fills; `split` is cash for a fraction of a share;
        `cash_interest` is interest received; `rounding` rounds a day's fees to the cent; `other` is
        any other booking of a live account; `transfer` is a deposit, which is not profit.
    usd: amount, USD; negative if paid.
    """

    at: np.datetime64
    symbol: str
    kind: BookingKind
    usd: float


def is_trade(fill: Fill) -> bool:
    """Return whether a fill is a trade rather than a crypto fee, a split or a delisting."""
    return fill.price > 0 and parse_order_prefix(fill.client_order_id) != DELISTED


class InitialPosition(NamedTuple):
    """A position in the opening balance of a run.

    quantity: signed quantity, shares or coins.
    price: mark in the run's first equity row, USD.
    """

    quantity: Decimal
    price: float


@dataclass(frozen=True)
class Run:
    """Decisions, fills and equity of one simulated or live account, in time order.

    name: name of the decider, such as that of its forecaster.
    decisions: one decision for each instant with a decision.
    fills: all fills, including crypto fees, splits and delistings.
    equity_rows: equity row of each instant at which a bar became known.
    margin_event_counts: number of margin interventions by kind; empty if they are not counted.
    bookings: cash flows of the equity rows by symbol, without fees.
    initial_positions: positions before the first equity row, by symbol.
    protective_orders: protective orders sent, each with the instant of the last bar before it.
    unprotected_sessions: New York date and symbol of each session in which a bar began while the
        position in the symbol had no protective order.
    """

    name: str
    decisions: Sequence[Decision]
    fills: list[Fill]
    equity_rows: list[EquityRow]
    margin_event_counts: dict[str, int]
    bookings: list[Booking] = field(default_factory=list)
    initial_positions: Mapping[str, InitialPosition] = field(default_factory=dict)
    protective_orders: Sequence[tuple[np.datetime64, Order]] = ()
    unprotected_sessions: Collection[tuple[np.datetime64, str]] = ()

    @cached_property
    def decision_log(self) -> DecisionLog:
        if isinstance(self.decisions, DecisionLog):
            return self.decisions
        return DecisionLog(self.decisions)

    def equity(self) -> pd.DataFrame:
        """Return the equity rows as a frame: one row per instant of a known bar, USD."""
        return frame_from_rows(
            EQUITY_COLUMNS, list(map(attrgetter(*EQUITY_COLUMNS), self.equity_rows))
        )

    def equity_curve(self) -> tuple[Instants, Array]:
        """Return the instants and the equity (USD) of all equity rows, [N] each."""
        return self._curve

    @cached_property
    def _curve(self) -> tuple[Instants, Array]:
        return np.array([r.at for r in self.equity_rows]), np.array(
            [r.equity for r in self.equity_rows]
        )

    def position_quantities(self, symbols: Sequence[str]) -> Array:
        """Return each symbol's signed position after the fills of each equity row, [S, N].

        Positions are in shares or coins.
        """
        at, _ = self.equity_curve()
        held = np.zeros((len(symbols), len(at)))
        changes: dict[str, list[Fill]] = {}
        for fill in self.fills:
            changes.setdefault(fill.symbol, []).append(fill)
        for s, symbol in enumerate(symbols):
            begin = (
                float(self.initial_positions[symbol].quantity)
                if symbol in self.initial_positions
                else 0.0
            )
            own = changes.get(symbol, [])
            booked = np.array([fill.booked_at for fill in own], dtype=at.dtype)
            sizes = np.cumsum([begin, *(float(fill.qty) for fill in own)])
            held[s] = sizes[np.searchsorted(booked, at, side="right")]
        return held

    def slice_until(self, at: np.datetime64) -> Run:
        return replace(
            self,
            decisions=[decision for decision in self.decisions if decision.at <= at],
            fills=[fill for fill in self.fills if fill.booked_at <= at],
            equity_rows=[row for row in self.equity_rows if row.at <= at],
            bookings=[booking for booking in self.bookings if booking.at <= at],
            protective_orders=[each for each in self.protective_orders if each[0] <= at],
        )

    def count_incomplete_orders(self) -> int:
        """Return the number of orders that were not filled completely."""
        filled: dict[str, Decimal] = {}
        for fill in self.fills:
            # A fill at price 0 is a fee in crypto or a split. Neither fills an order.
            if fill.price > 0:
                before = filled.get(fill.client_order_id, Decimal(0))
                filled[fill.client_order_id] = before + abs(fill.qty)
        short = 0
        for _, order in self.decision_log.orders:
            short += not is_fully_filled(filled.get(order.client_order_id, Decimal(0)), order.qty)
        return short

    def fill_frame(self) -> pd.DataFrame:
        """Return the fills as a frame, in time order: signed qty, price and fee in USD.

        Column `booked_at` is the instant of the `equity` row that includes the fill; it is never
        before `at`, the time of the fill.
        """
        rows: list[tuple[Any, ...]] = [
            (f.at, f.symbol, float(f.qty), f.price, f.fee, f.client_order_id, f.booked_at)
            for f in sorted(self.fills, key=attrgetter("at"))
        ]
        return frame_from_rows(FILL_COLUMNS, rows)

    def booking_frame(self) -> pd.DataFrame:
        """Return the bookings as a frame.

        `usd` is negative for amounts paid; `symbol` is empty for cash flows of the whole account.
        """
        return frame_from_rows(BOOKING_COLUMNS, [tuple(booking) for booking in self.bookings])

    def order_frame(self) -> pd.DataFrame:
        """Return the sent orders as a frame, with their reasons; qty is positive."""
        rows: list[tuple[Any, ...]] = []
        sent = [*self.decision_log.orders, *self.protective_orders]
        if self.protective_orders:
            sent.sort(key=itemgetter(0))
        for at, o in sent:
            identity = at, o.client_order_id, o.symbol
            rows.append((*identity, o.side, float(o.qty), o.type, o.tif, str(o.reason)))
        return frame_from_rows(ORDER_COLUMNS, rows)

    def decision_frame(self) -> pd.DataFrame:
        """Return a frame with one row per decided symbol.

        `mu` and `sigma` are forecasts up to `until`. `plan_…` columns explain the target over those
        forecast periods that determined it. `kelly` (before any limit, over these periods), `held`
        and `target` are weights. `price` and `cost`, the cost of the change, are in USD. `shadow_…`
        columns are shadow prices: the gain in expected return net of risk per unit of a limit, in
        equity; 0 if the limit does not bind. `equity` is the account's equity in USD, the base of
        the weights. `strategy_reason` is the strategy's own reason.
        """
        return self.decision_log.frame


def premium_share(run: Run) -> float | None:
    """Return the share of the mean position that the assumed risk premium explains.

    The forecast explains the rest. Each target is split between them in proportion to the absolute
    expected returns from premium and from forecast, and is weighted by its size and by the time to
    the next decision. None if no target has either.
    """
    d = run.decision_frame()
    hours = holding_hours(d) * d["target"].abs()
    expected = d["plan_period_premium"].abs() + d["plan_forecast"].abs()
    counts = np.isfinite(hours) & (expected > 0)
    weight = (hours / expected)[counts]
    earned = float((weight * d["plan_period_premium"].abs()[counts]).sum())
    forecast = float((weight * d["plan_forecast"].abs()[counts]).sum())
    return earned / (earned + forecast) if earned + forecast > 0 else None


def holding_hours(decisions: pd.DataFrame) -> pd.Series:
    """Return the hours from each decision on a symbol to the next that can change the position."""
    length = decisions["until"] - decisions["at"]
    return length.dt.total_seconds() / 3600


def run_file_writers(run: Run) -> dict[str, Callable[[Path], object]]:
    """Return the functions that write a run's files (decisions, orders, fills, …), by file name."""
    frames = {
        "fills.parquet": run.fill_frame,
        "orders.parquet": run.order_frame,
        "decisions.parquet": run.decision_frame,
    }
    if run.equity_rows:
        frames |= {"equity.parquet": run.equity, "bookings.parquet": run.booking_frame}
    return {name: partial(_write_parquet, frame, run.name) for name, frame in frames.items()}


def _write_parquet(frame: Callable[[], pd.DataFrame], forecaster: str, path: Path) -> None:
    table = pa.Table.from_pandas(frame(), preserve_index=False)
    metadata = {**(table.schema.metadata or {}), b"forecaster": forecaster.encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path)
