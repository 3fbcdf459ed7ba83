"""The report of a backtest: its figures are the summary's, its amounts add up, it warns when it
should, and nothing of it is fetched or run.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.decision.protection import ProtectionSettings
from execution.decision.tiers import DrawdownTiers
from execution.decision.watch import WatchSettings
from execution.orders.orders import Fill
from forecasting.settings import ForecasterSettings
from foundation.charts import MAX_CURVE_POINTS
from foundation.decimals import to_cents
from foundation.files import write_files_atomically
from foundation.formatting import NO_VALUE, format_percent
from marketsimulator.backtest import run_backtest
from marketsimulator.results.exports import returns_frame
from marketsimulator.results.forecast_outcomes import measure_forecast_outcomes
from marketsimulator.results.metrics import (
    FIGURE_FORMATS,
    daily_returns,
    day_end_rows,
    format_figure,
    returns_by_period,
)
from marketsimulator.results.price_charts import ChartTrade, select_trades
from marketsimulator.results.remarks import (
    baseline_remarks,
    cost_remarks,
    sample_size_remarks,
    uncalibrated_remarks,
    unused_forecast_file_remarks,
)
from marketsimulator.results.report import render_report, result_file_writers
from marketsimulator.results.report_charts import daily_weights
from marketsimulator.results.report_tables import outperformance_table
from marketsimulator.results.round_trips import (
    RoundTrip,
    RoundTripStatistics,
    build_round_trips,
    round_trip_statistics,
)
from marketsimulator.results.significance import deflated_sharpe_remarks, measure_outperformance
from marketsimulator.results.summary import BUY_AND_HOLD, RANDOM_WALK, BacktestResults
from marketsimulator.results.verdict import backtest_verdict, benchmark_label
from marketsimulator.run_result import EquityRow, Run, is_trade
from tests.marketsimulator.runs import settings_of
from tests.marketsimulator.stressed import run_through, write_bars
from tests.support.pages import charts_of, without_scripts
from trainingdata.bars import CLOSE
from trainingdata.instants import new_york_date, new_york_four_pm

NOON = np.datetime64("2024-02-20T17:00", "ns")
HOUR = np.timedelta64(1, "h")
SHARED_BARS = Path(__file__).parents[3] / "shared" / "data"


def written(results: BacktestResults, folder: Path) -> tuple[str, dict[str, Any]]:
    """The page and the content of `summary.json`."""
    write_files_atomically(result_file_writers(results, results.summary()), folder)
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return (folder / "report.html").read_text(encoding="utf-8"), summary


@pytest.fixture(scope="module")
def both(
    traded: BacktestResults, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, Any]]:
    return written(traded, tmp_path_factory.mktemp("report"))


def section(page: str, title: str) -> str:
    """What stands under a heading."""
    return page.split(f"<h2>{title}</h2>")[1].split("</section>")[0]


def rows_of(part: str) -> dict[str, list[str]]:
    """Cells of the rows of a table that have a heading, by it; what is drawn is left out."""
    rows = {}
    for row in re.findall(r"<tr[^>]*>(.*?)</tr>", part, re.DOTALL):
        name = re.search(r'<th scope="row">(.*?)</th>', row, re.DOTALL)
        cells = re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)
        if name:
            rows[name[1]] = [html.unescape(re.sub(r"<span.*", "", c).strip()) for c in cells]
    return rows


def usd(text: str) -> Decimal:
    return Decimal(text.replace("$", "").replace(",", ""))


def test_page_figures_equal_the_summary(both: tuple[str, dict[str, Any]]) -> None:
    page, summary = both
    rows = rows_of(section(page, "Figures").split("<h3>Benchmarks</h3>")[0])
    columns = [summary, *summary["comparisons"].values()]
    assert not summary["annual_figures"], "18 days are too few for yearly figures"
    shown = {key: each for key, each in FIGURE_FORMATS.items() if each.label and key in summary}
    assert len(shown) == len(rows)
    for key, figure in shown.items():
        for cell, column in zip(rows[figure.label], columns, strict=True):
            if column[key] is None or (figure.is_annual and not figure.is_ratio):
                assert cell == NO_VALUE
            elif figure.is_annual:
                assert cell == f"{format_figure(column, key, annual=True)} (short)"
            else:
                assert cell == format_figure(column, key, annual=True)
    long = {**summary, "annual_figures": True}
    assert not {key for key, figure in shown.items() if figure.is_annual and long[key] is None}


def test_title_names_strategy_then_forecaster(both: tuple[str, dict[str, Any]]) -> None:
    page, summary = both
    name = f"{summary['strategy']} on {summary['forecaster']}"
    assert list(summary)[:3] == ["title", "strategy", "forecaster"]
    assert f"<title>Backtest {name}: " in page
    assert f"<h1>{name}" in page
    assert f">{name}</th>" in page


def test_page_contributions_and_costs_add_up_exactly(both: tuple[str, dict[str, Any]]) -> None:
    page, summary = both
    rows = rows_of(section(page, "By symbol"))
    total = usd(rows.pop("total")[3])
    assert sum(usd(cells[3]) for cells in rows.values()) == total
    assert total == to_cents(summary["total_return"] * 100_000) != 0
    assert set(rows) == {*summary["symbols"], "interest", "other"}
    costs = rows_of(section(page, "Costs"))
    paid = usd(costs.pop("all")[0])
    assert sum(usd(cells[0]) for cells in costs.values()) == paid == to_cents(summary["costs"])


def test_report_charts_show_the_runs_equity_and_drawdown(
    both: tuple[str, dict[str, Any]], traded: BacktestResults
) -> None:
    page, summary = both
    (drawdown,) = charts_of(section(page, "Drawdown"))
    assert min(drawdown["series"][-1]["y"]) == pytest.approx(summary["max_drawdown"], rel=1e-7)
    assert summary["max_drawdown_intraday"] <= summary["max_drawdown"] < -0.001
    (chart,) = charts_of(section(page, "Equity"))
    assert (chart["unit"], chart["zone"], chart["logarithmic"]) == ("usd", "America/New_York", True)
    at, equity = traded.main_run.equity_curve()
    seconds = at.astype("datetime64[s]").astype(int)
    drawn = chart["series"][-1]
    rows = np.searchsorted(seconds, drawn["x"])
    assert drawn["x"] == seconds[rows].tolist()
    np.testing.assert_allclose(drawn["y"], equity[rows], rtol=1e-7)
    assert len(drawn["y"]) <= MAX_CURVE_POINTS
    (leverage,) = charts_of(section(page, "Limits"))
    highest = {
        each["name"]: max(each["y"]) for each in leverage["series"] if each["form"] == "area"
    }
    for name, gross in (("stocks", "gross_stock"), ("crypto", "gross_crypto")):
        most = max(getattr(row, gross) / row.equity for row in traded.main_run.equity_rows)
        assert highest[name] == pytest.approx(most, rel=1e-6)


SECTIONS = (
    *("Figures", "Doubts", "Equity", "Drawdown", "Monthly returns", "Yearly returns"),
    *("Rolling figures", "Exposure", "Price and trades", "Trades", "By symbol"),
    *("Where the money came from", "Costs", "Limits", "Forecasts and outcomes", "Calibration"),
    *("Orders and why", "Settings and files"),
)


def test_report_sections_are_in_the_documented_order(both: tuple[str, dict[str, Any]]) -> None:
    page, _ = both
    assert page.index('class="claim"') < page.index("<h2>")
    assert re.findall("<h2>(.*?)</h2>", page) == list(SECTIONS)


def test_drawdown_table_begins_with_the_maximum(both: tuple[str, dict[str, Any]]) -> None:
    page, summary = both
    rows = list(rows_of(section(page, "Drawdown")).items())
    assert 1 < len(rows) <= 5
    depths = [float(cells[2].strip("%")) for _, cells in rows]
    assert depths == sorted(depths)
    assert rows[0][1][2] == format_percent(summary["max_drawdown"])
    assert max(int(cells[3]) for _, cells in rows) <= summary["drawdown_days"]


def test_heat_map_colours_show_sign_and_size(both: tuple[str, dict[str, Any]]) -> None:
    page, _ = both
    found = re.findall(r'<td class="(up|down)(\d)">([+-])', section(page, "Monthly returns"))
    assert found
    assert all((side == "up") == (sign == "+") for side, _, sign in found)
    assert "4" in {level for _, level, _ in found}, "the largest return has the strongest colour"


def test_exposure_chart_shows_daily_long_and_short_weights(
    both: tuple[str, dict[str, Any]], traded: BacktestResults
) -> None:
    (chart,) = charts_of(section(both[0], "Exposure"))
    at, _ = traded.main_run.equity_curve()
    weights = daily_weights(
        traded.market.bars, traded.main_run, day_end_rows(at, has_crypto=True)[0]
    )
    drawn = {each["name"]: each["y"] for each in chart["series"]}
    parts = {"long": np.maximum(weights, 0), "short": np.minimum(weights, 0), "net": weights}
    parts["gross"] = abs(weights)
    assert drawn.keys() == parts.keys()
    for name, part in parts.items():
        whole = part.sum(axis=0)
        ends = [max(drawn[name]), min(drawn[name])]
        assert ends == pytest.approx([whole.max(), whole.min()], rel=1e-4)


def test_report_shows_rolling_charts_only_for_longer_runs(
    both: tuple[str, dict[str, Any]], traded: BacktestResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "shorter than the window" in section(both[0], "Rolling figures")
    for module in ("report", "returns_page"):
        monkeypatch.setattr(f"marketsimulator.results.{module}.rolling_window_days", lambda _: 5)
    page = section(render_report(both[1], traded, "", ()), "Rolling figures")
    assert re.findall("<h3>(.*?)</h3>", page) == [
        *("Rolling Sharpe", "Rolling volatility (ann.)", "Rolling beta to buy and hold")
    ]
    figures = daily_returns(traded.daily_equity_curve(traded.main_run)[1])
    assert [len(chart["series"]) for chart in charts_of(page)] == [2, 2, 1]
    last = charts_of(page)[0]["series"][-1]["y"][-1]
    assert last == pytest.approx(
        figures[-5:].mean() / figures[-5:].std(ddof=1) * np.sqrt(traded.periods_per_year), rel=1e-3
    )


def test_price_charts_mark_trades_with_their_reasons(
    both: tuple[str, dict[str, Any]], traded: BacktestResults
) -> None:
    charts = charts_of(section(both[0], "Price and trades"))
    names = re.findall('data-name="(.*?)"', both[0])
    assert sorted(names) == sorted(traded.market.bars.symbols)
    orders = traded.main_run.order_frame().set_index("client_order_id")
    for name, chart in zip(names, charts, strict=True):
        own = [fill for fill in traded.main_run.fills if fill.symbol == name and is_trade(fill)]
        price, *marks = chart["series"]
        assert len(price["y"]) > 20
        for form, sign in (("up", 1), ("down", -1)):
            fills = sorted((fill for fill in own if fill.qty * sign > 0), key=lambda fill: fill.at)
            (mark,) = (each for each in marks if each["form"] == form)
            assert mark["x"] == [fill.at.astype("datetime64[s]").astype(int) for fill in fills]
            assert mark["y"] == pytest.approx([fill.price for fill in fills], rel=1e-5)
            for fill, note in zip(fills, mark["notes"], strict=True):
                assert orders.loc[fill.client_order_id, "side"] in note
                assert "weight " in note


def trade(quantity: str, before: str, hour: int = 0) -> ChartTrade:
    return ChartTrade(
        Fill("o", "SYA", Decimal(quantity), 10.0, 0.0, NOON + hour * HOUR), Decimal(before)
    )


def test_trade_text_states_entry_addition_exit_or_reversal() -> None:
    assert trade("5", "0").description == "enter long: buy 5 at $10.00"
    assert trade("5", "5").description == "add to long: buy 5 at $10.00"
    assert trade("-3", "5").description == "reduce long: sell 3 at $10.00"
    assert trade("-5", "5").description == "exit long: sell 5 at $10.00"
    assert trade("-8", "5").description == "reverse to short: sell 8 at $10.00"
    assert trade("-2", "0").description == "enter short: sell 2 at $10.00"
    assert trade("2", "-2").description == "exit short: buy 2 at $10.00"


def test_crowded_price_chart_keeps_entry_and_exit_markers() -> None:
    """With growing trades, the first exit of each time bin precedes the second of the last bin."""
    early = [trade("1", "0", 0), trade("-1", "1", 1), trade("9", "9", 2)]
    late = [trade("70", "0", 1000), trade("-80", "80", 1001), trade("90", "90", 1002)]
    every = [*early, *late]
    assert [every.index(each) for each in select_trades(every, 2)] == [0, 4]
    assert [every.index(each) for each in select_trades(every, 5)] == [0, 1, 3, 4, 5]
    assert select_trades(every, 6) == every


def test_daily_weights_equal_the_accounts_exposure(traded: BacktestResults) -> None:
    at, equity = traded.main_run.equity_curve()
    rows, _ = day_end_rows(at, has_crypto=True)
    weights = daily_weights(traded.market.bars, traded.main_run, rows)
    account = [traded.main_run.equity_rows[row] for row in rows]
    gross = np.array([row.gross_stock + row.gross_crypto for row in account]) / equity[rows]
    assert np.abs(weights).sum(axis=0) == pytest.approx(gross, abs=1e-9)
    assert gross.max() > 0.1


@given(st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=300))
def test_period_returns_compound_to_the_total_return(hourly: list[float]) -> None:
    equity = 1000.0 * np.cumprod(1 + np.array(hourly))
    at = NOON + 40 * HOUR * np.arange(len(equity))
    for unit in "MY":
        found = returns_by_period(unit, at, equity, capital=1000.0)
        assert np.prod(1 + found) == pytest.approx(equity[-1] / 1000.0)
        assert found.index.is_unique


def test_page_months_compound_the_daily_returns(
    both: tuple[str, dict[str, Any]], traded: BacktestResults
) -> None:
    """A day that ends at 16:00 belongs to one month, also of crypto."""
    daily = returns_frame(traded)["return"]
    rows = rows_of(section(both[0], "Monthly returns"))
    for month, each in daily.groupby(pd.DatetimeIndex(daily.index).strftime("%b")):
        assert rows[str(month)] == [format_percent(float((1 + each).prod()) - 1, sign=True)]


def fill(qty: str, price: float, fee: float = 0.0, order: str = "", hour: int = 0) -> Fill:
    return Fill(order or f"o{hour}", "SYA", Decimal(qty), price, fee, NOON + hour * HOUR)


def trips_of(*fills: Fill, mark: float = 0.0) -> list[RoundTrip]:
    rows = [EquityRow(at, *[0.0] * (len(EquityRow._fields) - 1)) for at in (NOON, NOON + 99 * HOUR)]
    return build_round_trips(Run("", [], list(fills), rows, {}), {"SYA": mark})


def test_round_trip_ends_flat_or_on_reversal() -> None:
    """10 at 100 and 10 at 110, then 30 sold at 120 for a fee of 3: 2,400 - 2 - 2,100 - 1."""
    closed, held = trips_of(
        fill("10", 100.0, 1.0), fill("10", 110.0, hour=1), fill("-30", 120.0, 3.0, hour=2), mark=130
    )
    assert (closed.profit, closed.fees) == pytest.approx((297.0, 3.0))
    assert (closed.opened_at, closed.closed_at) == (NOON, NOON + 2 * HOUR)
    assert (closed.max_quantity, closed.current_quantity) == (20, 0)
    assert (held.current_quantity, held.closed_at, held.profit) == (
        -10,
        None,
        pytest.approx(-101.0),
    )


def test_round_trip_statistics_match_hand_calculation() -> None:
    """Profits are +20, -10, -30 and +40, and one trip is still open."""
    profits = (20, -10, -30, 40)
    fills = []
    for number, profit in enumerate(profits):
        fills += [
            fill("1", 100.0, hour=48 * number),
            fill("-1", 100.0 + profit, hour=48 * number + 24),
        ]
    found = round_trip_statistics(trips_of(*fills, fill("-1", 50.0, hour=300), mark=50.0))
    assert found == RoundTripStatistics(
        closed_count=4,
        win_rate=0.5,
        mean_profit=5.0,
        mean_win=30.0,
        mean_loss=-20.0,
        payoff_ratio=1.5,
        profit_factor=1.5,
        largest_win=40.0,
        largest_loss=-30.0,
        consecutive_losses=2,
        median_days=1.0,
    )
    assert round_trip_statistics(trips_of(fill("1", 100.0))) == RoundTripStatistics(0)


@given(
    st.lists(
        st.tuples(
            st.integers(-50, 50).filter(bool), st.floats(1, 500), st.floats(0, 5), st.booleans()
        ),
        max_size=40,
    ),
    st.floats(1, 500),
)
def test_round_trip_profits_equal_cash_flows_plus_position(
    trades: list[tuple[int, float, float, bool]], mark: float
) -> None:
    fills: list[Fill] = []
    for number, (qty, price, fee, split) in enumerate(trades):
        fills.append(fill(str(qty), price, fee, hour=number))
        held = sum((each.qty for each in fills), Decimal(0))
        if split and held:
            fills.append(fill(str(2 * held), 0.0, order=f"split{number}"))
    trips = trips_of(*fills, mark=mark)
    held = sum((each.qty for each in fills), Decimal(0))
    flows = sum(float(each.qty) * each.price + each.fee for each in fills)
    profit = sum(trip.profit for trip in trips)
    # A chain of splits makes amounts of which a ten-thousandth is no part any more.
    assert profit == pytest.approx(float(held) * mark - flows, rel=1e-12, abs=1e-4)
    assert sum(trip.current_quantity for trip in trips) == held


def test_forecast_outcomes_are_measured_at_the_horizon_end(traded: BacktestResults) -> None:
    outcomes = measure_forecast_outcomes(traded.main_run, traded.market.bars)
    assert len(outcomes) > 100
    assert (outcomes.horizon_end <= traded.market.bars.last_instant).all()
    for n in range(0, len(outcomes), 37):
        times, values = traded.market.bars.bars_of_symbol(int(outcomes.symbol_index[n]))
        first, last = (
            values[times == at[n], CLOSE] for at in (outcomes.decided_at, outcomes.horizon_end)
        )
        assert outcomes.realised_return[n] == pytest.approx((last / first - 1).item())
    everything = sum(len(decision.choices) for decision in traded.main_run.decisions)
    assert len(outcomes) < everything, "the last intervals have not ended"


def test_outperformance_is_the_equity_ratio_with_significance() -> None:
    rng = np.random.default_rng(2)
    shared = rng.normal(0, 0.01, 250)
    better = shared + rng.normal(0.001, 0.002, 250)
    alike = shared + rng.normal(0, 0.002, 250)
    pairs = [(better, shared), (shared, better), (shared, alike), (shared, shared)]
    ahead, behind, near, same = (measure_outperformance(*pair, seed=1) for pair in pairs)
    short = measure_outperformance(better[:19], shared[:19], seed=1)
    assert ahead
    assert behind
    assert near
    assert same
    assert short
    assert ahead.lead == pytest.approx(np.prod(1 + better) / np.prod(1 + shared) - 1)
    assert [each.significant_sign for each in (ahead, behind, near)] == [1, -1, 0]
    assert near.interval
    assert not (same.interval)
    assert not (short.interval)
    assert (same.is_identical, near.is_identical, short.is_identical) == (True, False, False)
    assert measure_outperformance(better, shared[1:], seed=1) is None


def test_lead_of_a_few_days_is_not_significant() -> None:
    rng = np.random.default_rng(2)
    shared = rng.normal(0, 0.01, 100)
    events = shared + np.isin(np.arange(100), (20, 21, 60, 61)) * 0.01
    found = measure_outperformance(events, shared, seed=1)
    assert found is not None
    assert (found.interval, found.significant_sign) == (None, 0)
    more = shared + (np.arange(100) % 10 == 0) * 0.01
    found = measure_outperformance(more, shared, seed=1)
    assert found is not None
    assert found.significant_sign == 1


def test_outperformance_agrees_with_the_pages_total_returns(
    both: tuple[str, dict[str, Any]], traded: BacktestResults
) -> None:
    page, summary = both
    at, equity = traded.main_run.equity_curve()
    last_close = new_york_four_pm(new_york_date(at[-1:]))[0]
    assert equity[-1] != equity[at <= last_close][-1], "the run ends after a 16:00"
    cells = rows_of(section(page, "Figures").split("<h3>Benchmarks</h3>")[1])
    for name, column in summary["comparisons"].items():
        ahead = (1 + summary["total_return"]) / (1 + column["total_return"]) - 1
        assert summary["outperformances"][name]["lead"] == pytest.approx(ahead, rel=1e-9)
        assert cells[benchmark_label(summary, name)][0] == f"{ahead:+,.2%}"


@pytest.mark.parametrize(
    ("walk", "hold", "level", "begins"),
    [
        (1, 1, "good", ["significantly ahead of the no-forecast baseline and buy"]),
        (1, 0, "open", ["significantly ahead of the no-f", "no significant difference from buy"]),
        (0, -1, "bad", ["significantly behind buy", "no significant difference from the no-f"]),
        (None, None, "open", ["too few days to compare with the no-forecast baseline"]),
        ("same", 1, "open", ["significantly ahead of buy", "identical to the no-forecast base"]),
    ],
)
def test_verdict_states_which_baselines_are_significantly_beaten(
    both: tuple[str, dict[str, Any]], walk: Any, hold: Any, level: str, begins: list[str]
) -> None:
    """walk, hold: sign of a significant difference; None: too few days for an interval."""
    outperformances = {}
    for name, sign in ((RANDOM_WALK, walk), (BUY_AND_HOLD, hold)):
        same = sign == "same"
        ends = None if same or sign is None else [0, 1]
        significant_sign = 0 if ends is None else sign
        outperformances[name] = {
            "lead": 0.1,
            "interval": ends,
            "is_identical": same,
            "significant_sign": significant_sign,
        }
    real = {**both[1], "outperformances": outperformances, "data": "files: bars"}
    told = backtest_verdict(real)
    assert told.claim.count(".") == 2, "one sentence, and a decimal point"
    claims = told.claim.partition(", ")[2].split("; ")
    assert all(claim.startswith(words) for claim, words in zip(claims, begins, strict=True))
    assert told.level == level
    said = {"same": "identical", 1: "significantly ahead", 0: "not significant"}
    assert all(row[2] == said.get(sign, row[2]) for row, sign in
               zip(outperformance_table(real).rows, (walk, hold), strict=True))  # fmt: skip
    for no_evidence_reason in (
        {"data": "synthetic market"},
        {"forecaster": "oracle (reads the future; not a result)"},
    ):
        none = backtest_verdict({**real, **no_evidence_reason})
        assert (none.level, none.claim[:9]) == ("bad", "No result")
    idle = backtest_verdict({**real, "evidence": None, "time_invested": 0.0, "premium_share": 1.0})
    assert idle.evidence == "No position was held."


UNPROTECTED, CALM, NO_TIERS = ProtectionSettings(), WatchSettings(), DrawdownTiers()
FROM_FILE = ForecasterSettings(kind="file", path="forecasts.parquet")


@pytest.mark.parametrize(
    ("remark", "warns", "silent"),
    [
        (lambda x: uncalibrated_remarks("ewma", calibrated=x), False, True),
        (lambda x: unused_forecast_file_remarks(FROM_FILE, x), 1.0, 0.99),
        (lambda x: unused_forecast_file_remarks(x, None), FROM_FILE, ForecasterSettings()),
        (lambda x: baseline_remarks(x, CALM, NO_TIERS), ProtectionSettings("stop"), UNPROTECTED),
        (lambda x: baseline_remarks(UNPROTECTED, x, NO_TIERS), WatchSettings(drawdown=0.1), CALM),
        (lambda x: baseline_remarks(UNPROTECTED, CALM, x), DrawdownTiers({0.1: 0.5}), NO_TIERS),
        (lambda x: sample_size_remarks(*x), (29, 60), (30, 60)),
        (lambda x: sample_size_remarks(*x), (30, 59), (30, 60)),
        (lambda x: cost_remarks(*x), (-0.01, 5.0), (0.0, 5.0)),
        (lambda x: deflated_sharpe_remarks(x, 3), 0.9499, 0.95),
        (lambda x: deflated_sharpe_remarks(x, 3), 0.0, None),
    ],
)
def test_report_warnings_appear_exactly_at_their_threshold(
    remark: Callable[[Any], list[str]], warns: Any, silent: Any
) -> None:
    assert len(remark(warns)) == 1
    assert remark(silent) == []


def test_report_page_shows_the_summary_warnings(both: tuple[str, dict[str, Any]]) -> None:
    page, summary = both
    said = " ".join(summary["warnings"])
    for words in ("No result: the market is", "The forecasts are raw", "Small sample"):
        assert words in said
    for warning in summary["warnings"]:
        assert f"<li>{html.escape(warning)}</li>" in page


def test_report_page_loads_nothing_from_the_network(both: tuple[str, dict[str, Any]]) -> None:
    page, _ = both
    rest = without_scripts(page)
    assert not re.search(r"<(script|link|img|iframe)|\bsrc=|url\(|@import|https?://", rest)
    assert not re.search(r"\son\w+=", rest)
    for name in re.findall(r'href="([^"]*)"', page):
        assert "/" not in name
    assert "summary.json" in re.findall(r'href="([^"]*)"', page)


def ruined(folder: Path) -> BacktestResults:
    """An account that a crash has left nothing of, beside itself."""
    data = write_bars(folder / "bars", {"AAA": 0.3, "BBB": 0.5})
    orders = [("AAA", "1400"), ("BBB", "1200")]
    main, settings, _ = run_through(folder / "run", data, orders, "margin.order_price_buffer=1")
    bars = settings.load_bars()
    market = settings.data.build_market(
        bars, int(np.searchsorted(bars.times, main.equity_rows[0].at))
    )
    beside = tuple(replace(main, name=name) for name in (RANDOM_WALK, BUY_AND_HOLD))
    return BacktestResults(settings, market, main, beside, 1.0)


@pytest.mark.first_example
@pytest.mark.parametrize(
    "words",
    [
        ("start=2024-03-04", "prior.stock_sharpe=0", "prior.crypto_sharpe=0"),
        ("start=2024-03-08T15:00Z", "end=2024-03-08T18:00Z"),
        None,
    ],
    ids=["that never traded", "of three hours", "that lost everything"],
)
def test_backtest_report_renders_even_without_trades_or_equity(
    words: tuple[str, ...] | None, tmp_path: Path
) -> None:
    span = "data.start=2024-01-02", "data.end=2024-03-08", "symbols=[SYA,SYB,SYXUSD]"
    if words is None:
        run = ruined(tmp_path)
        assert run.main_run.equity_rows[-1].equity < 0
    else:
        run = run_backtest(settings_of(*span, "forecaster=ewma", "trials=null", *words))
    page, _ = written(run, tmp_path / "page")
    assert "<h2>Equity</h2>" in page
    assert "nan" not in page.lower().replace("financ", "")
    if not run.main_run.fills:
        assert "No position was held" in page


@pytest.mark.slow
def test_default_report_page_has_at_most_500_kilobytes(tmp_path: Path) -> None:
    """The run has eight symbols over a year and a half and thousands of trades."""
    words = (
        "forecaster=historical",
        "forecaster.calibrated=false",
        "data.information_coefficient=0.4",
    )
    run = run_backtest(settings_of(*words, "trials=null"))
    assert len(run.market.bars.symbols) == 8
    assert len(run.main_run.fills) > 5000
    page, _ = written(run, tmp_path)
    assert len(page.encode()) <= 500_000


@pytest.mark.slow
@pytest.mark.skipif(not SHARED_BARS.is_dir(), reason="needs the real bars of ../shared")
def test_report_page_of_18_symbols_is_below_megabyte(tmp_path: Path) -> None:
    folders = f"data.dir=[{SHARED_BARS}/hourly_stock,{SHARED_BARS}/hourly_crypto]"
    span = ("start=2024-07-01", "end=2025-06-30", "benchmark=SPY")
    run = run_backtest(settings_of(folders, *span, "forecaster=ewma", "trials=null"))
    assert len(run.market.bars.symbols) == 18
    page, _ = written(run, tmp_path)
    assert len(page.encode()) <= 1_000_000
