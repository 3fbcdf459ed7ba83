"""A second accountant: a run reckoned again, in `Decimal`, from the rules as published.

It reads bars, actions, rates and the orders that were sent, walks the calendar, and says what every
fill, flow and row must be. Nothing is shared with settlement but the exchange's calendar, which
both have from its library.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

import exchange_calendars
import numpy as np
import pandas as pd

from tests.marketsimulator.account_book import (
    NONE,
    Amounts,
    Bar,
    Book,
    End,
    amounts,
    exact,
    exactly,
    name_of,
    whole,
)

MINUTE = 60 * 10**9
LENGTHS = {name: n * MINUTE for name, n in (("1h", 60), ("30m", 30), ("15m", 15), ("5m", 5))}
DAY = 1_440 * MINUTE
LENGTHS["1d"] = DAY
# USD. Rows are sums of floats: at 30 million one of them is within 4e-9 of its decimals, and some
# ten thousand are added. A fault of half a cent is fifty times as large.
TOLERANCE = 1e-4
MONEY = ("cash", "equity", "gross_stock", "gross_crypto", "interest", "fees", "other")
FRAMES = ("equity", "fills", "orders", "bookings")
COLUMNS = ["open", "high", "low", "close", "volume"]
FILL = ("at", "symbol", "qty", "price", "fee", "client_order_id")


class Calendar(NamedTuple):
    """The exchange's sessions: ns, and New York dates."""

    opens: Any
    closes: Any
    dates: Any


@cache
def calendar() -> Calendar:
    table = exchange_calendars.get_calendar("XNYS", start="1962-01-01").schedule
    opens, closes = (
        table[name].to_numpy("datetime64[ns]").astype("i8") for name in ("open", "close")
    )
    return Calendar(opens, closes, table.index.to_numpy("datetime64[D]"))


@cache
def stock_bars(length: int) -> dict[int, int]:
    """By its end the start of each bar of the exchange's sessions, which cut the last one short."""
    opens, closes, _ = calendar()
    return {
        min(start + length, close): start
        for open_, close in zip(opens.tolist(), closes.tolist(), strict=True)
        for start in range(open_, close, length)
    }


def started(coin: bool, end: int, length: int) -> int | None:
    """When the bar that is known at an instant started; None where none can be."""
    if coin:
        return None if end % length else end - length
    return stock_bars(length).get(end)


