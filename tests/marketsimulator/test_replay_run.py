"""Result of a weight replay: frame layouts, days and minutes, figures, page, comparison."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foundation.errors import InputError
from marketsimulator import ReplayResult, replay
from tests.support.messages import refused
from trainingdata.instants import NEW_YORK
from trainingdata.sessions import sessions_between

NAMES = ["AAA", "BBB"]


def market(index: pd.DatetimeIndex, seed: int = 3) -> dict[str, pd.DataFrame]:
    """Frames of two stocks on an index."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(4e-4, 0.012, (len(index), 2)), axis=0))
    opens = np.vstack([[100.0, 100.0], close[:-1]])
    return {name: pd.DataFrame(v, index, NAMES) for name, v in (("open", opens), ("close", close))}


def days(count: int) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(
        sessions_between(np.datetime64("2021-03-01"), np.datetime64("2023-01-01"))[:count]
    )


@pytest.fixture(scope="module")
def bars() -> dict[str, pd.DataFrame]:
    return market(days(300))


@pytest.fixture(scope="module")
def run(bars: dict[str, pd.DataFrame]) -> ReplayResult:
    return replay(bars["close"] * 0 + [0.5, 0.3], bars, name="fixed")


def test_price_frames_by_symbol_or_field_replay_equally(
    bars: dict[str, pd.DataFrame], run: ReplayResult
) -> None:
    weights = bars["close"] * 0 + [0.5, 0.3]
    by_symbol = {
        name: pd.DataFrame({"Open": bars["open"][name], "Close": bars["close"][name], "Volume": 1})
        for name in reversed(NAMES)
    }
    by_level = pd.concat({"Close": bars["close"], "Open": bars["open"]}, axis=1)
    for given in (
        by_symbol,
        by_level,
        pd.concat(by_symbol, axis=1),
        {**bars, "high": bars["open"]},
    ):
        pd.testing.assert_series_equal(replay(weights, given).equity, run.equity)
    one = replay(weights["AAA"], by_symbol["AAA"])
    pd.testing.assert_series_equal(one.equity, replay(weights[["AAA"]], bars).equity)


def test_replayed_symbols_may_start_on_different_dates(bars: dict[str, pd.DataFrame]) -> None:
    weights = bars["close"] * 0 + [0.5, 0.3]
    frames = {
        name: pd.DataFrame({"open": bars["open"][name], "close": bars["close"][name]})
        for name in NAMES
    }
    frames["BBB"] = frames["BBB"].iloc[100:]
    late = {name: frame.copy() for name, frame in bars.items()}
    for frame in late.values():
        frame.loc[frame.index[:100], "BBB"] = np.nan
    pd.testing.assert_series_equal(replay(weights, frames).equity, replay(weights, late).equity)


def test_rows_without_weights_keep_the_positions(bars: dict[str, pd.DataFrame]) -> None:
    monthly = (bars["close"] * 0 + [0.5, 0.3]).iloc[20::21]
    sparse = replay(monthly, bars)
    assert sparse.index[0] == monthly.index[0]
    assert sparse.index[-1] == bars["close"].index[-1]
    padded = monthly.reindex(bars["close"].index[20:])
    cut = {name: frame.iloc[20:] for name, frame in bars.items()}
    pd.testing.assert_series_equal(sparse.equity, replay(padded, cut).equity, check_freq=False)
    assert set(sparse.fills["at"]) <= set(bars["close"].index[21::21])


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_midnight_timestamps_are_dates_in_any_time_zone(
    bars: dict[str, pd.DataFrame], run: ReplayResult, zone: str
) -> None:
    stamped = {name: frame.tz_localize(zone) for name, frame in bars.items()}
    weights = bars["close"] * 0 + [0.5, 0.3]
    zoned = replay(weights.tz_localize(zone), stamped)
    assert str(zoned.equity.index.tz) == zone
    assert zoned.equity.to_numpy().tolist() == run.equity.to_numpy().tolist()
    # Days of one zone stand beside days of another, or of none.
    assert replay(weights, stamped).returns.equals(run.returns)


def test_minute_bars_give_equal_returns_in_any_zone() -> None:
    index = pd.date_range("2024-03-04 14:30", "2024-03-28 21:00", freq="15min", tz="UTC")
    index = index[(index.hour >= 14) & (index.day_of_week < 5)]
    minutes = market(index)
    weights = minutes["close"] * 0 + [0.5, -0.3]
    found = replay(weights, minutes)
    local = {name: frame.tz_convert(NEW_YORK) for name, frame in minutes.items()}
    assert replay(weights.tz_convert(NEW_YORK), local).equity.tolist() == found.equity.tolist()
    assert replay(weights, local).equity.index.equals(found.equity.index)
    assert len(found.returns) == 19  # sessions of these four weeks
    assert found.returns.index[0] == pd.Timestamp("2024-03-04")
    assert found.stats["Fills"] == len(found.fills)


