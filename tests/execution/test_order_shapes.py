"""What an order is, to the edge of every rule; and the orders that move a book, as many and as
large as they must be.
"""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.contract_orders import LimitOrder
from execution.journal.orders import is_same, order_of, words_of
from execution.option_orders import OptionLeg, SpreadOrder, contract_of
from execution.orders import QTY_LIMIT, Account, Order, OrderTerms, Side, exact_decimal
from execution.rebalancing import Target, rebalance
from foundation.errors import InputError
from trainingdata.instruments import instrument

AT = np.datetime64("2024-10-01T14:30", "ns")
INF = float("inf")


def order(side: Any = "buy", qty: Any = 10, name: str = "o-1", **more: Any) -> Order:
    return Order(name, "NVDA", side, Decimal(str(qty)), "why", **more)


SOUND: list[dict[str, Any]] = [
    {"qty": Decimal("1e-9")},
    {"qty": QTY_LIMIT - 1},
    {"name": "x" * 128},
    {"name": "a.b_c-D9"},
    {"type": "limit", "limit_price": 1e-9},
    {"type": "stop", "stop_price": 5.0},
    {"type": "stop_limit", "limit_price": 5.0, "stop_price": 5.0},
    {"type": "trailing_stop", "trail_price": 1.0},
    {"type": "trailing_stop", "trail_percent": 1.0},
    *({"tif": force} for force in ("day", "gtc", "opg", "cls")),
]
UNSOUND: list[tuple[dict[str, Any], str]] = [
    ({"qty": 0}, "qty must be above 0"),
    ({"qty": -1}, "qty must be above 0"),
    ({"qty": QTY_LIMIT}, "qty must be above 0 and below"),
    ({"qty": "NaN"}, "qty must"),
    ({"qty": "Infinity"}, "qty must"),
    ({"name": ""}, "client_order_id"),
    ({"name": "x" * 129}, "client_order_id"),
    ({"name": "a b"}, "client_order_id"),
    ({"limit_price": 5.0}, "a market order has no limit_price"),
    ({"type": "limit"}, "a limit order needs a limit_price"),
    ({"type": "limit", "limit_price": 5.0, "stop_price": 5.0}, "has no stop_price"),
    ({"type": "stop"}, "needs a stop_price"),
    ({"type": "stop_limit", "limit_price": 5.0}, "needs a stop_price"),
    ({"type": "stop_limit", "stop_price": 5.0}, "needs a limit_price"),
    ({"type": "trailing_stop"}, "one of them"),
    ({"type": "trailing_stop", "trail_price": 1.0, "trail_percent": 1.0}, "one of them"),
    ({"trail_price": 1.0}, "belongs to a trailing_stop"),
    ({"type": "limit", "limit_price": 0.0}, "limit_price must be above 0"),
    ({"type": "stop", "stop_price": INF}, "stop_price must be above 0"),
    ({"type": "stop", "stop_price": 0.0}, "stop_price must be above 0"),
    ({"type": "trailing_stop", "trail_percent": -1.0}, "trail_percent must be above 0"),
    ({"tif": "ioc"}, "tif 'ioc' is none of day, gtc, opg, cls"),
    ({"tif": "fok"}, "tif 'fok' is none of day, gtc, opg, cls"),
    ({"type": "bracket"}, "type 'bracket' is none of market, limit, stop, stop_limit"),
]


@pytest.mark.parametrize("words", SOUND)
def test_what_is_sound_to_the_edge_is_an_order(words: dict[str, Any]) -> None:
    made = order(**words)
    assert made.signed_qty == (made.qty if made.side == "buy" else -made.qty)


