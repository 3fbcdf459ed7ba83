"""The venue's smallest crypto order in a backtest: no trade below it, whole closes down to dust."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from decimal import Decimal
from functools import cache

import pytest

from execution.orders.orders import DEFAULT_SIZE_LIMITS
from marketsimulator.results.remarks import small_order_remarks
from marketsimulator.run_result import Run
from tests.marketsimulator.accountant import Records, audit
from tests.marketsimulator.accounts import coin, market
from tests.marketsimulator.runs import eager_trader, settings_of, walked_as_stepped

CRYPTO = (
    *("start=2024-02-16", "data.start=2024-01-02", "data.end=2024-02-24", "trials=null"),
    *("forecaster=ewma", "forecaster.calibrated=false", "symbols=[SYXUSD,SYYUSD]"),
    *("fills.volume_share=null",),
)


@cache
def small_run(*words: str) -> Run:
    """A run of a small account that trades crypto at every bar: compiled, stepped, recomputed."""
    settings = settings_of(*CRYPTO, *words)
    market_, trader = eager_trader(settings)
    run = walked_as_stepped(settings, market_, trader)
    assert str(audit(Records.of(asdict(settings), market_.bars, run))) == "0 differences"
    return run


def traded(run: Run) -> list[tuple[float, bool]]:
    """Return USD of each fill, and whether it closed its position."""
    held: defaultdict[str, Decimal] = defaultdict(Decimal)
    found = []
    for fill in run.fills:
        held[fill.symbol] += fill.qty
        if fill.price > 0:
            found.append((abs(float(fill.qty)) * fill.price, not held[fill.symbol]))
    return found


@pytest.mark.first_example
@pytest.mark.parametrize("capital", [40, 150])
def test_a_small_account_trades_nothing_below_the_minimum(capital: int) -> None:
    run = small_run(f"capital={capital}")
    fills = traded(run)
    assert len(fills) > 20
    assert all(usd >= 10 or closes for usd, closes in fills)
    assert any(usd < 10 for usd, _ in traded(small_run(f"capital={capital}", *ANY_SIZE)))


ANY_SIZE = ("orders.min_crypto_value=0", "orders.crypto_dust=0")


def test_decisions_record_orders_dropped_below_the_minimum() -> None:
    run = small_run("capital=40")
    frame = run.decision_frame()
    small = frame[frame["binding"].str.contains("smallest_order")]
    (remark,) = small_order_remarks(run, DEFAULT_SIZE_LIMITS)
    assert remark.startswith(f"{len(small):,} crypto orders not sent")
    assert (small["qty"] == 0).all()
    assert (small["target"] == small["held"]).all()


@pytest.mark.parametrize(
    ("quantity", "sold", "left"),
    [
        ("2", "0.9", "1.995"),  # 9 USD of a position of about 20
        ("2", "1.1", "0.895"),  # 11 USD of it
        ("0.5", "0.49875", "0"),  # all of 5 USD
        ("0.05", "0.049875", "0.049875"),  # dust: all of half a dollar
    ],
)
def test_crypto_sale_below_minimum_needs_a_full_close(quantity: str, sold: str, left: str) -> None:
    """A coin at 10 USD was bought at 400; the fee took 0.25 % of the coins."""
    bars = [(400.0, 400.0, 400.0, 400.0)] * 2 + [(10.0, 10.0, 10.0, 10.0)] * 3
    broker = coin(*bars, capital=1e4, orders=DEFAULT_SIZE_LIMITS)
    broker.submit([market("buy", "BTCUSD", float(quantity))])
    broker.advance(3)
    broker.submit([market("sell", "BTCUSD", -float(sold))])
    remaining = broker.account().positions.get("BTCUSD", Decimal(0))
    assert remaining == Decimal(left)
