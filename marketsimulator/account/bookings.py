"""What an account pays or gets beside the prices and fees of its fills, by symbol.

Settlement sums the flows of an instant over all symbols; a report says whose they were. Each amount
is reckoned from the same numbers by the same formula, so that those of an instant add up to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from execution.lending import DAYS_A_YEAR
from execution.orders import Order
from execution.records import Booking, BookingKind
from foundation.arrays import Array, Records
from marketsimulator.account.book import (
    BY_COIN_FEE,
    BY_SPLIT,
    CENTS,
    NO_ORDER,
    Book,
    rounded_up,
)
from marketsimulator.account.timeline import Timeline

DUST = 1e-9  # USD


class Before(NamedTuple):
    """The book as a step meets it: the account's flows, and what is held of each symbol [S]."""

    interest: float
    other: float
    rounding: float
    quantity: Array
    mark: Array


class BookingLog:
    """The bookings of one account, in the order in which they came.

    entries: all of them.
    """

    def __init__(self, book: Book, line: Timeline, symbols: Sequence[str]) -> None:
        self.entries: list[Booking] = []
        self._account = book.account
        self._holding = book.holding
        self._line = line
        self._symbols = symbols
        self._noted = {"spread": 0.0, "slippage": 0.0}

    def begin(self) -> None:
        """The flows of an instant begin at 0."""
        self._noted = {"spread": 0.0, "slippage": 0.0}

    def before(self, t: int) -> Before | None:
        """What has to be known before the step to instant t; None where nothing is booked in it."""
        line = self._line
        acts = line.session_opened[t] and line.first_action[t] < line.first_action[t + 1]
        if not acts and line.nights[t] <= 0:
            return None
        account = self._account[0]
        return Before(
            interest=float(account["interest"]),
            other=float(account["other"]),
            rounding=float(account["rounding"]),
            quantity=self._holding["quantity"].copy(),
            mark=self._holding["mark"].copy(),
        )

    def note_step(self, t: int, before: Before | None, fills: Records) -> None:
        """Book what the step to instant t has paid. fills: the tape of its own."""
        if before is None:
            return
        fills = fills[: self._account["fills"][0]]
        at = np.datetime64(int(self._line.now[t]), "ns")
        by_symbol = [*self._actions(t, at, before, fills), *self._borrow(t, at)]
        account = self._account[0]
        rounding = float(account["rounding"]) - before.rounding
        # What else changed cash without a fill is interest on what lay idle.
        listed = sum(booking.usd for booking in by_symbol)
        idle = float(account["other"]) - before.other - listed + rounding
        whole: dict[BookingKind, float] = {
            "interest": before.interest - float(account["interest"]),
            # Whole cents: what is left of adding and taking them is none.
            "cash_interest": float(np.rint(idle * CENTS) / CENTS),
            "rounding": -rounding,
        }
        self.entries += by_symbol
        self.entries += [Booking(at, "", kind, usd) for kind, usd in whole.items() if usd]

    def note_fills(
        self,
        at: np.datetime64,
        fills: Iterable[tuple[Any, ...]],
        opens: Array,
        orders: Sequence[Order],
    ) -> None:
        """Book what fills paid of spread and slippage.

        Parameters
        ----------
        at: instant of the fills.
        fills: rows of FILL.
        opens: [S] that they met; NaN where none.
        orders: by number. Those that fill elsewhere than at an open or their own limit, which costs
            nothing, share what the other fills leave of the instant's costs, by what they traded.
        """
        elsewhere: dict[int, float] = {}
        limited: dict[int, float] = {}
        for _, number, why, s, quantity, price, _ in fills:
            if why in (BY_COIN_FEE, BY_SPLIT):
                continue
            if number != NO_ORDER and not _meets_opens(orders[number]):
                rest = limited if price == orders[number].limit_price else elsewhere
                rest[s] = rest.get(s, 0.0) + abs(quantity) * price
                continue
            reference = float(opens[s])
            paid = abs(quantity) * abs(price - reference)
            half = float(self._holding[s]["half_spread"])
            spread = min(paid, abs(quantity) * reference * half)
            self._note(at, s, spread, paid - spread)
        # A limit that the open had reached pays spread up to its own price, now and then exactly.
        payers = elsewhere or limited
        if payers:
            account = self._account[0]
            left = [float(account[name]) - usd for name, usd in self._noted.items()]
            traded = sum(payers.values())
            for s, value in payers.items():
                self._note(at, s, *(usd * value / traded for usd in left))

    def _note(self, at: np.datetime64, s: int, spread: float, slippage: float) -> None:
        kinds: dict[BookingKind, float] = {"spread": spread, "slippage": slippage}
        for kind, usd in kinds.items():
            self._noted[kind] += usd
            # What sums of floats leave over is no cost.
            if usd > DUST:
                self.entries.append(Booking(at, self._symbols[s], kind, -usd))

    def _actions(self, t: int, at: np.datetime64, before: Before, fills: Records) -> list[Booking]:
        """Dividends, and cash for what a split leaves of a share; as `apply_corporate_action`."""
        line = self._line
        if not line.session_opened[t]:
            return []
        bookings = []
        quantity, mark = before.quantity, before.mark
        changes = iter(fills[fills["why"] == BY_SPLIT]["quantity"].tolist())
        for action in line.actions[line.first_action[t] : line.first_action[t + 1]]:
            s = int(action["symbol"])
            held = float(quantity[s])
            if held == 0.0:
                continue
            paid = float(np.rint(held * action["dividend"] * CENTS) / CENTS)
            if paid:
                bookings.append(Booking(at, self._symbols[s], "dividend", paid))
            if action["ratio"] != 1.0:
                mark[s] /= action["ratio"]
                quantity[s] = held + next(changes)
                fraction = held * action["ratio"] - quantity[s]
                cash = float(np.rint(fraction * mark[s] * CENTS) / CENTS)
                if cash:
                    bookings.append(Booking(at, self._symbols[s], "split", cash))
        return bookings

    def _borrow(self, t: int, at: np.datetime64) -> list[Booking]:
        """Of shorts that are carried over the nights, as `close_session` charges it."""
        nights = int(self._line.nights[t])
        if nights <= 0:
            return []
        bookings = []
        share = nights / DAYS_A_YEAR
        lent = (self._holding["quantity"] < 0.0) & (self._holding["borrow_rate"] > 0.0)
        for s in np.flatnonzero(lent).tolist():
            position = self._holding[s]
            value = -position["quantity"] * position["mark"]
            usd = float(rounded_up(value * position["borrow_rate"] * share, CENTS))
            if usd:
                bookings.append(Booking(at, self._symbols[s], "borrow", -usd))
        return bookings


def _meets_opens(order: Order) -> bool:
    return order.type == "market" and order.tif != "cls"