@pytest.mark.parametrize(("words", "says"), UNSOUND)
def test_what_is_not_names_what_is_wrong(words: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        order(**words)


@pytest.mark.parametrize("exit_price", ["take_profit", "stop_loss", "or_stop"])
def test_an_order_has_no_exits(exit_price: str) -> None:
    with pytest.raises(TypeError, match=exit_price):
        order(**{exit_price: 5.0})


@given(
    side=st.sampled_from(["buy", "sell"]),
    qty=st.decimals("0.000000001", 10**9, places=9),
    words=st.sampled_from(SOUND),
)
def test_an_order_comes_back_from_the_journal_as_it_was_meant(
    side: Side, qty: Decimal, words: dict[str, Any]
) -> None:
    meant = replace(order(**words), side=side, qty=qty, expires_at=AT)
    kept = json.loads(json.dumps(words_of(meant)))
    found = order_of(
        meant.client_order_id, kept, reason=str(meant.reason), expires_at=AT, reduces=meant.reduces
    )
    assert found == replace(meant, reason=str(meant.reason))


@given(credit=st.none() | st.decimals(-100, 100, places=2), contracts=st.integers(1, 10_000))
def test_a_spread_comes_back_from_the_journal_as_it_was_meant(
    credit: Decimal | None, contracts: int
) -> None:
    legs = tuple(
        OptionLeg(contract_of(f"SPXW240305P{strike:05}000"), side)
        for strike, side in ((95, "sell"), (90, "buy"))
    )
    meant = SpreadOrder("s-1", legs, contracts, credit, AT, reduces=True, reason="so")
    kept = json.loads(json.dumps(words_of(meant)))
    assert order_of("s-1", kept, reason="so", expires_at=AT, reduces=True) == meant


def test_two_orders_of_one_id_are_one_where_they_ask_for_the_same() -> None:
    """At another price it is the same, but for event contracts and a spread that has a limit."""
    bid = order(type="limit", limit_price=5.0)
    assert is_same(bid, replace(bid, limit_price=6.0, reason="other", expires_at=AT))
    for other in ({"symbol": "AAPL"}, {"side": "sell"}, {"qty": Decimal(9)}):
        assert not is_same(bid, replace(bid, **other))
    assert not is_same(bid, order())
    legs = tuple(OptionLeg(contract_of(f"SPXW240305P000{n}000"), "buy") for n in (90, 95))
    sold = SpreadOrder("o-1", legs, 2, Decimal(1))
    assert is_same(sold, replace(sold, least_credit=Decimal(2)))
    for changed in ({"legs": legs[::-1]}, {"contracts": 3}, {"least_credit": None}):
        assert not is_same(sold, replace(sold, **changed))
    assert not is_same(sold, bid)
    asked = LimitOrder("o-1", "M", "buy", "yes", Decimal("0.5"), Decimal(3))
    assert is_same(asked, replace(asked))
    for term in (
        {"market": "N"},
        {"action": "sell"},
        {"side": "no"},
        {"price": Decimal("0.51")},
        {"count": Decimal(4)},
    ):
        assert not is_same(asked, replace(asked, **term))


def test_terms_to_their_edges() -> None:
    assert OrderTerms() == OrderTerms(smallest_fraction=1.0, largest_coin=200_000.0, room=0.05)
    assert (
        OrderTerms(smallest_fraction=0.0, largest_coin=0.01, room=0.0).largest_quantity(
            instrument("BTCUSD"), 2.0
        )
        == 0.005
    )
    assert OrderTerms(room=0.99).room == 0.99
    for words, says in (
        ({"smallest_fraction": -0.01}, "smallest_fraction"),
        ({"smallest_fraction": INF}, "smallest_fraction"),
        ({"largest_coin": 0.0}, "largest_coin"),
        ({"largest_coin": float("nan")}, "largest_coin"),
        ({"room": 1.0}, "room"),
        ({"room": -0.01}, "room"),
    ):
        with pytest.raises(InputError, match=f"orders.{says}"):
            OrderTerms(**words)
    assert OrderTerms().largest_quantity(instrument("NVDA"), 5.0) == INF
    assert OrderTerms().largest_quantity(instrument("BTCUSD"), 50_000.0) == pytest.approx(3.8)


BOOK = st.lists(
    st.tuples(
        st.sampled_from(["NVDA", "AAPL", "MSFT", "BTCUSD", "ETHUSD"]),
        st.integers(-9_000, 9_000),
        st.integers(-9_000, 9_000),
    ),
    max_size=5,
    unique_by=lambda entry: entry[0],
)


@given(BOOK, st.floats(0.4, 20.0))
def test_orders_move_a_book_reductions_first_and_never_through_zero(
    book: list[tuple[str, int, int]], most: float
) -> None:
    """Coins in thousandths, stocks whole; a part of a coin order holds `most` at most, and they
    add up to the change.
    """
    targets = []
    for symbol, start, end in book:
        coin = symbol.endswith("USD")
        unit = Decimal("0.001") if coin else Decimal(1)
        pair = (abs(start) * unit, abs(end) * unit) if coin else (start * unit, end * unit)
        bound = most if coin else INF
        targets.append(Target(instrument(symbol), *pair, bound, f"why {symbol}"))
    orders = rebalance("k", AT, targets)
    assert len({o.client_order_id for o in orders}) == len(orders)
    ranks = []
    for o in orders:
        entry = next(t for t in targets if t.instrument.symbol == o.symbol)
        held = entry.held
        target = entry.quantity
        ranks.append((0 if o.reduces else 1 if o.symbol.endswith("USD") else 2, o.symbol))
        assert (o.reason, o.tif) == (entry.reason, "gtc" if o.symbol.endswith("USD") else "day")
        assert held * o.signed_qty < 0 if o.reduces else target * o.signed_qty > 0
        assert o.qty % entry.instrument.increment == 0
        assert float(o.qty) <= most + 0.001 * (
            abs(float(held - target)) / most + 1
        ) or not o.symbol.endswith("USD")
        assert o.client_order_id.startswith(f"k-20241001T143000Z-{o.symbol}-")
    assert ranks == sorted(ranks)
    for entry in targets:
        held = entry.held
        target = entry.quantity
        own = [o for o in orders if o.symbol == entry.instrument.symbol]
        assert sum((o.signed_qty for o in own), Decimal(0)) == target - held
        assert sum((o.signed_qty for o in own if o.reduces), Decimal(0)) == (
            -held if held * target < 0 else target - held if abs(target) < abs(held) else 0
        )


def test_an_order_as_large_as_the_most_is_one_and_above_it_two_halves() -> None:
    coin = replace(instrument("BTCUSD"), increment=Decimal("0.001"))
    for qty, parts in (
        ("3.8", ["3.8"]),
        ("3.802", ["1.901", "1.901"]),
        ("7.598", ["3.799", "3.799"]),
        ("0.001", ["0.001"]),
    ):
        orders = rebalance("k", AT, [Target(coin, Decimal(0), Decimal(qty), 3.8, "x")])
        assert [o.qty for o in orders] == [Decimal(p) for p in parts]
    close = Target(coin, Decimal("6.0005"), Decimal(0), 3.8, "close")
    (first, second) = rebalance("k", AT, [close])
    assert (first.qty, second.qty) == (Decimal(3), Decimal("3.0005"))
    orders = rebalance("k", AT, [Target(coin, Decimal(0), Decimal(9), 3.8, "x")])
    assert [o.client_order_id[-3:] for o in orders] == ["0-0", "1-0", "2-0"]


def test_an_account_values_what_it_holds_and_adds_what_is_open() -> None:
    waiting = (order("sell", 3), replace(order("buy", 2, "o-2"), symbol="AAPL"))
    account = Account(
        100.0, {"NVDA": Decimal(10), "GONE": Decimal(0)}, {"NVDA": 5.0}, AT, open_orders=waiting
    )
    assert account.exposure == {"NVDA": Decimal(7), "GONE": Decimal(0), "AAPL": Decimal(2)}
    assert account.equity == 150.0
    priced = account.with_prices({"NVDA": 9.0, "AAPL": 1.0})
    assert priced.prices == {"NVDA": 5.0, "AAPL": 1.0}
    assert (
        account.unsettled,
        account.short_proceeds,
        account.leverage,
        account.shorting,
        account.blocked,
    ) == (
        0.0,
        0.0,
        INF,
        True,
        False,
    )


@given(st.integers(-(10**9), 10**9), st.decimals("-1000", "1000", places=9))
def test_a_float_on_the_grid_is_the_decimal_it_was(whole: int, part: Decimal) -> None:
    assert exact_decimal(float(whole)) == whole
    assert exact_decimal(float(part)) == Decimal(repr(float(part)))
    assert str(exact_decimal(float(whole))) == str(whole)
