"""A second accountant agrees with every row, fill and flow of a run, whatever happens in it, and
names the first row in which a cent is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from execution.orders.broker import place_orders
from execution.orders.lending import DatedRate, MarginTerms
from marketsimulator.account.terms import FillTerms
from marketsimulator.run_result import Run
from tests.marketsimulator.account_book import End, exact
from tests.marketsimulator.accountant import MONEY, Records, audit
from tests.marketsimulator.accounts import COINLESS, FLAT, FREE, HOURS, account_on, market, panel_of
from tests.marketsimulator.wild import ACTIONS, FEES, MARGIN, decision_at, wild_run
from trainingdata.delistings import Delisting, DelistingRules
from trainingdata.sessions import first_open_on_or_after
from trainingdata.timeframe import Timeframe, TimeframeName

KINDS = "spread slippage dividend split borrow interest cash_interest rounding"
EVENTS = "margin_calls deficits freezes refusals crypto_fees"
FLOWS = {"order", "liquidation", "split", *(f"bookings.{kind}" for kind in KINDS.split())}
FLOWS |= {f"summary.{event}" for event in EVENTS.split()}


def wild_records(
    seed: int, capital: float, wild: float, name: TimeframeName = "1h", **terms: Any
) -> Records:
    """What a wild run says."""
    margin = replace(
        MARGIN,
        interest_rates=(DatedRate("2026-06-03", 0.08),),
        **{name: terms.pop(name) for name in list(terms) if hasattr(MARGIN, name)},
    )
    ends = terms.pop("ends", None)
    endings = None
    if ends is not None:
        endings = endings_of(ends, **terms.pop("ending"))
    fills = FillTerms(**{"remainder": "carry" if seed % 3 else "cancel", **terms})
    run, bars, costs = wild_run(
        *(seed, capital, wild),
        margin=margin,
        fills=fills,
        endings=endings,
        timeframe=Timeframe(name),
    )
    parts = {"costs": costs, "fees": FEES, "margin": margin, "fills": fills}
    config = {name: asdict(part) for name, part in parts.items()}
    config |= {"capital": capital, "increments": "original"}
    if endings is not None:
        config["data"] = {
            "delisted_after": endings.missed_sessions,
            "delisting_loss": endings.loss_fraction,
        }
    return Records.of(config, bars, run, ACTIONS, ends or ())


def endings_of(ends: Sequence[End], after: int, loss: float) -> DelistingRules:
    """How a run ends the symbols of the accountant's list."""
    listed = []
    for each in ends:
        opens = np.datetime64(each.booked, "ns")
        worth = map(float, (each.price, each.share, each.ratio))
        listed.append(Delisting(each.symbol, opens, opens, *worth, each.into))
    return DelistingRules(tuple(listed), after, loss)


@st.composite
def an_end(draw: st.DrawFn, symbol: str, into: str) -> End:
    """The end of a symbol, for nothing, cash, shares of another one, or both."""
    opens = first_open_on_or_after(
        np.datetime64(draw(st.sampled_from(["2026-06-01", "2026-06-03"])))
    )
    price = draw(st.sampled_from([0.0, 0.37, 90.123]))
    ratio = draw(st.sampled_from([0.0, 0.3, 1.0, 7.7]))
    worth = exact(price), Decimal(0), exact(ratio)
    return End(
        opens.astype("datetime64[ns]").astype(int).item(), symbol, *worth, into * bool(ratio)
    )


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    capital=st.sampled_from([1_500.0, 2_100.0, 24_000.0, 26_000.0, 100_000.0, 2e6]),
    wild=st.sampled_from([0.005, 0.03]),
    debit_basis=st.sampled_from(["trade", "settlement"]),
    short_proceeds=st.sampled_from(["held", "credited"]),
    volume_share=st.sampled_from([None, 0.1]),
    shortfall=st.sampled_from(["cut", "refuse"]),
    feed_volume_share=st.sampled_from([0.5, 1.0]),
    name=st.sampled_from(["1h", "1h", "30m", "15m", "1d"]),
)
def test_independent_audit_reproduces_every_row_fill_and_flow(
    seed: int, capital: float, wild: float, **terms: Any
) -> None:
    assert audit(wild_records(seed, capital, wild, **terms)).differences == []


