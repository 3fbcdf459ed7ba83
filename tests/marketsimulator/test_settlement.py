from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from execution.orders.fees import CryptoTier, DatedRate, FeeSchedule, TradingCosts
from execution.orders.lending import MarginTerms
from foundation.arrays import StructuredArray
from marketsimulator.account.book import (
    BY_CRYPTO_FEE,
    BY_ORDER,
    BY_SPLIT,
    DIVIDEND,
    Book,
    create_account_log,
    create_book,
    round_to_cent,
)
from marketsimulator.account.calendar_events import (
    apply_corporate_action,
    close_session,
    update_crypto_tier,
)
from marketsimulator.account.margin import maintenance_requirement
from marketsimulator.account.settlement import mark_positions, trade_at_market
from marketsimulator.account.terms import (
    FillTerms,
    create_holdings,
    day_terms_table,
    fee_tier_table,
)
from trainingdata.instruments import instrument

ITEMS = tuple(instrument(s) for s in ("AAA", "BBB", "BTCUSD", "XRPUSD"))
S = len(ITEMS)
FEES = FeeSchedule(
    sec_per_dollar=(DatedRate("2000-01-01", 2.78e-5),),
    taf_per_share=(DatedRate("2000-01-01", 0.000166, 8.30),),
    cat_per_share=(DatedRate("2000-01-01", 0.000003),),
    crypto_tiers=(CryptoTier(0, 0.0015, 0.0025), CryptoTier(100_000, 0.0012, 0.0022)),
)
OPENS = np.array([100.0, 50.0, 60_000.0, 2.0])


class Bench:
    """An account that trades at OPENS, one order after another."""

    def __init__(
        self,
        cash: float = 100_000.0,
        *,
        costs: TradingCosts | None = None,
        fees: FeeSchedule = FEES,
        **margin: Any,
    ) -> None:
        terms = MarginTerms(**margin)
        holding = create_holdings(ITEMS, costs or TradingCosts(), terms)
        self.book: Book = create_book(cash, holding, fee_tier_table(fees))
        dates = np.array(["2026-09-01"], dtype="datetime64[D]")
        (self.day,) = day_terms_table(dates, fees, terms, FillTerms(volume_share=None))
        self.tape: StructuredArray = create_account_log(1000)
        self.at(OPENS)

    def at(self, prices: Any) -> None:
        mark_positions(self.account, self.book.holdings, np.asarray(prices, dtype=float))

    def hold(self, s: int, quantity: float, short_proceeds: float = 0.0) -> None:
        self.book.holdings["quantity"][s] = quantity
        self.book.holdings["short_proceeds"][s] = short_proceeds
        self.account["short_proceeds"] += short_proceeds
        self.at(OPENS)

    @property
    def account(self) -> Any:
        return self.book.account[0]

    def send(self, s: int, q: float, price: float | None = None) -> float:
        """What of an order fills, signed, in a bar without an end of volume."""
        reference = OPENS[s] if price is None else price
        state = self.account, self.book.holdings[s], self.day, self.tape
        return trade_at_market(*state, 0, 7, BY_ORDER, s, q, reference, np.inf, 0.0)

    def filled(self) -> StructuredArray:
        written = self.tape[: int(self.account["tape_length"])]
        return written[written["cause"] < DIVIDEND]

    def quantity(self, s: int) -> float:
        return float(self.book.holdings["quantity"][s])


def test_stock_sale_fees_match_hand_calculation() -> None:
    """99.98 for 100 shares: SEC 9,998 · 0.0000278 = 0.277944…, TAF 0.0166, CAT 0.0003."""
    b = Bench()
    b.hold(0, 100)
    b.send(0, -100)
    fill = b.filled()[0]
    assert fill["price"] == 99.98
    assert fill["fee"] == pytest.approx(0.277945 + 0.0166 + 0.0003, abs=2e-6)
    assert b.account["cash"] == pytest.approx(100_000 + 9998 - fill["fee"], abs=1e-9)


