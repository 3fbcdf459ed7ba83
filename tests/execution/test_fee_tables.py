"""The fee tables that a run uses by default, at the days on which they change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from execution.fees import DatedRate, FeeSchedule, TradingCosts, rates_on

TABLES = yaml.safe_load(
    (Path(__file__).parents[2] / "configs" / "fees" / "alpaca.yaml").read_text()
)


def table(name: str) -> tuple[DatedRate, ...]:
    """A dated table of the default fees."""
    return tuple(DatedRate(**row) for row in TABLES[name])


def in_force(name: str, day: str) -> tuple[float, float]:
    """Rate and cap of a default table on a New York date."""
    rates, caps = rates_on(table(name), np.array([day], dtype="datetime64[D]"))
    return float(rates[0]), float(caps[0])


SEC = {  # USD a million from a day on
    "2016-04-01": "21.80", "2017-07-04": "23.10", "2018-05-22": "13.00", "2019-04-16": "20.70",
    "2020-02-18": "22.10", "2021-02-25": "5.10", "2022-05-14": "22.90", "2023-02-27": "8.00",
    "2024-05-22": "27.80", "2025-05-14": "0", "2026-04-04": "20.60",
}  # fmt: skip
TAF = {  # USD a thousand shares from a day on, and at most
    "2016-04-01": (0.119, 5.95), "2022-01-01": (0.130, 6.49), "2023-01-01": (0.145, 7.27),
    "2024-01-01": (0.166, 8.30), "2026-01-01": (0.195, 9.79),
}  # fmt: skip


def spans(table: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The first and the last day of each span, with what was in force."""
    days = sorted(table)
    for first, following in zip(days, [*days[1:], None], strict=True):
        yield first, table[first]
        if following is not None:
            yield str(np.datetime64(following) - 1), table[first]


@pytest.mark.parametrize(("day", "fee"), list(spans(SEC)))
def test_a_sale_of_a_million_pays_the_sec_what_was_in_force_that_day(day: str, fee: str) -> None:
    rate, _ = in_force("sec_per_dollar", day)
    assert rate * 1_000_000 == pytest.approx(float(fee), abs=1e-9)


@pytest.mark.parametrize(("day", "terms"), list(spans(TAF)))
def test_a_sale_of_a_thousand_shares_pays_finra_what_was_in_force_that_day(
    day: str, terms: tuple[float, float]
) -> None:
    rate, cap = in_force("taf_per_share", day)
    assert (rate * 1_000, cap) == (pytest.approx(terms[0], abs=1e-12), terms[1])


def test_the_default_tables_make_a_schedule() -> None:
    """Dates increase, and no day is before the first."""
    names = ("sec_per_dollar", "taf_per_share", "cat_per_share")
    dated: dict[str, Any] = {name: table(name) for name in names}
    schedule = FeeSchedule(**dated)
    for name in names:
        assert np.datetime64(getattr(schedule, name)[0].since) < np.datetime64("1990-01-01")


@given(
    st.lists(
        st.tuples(st.integers(0, 5_000), st.floats(0, 1), st.floats(0, 10)),
        min_size=1,
        max_size=6,
        unique_by=lambda r: r[0],
    ),
    st.integers(-100, 6_000),
)
def test_the_rate_of_a_day_is_the_last_that_began_by_then(
    rows: list[tuple[int, float, float]], day: int
) -> None:
    epoch = np.datetime64("2010-01-01")
    rates = tuple(DatedRate(str(epoch + d), rate, cap) for d, rate, cap in sorted(rows))
    begun = [row for row in sorted(rows) if row[0] <= day]
    found = rates_on(rates, np.array([epoch + day]), default=0.25)
    assert (float(found[0][0]), float(found[1][0])) == (
        begun[-1][1:] if begun else (0.25, float("inf"))
    )


def test_a_class_pays_its_own_costs_and_a_decision_reckons_with_their_sum() -> None:
    """1.5 + 2 basis points for a stock; 3 + 4 and the taker fee of 25 for a coin; 10 of
    commission for both.
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
    assert costs.impact(crypto).tolist() == [0.5, 0.75]
    np.testing.assert_allclose(costs.half_spread(crypto), [1.5e-4, 3e-4], rtol=1e-12)
    np.testing.assert_allclose(costs.slippage(crypto), [2e-4, 4e-4], rtol=1e-12)
    np.testing.assert_allclose(
        costs.expected(crypto, FeeSchedule(commission_bps=10.0)), [13.5e-4, 42e-4], rtol=1e-12
    )
