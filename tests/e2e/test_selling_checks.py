"""What must never be of the seller of spreads is seen to be counted: a check that cannot fail is
none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from execution.option_orders import Contract
from option_spreads.autoscaler.trades import Row, rows_of
from option_spreads.selling.state import OpenSpread, read_state
from option_spreads.simulation.desk import SpreadTicket
from tests.e2e import selling_checks
from tests.e2e.selling import COSTS, Practising, practising_seller
from tests.e2e.selling_checks import ended_at


@dataclass
class Sold:
    """Three sessions of a seller to whom nothing happened: the venue's side, and the files."""

    here: Practising
    tickets: dict[str, SpreadTicket]
    held: dict[Contract, int]
    now: np.datetime64
    rows: list[Row]
    spreads: list[OpenSpread]
    book: dict[str, str]

    def counts(self) -> Counter[str]:
        """What must never be, counted."""
        known = {row["Trade_ID"] for row in self.rows} | {each.trade_id for each in self.spreads}
        counts: Counter[str] = Counter()
        counts["duplicates"] = selling_checks.economic_duplicates(self.tickets)
        counts["lost"] = selling_checks.lost_orders(self.tickets, self.book, known)
        counts["lost"] += selling_checks.lost_holdings(
            self.held, self.spreads, self.tickets, self.now
        )
        counts["differing_fills"] = selling_checks.unbooked(
            self.tickets, self.rows, COSTS, self.here.market.close_of
        )
        counts["breaches"] = selling_checks.oversized(self.tickets, 1)
        return +counts


@pytest.fixture(scope="module")
def three_days(tmp_path_factory: pytest.TempPathFactory) -> Sold:
    folder = tmp_path_factory.mktemp("three-days")
    here = practising_seller(folder, 4, 5, "PUT", entries=(30,))
    seller = here.seller()
    for day, _ in here.market.points():
        here.desk.advance()
        seller.step()
        if day == 2 and here.desk.held():
            break
    tickets = dict(here.desk.tickets)
    spreads = list(read_state(here.folder).spreads)
    rows = rows_of((here.folder / "trades.csv").read_bytes())[1]
    book = dict.fromkeys(tickets, "taken")
    return Sold(here, tickets, here.desk.held(), here.market.now(), rows, spreads, book)


@pytest.fixture
def sold(three_days: Sold) -> Sold:
    """Three spreads: one was bought back, one settled, one is open."""
    fresh = {name: copy(value) for name, value in vars(three_days).items() if name != "here"}
    return replace(three_days, **{**fresh, "rows": [dict(row) for row in three_days.rows]})


def sale_of(sold: Sold) -> tuple[str, SpreadTicket]:
    name = next(name for name in sold.tickets if f"{name}.close1" in sold.tickets)
    return name, sold.tickets[name]


def closing_of(sold: Sold, **changes: Any) -> None:
    """Have a trade bought back otherwise."""
    name, _ = sale_of(sold)
    sold.tickets[f"{name}.close1"] = replace(sold.tickets[f"{name}.close1"], **changes)


def beside(sold: Sold, name: str, of: str) -> None:
    """Another order like one of the same trade, which the book knows."""
    entry, _ = sale_of(sold)
    sold.tickets[entry + name] = sold.tickets[entry + of]
    sold.book[entry + name] = "taken"


def something_else_bought_back(sold: Sold) -> None:
    name, _ = sale_of(sold)
    order = sold.tickets[f"{name}.close1"].order
    first, second = order.legs
    other = replace(first.contract, strike=first.contract.strike + 500)
    closing_of(sold, order=replace(order, legs=(replace(first, contract=other), second)))


def a_cent_off(sold: Sold) -> None:
    sold.rows[0]["P/L_$"] = str(Decimal(sold.rows[0]["P/L_$"]) + Decimal("0.01"))


def booked_as(sold: Sold, name: str) -> None:
    """A row more, of another trade."""
    sold.rows.append({**sold.rows[0], "Trade_ID": name})


DAMAGE: dict[str, tuple[Callable[[Sold], object], set[str]]] = {
    "sold by two orders": (
        lambda it: beside(it, ".again", ""),
        {"duplicates", "differing_fills", "breaches"},
    ),
    "bought back twice": (
        lambda it: beside(it, ".close2", ".close1"),
        {"duplicates", "differing_fills"},
    ),
    "something else bought back": (something_else_bought_back, {"duplicates", "differing_fills"}),
    "bought back before it was sold": (
        lambda it: closing_of(it, closed_at=ended_at(sale_of(it)[1]) - np.timedelta64(1, "m")),
        {"duplicates"},
    ),
    "given up": (lambda it: it.book.update({sale_of(it)[0]: "never_taken"}), {"lost"}),
    "not written down": (lambda it: it.book.pop(sale_of(it)[0]), {"lost"}),
    "forgotten while open": (lambda it: it.spreads.clear(), {"lost"}),
    "gone at the venue": (lambda it: it.held.clear(), {"lost"}),
    "never booked": (lambda it: it.rows.pop(0), {"lost", "differing_fills"}),
    "booked twice": (lambda it: it.rows.append(it.rows[0]), {"differing_fills"}),
    "a cent off": (a_cent_off, {"differing_fills"}),
    "with more contracts": (
        lambda it: it.rows[0].update({"Position_Size": "2"}),
        {"differing_fills"},
    ),
    "booked and never sold": (lambda it: booked_as(it, "PUT-20240405-030"), {"differing_fills"}),
    "booked while open": (lambda it: booked_as(it, it.spreads[0].trade_id), {"differing_fills"}),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_whatever_must_never_be_of_spreads_is_counted(sold: Sold, name: str) -> None:
    damage, counted = DAMAGE[name]
    assert len(sold.rows) == 2
    assert len(sold.spreads) == 1
    assert not sold.counts()
    damage(sold)
    assert set(sold.counts()) == counted
