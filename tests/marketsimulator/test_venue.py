"""Whatever a client asks of the venue, in whatever order: it answers or refuses, and its
tickets agree with its broker.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execution.orders.venue_rules import venue_refusal_reason
from foundation.errors import InputError
from marketsimulator.settings import BacktestSettings
from practice.alpaca.stocks import Venue
from practice.alpaca.tickets import parse_order
from practice.faults import OPEN_ORDER_STATUSES, InjectedFault
from practice.request import RequestRefused
from tests.marketsimulator.runs import BARS, settings_of
from tests.support.messages import refused
from trainingdata.market import Market

JUNK = st.sampled_from(
    [None, "", "much", "NaN", "Infinity", "-1", "0", 1e308, "9" * 40, [], {}, {"p": []}, "SYA"]
)


@cache
def practised() -> tuple[BacktestSettings, Market]:
    settings_ = settings_of(
        *BARS, "start=2024-02-20", "end=2024-02-23", "symbols=[SYA,SYB,SYXUSD]", "capital=20000"
    )
    return settings_, settings_.load_market()


prices = st.integers(3000, 11000).map(lambda cents: str(cents / 100))
shapes = st.one_of(
    st.just({"type": "market"}),
    prices.map(lambda p: {"type": "limit", "limit_price": p}),
    prices.map(lambda p: {"type": "stop", "stop_price": p}),
    st.tuples(prices, prices).map(
        lambda p: {"type": "stop_limit", "stop_price": p[0], "limit_price": p[1]}
    ),
    st.sampled_from(["0.2", "3"]).map(lambda p: {"type": "trailing_stop", "trail_percent": p}),
    st.sampled_from(["simple", "bracket", "oto", "oco"]).map(
        lambda name: {"type": "market", "order_class": name}
    ),
)
requests = st.builds(
    lambda base, shape, wrong: {**base, **shape, **wrong},
    st.fixed_dictionaries(
        {
            "symbol": st.sampled_from(["SYA", "SYA", "SYB", "SYX/USD"]),
            "side": st.sampled_from(["buy", "sell"]),
            "qty": st.sampled_from(["1", "7", "0.5", "100"]),
            "time_in_force": st.sampled_from(["day", "gtc", "ioc", "fok", "opg", "cls"]),
        }
    ),
    shapes,
    st.one_of(
        st.just({}),
        st.just({}),
        st.dictionaries(
            st.sampled_from(["symbol", "side", "qty", "limit_price", "stop_loss"]), JUNK, max_size=1
        ),
    ),
)
Step = Callable[[Venue], Any]
steps = st.one_of(
    requests.map(lambda asked: lambda venue: venue.submit(asked)),
    requests.map(lambda asked: lambda venue: venue.submit(asked, partial=True)),
    st.integers(1, 4).map(lambda by: lambda venue: venue.advance(venue.index + by)),
    st.tuples(st.sampled_from(["SYA", "SYB"]), st.booleans()).map(
        lambda halt: lambda venue: venue.set_halted(*halt)
    ),
    st.integers(0, 30).map(
        lambda k: lambda venue: venue.cancel(list(venue.tickets.values())[k % len(venue.tickets)])
    ),
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(steps, min_size=20, max_size=60))
def test_order_tickets_agree_with_broker_after_any_requests(asked: list[Step]) -> None:
    settings_, market = practised()
    venue = Venue(settings_, market)
    venue.advance(int(np.searchsorted(market.bars.times, np.datetime64("2024-02-20T15:30"))))
    venue.submit(
        {"symbol": "SYA", "side": "buy", "qty": "5", "type": "market", "time_in_force": "day"}
    )
    for step in asked:
        with suppress(RequestRefused):
            step(venue)
        account = venue.broker.account()
        tickets = list(venue.tickets.values())
        working = {
            t.order.client_order_id
            for t in venue.tickets.values()
            if t.status in OPEN_ORDER_STATUSES
        }
        assert working == {order.client_order_id for order in account.open_orders}
        for ticket in tickets:
            assert ticket.filled_quantity <= ticket.order.qty
            assert (ticket.status == "filled") == (ticket.filled_quantity == ticket.order.qty)
            assert (ticket.closed_at is None) == (ticket.status in OPEN_ORDER_STATUSES)
        for symbol in market.bars.symbols:
            traded = sum(
                (fill.qty for fill in venue.broker.fills if fill.symbol == symbol), Decimal(0)
            )
            assert account.positions.get(symbol, Decimal(0)) == traded
        assert account.positions.get("SYXUSD", Decimal(0)) >= 0
    spent = sum(float(fill.qty) * fill.price + fill.fee for fill in venue.broker.fills)
    assert venue.broker.account().cash == pytest.approx(20_000 - spent, abs=50), "but for interest"


PLAIN = {"symbol": "SYA", "qty": "1", "side": "buy", "type": "limit", "limit_price": "50"}
LEG = {"symbol": "SPXW261124P05900000", "ratio_qty": "1", "side": "buy"}
SPREAD = {"order_class": "mleg", "qty": "1", "type": "market", "legs": [LEG]}


@pytest.mark.parametrize(
    ("usual", "changed", "facts"),
    [
        (PLAIN, {"qty": "abc"}, ("qty 'abc'",)),
        (PLAIN, {"qty": "9x" * 30}, (f"qty '{'9x' * 20}'",)),
        (PLAIN, {"qty": ...}, ("qty",)),
        (SPREAD, {"legs": ["one"]}, ()),
        (SPREAD, {"legs": [{**LEG, "ratio_qty": "twice"}]}, ("ratio_qty", "'twice'")),
    ],
)
def test_invalid_order_names_its_wrong_field(
    usual: dict[str, Any], changed: dict[str, Any], facts: tuple[str, ...]
) -> None:
    asked = {"time_in_force": "day", **usual, **changed}
    with refused(RequestRefused, *facts) as caught:
        Venue(*practised()).submit({key: value for key, value in asked.items() if value is not ...})
    assert (caught.value.status, caught.value.code) == (422, 40010001)


@pytest.mark.parametrize(
    ("symbol", "changed", "wrong"),
    [
        ("SYA", {"limit_price": "49.12345"}, "limit_price 49.12345"),
        ("SYA", {"limit_price": "1.005"}, "limit_price 1.005"),
        ("SYA", {"limit_price": "0.12345"}, "limit_price 0.12345"),
        ("SYA", {"type": "stop", "limit_price": ..., "stop_price": "80.001"}, "stop_price 80.001"),
        ("SYA", {"limit_price": "49.12"}, ""),
        ("SYA", {"limit_price": "0.9999"}, ""),
        ("SYX/USD", {"limit_price": "49.12345", "time_in_force": "gtc"}, ""),
    ],
)
def test_stock_prices_between_increments_are_refused(
    symbol: str, changed: dict[str, Any], wrong: str
) -> None:
    asked = {"time_in_force": "day", **PLAIN, "symbol": symbol, **changed}
    request = {key: value for key, value in asked.items() if value is not ...}
    venue = Venue(*practised())
    order = parse_order(request, 0)
    if not wrong:
        assert venue_refusal_reason(order) == ""
        assert venue.submit(request)["status"] in OPEN_ORDER_STATUSES
        return
    says = f"invalid {wrong}. sub-penny increment does not fulfill minimum pricing criteria"
    assert venue_refusal_reason(order) == says
    with refused(RequestRefused, wrong) as caught:
        venue.submit(request)
    assert (caught.value.status, caught.value.code) == (422, 42210000)


@pytest.mark.parametrize("fault", [{"method": "post"}, {"path": "v2/orders"}])
def test_injected_fault_matching_no_request_is_refused(fault: dict[str, str]) -> None:
    ((name, value),) = fault.items()
    with refused(InputError, f"faults.{name}", f"'{value}'"):
        InjectedFault(kind="status", **fault)
    assert InjectedFault(kind="status", method="DELETE", path="/v2").path == "/v2"
