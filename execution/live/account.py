"""One account at a venue as all jobs of a process see it: what is believed of it, and guarded."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

import numpy as np

from execution.brokers import (
    MOST_LENT,
    NOTHING,
    READINGS,
    BrokerAccount,
    Holding,
    OtherOrder,
    Reading,
    Unbelieved,
    UnbelievedMarks,
)
from execution.journal.activities import ALL_TIME, Activity
from execution.journal.expected import NONE
from execution.journal.halts import HaltKind
from execution.journal.marks import exposure_line, mark_of, profit_line
from execution.journal.positions import OpeningPosition
from execution.live.belief import MarkBelief
from execution.live.cash import CashReading, room_of, why_unexplained
from execution.live.exposure import LastTrades, last_prices, prices_of_orders
from execution.live.guards import Guards
from execution.live.holdings import OVERLAP, Difference, HoldingsBook, Stake, at_stake
from execution.live.loop import Stop
from execution.live.losses import write_mark
from execution.live.open_account import OpenAccount
from execution.live.settings import LiveSettings
from execution.orders.option_orders import is_option
from execution.orders.orders import Account, Order, coin_bids
from execution.orders.risk_snapshot import RiskSnapshot
from foundation.decimals import INFINITE, plain, total
from foundation.errors import BrokerError, InputError, SenselessAnswer
from trainingdata.endings import MOST_PAID
from trainingdata.instants import utc_text
from trainingdata.sessions import in_session

log = logging.getLogger(__name__)

# Seconds before each reading of holdings and activities that do not go together.
MORE_READINGS = (*READINGS, READINGS[-1])
# Share of equity that what nobody here explains may come to while the rest is traded: as much again
# is what a day may lose (`guards.daily_loss`), so that being wrong about all of it ends no account.
LARGEST_ODD = Decimal("0.1")
MARKED_READINGS = 3  # of an account that is marked, while something is paid in or out
ODD: tuple[HaltKind, HaltKind] = ("positions", "symbols")


class AnotherAccount(InputError):
    """The venue's account is not the one that the process began with."""


@dataclass(slots=True)
class _Odd:
    """What is odd in one place: in words, what a clearing lets be of it, and others' orders."""

    whys: list[str] = field(default_factory=list)
    cause: list[str] = field(default_factory=list)
    orders: list[str] = field(default_factory=list)

    def add(self, why: str, cause: str, *orders: str) -> None:
        self.whys.append(why)
        self.cause.append(cause)
        self.orders += orders


