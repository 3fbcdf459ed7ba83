"""The dashboard's figures: states of the loop, profits, curves that keep their shape, and words."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.live.dashboard_charts import equity_chart, leverage_chart
from execution.live.dashboard_figures import (
    begin_of_day,
    deciding_symbols,
    drawdown_of,
    invested,
    loop_state,
    profit_since,
)
from execution.live.dashboard_reading import ChoiceRow, CycleRow, History
from execution.live.dashboard_words import (
    age_text,
    both_clocks,
    exact,
    percent,
    price,
    signed_usd,
    usd,
)
from execution.live.losses import Mark, drawdown
from foundation.charts import HEIGHT, POINTS, WIDTH, axis_of, line_path, thinned

HOUR = np.timedelta64(1, "h")
STOCKS = ("NVDA",)
BOTH = ("BTCUSD", "NVDA")
amounts = st.floats(1_000, 1e7)


def at(text: str) -> np.datetime64:
    return np.datetime64(text, "ns")


def marked(
    equity: list[float], flows: dict[int, float] | None = None, begin: str = "2024-02-20T15:30"
) -> History:
    """A history with a mark every hour; all of it in stocks."""
    count = len(equity)
    values = np.array(equity, dtype=float)
    paid = np.zeros(count)
    for number, amount in (flows or {}).items():
        paid[number] = amount
    return History(
        at=at(begin) + HOUR * np.arange(count),
        equity=values,
        cash=np.zeros(count),
        stock=values.copy(),
        coin=np.zeros(count),
        ceiling=np.full(count, 4.0),
        flows=paid,
        positions={},
    )


def passed(began: str, ended: str | None) -> CycleRow:
    return CycleRow("trade", at(began), None if ended is None else at(ended), "", 0, "", "")


@pytest.mark.parametrize(
    ("now", "last", "symbols", "word", "next_at"),
    [
        ("2024-02-20T15:40", None, (), "not begun", None),
        ("2024-02-20T15:40", ("T15:30", "T15:31"), STOCKS, "running", "2024-02-20T16:30"),
        ("2024-02-20T16:34", ("T15:30", "T15:31"), STOCKS, "running", "2024-02-20T17:30"),
        ("2024-02-20T16:36", ("T15:30", "T15:31"), STOCKS, "down", "2024-02-20T17:30"),
        ("2024-02-20T16:06", ("T15:30", "T15:31"), BOTH, "down", "2024-02-20T16:30"),
        ("2024-02-20T16:04", ("T15:30", "T15:31"), BOTH, "running", "2024-02-20T16:30"),
        ("2024-02-20T15:44", ("T15:30", None), STOCKS, "running", "2024-02-20T16:30"),
        ("2024-02-20T15:46", ("T15:30", None), STOCKS, "down", "2024-02-20T16:30"),
        # Nothing is due at night: a stock's last decision is at 15:30 New York.
        ("2024-02-21T03:00", ("T20:30", "T20:31"), STOCKS, "running", "2024-02-21T15:30"),
        ("2024-02-21T03:00", ("T20:30", "T20:31"), BOTH, "down", "2024-02-21T04:00"),
        ("2024-02-20T19:00", ("T15:30", "T15:31"), (), "running", None),
    ],
)
def test_the_calendar_says_whether_a_pass_is_missing_and_when_the_next_is(
    now: str,
    last: tuple[str, str | None] | None,
    symbols: tuple[str, ...],
    word: str,
    next_at: str | None,
) -> None:
    cycle = None
    if last is not None:
        ended = None if last[1] is None else f"2024-02-20{last[1]}"
        cycle = passed(f"2024-02-20{last[0]}", ended)
    state = loop_state(at(now), cycle, None, symbols)
    assert state.word == word
    assert state.next_at == (None if next_at is None else at(next_at))


def test_a_loop_that_was_told_to_stop_is_stopped_until_it_makes_a_pass_again() -> None:
    stop = (at("2024-02-20T15:45"), "SIGTERM")
    now = at("2024-02-20T15:50")
    stopped = loop_state(now, passed("2024-02-20T15:30", "2024-02-20T15:31"), stop, STOCKS)
    assert stopped.word == "stopped"
    assert "SIGTERM" in stopped.sentence
    again = loop_state(now, passed("2024-02-20T15:46", "2024-02-20T15:47"), stop, STOCKS)
    assert again.word == "running"


def test_a_symbol_that_is_decided_no_more_is_not_waited_for() -> None:
    def decided(symbol: str, when: str) -> ChoiceRow:
        return ChoiceRow(when, at(when), at(when) + HOUR, {"symbol": symbol})

    friday = decided("NVDA", "2024-02-16T20:30")
    tuesday = decided("BTCUSD", "2024-02-20T14:00")
    assert deciding_symbols([tuesday, friday]) == ("BTCUSD", "NVDA")
    assert deciding_symbols([tuesday, decided("NVDA", "2024-02-15T20:30")]) == ("BTCUSD",)
    assert deciding_symbols([]) == ()


def test_over_a_weekend_nothing_is_missing() -> None:
    friday = passed("2024-02-23T20:30", "2024-02-23T20:31")
    assert loop_state(at("2024-02-25T12:00"), friday, None, STOCKS).word == "running"
    assert loop_state(at("2024-02-26T15:36"), friday, None, STOCKS).word == "down"


@given(st.lists(amounts, min_size=2, max_size=30), st.data())
def test_a_deposit_is_no_profit(equity: list[float], data: st.DataObject) -> None:
    number = data.draw(st.integers(1, len(equity) - 1))
    deposit = data.draw(amounts)
    richer = [value + deposit * (n >= number) for n, value in enumerate(equity)]
    plain = profit_since(marked(equity), 0)
    paid = profit_since(marked(richer, {number: deposit}), 0)
    assert paid.amount == pytest.approx(plain.amount, abs=1e-3)
    assert paid.flows == deposit
    assert plain.share == pytest.approx(equity[-1] / equity[0] - 1)
    chart = invested(marked(richer, {number: deposit}))
    assert chart[0] == equity[0]
    assert chart[-1] == pytest.approx(equity[0] + deposit)


def test_profits_by_hand() -> None:
    # 100 grow to 110; 50 are paid in; 160 become 152: +10 −8 = +2, and 1.1 · 0.95 − 1 = +4.5 %.
    history = marked([100.0, 110.0, 160.0, 152.0], {0: 77.0, 2: 50.0})
    profit = profit_since(history, 0)
    assert (profit.amount, profit.flows) == (2.0, 50.0)
    assert profit.share == pytest.approx(0.045)
    assert drawdown_of(history) == pytest.approx(0.05)
    assert math.isnan(profit_since(marked([100.0, 0.0, 50.0], {2: 50.0}), 0).share)


@given(st.lists(st.tuples(st.floats(-1e3, 1e6), st.floats(-1e5, 1e5)), min_size=1, max_size=12))
def test_the_drawdown_shown_is_the_one_that_halts(rows: list[tuple[float, float]]) -> None:
    history = marked([equity for equity, _ in rows], dict(enumerate(flows for _, flows in rows)))
    columns = (history.at, history.equity.tolist(), history.flows.tolist())
    expected = drawdown([Mark(*row) for row in zip(*columns, strict=True)])
    assert drawdown_of(history) == pytest.approx(float(expected), abs=1e-6)


def test_a_day_is_new_yorks_and_begins_with_the_last_mark_before_it() -> None:
    # Marks from 15:30 UTC on, an hour apart: number 14 is at 05:30 UTC, New York's next day.
    history = marked([100.0 + n for n in range(16)])
    assert begin_of_day(history) == 13
    assert profit_since(history, begin_of_day(history)).amount == 2.0
    assert begin_of_day(marked([100.0, 101.0])) == 0


@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=1, max_size=900),
    st.integers(6, 60),
)
def test_a_thinned_curve_keeps_its_ends_its_peaks_and_its_order(
    values: list[float], most: int
) -> None:
    array = np.array(values)
    kept = thinned(array, most)
    assert len(kept) <= max(most, 2)
    assert np.all(np.diff(kept) > 0)
    assert (kept[0], kept[-1]) == (0, len(values) - 1)
    if not np.all(np.isnan(array)):
        assert np.nanmin(array[kept]) == np.nanmin(array)
        assert np.nanmax(array[kept]) == np.nanmax(array)


@given(st.floats(-1e7, 1e7), st.floats(0, 1e7))
def test_an_axis_holds_its_values_between_round_ticks(low: float, span: float) -> None:
    high = low + span
    axis = axis_of(low, high)
    size = 1e-6 * max(abs(low), abs(high), span, 1e-6)
    assert axis.ticks[0] <= low + size
    assert high - size <= axis.ticks[-1]
    assert 2 <= len(axis.ticks) <= 7
    steps = np.diff(axis.ticks)
    assert steps == pytest.approx(np.full(len(steps), steps[0]), rel=1e-6)
    heights = axis.heights(np.array([axis.ticks[0], axis.ticks[-1]]))
    assert heights.tolist() == [HEIGHT, 0.0]


def test_a_path_rises_where_the_values_do_and_stops_where_there_is_none() -> None:
    places = np.array([0.0, 500.0, 750.0, 1000.0])
    heights = np.array([300.0, 150.0, np.nan, 0.0])
    assert line_path(places, heights) == "M0.0 300.0L500.0 150.0M1000.0 0.0"
    assert line_path(places[:2], heights[:2], steps=True) == "M0.0 300.0H500.0V150.0"


@given(st.lists(st.floats(-1e5, 1e6), min_size=2, max_size=800))
def test_no_curve_leaves_its_plot_and_none_has_more_points_than_a_screen(
    equity: list[float],
) -> None:
    history = marked(equity)
    for chart in (equity_chart(history), leverage_chart(history)):
        if chart is None:
            assert not any(value > 0 for value in equity)
            continue
        for line in chart.lines:
            assert line.path.count("L") + line.path.count("H") <= POINTS
            numbers = [float(each) for each in re.findall(r"-?\d+\.\d", line.path)]
            assert all(-0.2 <= number <= WIDTH + 0.2 for number in numbers)
        assert len(chart.ticks) >= 2


def test_curves_by_hand() -> None:
    chart = equity_chart(marked([100.0, 200.0], {1: 50.0}))
    assert chart is not None
    assert chart.ticks == ("$200", "$175", "$150", "$125", "$100")
    assert chart.rules == (225.0, 150.0, 75.0)
    assert chart.labels == ("20 Feb 15:30", "20 Feb 16:00", "20 Feb 16:30")
    assert [(line.name, line.path) for line in chart.lines] == [
        ("paid in", "M0.0 300.0H1000.0V150.0"),
        ("equity", "M0.0 300.0L1000.0 0.0"),
    ]
    book = replace(
        marked([100.0, 100.0]), stock=np.array([200.0, 100.0]), coin=np.array([50.0, 0.0])
    )
    chart = leverage_chart(book)
    assert chart is not None
    assert chart.ticks == ("4×", "3×", "2×", "1×", "0×")
    assert [(line.name, line.path) for line in chart.lines] == [
        ("ceiling of stocks", "M0.0 0.0H1000.0V0.0"),
        ("coins", "M0.0 262.5H1000.0V300.0"),
        ("stocks", "M0.0 150.0H1000.0V225.0"),
    ]


def test_the_curves_of_a_single_mark_are_none() -> None:
    assert equity_chart(marked([100.0])) is None
    assert leverage_chart(marked([100.0])) is None


def test_a_book_without_equity_has_no_leverage_and_the_page_goes_on() -> None:
    assert leverage_chart(marked([-5.0, -4.0])) is None
    chart = leverage_chart(marked([100.0, -4.0, 100.0]))
    assert chart is not None
    assert chart.lines[-1].path.count("M") == 2


def test_numbers_and_instants_as_people_write_them() -> None:
    assert usd(-1234.5) == "−$1,234.50"
    assert [signed_usd(value) for value in (12.0, 0.0, -12.0)] == ["+$12.00", "$0.00", "−$12.00"]
    assert percent(-0.0125) == "−1.25\N{NO-BREAK SPACE}%"
    assert percent(math.nan) == "–"
    assert [exact(text) for text in ("1250.500", "10", "100", "0.00000100", "1E+2")] == [
        "1,250.5",
        "10",
        "100",
        "0.000001",
        "100",
    ]
    assert [price(text) for text in ("63.8", "11807.1567", None)] == ["$63.80", "$11,807.1567", "–"]
    # New York is at UTC−5 in winter and at UTC−4 in summer; its evening is UTC's next day.
    assert both_clocks(at("2024-02-20T15:30")) == "20 Feb 2024 15:30 UTC, 10:30 New York"
    assert both_clocks(at("2024-07-01T02:00")) == "01 Jul 2024 02:00 UTC, 30 Jun 22:00 New York"
    now = at("2024-02-20T15:30")
    spans = {59: "59 s ago", 61: "1 min ago", 7_380: "2 h 3 min ago", 90_000: "1 d 1 h ago"}
    for seconds, text in spans.items():
        assert age_text(now - np.timedelta64(seconds, "s"), now) == text
    assert age_text(now + np.timedelta64(90, "m"), now) == "in 1 h 30 min"
