"""The fee tables that a run uses by default, at the days on which they change."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from execution.orders.fees import (
    CryptoTier,
    DatedRate,
    FeeSchedule,
    TradingCosts,
    rates_and_caps_on,
)

SEC = {  # USD a million from a day on
    "1900-01-01": 21.80, "2017-07-04": 23.10, "2018-05-22": 13.00, "2019-04-16": 20.70,
    "2020-02-18": 22.10, "2021-02-25": 5.10, "2022-05-14": 22.90, "2023-02-27": 8.00,
    "2024-05-22": 27.80, "2025-05-14": 0.0, "2026-04-04": 20.60,
}  # fmt: skip
TAF = {  # USD a thousand shares from a day on, and at most
    "1900-01-01": (0.119, 5.95), "2022-01-01": (0.130, 6.49), "2023-01-01": (0.145, 7.27),
    "2024-01-01": (0.166, 8.30), "2026-01-01": (0.195, 9.79), "2026-10-01": (0.0, 0.0),
    "2027-01-01": (0.232, 11.61), "2028-01-01": (0.240, 12.05),
}  # fmt: skip


def test_sale_pays_the_regulatory_fees_of_its_day() -> None:
    tables = yaml.safe_load((Path(__file__).parents[2] / "configs/fees/alpaca.yaml").read_text())
    names = ("sec_per_dollar", "taf_per_share", "cat_per_share")
    dated = {name: tuple(DatedRate(**row) for row in tables[name]) for name in names}
    fees = FeeSchedule(**dated)
    sec = {each.since: each.rate * 1_000_000 for each in fees.sec_per_dollar}
    assert sec == pytest.approx(SEC, abs=1e-9)
    taf = {each.since: each.rate * 1_000 for each in fees.taf_per_share}
    assert taf == pytest.approx({day: rate for day, (rate, _) in TAF.items()}, abs=1e-12)
    assert [each.cap for each in fees.taf_per_share] == [cap for _, cap in TAF.values()]
    assert fees.cat_per_share[0].since == "1900-01-01"


@given(
    st.lists(
        st.tuples(st.integers(0, 5_000), st.floats(0, 1), st.floats(0, 10)),
        min_size=1,
        max_size=6,
        unique_by=lambda r: r[0],
    ),
    st.integers(-100, 6_000),
)
def test_fee_rate_in_force_has_latest_past_date(
    rows: list[tuple[int, float, float]], day: int
) -> None:
    epoch = np.datetime64("2010-01-01")
    rates = tuple(DatedRate(str(epoch + d), rate, cap) for d, rate, cap in sorted(rows))
    begun = [row for row in sorted(rows) if row[0] <= day]
    found = rates_and_caps_on(rates, np.array([epoch + day]), default=0.25)
    assert (float(found[0][0]), float(found[1][0])) == (
        begun[-1][1:] if begun else (0.25, float("inf"))
    )


def test_trading_cost_per_asset_class_sums_all_components() -> None:
    """Stocks: 1.5 + 2 basis points; crypto: 3 + 4 and the taker fee of 25; both: a commission of
    10.
    """
    costs = TradingCosts(
        stock_half_spread_bps=1.5,
        stock_slippage_bps=2.0,
        stock_impact=0.5,
        crypto_half_spread_bps=3.0,
        crypto_slippage_bps=4.0,
        crypto_impact=0.75,
    )
    crypto = np.array([False, True])
    assert costs.impact_coefficient(crypto).tolist() == [0.5, 0.75]
    np.testing.assert_allclose(costs.half_spread(crypto), [1.5e-4, 3e-4], rtol=1e-12)
    np.testing.assert_allclose(costs.slippage(crypto), [2e-4, 4e-4], rtol=1e-12)
    np.testing.assert_allclose(
        costs.expected_cost(crypto, FeeSchedule(commission_bps=10.0)), [13.5e-4, 42e-4], rtol=1e-12
    )


@pytest.mark.parametrize("name", ["alpaca", "kalshi"])
def test_every_fee_row_names_source_and_day(name: str) -> None:
    path = Path(__file__).parents[2] / "configs" / "fees" / f"{name}.yaml"
    tables = [rows for rows in yaml.safe_load(path.read_text()).values() if isinstance(rows, list)]
    rows = [row for table in tables for row in table]
    assert rows
    for row in rows:
        assert row["source"].strip()
        assert date.fromisoformat(row["read_on"]) <= date(2026, 12, 31)


UNVERIFIED = FeeSchedule(
    taf_per_share=(
        DatedRate("1900-01-01", 0.001),
        DatedRate("2024-02-01", 0.002, verified=False),
        DatedRate("2024-03-01", 0.003),
    )
)


@pytest.mark.parametrize(
    ("first", "last", "named"),
    [
        ("2024-01-02", "2024-01-31", []),
        ("2024-01-02", "2024-02-01", ["taf_per_share"]),
        ("2024-02-29", "2024-06-01", ["taf_per_share"]),
        ("2024-03-01", "2024-06-01", []),
    ],
)
def test_unverified_fee_rates_are_named_while_in_force(
    first: str, last: str, named: list[str]
) -> None:
    days = np.datetime64(first), np.datetime64(last)
    assert UNVERIFIED.unverified_stock_tables(*days) == named
    assert FeeSchedule().unverified_stock_tables(*days) == []


def test_unverified_crypto_fee_tier_is_named() -> None:
    tiers = CryptoTier(0.0, 0.001, 0.002), CryptoTier(1e6, 0.0, 0.001, verified=False)
    assert FeeSchedule(crypto_tiers=tiers).has_unverified_crypto_tier
    assert not FeeSchedule(crypto_tiers=tiers[:1]).has_unverified_crypto_tier
