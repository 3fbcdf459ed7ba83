"""What must never be of the seller of spreads is seen to be counted: a check that cannot fail is
none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np
import pytest

from execution.option_orders import Contract
from option_spreads.autoscaler.rules import AutoscalingSettings
from option_spreads.autoscaler.trades import Row, rows_of
from option_spreads.selling.state import OpenSpread, read_state
from option_spreads.simulation.desk import SpreadTicket
from tests.e2e import selling_checks
from tests.e2e.selling import COSTS, Practising, practising_seller
from tests.e2e.selling_checks import Written, ended_at


@dataclass
class Sold:
    """Three sessions of a seller to whom nothing happened: the venue's side, and the files."""

    here: Practising
    tickets: dict[str, SpreadTicket]
    held: dict[Contract, int]
    now: np.datetime64
    rows: list[Row]
    spreads: list[OpenSpread]
    book: dict[str, Written]
    allowed: dict[str, int]

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
        counts["breaches"] = selling_checks.oversized(self.tickets, self.allowed)
        counts["breaches"] += selling_checks.overheld(self.held, self.tickets, self.allowed)
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
    book = {name: Written("taken", {}) for name in tickets}
    allowed = {name: 1 for name in tickets if ".close" not in name}
    now = here.market.now()
    return Sold(here, tickets, here.desk.held(), now, rows, spreads, book, allowed)


@pytest.fixture
def sold(three_days: Sold) -> Sold:
    """Three spreads: one was bought back, one settled, one is open."""
    it = three_days
    rows = [dict(row) for row in it.rows]
    return Sold(
        it.here,
        dict(it.tickets),
        dict(it.held),
        it.now,
        rows,
        list(it.spreads),
        dict(it.book),
        dict(it.allowed),
    )


def sale_of(sold: Sold) -> tuple[str, SpreadTicket]:
    name = next(name for name in sold.tickets if f"{name}.close1" in sold.tickets)
    return name, sold.tickets[name]


def sold_by_two_orders(sold: Sold) -> None:
    name, ticket = sale_of(sold)
    sold.tickets[f"{name}.again"] = ticket
    sold.book[f"{name}.again"] = Written("taken", {})


def bought_back_twice(sold: Sold) -> None:
    name, _ = sale_of(sold)
    sold.tickets[f"{name}.close2"] = sold.tickets[f"{name}.close1"]
    sold.book[f"{name}.close2"] = Written("taken", {})


def something_else_bought_back(sold: Sold) -> None:
    name, _ = sale_of(sold)
    closing = sold.tickets[f"{name}.close1"]
    first, second = closing.order.legs
    other = replace(first.contract, strike=first.contract.strike + 500)
    order = replace(closing.order, legs=(replace(first, contract=other), second))
    sold.tickets[f"{name}.close1"] = replace(closing, order=order)


def bought_back_before_it_was_sold(sold: Sold) -> None:
    name, ticket = sale_of(sold)
    closing = sold.tickets[f"{name}.close1"]
    early = ended_at(ticket) - np.timedelta64(1, "m")
    sold.tickets[f"{name}.close1"] = replace(closing, closed_at=early)


def given_up(sold: Sold) -> None:
    sold.book[sale_of(sold)[0]] = Written("never_taken", {})


def not_written_down(sold: Sold) -> None:
    del sold.book[sale_of(sold)[0]]


def forgotten_while_open(sold: Sold) -> None:
    sold.spreads.clear()


def gone_at_the_venue(sold: Sold) -> None:
    sold.held.clear()


def never_booked(sold: Sold) -> None:
    del sold.rows[0]


def booked_twice(sold: Sold) -> None:
    sold.rows.append(sold.rows[0])


def booked_a_cent_off(sold: Sold) -> None:
    sold.rows[0]["P/L_$"] = str(Decimal(sold.rows[0]["P/L_$"]) + Decimal("0.01"))


def booked_with_another_sign(sold: Sold) -> None:
    sold.rows[0]["P/L_$"] = str(-Decimal(sold.rows[0]["P/L_$"]))


def booked_with_more_contracts(sold: Sold) -> None:
    sold.rows[0]["Position_Size"] = "2"


def booked_and_never_sold(sold: Sold) -> None:
    sold.rows.append({**sold.rows[0], "Trade_ID": "PUT-20240405-030"})


def booked_while_open(sold: Sold) -> None:
    sold.rows.append({**sold.rows[0], "Trade_ID": sold.spreads[0].trade_id})


def sold_more_than_allowed(sold: Sold) -> None:
    name, ticket = sale_of(sold)
    sold.allowed[name] = ticket.filled - 1


def held_more_than_allowed(sold: Sold) -> None:
    option = next(iter(sold.held))
    sold.held[option] *= 2


@pytest.mark.parametrize(
    ("damage", "counted"),
    [
        (sold_by_two_orders, {"duplicates", "differing_fills", "breaches"}),
        (bought_back_twice, {"duplicates", "differing_fills"}),
        (something_else_bought_back, {"duplicates", "differing_fills"}),
        (bought_back_before_it_was_sold, {"duplicates"}),
        (given_up, {"lost"}),
        (not_written_down, {"lost"}),
        (forgotten_while_open, {"lost"}),
        (gone_at_the_venue, {"lost"}),
        (never_booked, {"lost", "differing_fills"}),
        (booked_twice, {"differing_fills"}),
        (booked_a_cent_off, {"differing_fills"}),
        (booked_with_another_sign, {"differing_fills"}),
        (booked_with_more_contracts, {"differing_fills"}),
        (booked_and_never_sold, {"differing_fills"}),
        (booked_while_open, {"differing_fills"}),
        (sold_more_than_allowed, {"breaches"}),
        (held_more_than_allowed, {"breaches", "lost"}),
    ],
)
def test_whatever_must_never_be_of_spreads_is_counted(
    sold: Sold, damage: Callable[[Sold], None], counted: set[str]
) -> None:
    assert len(sold.rows) == 2
    assert len(sold.spreads) == 1
    assert not sold.counts()
    damage(sold)
    assert set(sold.counts()) == counted


def test_the_sizing_allows_what_the_account_carried_before_or_since(sold: Sold) -> None:
    sizing = AutoscalingSettings(BOOTSTRAP_TRADES=2, MAX_CONTRACTS=9)
    before = sold.rows[:1]
    assert selling_checks.allowed_contracts(400.0, before, before, sizing) == 1
    least = selling_checks.allowed_contracts(400.0, sold.rows, sold.rows, sizing)
    assert selling_checks.allowed_contracts(400.0, before, sold.rows, sizing) == max(1, least)
