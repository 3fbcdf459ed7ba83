"""Journal of a live account, read as a run: decisions, orders, fills, bookings, positions.

`revalue_at_closes` marks the positions of such a run at bar closes, as in a backtest.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from operator import attrgetter
from pathlib import Path
from typing import get_args

import numpy as np

from execution.decision.decision import Decision, decision_from_choices
from execution.decision.tiers import highest_equity
from execution.journal.activities import (
    EPOCH,
    ActivityKind,
    BookingRow,
    FillRow,
    read_bookings,
    read_fills_since,
)
from execution.journal.cycles import CycleRow, read_cycles
from execution.journal.decisions import DecisionRow, decisions_since
from execution.journal.evidence import read_earned_fractions
from execution.journal.marks import EquityMark, read_marks
from execution.journal.order_store import UNSENT_STATES, OrderIntent, read_intents
from execution.journal.schema import open_journal_for_reading
from execution.orders.option_orders import SHARES_PER_OPTION, is_option
from execution.orders.orders import Fill, Order, make_order_id, parse_order_instant
from foundation.arrays import Instants
from foundation.database import Database
from foundation.decimals import ZERO_FRACTION, to_fraction
from foundation.errors import InputError
from marketsimulator.results import attribution
from marketsimulator.run_result import (
    CRYPTO_FEE_ORDER_PREFIX,
    DELISTED,
    Booking,
    BookingKind,
    EquityRow,
    InitialPosition,
    Run,
)
from trainingdata.instants import format_utc
from trainingdata.instruments import is_crypto
from trainingdata.market import Market

Number = float | Fraction
ROUNDING_TOLERANCE_USD = 0.005  # USD, above any rounding error of floats
_BOOKING_KIND_BY_ACTIVITY: Mapping[ActivityKind, BookingKind] = {
    "dividend": "dividend",
    "split": "split",
    "interest": "interest",
    "fee": "rounding",
    "coin fee": "rounding",
    "transfer": "transfer",
}
_ORDER_PREFIX_BY_ACTIVITY: Mapping[ActivityKind, str] = {
    "coin fee": CRYPTO_FEE_ORDER_PREFIX,
    "merger": DELISTED,
    "worthless removal": DELISTED,
}


@dataclass(frozen=True, slots=True)
class ExactAccount:
    """Account snapshot in exact fractions, taken by a trading cycle before it sends orders.

    observed_at: instant according to the venue's clock.
    equity: equity reported by the venue, USD.
    positions: signed quantities by symbol.
    prices: prices of symbols with a position or a decision, USD by symbol.
    """

    observed_at: np.datetime64
    equity: Fraction
    positions: Mapping[str, Fraction]
    prices: Mapping[str, Fraction]

    @property
    def cash(self) -> Fraction:
        """Return equity less the value of positions, USD."""
        return self.equity - sum(self.position_values.values(), ZERO_FRACTION)

    @property
    def position_values(self) -> dict[str, Fraction]:
        """Return the signed value of each position, USD by symbol."""
        return {symbol: held * self.prices[symbol] for symbol, held in self.positions.items()}

    @property
    def initial_positions(self) -> dict[str, InitialPosition]:
        """Convert the positions to initial positions of a run."""
        return {
            symbol: InitialPosition(
                Decimal(held.numerator) / held.denominator, float(self.prices[symbol])
            )
            for symbol, held in self.positions.items()
        }


@dataclass(frozen=True, eq=False, slots=True)
class JournalRecord:
    """Records of a live account's journal, in time order.

    decisions: decisions of the job that trades stocks and crypto.
    intents: order intents of all jobs, by client_order_id.
    fills: fills that the venue listed.
    activities: bookings that the venue listed (dividends, fees, transfers, …).
    equity_marks: equity and position values at each account snapshot.
    cycles: trading cycles of the job, each with its end.
    earned_fractions: fraction that the forecast had earned, by instant of the decision.
    """

    decisions: tuple[DecisionRow, ...]
    intents: Mapping[str, OrderIntent]
    fills: tuple[FillRow, ...]
    activities: tuple[BookingRow, ...]
    equity_marks: tuple[EquityMark, ...]
    cycles: tuple[CycleRow, ...]
    earned_fractions: Mapping[np.datetime64, float] = field(default_factory=dict)

    @classmethod
    def from_database(cls, database: Database, job: str) -> JournalRecord:
        """Read all records of a journal.

        job: name of the job whose decisions and cycles are read.
        """
        return cls(
            decisions=_last_of_each(decisions_since(database, job, EPOCH)),
            intents={intent.client_order_id: intent for intent in read_intents(database)},
            fills=tuple(read_fills_since(database, EPOCH)),
            activities=tuple(read_bookings(database)),
            equity_marks=tuple(read_marks(database, EPOCH)),
            cycles=_with_cycle_ends(read_cycles(database, job)),
            earned_fractions=read_earned_fractions(database, job),
        )

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return all symbols with a decision, sorted."""
        return tuple(sorted({symbol for each in self.decisions for symbol in each.choices}))

    def order_by_id(self, client_order_id: str) -> Order:
        if client_order_id not in self.intents:
            raise InputError(
                f"journal: order {client_order_id}, which a decision replaces, does not exist in"
                " the journal"
            )
        return self.intents[client_order_id].stock_or_crypto_order

    def first_account_snapshot(self) -> ExactAccount:
        return self.account_at_decision(self.decisions[0])

    def first_and_last_snapshots(self) -> tuple[ExactAccount, ExactAccount]:
        """Return the account at the first and at the last mark of the journal.

        If the first mark has positions, the account of the first decision replaces it.
        """
        first, last = self.equity_marks[0], self.equity_marks[-1]
        begin = ExactAccount(first.at, to_fraction(first.equity), {}, {})
        if first.positions and self.decisions:
            begin = self.first_account_snapshot()
        return begin, self._account_at_mark(last, begin)

    def last_covered_snapshot(self, is_covered: Callable[[np.datetime64], bool]) -> ExactAccount:
        """Return the last account snapshot at an instant that the bars cover.

        The venue lists the fills of a cycle's orders only by the next cycle. The last cycle can
        therefore contribute only its snapshot before its orders.

        is_covered: function that returns whether the bars cover an instant.
        """
        for each in reversed(self.cycles):
            decided = [d for d in self.decisions if _is_in_cycle(d.decided_at, each)]
            if decided and is_covered(decided[0].decided_at):
                return self.account_at_decision(decided[0])
            marked = [mark for mark in self.equity_marks if _is_in_cycle(mark.at, each)]
            if not decided and marked and is_covered(marked[0].at):
                return self._account_at_mark(marked[0], self.first_account_snapshot())
        return self.first_account_snapshot()

    def is_decision_sent_before(self, instant: np.datetime64, snapshot: ExactAccount) -> bool:
        """Return whether the orders decided at an instant were sent before a snapshot was taken."""
        later = [
            d for d in self.decisions if d.at == instant and d.decided_at >= snapshot.observed_at
        ]
        return bool(snapshot.observed_at > instant) and not later

    def account_at_decision(self, decision: DecisionRow) -> ExactAccount:
        """Return the account snapshot on which a decision was based.

        Raises `InputError` if the journal has no price of a position.
        """
        known = bisect_right(self.equity_marks, decision.decided_at, key=attrgetter("at"))
        values = self.equity_marks[known - 1].positions if known else {}
        positions = {s: to_fraction(held) for s, held in decision.positions.items() if held}
        prices = {symbol: to_fraction(choice.price) for symbol, choice in decision.choices.items()}
        for symbol, held in positions.items():
            if symbol in prices:
                continue
            if symbol not in values:
                raise InputError(
                    f"journal: decision {decision.decision_id} has a position in {symbol}, but the"
                    " journal has no price for it; set end to a time before this decision"
                )
            prices[symbol] = to_fraction(values[symbol]) / held
        return ExactAccount(decision.decided_at, to_fraction(decision.equity), positions, prices)

    def highest_equity_before(self, decision: DecisionRow) -> float:
        """Return the highest equity at earlier decisions, adjusted for deposits; 0 without any.

        `read_highest_equity` returned the same to the live decision.
        """
        earlier = self.decisions[: self.decisions.index(decision)]
        until = decision.decided_at
        return highest_equity(
            {each.decided_at: each.equity for each in earlier},
            {each.at: each.net_deposits for each in self.equity_marks if each.at <= until},
        )

    def _account_at_mark(self, mark: EquityMark, start: ExactAccount) -> ExactAccount:
        """Rebuild the account at a mark, which records the value of each position but no quantity.

        The quantities follow from the positions of `start` and the fills and activities since then.
        """
        held = dict(start.positions)
        for fill in self.fills_between(start.observed_at, mark.at):
            held[fill.symbol] = held.get(fill.symbol, ZERO_FRACTION) + to_fraction(fill.quantity)
        for each in self.activities:
            if each.symbol and start.observed_at < each.listed_at <= mark.at:
                held[each.symbol] = held.get(each.symbol, ZERO_FRACTION) + to_fraction(
                    each.quantity
                )
        positions = {symbol: quantity for symbol, quantity in held.items() if quantity}
        known = {symbol: value for symbol, value in mark.positions.items() if symbol in positions}
        prices = {symbol: to_fraction(value) / positions[symbol] for symbol, value in known.items()}
        priced = {symbol: quantity for symbol, quantity in positions.items() if symbol in prices}
        return ExactAccount(mark.at, to_fraction(mark.equity), priced, prices)

    def fills_between(self, since: np.datetime64, until: np.datetime64) -> list[FillRow]:
        """Return the fills that the account at `until` includes, but not the account at `since`."""
        # A fill that was listed by an instant has traded by then.
        traded = bisect_right(self.fills, until, key=attrgetter("at"))
        return [
            fill
            for fill in self.fills[:traded]
            if self._is_fill_before(fill, until) and not self._is_fill_before(fill, since)
        ]

    def _is_fill_before(self, fill: FillRow, at: np.datetime64) -> bool:
        """Return whether the account snapshot at an instant includes a fill.

        A practice venue dates a fill by the instant of its bar, which may precede the cycle that
        sent the order. A fill of a journaled order is therefore included only in snapshots after
        the order was sent.
        """
        intent = self.intents.get(fill.client_order_id)
        if intent is not None and intent.sent_at >= at:
            return False
        return bool(fill.at < at or fill.listed_at <= at)

    def decisions_with_orders(self) -> list[Decision]:
        """Convert the rows of journaled decisions to `Decision` objects with their orders."""
        orders: dict[str, list[Order]] = {}
        for intent in self.intents.values():
            if isinstance(intent.order, Order):
                orders.setdefault(intent.decision_id, []).append(intent.order)
        return [
            decision_from_choices(
                row.at,
                row.interval_end,
                row.equity,
                row.stock_ceiling,
                tuple(row.choices.values()),
                tuple(orders.get(row.decision_id, ())),
                failure=row.sizing_failure,
                group_limit_names=row.group_limit_names,
            )
            for row in self.decisions
        ]

    def protective_orders(self, until: np.datetime64) -> list[tuple[np.datetime64, Order]]:
        """Return the protective orders sent up to an instant, each with the instant in its id."""
        sent = [
            (parse_order_instant(intent.client_order_id), intent.stock_or_crypto_order)
            for intent in self.intents.values()
            if intent.role == "protection" and intent.state not in UNSENT_STATES
        ]
        return [each for each in sent if each[0] <= until]

    def net_deposits(self, since: np.datetime64, until: np.datetime64) -> Fraction:
        """Return deposits less withdrawals that the venue listed between two instants, USD."""
        paid_in = (
            to_fraction(each.amount)
            for each in self.activities
            if each.kind == "transfer" and since < each.listed_at <= until
        )
        return sum(paid_in, ZERO_FRACTION)

    def build_run(
        self,
        name: str,
        start: ExactAccount,
        end: ExactAccount,
        symbols: Collection[str] | None = None,
    ) -> Run:
        """Build the run of the live account between two snapshots, with the venue's figures.

        Each mark of the account is an equity row. Equity and cash are the venue's, less net
        deposits since `start`. Positions in symbols outside `symbols` count as cash. Fill prices
        include the spread, which the venue does not report separately. All fees are booked as
        `rounding`, because the venue books fees separately from trades.

        name: name of the decider.
        start, end: first and last snapshot.
        symbols: symbols of the run; None: all symbols with a decision.
        """
        symbols = set(self.symbols if symbols is None else symbols)
        marks = [
            mark for mark in self.equity_marks if start.observed_at < mark.at < end.observed_at
        ]
        instants = np.unique([start.observed_at, *(mark.at for mark in marks), end.observed_at])
        fills = [
            _to_fill(fill, instants[k])
            for fill in self.fills
            if 0 < (k := self._booking_row(fill, instants)) < len(instants)
        ]
        booked: list[list[BookingRow]] = [[] for _ in instants]
        ends: list[tuple[int, BookingRow]] = []
        for each in self.activities:
            k = int(np.searchsorted(instants, each.listed_at))
            if 0 < k < len(instants):
                if each.quantity:
                    fills.append(_non_trade_fill(each, instants[k]))
                if _ORDER_PREFIX_BY_ACTIVITY.get(each.kind) == DELISTED and each.quantity:
                    ends.append((k, each))
                else:
                    booked[k].append(each)
        read: list[tuple[Number, Mapping[str, Number]]] = [
            (start.equity, start.position_values),
            *((mark.equity, mark.positions) for mark in marks),
        ]
        read += [(end.equity, end.position_values)] * (len(instants) - len(read))
        rows = []
        paid_in = 0.0
        for at, (equity, worth), own in zip(instants, read, booked, strict=True):
            paid_in += math.fsum(float(each.amount) for each in own if each.kind == "transfer")
            own_worth = {symbol: usd for symbol, usd in worth.items() if symbol in symbols}
            rows.append(_equity_row(at, float(equity) - paid_in, own_worth, own))
        bookings = [
            Booking(at, each.symbol, _booking_kind(each), float(each.amount))
            for at, own in zip(instants, booked, strict=True)
            for each in own
            if each.amount
        ]
        for k, each in ends:
            # A security that replaces another one is valued at the price of its booking.
            if each.symbol not in read[k][1]:
                last = float(read[k - 1][1].get(each.symbol, 0.0))
                bookings.append(
                    Booking(instants[k], each.symbol, DELISTED, float(each.amount) - last)
                )
        decisions = [
            decision for decision in self.decisions_with_orders() if decision.at <= end.observed_at
        ]
        fills.sort(key=attrgetter("booked_at"))
        return Run(
            name,
            decisions,
            fills,
            rows,
            {},
            bookings,
            start.initial_positions,
            self.protective_orders(end.observed_at),
        )

    def _booking_row(self, fill: FillRow, instants: Instants) -> int:
        """Return the index of the first of these instants whose account snapshot includes a fill.

        The snapshot of an instant is the last one of its trading cycle. At a practice venue with a
        waiting clock, venue time stands still during a cycle while local time goes on. Times of
        sending and listing are therefore compared in whole seconds.
        """
        intent = self.intents.get(fill.client_order_id)
        traded = np.searchsorted(instants, fill.at)
        after = np.searchsorted(instants, fill.at, side="right")
        listed = np.searchsorted(instants, _truncate_to_second(fill.listed_at))
        sent = (
            0 if intent is None else np.searchsorted(instants, _truncate_to_second(intent.sent_at))
        )
        k = int(max(traded, sent, min(after, listed)))
        # The first and the last snapshot are those of decisions, before their orders.
        beyond = k in (0, len(instants) - 1) and not self._is_fill_before(fill, instants[k])
        return k + beyond


