from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.fees import CryptoTier, DatedRate, FeeSchedule, TradingCosts
from execution.lending import MarginTerms, SymbolRate
from execution.orders import LEAST_FREE, Account, Order, OrderTerms, client_order_id
from execution.rebalancing import Target, rebalance
from foundation.errors import InputError
from trainingdata.bars import HIGH
from trainingdata.instruments import instrument
from trainingdata.synthetic import SyntheticMarket

INF = float("inf")
AT = np.datetime64("2024-10-01T14:30", "ns")
NVDA, AAPL, BTC, ETH = (instrument(s) for s in ("NVDA", "AAPL", "BTCUSD", "ETHUSD"))


def test_the_same_intention_has_one_identity_and_others_have_others() -> None:
    assert client_order_id("kelly_50", AT, "NVDA", 0) == "kelly_50-20241001T143000Z-NVDA-0-0"
    others = {
        client_order_id("kelly_50", AT, "NVDA", 0, 1),
        client_order_id("kelly_50", AT, "NVDA", 1),
        client_order_id("kelly_50", AT + np.timedelta64(1, "h"), "NVDA", 0),
        client_order_id("other", AT, "NVDA", 0),
        client_order_id("kelly_50", AT, "AAPL", 0),
    }
    assert len(others) == 5
    assert client_order_id("kelly_50", AT, "NVDA", 0) not in others


def test_reductions_come_first_then_coins_then_the_rest_by_symbol() -> None:
    d = Decimal
    orders = rebalance(
        "s", AT,
        [
            Target(NVDA, d(0), d(5), INF, "open"), Target(BTC, d(0), d("0.1"), INF, "coin"),
            Target(AAPL, d(10), d(4), INF, "reduce"), Target(ETH, d(2), d(1), INF, "reduce"),
        ],
    )  # fmt: skip
    assert [(o.side, o.qty, o.symbol) for o in orders] == [
        ("sell", d(6), "AAPL"),
        ("sell", d(1), "ETHUSD"),
        ("buy", d("0.1"), "BTCUSD"),
        ("buy", d(5), "NVDA"),
    ]


def test_no_order_flips_a_position() -> None:
    orders = rebalance("s", AT, [Target(NVDA, Decimal(7), Decimal(-5), INF, "flip")])
    assert [(o.side, o.qty) for o in orders] == [("sell", 7), ("sell", 5)]
    assert len({o.client_order_id for o in orders}) == 2


@given(st.decimals("0.001", "90", places=3), st.floats(0.5, 100.0))
def test_what_exceeds_one_order_goes_out_in_parts_that_add_up(held: Decimal, most: float) -> None:
    step = Decimal("0.001")
    coin = replace(BTC, increment=step)
    orders = rebalance("s", AT, [Target(coin, held, Decimal(0), most, "x")])
    assert sum(o.qty for o in orders) == held
    assert all(float(o.qty) <= most + len(orders) * float(step) for o in orders)
    assert all(o.qty % step == 0 for o in orders[1:])
    assert len({o.client_order_id for o in orders}) == len(orders)
    assert len(orders) <= float(held) / most + 1


def test_unsettled_proceeds_and_short_proceeds_do_not_buy_coins() -> None:
    assert Account(100.0, {}, {}, AT, unsettled=30.0, short_proceeds=50.0).unborrowed_cash == 20.0
    assert Account(100.0, {}, {}, AT, unsettled=-30.0).unborrowed_cash == 100.0
    assert Account(-5.0, {}, {}, AT).unborrowed_cash == -5.0


@pytest.mark.parametrize(
    ("cash", "collateral", "free", "coins"),
    [
        (80_000.0, 25_000.0, 0.75, 45_000.0),
        (80_000.0, 75_000.0, 0.25, 0.0),
        (80_000.0, 100_000.0, LEAST_FREE, 0.0),
        (80_000.0, 300_000.0, LEAST_FREE, 0.0),
        (-10_000.0, 5_000.0, 0.5, -20_000.0),  # of a debt nothing is set aside
        (-20_000.0, 5_000.0, LEAST_FREE, -30_000.0),  # no equity
        (-30_000.0, 5_000.0, LEAST_FREE, -40_000.0),
    ],
)
def test_what_secures_spreads_is_lent_against_no_stock_and_buys_no_coin(
    cash: float, collateral: float, free: float, coins: float
) -> None:
    """20,000 USD of a stock; of what was sold, 10,000 settle tomorrow."""
    account = Account(cash, {"NVDA": Decimal(200)}, {"NVDA": 100.0}, AT, unsettled=10_000.0)
    secured = account.secured(collateral)
    assert (secured.free, secured.unborrowed_cash) == (pytest.approx(free, rel=1e-12), coins)
    assert (secured.equity, secured.cash) == (account.equity, account.cash)
    assert secured.secured(0.0) == secured, "nothing more is set aside"


def test_where_nothing_is_sold_all_cash_is_set_aside_for_spreads_once() -> None:
    account = Account(100.0, {}, {}, AT, unsettled=-30.0)
    assert account.secured(0.0) == account
    assert account.secured(60.0).unborrowed_cash == 40.0
    assert account.secured(60.0).free == pytest.approx(0.4)