def test_crypto_fee_is_charged_in_the_asset_received() -> None:
    """0.5 at 60,018 costs 30,009 and leaves 0.5 less 0.25 %; a sale pays its 0.25 % in USD, up
    to the cent.
    """
    b = Bench()
    b.send(2, 0.5)
    bought, fee = b.filled()
    assert (bought["price"], bought["fee"]) == (60_018.0, 0.0)
    assert (fee["cause"], fee["quantity"], fee["price"], fee["fee"]) == (
        BY_CRYPTO_FEE,
        -0.00125,
        0.0,
        0.0,
    )
    assert b.quantity(2) == 0.49875
    assert b.account["cash"] == 100_000 - 30_009
    assert b.account["crypto_fees"] == pytest.approx(0.00125 * 60_018)
    b.send(2, -0.49875)
    sold = b.filled()[2]
    assert sold["fee"] == np.ceil(0.49875 * sold["price"] * 0.0025 * 100) / 100
    assert b.quantity(2) == 0


@pytest.mark.parametrize(
    ("gap", "rates"),
    [(gap, (0.0012, 0.0022) if gap < 31 else (0.0015, 0.0025)) for gap in (1, 3, 30, 31, 90)],
)
def test_crypto_fee_tier_follows_thirty_day_volume(gap: int, rates: tuple[float, float]) -> None:
    """120,000 USD on one day; maker and taker rate after so many days, most without a bar."""
    b = Bench(cash=1e6)
    b.send(2, 2.0)
    day = int(b.day["date"])
    update_crypto_tier(b.book, day, day + gap)
    assert (b.account["maker"], b.account["taker"]) == rates
    update_crypto_tier(b.book, day + gap, day + 31 + gap)
    assert (b.account["maker"], b.account["taker"]) == (0.0015, 0.0025)


def test_crypto_is_never_short_and_needs_settled_cash() -> None:
    assert Bench().send(2, -1.0) == 0
    for cash in (10_000.0, 6_016.805, 0.07):
        b = Bench(cash)
        b.send(2, 1.0)
        b.send(3, 5000.0)
        assert 0 <= b.account["cash"] < 100
    b = Bench(10_000.0)
    b.account["unsettled"] = 8_000.0
    b.send(2, 1.0)
    assert b.account["cash"] == pytest.approx(8_000, abs=100)
    b = Bench(-1.0)
    b.hold(0, 1000)
    assert b.send(2, 1.0) == 0
    b = Bench(110_000.0)
    b.hold(0, -1000, 100_000.0)
    b.send(2, 1.0)
    assert b.account["cash"] > 100_000


def test_buying_power_is_four_times_equity_less_crypto() -> None:
    b = Bench(order_price_buffer=1.0)
    assert 3_990 < b.send(0, 10_000) <= 4_000
    assert b.account["refusals"] == 1
    assert Bench(1_000.0).send(0, 100) <= 10
    b = Bench(40_000.0, order_price_buffer=1.0)
    b.hold(2, 1.0)
    assert 1_550 < b.send(0, 10_000) <= 1_600


def test_books_above_six_times_equity_accept_only_reductions() -> None:
    b = Bench(-560_000.0, leverage=10.0)
    b.hold(0, 6_600)
    assert b.send(1, 1) == 0
    b.hold(0, 6_500)
    assert b.send(1, 1) == 0
    b.hold(0, 7_000)
    assert b.send(1, 1) == 1


def test_overnight_interest_matches_hand_calculation() -> None:
    """A debit of 50,000 over a weekend: 50,000 · 0.065 / 360 · 3 = 27.083…, up to the cent."""
    b = Bench(-50_000.0)
    b.hold(0, 2000)
    close_session(b.book, b.tape, 0, b.day, 3)
    assert b.account["interest"] == 27.09
    assert b.account["cash"] == -50_027.09
    assert b.account["other"] == 0


def test_short_sale_proceeds_do_not_reduce_debit_interest() -> None:
    b = Bench(60_000.0)
    b.hold(0, -1000, 100_000.0)
    close_session(b.book, b.tape, 0, b.day, 1)
    assert b.account["interest"] == pytest.approx(np.ceil(40_000 * 0.065 / 360 * 100) / 100)
    credited = Bench(60_000.0, short_proceeds="credited")
    credited.hold(0, -1000, 100_000.0)
    close_session(credited.book, credited.tape, 0, credited.day, 1)
    assert credited.account["interest"] == 0


def test_daily_fees_are_rounded_up_at_the_close() -> None:
    b = Bench(100.0)
    b.account["day_fees"] = 0.121
    close_session(b.book, b.tape, 0, b.day, 1)
    assert b.account["other"] == pytest.approx(-0.009)
    assert b.account["day_fees"] == 0
    assert b.account["cash"] == pytest.approx(99.991)