class LiveAccount:
    """The books, the guards and the halts of one account.

    connection: to its venue.
    account: what it is written down with.
    last_trades: of the feed, by symbol, which the venue's marks are held to.
    stop: tells when nothing new is sent any more.
    """

    def __init__(
        self,
        connection: BrokerAccount,
        account: OpenAccount,
        settings: LiveSettings,
        last_trades: LastTrades,
        stop: Stop,
    ) -> None:
        self.connection = connection
        self._settings = settings
        self._time = connection.time
        self._stop = stop
        self._last_trades = last_trades
        self.account = account
        self.book, self.halts, self.notices = account.book, account.halts, account.notices
        self.risks: list[Callable[[], Mapping[str, float]]] = []  # of each product's job
        self.guards = Guards(settings.guards, self.halts, self.book, account.kill_file, stop)
        self._holdings = HoldingsBook(account.database, account.events)
        self._read_at: np.datetime64 = ALL_TIME
        self._readings = 0  # before, at that instant
        self._equity: Decimal | None = None  # USD, of the last reading that was believed
        self._marks = MarkBelief(last_trades)
        self._odd: Mapping[str, Difference] | None = None  # by symbol; none before the first look
        self._at_stake = Stake()  # what these may come to
        self._units_seen: Mapping[str, Decimal] = {}  # USD of one of each of them
        self._others: Sequence[OtherOrder] = ()  # of nobody's here, at the last reading
        self._cleared: set[str] = set()  # causes that were cleared before that look

    def refuse_another_account(self) -> None:
        found = self.connection.account_id()
        if found != self.account.name:
            raise AnotherAccount(
                f"the venue's account is {found} now, and this process trades {self.account.name}:"
                " the practice server was begun again, and knows none of its orders. Its journal"
                " stays as it is; start this again to trade the new account"
            )

    def snapshot(
        self,
        account: Account,
        symbols: Iterable[str],
        *,
        needed: bool = True,
        at_risk: Mapping[str, float] | None = None,
    ) -> RiskSnapshot:
        """What guards judge orders of some symbols by: the account, and their last trades.

        What others wait for there counts as what it would cost, and odd options as what they could
        lose.

        needed: whether they may not be judged without last trades; what only reduces may.
        at_risk: USD that spreads can lose, by root; none asks for it.
        """
        names = sorted(set(symbols))
        try:
            trades = self._last_trades(names) if names else {}
            account = account.with_prices(prices_of_orders(account, self._last_trades))
        except BrokerError as error:
            if needed:
                raise
            log.warning("judged without last trades: %s", error)
            trades = {}
        risks = self.at_risk() if at_risk is None else dict(at_risk)
        ordered = [(order.place, order.at_risk) for order in self._others]
        for place, stake in (*self._at_stake.options.items(), *ordered):
            # What nobody can bound halts the account.
            if stake < INFINITE:
                risks[place] = risks.get(place, 0.0) + float(stake)
        return RiskSnapshot(account, trades, risks)

    def at_risk(self) -> dict[str, float]:
        """USD that what products have open can lose, by the root of its options."""
        risks: defaultdict[str, float] = defaultdict(float)
        for risk in self.risks:
            for root, usd in risk().items():
                risks[root] += usd
        return dict(risks)

    def last_prices(self, symbols: Iterable[str]) -> dict[str, float]:
        """USD that stocks and coins traded at last; of none where the feed does not answer."""
        return last_prices(self._last_trades, symbols)

    def ours_of(self, positions: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """The part of each position that is as it should be; what is odd is somebody else's.

        Of what is set aside and was not compared since the start nobody knows a part.
        """
        odd, unknown = self._odd or {}, set()
        if self._odd is None:
            unknown = {*self.halts.set_aside()}
        ours = {s: _common(q, odd[s].expected) if s in odd else q for s, q in positions.items()}
        return {symbol: quantity for symbol, quantity in ours.items() if symbol not in unknown}

    def reconcile(self) -> None:
        """Compare what the account holds with what it should hold by our own doing.

        What differs at each of three readings is odd: `believe` sets it aside.
        """
        if not self._holdings.begun:
            self._begin()
        self._cleared = {*map(self.halts.cleared_cause, ODD)}
        found: Mapping[str, Difference] = {}
        late = ""
        for _ in self._time.tries(MORE_READINGS):
            self.read_activities()
            if late := self._holdings.unlisted(self._read_at):
                continue
            held = self.connection.held()
            quantities = {symbol: each.quantity for symbol, each in held.items()}
            found = self._holdings.compare(quantities, self._read_at)
            if not found or _surpluses(found) == _surpluses(self._odd or {}):
                break
        if late:
            raise SenselessAnswer(late)
        self._units_seen = self._units(held, found)
        self._put_odd(found)

    def _put_odd(self, found: Mapping[str, Difference]) -> None:
        """Have some differences be what is odd, with what is at stake by them."""
        surpluses = {symbol: each.surplus for symbol, each in found.items()}
        self._odd = found
        self._at_stake = at_stake(surpluses, self._units_seen, self._last_marked())

    def _last_marked(self) -> Mapping[str, float]:
        """USD of positions when the account was marked last, signed."""
        mark = self.account.marks.last_mark()
        return {} if mark is None else mark.positions

    def _units(self, held: Mapping[str, Holding], symbols: Iterable[str]) -> dict[str, Decimal]:
        """USD of a share, coin or contract at the venue's mark, else at its last trade."""
        units = {}
        for symbol in symbols:
            quantity, worth = held.get(symbol, NOTHING)
            if quantity and worth:
                units[symbol] = worth / abs(quantity)
        last = self.last_prices({*symbols} - {*units})
        return {**units, **{symbol: Decimal(repr(price)) for symbol, price in last.items()}}

    def _without_odd(self, account: Account, besides: Sequence[OtherOrder]) -> Account:
        """The account, in which what is odd is set aside: positions that differ, orders of nobody.

        Beyond a share of equity it halts the account until all of it is settled. What a person has
        cleared is as it should be from then on: once, for what the halt named of a symbol, and
        where it was still so when holdings were compared after that.
        """
        if self._odd is None:
            return account
        found = self._named(account, besides)
        if {*map(self.halts.cleared_cause, ODD)} - self._cleared - {""}:
            return replace(account, undetermined=account.undetermined | {*found})
        cleared: dict[str, list[str]] = {}
        for each in filter(None, self._cleared):
            cleared |= json.loads(each)
        settled = [place for place, odd in found.items() if cleared.get(place) == odd.cause]
        if settled:
            self._accept({place: found[place] for place in settled})
            found = self._named(account, besides)
        if not found:
            self._end_odd()
            return account
        line = "; ".join(why for _, odd in sorted(found.items()) for why in odd.whys)
        cause = json.dumps({place: odd.cause for place, odd in found.items()}, sort_keys=True)
        positions, symbols = ODD
        orders = self._holdings.unknown(account.open_orders)
        stake = self._at_stake.total + self._worth_of(orders, account)
        stake += total(order.at_risk for order in self._others)
        large = stake > LARGEST_ODD * Decimal(repr(account.equity))
        kind = positions if large or self.halts.active_cause(positions) else symbols
        standing = self.halts.active_cause(kind)
        if standing is None or standing[1] != cause:
            self._end_odd()
            self.account.halt(kind, line, cause=cause)
        return replace(account, undetermined=account.undetermined | {*found})

    def _named(self, account: Account, besides: Sequence[OtherOrder]) -> dict[str, _Odd]:
        """What is odd, by symbol, or by what options are on."""
        found: defaultdict[str, _Odd] = defaultdict(_Odd)
        for symbol, each in (self._odd or {}).items():
            found[symbol].add(f"{symbol} is {each}", plain(each.surplus))
        for order in self._holdings.unknown(account.open_orders):
            name, symbol = order.client_order_id, order.symbol
            found[symbol].add(f"order {name} in {symbol} is nobody's here", name, name)
        self._others = self._holdings.unknown(besides)
        for other in self._others:
            name, place = other.client_order_id, other.place
            why = f"order {name} in {place} is nobody's here"
            found[place].add(f"{why}: {other.why}" if other.why else why, name, name)
        return dict(found)

    def _accept(self, found: Mapping[str, _Odd]) -> None:
        """Have what a person has looked at be as it should from now on."""
        odd = dict(self._odd or {})
        line = "; ".join(why for _, each in sorted(found.items()) for why in each.whys)
        log.warning(
            "somebody has looked at it, and it is the opening balance from now on: %s", line
        )
        surpluses = {symbol: odd.pop(symbol).surplus for symbol in found if symbol in odd}
        self._holdings.accept(surpluses, [name for each in found.values() for name in each.orders])
        self._put_odd(odd)

    def _worth_of(self, orders: Iterable[Order], account: Account) -> Decimal:
        """USD that orders may trade, at their own prices or at the market's, whichever is more."""
        seen = {symbol: Decimal(repr(price)) for symbol, price in account.prices.items()}
        unseen = {order.symbol for order in orders} - {*seen}
        market = {**seen, **self._units({}, unseen)}
        return total(_worth_of(order, market.get(order.symbol)) for order in orders)

    def _end_odd(self) -> None:
        """End halts of what was odd, and have what a person has cleared count no more."""
        for kind in ODD:
            if self.halts.active_cause(kind) is not None:
                self.account.end_halt(kind)
            self._use_clearing(kind)

    def _use_clearing(self, kind: HaltKind) -> None:
        if self.halts.cleared_cause(kind):
            self.halts.use_clearing(kind)

    def believe(self, reading: Reading) -> Account:
        """The account as it was read, in which what is odd is set aside.

        Its cash and its marks are looked at, and whether its market is open. Cash that nothing
        explains at a second reading either is a halt. What a person has looked at then counts: that
        holds once, and for the difference that the halt was raised for.

        Raises
        ------
        SenselessAnswer
            for cash that nothing explains, and marks that nothing confirms, at the first reading.
        Unbelieved
            at the second one; `UnbelievedMarks` with the account at the feed's prices.
        BrokerError
            for a venue that does not answer.
        """
        self._look_at_hours(reading)
        self._look_at_loan(reading.multiplier)
        if self._stop.flattening:
            return reading.account
        if not self._holdings.begun:
            self._begin()
        doubted = self._marks.doubted(reading.account, again=reading.again)
        known = {symbol: price for symbol, price in doubted.items() if price > 0}
        account = replace(reading.account, prices={**reading.account.prices, **known})
        account, unpriced = self._as_last_marked(account, reading.unpriced)
        equity = Decimal(repr(account.equity))
        bids = Decimal(repr(coin_bids(account.open_orders, account.prices)))
        why = self._why_unexplained(reading.cash, equity, bids)
        if why:
            self.read_activities()
            why = self._why_unexplained(reading.cash, equity, bids)
        now = self._holdings.cash_reading(reading.cash)
        marks = "; ".join((*_doubts(doubted, reading.account.prices), *unpriced.values()))
        if not reading.again and (odd := why or marks):
            raise SenselessAnswer(odd)
        account = self._without_odd(account, reading.other_orders)
        if why and not self._is_cleared(now, equity):
            late = self._holdings.unlisted(self._read_at)
            if not late:
                self.account.halt("cash", why, cause=now.cause)
            raise Unbelieved(late or why, account)
        self.notices.tell("marks", marks)
        held = [f"{plain(q)} {s}" for s, q in reading.unpriced.items() if s not in unpriced]
        text = f"nothing says a price of {', '.join(sorted(held))}: it is left alone, and counts as"
        self.notices.tell("unpriced", f"{text} it was marked last, or as nothing" if held else "")
        if marks:
            raise UnbelievedMarks(marks, account)
        self._end_listed_halt(now, equity)
        self._use_clearing("cash")
        self._holdings.believe_cash(now)
        self._equity = equity
        self._marks.believe(account)
        return account

    def _as_last_marked(
        self, account: Account, unpriced: Mapping[str, Decimal]
    ) -> tuple[Account, dict[str, str]]:
        """The account with what has no price, as far as it was marked before; why not the rest.

        What was a large part of the account says nothing of it any more, nor does what is owed and
        was never marked. What is bought and was never marked counts as nothing.
        """
        marked = self._last_marked()
        positions, prices = dict(account.positions), dict(account.prices)
        proceeds = account.short_proceeds
        whys = {}
        for symbol, quantity in unpriced.items():
            price = self._marks.believed(symbol) or abs(marked.get(symbol, 0.0) / float(quantity))
            held = f"{plain(abs(quantity))} {symbol}"
            if price:
                positions[symbol], prices[symbol] = quantity, price
                proceeds += max(-float(quantity), 0.0) * price
                if abs(float(quantity)) * price > float(LARGEST_ODD) * account.equity:
                    whys[symbol] = f"nothing says a price of {held}, marked last at {price:g}"
            elif quantity < 0:
                whys[symbol] = f"nothing says what {held}, which are owed, would cost"
        changed = replace(account, positions=positions, prices=prices, short_proceeds=proceeds)
        return changed, whys

    def _why_unexplained(self, cash: Decimal, equity: Decimal, bids: Decimal) -> str:
        now = self._holdings.cash_reading(cash)
        return why_unexplained(now, self._holdings.last_cash(), equity, bids)

    def _is_cleared(self, now: CashReading, equity: Decimal) -> bool:
        """Whether a person has looked at this difference, which is the opening balance from
        now on.
        """
        cause = self.halts.cleared_cause("cash")
        if not cause or not now.is_near(CashReading.of_cause(cause), room_of(equity)):
            return False
        log.warning("somebody has looked at it, and it is the opening balance from now on: %s", now)
        return True

    def _end_listed_halt(self, now: CashReading, equity: Decimal) -> None:
        """End the halt whose whole difference the venue has listed since, late."""
        standing = self.halts.active_cause("cash")
        if standing is None:
            return
        booked = now.booked - CashReading.of_cause(standing[1]).booked
        if abs(booked) > room_of(equity):
            self.account.end_halt("cash")

    def _look_at_hours(self, reading: Reading) -> None:
        """Alert of an exchange that is open by one of the venue's clock and the calendar alone."""
        at = reading.account.as_of
        opened = bool(in_session(np.array([at]))[0])
        differs = reading.is_open is not None and reading.is_open != opened
        self.guards.shut = differs and opened
        shown = "open" if reading.is_open else "closed"
        so = "no order of a stock is sent" if opened else "the calendar counts"
        text = f"by the venue's clock the exchange is {shown} at {utc_text(at)}, by the calendar"
        self.notices.tell("hours", f"{text} it is not: {so}" if differs else "")

    def _look_at_loan(self, multiplier: Decimal) -> None:
        """Alert of a loan that no broker gives."""
        text = f"the venue says that it lends {multiplier} times equity: {MOST_LENT} are believed"
        self.notices.tell("multiplier", text if multiplier > MOST_LENT else "")

    def read_activities(self) -> None:
        """Take over what the venue lists since the last reading; nothing before the opening
        balance.

        A trade at another price than its order filled at is asked for again. A booking that would
        move equity by more than what is listed late counts once cash shows it too.
        """
        if not self._holdings.begun:
            return
        for _ in self._time.tries(READINGS):
            at = self._listing_instant()
            listed = self.connection.activities_since(self._holdings.last_at())
            if not (odd := self._holdings.odd_prices(listed)):
                break
            log.warning("activities are read: %s", odd)
        self.notices.tell("price", odd)
        unread = "; ".join(self.connection.unread)
        text = f"unreadable activities are left out, cash and positions count: {unread}"
        self.notices.tell("unread", text if unread else "")
        large = self._large_bookings(listed)
        self._holdings.add([each for each in listed if each not in large], at)
        if large:
            self._holdings.add(self._shown_by_cash(large), at)
        else:
            self.notices.tell("booking", "")

    def _large_bookings(self, listed: Sequence[Activity]) -> list[Activity]:
        """What is new, no trade, and moves equity by more than what is listed late."""
        if self._equity is None:
            mark = self.account.marks.last_mark()
            if mark is None:
                return []
            self._equity = Decimal(repr(mark.equity))
        room = room_of(self._equity)
        news = self._holdings.listed.unwritten(listed)
        return [each for each in news if not each.is_trade and abs(each.amount) > room]

    def _shown_by_cash(self, large: list[Activity]) -> list[Activity]:
        """All where together they explain the venue's cash, as legs of a spread that expires do;
        else those that bring what is written down nearer to it, and others are told.
        """
        overpaid = {each.id: why for each in large if (why := self._why_overpaid(each))}
        hidden = list(overpaid.values())
        large = [each for each in large if each.id not in overpaid]
        last = self._holdings.last_cash() or CashReading(NONE, NONE)
        away = self._holdings.cash_reading(self.connection.cash()).beyond - last.beyond
        room = room_of(self._equity or NONE)
        if not hidden and abs(away - total(each.amount for each in large)) <= room:
            return large
        shown = []
        for each in large:
            if abs(away - each.amount) < abs(away):
                away -= each.amount
                shown.append(each)
            else:
                hidden.append(
                    f"activity {each.id}: {each.kind} of {plain(each.amount)} USD is listed, and"
                    " cash does not show it: it is left out"
                )
        self.notices.tell("booking", "; ".join(hidden))
        return shown

    def _why_overpaid(self, each: Activity) -> str:
        """Why what a symbol ends for is not believed; empty where it is."""
        mark = self.account.marks.last_mark()
        worth = None if mark is None else mark.positions.get(each.symbol)
        if not each.is_exchange or not worth:
            return ""
        if abs(float(each.amount)) <= MOST_PAID * abs(worth):
            return ""
        return (
            f"activity {each.id}: {each.symbol} is exchanged for {plain(each.amount)} USD, and was"
            f" worth {worth:,.2f}: it is left out"
        )

    def _listing_instant(self) -> np.datetime64:
        """The venue's time, later than at the last reading though its clock may stand still.

        What is listed after an account was read was not in it.
        """
        now = self.connection.now()
        self._readings = self._readings + 1 if now == self._read_at else 0
        self._read_at = now
        return now + np.timedelta64(self._readings, "ns")

    def _begin(self) -> None:
        """Write down what the account holds as the journal meets it."""
        for _ in self._time.tries(MORE_READINGS):
            at = self.connection.now()
            listed = self.connection.activities_since(at - OVERLAP)
            cash = self.connection.cash()
            held = self.connection.held()
            # What trades while the account is read is in the holdings or not: nobody knows which.
            unchanged = self.connection.activities_since(at - OVERLAP) == listed
            if unchanged and self.connection.cash() == cash:
                quantities = {symbol: each.quantity for symbol, each in held.items()}
                with self.account.database.transaction():
                    self._holdings.begin(quantities, cash, at, listed)
                    self.account.positions.begin(_opening(held))
                log.info("the journal begins with %d positions and %s USD", len(held), cash)
                return
        raise BrokerError("the account: something trades in it whenever it is read")

    def read_and_mark(self, read: Callable[[], Account]) -> Account:
        """The account, and what was paid in and out by then, written down as what it is worth.

        What was paid in between the two would count as profit, what was taken out as a loss. What
        the account has lost may halt it.

        read: reads the account.
        """
        for _ in range(MARKED_READINGS):
            before = self.flows()
            account = read()
            self.read_activities()
            if self.flows() == before:
                break
        self.mark(account)
        return account

    def mark(self, account: Account) -> None:
        """Write down what an account is worth as it was read, and halt or resume by what it has
        lost.
        """
        flows = self.flows() - self.account.marks.flows_before(account.as_of)
        mark = mark_of(account, self._settings.limits, flows)
        with self.account.database.transaction():
            point, changes = write_mark(self.account.marks, self.halts, mark, self._settings.guards)
            self.account.positions.read(account)
        self.account.tell_of_changes(changes)
        # In the words that operators search for.
        for line in (exposure_line(mark), profit_line(point)):
            log.info("%s %s", utc_text(mark.at), line)

    def flows(self) -> float:
        """Deposits less withdrawals since the journal began, USD.

        They count from when they were listed first, not by their day, which begins before they
        come. What was listed with the opening balance is in its cash. Dividends, interest and fees
        are profit or cost. So is what shares are worth that were moved between accounts: the venue
        names no amount.
        """
        return float(self._holdings.listed.transferred(ALL_TIME))


def _opening(held: Mapping[str, Holding]) -> Iterator[OpeningPosition]:
    """Yield stocks and coins at the venue's present price; options are kept elsewhere."""
    for symbol, (quantity, worth) in held.items():
        if quantity and not is_option(symbol):
            yield OpeningPosition(symbol, quantity, worth / abs(quantity) if worth else None)


def _common(held: Decimal, expected: Decimal) -> Decimal:
    """What two quantities, signed, have in common."""
    return min(held, expected, key=abs) if held * expected > 0 else NONE


def _doubts(doubted: Mapping[str, float], marks: Mapping[str, float]) -> list[str]:
    """Why marks are not believed; doubted: USD by symbol that each was last at, NaN for unknown."""
    whys = []
    for symbol, price in sorted(doubted.items()):
        last = f"it was last at {price:g}" if price > 0 else "no trade confirms it"
        whys.append(f"the venue marks {symbol} at {marks[symbol]:g}, and {last}")
    return whys


def _worth_of(order: Order, market: Decimal | None) -> Decimal:
    """USD that an order may trade; market: what its symbol trades at, none where nobody knows."""
    own = [Decimal(repr(price)) for price in (order.limit_price, order.stop_price) if price]
    # A sale trades at the market, however low its limit is.
    if market is None and (order.side == "sell" or not own):
        return INFINITE
    return order.qty * max(*own, NONE if market is None else market, NONE)


def _surpluses(differences: Mapping[str, Difference]) -> dict[str, str]:
    """What is held beyond what should be, by symbol: equal texts for equal surpluses."""
    return {symbol: plain(each.surplus) for symbol, each in differences.items()}