def read_journal(path: Path, job: str) -> JournalRecord:
    """Read a journal; a running live loop may write to it at the same time.

    job: name of the job whose decisions and cycles are read.
    Raises `InputError` if there is no journal or if the journal has no decision of the job.
    """
    if not path.is_file():
        raise InputError(
            f"journal: {path} is not a file; give the journal.sqlite file of an account"
        )
    with open_journal_for_reading(path) as database:
        # A process may have ended before it created the tables.
        begun = database.query("SELECT 1 FROM sqlite_master WHERE name = 'decisions'")
        record = JournalRecord.from_database(database, job) if begun else None
    if record is None or not record.decisions:
        raise InputError(
            f"journal: {path} contains no decision of job {job}; give the journal of an"
            " account that the job trades"
        )
    return record


def _last_of_each(decisions: Iterable[DecisionRow]) -> tuple[DecisionRow, ...]:
    """Return the last decision made for each instant, in time order."""
    by_instant = {decision.at: decision for decision in decisions}
    return tuple(by_instant[at] for at in sorted(by_instant))


def _with_cycle_ends(cycles: Sequence[CycleRow]) -> tuple[CycleRow, ...]:
    """Return the trading cycles; give each cycle without a recorded end the start of the next one.

    Such a cycle was killed. The last cycle may remain without an end.
    """
    ends = [*(each.began_at for each in cycles[1:]), None]
    return tuple(
        replace(each, ended_at=later) if each.ended_at is None else each
        for each, later in zip(cycles, ends, strict=False)
    )