def test_fill_is_never_better_than_the_open() -> None:
    for price in (0.00001234, 0.97, 1.0, 33.333333, 64_321.987654):
        b = Bench(1e9)
        for s, q in ((0, 1.0), (2, 1.0), (0, -1.0), (2, -0.5)):
            b.send(s, q, price)
            fill = b.filled()[b.filled()["price"] > 0][-1]
            assert np.sign(q) * (fill["price"] - price) >= 0
            assert abs(fill["price"] / price - 1) < 1e-3


def test_half_cents_round_to_even_exactly() -> None:
    """3 · 0.145 = 0.435 and 3 · 0.035 = 0.105; 0.25 % of 11,044.842 coins are 27.612105."""
    for dividend, cents in ((0.145, 0.44), (0.035, 0.10)):
        assert round_to_cent(3 * dividend) == cents
        assert round_to_cent(-3 * dividend) == -cents
    b = Bench()
    b.send(3, 11_044.842)
    assert b.filled()[1]["quantity"] == -27.612105


def test_dividend_is_received_long_and_paid_short() -> None:
    b = Bench()
    b.hold(0, 100)
    b.hold(1, -200, 10_000.0)
    apply_corporate_action(b.book, b.tape, 0, 0, 1.0, 0.251)
    apply_corporate_action(b.book, b.tape, 0, 1, 1.0, 0.5)
    assert b.account["dividends"] == b.account["other"] == pytest.approx(25.1 - 100)
    assert b.account["cash"] == pytest.approx(100_000 + 25.1 - 100)


def test_split_multiplies_shares_and_pays_fractions_in_cash() -> None:
    """3 for 2 on 101 shares at 100: 151 shares at 66.67 and half a share in cash, recorded as a
    fill at price 0.
    """
    b = Bench()
    b.hold(0, 101)
    apply_corporate_action(b.book, b.tape, 0, 0, 1.5, 0.0)
    assert b.quantity(0) == 151
    assert b.account["cash"] == pytest.approx(100_000 + 33.33)
    fill = b.filled()[0]
    assert (fill["cause"], fill["quantity"], fill["price"]) == (BY_SPLIT, 50, 0)
    b.hold(1, -10, 500.0)
    apply_corporate_action(b.book, b.tape, 0, 1, 0.1, 0.0)
    assert b.quantity(1) == -1
    assert b.account["short_proceeds"] == 500.0


def test_reverse_split_removing_a_short_clears_its_proceeds() -> None:
    """1 for 20: ten shares sold short today become none; only the other short's 10,000 of proceeds
    remain.
    """
    b = Bench(costs=TradingCosts(0, 0, 0, 0, 0, 0))
    b.hold(0, -100, 10_000.0)
    b.send(1, -10)
    assert (b.account["short_proceeds"], b.account["unsettled_short_proceeds"]) == (10_500.0, 500.0)
    apply_corporate_action(b.book, b.tape, 0, 1, 0.05, 0.0)
    assert b.quantity(1) == 0
    apply_corporate_action(b.book, b.tape, 0, 2, 2.0, 0.0)
    assert not np.signbit(b.book.holdings["quantity"][1:]).any(), "nothing held is no -0.0"
    assert (b.account["short_proceeds"], b.account["unsettled_short_proceeds"]) == (10_000.0, 0.0)
    assert b.book.holdings["short_proceeds"].tolist() == [10_000.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("quantity", "price", "special", "need"),
    [
        (100, 2.0, 0.0, 200.0),
        (100, 2.5, 0.0, 125.0),
        (100, 4.0, 0.0, 200.0),
        (100, 6.0, 0.0, 180.0),
        (100, 50.0, 0.0, 1500.0),
        (100, 50.0, 0.75, 3750.0),
        (-100, 1.0, 0.0, 250.0),
        (-100, 4.0, 0.0, 400.0),
        (-100, 10.0, 0.0, 500.0),
        (-100, 100.0, 0.0, 3000.0),
    ],
)
def test_maintenance_margin_depends_on_price_and_side(
    quantity: float, price: float, special: float, need: float
) -> None:
    assert maintenance_requirement(quantity, price, special) == pytest.approx(need)


def test_negative_equity_liquidates_even_penny_stocks() -> None:
    b = Bench(-1_100.0)
    b.book.holdings["quantity"][0] = 100_000
    b.at([0.01, 50.0, 60_000.0, 2.0])
    close_session(b.book, b.tape, 0, b.day, 1)
    assert b.book.holdings["called"][0] == 100_000
