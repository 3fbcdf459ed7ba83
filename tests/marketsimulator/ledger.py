"""An account kept a second time: from its fills, the closes and the rules as they are published, in
plain Python.

Nothing here is shared with settlement but the calendar. `Ledger` follows a `SimulatedBroker`
instant by instant and says what must stand in it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from execution.fees import DatedRate, FeeSchedule, TradingCosts
from execution.lending import MarginTerms
from execution.orders import Fill
from marketsimulator.account.terms import FillTerms
from trainingdata.actions import Action
from trainingdata.bars import CLOSE, OPEN, VOLUME, Bars
from trainingdata.instants import new_york_date
from trainingdata.instruments import Instrument, Kind
from trainingdata.sessions import in_session, nights_between, sessions_opened, started_at


def up(value: float, unit: float) -> float:
    """Rounded up to a unit; what is a rounding error above it stays."""
    return math.ceil(round(value / unit, 6)) * unit


def down(value: float, unit: float) -> float:
    return math.floor(round(value / unit, 6)) * unit


def rate_on(rates: tuple[DatedRate, ...], date: np.datetime64, default: DatedRate) -> DatedRate:
    return ([default] + [rate for rate in rates if np.datetime64(rate.since, "D") <= date])[-1]


NO_RATE = DatedRate("1970-01-01", 0.0)


@dataclass
class Ledger:
    """flows: USD of the instant by name. events: what a margin account has been told since it
    began.
    """

    instruments: Sequence[Instrument]
    costs: TradingCosts
    fees: FeeSchedule
    terms: MarginTerms
    fills: FillTerms
    cash: float
    actions: Sequence[Action] = ()
    held: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    marks: dict[str, float] = field(default_factory=dict)
    sold: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    sold_today: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    called: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    opened: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    filled: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    coin_usd: dict[np.datetime64, float] = field(default_factory=lambda: defaultdict(float))
    flows: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    events: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    unsettled: float = 0.0
    day_fees: float = 0.0
    day_trades: list[int] = field(default_factory=lambda: [0] * 5)
    day_power: float = 0.0
    deficit: float = 0.0
    deficit_closes: int = 0
    frozen_until: np.datetime64 = field(default_factory=lambda: np.datetime64("1970-01-01"))
    stands: bool = False  # a margin call
    close_equity: float = field(init=False)
    date: np.datetime64 = field(init=False)

    def __post_init__(self) -> None:
        self.close_equity = self.cash
        self.coins = {item.symbol for item in self.instruments if item.kind is Kind.CRYPTO}
        self.steps = {item.symbol: float(item.increment) for item in self.instruments}

    def bar(self, bars: Bars, symbol: str, k: int) -> tuple[float, float] | None:
        """Open and volume of the bar of a symbol that becomes known at an instant; None where
        it fills nothing.
        """
        s = bars.symbols.index(symbol)
        open_, volume = bars.values[s, k, [OPEN, VOLUME]].tolist()
        return (
            (open_, volume)
            if volume > 0 or (volume == 0 and self.fills.volume_share is None)
            else None
        )

    # What it is worth

    def gross(self, coins: bool) -> float:
        return sum(
            abs(q * self.marks[s]) for s, q in self.held.items() if q and (s in self.coins) is coins
        )

    @property
    def equity(self) -> float:
        return self.cash + sum(q * self.marks[s] for s, q in self.held.items() if q)

    @property
    def own(self) -> float:
        """Equity that may carry stocks: coins are no collateral."""
        return self.equity - self.gross(coins=True)

    @property
    def pattern_rule(self) -> bool:
        return self.terms.regime == "dated" and self.date < np.datetime64("2026-06-04")

    # What happens to it

    def begin(self, bars: Bars) -> None:
        """At the first instant of the bars."""
        self.date = new_york_date(bars.times[:1])[0]
        self.mark(bars.values[:, 0, CLOSE])

    def advance(self, bars: Bars, t: int, fills: Sequence[Fill]) -> None:
        """Instant t has come, with the fills that it brought."""
        pair = bars.times[t - 1 : t + 1]
        self.date = new_york_date(pair)[1]
        self.flows.clear()
        self.filled.clear()
        split: list[str] = []
        if sessions_opened(pair)[1]:
            for action in self.actions:
                if pair[0] < action.opens <= pair[1]:
                    split += (
                        [action.symbol] if action.ratio != 1 and self.held[action.symbol] else []
                    )
                    self._act(action)
        splits = [fill for fill in fills if fill.client_order_id.startswith("split-")]
        assert [fill.symbol for fill in splits] == split
        self.take(splits)
        if sessions_opened(pair)[1]:
            self.session_opens()
        fills = fills[len(splits) :]
        starts = started_at(Kind.STOCK, bars.times[t : t + 1])[0]
        if not np.isnat(starts) and starts not in bars.times:
            self.broker_closes(
                fills, {s: self.bar(bars, s, t) for s in bars.symbols if s not in self.coins}
            )
        self.take(fills)
        self.filled.clear()
        self.mark(bars.values[:, t, CLOSE])
        nights = int(nights_between(pair)[1])
        if nights:
            self.session_closes(nights)
        elif in_session(pair)[1]:
            self._note_deficit()

    def _act(self, action: Action) -> None:
        """A dividend by the shares held, then a split: its shares come as a fill, what is no
        whole one as cash.
        """
        s = action.symbol
        step = self.steps[action.symbol]
        paid = round(self.held[s] * action.dividend, 2)
        self.flows["dividends"] += paid
        if action.ratio != 1.0:
            exact = self.held[s] * action.ratio
            self.called[s] = min(up(self.called[s] * action.ratio, step), down(abs(exact), step))
            self.marks[s] /= action.ratio
            paid += round((exact - math.copysign(down(abs(exact), step), exact)) * self.marks[s], 2)
            self.sold[s] *= abs(exact) >= step
        self.cash += paid
        self.flows["other"] += paid

    def take(self, fills: Iterable[Fill]) -> None:
        for fill in fills:
            self._take(fill)

    def _take(self, fill: Fill) -> None:
        s = fill.symbol
        q = float(fill.qty)
        coin = fill.symbol in self.coins
        before = self.held[s]
        if fill.price == 0.0:  # a coin's fee, or a split
            self.held[s] = round(before + q, 9)
            return
        self.cash -= q * fill.price + fill.fee
        self.flows["fees"] += fill.fee
        self.filled[s] += abs(q)
        if coin:
            self.coin_usd[self.date] += abs(q) * fill.price
        else:
            self.unsettled -= q * fill.price
            self.day_fees += self._regulatory(q, fill.price)
            self._count_day_trade(s, q)
            if before * q < 0:
                self.called[s] = max(self.called[s] - abs(q), 0.0)
            for sold in (self.sold, self.sold_today):
                if before < 0 < q:
                    sold[s] *= 1 + q / before
                elif q < 0 and before <= 0:
                    sold[s] -= q * fill.price
        self.held[s] = round(before + q, 9)

    def _count_day_trade(self, s: str, q: float) -> None:
        if self.held[s] * q >= 0:
            self.opened[s] += q
            self.day_power -= abs(q) * self.marks[s]
        elif self.opened[s] * q < 0:
            closed = min(abs(q), abs(self.opened[s]))
            self.opened[s] -= math.copysign(closed, self.opened[s])
            self.day_power += closed * self.marks[s]
            self.day_trades[0] += 1

    def mark(self, closes: np.ndarray) -> None:
        self.marks |= {
            item.symbol: float(p)
            for item, p in zip(self.instruments, closes, strict=True)
            if np.isfinite(p)
        }

    def session_opens(self) -> None:
        self.unsettled = 0.0
        self.sold_today.clear()
        self.day_trades = [0, *self.day_trades[:4]]
        self.opened.clear()
        if self.pattern_rule:
            self.day_power = max(0.0, self.terms.leverage * (self.close_equity - self.required()))

    def session_closes(self, nights: int) -> None:
        terms = self.terms
        year = nights / 360
        held = terms.short_proceeds == "held"
        debit = self.cash - (sum(self.sold.values()) if held else 0.0)
        if terms.debit == "settlement":
            debit -= self.unsettled_sales if held else self.unsettled
        rate = rate_on(
            terms.interest_rates, self.date, DatedRate("1970-01-01", terms.interest_rate)
        ).rate
        interest = up(max(-debit, 0.0) * rate * year, 0.01)
        idle = down(max(debit, 0.0) * terms.cash_rate * year, 0.01)
        special = {each.symbol: each.rate for each in terms.borrow_rates}
        shorts = {s: -q * self.marks[s] for s, q in self.held.items() if q < 0}
        borrow = sum(
            up(worth * special.get(s, terms.borrow_rate) * year, 0.01)
            for s, worth in shorts.items()
        )
        rounding = up(self.day_fees, 0.01) - self.day_fees
        self.day_fees = 0.0
        for name, usd in (
            ("interest", interest),
            ("borrow", borrow),
            ("rounding", rounding),
            ("other", idle - borrow - rounding),
        ):
            self.flows[name] += usd
        self.cash += idle - interest - borrow - rounding
        self._answer_calls()

    # What it must hold and may buy

    def required(self, leverage: float = 0.0) -> float:
        """Maintenance of all stocks; with a leverage, what an ordinary one needs by day."""
        special = {each.symbol: each.rate for each in self.terms.requirements}
        total = 0.0
        for s, q in self.held.items():
            if not q or s in self.coins:
                continue
            price = self.marks[s]
            worth = abs(q) * self.marks[s]
            if q > 0:
                share = 1.0 if price < 2.5 else 0.5 if price < 6.0 else 0.3
            else:
                share = max(2.5 / price, 1.0) if price < 5.0 else max(5.0 / price, 0.3)
            share = max(share, special.get(s, 0.0))
            if leverage and share <= 0.3 + 1e-9:
                share = 1 / leverage
            elif self.cash <= -100_000 and worth >= 0.7 * self.gross(coins=False):
                share = max(share, 0.5)
            total += share * worth
        return total

    def _note_deficit(self) -> None:
        missing = self.required(self.terms.leverage) - self.own
        if self.gross(coins=False) > self.own and missing > max(
            self.deficit, min(1_000.0, 0.05 * self.equity)
        ):
            if self.deficit == 0:
                self.events["deficits"] += 1
                self.deficit_closes = 0
            self.deficit = missing

    def _answer_calls(self) -> None:
        need = self.required()
        self.close_equity = self.own
        if self.deficit > 0:
            self.deficit_closes += 1
            if self.own - need >= self.deficit:
                self.deficit = 0.0
            elif self.deficit_closes == 2:
                self.deficit = 0.0
                if not self.pattern_rule:
                    self.events["freezes"] += 1
                    self.frozen_until = self.date + 90
        if need <= self.own:
            self._no_call()
            return
        self.events["margin_calls"] += not self.stands
        self.stands = True
        share = 1 - max(self.own, 0.0) * 0.95 / need if need else 1.0
        for s, q in self.held.items():
            if s not in self.coins:
                self.called[s] = min(up(abs(q) * share, self.steps[s]), abs(q))

    def _no_call(self) -> None:
        self.stands = False
        self.called.clear()

    def broker_closes(
        self, fills: Iterable[Fill], opening: dict[str, tuple[float, float] | None]
    ) -> None:
        """What is called is closed where a bar opens, and stays called where none does;
        covered, nothing is called.
        """
        if self.stands and self.required() <= self.own:
            self._no_call()
        expected = {}
        for s, bar in opening.items():
            if (
                self.stands
                and self.called[s] > 0
                and bar is not None
                and (size := self.room(s, self.called[s], bar[1]))
            ):
                expected[s] = -math.copysign(size, self.held[s])
                self.at(s, expected[s], bar[0])
        found = {
            f.symbol: float(f.qty) for f in fills if f.client_order_id.startswith("liquidation-")
        }
        assert found == expected
        self.stands = self.stands and any(
            size > abs(expected.get(s, 0.0)) for s, size in self.called.items()
        )

    @property
    def unsettled_sales(self) -> float:
        """Of longs, less what was bought: what shorts were sold for is collateral anyway."""
        return self.unsettled - sum(self.sold_today.values())

    def power(self, symbol: str, short: bool) -> float:
        """USD that may be added."""
        if symbol in self.coins:
            return self.cash - max(self.unsettled_sales, 0.0) - sum(self.sold.values())
        own = self.own
        used = self.gross(coins=False)
        if self.equity < self.terms.margin_equity:
            return 0.0 if short else min(self.terms.leverage, 1.0) * own - used
        if used > 6 * self.equity:
            return 0.0
        if self.date < self.frozen_until:
            return own - used
        if not self.pattern_rule:
            return self.terms.leverage * own - used
        if self.close_equity >= 25_000:
            return max(2 * own - used, self.day_power)
        return 0.0 if sum(self.day_trades) >= 3 else 2 * own - used

    def spread(self, symbol: str) -> tuple[float, float]:
        """Half the spread and the slippage, fractions of price."""
        c = self.costs
        pair = (
            (c.stock_half_spread_bps, c.stock_slippage_bps),
            (c.crypto_half_spread_bps, c.crypto_slippage_bps),
        )
        half, slip = pair[symbol in self.coins]
        return half * 1e-4, slip * 1e-4

    def price(self, symbol: str, q: float, open_: float) -> float:
        """What a market order pays without impact."""
        wanted = open_ * (1 + math.copysign(sum(self.spread(symbol)), q))
        tick = 1e-4 if wanted >= 1 else 1e-9
        return up(wanted, tick) if q > 0 else down(wanted, tick)

    def answer(self, symbol: str, q: float, open_: float, volume: float) -> float:
        """The signed quantity of a market order that fills where a bar opens; a cut one is an
        event.
        """
        step = self.steps[symbol]
        size = abs(q)
        reduces = self.held[symbol] * q < 0
        if symbol in self.coins and q < 0 and not reduces:
            return 0.0
        size = self.room(symbol, size, volume)
        if not reduces:
            unit = (
                self.price(symbol, q, open_) * (1 + self.fees.commission_bps * 1e-4)
                + self.fees.commission_per_share
            )
            unit *= self.terms.order_margin
            power = self.power(symbol, q < 0)
            if size * unit > power:
                self.events["refusals"] += 1
                size = (
                    min(size, down(max(power, 0.0) / unit, step))
                    if self.fills.shortfall == "cut"
                    else 0.0
                )
        return math.copysign(size, q) if size else 0.0

    def room(self, symbol: str, size: float, volume: float) -> float:
        """The part of a size that a bar's volume leaves room for."""
        share = self.fills.volume_share
        room = math.inf if share is None else max(volume * share - self.filled[symbol], 0.0)
        return size if size <= room else down(room, self.steps[symbol])

    def at(self, symbol: str, q: float, open_: float) -> None:
        """What a fill loses against an open, of which the spread comes first; a symbol without
        a close is worth it.
        """
        self.marks.setdefault(symbol, open_)
        lost = abs(q) * abs(self.price(symbol, q, open_) - open_)
        spread = min(lost, abs(q) * open_ * self.spread(symbol)[0])
        self.flows["spread"] += spread
        self.flows["slippage"] += lost - spread

    # What it pays

    def fee(self, symbol: str, q: float, price: float) -> float:
        """USD of a fill."""
        worth = abs(q) * price
        total = up(
            worth * self.fees.commission_bps * 1e-4 + abs(q) * self.fees.commission_per_share, 1e-6
        )
        if symbol in self.coins:
            return total + (up(worth * self.taker, 0.01) if q < 0 else 0.0)
        return total + self._regulatory(q, price)

    def coin_fee(self, q: float) -> float:
        """Coins that a purchase pays."""
        return -up(q * self.taker, 1e-9)

    @property
    def taker(self) -> float:
        """By what was traded in the thirty days before today."""
        traded = sum(
            usd for date, usd in self.coin_usd.items() if self.date - 30 <= date < self.date
        )
        return [tier.taker for tier in self.fees.crypto_tiers if traded >= tier.volume][-1]

    def _regulatory(self, q: float, price: float) -> float:
        sec, taf, cat = (
            rate_on(rates, self.date, NO_RATE)
            for rates in (
                self.fees.sec_per_dollar,
                self.fees.taf_per_share,
                self.fees.cat_per_share,
            )
        )
        sale = abs(q) * price * sec.rate + min(abs(q) * taf.rate, taf.cap) if q < 0 else 0.0
        return up(abs(q) * cat.rate + sale, 1e-6)