def test_cash_that_open_bids_for_coins_will_take_buys_no_other_coin() -> None:
    sent = (
        Order("a", "BTCUSD", "buy", Decimal("0.5"), "open", tif="gtc"),
        Order("b", "ETHUSD", "buy", Decimal(2), "open", type="limit", limit_price=10.0, tif="gtc"),
        Order("c", "ETHUSD", "sell", Decimal(5), "open", tif="gtc"),
        Order("d", "NVDA", "buy", Decimal(5), "open"),
    )
    prices = {"BTCUSD": 100.0, "ETHUSD": 12.0, "NVDA": 7.0}
    assert Account(100.0, {}, prices, AT, open_orders=sent).unborrowed_cash == 30.0
    assert Account(60.0, {}, prices, AT, open_orders=sent).unborrowed_cash == -10.0


def test_a_bound_that_one_increment_of_a_coin_exceeds_is_refused() -> None:
    bars = SyntheticMarket(start="2024-01-02", end="2024-01-05", symbols=("SYA", "SYYUSD")).bars()
    worth = 0.001 * bars.real_bars(1)[1][:, HIGH].max()
    OrderTerms(largest_coin=worth * 1.01, room=0.0).check(bars)
    with pytest.raises(
        InputError, match=r"orders.largest_coin: .* one increment of SYYUSD comes to be worth"
    ):
        OrderTerms(largest_coin=worth * 0.99, room=0.0).check(bars)
    with pytest.raises(InputError, match="one increment of SYYUSD"):
        OrderTerms(largest_coin=worth * 1.01, room=0.05).check(bars)


def test_a_coin_worth_next_to_nothing_goes_out_in_parts_that_orders_can_be() -> None:
    most = OrderTerms().largest_quantity(BTC, 1e-9)
    orders = rebalance("s", AT, [Target(BTC, Decimal(0), Decimal(5) * 10**12, most, "x")])
    assert sum(o.qty for o in orders) == 5 * 10**12
    assert len(orders) == 50


def test_a_position_without_a_price_is_refused() -> None:
    with pytest.raises(ValueError, match="NVDA has no price"):
        Account(1.0, {"NVDA": Decimal(1)}, {}, AT)


def test_fee_tables_and_costs_that_cannot_be_are_named() -> None:
    with pytest.raises(InputError, match=r"fees\.sec_per_dollar: dates must increase"):
        FeeSchedule(sec_per_dollar=(DatedRate("2025-01-01", 0.0), DatedRate("2024-01-01", 0.0)))
    for word in ("soon", "today", "2024", "20240101", "NaT", ""):
        with pytest.raises(InputError, match=f"'{word}' is no date"):
            DatedRate(word, 0.0)
    for rate, why in ((-1.0, "below 0"), (27.8, "not below 10")):
        with pytest.raises(InputError, match=f"rate: {rate} is {why}"):
            DatedRate("2024-01-01", rate)
    with pytest.raises(InputError, match="nan is no finite number"):
        DatedRate("2024-01-01", np.nan)
    with pytest.raises(InputError, match="rate: 50 is not below 10"):
        SymbolRate("NVDA", 50)
    twice = (SymbolRate("BTC/USD", 0.1), SymbolRate("NVDA", 0.5), SymbolRate("BTCUSD", 0.2))
    for name in ("borrow_rates", "requirements"):
        with pytest.raises(InputError, match=f"margin.{name}: BTCUSD is there 2 times"):
            MarginTerms(**{name: twice})
    with pytest.raises(InputError, match="stock_slippage_bps"):
        TradingCosts(stock_slippage_bps=-1)
    with pytest.raises(InputError, match="crypto_tiers"):
        FeeSchedule(crypto_tiers=(CryptoTier(0.0, 0.0, 1.0),))
    with pytest.raises(InputError, match="begin at 0 and increase"):
        FeeSchedule(crypto_tiers=(CryptoTier(100.0, 0.0, 0.0),))


def test_what_a_coin_fee_left_over_is_sold_whole_and_bought_in_increments() -> None:
    """0.09975 held after a fee of 0.00025: closing sells all of it, adding buys whole
    thousandths.
    """
    coin = instrument("BTCUSD")
    held = Decimal("0.09975")
    (close,) = rebalance("k", AT, [Target(coin, held, Decimal(0), INF, "close")])
    (more,) = rebalance("k", AT, [Target(coin, held, Decimal("0.2"), INF, "more")])
    assert (close.side, close.qty, more.side, more.qty) == ("sell", held, "buy", Decimal("0.1"))
    assert rebalance("k", AT, [Target(coin, held, Decimal("0.1"), INF, "dust")]) == ()


@given(
    st.integers(1, 40_000_000 * 10**9),
    st.floats(1e5, 3e6),
    st.sampled_from([Decimal("1e-9"), Decimal("0.001")]),
)
def test_the_parts_of_a_huge_order_add_up_to_the_last_billionth(
    billionths: int, most: float, step: Decimal
) -> None:
    held = Decimal(billionths) * Decimal("1e-9")
    coin = replace(BTC, increment=step)
    orders = rebalance("s", AT, [Target(coin, held, Decimal(0), most, "x")])
    parts = [o.qty for o in orders]
    assert sum(parts, Decimal(0)) == held
    assert all(float(part) <= most * (1 + 1e-12) for part in parts)
    assert max(parts) - min(parts) <= 2 * step


def test_an_increment_that_is_worth_more_than_an_order_may_be_is_sent_all_the_same() -> None:
    parts = rebalance("s", AT, [Target(BTC, Decimal("0.005"), Decimal(0), 0.0004, "x")])
    assert [o.qty for o in parts] == [BTC.increment] * 5
