"""A second account, in `Decimal`, from the rules as published: what it holds, must hold, may buy,
pays for a trade, and what the calendar brings.

Nothing is shared with settlement. `accountant.py` walks a run with it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

CENT, MILLIONTH, BILLIONTH = Decimal("0.01"), Decimal("1e-6"), Decimal("1e-9")
NONE, ENDLESS = Decimal(0), Decimal("inf")


def exact(number: float) -> Decimal:
    """A float as it is written: 0.1 is a tenth."""
    return Decimal(repr(float(number)))


def up(value: Decimal, unit: Decimal, slack: Decimal = MILLIONTH) -> Decimal:
    """Rounded up to whole units; what is less than `slack` of one above them is no more."""
    return (value / unit - slack).to_integral_value(ROUND_CEILING) * unit


def down(value: Decimal, unit: Decimal, slack: Decimal = MILLIONTH) -> Decimal:
    return (value / unit + slack).to_integral_value(ROUND_FLOOR) * unit


def to_tick(price: Decimal, buys: bool) -> Decimal:
    """A hundredth of a cent, below a dollar a billionth; against the trader.

    A price below 0.00001 has a million ticks at least.
    """
    tick = Decimal("0.0001") if price >= 1 else BILLIONTH
    if 0 < price < Decimal("0.00001"):
        while price < 1_000_000 * tick:
            tick /= 10
    return up(price, tick) if buys else down(price, tick)


def whole(quantity: Decimal, step: Decimal) -> Decimal:
    """Towards zero, in whole steps."""
    return down(abs(quantity), step, BILLIONTH).copy_sign(quantity)


def exactly(tree: Any) -> Any:
    """Settings with decimals in the place of floats."""
    if isinstance(tree, Mapping):
        return {key: exactly(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [exactly(value) for value in tree]
    return exact(tree) if isinstance(tree, float) else tree


def rate_on(table: Sequence[Mapping[str, Any]], date: str, first: Decimal = NONE) -> Any:
    """Rate and cap in force on a date; `first` before all dates."""
    begun = [(each["rate"], each.get("cap", ENDLESS)) for each in table if each["since"] <= date]
    return [(first, ENDLESS), *begun][-1]


class Bar(NamedTuple):
    """What an order meets: when the bar is known, its open, volume, and a bar's deviation."""

    end: int
    open: Decimal
    volume: Decimal
    volatility: Decimal = NONE


class End(NamedTuple):
    """A symbol is gone from `booked` (ns) on: a share is worth so much in USD, such a share of its
    last price, and `ratio` shares of another symbol.
    """

    booked: int
    symbol: str
    price: Decimal = NONE
    share: Decimal = NONE
    ratio: Decimal = NONE
    into: str = ""


Amounts = dict[str, Decimal]


def amounts() -> Any:
    return defaultdict(Decimal)


