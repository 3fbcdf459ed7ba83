"""What an order is, to the edge of every rule; the orders that move a book; what an account is."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from execution.decision.rebalancing import rebalance
from execution.journal.orders import decode_order, encode_order, has_same_terms
from execution.orders.account_snapshot import MIN_FREE_EQUITY_SHARE, AccountSnapshot
from execution.orders.event_contract_orders import EventContractOrder
from execution.orders.option_orders import OptionLeg, SpreadOrder, parse_occ_symbol
from execution.orders.orders import MAX_QTY, OrderSizeLimits, Side, make_order_id
from foundation.errors import InputError
from tests.support.messages import refused
from tests.support.orders import SOUND, order
from trainingdata.bars import HIGH
from trainingdata.instruments import instrument
from trainingdata.last_trade import LastTrade
from trainingdata.synthetic import SyntheticMarket

AT = np.datetime64("2024-10-01T14:30", "ns")
INF = float("inf")
BTC = instrument("BTCUSD")
FINE = replace(BTC, qty_increment=Decimal("0.001"))


UNSOUND: list[tuple[dict[str, Any], str]] = [
    *(({"qty": qty}, "qty must be above 0 and below") for qty in (0, -1, MAX_QTY)),
    *(({"qty": qty}, "qty must") for qty in ("NaN", "Infinity")),
    *(({"name": name}, "client_order_id") for name in ("", "x" * 129, "a b")),
    ({"limit_price": 5.0}, "a market order must not have a limit_price"),
    ({"type": "limit"}, "a limit order needs a limit_price"),
    ({"type": "limit", "limit_price": 5.0, "stop_price": 5.0}, "must not have a stop_price"),
    ({"type": "stop"}, "needs a stop_price"),
    ({"type": "stop_limit", "limit_price": 5.0}, "needs a stop_price"),
    ({"type": "stop_limit", "stop_price": 5.0}, "needs a limit_price"),
    ({"type": "trailing_stop"}, "needs trail_price or trail_percent, not both"),
    (
        {"type": "trailing_stop", "trail_price": 1.0, "trail_percent": 1.0},
        "needs trail_price or trail_percent, not both",
    ),
    ({"trail_price": 1.0}, "a trailing_stop order needs trail_price or trail_percent"),
    ({"type": "limit", "limit_price": 0.0}, "limit_price must be above 0"),
    *(({"type": "stop", "stop_price": at}, "stop_price must be above 0") for at in (INF, 0.0)),
    ({"type": "trailing_stop", "trail_percent": -1.0}, "trail_percent must be above 0"),
    *(({"tif": tif}, f"tif '{tif}' is not one of day, gtc, opg, cls") for tif in ("ioc", "fok")),
    ({"type": "bracket"}, "type 'bracket' is not one of market, limit, stop, stop_limit"),
]


@pytest.mark.parametrize("words", SOUND)
def test_order_exactly_at_every_limit_is_valid(words: dict[str, Any]) -> None:
    made = order(**words)
    assert made.signed_qty == (made.qty if made.side == "buy" else -made.qty)
    assert MAX_QTY == 10**12


@pytest.mark.parametrize(("words", "says"), UNSOUND)
def test_invalid_order_error_names_the_fault(words: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        order(**words)


@given(
    side=st.sampled_from(["buy", "sell"]),
    qty=st.decimals("0.000000001", 10**9, places=9),
    words=st.sampled_from(SOUND),
    reduces=st.booleans(),
)
def test_order_round_trips_through_the_journal(
    side: Side, qty: Decimal, words: dict[str, Any], reduces: bool
) -> None:
    meant = replace(order(**words), side=side, qty=qty, expires_at=AT, reduces=reduces)
    kept = json.loads(json.dumps(encode_order(meant)))
    found = decode_order(
        meant.client_order_id, kept, reason="why", expires_at=AT, reduces=meant.reduces
    )
    assert found == meant


@given(credit=st.none() | st.decimals(-100, 100, places=2), contracts=st.integers(1, 10_000))
def test_spread_order_round_trips_through_the_journal(
    credit: Decimal | None, contracts: int
) -> None:
    legs = tuple(
        OptionLeg(parse_occ_symbol(f"SPXW240305P{strike:05}000"), side)
        for strike, side in ((95, "sell"), (90, "buy"))
    )
    meant = SpreadOrder("s-1", legs, contracts, credit, AT, reduces=True, reason="so")
    kept = json.loads(json.dumps(encode_order(meant)))
    assert decode_order("s-1", kept, reason="so", expires_at=AT, reduces=True) == meant


LEGS = tuple(OptionLeg(parse_occ_symbol(f"SPXW240305P000{n}000"), "buy") for n in (90, 95))
HALF = Decimal("0.5")


@pytest.mark.parametrize(
    ("one", "alike", "others"),
    [
        (
            order(type="limit", limit_price=5.0),
            {"limit_price": 6.0, "reason": "other", "expires_at": AT},
            [{"symbol": "AAPL"}, {"side": "sell"}, {"qty": Decimal(9)}],
        ),
        (
            SpreadOrder("o-1", LEGS, 2, Decimal(1)),
            {"min_credit": Decimal(2)},
            [{"legs": LEGS[::-1]}, {"contracts": 3}, {"min_credit": None}],
        ),
        (
            EventContractOrder("o-1", "M", "buy", "yes", HALF, Decimal(3)),
            {},
            [
                *({"market": "N"}, {"action": "sell"}, {"side": "no"}),
                *({"price": Decimal("0.51")}, {"count": Decimal(4)}),
            ],
        ),
    ],
)
def test_same_id_orders_match_only_if_terms_agree(
    one: Any, alike: dict[str, Any], others: list[dict[str, Any]]
) -> None:
    """A different price still matches, except for event contracts and for a spread with a limit."""
    assert has_same_terms(one, replace(one, **alike))
    for terms in others:
        assert not has_same_terms(one, replace(one, **terms))
    assert not has_same_terms(one, order())


def test_order_id_encodes_strategy_time_symbol_and_part() -> None:
    assert make_order_id("kelly_50", AT, "NVDA", 0) == "kelly_50-20241001T143000Z-NVDA-0-0"
    others = {
        make_order_id("kelly_50", AT, "NVDA", 0, 1),
        make_order_id("kelly_50", AT, "NVDA", 1),
        make_order_id("kelly_50", AT + np.timedelta64(1, "h"), "NVDA", 0),
        make_order_id("other", AT, "NVDA", 0),
        make_order_id("kelly_50", AT, "AAPL", 0),
    }
    assert len(others | {make_order_id("kelly_50", AT, "NVDA", 0)}) == 6


def test_crypto_order_value_limit_includes_a_price_margin() -> None:
    assert (
        OrderSizeLimits(max_crypto_value=0.01, price_margin=0.0).max_order_quantity(BTC, 2.0)
        == 0.005
    )
    assert OrderSizeLimits().max_order_quantity(instrument("NVDA"), 5.0) == INF
    assert OrderSizeLimits().max_order_quantity(BTC, 50_000.0) == pytest.approx(3.8)


def test_order_limit_below_one_crypto_increment_is_refused() -> None:
    bars = SyntheticMarket(
        start="2024-01-02", end="2024-01-05", symbols=("SYA", "SYYUSD")
    ).generate_bars()
    worth = 0.001 * bars.bars_of_symbol(1)[1][:, HIGH].max()
    OrderSizeLimits(max_crypto_value=worth * 1.01, price_margin=0.0).check_increments(bars)
    for share, price_margin in ((0.99, 0.0), (1.01, 0.05)):
        with refused(InputError, "orders.max_crypto_value", "SYYUSD"):
            OrderSizeLimits(
                max_crypto_value=worth * share, price_margin=price_margin
            ).check_increments(bars)


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
def test_rebalance_reduces_first_and_never_crosses_zero(
    book: list[tuple[str, int, int]], most: float
) -> None:
    """Crypto is in thousandths, stocks are whole; a part of a crypto order has at most `most`, and
    the parts sum to the change.
    """
    moves = {}
    for symbol, start, end in book:
        coin = symbol.endswith("USD")
        unit = Decimal("0.001") if coin else Decimal(1)
        pair = (abs(start) * unit, abs(end) * unit) if coin else (start * unit, end * unit)
        moves[symbol] = pair
    orders = rebalance(
        "k",
        AT,
        [instrument(symbol) for symbol in moves],
        [held for held, _ in moves.values()],
        [target for _, target in moves.values()],
        [most if symbol.endswith("USD") else INF for symbol in moves],
        [f"why {symbol}" for symbol in moves],
    )
    assert len({o.client_order_id for o in orders}) == len(orders)
    ranks = []
    for o in orders:
        held, target = moves[o.symbol]
        coin = o.symbol.endswith("USD")
        ranks.append((0 if o.reduces else 1 if coin else 2, o.symbol))
        assert (o.reason, o.tif) == (f"why {o.symbol}", "gtc" if coin else "day")
        assert (held * o.signed_qty < 0) if o.reduces else target * o.signed_qty > 0
        assert o.qty % instrument(o.symbol).qty_increment == 0
        parts = abs(float(held - target)) / most + 1
        assert not coin or float(o.qty) <= most + 0.001 * parts
        assert o.client_order_id.startswith(f"k-20241001T143000Z-{o.symbol}-")
    assert ranks == sorted(ranks)
    for symbol, (held, target) in moves.items():
        own = [o for o in orders if o.symbol == symbol]
        assert sum((o.signed_qty for o in own), Decimal(0)) == target - held
        reduced = -held if held * target < 0 else target - held if abs(target) < abs(held) else 0
        assert sum((o.signed_qty for o in own if o.reduces), Decimal(0)) == reduced


@pytest.mark.parametrize(
    ("coin", "held", "target", "most", "parts"),
    [
        (FINE, "0", "3.8", 3.8, ["3.8"]),
        (FINE, "0", "3.802", 3.8, ["1.901"] * 2),
        (FINE, "0", "7.598", 3.8, ["3.799"] * 2),
        (FINE, "0", "0.001", 3.8, ["0.001"]),
        (FINE, "6.0005", "0", 3.8, ["3", "3.0005"]),
        (FINE, "0", "9", 3.8, ["3"] * 3),
        (BTC, "0.005", "0", 0.0004, ["0.001"] * 5),  # an increment is worth more than an order may
        # 0.09975 are left after a fee: closing sells all of it, adding buys whole thousandths.
        (BTC, "0.09975", "0", INF, ["0.09975"]),
        (BTC, "0.09975", "0.2", INF, ["0.1"]),
        (BTC, "0.09975", "0.1", INF, []),
    ],
)
def test_large_order_is_split_into_equal_whole_increments(
    coin: Any, held: str, target: str, most: float, parts: list[str]
) -> None:
    orders = rebalance("k", AT, [coin], [Decimal(held)], [Decimal(target)], [most], ["x"])
    assert [o.qty for o in orders] == [Decimal(part) for part in parts]
    assert [o.client_order_id[-3:] for o in orders] == [f"{k}-0" for k in range(len(parts))]


def test_snapshot_values_positions_and_projects_open_orders() -> None:
    waiting = (order("sell", 3), order("buy", 2, "o-2", symbol="AAPL"))
    held = {"NVDA": Decimal(10), "GONE": Decimal(0)}
    account = AccountSnapshot(100.0, held, {"NVDA": 5.0}, AT, open_orders=waiting)
    assert account.projected_positions == {
        "NVDA": Decimal(7),
        "GONE": Decimal(0),
        "AAPL": Decimal(2),
    }
    assert account.equity == 150.0
    priced = account.with_prices({"NVDA": 9.0, "AAPL": 1.0})
    assert priced.prices == {"NVDA": 5.0, "AAPL": 1.0}
    with pytest.raises(ValueError, match="NVDA has no price"):
        AccountSnapshot(1.0, {"NVDA": Decimal(1)}, {}, AT)


def test_account_snapshot_defaults_impose_no_restriction() -> None:
    account = AccountSnapshot(100.0, {}, {}, AT)
    assert (account.unsettled_proceeds, account.short_proceeds, account.max_leverage) == (
        0.0,
        0.0,
        INF,
    )
    assert (account.is_shorting_enabled, account.is_crypto_enabled, account.block_reason) == (
        True,
        True,
        "",
    )
    assert (account.free_equity_share, account.unborrowed_cash) == (1.0, 100.0)


@example(0.0)
@example(0.5)
@given(st.floats(0.0, allow_infinity=False))
def test_any_finite_spread_loss_is_accepted(risk: float) -> None:
    account = AccountSnapshot(1.0, {}, {}, AT, max_loss_by_root={"SPXW": risk})
    assert account.known_max_loss_by_root == {"SPXW": risk}


@pytest.mark.parametrize("risk", [-0.01, -INF, INF, float("nan")])
def test_negative_or_unbounded_spread_risk_is_rejected(risk: float) -> None:
    with refused(ValueError, "max_loss_by_root", "SPXW", risk):
        AccountSnapshot(1.0, {}, {}, AT, max_loss_by_root={"SPY": 5.0, "SPXW": risk})


@pytest.mark.parametrize(
    ("held", "changes", "left"),
    [
        (-10, (4, 3), {"NVDA": -7}),
        (10, (-4, -3), {"NVDA": 7}),
        (-10, (8, 3), {"NVDA": -10}),
        (10, (4,), {}),
        (0, (-4,), {}),
    ],
)
def test_open_reductions_are_capped_at_the_held_position(
    held: int, changes: tuple[int, ...], left: dict[str, int]
) -> None:
    waiting = tuple(
        order("buy" if size > 0 else "sell", abs(size), f"o-{k}") for k, size in enumerate(changes)
    )
    account = AccountSnapshot(0.0, {"NVDA": Decimal(held)}, {"NVDA": 5.0}, AT, open_orders=waiting)
    assert account.open_reductions == left
    assert account.without_orders(waiting[:1]).open_orders == waiting[1:]


@given(st.sampled_from(["buy", "sell"]), st.decimals("0.001", 1000, places=3))
def test_orders_in_unheld_symbols_are_no_reductions(side: Side, qty: Decimal) -> None:
    opening = order(side, qty)
    account = AccountSnapshot(0.0, {}, {}, AT, open_orders=(opening,))
    assert account.open_reductions == {}
    assert account.projected_positions == {"NVDA": opening.signed_qty}


@pytest.mark.parametrize(
    ("cash", "collateral", "free", "coins"),
    [
        (80_000.0, 25_000.0, 0.75, 45_000.0),
        (80_000.0, 75_000.0, 0.25, 0.0),
        (80_000.0, 100_000.0, MIN_FREE_EQUITY_SHARE, 0.0),
        (80_000.0, 300_000.0, MIN_FREE_EQUITY_SHARE, 0.0),
        (-10_000.0, 5_000.0, 0.5, -20_000.0),  # of a debt nothing is set aside
        (-20_000.0, 5_000.0, MIN_FREE_EQUITY_SHARE, -30_000.0),  # no equity
        (-30_000.0, 5_000.0, MIN_FREE_EQUITY_SHARE, -40_000.0),
    ],
)
def test_spread_collateral_is_unavailable_to_stocks_and_crypto(
    cash: float, collateral: float, free: float, coins: float
) -> None:
    """The account has 20,000 USD of a stock; 10,000 USD of proceeds settle tomorrow."""
    account = AccountSnapshot(
        cash, {"NVDA": Decimal(200)}, {"NVDA": 100.0}, AT, unsettled_proceeds=10_000.0
    )
    secured = account.with_reserved_collateral(collateral)
    assert (secured.free_equity_share, secured.unborrowed_cash) == (
        pytest.approx(free, rel=1e-12),
        coins,
    )
    assert (secured.equity, secured.cash) == (account.equity, account.cash)
    assert secured.with_reserved_collateral(0.0) == secured, "nothing more is set aside"


@example(0.5)
@given(st.floats(0.01, 70_000.0))
def test_spread_collateral_reduces_free_equity_and_unborrowed_cash(collateral: float) -> None:
    """The account has 80,000 USD of cash, of which 10,000 settle tomorrow, and 20,000 USD of a
    stock.
    """
    account = AccountSnapshot(
        80_000.0, {"NVDA": Decimal(200)}, {"NVDA": 100.0}, AT, unsettled_proceeds=10_000.0
    )
    secured = account.with_reserved_collateral(collateral)
    assert secured.free_equity_share == pytest.approx(1.0 - collateral / 100_000.0, rel=1e-12)
    assert secured.unborrowed_cash == pytest.approx(70_000.0 - collateral, abs=1e-9)


@given(st.floats(0.01, 0.5), st.floats(-0.4, 0.0))
def test_collateral_is_deducted_from_accounts_below_one_dollar(
    collateral: float, unsettled: float
) -> None:
    """The account has 0.80 USD and unsettled purchases."""
    account = AccountSnapshot(0.8, {}, {}, AT, unsettled_proceeds=unsettled)
    secured = account.with_reserved_collateral(collateral)
    assert secured.free_equity_share == pytest.approx(1.0 - collateral / 0.8)
    assert secured.unsettled_proceeds == collateral


def test_market_prices_prefer_last_trades_to_sizing_prices() -> None:
    account = AccountSnapshot(1.0, {}, {"NVDA": 5.0, "AAPL": 7.0}, AT)
    assert account.market_prices == {"NVDA": 5.0, "AAPL": 7.0}
    traded = replace(account, last_trades={"NVDA": LastTrade(6.0, AT)})
    assert traded.market_prices == {"NVDA": 6.0, "AAPL": 7.0}
    assert {s: traded.price(s) for s in traded.prices} == traded.market_prices


WHOLE_USD = st.integers(-1_000_000, 1_000_000)


@given(WHOLE_USD, st.integers(0, 1_000_000), WHOLE_USD)
def test_short_and_unsettled_proceeds_buy_no_crypto(cash: int, short: int, unsettled: int) -> None:
    account = AccountSnapshot(
        float(cash), {}, {}, AT, unsettled_proceeds=float(unsettled), short_proceeds=float(short)
    )
    assert account.unborrowed_cash == cash - short - max(unsettled, 0)


def test_open_crypto_purchases_reduce_unborrowed_cash() -> None:
    sent = (
        order("buy", HALF, "a", symbol="BTCUSD", tif="gtc"),
        order("buy", 2, "b", symbol="ETHUSD", type="limit", limit_price=10.0, tif="gtc"),
        order("sell", 5, "c", symbol="ETHUSD", tif="gtc"),
        order("buy", 5, "d"),
    )
    prices = {"BTCUSD": 100.0, "ETHUSD": 12.0, "NVDA": 7.0}
    for cash, left in ((100.0, 30.0), (60.0, -10.0)):
        assert AccountSnapshot(cash, {}, prices, AT, open_orders=sent).unborrowed_cash == left