def _is_in_cycle(at: np.datetime64, each: CycleRow) -> bool:
    return bool(each.began_at <= at and (each.ended_at is None or at <= each.ended_at))


def _equity_row(
    at: np.datetime64, equity: float, positions: Mapping[str, Number], booked: Sequence[BookingRow]
) -> EquityRow:
    """Return the equity row of an account snapshot.

    positions: signed value of each position, USD by symbol.
    booked: bookings listed since the previous snapshot.
    """
    worth = {symbol: float(usd) for symbol, usd in positions.items()}
    sums = dict.fromkeys(get_args(BookingKind), 0.0)
    for each in booked:
        sums[_booking_kind(each)] += float(each.amount)
    return EquityRow(
        at=at,
        cash=equity - math.fsum(worth.values()),
        equity=equity,
        gross_stock=math.fsum(abs(usd) for symbol, usd in worth.items() if not is_crypto(symbol)),
        gross_crypto=math.fsum(abs(usd) for symbol, usd in worth.items() if is_crypto(symbol)),
        interest=0.0 - sums["interest"],
        fees=0.0,
        other=math.fsum(usd for kind, usd in sums.items() if kind not in ("interest", "transfer")),
        spread=0.0,
        slippage=0.0,
        crypto_fees=0.0,
        borrow=0.0,
        rounding=0.0 - sums["rounding"],
        dividends=sums["dividend"],
    )


