"""Equity marks of an account, one after every cycle, and their log lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Json

from execution.decision.watch import Exposure
from execution.journal.rows import ExactDecimal, Float, Instant, JournalTable, format_instant
from execution.orders.account_snapshot import AccountSnapshot
from foundation.database import Database
from trainingdata.instants import new_york_day

if TYPE_CHECKING:
    from sizing.settings import Limits

_ONE = Decimal(1)
_ZERO = Decimal(0)
_INSTANT = np.timedelta64(1, "ns")


@dataclass(frozen=True, slots=True)
class EquityMark:
    """Journal row of an account's equity at an instant, with its point in the return index; USD.

    at: instant by the venue's clock.
    equity: cash plus positions.
    cash: cash; below 0 for borrowed cash.
    gross_stock: sum of the absolute values of stock positions.
    gross_crypto: sum of the absolute values of crypto positions.
    stock_ceiling: largest gross stock exposure allowed at the mark, in multiples of equity.
    net_deposits: deposits less withdrawals since the previous mark.
    positions: signed value of each position, by symbol.
    return_index: index of linked (time-weighted) returns at the mark.
    index_peak, index_at_day_start: highest index so far, and index at the start of the day.
    accepted_daily_loss, accepted_drawdown: daily loss and drawdown that a person has accepted, as
        fractions.
    """

    at: Instant
    equity: Float
    cash: Float
    gross_stock: Float
    gross_crypto: Float
    stock_ceiling: Float
    net_deposits: Float
    positions: Json[Mapping[str, Float]]
    return_index: ExactDecimal = _ONE
    index_peak: ExactDecimal = _ONE
    index_at_day_start: ExactDecimal = _ONE
    accepted_daily_loss: ExactDecimal = _ZERO
    accepted_drawdown: ExactDecimal = _ZERO

    @property
    def index_point(self) -> ReturnIndexPoint:
        """The mark's point in the index of linked (time-weighted) returns."""
        index = (
            self.return_index,
            self.index_peak,
            self.index_at_day_start,
            self.accepted_daily_loss,
            self.accepted_drawdown,
        )
        return ReturnIndexPoint(self.at, to_decimal(self.equity), *index)

    @property
    def ceiling_use(self) -> float:
        """Gross stock exposure, multiples of the largest that is allowed at the mark."""
        return Exposure(self.positions, self.equity, self.stock_ceiling).ceiling_use

    def with_index_point(self, point: ReturnIndexPoint) -> EquityMark:
        return replace(
            self,
            return_index=point.return_index,
            index_peak=point.index_peak,
            index_at_day_start=point.index_at_day_start,
            accepted_daily_loss=point.accepted_daily_loss,
            accepted_drawdown=point.accepted_drawdown,
        )


MARKS_TABLE = JournalTable(
    "marks", EquityMark, column_names={"net_deposits": "flows", "index_point": "point"}
)