def hourly(first: str, last: str, *, stocks: bool) -> pd.DatetimeIndex:
    """Begins of hourly bars: of each session from 09:30, or of every hour."""
    if not stocks:
        return pd.date_range(first, last, freq="h", tz=NEW_YORK)
    sessions = sessions_between(np.datetime64(first), np.datetime64(last))
    hours = pd.to_timedelta(np.arange(9.5, 16), unit="h")
    return pd.DatetimeIndex(
        [day + hour for day in pd.DatetimeIndex(sessions) for hour in hours], tz=NEW_YORK
    )


@pytest.mark.parametrize("stocks", [True, False])
def test_replay_counts_the_loss_of_the_last_day(stocks: bool) -> None:
    """Hourly rows stamped at their begin; a price falls by 30 % on the last day."""
    name = "AAA" if stocks else "BTCUSD"
    index = hourly("2023-03-01", "2023-06-30", stocks=stocks)[:-3]
    gains = np.full(len(index), 1.00001)
    gains[-2] = 0.7
    close = pd.Series(100 * np.cumprod(gains), index)
    frame = pd.DataFrame({"open": close.shift(fill_value=100.0), "close": close})
    run = replay(close.to_frame(name) * 0 + 0.6, {name: frame}, interest_rate=0)
    total = run.equity.iloc[-1] / 100_000 - 1
    assert total < -0.1
    assert np.prod(1 + run.returns) - 1 == pytest.approx(total)
    assert run.returns.iloc[-1] < -0.17
    for figures in (run.figures, run.track_record().figures):
        assert figures["total_return"] == pytest.approx(total)
        assert figures["max_drawdown"] < -0.17
        assert figures["sharpe"] < 0
        years = figures["days"] / figures["periods_per_year"]
        assert figures["annual_return"] == pytest.approx((1 + total) ** (1 / years) - 1)
    both = run.compare(replay(close.to_frame(name) * 0, {name: frame}, name="cash"))
    assert both.table["total_return"][0] == pytest.approx(total)


def test_replayed_rows_count_at_their_end() -> None:
    begins = hourly("2023-03-01", "2023-04-28", stocks=True)
    after = begins[6::7] + pd.Timedelta(minutes=30)  # 16:00, a bar after the session
    ends = begins + pd.Timedelta(hours=1)
    ends = ends.where(begins.hour < 15, begins + pd.Timedelta(minutes=30))
    at_begin = market(begins.union(after))
    at_end = {name: frame.loc[begins].set_axis(ends) for name, frame in at_begin.items()}
    found = replay(at_end["close"] * 0 + 0.4, at_end, fee_bps=0, slippage_bps=0)
    inside = {name: frame.loc[begins] for name, frame in at_begin.items()}
    same = replay(inside["close"] * 0 + 0.4, inside, fee_bps=0, slippage_bps=0)
    assert same.returns.tolist() == found.returns.tolist()
    coins = hourly("2023-03-01", "2023-04-28", stocks=False)
    frame = market(coins)["close"][["AAA"]].set_axis(["BTCUSD"], axis=1)
    run = replay(frame * 0 + 0.4, {"open": frame, "close": frame})
    last = run.equity[run.equity.index.hour == 15]  # the row that ends at 16:00
    days = run.returns.iloc[1:-1].tolist()
    assert days == pytest.approx(last.pct_change().iloc[1:].tolist()[: len(days)])


def test_replay_metrics_match_hand_calculation(
    bars: dict[str, pd.DataFrame], run: ReplayResult
) -> None:
    equity, fills = run.equity, run.fills
    assert run.returns.iloc[1:].tolist() == pytest.approx(equity.pct_change().iloc[1:].tolist())
    stats = run.stats
    daily = run.returns
    assert stats["Total return"] == pytest.approx(equity.iloc[-1] / 100_000 - 1)
    assert stats["Sharpe"] == pytest.approx(daily.mean() / daily.std() * np.sqrt(252), rel=0.01)
    assert stats["Volatility (ann.)"] == pytest.approx(daily.std() * np.sqrt(252), rel=0.01)
    assert stats["Max drawdown (close)"] == pytest.approx((equity / equity.cummax() - 1).min())
    opens = [bars["open"].at[row.at, row.symbol] for row in fills.itertuples()]
    slippage = (fills["qty"].abs() * (fills["price"] - opens).abs()).sum()
    assert stats["Costs"] == pytest.approx(fills["fee"].sum() + slippage)
    held = fills.pivot_table(index="at", columns="symbol", values="qty", aggfunc="sum")
    held = held.reindex(equity.index).fillna(0.0).cumsum()
    exposure = ((held * bars["close"]).abs().sum(axis=1) / equity).mean()
    assert stats["Exposure (mean)"] == pytest.approx(exposure)
    assert stats.index[:4].tolist() == ["Total return", "CAGR", "Volatility (ann.)", "Sharpe"]