@settings(max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    capital=st.sampled_from([2_100.0, 26_000.0, 2e6]),
    wild=st.sampled_from([0.005, 0.03]),
    ends=st.lists(st.one_of(an_end("AAA", "BBB"), an_end("BTCUSD", "XRPUSD")), max_size=1),
    after=st.integers(1, 3),
    loss=st.sampled_from([0.0, 0.3, 1.0]),
    shortfall=st.sampled_from(["cut", "refuse"]),
)
def test_independent_audit_agrees_when_symbols_are_delisted(
    seed: int, ends: list[End], after: int, loss: float, **terms: Any
) -> None:
    ending = {"after": after, "loss": loss}
    found = audit(wild_records(seed, ends=ends, ending=ending, **terms))
    assert found.differences == []


@pytest.mark.parametrize("name", ["1h", "1d"])
def test_audited_runs_contain_every_cash_flow_kind(name: TimeframeName) -> None:
    runs = [audit(wild_records(seed, 26_000.0, 0.03, name)) for seed in range(2)]
    assert set().union(*(run.seen for run in runs)) >= FLOWS


@pytest.mark.parametrize(("cancelled", "refusals"), [(True, 0), (False, 1)])
def test_cancelled_order_remainder_is_not_counted_as_refused(
    cancelled: bool, refusals: int
) -> None:
    """A bar fills half of a purchase; the rest exceeds the cash at the next open."""
    bars = panel_of({"BTCUSD": (HOURS[:3], [FLAT, FLAT, (400.0, 400.0, 400.0, 400.0)])}, 5_000.0)
    fills = FillTerms(volume_share=0.1, remainder="carry", shortfall="refuse")
    broker = account_on(bars, fills=fills)
    purchase = market("purchase", "BTCUSD", 900.0)
    rest = replace(purchase, qty=purchase.qty - 500)
    decisions, rows = [], []
    for t, orders in enumerate([[purchase], [], []]):
        if t:
            broker.advance(t)
        cancels = [rest] if cancelled and t == 1 else []
        decision = decision_at(bars.times[t], broker.account().equity, [], orders, cancels)
        place_orders(broker, decision.orders, decision.cancelled_quantities)
        broker.open_bars()
        decisions.append(decision)
        rows.append(broker.equity_row())
    run = Run("x", decisions, broker.fills, rows, broker.margin_event_counts(), broker.bookings)
    parts = {"costs": FREE, "fees": COINLESS, "margin": MarginTerms(), "fills": fills}
    config = {name: asdict(part) for name, part in parts.items()}
    config |= {"capital": 100_000.0, "increments": "original"}
    assert run.margin_event_counts["refusals"] == refusals
    assert str(audit(Records.of(config, bars, run))) == "0 differences"


@pytest.fixture(scope="module")
def eventful() -> Records:
    return wild_records(7, 26_000.0, 0.03)


@settings(max_examples=12)
@given(st.sampled_from(["equity", "fills", "bookings"]), st.data())
def test_audit_locates_a_single_wrong_cent(
    eventful: Records, table: str, data: st.DataObject
) -> None:
    frame = eventful.frames[table].copy()
    k = data.draw(st.integers(0, len(frame) - 1))
    at = frame.loc[k, "booked_at" if table == "fills" else "at"].value
    change = data.draw(st.sampled_from(["usd", "drop", "again"]))
    if change == "usd":
        names = {"equity": MONEY, "fills": ("qty", "price", "fee"), "bookings": ("usd",)}
        usd = data.draw(st.floats(0.01, 1e4)) * data.draw(st.sampled_from([1, -1]))
        frame.loc[k, data.draw(st.sampled_from(names[table]))] += usd
    elif change == "drop":
        assume(table != "bookings" or abs(frame.loc[k, "usd"]) >= 0.01)
        frame = frame.drop(index=k)
    else:
        assume(table == "fills" or (table == "bookings" and abs(frame.loc[k, "usd"]) >= 0.01))
        frame = pd.concat([frame, frame.loc[[k]]])
    found = audit(replace(eventful, frames=eventful.frames | {table: frame})).differences
    assert found[0][0] == at