class EquityMarkJournal:
    """The equity marks of an account, as recorded in its journal.

    database: the account's journal.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        MARKS_TABLE.create(database)

    def record_mark(self, mark: EquityMark, point: ReturnIndexPoint) -> None:
        """Record a mark with its index point, replacing an earlier mark of the same instant."""
        MARKS_TABLE.upsert(self._database, mark.with_index_point(point))

    def index_point_before(self, at: np.datetime64 | None = None) -> ReturnIndexPoint | None:
        """Return the index point of the last mark; None without one.

        at: if given, only marks before this instant are considered.
        """
        condition, values = ("", ()) if at is None else ("WHERE at < ?", (format_instant(at),))
        last = MARKS_TABLE.first_row(self._database, f"{condition} ORDER BY at DESC", values)
        return None if last is None else last.index_point

    def last_mark(self) -> EquityMark | None:
        """Return the latest mark; None without one."""
        return MARKS_TABLE.first_row(self._database, "ORDER BY at DESC")

    def net_deposits_before(self, at: np.datetime64) -> float:
        """Return deposits less withdrawals, summed over the marks before an instant, USD."""
        query = "SELECT coalesce(sum(flows), 0) FROM marks WHERE at < ?"
        return float(self._database.query(query, (format_instant(at),))[0][0])

    def net_deposits_between(self, first: np.datetime64, last: np.datetime64) -> float:
        """Return deposits less withdrawals after one mark, up to another one, USD."""
        before, until = (self.net_deposits_before(at + _INSTANT) for at in (first, last))
        return until - before

    def marks_since(self, since: np.datetime64) -> list[EquityMark]:
        """Return the marks at or after an instant, oldest first."""
        return read_marks(self._database, since)


def read_marks(database: Database, since: np.datetime64) -> list[EquityMark]:
    """Return the marks in a journal at or after an instant, oldest first."""
    return MARKS_TABLE.select_rows(database, "WHERE at >= ? ORDER BY at", (format_instant(since),))


def format_exposure_line(mark: EquityMark) -> str:
    """Return a log line with the exposure to stocks and to crypto, in multiples of equity."""
    if mark.equity <= 0:
        held = f"stocks {mark.gross_stock:,.2f} USD, coins {mark.gross_crypto:,.2f} USD"
        return f"exposure: no equity; {held}"
    stocks, coins = mark.gross_stock / mark.equity, mark.gross_crypto / mark.equity
    return (
        f"exposure: stocks {stocks:.3f}x of {mark.stock_ceiling:g}x, coins {coins:.3f}x"
        f"{_format_positions(mark, '+.3f')}"
    )


def format_event_exposure_line(mark: EquityMark) -> str:
    """Return a log line with the exposure to event contracts, in multiples of equity."""
    worth = sum(mark.positions.values())
    if mark.equity <= 0:
        return f"exposure: no equity; contracts {worth:,.2f} USD"
    return f"exposure: contracts {worth / mark.equity:.3f}x{_format_positions(mark, '.3f')}"


def _format_positions(mark: EquityMark, digits: str) -> str:
    """Return the value of each position in multiples of equity, as text.

    digits: format of the numbers.
    """
    shares = {symbol: value / mark.equity for symbol, value in sorted(mark.positions.items())}
    parts = [f"{symbol} {share:{digits}}" for symbol, share in shares.items()]
    return f"; {', '.join(parts)}" if parts else ""


def build_mark(account: AccountSnapshot, limits: Limits, net_deposits: float) -> EquityMark:
    """Return the equity mark for an account snapshot.

    net_deposits: deposits less withdrawals since the previous mark, USD.
    """
    exposure = Exposure.from_account(account, limits)
    return EquityMark(
        at=account.as_of,
        equity=account.equity,
        cash=account.cash,
        gross_stock=exposure.gross_stock,
        gross_crypto=exposure.gross_crypto,
        stock_ceiling=exposure.stock_ceiling,
        net_deposits=net_deposits,
        positions=exposure.position_values,
    )


def format_profit_line(point: ReturnIndexPoint) -> str:
    """Return a log line with the day's return without deposits and withdrawals, and the equity.

    The day is the New York date of the mark.
    """
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    earned = round(-float(point.daily_loss), 4) + 0.0
    return f"PnL: {earned:+.2%} today, equity {point.equity:,.2f} USD"


@dataclass(frozen=True, slots=True)
class ReturnIndexPoint:
    """The index of linked (time-weighted) returns at one equity mark.

    at: instant by the venue's clock.
    equity: cash plus positions, USD.
    return_index: value to which the first equity has grown, without deposits and withdrawals, USD;
        it stays 0 after a total loss.
    index_peak: highest index so far, above 0.
    index_at_day_start: index at the last mark before the New York date of `at`, or at the first
        mark if there is no earlier one.
    accepted_daily_loss: loss of the day that a person has accepted, a fraction; 0 for none.
    accepted_drawdown: drawdown that a person has accepted, a fraction; 0 for none.
    """

    at: np.datetime64
    equity: Decimal
    return_index: Decimal
    index_peak: Decimal
    index_at_day_start: Decimal
    accepted_daily_loss: Decimal = _ZERO
    accepted_drawdown: Decimal = _ZERO

    @property
    def daily_loss(self) -> Decimal:
        """Fraction lost on the date of `at`, below 0 for a gain; 0 if the day began at index 0."""
        return (
            _ONE - self.return_index / self.index_at_day_start if self.index_at_day_start else _ZERO
        )

    @property
    def drawdown(self) -> Decimal:
        """Fraction lost since the highest index, from 0 to 1."""
        return _ONE - self.return_index / self.index_peak

    @classmethod
    def first_point(cls, at: np.datetime64, equity: Decimal | float) -> ReturnIndexPoint:
        """Return the first index point of an account.

        Without positive equity the index starts at 0, which counts as a total loss.
        """
        begin = max(to_decimal(equity), _ZERO)
        base = begin or _ONE
        return cls(at, to_decimal(equity), begin, base, base)

    def next_point(
        self, at: np.datetime64, equity: Decimal | float, net_deposits: Decimal | float
    ) -> ReturnIndexPoint:
        """Return the point that follows this one in the index.

        equity: equity at the next point, USD.
        net_deposits: deposits less withdrawals since this point, USD.
        """
        worth = to_decimal(equity)
        index = _ZERO
        if self.return_index and worth > 0:
            index = max(self.return_index * (worth - to_decimal(net_deposits)) / self.equity, _ZERO)
        same_day = new_york_day(at) == new_york_day(self.at)
        return ReturnIndexPoint(
            at=at,
            equity=worth,
            return_index=index,
            index_peak=max(self.index_peak, index),
            index_at_day_start=self.index_at_day_start if same_day else self.return_index,
            accepted_daily_loss=self.accepted_daily_loss if same_day else _ZERO,
            accepted_drawdown=self.accepted_drawdown,
        )

    def restart_index(
        self, at: np.datetime64, equity: Decimal | float, net_deposits: Decimal | float
    ) -> ReturnIndexPoint:
        """Start a new index at this point, and return the point that follows it.

        equity: equity at that next point, USD.
        net_deposits: deposits less withdrawals since this point, USD.
        """
        if self.equity <= 0:
            return ReturnIndexPoint.first_point(at, equity)
        return ReturnIndexPoint.first_point(self.at, self.equity).next_point(
            at, equity, net_deposits
        )


def to_decimal(value: Decimal | float) -> Decimal:
    """Return a number as a decimal; a float becomes the shortest decimal that denotes it."""
    return value if isinstance(value, Decimal) else Decimal(repr(float(value)))