def _booking_kind(each: BookingRow) -> BookingKind:
    if each.kind == "interest" and each.amount > 0:
        return "cash_interest"
    return _BOOKING_KIND_BY_ACTIVITY.get(each.kind, "other")


def _to_fill(fill: FillRow, booked_at: np.datetime64) -> Fill:
    """Convert the journal's row of a fill to a fill of a run.

    Its fee is 0, because the venue books fees separately.

    booked_at: instant of the equity row that includes the fill.
    """
    units = SHARES_PER_OPTION if is_option(fill.symbol) else 1
    name = fill.client_order_id or trade_id_without_order(fill.symbol, fill.at)
    price = float(fill.price * units)
    return Fill(name, fill.symbol, fill.quantity, price, 0.0, fill.at, booked_at)


def _non_trade_fill(each: BookingRow, booked_at: np.datetime64) -> Fill:
    """Convert a booking that changes a position, such as a split or a crypto fee, to a fill.

    The price is 0; for a delisted symbol it is the price paid per share.
    """
    cause = _ORDER_PREFIX_BY_ACTIVITY.get(each.kind, each.kind.replace(" ", "_"))
    name = make_order_id(cause, each.at, each.symbol, 0)
    paid = -float(each.amount / each.quantity) if each.kind == "merger" else 0.0
    return Fill(name, each.symbol, each.quantity, max(paid, 0.0), 0.0, booked_at)


