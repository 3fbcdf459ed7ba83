"""The quantity for a venue's account: the real SDK against a venue on loopback."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import execution
from execution.live.settings import LiveSettings
from execution.orders.account_snapshot import AccountSnapshot
from execution.quantity import SizedQuantity, size_quantity
from foundation.compose import compose_config
from foundation.errors import BrokerError, DataError, InputError
from sizing.strategies import KellyStrategy
from tests.execution.traders import Tilted, without_an_answer
from tests.support.messages import refused
from trainingdata.bars import OHLCV_FIELDS, Bars
from trainingdata.feed.endpoint import ApiKeys
from trainingdata.timeframe import HOURLY

ROOT = Path(__file__).resolve().parent.parent.parent
KEYS = ApiKeys("KEYKEYKEY", "SECRETSECRET")
RAW = ("forecaster=ewma", "forecaster.calibrated=false")
Sized = Callable[..., SizedQuantity]
rising = partial(Tilted, left=0.3, skill=0.3)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APCA_API_KEY_ID", KEYS.key)
    monkeypatch.setenv("APCA_API_SECRET_KEY", KEYS.secret)


@pytest.fixture
def real_like(market: Bars, tmp_path: Path) -> Path:
    """A folder with the bars of SYA alone."""
    folder = tmp_path / "bars"
    folder.mkdir()
    times, values = market.bars_of_symbol(market.symbols.index("SYA"))
    starts = HOURLY.stock_clock.starts[np.searchsorted(HOURLY.stock_clock.ends, times)]
    frame = pd.DataFrame(values, columns=list(OHLCV_FIELDS))
    frame.insert(0, "timestamp", pd.DatetimeIndex(starts).tz_localize("UTC"))
    frame.to_parquet(folder / "SYA.parquet")
    return folder


@pytest.fixture
def tilted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forecasting.settings.ForecasterSettings.build", lambda *_: rising(20.0))


def position(symbol: str, qty: str, price: str) -> dict[str, str]:
    worth = str(Decimal(qty) * Decimal(price))
    prices = {"current_price": price, "avg_entry_price": price}
    return {"symbol": symbol, "qty": qty, "market_value": worth, **prices}


@pytest.fixture
def sized(venue: Any) -> Sized:
    """What is to be traded of SYA at the venue."""

    def sized(*words: str, symbol: str = "SYA", price: float = 100.0) -> SizedQuantity:
        return size_quantity(symbol, price, f"broker.url_override={venue.url}", *words)

    return sized


def test_quantity_at_a_decision_equals_the_traders_choice(
    venue: Any, market: Bars, tilted: None
) -> None:
    """Live and backtest give equal quantities for equal inputs, with one symbol deciding."""
    venue.now = "2024-03-05T17:30:00Z"
    known = market.slice_until(np.datetime64("2024-03-05T17:30", "ns"))
    times, values = known.bars_of_symbol(0)
    mask = np.ones((1, len(times)), bool)
    lone = Bars(known.instruments[:1], times, values[None], mask, "test")
    price = float(lone.last_closes()[0])
    account = AccountSnapshot(100_000.0, {}, {"SYA": price}, lone.last_instant)
    trader = LiveSettings.from_config(compose_config("live", [])).build_trader(rising(20.0))
    decision = trader.decide(lone, account)
    assert decision is not None
    quantity = execution.get_qty("SYA", price, f"broker.url_override={venue.url}")
    assert quantity == decision.choices[0].qty


def test_untradable_or_unborrowable_symbol_is_not_sized(
    venue: Any, sized: Sized, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forecasting.settings.ForecasterSettings.build", lambda *_: rising(-20.0))
    words = ("sizing.holding=next", "prior.stock_sharpe=0")
    assert sized(*words).qty < 0
    flags = ("tradable", "shortable", "easy_to_borrow", "fractionable")
    open_to_all = {"status": "active", **dict.fromkeys(flags, True)}
    for lacks, why in (
        ("easy_to_borrow", "bound by long_only"),
        ("tradable", "the venue accepts no orders for it now"),
    ):
        venue.assets["SYA"] = {**open_to_all, lacks: False}
        answer = sized(*words)
        assert (answer.qty, why in answer.reason) == (0, True)


def test_quantity_is_zero_while_the_market_is_closed(
    venue: Any, sized: Sized, tilted: None
) -> None:
    venue.now = "2024-03-05T22:00:00Z"
    shut = "the market is closed at 2024-03-05T22:00Z, so no quantity can be traded now"
    assert sized() == SizedQuantity("SYA", Decimal(0), shut)
    assert sized(symbol="SYX/USD").reason.startswith("Enhanced")


def test_stale_forecast_opens_positions_only_under_legacy_rule(
    venue: Any, sized: Sized, caplog: pytest.LogCaptureFixture
) -> None:
    """The market's last bar ends at 16:00; the fixture's bars end before 20:30."""
    venue.now = "2024-03-08T20:45:00Z"
    venue.bars = venue.bars.slice_until(np.datetime64("2024-03-07T21:00", "ns"))
    answer = sized(*RAW)
    stale = "SYA: no forecast: the latest bar (2024-03-07T21:00Z) is too old"
    assert answer.qty == 0
    assert answer.reason.startswith(f"Enhanced sizing failed: {stale}")
    assert answer.reason.endswith("no new position is opened")
    with caplog.at_level(logging.INFO):
        answer = sized(*RAW, "sizing.fallback=legacy")
    assert (answer.qty, "Legacy sizing" in answer.reason) == (600, True)
    assert {"SYA: Enhanced sizing failed: no forecast", "SYA: Legacy sizing"} <= {*caplog.messages}
    venue.faults["/v2/stocks/bars"] = [403]
    assert "refused (403)" in sized(*RAW).reason


def test_quantity_reason_names_an_unconfirmed_last_bar(venue: Any, sized: Sized) -> None:
    """The symbol has a bar of this hour: the reason reports it as unconfirmed, not as missing."""
    bars = venue.bars.slice_until(np.datetime64("2024-03-05T17:30", "ns"))
    values = bars.values.copy()
    values[0, -1, :4] *= 3.0
    venue.now, venue.bars = "2024-03-05T17:30:00Z", replace(bars, values=values)
    answer = sized(*RAW)
    why = "SYA: no forecast: the latest bar ("
    assert answer.qty == 0
    assert answer.reason.startswith(f"Enhanced sizing failed: {why}")
    assert "needs the next bar to confirm it" in answer.reason


def test_quantity_counts_only_what_the_forecast_has_earned(
    venue: Any, sized: Sized, tilted: None, tmp_path: Path
) -> None:
    venue.account["id"] = venue.account["account_number"] = "PA1"
    full = sized()
    unearned = sized("sizing.earned=true", f"folder={tmp_path}")
    assert 0 <= unearned.qty < full.qty
    assert "(0.00 of it earned)" in unearned.reason


def test_failed_solver_takes_no_new_risk(
    sized: Sized, tilted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KellyStrategy, "allocate", without_an_answer)
    answer = sized()
    assert answer.qty == 0
    assert answer.reason.startswith("Enhanced sizing failed: no convergence")


def test_sizing_reads_bars_from_files_when_configured(
    venue: Any, sized: Sized, real_like: Path, tmp_path: Path
) -> None:
    here = (f"data.dir=[{real_like}]", *RAW)
    kelly = "Enhanced Kelly sizing with 4.0x leverage; forecast +0.0 bp"
    assert sized(*here).reason.startswith(kelly)
    assert not any("bars" in path for path in venue.asked)
    venue.positions = [position("SYB", "10", "50")]
    assert sized(*here).reason.startswith("Enhanced Kelly sizing")
    lacking = sized(*here, "symbols=[SYA]", symbol="SYC").reason
    assert "no forecast: the symbol has no bars" in lacking
    venue.positions = []
    assert "no forecast: no bar file for SYC" in sized(*here, symbol="SYC").reason
    with refused(DataError):
        sized(f"data.dir=[{tmp_path / 'nowhere'}]")


def test_environment_variables_select_legacy_rule_and_leverage(
    venue: Any, sized: Sized, monkeypatch: pytest.MonkeyPatch
) -> None:
    """50 % of 4 times 100,000, times 0.2, at 100."""
    monkeypatch.setenv("USE_ENHANCED_KELLY_SIZING", "false")
    monkeypatch.setenv("RISK_MULTIPLIER", "0.2")
    assert sized(*RAW).qty == 400
    monkeypatch.setenv("MAX_INTRADAY_LEVERAGE", "2.0")
    assert sized(*RAW).qty == 200
    venue.account["multiplier"] = "1"
    assert sized(*RAW).qty == 100
    for name, value, facts in (
        ("RISK_MULTIPLIER", "lots", ("sizing.risk_multiplier", "'lots'")),
        ("MAX_INTRADAY_LEVERAGE", "-4", ("limits.intraday_leverage", "'-4'")),
        ("USE_ENHANCED_KELLY_SIZING", "maybe", ("sizing.enhanced", "'maybe'")),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with refused(InputError, *facts):
                sized(*RAW)


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["SYA", "-5"], ("price", "-5")),
        (["SYA", "nan"], ("price", "nan")),
        (["S Y A", "5"], ("S Y A",)),
        (["SYA", "5", "sizing.fraction=2"], ("sizing.fraction", "2")),
        (["SYA", "5", "broker.url_override=http://127.0.0.1:9", "broker.attempts=1"], ()),
    ],
)
def test_invalid_quantity_arguments_are_refused(
    words: list[str], facts: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    symbol, price, *overrides = words
    with refused((BrokerError, InputError), *facts) as caught:
        execution.get_qty(symbol, float(price), *overrides)
    assert KEYS.secret not in str(caught.value)
