"""The parts add up to the profit of every symbol and hour, whatever befalls the account: real
backtests on synthetic markets in which prices fall, halt, end, split both ways and pay dividends.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import pytest

from execution.records import Run
from foundation.compose import composed_config
from marketsimulator.backtest import run_backtest
from marketsimulator.results.attribution import ACCOUNT, run_attribution
from marketsimulator.results.summary import Results
from marketsimulator.settings import BacktestSettings
from tests.marketsimulator.accountant import Records, audit
from trainingdata.bars import CLOSE, VOLUME, Bars
from trainingdata.instants import NEW_YORK

FALL = np.datetime64("2024-02-23T14:30", "ns")  # all stocks at once, as a session opens
HALTED = ("2024-02-27", "2024-02-29")  # SYB has no bars, three sessions long
ENDS = "2024-03-01"  # SYC has no bars from then on
ACTIONS = (
    ("SYA", "2024-02-28", "split", 3.0),
    ("SYB", "2024-03-04", "split", 0.3),
    *(("SYA", f"2024-02-{day}", "dividend", 0.4) for day in (15, 16, 21, 22)),
    ("SYA", "2024-03-05", "dividend", 0.1),
)
WORDS = (
    *("start=2024-02-12", "end=2024-03-08", "data.start=2023-12-01", "data.end=2024-03-08"),
    *("symbols=[SYA,SYB,SYC,SYXUSD]", "forecaster=historical", "forecaster.calibrated=false"),
    *("data.edge=0.4", "data.adjustment=raw", "prior.crypto_sharpe=0.5", "trials=null"),
    *("increments=broker", "limits.symbol_cap=1.0"),
    "margin.requirements=[{symbol: SYA, rate: 0.7}, {symbol: SYB, rate: 0.7}]",
)


def befallen(bars: Bars, fall: float) -> Bars:
    """A market in which all that happens; fall: share of their price that stocks keep at FALL."""
    values = bars.values.copy()
    mask = bars.mask.copy()
    days = pd.DatetimeIndex(bars.times).tz_localize("UTC").tz_convert(NEW_YORK)
    date = days.strftime("%Y-%m-%d").to_numpy()
    for s, symbol in enumerate(bars.symbols):
        if not bars.crypto[s]:
            values[s, bars.times > FALL, :VOLUME] *= fall
        for of, begins, kind, value in ACTIONS:
            if of == symbol and kind == "split":
                values[s, date >= begins, :VOLUME] /= value
                values[s, date >= begins, VOLUME] *= value
        if symbol == "SYB":
            mask[s, (date >= HALTED[0]) & (date <= HALTED[1])] = False
        if symbol == "SYC":
            mask[s, date >= ENDS] = False
    values[~mask] = np.nan
    return Bars(bars.instruments, bars.times, values, mask, bars.source)


@dataclass(frozen=True)
class Case:
    """A trader in such a market; fall as above."""

    strategy: str
    seed: int
    fall: float


CASES = (
    Case("kelly_100", 1, 0.7),
    Case("kelly_50_x4", 2, 1.3),
    Case("legacy", 3, 0.45),
    Case("kelly_50_x4", 4, 0.35),
    Case("kelly_100", 1, 2.2),
    pytest.param(Case("kelly_50", 4, 0.8), marks=pytest.mark.slow),
)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case.strategy}-{case.fall}")
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    case = request.param
    actions = tmp_path_factory.mktemp("actions") / "actions.csv"
    pd.DataFrame(ACTIONS, columns=["symbol", "date", "kind", "value"]).to_csv(actions, index=False)
    words = (
        f"sizing.strategy={case.strategy}",
        f"data.seed={case.seed}",
        f"data.actions={actions}",
    )
    settings = BacktestSettings.of(composed_config("backtest", [*WORDS, *words]))
    bars = befallen(settings.bars(), case.fall)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BacktestSettings, "bars", lambda self: bars)
        return run_backtest(settings)


def by_hand(run: Run, bars: Bars) -> pd.DataFrame:
    """USD that each symbol, and the account, earned at each instant: [instants, symbols].

    What is held is worth its last close; shares of before a split are so many of after it.
    """
    fills = run.fill_frame()
    bookings = run.booking_frame()
    at = pd.DatetimeIndex(run.curve()[0]).tz_localize("UTC")
    earned = {}
    for s, symbol in enumerate(bars.symbols):
        times, values = bars.real_bars(s)
        closes = pd.Series(values[:, CLOSE], index=pd.DatetimeIndex(times).tz_localize("UTC"))
        splits = [a for a in ACTIONS if a[0] == symbol and a[2] == "split"]
        for _, begins, _, ratio in splits:
            opens = pd.Timestamp(f"{begins} 09:30", tz=NEW_YORK)
            # Before its first bar of after the split, its last close in the new prices.
            closes.loc[opens.tz_convert("UTC")] = closes[closes.index <= opens].iloc[-1] / ratio
            closes = closes.sort_index()
        mark = closes.reindex(at, method="ffill").bfill()
        traded = fills[fills["symbol"] == symbol]
        paid = traded["qty"] * traded["price"] + traded["fee"]
        held = traded.groupby("booked_at")["qty"].sum().reindex(at, fill_value=0.0).cumsum()
        flows = paid.groupby(traded["booked_at"]).sum().reindex(at, fill_value=0.0)
        worth = held * mark
        earned[symbol] = worth - worth.shift(fill_value=0.0) - flows
    beside = bookings[~bookings["kind"].isin(["spread", "slippage"])]
    for symbol, own in beside.groupby("symbol"):
        usd = own.groupby("at")["usd"].sum().reindex(at, fill_value=0.0)
        name = symbol or ACCOUNT
        earned[name] = earned.get(name, 0.0) + usd
    return pd.DataFrame(earned, index=at).fillna(0.0)


@pytest.mark.first_example
def test_the_parts_of_every_symbol_and_hour_are_what_the_account_earned(results: Results) -> None:
    for run in results.runs:
        earned = by_hand(run, results.market.bars)
        equity = np.append(results.settings.capital, run.equity()["equity"])
        assert earned.sum(axis=1).to_numpy() == pytest.approx(np.diff(equity), abs=1e-5)
        found = run_attribution(run, results.market)
        assert np.isfinite(found.usd).all()
        hour = earned.index.tz_convert(NEW_YORK).strftime("%H:%M")
        mine = earned.groupby(hour).sum()
        for s, symbol in enumerate(found.symbols):
            for h, name in enumerate(found.hours):
                expected = mine[symbol][name] if symbol in mine else 0.0
                assert found.usd[s, h].sum() == pytest.approx(expected, abs=1e-5), (symbol, name)


def test_the_accountant_agrees_with_all_that_befalls_an_account(results: Results) -> None:
    actions = results.settings.data.corporate_actions()
    records = Records.of(asdict(results.settings), results.market.bars, results.main, actions)
    assert str(audit(records)) == "0 differences"


def test_costs_and_financing_of_every_symbol_are_what_it_paid(results: Results) -> None:
    run = results.main
    found = run_attribution(run, results.market)
    fills = run.fill_frame()
    usd = run.booking_frame().groupby(["symbol", "kind"])["usd"].sum()
    for symbol, parts in found.by_symbol().items():
        own = fills[fills["symbol"] == symbol]
        in_coin = (own["price"] == 0) & ~own["client_order_id"].str.startswith("split")
        fees = own["fee"].sum() - (own["qty"] * own["price"].shift())[in_coin].sum()
        booked = usd.get("" if symbol == ACCOUNT else symbol, pd.Series(dtype=float))
        within = booked.reindex(["spread", "slippage", "rounding"]).sum()
        assert parts["costs"] == pytest.approx(within - fees, abs=1e-5), symbol
        beside = booked.drop(["spread", "slippage", "rounding"], errors="ignore").sum()
        assert parts["financing"] == pytest.approx(beside, abs=1e-5), symbol


def test_everything_befalls_these_accounts(results: Results) -> None:
    """A call and what it sells, a split of what is held, a fee in coin, a halt, an end; and a
    dividend that a short pays. One account is ruined and closed to the last share.
    """
    fills = results.main.fill_frame()
    ids = fills["client_order_id"]
    assert results.main.margin["margin_calls"] > 0
    assert ids.str.startswith("liquidation").any()
    if results.main.rows[-1].equity < 0:
        held = fills.groupby("symbol")["qty"].sum()
        assert held.abs().max() < 1e-9, "an account without equity has to be closed"
        return
    assert ids.str.startswith("split").any()
    assert ((fills["price"] == 0) & (fills["qty"] < 0) & (fills["symbol"] == "SYXUSD")).any()
    traded = fills.groupby("symbol")["at"].max()
    assert traded["SYC"] < pd.Timestamp(ENDS, tz=NEW_YORK)
    if results.settings.sizing.strategy == "kelly_100":  # short of SYA
        assert min(b.usd for b in results.main.bookings if b.kind == "dividend") < 0
    halted = pd.DatetimeIndex(fills.loc[fills["symbol"] == "SYB", "at"]).tz_convert(NEW_YORK)
    dates = halted.strftime("%Y-%m-%d")
    assert not ((dates >= HALTED[0]) & (dates <= HALTED[1])).any()
