"""Orders by limit follow the market until they have filled, and none of them twice."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.account_lock import JOURNAL
from execution.intents import STATES
from execution.live.style import StyleSettings, limit_price
from execution.orders import Order
from foundation.database import Database
from foundation.errors import InputError
from tests.e2e.practice import OPENING, Practice, Start
from tests.e2e.test_live_account import Desk

LIMITS = ("style.type=limit", "style.concession=0.01")


@pytest.fixture
def here(practice: Start) -> Practice:
    here = practice("symbols=[SYA,SYB]")
    here.advance(OPENING)
    return here


def positions(here: Practice) -> dict[str, Decimal]:
    return {s: q for s, q in here.venue.broker.account().positions.items() if q}


def test_what_the_market_takes_at_once_is_one_order(here: Practice, tmp_path: Path) -> None:
    desk = Desk.at(here, Database(tmp_path / JOURNAL), tmp_path, *LIMITS)
    desk.job.step()
    assert {ticket.order.type for ticket in here.venue.tickets.values()} == {"limit"}
    filled = desk.live.book.in_states(("filled",))
    assert len(filled) == len(here.venue.tickets) == 2
    assert {fill.symbol: fill.qty for fill in desk.cycles[-1].fills} == positions(here)


@pytest.mark.parametrize("why", ["too dear", "partly filled"])
def test_a_straggler_is_cancelled_and_what_is_left_of_it_ordered_anew(
    here: Practice, tmp_path: Path, why: str
) -> None:
    # At the last trade itself nobody sells: what is bought costs half a spread more.
    concession = 0.0 if why == "too dear" else 0.01
    words = ("style.type=limit", f"style.concession={concession}", "style.tries=2")
    desk = Desk.at(here, Database(tmp_path / JOURNAL), tmp_path, *words)
    if why == "partly filled":
        here.fail(kind="partial", count=1)
    desk.job.step()
    states = [intent.state for intent in desk.live.book.in_states(STATES)]
    assert "replaced" in states
    assert set(states) <= {"filled", "replaced"}
    assert {ticket.status for ticket in here.venue.tickets.values()} <= {"filled", "canceled"}
    decision = desk.cycles[-1].decision
    assert decision is not None
    wanted: dict[str, Decimal] = {}
    for order in decision.orders:
        wanted[order.symbol] = wanted.get(order.symbol, Decimal(0)) + order.signed_qty
    assert positions(here) == wanted, "each intention once"
    filled: dict[str, Decimal] = {}
    for fill in desk.cycles[-1].fills:
        filled[fill.symbol] = filled.get(fill.symbol, Decimal(0)) + fill.qty
    assert filled == wanted


def test_what_no_limit_fills_is_given_up_where_that_is_said(here: Practice, tmp_path: Path) -> None:
    words = ("style.type=limit", "style.concession=0", "style.tries=2", "style.last=cancel")
    desk = Desk.at(here, Database(tmp_path / JOURNAL), tmp_path, *words)
    desk.job.step()
    assert not positions(here)
    assert {ticket.status for ticket in here.venue.tickets.values()} == {"canceled"}
    assert not desk.live.book.in_states(("working", "planned", "sending", "open"))


@given(st.floats(0.02, 1e6), st.floats(0, 0.05), st.sampled_from(["buy", "sell"]))
def test_a_limit_gives_up_no_more_than_the_concession_and_a_step(
    price: float, concession: float, side: str
) -> None:
    order = Order("k-0", "NVDA", side, Decimal(1), "")  # type: ignore[arg-type]
    limit = limit_price(order, price, concession)
    given_up = limit - price if side == "buy" else price - limit
    assert -1e-9 <= given_up <= price * concession + 0.01 + 1e-9
    assert round(limit, 2) == limit


@pytest.mark.parametrize(
    "wrong", [{"concession": 0.06}, {"seconds": 0}, {"tries": 0}, {"concession": float("nan")}]
)
def test_a_style_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"style.{next(iter(wrong))}"):
        StyleSettings(**wrong)  # type: ignore[arg-type]
