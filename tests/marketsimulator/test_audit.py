from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from execution.decision.beliefs import BeliefTable
from forecasting.baseline import RandomWalk
from forecasting.forecast import ForecastTable, Progress, no_progress
from foundation.errors import InputError
from marketsimulator import audit
from marketsimulator.audit import check_history_start, check_look_ahead
from marketsimulator.compare import compare
from marketsimulator.results.altered_bars import drop_later_bars, scramble_later_bars
from marketsimulator.runs.simulate import simulate_stepwise, simulate_trading
from marketsimulator.settings import BacktestSettings
from tests.e2e.refused import answer_of
from tests.marketsimulator.runs import SPAN, settings_of, trader_of
from tests.support.commands import overridden
from tests.support.messages import refused
from trainingdata.bars import CLOSE, OPEN, Bars
from trainingdata.instruments import instrument
from trainingdata.market import Market
from trainingdata.timeframe import HOURLY

WORDS = [*SPAN, "symbols=[SYA,SYB,SYXUSD]"]
WORDS += ["forecaster=historical", "forecaster.calibrated=false"]


Setup = tuple[BacktestSettings, Market]


@pytest.fixture(scope="module")
def setup() -> Setup:
    settings = settings_of(*WORDS)
    return settings, settings.load_market()


@pytest.fixture(autouse=True)
def few_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What two instants do not show, eight do not either."""
    monkeypatch.setattr(audit, "AUDIT_CUTOFF_COUNT", 2)


@dataclass(frozen=True)
class Peeking:
    """A random walk that moves its median by a share of one later close: a leak as small as
    leaks are.
    """

    ahead: int = 3
    name: str = "peeking"

    def forecast(
        self, bars: Bars, since: np.datetime64, progress: Progress = no_progress
    ) -> ForecastTable:
        table = RandomWalk().forecast(bars, since)
        closes = [bars.bars_of_symbol(s)[1][:, CLOSE] for s in range(len(bars.symbols))]
        times = [bars.bars_of_symbol(s)[0] for s in range(len(bars.symbols))]
        later = np.array(
            [
                closes[s][min(int(np.searchsorted(times[s], at)) + self.ahead, len(times[s]) - 1)]
                for s, at in zip(table.windows.symbol_index, table.windows.issued_at, strict=True)
            ]
        )
        tilt = (0.2 * (later / table.price - 1))[:, None, None]
        return replace(table, quantiles=(table.all_quantiles * (1 + tilt)).astype(np.float32))


def test_look_ahead_is_detected_and_dated(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(setup[0].forecaster), "build", lambda self, symbols: Peeking())
    probes = check_look_ahead(*setup)
    assert all(probe.first_difference for probe in probes)
    for probe in probes:
        stamp = np.datetime64(probe.first_difference.split("Z")[0], "ns")
        assert probe.cutoff - np.timedelta64(5, "D") < stamp <= probe.cutoff
        assert any(symbol in probe.first_difference for symbol in setup[1].bars.symbols)


def test_audit_alters_only_bars_after_the_cutoff(market: Bars) -> None:
    cut = np.datetime64("2024-02-14T18:00", "ns")
    other = scramble_later_bars(market, cut, 1)
    less = drop_later_bars(market, cut)
    for s, item in enumerate(market.instruments):
        starts = HOURLY.clock(item.kind).starts_by_end(market.times)
        past = market.mask[s] & (market.times <= cut)
        ahead = market.mask[s] & (starts >= cut)
        running = market.mask[s] & (starts < cut) & (market.times > cut)
        np.testing.assert_array_equal(other.values[s, past], market.values[s, past])
        assert (other.values[s, ahead, CLOSE] != market.values[s, ahead, CLOSE]).all()
        np.testing.assert_array_equal(
            other.values[s, running, OPEN], market.values[s, running, OPEN]
        )
        own = less.bars_of_symbol(s)[0]
        assert len(own) == (market.mask[s] & ~(starts >= cut)).sum()
    assert (
        scramble_later_bars(market, cut, 1).values[other.mask] == other.values[other.mask]
    ).all()


SCHEDULES = [("1d", "weekly"), ("1d", "bars"), ("30m", "monthly"), ("15m", "10:30,20:00")]


def scheduled(name: str, schedule: str, *words: str) -> Setup:
    """A market of bars of a timeframe, and a trader on a schedule."""
    own = {"start", "data.start"}
    words = (*words, f"timeframe={name}", f"schedule=[{schedule}]", "forecaster=ewma")
    base = [word for word in WORDS if word.partition("=")[0] not in own]
    settings = settings_of(*base, *words)
    return settings, settings.load_market()


@pytest.mark.first_example
@pytest.mark.parametrize(("name", "schedule"), [("1h", "bars"), *SCHEDULES])
def test_scheduled_decisions_have_no_look_ahead(name: str, schedule: str) -> None:
    # Risk parity lacks some of Kelly's columns, which are no difference.
    words = ("start=2024-01-02", "data.start=2023-09-01", "sizing.strategy=risk_parity")
    settings, market = scheduled(name, schedule, *words[: 2 + (schedule == "weekly")])
    probes = check_look_ahead(settings, market)
    assert [probe.first_difference for probe in probes] == [""] * len(probes)
    assert sum(probe.compared_decision_count for probe in probes) > 5


def test_weekly_schedule_trades_midweek_only_for_overnight_limits() -> None:
    """Weekly holdings are sized under the ceiling of their nights."""
    setup = scheduled("1h", "weekly", "start=2024-02-05", "data.start=2023-09-01")
    believed, bars = beliefs_of(setup), setup[1].bars
    stocks = believed.is_adjustable[:, ~bars.crypto].any(axis=1)
    weeks = "2024-02-05 2024-02-12 2024-02-20 2024-02-26 2024-03-04"  # Washington's birthday
    opens = [f"{date}T15:30:00.000000000" for date in weeks.split()]
    assert believed.instants[stocks].astype(str).tolist() == opens
    assert believed.period_ends[stocks, 0].astype(str).tolist()[:-1] == opens[1:]
    assert believed.is_overnight[stocks].all()
    assert believed.can_trim_overnight[~believed.is_adjustable.any(axis=1)].all()
    clock = bars.timeframe.stock_clock
    every = clock.decisions_between(believed.instants[0], believed.instants[-1])
    late = every[~clock.intraday_ceiling_applies(every)]
    assert np.isin(late, believed.instants[believed.can_trim_overnight]).all()


@pytest.mark.first_example
@pytest.mark.parametrize(("name", "schedule"), SCHEDULES[1::2])
def test_stepwise_trader_decides_only_at_scheduled_instants(name: str, schedule: str) -> None:
    """The trader steps without precomputed beliefs, like a live loop: between schedules only the
    overnight cut acts.
    """
    begin, end = ("2021-11-01", "2024-03-08") if name == "1d" else ("2023-11-01", "2024-03-02")
    words = ("start=2024-02-29", f"end={end}", f"data.start={begin}", "symbols=[SYA,SYXUSD]")
    settings, market = scheduled(name, schedule, *words)
    trader = trader_of(settings, market)
    stepped = simulate_stepwise(settings, market, "a", trader, settings.build_broker(market))
    walked = simulate_trading(settings, market, "a", trader.with_beliefs(market))
    assert len(walked.fills) > 1
    assert stepped.fills == walked.fills
    assert stepped.equity_rows == walked.equity_rows
    found = compare(settings, ["kelly_50", "kelly_30"]).table["total_return"]
    assert found[0] == pytest.approx(
        walked.equity_rows[-1].equity / settings.capital - 1, abs=1e-12
    )
    assert list(map(repr, stepped.decisions)) == list(map(repr, walked.decisions))
    for decision in stepped.decisions:
        for choice in decision.choices:
            clock = market.bars.clock(instrument(choice.symbol).kind)
            due = settings.decision_schedule.is_scheduled(clock, np.array([decision.at]))[0]
            assert due or "overnight" in choice.binding_shadow_prices


def beliefs_of(setup: Setup) -> BeliefTable:
    settings, market = setup
    return trader_of(settings, market).build_beliefs(market)


@pytest.mark.slow
def test_look_ahead_audit_exit_code_reports_findings() -> None:
    words = overridden(WORDS, ("start=2024-03-04",))
    code, printed, said = answer_of("marketsimulator.audit", "look_ahead", *words)
    assert code == 0, said
    assert "no decision or fill changed." in printed
    words = overridden(words, ("forecaster=oracle",))
    code, printed, _ = answer_of("marketsimulator.audit", "look_ahead", *words)
    assert code == 1
    assert "Look-ahead bias: future bars change decisions." in printed


def test_look_ahead_audit_refuses_a_forecast_file() -> None:
    """The file's forecasts would not fit the changed prices."""
    words = ("forecaster=file", "forecaster.path=forecasts.parquet")
    with refused(InputError, "forecaster", "look_ahead", "file"):
        audit.parse_arguments(("look_ahead", *words))
    assert audit.parse_arguments(("begin", *words))[0].audit_name == "begin"


@pytest.mark.slow
def test_dependence_on_history_start_is_reported(setup: Setup) -> None:
    """Half of six weeks is shorter than the correlation windows; half of four years is longer."""
    short = check_history_start(*setup)
    assert len(short) == audit.AUDIT_CUTOFF_COUNT
    assert all("kelly" in probe.first_difference for probe in short)
    words = [word for word in WORDS if not word.startswith("data.start")]
    settings = settings_of(*words, "data.start=2020-06-01")
    assert [
        probe.first_difference for probe in check_history_start(settings, settings.load_market())
    ] == [""] * audit.AUDIT_CUTOFF_COUNT
