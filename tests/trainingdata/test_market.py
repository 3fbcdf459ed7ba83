"""The market of a run: what is known when it begins, and what each of its instants sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from foundation.errors import DataError
from tests.support.messages import refused
from trainingdata.bars import CLOSE, Bars
from trainingdata.corporate_actions import CorporateAction
from trainingdata.market import Market
from trainingdata.sessions import first_open_on_or_after

SPLIT = np.datetime64("2024-02-21")


def raw(market: Bars, ratio: float) -> tuple[Bars, CorporateAction]:
    """The bars before a split of SYA, which the adjusted ones hold, and the split."""
    opens = first_open_on_or_after(SPLIT)
    assert opens is not None
    values = market.values.copy()
    before = market.times <= opens
    values[market.symbols.index("SYA"), before, : CLOSE + 1] *= ratio
    return replace(market, values=values), CorporateAction("SYA", opens, split_ratio=ratio)


def test_market_history_ends_where_the_run_begins(market: Bars) -> None:
    run = Market(market, 40)
    assert run.initial_history.last_instant == run.run_bars.times[0] == market.times[40]
    assert len(run.initial_history.times) + len(run.run_bars.times) == len(market.times) + 1
    later = run.with_bars(market.slice_rows(30, 90))
    assert (later.start_row, later.initial_history.last_instant) == (
        10,
        run.initial_history.last_instant,
    )
    for first in (-1, len(market.times)):
        with pytest.raises(ValueError, match="start_row must be"):
            Market(market, first)


def test_decision_uses_only_splits_known_at_its_time(market: Bars) -> None:
    bars, split = raw(market, 4.0)
    run = Market(bars, 40, (split, CorporateAction("ZZZ", split.effective_open, split_ratio=2.0)))
    (begin, middle, early), (end, last, late) = run.visible_bars_by_segment()
    row = int(np.searchsorted(bars.times, split.effective_open))
    assert (begin, middle, end, last) == (40, row, row, len(bars.times))
    np.testing.assert_array_equal(early.values, bars.slice_rows(0, row).values)
    s = bars.symbols.index("SYA")
    np.testing.assert_allclose(late.values[s, :, CLOSE], market.values[s, :, CLOSE])
    np.testing.assert_array_equal(run.visible_bars().values, late.values)


def test_run_without_splits_shows_unchanged_bars(market: Bars) -> None:
    dividend = CorporateAction("SYA", np.datetime64("2024-02-21T14:30", "ns"), dividend=1.0)
    ((begin, end, view),) = Market(market, 40, (dividend,)).visible_bars_by_segment()
    assert (begin, end) == (40, len(market.times))
    assert np.shares_memory(view.values, market.values)


def test_split_contradicted_by_prices_is_refused_unless_accepted(market: Bars) -> None:
    _, split = raw(market, 4.0)
    run = Market(market, 40, (split,))
    with refused(DataError, "4:1"):
        run.visible_bars()
    assert replace(run, accepts_jumps=True).visible_bars().symbols == market.symbols