def _truncate_to_second(at: np.datetime64) -> np.datetime64:
    second: np.datetime64 = at.astype("datetime64[s]").astype("datetime64[ns]")
    return second


def trade_id_without_order(symbol: str, at: np.datetime64) -> str:
    """Return an identifier, symbol and instant, for a trade without an order in the journal."""
    return f"{symbol} {format_utc(at)}"


def revalue_at_closes(run: Run, market: Market) -> Run:
    """Return the run with its equity rows revalued at the closes of the bars.

    Positions are marked at their last close, as in a backtest. Symbols without bars count as cash.
    Changes of cash that neither fills nor bookings explain are booked under the account with the
    kind `other`.
    """
    bars = market.bars
    fills = [fill for fill in run.fills if fill.symbol in bars.symbols]
    at, _ = run.equity_curve()
    cash = np.array([row.cash for row in run.equity_rows])
    instants = np.minimum(np.searchsorted(at, [fill.booked_at for fill in fills]), len(at) - 1)
    paid = np.zeros(len(at))
    np.add.at(paid, instants, [float(fill.qty) * fill.price for fill in fills])
    crypto_fees = np.zeros(len(at))
    np.add.at(crypto_fees, instants, attribution.value_crypto_fees(fills))
    gross = {False: np.zeros(len(at)), True: np.zeros(len(at))}
    equity = cash.copy()
    initial_positions = {}
    quantities = run.position_quantities(bars.symbols)
    for s, symbol in enumerate(bars.symbols):
        if not quantities[s].any():
            continue
        marks, _ = attribution.marks_and_split_ratios(market, s, at)
        worth = quantities[s] * marks
        equity += worth
        gross[bool(bars.crypto[s])] += np.abs(worth)
        if symbol in run.initial_positions:
            initial_positions[symbol] = InitialPosition(
                run.initial_positions[symbol].quantity, float(marks[0])
            )
    listed = np.array([row.other - row.interest for row in run.equity_rows])
    unlisted = np.diff(cash, prepend=cash[0]) + paid - listed
    rows = [
        row._replace(
            equity=float(equity[k]),
            gross_stock=float(gross[False][k]),
            gross_crypto=float(gross[True][k]),
            other=row.other + float(unlisted[k]),
            crypto_fees=float(crypto_fees[k]),
        )
        for k, row in enumerate(run.equity_rows)
    ]
    unexplained = [
        Booking(row.at, "", "other", float(unlisted[k]))
        for k, row in enumerate(run.equity_rows)
        if abs(unlisted[k]) >= ROUNDING_TOLERANCE_USD
    ]
    bookings = [
        booking if booking.symbol in bars.symbols else booking._replace(symbol="")
        for booking in (*run.bookings, *unexplained)
    ]
    return replace(
        run, fills=fills, equity_rows=rows, bookings=bookings, initial_positions=initial_positions
    )
