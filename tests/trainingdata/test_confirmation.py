"""A bar far from those before it is read by nobody until another confirms it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foundation.arrays import Array
from tests.trainingdata.vendor_files import DAYS, coins, table, write
from trainingdata.bars import CLOSE, HIGH, LOW, OPEN, VOLUME
from trainingdata.confirmation import (
    CONFIRMATION_WINDOW_BARS,
    MAX_PRICE_RATIO,
    drop_unconfirmed_bars,
    find_contradicted_bars,
    find_unconfirmed_bars,
    restore_confirmed_bars,
)
from trainingdata.source import DataSettings

FACTORS = (100.0, 0.1, 0.01, 0.5, 1000.0, 2.0)
ALL = slice(VOLUME)  # prices


def spoil(bar: Array, field: int | slice, factor: float) -> None:
    """Another open, high, low or close, where high and low reach as far as the others."""
    bar[field] *= factor
    bar[HIGH] = bar[:VOLUME].max()
    bar[LOW] = bar[:VOLUME].min()


def walk(seed: int, count: int = 60) -> list[float]:
    moves = np.random.default_rng(seed).normal(0, 0.02, count)
    return (50.0 * np.exp(np.cumsum(moves))).tolist()


def left_out(closes: list[float]) -> list[int]:
    return np.flatnonzero(find_unconfirmed_bars(coins(closes))[0]).tolist()


@given(seed=st.integers(0, 99), row=st.integers(2, 57), factor=st.sampled_from(FACTORS))
def test_lasting_price_move_rejects_only_its_first_bar(seed: int, row: int, factor: float) -> None:
    closes = walk(seed)
    closes[row:] = [close * factor for close in closes[row:]]
    assert left_out(closes) == [row]


@given(
    steps=st.lists(st.sampled_from((1.0, 1.0, 1.02, 0.5, 2.0, 100.0, 0.01)), min_size=4),
    data=st.data(),
)
def test_bar_is_validated_by_earlier_bars_alone(steps: list[float], data: st.DataObject) -> None:
    closes = [50.0, 50.5, 50.2, *(50.0 * step for step in steps)]
    end = data.draw(st.integers(3, len(closes)))
    assert left_out(closes[:end]) == [row for row in left_out(closes) if row < end]


@given(
    seed=st.integers(0, 99),
    row=st.integers(0, 59),
    field=st.sampled_from((OPEN, HIGH, LOW, CLOSE, ALL)),
    factor=st.one_of(st.floats(0.05, 20.0), st.sampled_from(FACTORS)),
)
def test_single_bad_price_removes_only_its_own_bar(
    seed: int, row: int, field: int | slice, factor: float
) -> None:
    bars = coins(walk(seed))
    assert drop_unconfirmed_bars(bars) is bars
    before = bars.values[0, max(row - 1, 0), CLOSE]
    spoil(bars.values[0, row], field, factor)
    moves = bars.values[0, row, :VOLUME] / before
    beyond = max(moves.max(), 1 / moves.min()) > MAX_PRICE_RATIO
    found = np.flatnonzero(find_unconfirmed_bars(bars)[0]).tolist()
    # A first bar has its own close alone: where that is the wrong one, its open may be as well.
    if row or field != CLOSE:
        assert found == ([row] if beyond else [])
    else:
        assert found in ([], [0]) if not beyond else found[:1] == [0]


@given(
    seed=st.integers(0, 99),
    factors=st.lists(st.floats(1.55, 2.1), min_size=4, max_size=4),
    down=st.booleans(),
    gaps=st.booleans(),
    steady=st.booleans(),
)
def test_short_squeeze_rejects_only_its_first_bar(
    seed: int, factors: list[float], down: bool, gaps: bool, steady: bool
) -> None:
    """For days, moves exceed the limit in both directions or one, intraday or overnight."""
    bars = coins(walk(seed))
    price = float(bars.values[0, 29, CLOSE])
    moves = [(1 / x if down else x, (1.0 if steady else (x if down else 1 / x))) for x in factors]
    for row, move in enumerate(np.ravel(moves).tolist(), 30):
        after = price * move
        bars.values[0, row, OPEN] = after if gaps else price
        bars.values[0, row, CLOSE] = after
        bars.values[0, row, HIGH], bars.values[0, row, LOW] = max(price, after), min(price, after)
        if gaps:
            bars.values[0, row, [HIGH, LOW]] = after
        price = after
    ratio = price / bars.values[0, 38, OPEN]
    bars.values[0, 38:, ALL] *= ratio
    assert np.flatnonzero(find_unconfirmed_bars(bars)[0]).tolist() == [30]


@given(seed=st.integers(0, 99), factor=st.sampled_from((100.0, 0.1, 0.01, 10.0)))
def test_wrong_price_in_a_squeeze_is_left_out(seed: int, factor: float) -> None:
    closes = walk(seed)
    closes[30:] = [close * 1.7 for close in closes[30:]]
    closes[34] *= factor
    assert left_out(closes) == [30, 34]


def test_next_open_confirms_an_unconfirmed_close() -> None:
    """A day that opens at the previous close and then falls back confirms that close."""
    bars = coins([40.0] * 10 + [68.0, 42.0, 66.0, 41.0, 40.0, 40.0])
    for row, opened in ((10, 40.0), (11, 58.0), (12, 42.0), (13, 60.0)):
        bars.values[0, row, OPEN] = opened
        bars.values[0, row, HIGH] = max(opened, bars.values[0, row, CLOSE])
        bars.values[0, row, LOW] = min(opened, bars.values[0, row, CLOSE])
    assert np.flatnonzero(find_unconfirmed_bars(bars)[0]).tolist() == [10]


def test_rejected_bar_is_missing_and_others_are_untouched() -> None:
    plain, spoilt = walk(1), walk(2)
    spoilt[40] *= 100
    panel = coins(plain, spoilt)
    read = drop_unconfirmed_bars(panel)
    assert np.flatnonzero(~read.mask[1]).tolist() == [40]
    assert np.isnan(read.values[1, 40]).all()
    assert read.mask[0].all()
    assert read.has_bar.all()
    assert np.array_equal(read.with_unconfirmed_bars().values, panel.values)
    part = read.slice_rows(41, 60)
    assert part.has_bar.all()
    assert np.array_equal(part.with_unconfirmed_bars().values, panel.values[:, 41:60])
    assert np.array_equal(read.times, panel.times)


@given(
    seed=st.integers(0, 99),
    bad=st.integers(1, CONFIRMATION_WINDOW_BARS - 1),
    factor=st.sampled_from((*FACTORS, 0.7, 1.5)),
)
def test_current_price_rejects_bars_since_they_last_agreed(
    seed: int, bad: int, factor: float
) -> None:
    closes = [50.0 + 0.1 * close for close in walk(seed)]
    price = closes[-1]
    closes[-bad:] = [close * factor for close in closes[-bad:]]
    mask = find_contradicted_bars(coins(closes), {"AAAUSD": price}, 0.2)
    assert np.flatnonzero(mask[0]).tolist() == list(range(60 - bad, 60))


def test_price_matching_no_bar_rejects_only_the_last() -> None:
    bars = coins(walk(3))
    assert np.flatnonzero(find_contradicted_bars(bars, {"AAAUSD": 1.0}, 0.2)[0]).tolist() == [59]
    assert not find_contradicted_bars(bars, {"AAAUSD": bars.values[0, -1, CLOSE]}, 0.2).any()
    assert not find_contradicted_bars(bars, {"XYZUSD": 1.0}, 0.2).any()


@given(seed=st.integers(0, 99), factor=st.sampled_from(FACTORS), stays=st.booleans())
def test_rejected_bar_returns_once_later_bars_confirm_it(
    seed: int, factor: float, stays: bool
) -> None:
    closes = walk(seed)
    closes[40 : 60 if stays else 41] = [
        close * factor for close in closes[40 : 60 if stays else 41]
    ]
    panel = coins(closes)
    read = drop_unconfirmed_bars(panel)
    assert np.flatnonzero(~read.mask[0]).tolist() == [40]
    later = restore_confirmed_bars(read)
    assert np.flatnonzero(~later.mask[0]).tolist() == ([] if stays else [40])
    assert later.has_bar.all()


def test_known_split_is_not_rejected_as_price_jump(tmp_path: Path) -> None:
    frame = table("AAA", DAYS[0])
    prices = ["open", "high", "low", "close"]
    frame.loc[frame.index[:7], prices] = frame.loc[frame.index[:7], prices] * 4
    path = str(write(tmp_path / "AAA.csv", frame))
    actions = tmp_path / "actions.csv"
    day = frame["start"].iloc[7].strftime("%Y-%m-%d")
    actions.write_text(f"symbol,date,kind,value\nAAA,{day},split,4\n")
    raw = DataSettings(dir=(path,), adjustment="raw", actions=str(actions))
    assert raw.load_panel([], None, None).mask.all()
    unknown = DataSettings(dir=(path,), accept_jumps=True).load_panel([], None, None)
    assert np.flatnonzero(~unknown.mask[0]).tolist() == [7]