def test_interest_on_borrowed_cash_is_a_cost(bars: dict[str, pd.DataFrame]) -> None:
    levered = replay(bars["close"] * 0 + 0.6, bars, fee_bps=0, slippage_bps=0)
    assert levered.stats["of which interest"] > 500
    assert levered.stats["Costs"] == pytest.approx(levered.stats["of which interest"], rel=1e-3)


def test_replay_page_reports_outperformance_over_a_symbol(
    run: ReplayResult, tmp_path: Path
) -> None:
    text = run.page(tmp_path / "new" / "run.html", "AAA", trials=50).read_text()
    assert "outperformance over AAA" in text
    assert "after 50 variants" in text
    assert len(text) < 500_000
    with refused(InputError, "benchmark", "'AAB'", "AAA", "BBB"):
        run.track_record("AAB")
    (tmp_path / "file").write_text("")
    with refused(InputError, "page", "run.html"):
        run.page(tmp_path / "file" / "run.html")


def test_half_invested_benchmark_has_a_beta_of_half(bars: dict[str, pd.DataFrame]) -> None:
    whole = replay(bars["close"][["AAA"]] * 0 + 0.5, bars, fee_bps=0, slippage_bps=0)
    stats = whole.track_record("AAA").stats
    assert stats["Beta"] == pytest.approx(0.5, abs=0.01)
    assert stats["Correlation"] == pytest.approx(1.0, abs=0.01)


def test_late_starting_benchmark_counts_as_cash_before(bars: dict[str, pd.DataFrame]) -> None:
    late = {name: frame.copy() for name, frame in bars.items()}
    for frame in late.values():
        frame.loc[frame.index[:100], "BBB"] = np.nan
    record = replay(bars["close"] * 0 + 0.5, late).track_record("BBB")
    assert record.days == 300
    assert record.benchmark is not None
    assert (record.benchmark.returns.iloc[:101] == 0).all()
    expected = bars["close"]["BBB"].iloc[100:].pct_change().iloc[1:]
    assert record.benchmark.returns.iloc[101:].tolist() == pytest.approx(expected.tolist())


def test_shorter_benchmark_shortens_only_the_track_record(
    run: ReplayResult, bars: dict[str, pd.DataFrame]
) -> None:
    short = bars["close"]["AAA"].pct_change().iloc[100:]
    record = run.track_record(short)
    assert record.days == 200
    assert record.stats["Fills"] == len(run.fills)
    growth = run.equity.iloc[-1] / run.equity.iloc[99] - 1
    assert record.stats["Total return"] == pytest.approx(growth)
    assert "Exposure, costs and fills are those of the whole run." in record.warnings()


def test_replays_are_compared_over_common_days(
    bars: dict[str, pd.DataFrame], run: ReplayResult
) -> None:
    other = replay(bars["close"].iloc[40:] * 0 + [0.1, 0.6], bars, name="other")
    found = run.compare(other)
    assert set(found.names) == {"fixed", "other"}
    assert found.run_set.days == 259  # marks of 260 days
    with refused(InputError, "compare", "'fixed'"):
        run.compare(run)


