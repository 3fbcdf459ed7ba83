"""A split that prices are not adjusted for is named; news and wild coins are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import DataError
from tests.trainingdata.test_own_files import DAYS, csv_of, table
from trainingdata.actions import Action
from trainingdata.bars import Bars, panel
from trainingdata.instruments import instrument
from trainingdata.sessions import session_open
from trainingdata.source import DataSettings
from trainingdata.splits import RATIOS, split_like


def split_at(frame: pd.DataFrame, row: int, ratio: float) -> pd.DataFrame:
    """The same prices, as they are on either side of a split before a row."""
    out = frame.copy()
    prices = ["open", "high", "low", "close"]
    out.loc[out.index[:row], prices] = out.loc[out.index[:row], prices] * ratio
    return out


def stock(closes: list[float], opens: list[float]) -> Bars:
    start = np.datetime64(session_open(np.datetime64("2024-03-04")), "ns")
    times = start + np.arange(1, len(closes) + 1) * np.timedelta64(1, "h")
    top, low = np.maximum(opens, closes), np.minimum(opens, closes)
    values = np.stack([opens, top, low, closes, np.ones(len(closes))], axis=1)
    return panel([(instrument("ACME"), times, values)], "test")


@given(ratio=st.sampled_from(RATIOS), drift=st.floats(-0.04, 0.04))
def test_every_usual_ratio_is_recognised_beside_a_days_move(ratio: object, drift: float) -> None:
    after = 100 / float(ratio) * np.exp(drift)  # type: ignore[arg-type]
    (found,) = split_like(stock([100, 100, after], [100, 100, after]))
    assert found.ratio == ratio or abs(np.log(float(found.ratio) / float(ratio))) < 0.1  # type: ignore[arg-type]
    assert found.symbol == "ACME"


@given(change=st.floats(0.61, 1.39))
def test_what_moves_less_is_no_split(change: float) -> None:
    assert split_like(stock([100, 100 * change], [100, 100 * change])) == ()


def test_a_crash_that_is_traded_through_is_none() -> None:
    assert split_like(stock([100, 50], [100, 99])) == ()
    assert len(split_like(stock([100, 50], [100, 50]))) == 1


def test_a_split_that_is_known_is_not_named() -> None:
    bars = stock([100, 50], [100, 50])
    known = Action("ACME", bars.times[0], ratio=2.0)
    other = Action("ACME", bars.times[0], dividend=2.0)
    assert split_like(bars, [known]) == () != split_like(bars, [other])


def test_bars_with_a_split_are_noted_or_by_setting_refused(tmp_path: Path) -> None:
    frame = split_at(table("AAA", DAYS[0]), 7, 10.0)
    path = str(csv_of(tmp_path / "AAA.csv", frame))
    (origin,) = DataSettings(dir=(path,)).bars([], None, None).origins
    (note,) = origin.notes
    assert "looks like a split of 10:1" in note
    assert "data.actions" in note
    with pytest.raises(
        DataError, match=r"AAA: 2024-03-\d\d looks like a split of 10:1 .*note goes"
    ):
        DataSettings(dir=(path,), splits="refuse").bars([], None, None)
    plain = str(csv_of(tmp_path / "BBB.csv", table("BBB", DAYS[0])))
    (calm,) = DataSettings(dir=(plain,), splits="refuse").bars([], None, None).origins
    assert not calm.notes
