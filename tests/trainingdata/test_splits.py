"""A split that prices are not adjusted for is named, and wrong rows, each bar once; news is not."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import DataError
from tests.support.messages import refused
from tests.trainingdata.vendor_files import DAYS, table, write
from trainingdata.bars import Bars, DataWarning, build_panel
from trainingdata.confirmation import (
    CONFIRMATION_WINDOW_BARS,
    MAX_PRICE_RATIO_AFTER_MOVE,
    build_unconfirmed_bar_warnings,
    find_unconfirmed_bars,
)
from trainingdata.corporate_actions import CorporateAction
from trainingdata.instruments import instrument
from trainingdata.sessions import exchange_calendar, first_open_on_or_after
from trainingdata.source import Adjustment, DataSettings
from trainingdata.splits import RARE_SPLIT_RATIOS, SPLIT_RATIOS, find_unexplained_jumps

SESSIONS = 120


def split_at(frame: pd.DataFrame, row: int, ratio: float) -> pd.DataFrame:
    """The same prices, as they are on either side of a split before a row."""
    out = frame.copy()
    prices = ["open", "high", "low", "close"]
    out.loc[out.index[:row], prices] = out.loc[out.index[:row], prices] * ratio
    return out


def stock(closes: list[float], opens: list[float]) -> Bars:
    start = np.datetime64(first_open_on_or_after(np.datetime64("2024-03-04")), "ns")
    times = start + np.arange(1, len(closes) + 1) * np.timedelta64(1, "h")
    top, low = np.maximum(opens, closes), np.minimum(opens, closes)
    values = np.stack([opens, top, low, closes, np.ones(len(closes))], axis=1)
    return build_panel([(instrument("ACME"), times, values)], "test")


def ratio_of(doubt: DataWarning) -> Fraction:
    """The ratio of the split that a jump looks like."""
    assert doubt.kind == "split"
    found = re.search(r" unadjusted (\d+):(\d+) split ", doubt.observation)
    assert found is not None, doubt.observation
    return Fraction(int(found[1]), int(found[2]))


@given(ratio=st.sampled_from(SPLIT_RATIOS), drift=st.floats(-0.04, 0.04))
def test_every_common_split_ratio_is_recognised(ratio: Fraction, drift: float) -> None:
    after = 100 / float(ratio) * np.exp(drift)
    (found,) = find_unexplained_jumps(stock([100, 100, after], [100, 100, after]))
    assert abs(np.log(float(ratio_of(found) / ratio))) < 0.1
    assert found.symbol == "ACME"


@given(change=st.floats(0.61, 1.39))
def test_small_or_intraday_price_move_is_no_split(change: float) -> None:
    assert find_unexplained_jumps(stock([100, 100 * change], [100, 100 * change])) == ()
    assert find_unexplained_jumps(stock([100, 50 * change], [100, 99])) == ()


SPLITS = st.sampled_from([*SPLIT_RATIOS, Fraction(3, 2), Fraction(5, 4), Fraction(4, 5)])
NEWS = st.floats(-0.04, 0.04)


@given(ratio=SPLITS, news=NEWS)
def test_listed_split_is_accepted_only_if_prices_agree(ratio: Fraction, news: float) -> None:
    """No jump, a jump in the other direction or one of another ratio contradicts it."""
    moved = 100 * np.exp(news)
    fell = float(moved / ratio)
    bars = stock([100, 100, fell], [100, 100, fell])
    listed = CorporateAction("ACME", bars.times[1], split_ratio=float(ratio))
    assert find_unexplained_jumps(bars, [listed], raw=True) == ()
    for after in (moved, moved * float(ratio), fell * 1.3, fell / 1.3):
        denied = stock([100, 100, after], [100, 100, after])
        (found,) = find_unexplained_jumps(denied, [listed], raw=True)
        assert found.kind == "action"
        assert f"split of {float(ratio):g}:1 of data.actions" in found.observation
        earned = after * float(ratio) / 100 - 1
        assert f"books a false {earned:+.0%}" in found.effect


@given(ratio=SPLITS, news=NEWS)
def test_listed_split_visible_in_adjusted_prices_is_reported(ratio: Fraction, news: float) -> None:
    moved = 100 * np.exp(news)
    fell = float(moved / ratio)
    bars = stock([100, 100, moved], [100, 100, moved])
    listed = CorporateAction("ACME", bars.times[1], split_ratio=float(ratio))
    assert find_unexplained_jumps(bars, [listed]) == ()
    (found,) = find_unexplained_jumps(stock([100, 100, fell], [100, 100, fell]), [listed])
    assert (found.symbol, found.bar_start, found.kind) == ("ACME", bars.times[1], "split")
    assert f"({fell:,.2f} after 100.00)" in found.observation


@given(share=st.floats(0.0, 5.0), news=NEWS, raw=st.booleans())
def test_large_dividend_is_accepted_if_prices_fall(share: float, news: float, raw: bool) -> None:
    bars = stock([100, 100, 100 * np.exp(news)], [100, 100, 100])
    listed = CorporateAction("ACME", bars.times[1], dividend=100 * share)
    found = find_unexplained_jumps(bars, [listed], raw=raw)
    expected = ["action"] * (share > 0.14)
    assert [one.kind for one in found] == expected or 0.09 < share <= 0.14
    if share < 0.35:
        after = 100 * (1 - share) * np.exp(news)
        shown = stock([100, 100, after], [100, 100, after])
        assert find_unexplained_jumps(shown, [listed], raw=raw) == ()


def test_dividends_and_split_of_a_session_combine() -> None:
    bars = stock([100, 35], [100, 35])
    opens = bars.times[0]
    special, split = (
        CorporateAction("ACME", opens, dividend=30.0),
        CorporateAction("ACME", opens, split_ratio=2.0),
    )
    assert find_unexplained_jumps(bars, [special, split], raw=True) == ()
    (found,) = find_unexplained_jumps(stock([100, 100], [100, 100]), [special, split], raw=True)
    assert "the dividend of 30.00 and split of 2:1" in found.observation


@given(
    ratio=st.sampled_from(SPLIT_RATIOS),
    rows=st.integers(1, CONFIRMATION_WINDOW_BARS),
    open_is_right=st.booleans(),
    drift=st.floats(-0.04, 0.04),
)
def test_jump_that_reverts_is_bad_data_not_split(
    ratio: Fraction, rows: int, open_is_right: bool, drift: float
) -> None:
    wrong = 100 / float(ratio)
    after = 100 * np.exp(drift)
    closes = [100, 100, *[wrong] * rows, after, after]
    opens = [100, 100, 100 if open_is_right else wrong, *[wrong] * (rows - 1), after, after]
    bars = stock(closes, opens)
    assert find_unexplained_jumps(bars) == ()
    starts = bars.times - np.timedelta64(1, "h")
    mask = find_unconfirmed_bars(bars)[0]
    doubts = build_unconfirmed_bar_warnings(instrument("ACME"), starts, bars.values[0], mask)
    assert [(doubt.bar_start, doubt.kind) for doubt in doubts] == [
        (at, "left_out") for at in starts[mask]
    ]
    away = after / wrong
    far = max(away, 1 / away) > MAX_PRICE_RATIO_AFTER_MOVE
    assert np.flatnonzero(mask).tolist() == ([2, 2 + rows] if far and rows > 1 else [2])


def test_split_is_detected_despite_a_bad_row() -> None:
    closes = [100.0, 100, 50, 100, 50, 50, 50, 50]
    (split,) = find_unexplained_jumps(stock(closes, closes))
    assert ratio_of(split) == 2


def test_lasting_jump_and_its_reversal_are_two_splits() -> None:
    closes = [100.0, 100, *[50.0] * (CONFIRMATION_WINDOW_BARS + 1), 100, 100]
    assert [one.kind for one in find_unexplained_jumps(stock(closes, closes))] == ["split"] * 2


@pytest.mark.parametrize("ratio", [10.0, 2.0])
def test_split_like_jump_is_rejected_or_flagged(tmp_path: Path, ratio: float) -> None:
    frame = split_at(table("AAA", DAYS[0]), 7, ratio)
    path = str(write(tmp_path / "AAA.csv", frame))
    settings = DataSettings(dir=(path,))
    with refused(DataError, "AAA", "data.accept_jumps=true"):
        settings.load_panel([], None, None)
    read = replace(settings, accept_jumps=True).load_panel([], None, None)
    (jump,) = read.data_warnings
    assert np.flatnonzero(~read.mask[0]).tolist() == [7]
    assert jump.effect.startswith("the bar is not used")
    assert jump.kind == "split"
    assert "books a false" in jump.effect
    # Batch and evaluate have no such settings: the bars come first.
    assert "in a backtest set data.adjustment=raw" in jump.remedy


@given(
    factor=st.one_of(st.floats(9.0, 1e6), st.floats(1e-6, 1 / 9.0)), night=st.floats(-0.02, 0.02)
)
def test_large_persistent_price_jump_is_refused(
    tmp_path_factory: pytest.TempPathFactory, factor: float, night: float
) -> None:
    frame = sessions(4, {60: factor * np.exp(night)})
    folder = tmp_path_factory.mktemp("bars")
    with pytest.raises(DataError, match=r"^AAA, 2023-03-\d\dT\S+Z: .* data\.accept_jumps=true"):
        read(folder, frame)
    data = DataSettings(dir=(str(folder / "AAA.csv"),), accept_jumps=True)
    assert data.load_panel([], None, None).data_warnings[0].kind == "split"


def test_jump_beyond_all_split_ratios_is_data_error(tmp_path: Path) -> None:
    with refused(DataError, "AAA", "1,000"):
        read(tmp_path, sessions(4, {60: 5000.0}))


def sessions(seed: int, moves: dict[int, float], deviation: float = 0.004) -> pd.DataFrame:
    """Daily bars of 120 sessions whose opens move by some factors, and prices stay there."""
    rng = np.random.default_rng(seed)
    days = exchange_calendar().dates
    first = int(np.searchsorted(days, np.datetime64("2023-01-03")))
    overnight = np.exp(rng.normal(0, deviation, SESSIONS))
    for row, factor in moves.items():
        overnight[row] = factor
    within = np.exp(rng.normal(0, deviation, SESSIONS))
    closes = 100 * np.cumprod(overnight * within)
    opens = closes / within
    return pd.DataFrame(
        {
            "Date": days[first : first + SESSIONS].astype(str),
            "Open": opens,
            "High": np.maximum(opens, closes),
            "Low": np.minimum(opens, closes),
            "Close": closes,
            "Volume": 1000,
        }
    )


def read(folder: Path, frame: pd.DataFrame, **settings: str) -> Bars:
    frame.to_csv(folder / "AAA.csv", index=False)
    data = DataSettings(dir=(str(folder / "AAA.csv"),), zone="America/New_York", **settings)
    return data.load_panel([], None, None)


@given(seed=st.integers(0, 50), ratio=st.sampled_from(RARE_SPLIT_RATIOS), row=st.integers(25, 95))
def test_open_at_a_rare_split_ratio_gives_warning(
    tmp_path_factory: pytest.TempPathFactory, seed: int, ratio: Fraction, row: int
) -> None:
    frame = sessions(seed, {row: 1 / float(ratio)})
    (doubt,) = read(tmp_path_factory.mktemp("bars"), frame).data_warnings
    assert doubt.kind == "ratio"
    assert doubt.bar_start.astype("datetime64[D]") == np.datetime64(frame["Date"][row])
    assert f"like a {ratio.numerator}:{ratio.denominator} split" in doubt.observation
    assert f"books a false {1 / float(ratio) - 1:+.0%}" in doubt.effect
    assert "a real move" in doubt.remedy


@pytest.mark.parametrize("factor", [0.62, 0.78, 7 / 8, 5 / 7, 1.16])
def test_unusually_large_overnight_move_gives_a_warning(tmp_path: Path, factor: float) -> None:
    (doubt,) = read(tmp_path, sessions(1, {60: factor})).data_warnings
    assert doubt.kind == "move"
    assert "spin-off" in doubt.remedy


@pytest.mark.parametrize("night", [-0.02, -0.01, 0.01, 0.02])
@pytest.mark.parametrize("ratio", [Fraction(3, 2), Fraction(4, 3), Fraction(3, 5)])
def test_overnight_move_near_split_ratio_names_that_ratio(
    tmp_path: Path, ratio: Fraction, night: float
) -> None:
    frame = sessions(1, {60: np.exp(night) / float(ratio)})
    (doubt,) = read(tmp_path, frame).data_warnings
    assert doubt.kind == "move"
    assert f"near a {ratio.numerator}:{ratio.denominator} split" in doubt.observation


@pytest.mark.parametrize("factor", [2 / 3, 0.9, 1.1, 10 / 11])
def test_overnight_move_of_volatile_stock_gives_no_warning(tmp_path: Path, factor: float) -> None:
    frame = sessions(1, {60: factor}, deviation=0.06)
    assert not [one for one in read(tmp_path, frame).data_warnings if one.kind in ("ratio", "move")]


@pytest.mark.parametrize("row", [40, 90])
def test_price_spike_is_no_rare_split(tmp_path: Path, row: int) -> None:
    frame = sessions(2, {})
    prices = ["Open", "High", "Low", "Close"]
    frame.loc[row, prices] = frame.loc[row, prices] / 1.6
    assert [one.kind for one in read(tmp_path, frame).data_warnings] == ["left_out"]


def test_listed_rare_split_gives_no_warning(tmp_path: Path) -> None:
    frame = sessions(3, {60: 2 / 3})
    actions = tmp_path / "actions.csv"
    actions.write_text(f"symbol,date,kind,value\nAAA,{frame['Date'][60]},split,1.5\n")
    listed = {"adjustment": "raw", "actions": str(actions)}
    assert read(tmp_path, frame, **listed).data_warnings == ()
    assert [one.kind for one in read(tmp_path, frame, adjustment="raw").data_warnings] == ["ratio"]


@pytest.mark.parametrize("ratio", [10.0, 2.0, 0.25])
@pytest.mark.parametrize("adjustment", ["split", "raw"])
def test_volume_step_at_listed_split_is_a_doubt(
    tmp_path: Path, adjustment: Adjustment, ratio: float
) -> None:
    """Prices and volume in the same units give no doubt; in two units, one doubt at the split."""
    frame = sessions(3, {60: 1 / ratio} if adjustment == "raw" else {})
    noise = np.exp(np.random.default_rng(5).normal(0, 0.3, SESSIONS))
    raw_volume = np.where(np.arange(SESSIONS) < 60, 1e6, 1e6 * ratio) * noise
    actions = tmp_path / "actions.csv"
    actions.write_text(f"symbol,date,kind,value\nAAA,{frame['Date'][60]},split,{ratio}\n")
    for volume, is_raw in ((raw_volume, True), (1e6 * noise, False)):
        bars = read(
            tmp_path, frame.assign(Volume=volume), adjustment=adjustment, actions=str(actions)
        )
        doubts = [each for each in bars.data_warnings if "volume" in each.observation]
        assert len(doubts) == (is_raw != (adjustment == "raw"))
        for doubt in doubts:
            assert str(doubt.bar_start)[:10] == frame["Date"][60]
            assert "universe.top" in doubt.effect


def test_split_and_dividend_together_explain_one_open(tmp_path: Path) -> None:
    """The dividend is per old share, and the open is in new shares."""
    frame = sessions(3, {60: 0.8 / 1.5})
    paid = 0.2 * frame["Close"][59]
    actions = tmp_path / "actions.csv"
    day = frame["Date"][60]
    actions.write_text(
        f"symbol,date,kind,value,per\nAAA,{day},split,1.5,\nAAA,{day},dividend,{paid},old\n"
    )
    assert read(tmp_path, frame, adjustment="raw", actions=str(actions)).data_warnings == ()


def test_listed_special_dividend_explains_a_lower_open(tmp_path: Path) -> None:
    frame = sessions(3, {60: 0.8})
    paid = 0.2 * frame["Close"][59]
    actions = tmp_path / "actions.csv"
    actions.write_text(f"symbol,date,kind,value\nAAA,{frame['Date'][60]},dividend,{paid}\n")
    assert read(tmp_path, frame, actions=str(actions)).data_warnings == ()
    assert [one.kind for one in read(tmp_path, frame).data_warnings] == ["ratio"]


@pytest.mark.parametrize("factor", [0.1, 0.5, 0.8, 3.0])
def test_crypto_jump_is_never_a_split(tmp_path: Path, factor: float) -> None:
    hours = pd.date_range("2024-03-04", periods=1200, freq="h", tz="UTC")
    walk = np.exp(np.random.default_rng(0).normal(0, 0.002, 1200).cumsum())
    price = walk * np.where(np.arange(1200) < 600, 100.0, 100.0 * factor)
    frame = pd.DataFrame({"timestamp": hours, **dict.fromkeys(("open", "high", "low"), price)})
    frame.assign(close=price, volume=1.0).to_csv(tmp_path / "ABCUSD.csv", index=False)
    doubts = DataSettings(dir=(str(tmp_path),)).load_panel([], None, None).data_warnings
    assert [one.kind for one in doubts] == ["left_out"] * (factor != 0.8)
    assert "split" not in " ".join(map(str, doubts))
    actions = tmp_path / "actions.csv"
    actions.write_text("symbol,date,kind,value\nABCUSD,2024-03-29,split,2\n")
    with refused(DataError, "ABCUSD"):
        DataSettings(dir=(str(tmp_path / "ABCUSD.csv"),), actions=str(actions)).load_panel(
            [], None, None
        )