@pytest.mark.slow
def test_plot_draws_equity_and_drawdown(run: ReplayResult, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figure = run.plot()
    above, below = figure.axes
    assert above.lines[0].get_ydata().tolist() == run.equity.tolist()
    assert below.get_ylabel() == "drawdown, %"
    figure.savefig(tmp_path / "run.png")


def test_plot_error_names_the_missing_library(
    run: ReplayResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with refused(InputError, "matplotlib", "pictures"):
        run.plot()


def test_ruined_account_still_gets_a_report_page(tmp_path: Path) -> None:
    index = days(40)
    close = pd.DataFrame({"AAA": np.where(np.arange(40) < 20, 100.0, 1.0)}, index)
    lost = replay(close * 0 + 2.0, {"open": close, "close": close}, accept_jumps=True)
    assert lost.remarks[0].startswith("In doubt: AAA, 2021-03-29T20:00Z: the close jumps")
    assert lost.returns.min() == -1
    assert np.isnan(lost.stats["Sharpe"])
    assert "Account lost: no equity was left on" in lost.page(tmp_path / "run.html").read_text()


FREE = {"fee_bps": 0.0, "slippage_bps": 0.0}


def flat(count: int = 40, **prices: float) -> dict[str, pd.DataFrame]:
    """Frames of these constant prices."""
    close = pd.DataFrame(prices, days(count))
    return {"open": close.copy(), "close": close}


def test_purchase_waits_for_no_sale_without_a_bar() -> None:
    """A is sold for B, which doubles; C has no bar on that day and is sold on the next."""
    frames = flat(AAA=100.0, BBB=50.0, CCC=20.0)
    for frame in frames.values():
        frame.iloc[11:, 1] = 100.0
        frame.iloc[10, 2] = np.nan
    frames["open"].iloc[11, 1] = 50.0
    weights = pd.DataFrame(np.nan, frames["close"].index, frames["close"].columns)
    weights.iloc[0] = [0.5, 0.0, 0.1]
    weights.iloc[9] = [0.0, 0.5, 0.0]
    run = replay(weights, frames, accept_jumps=True, **FREE)
    assert run.equity.iloc[-1] == 150_000.0
    last = run.fills[run.fills["at"] > weights.index[9]]
    assert last["symbol"].tolist() == ["AAA", "BBB", "CCC"]
    assert last["at"].tolist() == [weights.index[10]] * 2 + [weights.index[11]]
    assert sum("each waits for the next bar" in text for text in run.remarks) == 1


def test_sale_without_a_close_waits_for_next_bar() -> None:
    """The row of the weight has no bar: it is sized at the last close, and sold at the next bar."""
    frames = flat(AAA=100.0)
    for frame in frames.values():
        frame.iloc[9:12] = np.nan
    weights = frames["close"] * np.nan
    weights.iloc[0], weights.iloc[9] = 0.5, 0.0
    run = replay(weights, frames, **FREE)
    assert run.fills["at"].tolist() == [weights.index[1], weights.index[12]]


def test_weight_before_the_first_bar_waits_for_it() -> None:
    frames = flat(AAA=100.0)
    for frame in frames.values():
        frame.iloc[:9] = np.nan
    weights = frames["close"] * np.nan
    weights.iloc[0], weights.iloc[3] = 0.9, 0.5
    run = replay(weights, frames, **FREE)
    assert run.fills[["at", "qty"]].to_numpy().tolist() == [[weights.index[10], 500.0]]


def test_replay_obeys_weights_without_a_cap() -> None:
    frames = flat(AAA=50.0)
    frames["close"].iloc[-1] = 100.0
    run = replay(frames["close"] * 0 + 1.0, frames, accept_jumps=True, **FREE)
    assert run.equity.iloc[-1] == 200_000.0
    assert run.remarks == ()
    capped = replay(frames["close"] * 0 + 1.0, frames, symbol_cap=0.6, accept_jumps=True, **FREE)
    assert capped.equity.iloc[-1] == 160_000.0


def test_position_sold_by_margin_call_stays_sold() -> None:
    """Equity of 40,000 is below 30 % of 160,000: cut until maintenance is 95 % of equity.

    Whole shares.
    """
    frames = flat(AAA=100.0)
    for frame in frames.values():
        frame.iloc[10:] = 160.0
    weights = frames["close"] * np.nan
    weights.iloc[0] = -1.0
    run = replay(weights, frames, accept_jumps=True, **FREE)
    assert run.fills["at"].tolist() == [weights.index[1], weights.index[11]]
    assert run.fills["qty"].sum() * 160.0 == pytest.approx(-40_000.0 * 0.95 / 0.3, abs=160.0)
    assert run.remarks == ()


def test_weights_beyond_margin_are_scaled_and_reported(tmp_path: Path) -> None:
    frames = flat(AAA=50.0)
    run = replay(frames["close"] * 0 + 3.0, frames, **FREE)
    (remark,) = run.remarks
    assert remark.startswith("The weights of 38 rows exceed what the account may hold")
    assert remark in run.page(tmp_path / "run.html").read_text()


@pytest.mark.parametrize("missed", [9, 10])
def test_ended_symbol_is_delisted_as_in_a_backtest(missed: int) -> None:
    """After ten missed sessions it is closed at its last price less 30 %."""
    frames = flat(AAA=100.0, BBB=50.0)
    for frame in frames.values():
        frame.iloc[-missed - 1 :, 0] = np.nan
    weights = frames["close"] * np.nan
    weights.iloc[0] = [0.5, 0.1]
    run = replay(weights, frames, **FREE)
    assert run.equity.iloc[-1] == (85_000.0 if missed == 10 else 100_000.0)
    assert run.figures["trades"] == 2
    said = "1 symbol delisted" if missed == 10 else "Without bars at the end"
    assert [text.startswith(said) for text in run.remarks] == [True]
