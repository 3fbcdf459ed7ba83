"""Whatever the wire does and whenever a run is killed: nothing twice, nothing lost.

And what counts that is seen to count: a check that cannot fail is none.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from execution.spreads.orders import Contract
from execution.spreads.state import OpenSpread, read_state
from marketsimulator.options.desk import SpreadTicket
from sizing.autoscaler.rules import AutoscalingSettings
from sizing.autoscaler.trades import Row, rows_of
from tests.e2e import hurried_runs, selling_checks
from tests.e2e.fault_proxy import FaultProxy
from tests.e2e.fault_schedules import faults_of, schedules
from tests.e2e.practice import KEYS
from tests.e2e.selling import COSTS, Practising, practising_seller
from tests.e2e.selling_checks import Written

LONG = pytest.mark.long


@pytest.mark.parametrize(
    ("command", "number", "seed", "steps"),
    [
        ("trade", 1, 17, 2),
        ("sell", 1, 34, 4),
        pytest.param("trade", 6, 17, 5, marks=LONG),
        pytest.param("sell", 8, 17, None, marks=LONG),
    ],
)
def test_random_faults_and_kills_leave_every_order_once_in_the_books(
    command: str, number: int, seed: int, steps: int | None
) -> None:
    figures = schedules(command, number, seed, steps)
    assert faults_of(command, figures) == {}, figures
    assert figures["orders"] > 0


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
        desk = self.here.desk
        known = {row["Trade_ID"] for row in self.rows} | {each.trade_id for each in self.spreads}
        counts: Counter[str] = Counter()
        counts["economic_duplicates"] = selling_checks.economic_duplicates(self.tickets)
        counts["lost"] = selling_checks.lost_orders(self.tickets, self.book, known)
        counts["lost"] += selling_checks.lost_holdings(
            self.held, self.spreads, self.tickets, self.now
        )
        counts["unbooked"] = selling_checks.unbooked(self.tickets, self.rows, COSTS, desk.close_of)
        counts["limits_broken"] = selling_checks.oversized(self.tickets, self.allowed)
        counts["limits_broken"] += selling_checks.overheld(self.held, self.tickets, self.allowed)
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
    mappings = (dict(each) for each in (it.tickets, it.held, it.book, it.allowed))
    tickets, held, book, allowed = mappings
    return Sold(it.here, tickets, held, it.now, rows, list(it.spreads), book, allowed)


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
    early = ticket.fill.at - np.timedelta64(1, "m")
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
        (sold_by_two_orders, {"economic_duplicates", "unbooked", "limits_broken"}),
        (bought_back_twice, {"economic_duplicates", "unbooked"}),
        (something_else_bought_back, {"economic_duplicates", "unbooked"}),
        (bought_back_before_it_was_sold, {"economic_duplicates"}),
        (given_up, {"lost"}),
        (not_written_down, {"lost"}),
        (forgotten_while_open, {"lost"}),
        (gone_at_the_venue, {"lost"}),
        (never_booked, {"lost", "unbooked"}),
        (booked_twice, {"unbooked"}),
        (booked_a_cent_off, {"unbooked"}),
        (booked_with_another_sign, {"unbooked"}),
        (booked_with_more_contracts, {"unbooked"}),
        (booked_and_never_sold, {"unbooked"}),
        (booked_while_open, {"unbooked"}),
        (sold_more_than_allowed, {"limits_broken"}),
        (held_more_than_allowed, {"limits_broken", "lost"}),
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


@pytest.mark.parametrize(
    ("program", "counted", "patience"),
    [
        ("print('nothing is open')", set(), 60.0),
        ("raise KeyError('spread')", {"tracebacks"}, 60.0),
        ("import os; os._exit(7)", {"tracebacks"}, 60.0),
        (f"print('{KEYS.secret}')", {"leaked_keys"}, 60.0),
        (f"import sys; sys.stderr.write('{KEYS.secret}')", {"leaked_keys"}, 60.0),
        (
            f"import os; os.mkdir('logs'); open('logs/a.log', 'w').write('{KEYS.secret}')",
            {"leaked_keys"},
            60.0,
        ),
        ("import threading; threading.Event().wait(0.2)", {"standstills"}, 0.1),
        ("import threading; threading.Event().wait(60)", {"standstills"}, 0.1),
    ],
)
def test_whatever_must_never_be_of_a_run_is_counted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    counted: set[str],
    patience: float,
) -> None:
    monkeypatch.setattr(hurried_runs, "KILLED", 0.0)
    monkeypatch.setattr(hurried_runs, "PATIENCE", patience)
    (tmp_path / "program.py").write_text(program)
    counts: Counter[str] = Counter()
    wire = FaultProxy("http://127.0.0.1:9", random.Random(0))
    rng = random.Random(0)
    words = [str(tmp_path / "program.py")]
    hurried_runs.HurriedRuns(words, (), wire, tmp_path, rng, counts).run()
    assert {"tracebacks", "leaked_keys", "standstills"} & set(+counts) == counted