@dataclass
class Book:
    """An account; `config` is that of a run.

    traded: by symbol, bar and side. row, fills: USD by name and fills of the row. events: since it
    began.
    """

    config: Any
    coins: frozenset[str]
    cash: Decimal
    date: str = ""  # New York
    held: Amounts = field(default_factory=amounts)
    marks: dict[str, Decimal] = field(default_factory=dict)
    sold: Amounts = field(default_factory=amounts)
    sold_today: Amounts = field(default_factory=amounts)
    called: Amounts = field(default_factory=amounts)
    traded: dict[tuple[str, int, bool], Decimal] = field(default_factory=amounts)
    coin_usd: Amounts = field(default_factory=amounts)
    row: Amounts = field(default_factory=amounts)
    fills: list[tuple[Any, ...]] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    reserved: tuple[Decimal, Decimal] = (NONE, NONE)  # by orders that wait: stocks, coins
    unsettled: Decimal = NONE
    day_fees: Decimal = NONE
    crypto_fees: Decimal = NONE  # USD, since it began
    deficit: Decimal = NONE
    deficit_closes: int = 0
    frozen_until: str = ""
    stands: bool = False  # a margin call

    def __post_init__(self) -> None:
        terms = self.terms
        self.special = {each["symbol"]: each["rate"] for each in terms["requirements"]}
        self.lent = {each["symbol"]: each["rate"] for each in terms["borrow_rates"]}

    @property
    def terms(self) -> Any:
        return self.config["margin"]

    @property
    def orders(self) -> Any:
        """Least values of crypto orders; by default there is no minimum."""
        return self.config.get("orders", {"min_crypto_value": NONE, "crypto_dust": NONE})

    def step(self, symbol: str) -> Decimal:
        if symbol not in self.coins:
            return Decimal(1)
        return BILLIONTH if self.config["increments"] == "broker" else Decimal("0.001")

    # What it is worth

    def gross(self, *, coins: bool) -> Decimal:
        of_kind = [s for s, q in self.held.items() if q and (s in self.coins) is coins]
        return sum((abs(self.held[s] * self.marks[s]) for s in of_kind), NONE)

    @property
    def equity(self) -> Decimal:
        return self.cash + sum((q * self.marks[s] for s, q in self.held.items() if q), NONE)

    @property
    def own(self) -> Decimal:
        """Equity that may carry stocks: coins are no collateral."""
        return self.equity - self.gross(coins=True)

    # What it must hold and may buy

    def required(self, leverage: Decimal = NONE) -> Decimal:
        """Maintenance of all stocks; with a leverage, what an ordinary one needs by day."""
        total = NONE
        gross = self.gross(coins=False)
        for s, q in self.held.items():
            if not q or s in self.coins:
                continue
            price = self.marks[s]
            worth = abs(q) * price
            ordinary = Decimal("0.3") * worth
            if q > 0:
                need = worth if price < Decimal("2.5") else worth / 2 if price < 6 else ordinary
            else:
                least = abs(q) * (Decimal("2.5") if price < 5 else 5)
                need = max(least, worth if price < 5 else ordinary)
            need = max(need, self.special.get(s, NONE) * worth)
            if leverage and need <= ordinary:
                need = worth / leverage
            elif self.cash <= -100_000 and worth >= Decimal("0.7") * gross:
                need = max(need, worth / 2)
            total += need
        return total

    @property
    def unsettled_sales(self) -> Decimal:
        """Of longs, less what was bought: what shorts were sold for is collateral anyway."""
        return self.unsettled - sum(self.sold_today.values(), NONE)

    def power(self, symbol: str, *, short: bool) -> Decimal:
        """USD that may be added."""
        stocks, coins = self.reserved
        if symbol in self.coins:
            sold = sum(self.sold.values(), NONE)
            return self.cash - sold - max(self.unsettled_sales, NONE) - coins
        own, gross, leverage = self.own, self.gross(coins=False), self.terms["leverage"]
        used = gross + stocks
        if self.equity < self.terms["margin_equity"]:
            return NONE if short else min(leverage, Decimal(1)) * own - used
        if gross > 6 * self.equity:
            return NONE
        if self.date < self.frozen_until:
            return own - used
        return leverage * own - used

    # What a trade pays

    def cost(self, symbol: str, name: str) -> Decimal:
        kind = "crypto" if symbol in self.coins else "stock"
        return Decimal(self.config["costs"][f"{kind}_{name}"])

    def price(self, symbol: str, q: Decimal, bar: Bar) -> Decimal:
        """Of a market order, which pays half-spread, slippage, impact and a tick's rounding."""
        rationale = self.cost(symbol, "half_spread_bps") + self.cost(symbol, "slippage_bps")
        cost = rationale / 10_000
        if (impact := self.cost(symbol, "impact")) and bar.volume:
            before = self.traded[symbol, bar.end, q > 0]
            after = before + abs(q)
            # All of the bar on a side pays x · √(x / volume); the last part what that has grown by.
            total = after * (after / bar.volume).sqrt() - before * (before / bar.volume).sqrt()
            cost += impact * bar.volatility * total / abs(q)
        return to_tick(bar.open * max(1 + cost.copy_sign(q), NONE), q > 0)

    def fillable(self, symbol: str, q: Decimal, price: Decimal, bar: Bar) -> Decimal:
        """The part of an order that volume, position and buying power let through, signed."""
        held, size, step = self.held[symbol], abs(q), self.step(symbol)
        if held * q < 0:
            size = min(size, abs(held))
        elif symbol in self.coins and q < 0:
            return NONE
        if (share := self.config["fills"]["volume_share"]) is not None:
            done = self.traded[symbol, bar.end, True] + self.traded[symbol, bar.end, False]
            if size > (room := max(bar.volume * share - done, NONE)):
                size = down(room, step, BILLIONTH)
        if held * q >= 0:
            fees = self.config["fees"]
            unit = price * (1 + fees["commission_bps"] / 10_000) + fees["commission_per_share"]
            unit *= self.terms["order_price_buffer"]
            power = self.power(symbol, short=q < 0)
            if size * unit > power:
                self.events["refusals"] += 1
                cut = down(max(power, NONE) / unit, step, BILLIONTH)
                size = min(size, cut) if self.config["fills"]["shortfall"] == "cut" else NONE
                if symbol in self.coins and size * price < self.orders["min_crypto_value"]:
                    size = NONE
        return size.copy_sign(q) if size else NONE

    def is_too_small(self, symbol: str, q: Decimal, bar: Bar) -> bool:
        """Return whether the venue refuses a market order of crypto for its value."""
        held, orders = self.held[symbol], self.orders
        closes = held * q < 0 and abs(q) >= abs(held)
        least = orders["crypto_dust"] if closes else orders["min_crypto_value"]
        return symbol in self.coins and bool(abs(q) * self.price(symbol, q, bar) < least)

    def trade(self, symbol: str, q: Decimal, bar: Bar, at: Any = 0, name: str = "") -> Decimal:
        """A market order meets an open; what has filled, signed."""
        price = self.price(symbol, q, bar)
        q = self.fillable(symbol, q, price, bar) if price > 0 else NONE
        if not q:
            return NONE
        price = self.price(symbol, q, bar)
        self.marks.setdefault(symbol, bar.open)
        taker = self.taker
        fee = self._fee(symbol, q, price)
        if symbol in self.coins:
            self.coin_usd[self.date] += abs(q) * price
        else:
            self.unsettled -= q * price
            self._note_stock_trade(symbol, q, price)
        self.cash -= q * price + fee
        self.row["equity.fees"] += fee
        self.traded[symbol, bar.end, q > 0] += abs(q)
        lost = abs(q) * abs(price - bar.open)
        spread = min(lost, abs(q) * bar.open * self.cost(symbol, "half_spread_bps") / 10_000)
        self.row[f"bookings.spread {symbol}"] -= spread
        self.row[f"bookings.slippage {symbol}"] -= lost - spread
        self.fill(at, symbol, q, price, fee, name)
        if symbol in self.coins and q > 0 and (paid := up(q * taker, BILLIONTH)):
            self.crypto_fees += paid * price
            self.fill(at, symbol, -paid, NONE, NONE, name)
        return q

    def fill(self, *fill: Any) -> None:
        """at, symbol, quantity, price, fee, id."""
        self.held[fill[1]] += fill[2]
        self.fills.append(fill)

    def _fee(self, symbol: str, q: Decimal, price: Decimal) -> Decimal:
        """USD: a commission; SEC and TAF on sales and CAT of stocks; a coin's fee on its sale."""
        fees, worth = self.config["fees"], abs(q) * price
        rate = fees["commission_bps"] / 10_000
        fee = up(worth * rate + abs(q) * fees["commission_per_share"], MILLIONTH)
        if symbol in self.coins:
            return fee + (up(worth * self.taker, CENT) if q < 0 else NONE)
        regulatory = abs(q) * rate_on(fees["cat_per_share"], self.date)[0]
        if q < 0:
            taf, cap = rate_on(fees["taf_per_share"], self.date)
            regulatory += worth * rate_on(fees["sec_per_dollar"], self.date)[0]
            regulatory += min(-q * taf, cap)
        regulatory = up(regulatory, MILLIONTH)
        self.day_fees += regulatory
        return fee + regulatory

    @property
    def taker(self) -> Decimal:
        """By what was traded in the thirty days before today."""
        first = str(np.datetime64(self.date) - 30)
        traded = sum((usd for d, usd in self.coin_usd.items() if first <= d < self.date), NONE)
        tiers = [tier for tier in self.config["fees"]["crypto_tiers"] if traded >= tier["volume"]]
        return Decimal(tiers[-1]["taker"])

    def _note_stock_trade(self, symbol: str, q: Decimal, price: Decimal) -> None:
        """Called shares and what shorts were sold for; the position is as before."""
        held = self.held[symbol]
        if held * q < 0:
            self.called[symbol] = max(self.called[symbol] - abs(q), NONE)
        self._note_short(symbol, q, price)

    def _note_short(self, symbol: str, q: Decimal, price: Decimal) -> None:
        """What shorts were sold for; the position is as before."""
        held = self.held[symbol]
        for sold in (self.sold, self.sold_today):
            if held < 0 < q:
                sold[symbol] *= max(1 + q / held, NONE)
            elif q < 0 and held <= 0:
                sold[symbol] -= q * price
            sold[symbol] = sold[symbol].quantize(MILLIONTH)

    # What the calendar brings

    def swap(self, symbol: str, q: Decimal, price: Decimal, at: Any) -> None:
        """Shares come or go for cash, by nobody's order: what was short is bought in."""
        if not q:
            return
        if symbol not in self.coins:
            self._note_short(symbol, q, price)
        self.cash -= q * price
        if gained := q * (self.marks[symbol] - price):
            self.row[f"bookings.delisted {symbol}"] += gained
        self.fill(at, symbol, q, price, NONE, name_of("delisted", at, symbol))
        self.called[symbol] = min(self.called[symbol], abs(self.held[symbol]))

    def end(self, end: End) -> None:
        """The holders of a share get what it is worth: in USD, in shares, or both."""
        held = self.held[end.symbol]
        if not held:
            return
        last = self.marks[end.symbol]
        worth = end.price + end.share * last
        if end.into:
            other = self.marks.setdefault(end.into, max(last - worth, NONE) / (end.ratio or 1))
            worth += end.ratio * other
        self.swap(end.symbol, -held, worth, end.booked)
        if end.into:
            new = whole(held * end.ratio, self.step(end.into))
            had = self.held[end.into]
            netted = min(abs(had), abs(new)).copy_sign(new) if had * new < 0 else NONE
            self.swap(end.into, netted, other, end.booked)
            self.swap(end.into, new - netted, other, end.booked)

    def book(self, kind: str, symbol: str, usd: Decimal) -> None:
        """Cash that moves beside the fills."""
        self.cash += usd
        self.row[f"bookings.{kind} {symbol}"] += usd
        if kind == "interest":
            self.row["equity.interest"] -= usd
        else:
            self.row["equity.other"] += usd

    def act(self, symbol: str, ratio: Decimal, dividend: Decimal, at: Any, name: str) -> None:
        """A dividend by the shares held, then a split: its shares come as a fill, what is no
        whole one as cash. Half a cent goes to the even one.
        """
        held, step = self.held[symbol], self.step(symbol)
        self.book("dividend", symbol, (held * dividend).quantize(CENT))
        if ratio == 1:
            return
        after = whole(held * ratio, step)
        if symbol in self.marks:
            self.marks[symbol] /= ratio
        if held:
            rest = (held * ratio - after) * self.marks[symbol]
            self.book("split", symbol, rest.quantize(CENT))
            self.fill(at, symbol, after - held, NONE, NONE, name)
        self.called[symbol] = min(up(self.called[symbol] * ratio, step, BILLIONTH), abs(after))
        if not after:
            self.sold.pop(symbol, None)
            self.sold_today.pop(symbol, None)

    def open_session(self) -> None:
        self.unsettled = NONE
        self.sold_today.clear()

    def close_session(self, nights: int) -> None:
        """Every rounding goes against the account."""
        terms = self.terms
        share = Decimal(nights) / 360
        credited = terms["short_proceeds"] == "credited"
        debit = self.cash - (NONE if credited else sum(self.sold.values(), NONE))
        if terms["debit_basis"] == "settlement":
            debit -= self.unsettled if credited else self.unsettled_sales
        rate = rate_on(terms["interest_rates"], self.date, terms["interest_rate"])[0]
        interest = up(max(-debit, NONE) * rate * share, CENT)
        idle = down(max(debit, NONE) * terms["cash_rate"] * share, CENT)
        for s, q in self.held.items():
            if q < 0:
                lent = self.lent.get(s, terms["borrow_rate"])
                self.book("borrow", s, -up(-q * self.marks[s] * lent * share, CENT))
        self.book("interest", "", -interest)
        self.book("cash_interest", "", idle)
        self.book("rounding", "", self.day_fees - up(self.day_fees, CENT))
        self.day_fees = NONE
        self._answer_calls()

    def note_deficit(self) -> None:
        missing = self.required(self.terms["leverage"]) - self.own
        forgiven = min(Decimal(1_000), self.equity / 20)
        if self.gross(coins=False) > self.own and missing > max(self.deficit, forgiven):
            if not self.deficit:
                self.events["deficits"] += 1
                self.deficit_closes = 0
            self.deficit = missing

    def _answer_calls(self) -> None:
        """A deficit is met or ages; equity below maintenance is a call for a share of each stock,
        after which maintenance is 95 % of equity.
        """
        need = self.required()
        own = self.own
        if self.deficit:
            self.deficit_closes += 1
            if own - need >= self.deficit:
                self.deficit = NONE
            elif self.deficit_closes == 2:
                self.deficit = NONE
                self.events["freezes"] += 1
                self.frozen_until = str(np.datetime64(self.date) + 90)
        self.events["margin_calls"] += need > own and not self.stands
        self.stands = need > own
        self.called.clear()
        share = 1 - max(own, NONE) * Decimal("0.95") / need if need else Decimal(1)
        for s in [s for s in self.held if self.stands and s not in self.coins]:
            size = abs(self.held[s])
            self.called[s] = min(up(size * share, self.step(s), BILLIONTH), size)

    def liquidate(self, bars: Mapping[str, Bar], at: Any = 0) -> None:
        """The broker closes what is called where a bar opens, unless equity covers it by now."""
        if self.stands and self.required() <= self.own:
            self.called.clear()
        for s, bar in bars.items():
            if size := self.called[s]:
                self.trade(s, -size.copy_sign(self.held[s]), bar, at, name_of("liquidation", at, s))
        self.stands = any(self.called.values())


def name_of(cause: str, at: int, symbol: str) -> str:
    """The id of a fill that no order led to."""
    return f"{cause}-{pd.Timestamp(at):%Y%m%dT%H%M%SZ}-{symbol}-0-0"