@dataclass
class Records:
    """What a run's files say, and what it was made from.

    config: the settings, as a folder has them.
    bars: by symbol (open, high, low, close, volume), by the instant (ns) each is known at.
    actions: opens (ns), symbol, ratio, dividend, in the order in which they take hold.
    frames: equity, fills, orders, bookings.
    length: of a bar, ns.
    cancels: ids of the orders that each decision cancels, by its instant (ns).
    """

    config: Any
    bars: dict[str, pd.DataFrame]
    frames: dict[str, pd.DataFrame]
    summary: Any
    length: int
    actions: Sequence[tuple[int, str, Decimal, Decimal]] = ()
    ends: Sequence[End] = ()
    cancels: Mapping[int, Set[str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        settings: Any,
        bars: Any,
        run: Any,
        actions: Sequence[Any] = (),
        ends: Sequence[End] = (),
    ) -> Records:
        """Of a run; settings: as a dictionary."""
        tables = {}
        for s, symbol in enumerate(bars.symbols):
            at, values = bars.bars_of_symbol(s)
            tables[symbol] = pd.DataFrame(values, at.astype("i8"), COLUMNS)
        frames = run.equity(), run.fill_frame(), run.order_frame(), run.booking_frame()
        names = ("spread", "slippage", "fees", "crypto_fees", "interest", "borrow")
        sums = {n: sum(getattr(row, n) for row in run.equity_rows) for n in (*names, "rounding")}
        sums["fees"] += sums.pop("rounding")
        summary = {
            "start": str(run.equity_rows[0].at),
            "end": str(run.equity_rows[-1].at),
            "margin": run.margin_event_counts,
            "costs_by_kind": sums,
            "dividends": sum(row.dividends for row in run.equity_rows),
        }
        dated = [
            (
                a.effective_open.astype("i8").item(),
                a.symbol,
                exact(a.split_ratio),
                exact(a.dividend),
            )
            for a in actions
        ]
        length = LENGTHS[bars.timeframe.name]
        made = dict(zip(FRAMES, frames, strict=True))
        cancels = {
            d.at.astype("datetime64[ns]").astype(int).item(): d.cancelled_quantities.keys()
            for d in run.decisions
        }
        return cls(settings, tables, made, summary, length, dated, ends, cancels)


def ends_found(data: Any, known: Mapping[str, Sequence[int]], coins: Any, length: int) -> list[End]:
    """Symbols whose class has gone on without them for so many sessions, and that are not back.

    known: instants of each symbol's bars. length: of a bar.
    """
    if data.get("delisted_after") is None:
        return []
    # What is known as a session opens was before it.
    of = {
        s: sorted(set(np.searchsorted(calendar().opens.astype("i8"), at)))
        for s, at in known.items()
    }
    found = []
    for symbol, own in of.items():
        peers = {n for s, each in of.items() if (s in coins) == (symbol in coins) for n in each}
        for last, following in zip(own, [*own[1:], math.inf], strict=True):
            without = sorted(n for n in peers if last < n < following)
            # With bars shorter than a day, the next session has to pass without one as well.
            missed = data["delisted_after"] + (length < DAY)
            if len(without) >= missed:
                booked = int(calendar().opens[without[missed - 1]])
                later = [at for at in known[symbol] if at > booked][:1]
                if later and (started(symbol in coins, later[0], length) or booked) <= booked:
                    continue
                found.append(End(booked, symbol, share=1 - exact(data["delisting_loss"])))
    return found


class Order(NamedTuple):
    """q: signed, what is left of it. auction: for the next open. reduces: it never opens."""

    name: str
    symbol: str
    q: Decimal
    auction: bool
    reduces: bool = False


class Walk:
    """The account of a run's orders, instant by instant."""

    def __init__(self, records: Records) -> None:
        self.records = records
        config = exactly(records.config)
        coins = frozenset(s for s in records.bars if s.endswith("USD"))
        self.book = Book(config, coins, Decimal(config["capital"]))
        self.carries = config["fills"]["remainder"] == "carry"
        begin, end = (pd.Timestamp(records.summary[name]).value for name in ("start", "end"))
        known = {at for rows in records.bars.values() for at in rows.index if at <= end}
        self.known = sorted(known)
        self.now = [at for at in self.known if at >= begin]
        dates = pd.DatetimeIndex(self.now).tz_localize("UTC").tz_convert("America/New_York")
        self.dates = dates.strftime("%Y-%m-%d").tolist()
        self.table = {s: self._bars_of(s) for s in records.bars}
        self.deviation: dict[str, float] = {}
        self.starting: dict[tuple[int, bool], int] = {}
        self.unseen: dict[tuple[int, bool], int] = {}
        self._note_opens()
        self.orders: dict[int, list[Order]] = defaultdict(list)
        for o in records.frames["orders"].itertuples():
            assert o.type == "market", f"{o.client_order_id}: a {o.type} order is not reckoned here"
            q = exact(o.qty) if o.side == "buy" else -exact(o.qty)
            order = Order(o.client_order_id, o.symbol, q, o.tif == "opg")
            self.orders[o.at.value].append(order)
        self.waiting: list[Order] = []
        instants = {s: [at for at in rows.index if at <= end] for s, rows in records.bars.items()}
        self.ends = [
            *records.ends,
            *ends_found(records.config.get("data", {}), instants, coins, records.length),
        ]
        self.ends.sort(key=lambda each: (each.booked, each.symbol))

    def _bars_of(self, symbol: str) -> dict[int, list[float]]:
        """Open, high, low, close, volume and deviation by the instant that each is known at.

        The deviation is that of the last 50 ranges (Parkinson 1980).
        """
        rows = self.records.bars[symbol]
        ranges = np.log(rows["high"] / rows["low"]) ** 2 / (4 * math.log(2))
        rows = rows.assign(deviation=np.sqrt(ranges.rolling(50, min_periods=1).mean()))
        return dict(zip(rows.index.tolist(), rows.to_numpy(dtype=float).tolist(), strict=True))

    def _note_opens(self) -> None:
        """By instant and class the end of the bar that starts then, and of the one that has started
        since the instant before where no instant was.
        """
        instants = set(self.known)
        for end in self.known:
            for coin in (False, True):
                if start := started(coin, end, self.records.length):
                    bars = self.starting if start in instants else self.unseen
                    bars[self.known[bisect_left(self.known, start)], coin] = end

    def __iter__(self) -> Iterator[tuple[int, Book]]:
        """The book at each row."""
        book, before = self.book, self.now[0]
        for symbol, table in self.table.items():
            for at in [at for at in table if at <= before][-1:]:
                self._mark(symbol, table[at])
        for now, book.date in zip(self.now, self.dates, strict=True):
            book.row.clear()
            book.fills.clear()
            if now > before:
                self._advance(before, now)
            cancelled = self.records.cancels.get(now, frozenset())
            self.waiting = [o for o in self.waiting if o.name not in cancelled]
            held = defaultdict(Decimal, book.held)
            self._send(now, held, self._meet(now, self.starting))
            before = now
            yield now, book

    def _advance(self, before: int, now: int) -> None:
        """Sessions open and close, and bars become known."""
        book, days = self.book, calendar()
        opened, opens = np.searchsorted(days.opens, [before, now], side="right")
        closed, closes = np.searchsorted(days.closes, [before, now], side="right")
        if opens > opened:
            self._act(before, now)
            book.open_session()
        self._meet(now, self.unseen)
        for symbol, table in self.table.items():
            if now in table:
                self._mark(symbol, table[now])
        if closes > closed:
            book.close_session(int((days.dates[closes] - days.dates[closed]).astype(int)))
            self.waiting = [o for o in self.waiting if o.symbol in book.coins]
        elif opens > closes:
            book.note_deficit()

    def _mark(self, symbol: str, row: list[float]) -> None:
        self.book.marks[symbol] = exact(row[3])
        self.deviation[symbol] = row[5]

    def _act(self, before: int, now: int) -> None:
        for opens, symbol, ratio, dividend in self.records.actions:
            if before < opens <= now and symbol in self.table:
                self.book.act(symbol, ratio, dividend, opens, name_of("split", opens, symbol))
                step = self.book.step(symbol)
                for k, o in enumerate(self.waiting):
                    if o.symbol == symbol:
                        self.waiting[k] = o._replace(q=whole(o.q * ratio, step))
                self.waiting = [o for o in self.waiting if o.q]
        for each in self.ends:
            if before < each.booked <= now:
                self.book.end(each)
                self.waiting = [o for o in self.waiting if o.symbol != each.symbol]

    def _meet(self, now: int, ends: dict[tuple[int, bool], int]) -> dict[str, Bar]:
        """Bars open: the broker closes what is called, then what waits meets them."""
        config, bars, length = self.book.config["fills"], {}, self.records.length
        for symbol, table in self.table.items():
            end = ends.get((now, symbol in self.book.coins), 0)
            row = table.get(end)
            if row and (row[4] > 0 or (row[4] == 0 and config["volume_share"] is None)):
                volume = exact(row[4]) / config["feed_volume_share"]
                deviation = exact(self.deviation.get(symbol, 0.0))
                bars[symbol] = Bar(end, exact(row[0]), volume, deviation)
        if (now, False) in ends:
            stocks = {s: bar for s, bar in bars.items() if s not in self.book.coins}
            self.book.liquidate(stocks, started(False, ends[now, False], length))
        waiting, self.waiting = self.waiting, []
        for order in waiting:
            if bar := bars.get(order.symbol):
                self._trade(order, bar, started(order.symbol in self.book.coins, bar.end, length))
            else:
                self.waiting.append(order)
        return bars

    def _reserve(self) -> None:
        """Hold back what the orders ahead that open have been promised."""
        usd = [NONE, NONE]
        for o in self.waiting:
            if self.book.held[o.symbol] * o.q >= 0:
                price = self.book.marks[o.symbol] * self.book.terms["order_price_buffer"]
                usd[o.symbol in self.book.coins] += abs(o.q) * price
        self.book.reserved = usd[0], usd[1]

    def _trade(self, order: Order, bar: Bar | None, at: int) -> None:
        """Fill an order; what is left waits, if that is the rule. An auction has none."""
        held = self.book.held
        if order.reduces and held[order.symbol] * order.q >= 0:
            return
        self._reserve()
        done = NONE if bar is None else self.book.trade(order.symbol, order.q, bar, at, order.name)
        rest = order.q - done
        # No order reverses a position.
        carries = self.carries and not order.auction
        if rest and carries and not (done and held[order.symbol] == 0):
            self.waiting.append(order._replace(q=rest))

    def _send(self, now: int, held: Mapping[str, Decimal], bars: Mapping[str, Bar]) -> None:
        """What reduces first, by what was held when it was decided; the rest once all of that has
        filled whole, or as far as it can be paid for.
        """
        left = {symbol: abs(q) for symbol, q in held.items()}
        reductions, openings = [], []
        for order in self.orders[now]:
            if held[order.symbol] * order.q < 0 < left[order.symbol]:
                left[order.symbol] -= abs(order.q)
                reductions.append(order._replace(reduces=True))
            else:
                openings.append(order)
        unfilled = NONE
        for order in reductions:
            before = self.book.held[order.symbol]
            self._reach(order, bars, now)
            if not order.auction:
                rest = abs(order.q) - abs(self.book.held[order.symbol] - before)
                unfilled += rest * self.book.marks[order.symbol]
        for order in self._payable(openings, unfilled) if unfilled else openings:
            self._reach(order, bars, now)

    def _payable(self, openings: Sequence[Order], unfilled: Decimal) -> list[Order]:
        """The openings that keep gross exposure within equity, or within what was planned."""
        book = self.book
        openings = [o for o in openings if book.held[o.symbol] * o.q >= 0]
        values: dict[str, Decimal] = {}
        for o in openings:
            values[o.symbol] = values.get(o.symbol, NONE) + abs(o.q) * book.marks[o.symbol]
        gross = sum((abs(q) * book.marks[s] for s, q in book.held.items() if q), NONE)
        left = max(book.equity - gross, sum(values.values(), NONE) - unfilled) + exact(1e-6)
        paid = set()
        for symbol, value in values.items():
            if value <= left:
                left -= value
                paid.add(symbol)
        return [o for o in openings if o.symbol in paid]

    def _reach(self, order: Order, bars: Mapping[str, Bar], now: int) -> None:
        """Fill an order at the open, or let it wait for the next one.

        What waits is taken with the buying power that it holds back. No order turns a position
        round, nor closes what another will.
        """
        if not order.auction:
            bar = bars.get(order.symbol)
            if bar is not None and self.book.is_too_small(order.symbol, order.q, bar):
                self.book.events["refusals"] += 1
                return
            self._trade(order, bar, now)
            return
        self._reserve()
        held, size = self.book.held[order.symbol], abs(order.q)
        if held * order.q < 0:
            same = [o.q for o in self.waiting if o.symbol == order.symbol and o.q * order.q > 0]
            taken = size <= abs(held) - abs(sum(same, NONE))
        else:
            price = self.book.marks[order.symbol] * self.book.terms["order_price_buffer"]
            taken = size * price <= self.book.power(order.symbol, short=order.q < 0)
        if taken:
            self.waiting.append(order)
        else:
            self.book.events["refusals"] += 1


class Audit(NamedTuple):
    """differences: instant (ns) and what differs, in time order. seen: how often each kind of
    booking, fill and event occurred.
    """

    differences: list[tuple[int, str]]
    seen: Counter[str]

    def __str__(self) -> str:
        said = [f"{pd.Timestamp(at)}: {what}" for at, what in self.differences]
        return "; ".join([f"{len(said)} differences", *said[:3]])


def audit(records: Records) -> Audit:
    """Every row, fill and flow of a run beside the accountant's; what is missing counts as 0."""
    mine, theirs = reckoned(records), found_in(records)
    differences: list[tuple[int, str]] = []
    seen: Counter[str] = Counter()
    for at, what in sorted(mine.keys() | theirs.keys()):
        own, found = mine.get((at, what), NONE), theirs.get((at, what), NONE)
        column = what.split()[0]
        if isinstance(own, str) or isinstance(found, str):
            same = own == found
            if column == "fills.client_order_id":
                cause = str(own).partition("-")[0]
                seen[cause if cause in ("liquidation", "split", "delisted") else "order"] += 1
        else:
            off = abs(float(own) - float(found))
            # A float has no more than fifteen digits of a quantity.
            exactness = 0.0 if column == "fills.price" else 1e-9
            least = max(exactness, abs(float(found)) * 1e-15)
            same = off <= (least if column.startswith("fills.") else TOLERANCE)
            seen[column] += own != 0
        if not same:
            differences.append((at, f"{what} is {found}, not {own}"))
    return Audit(differences, seen)


def reckoned(records: Records) -> dict[tuple[int, str], Any]:
    """By instant and name what a run must say."""
    found: dict[tuple[int, str], Any] = {}
    totals: Amounts = amounts()
    walk = Walk(records)
    for now, book in walk:
        for name, usd in book.row.items():
            totals[name.split()[0]] += usd
        values = {
            "equity.cash": book.cash,
            "equity.equity": book.equity,
            "equity.gross_stock": book.gross(coins=False),
            "equity.gross_crypto": book.gross(coins=True),
        }
        found |= {(now, name): usd for name, usd in (values | book.row).items()}
        found |= numbered(now, sorted(book.fills, key=lambda fill: fill[0]))
    summary = {
        "rows": len(walk.now),
        "dividends": totals["bookings.dividend"],
        "fees": totals["equity.fees"] - totals["bookings.rounding"],
        "crypto_fees": walk.book.crypto_fees,
        **{n: -totals[f"bookings.{n}"] for n in ("spread", "slippage", "interest", "borrow")},
        **{n: walk.book.events[n] for n in ("margin_calls", "deficits", "freezes", "refusals")},
    }
    return found | {(walk.now[-1], f"summary.{name}"): value for name, value in summary.items()}


def found_in(records: Records) -> dict[tuple[int, str], Any]:
    """By instant and name what a run says."""
    frames, summary = records.frames, records.summary
    found: dict[tuple[int, str], Any] = defaultdict(float)
    for at, *values in frames["equity"][["at", *MONEY]].itertuples(index=False):
        found |= {(at.value, f"equity.{n}"): usd for n, usd in zip(MONEY, values, strict=True)}
    for b in frames["bookings"].itertuples():
        found[b.at.value, f"bookings.{b.kind} {b.symbol}"] += b.usd
    fills: dict[int, list[Any]] = defaultdict(list)
    for booked, at, *rest in frames["fills"][["booked_at", *FILL]].itertuples(index=False):
        fills[booked.value].append((at.value, *rest))
    for row, each in fills.items():
        found |= numbered(row, each)
    said = summary["margin"] | summary["costs_by_kind"] | {"dividends": summary["dividends"]}
    last = pd.Timestamp(summary["end"]).value
    found[last, "summary.rows"] = len(frames["equity"])
    return found | {(last, f"summary.{name}"): value for name, value in said.items()}


def numbered(now: int, fills: Sequence[Sequence[Any]]) -> dict[tuple[int, str], Any]:
    """Fills of a row, by column and number."""
    return {
        (now, f"fills.{name} {k}"): str(pd.Timestamp(value)) if name == "at" else value
        for k, fill in enumerate(fills)
        for name, value in zip(FILL, fill, strict=True)
    }
